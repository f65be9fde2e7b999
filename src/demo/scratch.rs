//! A folder of its own for one run, gone when the run ends.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::custody;

/// A new folder that only its owner can enter.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> io::Result<Self> {
        custody::temporary("farepass-demo").map(Self)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed holds a key that was never worth anything.
        let _ = fs::remove_dir_all(&self.0);
    }
}
