//! The successor of an authority, and those that it replaced. Whatever interrupts the change, no key is
//! lost, and the next start or the next try finds its way.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::authority::{TlsError, create, is_pair};
use super::describe::is_farepass;

/// The authority's two files, and their successors until they take over: the key first.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    new: PathBuf,
    new_key: PathBuf,
}

impl Files {
    fn of(dir: &Path) -> Self {
        Self {
            certificate: dir.join("ca.pem"),
            key: dir.join("ca-key.pem"),
            new: dir.join("ca.pem.new"),
            new_key: dir.join("ca-key.pem.new"),
        }
    }

    /// Has the new key taken over already, and its certificate has not?
    fn half_done(&self) -> Result<bool, TlsError> {
        Ok(is_pair(&self.new, &self.key)? && !is_pair(&self.certificate, &self.key)?)
    }

    fn take_over(&self) -> Result<(), TlsError> {
        let renamed = fs::rename(&self.new, &self.certificate);
        renamed.map_err(|e| TlsError::file(&self.certificate, e))
    }

    /// Finishes what is half done, and removes what was only begun: nothing was ever signed with it.
    fn settle(&self) -> Result<(), TlsError> {
        if self.half_done()? {
            self.take_over()?;
        }
        for left in [&self.new, &self.new_key] {
            match fs::remove_file(left) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(TlsError::file(left, e)),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

/// One at a time, until it is dropped. A few network file systems lock no folder: nobody is kept out there.
fn alone(dir: &Path) -> Option<File> {
    let folder = File::open(dir).ok()?;
    flock(&folder, FlockOperation::LockExclusive).ok()?;
    Some(folder)
}

/// Certificates of ours that were replaced: `ca-<first digits of the fingerprint>.pem` beside the one in
/// use. The operator's own authorities may lie there too, under such a name; and after an interrupted rotation
/// a second name of the one in use.
///
/// # Errors
/// When the folder cannot be read.
pub fn retired(dir: &Path) -> Result<Vec<(PathBuf, CertificateDer<'static>)>, TlsError> {
    let mut found = vec![];
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(TlsError::file(dir, e)),
    };
    let current = fs::read(dir.join("ca.pem")).unwrap_or_default();
    let current = CertificateDer::from_pem_slice(&current).ok();
    for entry in entries {
        let path = entry.map_err(|e| TlsError::file(dir, e))?.path();
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        if !name.starts_with("ca-") || !name.ends_with(".pem") || name.starts_with("ca-key") {
            continue;
        }
        let pem = fs::read(&path).map_err(|e| TlsError::file(&path, e))?;
        if let Ok(certificate) = CertificateDer::from_pem_slice(&pem)
            && is_farepass(&certificate)
            && current.as_ref() != Some(&certificate)
        {
            found.push((path, certificate));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

/// Puts a new authority in the place of the one in `dir`, which is kept beside it under another name.
/// Returns the two files that were kept. Whatever happens in between, no key is lost.
///
/// # Errors
/// When there is none, or a file cannot be written. Nothing new is left then.
pub fn rotate(dir: &Path) -> Result<[PathBuf; 2], TlsError> {
    let _alone = alone(dir);
    let files = Files::of(dir);
    files.settle()?;
    replace(dir, &files).inspect_err(|_| {
        // What went wrong says more than what it left.
        let _ = files.settle();
    })
}

fn replace(dir: &Path, files: &Files) -> Result<[PathBuf; 2], TlsError> {
    let (certificate, key) = (&files.certificate, &files.key);
    let pem = fs::read(certificate).map_err(|e| TlsError::file(certificate, e))?;
    let der = CertificateDer::from_pem_slice(&pem)
        .map_err(|_| TlsError::unusable(certificate, "not a PEM certificate"))?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    let name = hex::encode(digest.as_ref().get(..4).unwrap_or_default());
    let kept = [
        dir.join(format!("ca-{name}.pem")),
        dir.join(format!("ca-key-{name}.pem")),
    ];
    create(dir, &files.new, &files.new_key)?;
    for (old, kept) in [(certificate, &kept[0]), (key, &kept[1])] {
        match fs::hard_link(old, kept) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                return Err(TlsError::file(kept, e));
            }
            Ok(()) | Err(_) => {}
        }
    }
    fs::rename(&files.new_key, key).map_err(|e| TlsError::file(key, e))?;
    files.take_over()?;
    Ok(kept)
}

/// Finishes a rotation that was interrupted when the new key had taken over and its certificate had not.
///
/// # Errors
/// When the certificate cannot be put in its place.
pub(super) fn finish(dir: &Path) -> Result<(), TlsError> {
    let files = Files::of(dir);
    if !files.new.exists() {
        return Ok(());
    }
    let _alone = alone(dir);
    // A key that cannot be read is told of by whoever opens it.
    match files.half_done() {
        Ok(true) => files.take_over(),
        Ok(false) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
