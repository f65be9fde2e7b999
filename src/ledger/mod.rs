//! The durable book. A backend stores; `budget::apply` judges.

use async_trait::async_trait;

use crate::budget::{Counted, Entry, Payment, Reject};
use crate::clock::Timestamp;
use crate::event::{SpendEvent, State};
use crate::payment::{PaymentId, Session, SessionId};

/// Why a post did not happen.
#[derive(Clone, Debug, thiserror::Error)]
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

/// What a stored post answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Posted {
    /// Number of the record.
    pub seq: u64,
    /// What counts in the session's account after it, for a reservation.
    pub session_counted: Option<Counted>,
}

/// A session and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SessionRow {
    /// The session.
    #[serde(flatten)]
    pub session: Session,
    /// Closed by the operator.
    pub closed: bool,
    /// Counted in it: reserved, unknown and settled.
    pub spent: crate::money::Usd,
    /// Payments counted in it.
    pub payments: u32,
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
    /// Also refusals.
    pub denied: bool,
    /// At most so many; 0 for all.
    pub limit: usize,
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

/// The durable book. All methods are safe to call at once from many tasks; a limit is checked where
/// it is stored.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Judges and stores these entries of one payment or session and their one event: all or
    /// nothing, durable before it returns. Posting the same entry twice changes nothing.
    async fn post(&self, entries: Vec<Entry>, event: SpendEvent) -> Result<Posted, PostError>;
    /// A session by id.
    async fn session(&self, id: &SessionId) -> Result<Option<SessionRow>, PostError>;
    /// An open or closed session by the SHA-256 of its secret, hexadecimal.
    async fn session_by_secret(&self, sha256: &str) -> Result<Option<SessionRow>, PostError>;
    /// All sessions, newest first.
    async fn sessions(&self) -> Result<Vec<SessionRow>, PostError>;
    /// What counts in an account from bucket `first` on, with no upper end.
    async fn counted(&self, account: &str, first: u64) -> Result<Counted, PostError>;
    /// Reserved and unknown payments: what the sweeper must finish.
    async fn open(&self) -> Result<Vec<(Payment, SpendEvent)>, PostError>;
    /// The newest event of one payment.
    async fn payment(&self, id: PaymentId) -> Result<Option<SpendEvent>, PostError>;
    /// The newest event of each payment that fits.
    async fn payments(&self, filter: Filter) -> Result<Vec<SpendEvent>, PostError>;
    /// Every event of one payment, oldest first.
    async fn history(&self, id: PaymentId) -> Result<Vec<SpendEvent>, PostError>;
    /// Events after `seq`, oldest first: the outbox that sinks and exports read.
    async fn events(&self, after: u64, limit: usize) -> Result<Vec<(u64, SpendEvent)>, PostError>;
    /// Walks the whole chain and recomputes every sum.
    async fn verify(&self) -> Result<Report, PostError>;
    /// Time of the newest record, so that a clock behind it is not believed.
    async fn newest(&self) -> Result<Timestamp, PostError>;
    /// Can a post be promised right now? For readiness; does not write.
    fn healthy(&self) -> Result<(), PostError>;
}
