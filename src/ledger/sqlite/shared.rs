//! What the writer tells everybody else after each commit: the sessions, the newest time, and
//! whether posts can be promised.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::budget::facts::key;
use crate::budget::{Counted, Fact, Frozen, Opened};
use crate::clock::Timestamp;
use crate::ledger::{PostError, SessionRow};
use crate::payment::{Limit, SessionId};

use super::facts;
use super::store::{self, Fault};
use super::tables::Changed;

/// Read on the way of every new connection, so it asks no database.
pub(super) struct Shared {
    /// Length of the log when the keeper saw it last.
    pub(super) log_pages: AtomicI64,
    /// Is anything kept that says what was taken?
    owes: AtomicBool,
    inner: RwLock<Inner>,
}

struct Inner {
    health: Result<(), PostError>,
    newest: Timestamp,
    rows: HashMap<SessionId, SessionRow>,
    /// By the hash of their secret.
    secrets: HashMap<String, SessionId>,
    /// By the account of their newest generation.
    accounts: HashMap<String, SessionId>,
    /// Everything remembered that fits.
    facts: BTreeMap<String, Fact>,
    /// Are all facts of the file among them?
    all_facts: bool,
}

/// Facts kept at hand. Freezes are kept beyond that.
const FACTS_MAX: usize = 100_000;

impl Shared {
    pub(super) fn load(connection: &rusqlite::Connection) -> Result<Self, Fault> {
        let mut inner = Inner {
            health: Ok(()),
            newest: store::newest(connection)?,
            rows: HashMap::new(),
            secrets: HashMap::new(),
            accounts: HashMap::new(),
            facts: facts::below(connection, "", FACTS_MAX)?
                .into_iter()
                .collect(),
            all_facts: true,
        };
        inner.all_facts = inner.facts.len() < FACTS_MAX;
        let freezes = facts::below(connection, key::FREEZES, usize::MAX)?;
        inner.facts.extend(freezes);
        for (id, opened) in store::sessions(connection)? {
            let account = Limit::session(&opened.session).account;
            let counted = store::total(connection, &account, 0)?;
            inner.put(id, &opened, counted);
        }
        Ok(Self {
            log_pages: AtomicI64::new(0),
            owes: AtomicBool::new(false),
            inner: RwLock::new(inner),
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn committed(&self, time: Timestamp, changed: Changed) {
        let inner = &mut *self.write();
        inner.newest = time;
        for (id, opened) in changed.sessions {
            let old = inner.rows.get(&id);
            let same = old.filter(|row| row.session.created == opened.session.created);
            let counted = same.map_or(Counted::default(), |row| Counted {
                amount: row.spent,
                payments: row.payments,
            });
            inner.put(id, &opened, counted);
        }
        for (key, fact) in changed.facts {
            inner.remember(key, fact);
        }
        for (account, counted) in changed.sums {
            if let Some(row) = inner
                .accounts
                .get(&account)
                .and_then(|id| inner.rows.get_mut(id))
            {
                (row.spent, row.payments) = (counted.amount, counted.payments);
            }
        }
    }

    /// Damage is final; anything else may heal.
    pub(super) fn health(&self, health: Result<(), PostError>) {
        let inner = &mut *self.write();
        if !matches!(inner.health, Err(PostError::Damaged(_))) {
            inner.health = health;
        }
    }

    pub(super) fn healthy(&self) -> Result<(), PostError> {
        self.read().health.clone()
    }

    pub(super) fn owe(&self, something: bool) {
        self.owes.fetch_or(something, Ordering::Relaxed);
    }

    pub(super) fn owe_nothing(&self) {
        self.owes.store(false, Ordering::Relaxed);
    }

    pub(super) fn owes(&self) -> bool {
        self.owes.load(Ordering::Relaxed)
    }

    pub(super) fn newest(&self) -> Timestamp {
        self.read().newest
    }

    /// The fact under a key, if it is known here whether there is one.
    pub(super) fn fact(&self, key: &str) -> Option<Option<Fact>> {
        let inner = self.read();
        let fact = inner.facts.get(key).cloned();
        (fact.is_some() || inner.all_facts).then_some(fact)
    }

    /// Everything whose key begins so, if all of it is at hand.
    pub(super) fn facts(&self, prefix: &str) -> Option<Vec<(String, Fact)>> {
        let inner = self.read();
        let here = inner.facts.range(prefix.to_owned()..);
        let here = here.take_while(|(key, _)| key.starts_with(prefix));
        let all = here.map(|(key, fact)| (key.clone(), fact.clone()));
        (inner.all_facts || prefix == key::FREEZES).then(|| all.collect())
    }

    pub(super) fn frozen(&self, host: &str, agent: &str) -> Option<Frozen> {
        Frozen::among(&self.read().facts, host, agent)
    }

    pub(super) fn session(&self, id: &SessionId) -> Option<SessionRow> {
        self.read().rows.get(id).cloned()
    }

    pub(super) fn session_by_secret(&self, sha256: &str) -> Option<SessionRow> {
        let inner = self.read();
        let id = inner.secrets.get(sha256)?;
        inner.rows.get(id).cloned()
    }

    pub(super) fn sessions(&self) -> Vec<SessionRow> {
        let mut rows: Vec<_> = self.read().rows.values().cloned().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.session.created));
        rows
    }
}

impl Inner {
    fn remember(&mut self, key: String, fact: Option<Fact>) {
        match fact {
            None => drop(self.facts.remove(&key)),
            Some(fact) if self.facts.len() < FACTS_MAX || key.starts_with(key::FREEZES) => {
                self.facts.insert(key, fact);
            }
            Some(_) => {
                // What is not at hand is asked of the file, so an old value must not stay either.
                self.facts.remove(&key);
                self.all_facts = false;
            }
        }
    }

    fn put(&mut self, id: SessionId, opened: &Opened, counted: Counted) {
        if let Some(old) = self.rows.get(&id) {
            self.accounts.remove(&Limit::session(&old.session).account);
            // A renewal may bring another secret; the old one must not work any more.
            self.secrets.retain(|_, owner| *owner != id);
        }
        let account = Limit::session(&opened.session).account;
        self.accounts.insert(account, id.clone());
        if let Some(secret) = &opened.secret_sha256 {
            self.secrets.insert(secret.clone(), id.clone());
        }
        self.rows.insert(id, SessionRow::new(opened, counted));
    }
}
