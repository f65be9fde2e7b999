//! Budget arithmetic: sessions, payments, what they count against, and the only function that
//! changes any of them. Pure: the same book and entry give the same answer, always.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::money::Usd;
use crate::payment::{ApprovalId, Limit, PaymentId, Session, SessionId};
use crate::settings::Percent;

pub mod facts;
mod judge;
mod reject;
mod remember;
mod tentative;

pub use facts::{Asked, Asking, Fact, Frozen};
pub(crate) use judge::marks;
pub use judge::{apply, judge};
pub use reject::Reject;

/// One bucket of one account: everything but released payments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Sum of what is reserved or settled.
    pub amount: Usd,
    /// How many.
    pub payments: u32,
}

impl Counted {
    /// The sum, or `None` when it does not fit.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        Some(Self {
            amount: self.amount.plus(other.amount)?,
            payments: self.payments.checked_add(other.payments)?,
        })
    }
}

/// Where a payment stands, as far as money goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Money may move.
    Reserved,
    /// Closed, counted.
    Settled,
    /// Closed, not counted; opened by nothing but [`Entry::Recount`].
    Released,
}

/// Account and bucket.
pub type Mark = (String, u64);

/// One payment, as far as money goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// Where it stands.
    pub stage: Stage,
    /// What counts: reserved, then charged, then zero when released.
    pub amount: Usd,
    /// Where it counts. Each mark once.
    pub marks: Vec<Mark>,
    /// Until then the payload can be charged.
    pub until: Timestamp,
    /// What it is charged under; see [`Entry::Reserve`].
    pub nonce: String,
}

/// A session as the book keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The newest generation of it.
    pub session: Session,
    /// SHA-256 of its secret, hexadecimal; `None` for a default session.
    pub secret_sha256: Option<String>,
    /// Closed by the operator.
    pub closed: bool,
}

/// Enough of the ledger to judge one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    /// What counts where.
    pub counted: BTreeMap<Mark, Counted>,
    /// Payments by id.
    pub payments: BTreeMap<PaymentId, Payment>,
    /// Sessions by id.
    pub sessions: BTreeMap<SessionId, Opened>,
    /// Who was ever charged under which nonce.
    pub nonces: BTreeMap<String, PaymentId>,
    /// What is remembered, by key.
    pub facts: BTreeMap<String, Fact>,
}

/// What one entry changes: the new value of each row it touches, `None` for a row that goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Sums.
    pub counted: Vec<(Mark, Option<Counted>)>,
    /// The payment.
    pub payment: Option<(PaymentId, Option<Payment>)>,
    /// The session.
    pub session: Option<(SessionId, Option<Opened>)>,
    /// The nonce.
    pub nonce: Option<(String, Option<PaymentId>)>,
    /// What is remembered or forgotten.
    pub facts: Vec<(String, Option<Fact>)>,
}

impl Book {
    /// What counts in an account from bucket `first` on, with no upper end; `None` when the sum
    /// does not fit.
    #[must_use]
    pub fn total(&self, account: &str, first: u64) -> Option<Counted> {
        judge::total(&self.counted, account, first)
    }

    /// Makes a change and returns its inverse, which takes it back exactly.
    pub fn put(&mut self, change: Change) -> Change {
        let counted = change.counted.into_iter();
        Change {
            counted: counted
                .map(|(k, v)| swap(&mut self.counted, k, v))
                .collect(),
            payment: change.payment.map(|(k, v)| swap(&mut self.payments, k, v)),
            session: change.session.map(|(k, v)| swap(&mut self.sessions, k, v)),
            nonce: change.nonce.map(|(k, v)| swap(&mut self.nonces, k, v)),
            facts: (change.facts.into_iter())
                .map(|(k, v)| swap(&mut self.facts, k, v))
                .collect(),
        }
    }
}

fn swap<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> (K, Option<V>) {
    let old = match value {
        // Most rows are there already, and need no key of their own.
        Some(value) => match map.get_mut(&key) {
            Some(row) => Some(std::mem::replace(row, value)),
            None => map.insert(key.clone(), value),
        },
        None => map.remove(&key),
    };
    (key, old)
}

/// One change of the book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A new session, or the next generation of one that is expired or closed: the same id with a
    /// later `created`, a new budget and expiry. What earlier generations spent stays counted.
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
    /// On every limit or on none, the session's own budget always among them. From here on money
    /// may move.
    Reserve {
        /// The payment.
        id: PaymentId,
        /// The session that pays: must be open and not expired at `now`.
        session: SessionId,
        /// What it may cost.
        amount: Usd,
        /// What it counts against, besides the session's budget.
        limits: Vec<Limit>,
        /// Until then the payload can be charged.
        until: Timestamp,
        /// When it was decided.
        now: Timestamp,
        /// What the payload is charged under: wallet address, network, asset and on-chain nonce in
        /// one text. Nothing is ever reserved twice under one.
        nonce: String,
        /// The merchant's host, without a port. Empty in records of older programs.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        host: String,
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
    /// The recipient is the one seen first at this host and network, or nobody was seen there yet.
    Payee {
        /// The merchant's host.
        host: String,
        /// CAIP-2.
        network: String,
        /// The recipient, normalised.
        pay_to: String,
        /// When.
        now: Timestamp,
        /// In records of older programs: a person approved the change, and from now on it is this one.
        #[serde(default)]
        approved: bool,
        /// The payment that makes it known; absent in records of older programs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payment: Option<PaymentId>,
    },
    /// The price is not more than so many hundredths above the lowest one paid on this route.
    Price {
        /// The merchant's host.
        host: String,
        /// HTTP method.
        method: String,
        /// Path without query.
        path: String,
        /// What it costs now.
        price: Usd,
        /// How far above the lowest it may be; `None` for any distance.
        increase: Option<Percent>,
        /// When.
        now: Timestamp,
        /// In records of older programs: a person approved the price, and from now on it is the one to compare with.
        #[serde(default)]
        approved: bool,
        /// The payment that makes it known; absent in records of older programs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payment: Option<PaymentId>,
    },
    /// The host is known while this payment stands. Before its reservation, which would make it known for good.
    Met {
        /// The payment.
        payment: PaymentId,
        /// The merchant's host.
        host: String,
        /// When.
        now: Timestamp,
    },
    /// The payment was released: what nothing but it made known is forgotten.
    Unmet {
        /// The payment.
        payment: PaymentId,
        /// The merchant's host.
        host: String,
        /// CAIP-2.
        network: String,
        /// HTTP method.
        method: String,
        /// As of the price.
        path: String,
        /// The approval that was used for it and is good again, and when it was given; absent where there was none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        approval: Option<(ApprovalId, Timestamp)>,
    },
    /// What is known of a host is forgotten, as if it had never been paid.
    Forget {
        /// The merchant's host.
        host: String,
    },
    /// Nothing more is reserved there.
    Freeze {
        /// Whose payments.
        what: Frozen,
        /// When.
        now: Timestamp,
        /// What the operator says about it.
        why: String,
    },
    /// Payments may be reserved there again.
    Unfreeze {
        /// Whose payments.
        what: Frozen,
    },
    /// A person is asked.
    Ask {
        /// What for.
        asking: Box<Asking>,
    },
    /// A person answered.
    Answer {
        /// Which question.
        id: ApprovalId,
        /// Yes or no.
        approve: bool,
        /// When.
        now: Timestamp,
    },
    /// The approved payment is made, once.
    UseApproval {
        /// Which approval.
        id: ApprovalId,
        /// What is paid now: must be what was approved.
        digest: String,
        /// The payment.
        payment: PaymentId,
        /// When.
        now: Timestamp,
    },
    /// What people were asked is forgotten, where it was over before this time. The records keep it.
    DropApprovals {
        /// Whatever expired before it.
        before: Timestamp,
    },
    /// A released payment was charged all the same: the chain shows it. It counts again where it
    /// counted before, whatever the limits say: money that is gone cannot be refused.
    Recount {
        /// The payment.
        id: PaymentId,
        /// What it cost.
        charged: Usd,
    },
    /// No money involved: a refusal, or an answer without a receipt.
    Note {
        /// The payment or refusal.
        id: PaymentId,
    },
}

impl Entry {
    /// The payment or refusal that it is about, if it is about one.
    #[must_use]
    pub fn payment(&self) -> Option<PaymentId> {
        match self {
            Self::OpenSession { .. }
            | Self::CloseSession { .. }
            | Self::Payee { .. }
            | Self::Price { .. }
            | Self::Met { .. }
            | Self::Unmet { .. }
            | Self::Forget { .. }
            | Self::Freeze { .. }
            | Self::Unfreeze { .. }
            | Self::Ask { .. }
            | Self::Answer { .. }
            | Self::UseApproval { .. }
            | Self::DropApprovals { .. } => None,
            Self::Reserve { id, .. }
            | Self::Settle { id, .. }
            | Self::Release { id, .. }
            | Self::Recount { id, .. }
            | Self::Note { id } => Some(*id),
        }
    }

    /// The session that it names, if it names one.
    #[must_use]
    pub fn session(&self) -> Option<&SessionId> {
        match self {
            Self::OpenSession { session, .. } => Some(&session.id),
            Self::CloseSession { session } | Self::Reserve { session, .. } => Some(session),
            Self::Settle { .. }
            | Self::Release { .. }
            | Self::Recount { .. }
            | Self::Note { .. }
            | Self::Payee { .. }
            | Self::Price { .. }
            | Self::Met { .. }
            | Self::Unmet { .. }
            | Self::Forget { .. }
            | Self::Freeze { .. }
            | Self::Unfreeze { .. }
            | Self::Ask { .. }
            | Self::Answer { .. }
            | Self::UseApproval { .. }
            | Self::DropApprovals { .. } => None,
        }
    }
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
