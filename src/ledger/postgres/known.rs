//! What is known here without asking the database: sessions, freezes, and whether posts can be promised.
//! Never what is judged by; that is read under the lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use super::batch::Changed;
use super::fault::Fault;
use super::session::Seen;
use crate::budget::facts::key;
use crate::budget::{Counted, Fact, Frozen, Opened};
use crate::clock::Timestamp;
use crate::ledger::chain::Head;
use crate::ledger::{PostError, SessionRow};
use crate::money::Usd;
use crate::payment::{Limit, Session, SessionId};

/// How old the sum of a session may be, since other proxies count in it too.
const FRESH: Duration = Duration::from_secs(1);

/// Why nothing is promised before the first answer.
const SILENT: &str = "its database has not answered yet";

pub(super) struct Known(RwLock<Inner>);

struct Inner {
    /// `None` as long as the database never answered.
    seen: Option<Seen>,
    /// Of whoever writes, and of whoever follows: one of them may have a connection that works.
    writes: Result<(), PostError>,
    follows: Result<(), PostError>,
    /// Is anything kept that says what was taken?
    owes: bool,
    rows: HashMap<SessionId, Row>,
    /// By the hash of their secret.
    secrets: HashMap<String, SessionId>,
    /// By the account of their newest generation.
    accounts: HashMap<String, SessionId>,
    freezes: BTreeMap<String, (u64, Option<Fact>)>,
}

struct Row {
    changed: u64,
    row: SessionRow,
    asked: Option<Instant>,
    /// Is it looked up beside those who use it?
    asking: bool,
}

impl Row {
    fn is_fresh(&self) -> bool {
        self.asked.is_some_and(|at| at.elapsed() < FRESH)
    }
}

impl Known {
    /// Of a database that was not asked yet.
    pub(super) fn new() -> Self {
        Self(RwLock::new(Inner {
            seen: None,
            writes: Err(PostError::Unavailable(SILENT.into())),
            follows: Ok(()),
            owes: false,
            rows: HashMap::new(),
            secrets: HashMap::new(),
            accounts: HashMap::new(),
            freezes: BTreeMap::new(),
        }))
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn owe(&self, something: bool) {
        self.write().owes = something;
    }

    pub(super) fn owes(&self) -> bool {
        self.read().owes
    }

    /// What was committed here.
    pub(super) fn committed(&self, head: Head, changed: Changed) {
        let inner = &mut *self.write();
        inner.saw(head);
        for (id, opened) in changed.sessions {
            inner.put(id, changed.seq, &opened);
        }
        for (key, fact) in changed.facts {
            inner.remember(key, changed.seq, fact);
        }
        for (account, counted) in changed.sums {
            inner.count(&account, counted, None);
        }
    }

    /// What others committed: a session or a fact, as record `changed` left it.
    pub(super) fn session(&self, id: SessionId, changed: u64, opened: &Opened) {
        self.write().put(id, changed, opened);
    }

    pub(super) fn fact(&self, key: String, changed: u64, fact: Option<Fact>) {
        self.write().remember(key, changed, fact);
    }

    pub(super) fn saw(&self, head: Head) {
        self.write().saw(head);
    }

    /// What counts in a session's account at this moment.
    pub(super) fn counted(&self, account: &str, counted: Counted) {
        self.write().count(account, counted, Some(Instant::now()));
    }

    /// The newest record that this process knows of.
    ///
    /// # Errors
    /// As long as the database never answered.
    pub(super) fn seen(&self) -> Result<Seen, Fault> {
        let seen = self.read().seen.clone();
        seen.ok_or_else(|| Fault::Lost(SILENT.into()))
    }

    /// The database has answered. What is there from now on must stay there.
    pub(super) fn begun(&self, seen: Seen) {
        self.write().seen = Some(seen);
    }

    /// What was over before this time is looked up by whoever asks for it, as what never was known here.
    pub(super) fn forget(&self, before: Timestamp) {
        self.write().forget(before);
    }

    /// May it be asked? Not before it has answered, and tables and records were found to be right.
    pub(super) fn askable(&self) -> Result<(), PostError> {
        let inner = self.read();
        match inner.seen {
            Some(_) => Ok(()),
            None => inner.writes.clone(),
        }
    }

    /// Damage is final; anything else may heal.
    pub(super) fn writes(&self, health: Result<(), PostError>) {
        let inner = &mut *self.write();
        if !matches!(inner.writes, Err(PostError::Damaged(_))) {
            inner.writes = health;
        }
    }

    pub(super) fn follows(&self, health: Result<(), PostError>) {
        let inner = &mut *self.write();
        if !matches!(inner.follows, Err(PostError::Damaged(_))) {
            inner.follows = health;
        }
    }

    /// May a post be tried?
    pub(super) fn writable(&self) -> Result<(), PostError> {
        self.read().writes.clone()
    }

    pub(super) fn healthy(&self) -> Result<(), PostError> {
        let inner = self.read();
        inner.writes.clone().and_then(|()| inner.follows.clone())
    }

    pub(super) fn frozen(&self, host: &str, agent: &str) -> Option<Frozen> {
        let inner = self.read();
        let facts = inner.freezes.iter();
        let facts = facts.filter_map(|(key, (_, fact))| Some((key.clone(), fact.clone()?)));
        Frozen::among(&facts.collect(), host, agent)
    }

    /// A session as it is known here, and whether its sum is fresh.
    pub(super) fn row(&self, id: &SessionId) -> Option<(SessionRow, bool)> {
        let inner = self.read();
        let row = inner.rows.get(id)?;
        Some((row.row.clone(), row.is_fresh()))
    }

    /// Is it time to look this session up again? Then whoever hears it does, and says when that is over. Not while the
    /// database is away.
    pub(super) fn takes(&self, id: &SessionId) -> bool {
        let inner = &mut *self.write();
        let there = inner.writes.is_ok() && inner.follows.is_ok();
        match inner.rows.get_mut(id) {
            Some(row) if there && !row.asking && !row.is_fresh() => {
                row.asking = true;
                true
            }
            Some(_) | None => false,
        }
    }

    /// The look that was taken is over.
    pub(super) fn looked(&self, id: &SessionId) {
        if let Some(row) = self.write().rows.get_mut(id) {
            row.asking = false;
        }
    }

    /// Those of these sessions that are known here.
    pub(super) fn sessions<'a>(
        &self,
        ids: impl Iterator<Item = &'a SessionId>,
    ) -> BTreeMap<SessionId, Session> {
        let inner = self.read();
        let known = |id: &SessionId| Some((id.clone(), inner.rows.get(id)?.row.session.clone()));
        ids.filter_map(known).collect()
    }

    /// The accounts of those that are neither closed nor over, with what they hold. Every one of these is known here.
    pub(super) fn live(&self, now: Timestamp) -> Vec<(String, Usd)> {
        let inner = self.read();
        let rows = inner.rows.values().map(|row| &row.row);
        let live = rows.filter(|row| !row.is_over(now));
        let account = |row: &SessionRow| (Limit::session(&row.session).account, row.session.budget);
        live.map(account).collect()
    }

    pub(super) fn by_secret(&self, sha256: &str) -> Option<SessionRow> {
        let inner = self.read();
        let id = inner.secrets.get(sha256)?;
        inner.rows.get(id).map(|row| row.row.clone())
    }
}

impl Inner {
    fn saw(&mut self, head: Head) {
        if let Some(seen) = &mut self.seen
            && head.seq > seen.head.seq
        {
            seen.head = head;
        }
    }

    fn remember(&mut self, key: String, changed: u64, fact: Option<Fact>) {
        if !key.starts_with(key::FREEZES) {
            return;
        }
        let old = self.freezes.get(&key).map(|(changed, _)| *changed);
        if old.is_none_or(|old| old <= changed) {
            self.freezes.insert(key, (changed, fact));
        }
    }

    fn count(&mut self, account: &str, counted: Counted, asked: Option<Instant>) {
        let id = self.accounts.get(account);
        if let Some(row) = id.and_then(|id| self.rows.get_mut(id)) {
            (row.row.spent, row.row.payments) = (counted.amount, counted.payments);
            row.asked = asked.or(row.asked);
        }
    }

    fn forget(&mut self, before: Timestamp) {
        let Self {
            rows,
            secrets,
            accounts,
            ..
        } = self;
        rows.retain(|_, row| before <= row.row.session.expires);
        secrets.retain(|_, id| rows.contains_key(id));
        accounts.retain(|_, id| rows.contains_key(id));
    }

    fn put(&mut self, id: SessionId, changed: u64, opened: &Opened) {
        let (mut counted, mut asking) = (Counted::default(), false);
        if let Some(old) = self.rows.get(&id) {
            if old.changed > changed {
                return;
            }
            asking = old.asking;
            let session = &old.row.session;
            if session.created == opened.session.created {
                counted = Counted {
                    amount: old.row.spent,
                    payments: old.row.payments,
                };
            }
            self.accounts.remove(&Limit::session(session).account);
            // A renewal may bring another secret; the old one must not work any more.
            self.secrets.retain(|_, owner| *owner != id);
        }
        let account = Limit::session(&opened.session).account;
        self.accounts.insert(account, id.clone());
        if let Some(secret) = &opened.secret_sha256 {
            self.secrets.insert(secret.clone(), id.clone());
        }
        let row = SessionRow::new(opened, counted);
        self.rows.insert(
            id,
            Row {
                changed,
                row,
                asked: None,
                asking,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_is_forgotten_with_all_that_leads_to_it() {
        let known = Known::new();
        for (id, expires) in [("live", 20), ("over", 10)] {
            let session = Session {
                id: SessionId(id.into()),
                agent: "bot".into(),
                budget: Usd(1),
                created: Timestamp(1),
                expires: Timestamp(expires),
            };
            let opened = Opened {
                session,
                secret_sha256: Some(format!("secret of {id}")),
                closed: false,
            };
            known.session(SessionId(id.into()), 1, &opened);
        }
        known.forget(Timestamp(15));
        assert!(known.row(&SessionId("live".into())).is_some());
        assert!(known.by_secret("secret of live").is_some());
        assert!(known.row(&SessionId("over".into())).is_none());
        let inner = known.read();
        assert_eq!((inner.secrets.len(), inner.accounts.len()), (1, 1));
    }
}
