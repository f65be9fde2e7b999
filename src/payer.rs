//! The payment transaction: decide, reserve, sign, and after the retry, settle. The only writer of
//! the ledger.

use std::sync::{Arc, PoisonError, RwLock};

use http::{HeaderMap, StatusCode};

use crate::money::{Amount, Network, Usd};
use crate::payment::{Asked, Challenge, Payload, PaymentId, Reason, Refusal};
use crate::policy::Policy;

/// Decides and pays. One policy snapshot per request.
pub struct Payer {
    policy: RwLock<Arc<Policy>>,
}

/// A payload that may now be charged. The ledger already says so: losing this value loses nothing.
#[must_use = "a signed payment must be settled"]
pub struct Signed {
    /// The header of the retry.
    pub payload: Payload,
    paid: Paid,
}

/// What the answer to the paid request means.
pub struct Settled {
    /// For the `Farepass-Payment` field of the answer.
    pub paid: Paid,
    /// Set when the answer must not reach the agent as if nothing were wrong: the merchant asked
    /// again (`already_paid`), denied settlement, or did not answer (`outcome_unknown`).
    pub refusal: Option<Refusal>,
}

/// What the agent is told about a payment.
#[derive(Clone, Debug)]
pub struct Paid {
    /// The payment.
    pub id: PaymentId,
    /// Signed, atomic units.
    pub amount: Amount,
    /// Symbol from our own table.
    pub asset: String,
    /// CAIP-2.
    pub network: Network,
    /// What it counts.
    pub charged: Usd,
    /// What is left of the session's budget.
    pub remaining: Usd,
    /// The transaction that the receipt names, if well formed.
    pub transaction: Option<String>,
}

impl Payer {
    /// The policy of this moment.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Decides, reserves, signs. Everything that can fail without money comes before the
    /// reservation. Every refusal is recorded before it is returned.
    ///
    /// # Errors
    /// The refusal that the agent is to be told; also for a wallet or ledger that is not there.
    pub async fn authorize(&self, _asked: &Asked, _: &Challenge) -> Result<Signed, Refusal> {
        Err(Refusal::new(Reason::LedgerUnavailable, "not written yet"))
    }

    /// Records what came back: the head of the answer to the paid request, or `None` when there was
    /// none. A receipt settles; anything else is unknown, and counts until `sweep`.
    pub async fn settle(&self, signed: Signed, _: Option<(StatusCode, &HeaderMap)>) -> Settled {
        Settled {
            paid: signed.paid,
            refusal: None,
        }
    }

    /// Records a refusal that the wire found on its own (an agent's payment header, a body too long
    /// to send twice) and gives it back.
    pub async fn refuse(&self, _asked: &Asked, refusal: Refusal) -> Refusal {
        refusal
    }
}
