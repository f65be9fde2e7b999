//! What the writer tells everybody else after each commit: the sessions, the newest time, and
//! whether posts can be promised.

use std::collections::HashMap;
use std::sync::atomic::AtomicI64;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::budget::{Counted, Opened};
use crate::clock::Timestamp;
use crate::ledger::{PostError, SessionRow};
use crate::payment::{Limit, SessionId};

use super::store::{self, Fault};
use super::tables::Changed;

/// Read on the way of every new connection, so it asks no database.
pub(super) struct Shared {
    /// Length of the log when the keeper saw it last.
    pub(super) log_pages: AtomicI64,
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
}

impl Shared {
    pub(super) fn load(connection: &rusqlite::Connection) -> Result<Self, Fault> {
        let mut inner = Inner {
            health: Ok(()),
            newest: store::newest(connection)?,
            rows: HashMap::new(),
            secrets: HashMap::new(),
            accounts: HashMap::new(),
        };
        for (id, opened) in store::sessions(connection)? {
            let account = Limit::session(&opened.session).account;
            let counted = store::total(connection, &account, 0)?;
            inner.put(id, &opened, counted);
        }
        Ok(Self {
            log_pages: AtomicI64::new(0),
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

    pub(super) fn newest(&self) -> Timestamp {
        self.read().newest
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
