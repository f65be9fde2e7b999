//! Payments that wait for a look at their chain, first come, first looked at.

use std::collections::{HashSet, VecDeque};

use crate::clock::Timestamp;
use crate::payment::PaymentId;

/// Payments that may wait. Beyond that the ledger is read on later: it has them all.
const MOST: usize = 10_000;

/// Events read from the ledger at once.
pub(super) const PAGE: usize = 1000;

/// Pages read in one round, so that a long ledger does not keep a round from its end.
pub(super) const PAGES: usize = 20;

/// Seconds until the next look. Settling takes some, and so do the blocks on top.
const PAUSE: u64 = 60;

/// Seconds from an event to the first look.
const FIRST: u64 = 20;

#[derive(Default)]
pub(super) struct Waiting {
    /// The record up to which the ledger was read.
    after: u64,
    queue: VecDeque<(Timestamp, PaymentId)>,
    known: HashSet<PaymentId>,
    /// Of what was recorded lately, the oldest first.
    told: VecDeque<PaymentId>,
    told_known: HashSet<PaymentId>,
}

impl Waiting {
    /// Where to go on reading; `None` while there is no room for more.
    pub(super) fn place(&self) -> Option<u64> {
        (self.queue.len() < MOST).then_some(self.after)
    }

    pub(super) fn read(&mut self, seq: u64) {
        self.after = self.after.max(seq);
    }

    /// A payment with something to find out, once.
    pub(super) fn put(&mut self, id: PaymentId, since: Timestamp) {
        if self.known.insert(id) {
            self.queue.push_back((since.after_secs(FIRST), id));
        }
    }

    /// Nothing was certain.
    pub(super) fn later(&mut self, id: PaymentId, now: Timestamp) {
        if self.known.insert(id) {
            self.queue.push_back((now.after_secs(PAUSE), id));
        }
    }

    /// Something about it is being recorded.
    pub(super) fn tell(&mut self, id: PaymentId) {
        if self.told_known.insert(id) {
            self.told.push_back(id);
        }
        if self.told.len() > MOST
            && let Some(oldest) = self.told.pop_front()
        {
            self.told_known.remove(&oldest);
        }
    }

    /// Was something about it recorded while its payload may have lived?
    pub(super) fn told(&self, id: PaymentId) -> bool {
        self.told_known.contains(&id)
    }

    /// Whose time has come, at most so many. They wait no longer.
    pub(super) fn due(&mut self, now: Timestamp, most: usize) -> Vec<PaymentId> {
        let mut due = vec![];
        for _ in 0..self.queue.len() {
            let Some((at, id)) = self.queue.pop_front() else {
                break;
            };
            if due.len() < most && at <= now {
                self.known.remove(&id);
                due.push(id);
            } else {
                self.queue.push_back((at, id));
            }
        }
        due
    }
}
