//! Posts judged together: on the slice of the book that was read under the lock of the ledger, in the
//! order in which they came.

use std::collections::{BTreeMap, BTreeSet};

use super::repeats::Repeats;
use crate::budget::{Because, Book, Change, Counted, Entry, Fact, Mark, Opened, Reject, Stage};
use crate::clock::Timestamp;
use crate::ledger::chain::{Head, Record};
use crate::ledger::columns::verdict;
use crate::ledger::sealed::Sealed;
use crate::ledger::{PostError, Posted};
use crate::payment::{PaymentId, SessionId};

/// A payment decided by a clock so far (milliseconds) ahead of the database's could be in a window that has not begun for
/// anybody else, and one decided so far behind it, or behind what is in the chain, in one that is over for everybody else.
const APART_MAX: u64 = 60_000;

/// See the module.
pub(super) struct Batch {
    pub(super) book: Book,
    /// Newest record of each payment in the book, and of refusals that were asked for.
    pub(super) lasts: BTreeMap<PaymentId, u64>,
    /// What others paid for.
    pub(super) repeats: Repeats,
    pub(super) head: Head,
    /// Of the newest record: no time in the chain steps back.
    pub(super) time: Timestamp,
    /// The database's clock.
    pub(super) wall: Timestamp,
    pub(super) dirty: Dirty,
}

/// What the transaction has to write, each row once however often it changed.
#[derive(Default)]
pub(super) struct Dirty {
    pub(super) records: Vec<(Record, Option<PaymentId>, Option<u64>)>,
    pub(super) sums: BTreeSet<Mark>,
    /// Each with the number of its request, while it may stop another one for it.
    pub(super) payments: BTreeMap<PaymentId, Option<i64>>,
    pub(super) nonces: BTreeSet<i64>,
    pub(super) sessions: BTreeSet<SessionId>,
    pub(super) facts: BTreeSet<String>,
}

impl Dirty {
    fn note(&mut self, change: &Change) {
        self.sums
            .extend(change.counted.iter().map(|(m, _)| m.clone()));
        self.sessions
            .extend(change.session.iter().map(|(s, _)| s.clone()));
        self.facts
            .extend(change.facts.iter().map(|(k, _)| k.clone()));
    }
}

/// What was stored, for everybody who looks it up without asking the database.
#[derive(Clone, Debug, Default)]
pub(super) struct Changed {
    pub(super) seq: u64,
    pub(super) sums: Vec<(String, Counted)>,
    pub(super) sessions: Vec<(SessionId, Opened)>,
    pub(super) facts: Vec<(String, Option<Fact>)>,
}

impl Batch {
    /// Judges a post and notes what has to be written, unless the book refuses it.
    pub(super) fn enter(&mut self, post: &Sealed) -> Result<Posted, PostError> {
        if post.reserves() {
            self.timely(post.time)?;
        }
        let mut undo = Vec::with_capacity(post.entries.len());
        let mut dirty = Dirty::default();
        for (entry, number) in post.entries.iter().zip(&post.numbers) {
            match self.judge(post, entry, number.is_some()) {
                Ok(change) => {
                    dirty.note(&change);
                    let fresh = number.filter(|_| change.nonce.is_some());
                    dirty.nonces.extend(fresh);
                    undo.push(self.book.put(change));
                }
                Err(reject) => {
                    for change in undo.into_iter().rev() {
                        self.book.put(change);
                    }
                    return Err(reject.into());
                }
            }
        }
        self.dirty.sums.append(&mut dirty.sums);
        self.dirty.nonces.append(&mut dirty.nonces);
        self.dirty.sessions.append(&mut dirty.sessions);
        self.dirty.facts.append(&mut dirty.facts);
        self.append(post);
        Ok(Posted::new(self.head.seq, &self.book, &post.entries))
    }

    /// Is it decided in the time of everybody else?
    fn timely(&self, at: Timestamp) -> Result<(), PostError> {
        let ahead = at.0.saturating_sub(self.wall.0);
        let behind = self.wall.max(self.time).0.saturating_sub(at.0);
        let said = match (ahead > APART_MAX, behind > APART_MAX) {
            (true, _) => format!(
                "this machine's clock is {} s ahead of the database's",
                ahead / 1000
            ),
            (_, true) => format!(
                "this machine's clock is {} s behind the database's",
                behind / 1000
            ),
            (false, false) => return Ok(()),
        };
        Err(PostError::Unavailable(said))
    }

    /// A retry is told so, whatever is left of the budgets; but a session that is over, or a freeze, comes first.
    fn judge(&self, post: &Sealed, entry: &Entry, reserves: bool) -> Result<Change, Reject> {
        let judged = verdict(&self.book, entry);
        if self.lives(entry) {
            return judged.and(Err(Reject::TooEarly));
        }
        let yields = match &judged {
            // The same reservation once more changes nothing.
            Ok(change) => change.nonce.is_some(),
            Err(why) => matches!(
                why,
                Reject::NonceUsed | Reject::Overflow | Reject::OverLimit { .. }
            ),
        };
        if !(reserves && yields) {
            return judged;
        }
        // A payload is dead when it is by every clock.
        let now = post.time.min(self.wall);
        self.repeats.stops(post.request, now).map_or(judged, Err)
    }

    /// Would it give back what is not dead yet by the database's clock? Whoever looks has perhaps a clock that is
    /// ahead, and another proxy's payload may be taken until then.
    fn lives(&self, entry: &Entry) -> bool {
        let Entry::Release {
            id,
            because: Because::Expired { .. },
        } = entry
        else {
            return false;
        };
        let payment = self.book.payments.get(id);
        payment.is_some_and(|p| p.stage == Stage::Reserved && self.wall < p.until)
    }

    fn append(&mut self, post: &Sealed) {
        // A clock that runs ahead must not take everybody else's with it.
        self.time = post.time.min(self.wall).max(self.time);
        let (entries, event) = (post.entries_json.clone(), post.event_json.clone());
        self.head = self.head.next(self.time, &entries, event.as_deref());
        let id = post.entries.iter().find_map(Entry::payment);
        let before = id.and_then(|id| self.lasts.insert(id, self.head.seq));
        self.dirty.payments.extend(id.map(|id| (id, post.request)));
        let record = Record {
            seq: self.head.seq,
            time: self.time,
            entries,
            event,
            hash: self.head.hash,
        };
        self.dirty.records.push((record, id, before));
    }

    /// The first record that would be new.
    pub(super) fn first(&self) -> Option<Head> {
        let (record, _, _) = self.dirty.records.first()?;
        Some(Head {
            seq: record.seq,
            hash: record.hash,
        })
    }

    pub(super) fn changed(&self) -> Changed {
        let sums = self.dirty.sums.iter().filter_map(|mark| {
            let counted = self.book.counted.get(mark)?;
            Some((mark.0.clone(), *counted))
        });
        let sessions = self.dirty.sessions.iter().filter_map(|id| {
            let opened = self.book.sessions.get(id)?;
            Some((id.clone(), opened.clone()))
        });
        let facts = self.dirty.facts.iter();
        Changed {
            seq: self.head.seq,
            sums: sums.filter(|(a, _)| a.starts_with("session:")).collect(),
            sessions: sessions.collect(),
            facts: facts
                .map(|key| (key.clone(), self.book.facts.get(key).cloned()))
                .collect(),
        }
    }
}
