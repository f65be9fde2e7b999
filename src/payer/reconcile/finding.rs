//! What comes of looking at a payment.

use serde::{Deserialize, Serialize};

use crate::event::{SpendEvent, State};
use crate::payment::PaymentId;

/// What came of looking at one payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The payment.
    pub id: PaymentId,
    /// What was found.
    pub outcome: Outcome,
    /// Where the payment stands now.
    pub state: State,
    /// The transaction that shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// Why nothing was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What a chain showed of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Taken as signed.
    Confirmed,
    /// Taken as signed although it had been given back: it counts again.
    Recounted,
    /// Its nonce was spent on other terms: it counts in full.
    TakenOtherwise,
    /// Its nonce is spent, by which transaction is not seen: it counts in full.
    Spent,
    /// Never used, and dead: given back.
    Released,
    /// Never used, and dead, but closed before: it stays as it was.
    Unused,
    /// Dead, and no log tells of it: it stays as it was, as that proves nothing.
    Unseen,
    /// Nothing is certain yet.
    Undecided,
    /// The chain could not be asked, or is not to be believed.
    Unanswered,
    /// There is no chain to ask.
    NotAsked,
}

impl Outcome {
    /// The word in outputs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Recounted => "recounted",
            Self::TakenOtherwise => "taken_otherwise",
            Self::Spent => "spent",
            Self::Released => "released",
            Self::Unused => "unused",
            Self::Unseen => "unseen",
            Self::Undecided => "undecided",
            Self::Unanswered => "unanswered",
            Self::NotAsked => "not_asked",
        }
    }

    /// Is there more to find out?
    pub(super) fn is_open(self) -> bool {
        match self {
            Self::Undecided | Self::Unanswered => true,
            Self::Confirmed
            | Self::Recounted
            | Self::TakenOtherwise
            | Self::Spent
            | Self::Released
            | Self::Unused
            | Self::Unseen
            | Self::NotAsked => false,
        }
    }
}

/// Nothing was found, for this reason.
pub(super) fn without(last: &SpendEvent, outcome: Outcome, why: impl Into<String>) -> Finding {
    Finding {
        id: last.id,
        outcome,
        state: last.state,
        transaction: None,
        detail: Some(why.into()),
    }
}
