//! Payments that wait for a look at their chain, first come, first looked at; but what is open and dead holds a
//! budget that a look may give back, and goes before what is only to be confirmed.

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
    /// Was the ledger read a first time?
    surveyed: bool,
    /// The record up to which the ledger was read.
    after: u64,
    queue: VecDeque<(Timestamp, PaymentId)>,
    known: HashSet<PaymentId>,
    /// Those that hold a budget.
    first: HashSet<PaymentId>,
    /// Of what was recorded lately, the oldest first.
    told: VecDeque<PaymentId>,
    told_known: HashSet<PaymentId>,
}

impl Waiting {
    /// Where to go on reading; `None` while there is no room for more.
    pub(super) fn place(&self) -> Option<u64> {
        (self.queue.len() < MOST).then_some(self.after)
    }

    /// Is there room for a first reading that was not made yet?
    pub(super) fn is_blank(&self) -> bool {
        !self.surveyed && self.place().is_some()
    }

    /// The first reading came so far.
    pub(super) fn surveyed(&mut self, seq: u64) {
        self.surveyed = true;
        self.read(seq);
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

    /// As `put`, at once, and before others.
    pub(super) fn want(&mut self, id: PaymentId) {
        self.put(id, Timestamp(0));
        self.first.insert(id);
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

    /// Whose time has come, at most so many. They wait no longer. A quarter of the places is for whoever is not
    /// first, so that a chain that is silent about some does not keep the others waiting.
    pub(super) fn due(&mut self, now: Timestamp, most: usize) -> Vec<PaymentId> {
        let mut due = vec![];
        let first = most.saturating_sub(most / 4);
        self.take(now, first, true, &mut due);
        self.take(now, most, false, &mut due);
        self.take(now, most, true, &mut due);
        due
    }

    /// Moves those that are first, or those that are not, until there are so many.
    fn take(&mut self, now: Timestamp, most: usize, first: bool, due: &mut Vec<PaymentId>) {
        let (known, firsts) = (&mut self.known, &mut self.first);
        self.queue.retain(|(at, id)| {
            let stays = due.len() >= most || *at > now || firsts.contains(id) != first;
            if !stays {
                known.remove(id);
                firsts.remove(id);
                due.push(*id);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_a_budget_is_looked_at_before_what_is_only_to_be_confirmed() {
        let mut waiting = Waiting::default();
        let now = Timestamp::from_secs(1000);
        for n in 0..100 {
            waiting.put(PaymentId(n), Timestamp(0));
        }
        for n in 200..220 {
            waiting.want(PaymentId(n));
        }
        // It waited already, as one of the others.
        waiting.want(PaymentId(99));
        let due = waiting.due(now, 16);
        let first = |id: &&PaymentId| id.0 >= 200 || id.0 == 99;
        assert_eq!(due.iter().filter(first).count(), 12, "{due:?}");
        assert_eq!(due.last(), Some(&PaymentId(3)), "some of the others too");
        let due = waiting.due(now, 32);
        assert_eq!(due.iter().filter(first).count(), 9, "{due:?}");
        let due = waiting.due(now, 500);
        assert_eq!(due.len(), 100 + 20 - 16 - 32, "each once");
        waiting.later(PaymentId(200), now);
        waiting.want(PaymentId(200));
        assert_eq!(waiting.due(now, 500), [], "not asked again at once");
        assert_eq!(waiting.due(now.after_secs(PAUSE), 500).len(), 1);
    }
}
