//! The durable book. A backend stores; `budget::judge` judges.

use std::ops::RangeInclusive;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::budget::{Book, Counted, Entry, Fact, Frozen, Opened, Payment, Reject};
use crate::clock::Timestamp;
use crate::event::export::Recorded;
use crate::event::{SpendEvent, State};
use crate::money::Usd;
use crate::payment::{Limit, PaymentId, Session, SessionId};

mod audit;
mod chain;
mod columns;
mod fullest;
mod memory;
mod opening;
mod place;
mod postgres;
mod sealed;
pub mod sessions;
mod sqlite;

pub use fullest::Accounts;
pub use opening::{
    Again, BACKENDS, Backend, Database, Held, OpenError, Opening, guard, hold, in_memory, open,
    read,
};

/// Why a post or a question got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// The book says no. Nothing was stored.
    #[error(transparent)]
    Rejected(#[from] Reject),
    /// Storage failed; nothing is promised. No payment may follow.
    #[error("the ledger is unavailable: {0}")]
    Unavailable(String),
    /// The records contradict each other. No payment may follow until an operator looks.
    #[error("the ledger is damaged: {0}")]
    Damaged(String),
}

/// What is stored in one piece: entries about one payment or one session, and the event that tells
/// of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// When.
    pub time: Timestamp,
    /// All or none of them.
    pub entries: Vec<Entry>,
    /// What sinks and lists show of it. Sessions have none.
    pub event: Option<SpendEvent>,
}

/// What a stored post answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Posted {
    /// Number of the record.
    pub seq: u64,
    /// What counts in the session's account after it, for a reservation.
    pub session_counted: Option<Counted>,
    /// What counts after it against each further limit of a reservation, in their order.
    pub counted: Vec<Counted>,
}

impl Posted {
    fn new(seq: u64, book: &Book, entries: &[Entry]) -> Self {
        let reserved = entries.iter().find_map(|entry| {
            let Entry::Reserve {
                session, limits, ..
            } = entry
            else {
                return None;
            };
            Some((session, limits))
        });
        let Some((session, limits)) = reserved else {
            return Self {
                seq,
                ..Self::default()
            };
        };
        let opened = book.sessions.get(session);
        let cap = opened.map(|o| Limit::session(&o.session));
        let total = |limit: &Limit| book.total(&limit.account, limit.first.min(limit.last));
        Self {
            seq,
            session_counted: cap.as_ref().and_then(total),
            counted: limits.iter().filter_map(total).collect(),
        }
    }
}

/// Who is told what became of a post. Called once, on a thread that must not be held up.
pub type Then = Box<dyn FnOnce(Result<Posted, PostError>) + Send>;

/// A session and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SessionRow {
    /// The session.
    #[serde(flatten)]
    pub session: Session,
    /// Closed by the operator.
    pub closed: bool,
    /// Counted in it: reserved, unknown and settled.
    pub spent: Usd,
    /// Payments counted in it.
    pub payments: u32,
}

impl SessionRow {
    fn new(opened: &Opened, counted: Counted) -> Self {
        Self {
            session: opened.session.clone(),
            closed: opened.closed,
            spent: counted.amount,
            payments: counted.payments,
        }
    }

    /// Is nothing more paid in it, whatever a person says?
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.closed || self.session.expires <= now
    }
}

/// How many sessions stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standings {
    /// Something is left.
    pub open: u64,
    /// Neither closed nor expired, and nothing is left.
    pub spent: u64,
    /// Closed or expired.
    pub over: u64,
}

impl Standings {
    fn of(rows: &[SessionRow], now: Timestamp) -> Self {
        let mut standings = Self::default();
        for row in rows {
            match row.is_over(now) {
                true => standings.over = standings.over.saturating_add(1),
                false => standings.add(row.spent >= row.session.budget),
            }
        }
        standings
    }

    /// One that is not over.
    fn add(&mut self, spent: bool) {
        let count = match spent {
            true => &mut self.spent,
            false => &mut self.open,
        };
        *count = count.saturating_add(1);
    }

    fn live(&self) -> u64 {
        self.open.saturating_add(self.spent)
    }
}

/// Which payments to list. Newest first.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this session.
    pub session: Option<SessionId>,
    /// Only this state.
    pub state: Option<State>,
    /// Only this host.
    pub host: Option<String>,
    /// Only this agent.
    pub agent: Option<String>,
    /// Only what this rule decided.
    pub rule: Option<String>,
    /// Only with this code of a reason.
    pub reason: Option<String>,
    /// Also refusals. Implied by `state: Some(State::Denied)`.
    pub denied: bool,
    /// At most so many; 0 for all.
    pub limit: usize,
    /// Only what was made at this time or later.
    pub from: Option<Timestamp>,
    /// Only what was made before this time.
    pub to: Option<Timestamp>,
    /// Only what changed at this time or later. Cheap in [`Reader::walk`], which begins there.
    pub changed: Option<Timestamp>,
    /// Only what was signed and is not dead at this time, by what was signed. Cheap in [`Reader::walk`] of a database.
    pub lives: Option<Timestamp>,
}

impl Filter {
    fn fits(&self, event: &SpendEvent) -> bool {
        let state = match self.state {
            Some(state) => event.state == state,
            None => self.denied || event.state != State::Denied,
        };
        state
            && self.session.as_ref().is_none_or(|s| event.session == *s)
            && self.host.as_ref().is_none_or(|h| event.host == *h)
            && self.agent.as_ref().is_none_or(|a| event.agent == *a)
            && (self.rule.is_none() || event.rule == self.rule)
            && (self.reason.is_none() || event.reason == self.reason)
            && self.from.is_none_or(|from| event.id.made() >= from)
            && self.to.is_none_or(|to| event.id.made() < to)
            && self.changed.is_none_or(|at| event.time >= at)
            && self.lives.is_none_or(|at| {
                let dies = event.valid_before.unwrap_or_default();
                Timestamp::from_secs(dies) > at
            })
    }

    fn most(&self) -> usize {
        match self.limit {
            0 => usize::MAX,
            limit => limit,
        }
    }
}

/// What `verify` found: every record in the chain, every sum equal to what the records say.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Records in the chain.
    pub records: u64,
    /// Payments.
    pub payments: u64,
    /// Hash of the newest record, hexadecimal.
    pub head: String,
    /// What is wrong, in plain sentences. Empty: all is well.
    pub problems: Vec<String>,
}

/// The records of one payment and the end of the chain they are in, from one state of the book.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    /// Oldest first.
    pub records: Vec<Recorded>,
    /// Number of the newest record of all.
    pub head_seq: u64,
    /// Its hash, hexadecimal.
    pub head_hash: String,
}

/// Questions to the book. All methods are safe to call at once from many tasks, and beside a
/// running owner.
#[async_trait]
pub trait Reader: Send + Sync {
    /// A session by id.
    async fn session(&self, id: &SessionId) -> Result<Option<SessionRow>, PostError>;
    /// A session, open or closed, by the SHA-256 of its secret in lower-case hexadecimal.
    async fn session_by_secret(&self, sha256: &str) -> Result<Option<SessionRow>, PostError>;
    /// Whose a session is, for whoever is let in: as it was known a moment ago, where it is known. That never waits for
    /// the storage.
    async fn identity(&self, id: &SessionId) -> Result<Option<Session>, PostError> {
        Ok(self.session(id).await?.map(|row| row.session))
    }
    /// The same by the SHA-256 of its secret.
    async fn identity_by_secret(&self, sha256: &str) -> Result<Option<Session>, PostError> {
        let row = self.session_by_secret(sha256).await?;
        Ok(row.map(|row| row.session))
    }
    /// All sessions, newest first.
    async fn sessions(&self) -> Result<Vec<SessionRow>, PostError>;
    /// How they stand at this time.
    async fn standings(&self, now: Timestamp) -> Result<Standings, PostError> {
        Ok(Standings::of(&self.sessions().await?, now))
    }
    /// What counts in an account from bucket `first` on, with no upper end.
    async fn counted(&self, account: &str, first: u64) -> Result<Counted, PostError>;
    /// The same of every account whose name begins so and in which something counts then. The fullest
    /// come by name, at most so many.
    async fn accounts(&self, prefix: &str, first: u64, most: usize) -> Result<Accounts, PostError>;
    /// Reserved and unknown payments with their newest events: what the sweeper must finish.
    async fn open(&self) -> Result<Vec<(Payment, SpendEvent)>, PostError>;
    /// One payment as the book has it, with its newest event. A refusal is none.
    async fn booked(&self, id: PaymentId) -> Result<Option<(Payment, SpendEvent)>, PostError>;
    /// The newest event of one payment or refusal.
    async fn payment(&self, id: PaymentId) -> Result<Option<SpendEvent>, PostError>;
    /// Ids of payments and refusals in this range, the lowest first, at most so many.
    async fn ids(
        &self,
        range: RangeInclusive<PaymentId>,
        most: usize,
    ) -> Result<Vec<PaymentId>, PostError>;
    /// The newest event of each payment that fits.
    async fn payments(&self, filter: Filter) -> Result<Vec<SpendEvent>, PostError>;
    /// Every event of one payment, oldest first.
    async fn history(&self, id: PaymentId) -> Result<Vec<SpendEvent>, PostError> {
        let records = self.trail(id).await?.records;
        Ok(records.into_iter().map(|record| record.event).collect())
    }
    /// Every record of one payment, oldest first, with its place in the chain.
    async fn trail(&self, id: PaymentId) -> Result<Trail, PostError>;
    /// Events after record `seq`, oldest first: the outbox that exports read.
    async fn events(&self, after: u64, limit: usize) -> Result<Vec<(u64, SpendEvent)>, PostError>;
    /// The newest record of each payment that fits, the one that changed last at the end, from one
    /// state of the book. Ends early when nobody receives any more.
    async fn walk(&self, filter: Filter, rows: mpsc::Sender<Recorded>) -> Result<(), PostError>;
    /// What is remembered under a key.
    async fn fact(&self, key: &str) -> Result<Option<Fact>, PostError>;
    /// Everything whose key begins so, in the order of the keys.
    async fn facts(&self, prefix: &str) -> Result<Vec<(String, Fact)>, PostError>;
    /// Walks the whole chain and recomputes every sum.
    async fn verify(&self) -> Result<Report, PostError>;
    /// Time of the newest record, so that a clock behind it is not believed.
    async fn newest(&self) -> Result<Timestamp, PostError>;
}

/// The book in the hands of its one owner, or of all who share it. A limit is checked where it is stored.
#[async_trait]
pub trait Ledger: Reader {
    /// Judges and stores a post: all or nothing, durable before it returns. The same entries twice
    /// change nothing.
    async fn post(&self, post: Post) -> Result<Posted, PostError>;
    /// Judges and stores a post whose loss would only count too much, with the next commit that
    /// somebody waits for or a few milliseconds later. Waits for a place in the queue only; `then`
    /// is told when it is durable, or why it is not. Whatever the caller posts after it is judged after it,
    /// but for a reservation that can be had without it. What is posted of one payment in one moment may
    /// become one record, with the newest event.
    async fn post_soon(&self, post: Post, then: Then);
    /// Returns when everything posted before is durable.
    async fn flush(&self) -> Result<(), PostError>;
    /// Whose payments are frozen that this one would be among? Asks no disk.
    fn frozen(&self, host: &str, agent: &str) -> Option<Frozen>;
    /// Can a post be promised right now? For readiness; does not write.
    fn healthy(&self) -> Result<(), PostError>;
    /// Is something kept that could not be stored yet and says what was taken? It is stored as soon as the storage
    /// works again, if this process lives as long.
    fn owes(&self) -> bool {
        false
    }
    /// Do other processes post too?
    fn is_shared(&self) -> bool {
        false
    }
    /// Is it this process that closes what was left open? One of all that share the ledger at a time.
    async fn leads(&self) -> Result<bool, PostError> {
        Ok(true)
    }
}
