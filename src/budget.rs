//! Budget arithmetic: sessions, payments, what they count against, and the only function that
//! changes any of them. Pure: the same book and entry give the same answer, always.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::money::Usd;
use crate::payment::{Limit, PaymentId, Session, SessionId};

/// One bucket of one account: everything but released payments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Sum of what is reserved or settled.
    pub amount: Usd,
    /// How many.
    pub payments: u32,
}

/// Where a payment stands, as far as money goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Money may move.
    Reserved,
    /// Closed, counted.
    Settled,
    /// Closed, not counted.
    Released,
}

/// Account and bucket.
pub type Mark = (String, u64);

/// One payment, as far as money goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// Where it stands.
    pub stage: Stage,
    /// What counts.
    pub amount: Usd,
    /// Where it counts.
    pub marks: Vec<Mark>,
    /// Until then the payload can be charged.
    pub until: Timestamp,
}

/// Enough of the ledger to judge one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    /// What counts where.
    pub counted: BTreeMap<Mark, Counted>,
    /// Payments by id.
    pub payments: BTreeMap<PaymentId, Payment>,
    /// Sessions by id, and whether they are closed.
    pub sessions: BTreeMap<SessionId, (Session, bool)>,
}

/// One change of the book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A new session, or the renewal of an expired one: the same id with a new budget and expiry.
    OpenSession {
        /// The session.
        session: Session,
        /// SHA-256 of its secret, hexadecimal; `None` for the default session of a loopback listener.
        secret_sha256: Option<String>,
    },
    /// Nothing more is paid in it. What it spent stays counted everywhere.
    CloseSession {
        /// Which.
        session: SessionId,
    },
    /// On every limit or on none. From here on money may move.
    Reserve {
        /// The payment.
        id: PaymentId,
        /// The session that pays: must be open and not expired at `now`.
        session: SessionId,
        /// What it may cost.
        amount: Usd,
        /// What it counts against.
        limits: Vec<Limit>,
        /// Until then the payload can be charged.
        until: Timestamp,
        /// When it was decided.
        now: Timestamp,
    },
    /// It was charged, or nothing proves the opposite.
    Settle {
        /// The payment.
        id: PaymentId,
        /// At most what was reserved.
        charged: Usd,
    },
    /// It was certainly not charged.
    Release {
        /// The payment.
        id: PaymentId,
        /// Why that is certain.
        because: Because,
    },
    /// No money involved: a refusal, or an answer without a receipt.
    Note {
        /// The payment or refusal.
        id: PaymentId,
    },
}

/// The only two reasons to give a reservation back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Because {
    /// The wallet is certain that it signed nothing.
    NeverSigned,
    /// The payload died unused: `now` is past its validity, and the chain or the operator's
    /// `unproven: release` vouches for it.
    Expired {
        /// Time of the proof.
        now: Timestamp,
    },
}

/// Why an entry changes nothing. Ordered by precedence: the first that applies is the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Reject {
    /// The same id with other terms.
    #[error("the payment exists with different terms")]
    ExistsDifferent,
    /// Unknown id.
    #[error("no such payment")]
    NoSuchPayment,
    /// Unknown session.
    #[error("no such session")]
    NoSuchSession,
    /// The session exists, is open and not expired.
    #[error("the session is still open")]
    SessionOpen,
    /// Closed by the operator.
    #[error("the session is closed")]
    SessionClosed,
    /// Past its expiry.
    #[error("the session expired at {at}")]
    SessionExpired {
        /// When.
        at: Timestamp,
    },
    /// Already closed another way.
    #[error("the payment is {0:?}")]
    WrongStage(Stage),
    /// The payload is still valid.
    #[error("the payload can still be charged")]
    TooEarly,
    /// More than was reserved.
    #[error("charged more than reserved")]
    OverCharge,
    /// Does not fit the counters.
    #[error("the amount overflows")]
    Overflow,
    /// A limit would be passed.
    #[error("{} would pass its limit of {}", limit.account, limit.amount)]
    OverLimit {
        /// Which.
        limit: Limit,
        /// What counts there already.
        counted: Counted,
    },
}
