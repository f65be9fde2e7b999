//! What agents of another container are given: the authority's certificate, alone and with the
//! platform's roots, for programs and for Java; and what makes an old Node use the proxy. Never a key.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::tls;

/// For Node versions that ignore the proxy variables.
pub const NODE_PRELOAD: &str = include_str!("node-preload.cjs");

/// Writes `ca.pem`, `bundle.pem`, `truststore.p12` and `node-preload.cjs`, readable for everyone, each
/// whole or not at all.
pub(super) fn write(dir: &Path, ca: &str) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let own = tls::describe(ca).ok_or_else(|| io::Error::other("the CA is no certificate"))?;
    let mut roots = tls::platform_roots();
    put(dir, "ca.pem", ca.as_bytes())?;
    put(dir, "bundle.pem", tls::bundle(&roots, ca).as_bytes())?;
    roots.push(own.der);
    put(dir, "truststore.p12", &tls::java_truststore(&roots))?;
    put(dir, "node-preload.cjs", NODE_PRELOAD.as_bytes())
}

fn put(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o644);
    // Left by a start that did not end, or a link that an agent made: nothing of ours is written through it.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = options.open(&new)?;
    // Whatever the umask: the agent runs as another user.
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(bytes)?;
    fs::rename(&new, dir.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agent with a writable mount of the folder puts it there.
    #[test]
    fn nothing_is_written_through_a_link_of_an_agents() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        fs::write(&ledger, "money").unwrap();
        let out = dir.path().join("out");
        fs::create_dir(&out).unwrap();
        for name in ["ca.pem", "ca.pem.new"] {
            std::os::unix::fs::symlink(&ledger, out.join(name)).unwrap();
        }
        put(&out, "ca.pem", b"public").unwrap();
        assert_eq!(fs::read(&ledger).unwrap(), b"money");
        assert_eq!(fs::read(out.join("ca.pem")).unwrap(), b"public");
        let mode = fs::symlink_metadata(out.join("ca.pem"));
        assert_eq!(mode.unwrap().permissions().mode() & 0o7777, 0o644);
        assert!(!out.join("ca.pem.new").exists());
        // Left by a start that did not end.
        fs::write(out.join("ca.pem.new"), "half").unwrap();
        put(&out, "ca.pem", b"newer").unwrap();
        assert_eq!(fs::read(out.join("ca.pem")).unwrap(), b"newer");
    }
}
