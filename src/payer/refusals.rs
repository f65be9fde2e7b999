//! Errors of the ledger and the wallet, as refusals that an agent can read.

use super::outstanding;
use crate::budget::{Counted, Reject};
use crate::clock::Timestamp;
use crate::ledger::PostError;
use crate::money::Usd;
use crate::payment::{Limit, PaymentId, Reason, Refusal};
use crate::policy::Approval;
use crate::wallet::WalletError;

/// Why a reservation was not made.
pub(super) fn of_post(problem: &PostError, approval: &Approval) -> Refusal {
    let refusal = match problem {
        PostError::Rejected(reject) => of_reject(reject, approval.price),
        PostError::Unavailable(_) | PostError::Damaged(_) => of_ledger(problem),
    };
    Refusal {
        rule: Some(approval.rule.clone()),
        price: Some(approval.price),
        ..refusal
    }
}

/// A ledger that cannot be asked.
pub(super) fn of_ledger(problem: &PostError) -> Refusal {
    match problem {
        PostError::Unavailable(_) | PostError::Rejected(_) => {
            let detail = "the ledger cannot store a promise right now, so nothing is paid";
            Refusal {
                retryable: true,
                ..Refusal::new(Reason::LedgerUnavailable, detail)
            }
        }
        PostError::Damaged(_) => {
            let detail = "the ledger needs its operator, so nothing is paid";
            Refusal::new(Reason::LedgerUnavailable, detail)
        }
    }
}

/// Nothing is paid in it any more.
pub(super) fn session_closed() -> Refusal {
    Refusal::new(Reason::SessionClosed, "the session is closed")
}

fn of_reject(reject: &Reject, price: Usd) -> Refusal {
    match reject {
        Reject::OverLimit { limit, counted } => over_limit(limit, counted, price),
        Reject::SessionExpired { at } => Refusal::session_expired(*at),
        Reject::SessionClosed | Reject::NoSuchSession => session_closed(),
        Reject::Overflow => {
            let detail = "the amount is more than any budget holds";
            Refusal::new(Reason::OverRequestCap, detail)
        }
        Reject::Frozen { what } => super::freeze::frozen(what),
        Reject::Outstanding {
            payment,
            until,
            claimed,
        } => outstanding::refusal((*payment, *until), *claimed),
        Reject::PayeeChanged { .. } => {
            let detail = "the recipient differs from the one that was paid first at this host";
            Refusal::new(Reason::RecipientChanged, detail)
        }
        Reject::PriceRose { lowest } => {
            let detail = format!("the price rose too far above the {lowest} that was paid here");
            Refusal::new(Reason::PriceChanged, detail)
        }
        Reject::NoSuchApproval | Reject::ApprovalOver | Reject::NotApproved => Refusal {
            retryable: true,
            ..Refusal::new(
                Reason::ApprovalRequired,
                "what a person approved was used, withdrawn or is over",
            )
        },
        Reject::ExistsDifferent
        | Reject::NoSuchPayment
        | Reject::SessionOpen
        | Reject::WrongStage(_)
        | Reject::TooEarly
        | Reject::OverCharge => {
            Refusal::new(Reason::LedgerUnavailable, "the ledger refused the payment")
        }
        // Ours are random. A challenge that decides its nonce is good for one payment (MPP).
        Reject::NonceUsed => {
            let detail =
                "this very challenge was answered with a payment before, and it is good for one";
            Refusal::new(Reason::AlreadyPaid, detail)
        }
    }
}

/// The limit that a payment of this price would pass.
#[must_use]
pub fn over_limit(limit: &Limit, counted: &Counted, price: Usd) -> Refusal {
    if limit.is_rate() {
        let most = limit.payments.unwrap_or_default();
        return Refusal {
            retryable: true,
            resets_at: limit.resets_at,
            ..Refusal::new(
                Reason::RateLimited,
                format!("the rule allows {most} payments in this time, and so many were made"),
            )
        };
    }
    let remaining = limit.amount.minus(counted.amount).unwrap_or_default();
    let (reason, what) = if limit.is_session() {
        (Reason::OverSessionCap, "the session's budget")
    } else {
        (Reason::OverBudget, "the budget")
    };
    let name = limit.account.split(':').nth(1).unwrap_or_default();
    let named = if limit.is_session() {
        String::new()
    } else {
        format!(" {name}")
    };
    let (detail, sums) = match limit.payments {
        // No sum is in the way then, so none is told.
        Some(most) if counted.payments >= most => {
            let count = counted.payments;
            let detail = format!("{what}{named} allows {most} payments, and {count} count");
            (detail, None)
        }
        Some(_) | None => {
            let most = limit.amount;
            let detail =
                format!("{price} is more than the {remaining} left of {what}{named} of {most}");
            (detail, Some((most, remaining)))
        }
    };
    let (limit_told, remaining) = sums.unzip();
    Refusal {
        limit: limit_told,
        remaining,
        retryable: limit.resets_at.is_some(),
        resets_at: limit.resets_at,
        ..Refusal::new(reason, detail)
    }
}

/// Why there is no signature. An unknown outcome names the payment that holds the money.
pub(super) fn of_wallet(problem: &WalletError, id: PaymentId, now: Timestamp) -> Refusal {
    let detail = match problem {
        WalletError::Unsupported => "the wallet cannot sign this kind of payment",
        WalletError::Declined(_) => "the wallet declined to sign",
        WalletError::Resting { .. } => {
            "the wallet failed too often lately and is left alone for a while"
        }
        WalletError::Unknown(_) => "the wallet did not answer; the amount stays held",
    };
    Refusal {
        retryable: problem.is_final(),
        resets_at: match problem {
            WalletError::Resting { secs } => Some(now.after_secs(*secs)),
            WalletError::Unsupported | WalletError::Declined(_) | WalletError::Unknown(_) => None,
        },
        payment: (!problem.is_final()).then_some(id),
        ..Refusal::new(Reason::WalletUnavailable, detail)
    }
}

/// What would have been paid, if the policy did more than observe.
pub(super) fn observed(approval: &Approval) -> Refusal {
    let price = approval.price;
    let would = match &approval.duties.consent {
        None => format!("it would have paid {price}"),
        Some(consent) => {
            let because = consent.because.join(", ");
            format!("it would have asked a person about {price} ({because})")
        }
    };
    let detail = format!("the policy only observes; {would}");
    Refusal {
        rule: Some(approval.rule.clone()),
        price: Some(approval.price),
        ..Refusal::new(Reason::ObserveMode, detail)
    }
}
