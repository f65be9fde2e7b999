//! What agents of another container are given: the authority's certificate, alone and with the
//! platform's roots. Never a key.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::tls;

/// Writes `ca.pem` and `bundle.pem`, readable for everyone, each whole or not at all.
pub(super) fn write(dir: &Path, ca: &str) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    put(dir, "ca.pem", ca)?;
    put(dir, "bundle.pem", &tls::bundle(ca))
}

fn put(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o644);
    let mut file = options.open(&new)?;
    // Whatever the umask: the agent runs as another user.
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    fs::rename(&new, dir.join(name))
}
