//! The tables as their writer sees them: a connection, and the slice of the book that is in use.
//! Posts are entered in groups: one transaction, one commit, one sync.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;

use crate::budget::{Book, Change, Counted, Entry, Fact, Mark, Opened, Reject, Stage};
use crate::failpoint;
use crate::ledger::Posted;
use crate::ledger::chain::Head;
use crate::ledger::columns::{STORED, verdict};
use crate::payment::{Limit, PaymentId, SessionId};

use super::facts;
use super::filter::Filter;
use super::nonces::Nonces;
use super::packed::Packed;
use super::payments;
use super::store::{self, Fault};

/// Sums kept in memory between commits. Above it they are dropped and read again when needed.
const CACHED_SUMS_MAX: usize = 100_000;
/// The same of open payments. Few proxies have as many on their way; memory used again is cheaper than memory that grows.
const CACHED_PAYMENTS_MAX: usize = 4096;
/// Facts kept in memory between commits.
const CACHED_FACTS_MAX: usize = 100_000;

/// What a commit changed that is looked up without asking the database.
#[derive(Default)]
pub(super) struct Changed {
    pub(super) sums: Vec<(String, Counted)>,
    pub(super) sessions: Vec<(SessionId, Opened)>,
    pub(super) facts: Vec<(String, Option<Fact>)>,
}

/// See the module. After a [`Fault`] it is of no more use: what is cached may not be what is stored.
pub(super) struct Tables {
    connection: Connection,
    book: Book,
    /// Accounts whose sums are in the book, from this bucket on.
    loaded: HashMap<String, u64>,
    /// Newest record of each payment in the book.
    lasts: BTreeMap<PaymentId, u64>,
    /// Keys whose facts are in the book, or are certainly in no file.
    known: HashSet<String>,
    /// Hosts and agents whose payments look at nothing but such keys.
    met: (HashSet<String>, HashSet<Arc<str>>),
    nonces: Nonces,
    /// No payment in the file had a larger id at the start, these came since, and this is the largest of all.
    largest: Option<PaymentId>,
    since: Filter,
    newest: Option<PaymentId>,
    head: Head,
    /// Of the transaction that has begun, if one has.
    pending: Option<Dirty>,
}

/// What a transaction has to write at its end, each row once however often it changed.
#[derive(Default)]
struct Dirty {
    /// Was any record written?
    records: bool,
    sums: BTreeSet<Mark>,
    payments: BTreeSet<PaymentId>,
    /// Numbers of the nonces that were reserved under.
    nonces: Vec<i64>,
    sessions: BTreeSet<SessionId>,
    facts: BTreeSet<String>,
}

impl Dirty {
    fn note(&mut self, change: &Change) {
        for (mark, _) in &change.counted {
            // Most posts of a group count in the same accounts.
            if !self.sums.contains(mark) {
                self.sums.insert(mark.clone());
            }
        }
        self.sessions
            .extend(change.session.iter().map(|(s, _)| s.clone()));
        self.facts
            .extend(change.facts.iter().map(|(k, _)| k.clone()));
    }
}

/// The random end of an id.
fn tail(id: PaymentId) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = id.0.to_be_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

impl Tables {
    pub(super) fn open(path: &Path) -> Result<Self, Fault> {
        let connection = store::connect(path)?;
        let head = store::head(&connection)?;
        let sessions = store::sessions(&connection)?;
        let largest = payments::largest(&connection)?;
        Ok(Self {
            book: Book {
                sessions: sessions.into_iter().collect(),
                ..Book::default()
            },
            loaded: HashMap::new(),
            lasts: BTreeMap::new(),
            known: HashSet::new(),
            met: Default::default(),
            nonces: Nonces::open(&connection)?,
            largest,
            newest: largest,
            since: Filter::new(),
            connection,
            head,
            pending: None,
        })
    }

    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// Moves what it can from the log into the file. As nobody writes meanwhile, the next post begins a new log.
    pub(super) fn tidy(&self) -> Result<i64, Fault> {
        store::checkpoint(&self.connection)
    }

    /// Moves everything from the log into the file, and syncs it. Returns how many pages are left.
    pub(super) fn checkpoint(&self) -> Result<i64, Fault> {
        store::empty_log(&self.connection)
    }

    /// Could a post be entered now?
    pub(super) fn free(&self) -> Result<(), Fault> {
        store::begin(&self.connection)?;
        self.run("ROLLBACK")
    }

    /// Judges a post and stores it, unless the book refuses it. Durable when the next `commit` returns.
    pub(super) fn enter(&mut self, post: &Packed) -> Result<Result<Posted, Reject>, Fault> {
        if self.pending.is_none() {
            store::begin(&self.connection)?;
        }
        let mut dirty = self.pending.take().unwrap_or_default();
        let answer = self.judge(post, &mut dirty);
        self.pending = Some(dirty);
        answer
    }

    /// Ends the transaction of everything that was entered since the last one.
    pub(super) fn commit(&mut self) -> Result<Changed, Fault> {
        let Some(dirty) = self.pending.take() else {
            return Ok(Changed::default());
        };
        if dirty.records {
            self.store(&dirty)?;
        }
        failpoint::reach("before-commit");
        self.run("COMMIT")?;
        failpoint::reach("after-commit");
        let changed = self.changed(&dirty);
        self.forget(dirty);
        Ok(changed)
    }

    fn run(&self, sql: &str) -> Result<(), Fault> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    fn judge(&mut self, post: &Packed, dirty: &mut Dirty) -> Result<Result<Posted, Reject>, Fault> {
        let mut undo = Vec::with_capacity(post.entries.len());
        let mut fresh = Vec::new();
        for (entry, number) in post.entries.iter().zip(&post.numbers) {
            self.load(entry, *number)?;
            match verdict(&self.book, entry) {
                Ok(change) => {
                    dirty.note(&change);
                    fresh.extend(number.filter(|_| change.nonce.is_some()));
                    undo.push(self.book.put(change));
                }
                Err(reject) => {
                    for change in undo.into_iter().rev() {
                        self.book.put(change);
                    }
                    return Ok(Err(reject));
                }
            }
        }
        dirty.nonces.extend(fresh);
        self.append(post, dirty)?;
        Ok(Ok(Posted::new(self.head.seq, &self.book, &post.entries)))
    }

    /// Brings what the judge of this entry will look at into the book.
    fn load(&mut self, entry: &Entry, number: Option<i64>) -> Result<(), Fault> {
        if let Some(id) = entry.payment() {
            self.load_payment(id)?;
        }
        self.load_facts(entry)?;
        match entry {
            Entry::Reserve {
                session,
                limits,
                nonce,
                ..
            } => {
                if let Some(number) = number
                    && !self.book.nonces.contains_key(nonce)
                    && self.nonces.used(&self.connection, number)?
                {
                    self.book.nonces.insert(nonce.clone(), STORED);
                }
                let cap = self.book.sessions.get(session);
                if let Some(cap) = cap.map(|o| Limit::session(&o.session)) {
                    self.load_sums(&cap.account, cap.first)?;
                }
                for limit in limits {
                    self.load_sums(&limit.account, limit.first.min(limit.last))?;
                }
            }
            Entry::Settle { id, .. } | Entry::Release { id, .. } | Entry::Recount { id, .. } => {
                let payment = self.book.payments.get(id);
                let marks = payment.iter().flat_map(|p| &p.marks);
                let missing = |(account, first): &&Mark| self.missing(account, *first).is_some();
                let missing: Vec<Mark> = marks.filter(missing).cloned().collect();
                for (account, bucket) in missing {
                    self.load_sums(&account, bucket)?;
                }
            }
            // All sessions are always in the book.
            Entry::OpenSession { .. }
            | Entry::CloseSession { .. }
            | Entry::Note { .. }
            | Entry::Payee { .. }
            | Entry::Price { .. }
            | Entry::Met { .. }
            | Entry::Unmet { .. }
            | Entry::Forget { .. }
            | Entry::Freeze { .. }
            | Entry::Unfreeze { .. }
            | Entry::Ask { .. }
            | Entry::Answer { .. }
            | Entry::UseApproval { .. }
            | Entry::DropApprovals { .. } => {}
        }
        Ok(())
    }

    fn load_payment(&mut self, id: PaymentId) -> Result<(), Fault> {
        let is_new = || Some(id) > self.largest && !self.since.may_have(tail(id));
        if Some(id) > self.newest || self.lasts.contains_key(&id) || is_new() {
            return Ok(());
        }
        if let Some((last, payment)) = payments::at(&self.connection, id)? {
            self.lasts.insert(id, last);
            if let Some(payment) = payment {
                self.book.payments.insert(id, payment);
            }
        }
        Ok(())
    }

    fn load_facts(&mut self, entry: &Entry) -> Result<(), Fault> {
        let session = entry.session().and_then(|id| self.book.sessions.get(id));
        let agent = session.map_or_else(Default::default, |o| o.session.agent.clone());
        if let Entry::Reserve { host, .. } = entry {
            // Their keys are written out once, not once a payment.
            let (hosts, agents) = &mut self.met;
            if hosts.contains(host) && agents.contains(&agent) {
                return Ok(());
            }
            hosts.insert(host.clone());
            agents.insert(Arc::clone(&agent));
        }
        for key in entry.facts(&agent) {
            if !self.known.contains(&key) {
                if let Some(fact) = facts::at(&self.connection, &key)? {
                    self.book.facts.insert(key.clone(), fact);
                }
                self.known.insert(key);
            }
        }
        if let Some(prefix) = entry.facts_below() {
            for (key, fact) in facts::below(&self.connection, &prefix, usize::MAX)? {
                // What is in the book already is newer than what is in the file.
                if self.known.insert(key.clone()) {
                    self.book.facts.insert(key, fact);
                }
            }
        }
        Ok(())
    }

    /// Where the sums of an account that are in the book already begin, if they begin too late.
    fn missing(&self, account: &str, first: u64) -> Option<u64> {
        match self.loaded.get(account) {
            Some(loaded) if *loaded <= first => None,
            Some(loaded) => Some(*loaded),
            None => Some(u64::MAX),
        }
    }

    fn load_sums(&mut self, account: &str, first: u64) -> Result<(), Fault> {
        let Some(end) = self.missing(account, first) else {
            return Ok(());
        };
        let rows = store::counted_from(&self.connection, account, first, end)?;
        // What is in the book already is newer than what is in the file.
        for (mark, counted) in rows {
            self.book.counted.entry(mark).or_insert(counted);
        }
        self.loaded.insert(account.to_owned(), first);
        Ok(())
    }

    fn append(&mut self, post: &Packed, dirty: &mut Dirty) -> Result<(), Fault> {
        let event = post.event_json.as_deref();
        let head = self.head.next(post.time, &post.entries_json, event);
        let id = post.entries.iter().find_map(Entry::payment);
        let before = id.and_then(|id| self.lasts.insert(id, head.seq));
        if let Some(id) = id {
            dirty.payments.insert(id);
            self.since.put(tail(id));
            self.newest = self.newest.max(Some(id));
        }
        store::save_record(&self.connection, head, post, id, before)?;
        self.head = head;
        dirty.records = true;
        Ok(())
    }

    fn store(&mut self, dirty: &Dirty) -> Result<(), Fault> {
        for mark in &dirty.sums {
            if let Some(counted) = self.book.counted.get(mark) {
                store::save_counted(&self.connection, mark, *counted)?;
            }
        }
        let payments = dirty.payments.iter().map(|id| {
            let last = self.lasts.get(id).copied().unwrap_or_default();
            (*id, last, self.book.payments.get(id))
        });
        payments::save(&self.connection, payments)?;
        self.nonces.save(&self.connection, &dirty.nonces)?;
        self.nonces.sort(&self.connection)?;
        for id in &dirty.sessions {
            if let Some(opened) = self.book.sessions.get(id) {
                store::save_session(&self.connection, id, opened)?;
            }
        }
        for key in &dirty.facts {
            facts::save(&self.connection, key, self.book.facts.get(key))?;
        }
        Ok(())
    }

    fn changed(&self, dirty: &Dirty) -> Changed {
        let sums = dirty.sums.iter().filter_map(|mark| {
            let counted = self.book.counted.get(mark)?;
            Some((mark.0.clone(), *counted))
        });
        let sessions = dirty.sessions.iter().filter_map(|id| {
            let opened = self.book.sessions.get(id)?;
            Some((id.clone(), opened.clone()))
        });
        Changed {
            sums: sums.filter(|(a, _)| a.starts_with("session:")).collect(),
            sessions: sessions.collect(),
            facts: (dirty.facts.iter())
                .map(|key| (key.clone(), self.book.facts.get(key).cloned()))
                .collect(),
        }
    }

    /// Drops what will not be asked for again, and everything when it grew too large.
    fn forget(&mut self, dirty: Dirty) {
        self.book.nonces.clear();
        for id in dirty.payments {
            let open = |p: &crate::budget::Payment| p.stage == Stage::Reserved;
            if !self.book.payments.get(&id).is_some_and(open) {
                self.book.payments.remove(&id);
                self.lasts.remove(&id);
            }
        }
        if self.lasts.len() > CACHED_PAYMENTS_MAX {
            self.book.payments.clear();
            self.lasts.clear();
        }
        if self.book.counted.len() > CACHED_SUMS_MAX {
            self.book.counted.clear();
            self.loaded.clear();
        }
        if self.known.len() > CACHED_FACTS_MAX {
            self.book.facts.clear();
            self.known.clear();
            self.met = Default::default();
        }
    }
}
