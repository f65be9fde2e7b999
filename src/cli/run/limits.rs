//! What a process may use, as it was before this one became a proxy: a program finds it as it would without.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limits that a proxy changes for itself: open files and core dumps.
pub(super) struct Limits([(Resource, Rlimit); 2]);

impl Limits {
    /// Those of now.
    pub(super) fn now() -> Self {
        Self([Resource::Nofile, Resource::Core].map(|of| (of, getrlimit(of))))
    }

    /// Starts a program under them. A program inherits what its parent has at that moment, so they are ours so
    /// long too: few files are open yet, and this process stays one that leaves no core.
    pub(super) fn lend<T>(&self, start: impl FnOnce() -> T) -> T {
        let own = Self::now();
        self.set();
        let started = start();
        own.set();
        started
    }

    fn set(&self) {
        for (of, limit) in self.0 {
            if let Err(error) = setrlimit(of, limit) {
                tracing::warn!(%error, limit = ?of, "a limit of this process stays as it was");
            }
        }
    }
}
