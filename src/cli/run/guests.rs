//! Who uses the proxy of another `run`. Each holds a lock together with the others, which the system gives up
//! with the process, however that ends; the owner sees whether anybody holds it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

/// In the state directory.
const NAME: &str = "guests.lock";

/// How often it is looked whether somebody is there.
const LOOK: Duration = Duration::from_millis(200);

/// Uses the proxy of another, as long as this value is there.
pub(super) struct Guest {
    file: File,
}

impl Guest {
    /// # Errors
    /// When there is no such file and it cannot be made, or nothing can be locked there.
    pub(super) fn enter(state_dir: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).open(state_dir.join(NAME))?;
        // Whoever looks holds it for a moment.
        flock(&file, FlockOperation::LockShared)?;
        Ok(Self { file })
    }
}

impl Drop for Guest {
    /// Closing alone is not enough: a child that is being started holds the same file for a moment.
    fn drop(&mut self) {
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// Is anybody there? Nobody, where it cannot be told.
pub(super) fn present(state_dir: &Path) -> bool {
    let Ok(file) = File::open(state_dir.join(NAME)) else {
        return false;
    };
    let free = flock(&file, FlockOperation::NonBlockingLockExclusive);
    if free.is_ok() {
        let _ = flock(&file, FlockOperation::Unlock);
    }
    free == Err(rustix::io::Errno::WOULDBLOCK)
}

/// Ends when nobody is there.
pub(super) async fn gone(state_dir: &Path) {
    while present(state_dir) {
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_is_there_until_the_last_one_has_left() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!present(dir.path()));
        let one = Guest::enter(dir.path()).unwrap();
        let two = Guest::enter(dir.path()).unwrap();
        assert!(present(dir.path()) && present(dir.path()));
        drop(one);
        assert!(present(dir.path()));
        drop(two);
        assert!(!present(dir.path()));
        assert!(!present(&dir.path().join("nowhere")));
    }
}
