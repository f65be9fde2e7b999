//! Where a running proxy is: `serve.json` in the state directory, for commands beside it.

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::settings::Entrance;

const NAME: &str = "serve.json";

/// What a running proxy says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beacon {
    /// Its process.
    pub pid: u32,
    /// The data plane.
    pub proxy: Entrance,
    /// The admin listener.
    pub admin: SocketAddr,
    /// Since when.
    pub started: Timestamp,
    /// Does it end with a program (`farepass run`), or is it a service?
    #[serde(default)]
    pub passing: bool,
}

/// A beacon that goes out with this value.
#[derive(Debug)]
pub struct Lit {
    path: PathBuf,
}

impl Beacon {
    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn light(&self, state_dir: &Path) -> io::Result<Lit> {
        let path = state_dir.join(NAME);
        let new = state_dir.join(format!("{NAME}.new"));
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        serde_json::to_writer(&mut file, self)?;
        file.write_all(b"\n")?;
        fs::rename(&new, &path)?;
        Ok(Lit { path })
    }

    /// The running proxy of a state directory. A beacon without a process was left by one that was
    /// killed.
    #[must_use]
    pub fn seen(state_dir: &Path) -> Option<Self> {
        let text = fs::read(state_dir.join(NAME)).ok()?;
        let beacon: Self = serde_json::from_slice(&text).ok()?;
        let pid = rustix::process::Pid::from_raw(beacon.pid.try_into().ok()?)?;
        let gone = rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
        (!gone).then_some(beacon)
    }
}

impl Drop for Lit {
    fn drop(&mut self) {
        // A beacon that stays is recognised by its process.
        let _ = fs::remove_file(&self.path);
    }
}
