//! What the operator is told besides payments: questions, answers, freezes, budgets that run out.

use serde::Serialize;

use crate::budget::{Asking, Frozen};
use crate::clock::Timestamp;
use crate::money::Usd;
use crate::payment::{PaymentId, SessionId};

/// One thing to tell. Holds no secrets and no merchant text but addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Notice {
    /// A payment waits for a person.
    ApprovalRequested {
        /// When.
        time: Timestamp,
        /// Where a person answers.
        approve_url: String,
        /// What for.
        approval: Box<Asking>,
    },
    /// A person answered.
    ApprovalAnswered {
        /// When.
        time: Timestamp,
        /// Yes or no, in `stage`.
        approval: Box<Asking>,
    },
    /// What counts against a budget reached its `warn_at`.
    BudgetWarning {
        /// When.
        time: Timestamp,
        /// `budget:NAME:WHO`.
        account: String,
        /// What the operator wrote: `80%`.
        at: String,
        /// What counts now.
        counted: Usd,
        /// Of how much; `None` where payments are counted only.
        limit: Option<Usd>,
        /// Payments that count now.
        payments: u32,
        /// Of how many.
        payments_limit: Option<u32>,
        /// The payment that reached it.
        payment: PaymentId,
    },
    /// Payments are frozen.
    Frozen {
        /// When.
        time: Timestamp,
        /// `all`, `host H`, `agent A`.
        what: String,
        /// What the operator wrote.
        why: String,
    },
    /// They are not any more.
    Unfrozen {
        /// When.
        time: Timestamp,
        /// `all`, `host H`, `agent A`.
        what: String,
    },
    /// A wallet holds less of an asset than its `low_balance` says. Told once, until it holds enough again.
    LowBalance {
        /// When it was seen.
        time: Timestamp,
        /// The operator's name for it.
        wallet: String,
        /// Its address.
        address: String,
        /// The chain.
        network: String,
        /// The asset.
        asset: String,
        /// What it holds, in whole units.
        balance: String,
        /// The mark, in whole units.
        low_balance: String,
    },
    /// A wallet signed a login instead of a payment, and nothing was paid.
    SignedIn {
        /// When.
        time: Timestamp,
        /// For whom.
        session: SessionId,
        /// The agent's name.
        agent: String,
        /// Where.
        host: String,
        /// Path without query.
        path: String,
        /// The account's chain.
        network: String,
        /// The account.
        address: String,
        /// What was paid there before.
        payment: PaymentId,
        /// Did the merchant take it?
        accepted: bool,
    },
}

impl Notice {
    /// A freeze.
    #[must_use]
    pub fn frozen(what: &Frozen, why: &str, time: Timestamp) -> Self {
        Self::Frozen {
            time,
            what: what.to_string(),
            why: why.to_owned(),
        }
    }

    /// Its name in logs: the value of `event`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::ApprovalRequested { .. } => "approval_requested",
            Self::ApprovalAnswered { .. } => "approval_answered",
            Self::BudgetWarning { .. } => "budget_warning",
            Self::Frozen { .. } => "frozen",
            Self::Unfrozen { .. } => "unfrozen",
            Self::LowBalance { .. } => "low_balance",
            Self::SignedIn { .. } => "signed_in",
        }
    }
}
