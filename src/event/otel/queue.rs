//! The near end of a queue to a collector, and what is counted of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc::Sender;

use super::proto::Signal;

#[derive(Default)]
pub(super) struct Tally {
    pub(super) exported: AtomicU64,
    pub(super) queue: AtomicU64,
    pub(super) export: AtomicU64,
}

/// How many went which way.
pub(super) struct Counted {
    pub(super) exported: u64,
    /// The queue was full.
    pub(super) queue: u64,
    /// The collector did not take them.
    pub(super) export: u64,
}

/// The near end of a queue.
pub(super) struct Lane<T> {
    pub(super) queue: Sender<T>,
    pub(super) tally: Arc<Tally>,
}

impl<T: Signal> Lane<T> {
    /// Never waits.
    pub(super) fn put(&self, item: T) {
        if self.queue.try_send(item).is_err() {
            self.tally.queue.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn counted(&self) -> (&'static str, Counted) {
        let now = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let counted = Counted {
            exported: now(&self.tally.exported),
            queue: now(&self.tally.queue),
            export: now(&self.tally.export),
        };
        (T::NAME, counted)
    }
}
