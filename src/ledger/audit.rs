//! The whole history once more: walks the chain, enters every entry into an empty book, and tells
//! where the stored sums differ.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::budget::{Book, Change, Counted, Entry, Fact, Mark, Opened, Payment, Stage, judge};
use crate::event::SpendEvent;
use crate::money::Usd;
use crate::payment::{PaymentId, SessionId};

use super::Report;
use super::chain::{Head, Record};

/// Enough to see what happened, also when everything is wrong.
const PROBLEMS_MAX: usize = 20;

/// What the records say about one payment. Closed payments leave the book for this, so that a long
/// history fits into memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// The newest record about it.
    pub(super) last: u64,
    /// Stage and amount; `None` for a refusal.
    pub(super) money: Option<(Stage, Usd)>,
    /// SHA-256 over the rest of it.
    pub(super) terms: [u8; 32],
}

impl Seen {
    pub(super) fn new(last: u64, payment: Option<&Payment>) -> Self {
        let mut hash = Sha256::new();
        if let Some(payment) = payment {
            hash.update(payment.until.0.to_be_bytes());
            hash.update(payment.nonce.as_bytes());
            for (account, bucket) in &payment.marks {
                hash.update([0]);
                hash.update(account.as_bytes());
                hash.update(bucket.to_be_bytes());
            }
        }
        Self {
            last,
            money: payment.map(|p| (p.stage, p.amount)),
            terms: hash.finalize().into(),
        }
    }
}

/// The walk so far.
pub(super) struct Audit {
    head: Head,
    book: Book,
    nonces: BTreeSet<[u8; 32]>,
    seen: BTreeMap<PaymentId, Seen>,
    /// Kept whole, because they may count again. There are few of them.
    released: BTreeMap<PaymentId, Payment>,
    problems: Vec<String>,
}

impl Audit {
    /// Before the first record of this ledger.
    pub(super) fn new(id: &str) -> Self {
        Self {
            head: Head::genesis(id),
            book: Book::default(),
            nonces: BTreeSet::new(),
            seen: BTreeMap::new(),
            released: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    pub(super) fn problem(&mut self, text: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(text);
        }
    }

    /// A payment that lists and sums do not find.
    pub(super) fn astray(&mut self, id: PaymentId) {
        self.problem(format!("the newest record of {id} is not found by it"));
    }

    /// The next record, in the order of the chain.
    pub(super) fn record(&mut self, record: &Record) {
        let seq = record.seq;
        let next = self
            .head
            .next(record.time, &record.entries, record.event.as_deref());
        if seq != next.seq {
            self.problem(format!("record {} is missing", next.seq));
        }
        if record.hash != next.hash {
            self.problem(format!("record {seq} does not match its hash"));
        }
        // Go on with what is stored: one bad record is one problem, not one for each that follows.
        self.head = Head {
            seq,
            hash: record.hash,
        };
        if let Some(event) = &record.event
            && serde_json::from_str::<SpendEvent>(event).is_err()
        {
            self.problem(format!("the event of record {seq} cannot be read"));
        }
        match serde_json::from_str::<Vec<Entry>>(&record.entries) {
            Ok(entries) => entries.iter().for_each(|e| self.entry(seq, e)),
            Err(_) => self.problem(format!("the entries of record {seq} cannot be read")),
        }
    }

    fn entry(&mut self, seq: u64, entry: &Entry) {
        let id = entry.payment();
        if let Some(id) = id {
            self.recall(id);
        }
        match judge(&self.book, entry) {
            Ok(change) => self.put(seq, change),
            Err(reject) => self.problem(format!("record {seq} is impossible: {reject}")),
        }
        if let Some(id) = id {
            self.forget(seq, id);
        }
    }

    fn put(&mut self, seq: u64, mut change: Change) {
        // Nonces are kept as hashes, out of the book.
        if let Some((nonce, _)) = change.nonce.take()
            && !self.nonces.insert(Sha256::digest(nonce.as_bytes()).into())
        {
            self.problem(format!("record {seq} uses a nonce for the second time"));
        }
        self.book.put(change);
    }

    /// Brings a closed payment back into the book, as far as a repeated entry asks for it.
    fn recall(&mut self, id: PaymentId) {
        if let Some(payment) = self.released.remove(&id) {
            self.book.payments.insert(id, payment);
        } else if let Some((stage, amount)) = self.seen.get(&id).and_then(|s| s.money)
            && stage != Stage::Reserved
        {
            let payment = Payment {
                stage,
                amount,
                marks: Vec::new(),
                until: crate::clock::Timestamp(0),
                nonce: String::new(),
            };
            self.book.payments.insert(id, payment);
        }
    }

    fn forget(&mut self, seq: u64, id: PaymentId) {
        let payment = self.book.payments.get(&id);
        let closed = payment.is_some_and(|p| p.stage != Stage::Reserved);
        match self.seen.get_mut(&id) {
            Some(seen) => {
                seen.last = seq;
                match payment {
                    Some(p) if seen.money.is_none() => *seen = Seen::new(seq, Some(p)),
                    Some(p) => seen.money = Some((p.stage, p.amount)),
                    None => {}
                }
            }
            None => {
                self.seen.insert(id, Seen::new(seq, payment));
            }
        }
        if closed
            && let Some(payment) = self.book.payments.remove(&id)
            && payment.stage == Stage::Released
        {
            self.released.insert(id, payment);
        }
    }

    /// Compares the end of the chain with what is stored as its end.
    pub(super) fn check_head(&mut self, stored: Head) {
        if stored != self.head {
            let text = format!(
                "the chain ends at record {}, but {} were written",
                self.head.seq, stored.seq
            );
            self.problem(text);
        }
    }

    /// Compares every stored sum with what the payments say.
    pub(super) fn check_counted(&mut self, rows: impl Iterator<Item = (Mark, Counted)>) {
        let mut right = std::mem::take(&mut self.book.counted);
        for (mark, stored) in rows {
            if right.remove(&mark) != Some(stored) {
                let (account, bucket) = mark;
                self.problem(format!("the sum of {account}, bucket {bucket}, is wrong"));
            }
        }
        for ((account, bucket), _) in right {
            self.problem(format!("the sum of {account}, bucket {bucket}, is missing"));
        }
    }

    /// Compares every stored payment with what the records say.
    pub(super) fn check_payments(&mut self, rows: impl Iterator<Item = (PaymentId, Seen)>) {
        let mut right = self.seen.clone();
        for (id, stored) in rows {
            if right.remove(&id) != Some(stored) {
                self.problem(format!("{id} differs from its records"));
            }
        }
        for id in right.into_keys() {
            self.problem(format!("{id} is missing"));
        }
    }

    /// Compares the stored numbers of nonces; `number` makes one of a nonce's SHA-256.
    pub(super) fn check_nonces(
        &mut self,
        number: fn(&[u8; 32]) -> i64,
        rows: impl Iterator<Item = i64>,
    ) {
        let right: BTreeSet<i64> = self.nonces.iter().map(number).collect();
        if right != rows.collect() {
            self.problem("the nonces differ from the records".into());
        }
    }

    /// Compares every stored session with what the records say.
    pub(super) fn check_sessions(&mut self, rows: impl Iterator<Item = (SessionId, Opened)>) {
        let mut right = std::mem::take(&mut self.book.sessions);
        for (id, stored) in rows {
            if right.remove(&id) != Some(stored) {
                self.problem(format!("session {id} differs from its records"));
            }
        }
        for id in right.into_keys() {
            self.problem(format!("session {id} is missing"));
        }
    }

    /// Compares every stored fact with what the records say.
    pub(super) fn check_facts(&mut self, rows: impl Iterator<Item = (String, Fact)>) {
        let mut right = std::mem::take(&mut self.book.facts);
        for (key, stored) in rows {
            if right.remove(&key) != Some(stored) {
                self.problem(format!("the fact `{key}` differs from its records"));
            }
        }
        for key in right.into_keys() {
            self.problem(format!("the fact `{key}` is missing"));
        }
    }

    pub(super) fn report(self) -> Report {
        let payments = self.seen.values().filter(|s| s.money.is_some()).count();
        Report {
            records: self.head.seq,
            payments: payments as u64,
            head: self.head.hex(),
            problems: self.problems,
        }
    }
}
