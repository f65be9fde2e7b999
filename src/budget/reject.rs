//! Why the book says no.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::money::Usd;
use crate::payment::{Limit, PaymentId};

use super::{Counted, Frozen, Stage};

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
    /// Another payment is charged under this nonce.
    #[error("the nonce was used before")]
    NonceUsed,
    /// Does not fit the counters.
    #[error("the amount overflows")]
    Overflow,
    /// The operator froze it.
    #[error("payments are frozen: {what}")]
    Frozen {
        /// Whose.
        what: Frozen,
    },
    /// The request was paid through another owner of the ledger, and nobody has its answer.
    #[error("the request was paid before, and its answer is still owed")]
    Outstanding {
        /// The payment.
        payment: PaymentId,
        /// Until then it can be charged.
        until: Timestamp,
        /// A receipt says that it was.
        claimed: bool,
    },
    /// Another recipient than the one seen first.
    #[error("the recipient is not the one seen first")]
    PayeeChanged {
        /// The one seen first.
        known: String,
    },
    /// Further above the lowest price than allowed.
    #[error("the price rose from {lowest}")]
    PriceRose {
        /// The lowest price.
        lowest: Usd,
    },
    /// Nobody was asked that.
    #[error("no such approval")]
    NoSuchApproval,
    /// Answered, used or expired.
    #[error("the approval is over")]
    ApprovalOver,
    /// Nobody said yes to exactly this.
    #[error("the payment is not approved")]
    NotApproved,
    /// A limit would be passed.
    #[error("{} would pass its limit of {}", limit.account, limit.amount)]
    OverLimit {
        /// Which.
        limit: Limit,
        /// What counts there already.
        counted: Counted,
    },
}
