//! The private folder of one run: every file that a client may want to be pointed at, gone afterwards.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::trusted;
use crate::app::NODE_PRELOAD;
use crate::custody;
use crate::tls;

/// A folder with mode 0700 that is removed with this value.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

/// Where everything is.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// The authority's certificate, or several while it is being replaced, and what the user trusts besides.
    pub(super) ca: PathBuf,
    /// The platform's roots, and the same.
    pub(super) bundle: PathBuf,
    /// The same, each under OpenSSL's name for it.
    pub(super) certs: PathBuf,
    /// For wget, which reads no variable.
    pub(super) wgetrc: PathBuf,
    /// For PHP, which reads settings from every file in it.
    pub(super) php: PathBuf,
    /// For Node.
    pub(super) preload: PathBuf,
    /// For Java.
    pub(super) truststore: PathBuf,
}

impl Folder {
    /// An empty folder that nobody else can look into.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn new() -> io::Result<Self> {
        let path = custody::temporary("farepass")?;
        Ok(Self { path })
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes every file. `ca` is the authority's certificate, PEM, or several; `wgetrc` settings for wget;
    /// `trusted` what the user trusts besides the platform's roots.
    ///
    /// # Errors
    /// When a file cannot be written, or there is no certificate.
    pub(super) fn fill(&self, ca: &str, wgetrc: &str, trusted: &[Vec<u8>]) -> io::Result<Files> {
        let at = |name: &str| self.path.join(name);
        let files = Files {
            ca: at("ca.pem"),
            bundle: at("bundle.pem"),
            certs: at("certs"),
            wgetrc: at("wgetrc"),
            php: at("php"),
            preload: at("node-preload.cjs"),
            truststore: at("truststore.p12"),
        };
        let mut own = trusted::each(ca);
        if own.is_empty() {
            return Err(io::Error::other("the CA is no certificate"));
        }
        let mut roots = tls::platform_roots();
        let known = |der: &&Vec<u8>| !roots.contains(der) && !own.contains(der);
        let besides: Vec<_> = trusted.iter().filter(known).cloned().collect();
        let ca = tls::bundle(&besides, ca);
        own.extend(besides);
        let bundle = tls::bundle(&roots, &ca);
        roots.extend(own.iter().cloned());
        fs::create_dir(&files.php)?;
        write(&files.ca, ca)?;
        write(&files.bundle, bundle)?;
        hashed(&files.certs, &own)?;
        let bundle = files.bundle.display();
        write(
            &files.wgetrc,
            format!("{wgetrc}\nca_certificate = {bundle}\n"),
        )?;
        let settings = format!("curl.cainfo = \"{bundle}\"\nopenssl.cafile = \"{bundle}\"\n");
        write(&files.php.join("ca.ini"), settings)?;
        write(&files.preload, NODE_PRELOAD)?;
        write(&files.truststore, tls::java_truststore(&roots))?;
        Ok(files)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "left behind");
        }
    }
}

/// A folder in which OpenSSL finds these.
fn hashed(dir: &Path, certificates: &[Vec<u8>]) -> io::Result<()> {
    fs::create_dir(dir)?;
    let mut times: HashMap<String, u32> = HashMap::new();
    for der in certificates {
        let Some(hash) = tls::subject_hash(der) else {
            continue;
        };
        // Several may have one name.
        let number = times.entry(hash.clone()).or_default();
        write(&dir.join(format!("{hash}.{number}")), tls::pem(der))?;
        *number = number.saturating_add(1);
    }
    Ok(())
}

fn write(path: &Path, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes.as_ref())
}
