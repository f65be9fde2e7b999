//! What a receipt claims, against what was signed. A claim settles; only where the merchant may take
//! less than the maximum does it say how much, and then nothing above is given back before it is dead.

use super::about::{About, Paid};
use crate::budget::Entry;
use crate::clock::Timestamp;
use crate::event::{Flag, HELD_ABOVE_CLAIM, SpendEvent, State};
use crate::money::Amount;
use crate::payment::{Claim, Receipt};

/// Where a receipt leaves a payment. `before`: an earlier receipt for the same payload claimed it.
pub(super) fn stands(
    about: &About,
    receipt: &Receipt,
    paid: &mut Paid,
    before: bool,
) -> (Entry, State) {
    let id = about.id();
    let claimed = match receipt {
        Receipt::Claimed(claim) => Some(claim),
        Receipt::Denied { .. } | Receipt::Absent => None,
    };
    let part = claimed.and_then(|claim| part(about, claim));
    match (before, paid.settled) {
        (false, _) => paid.settled = part,
        // Of two that differ the larger counts; one that names no part names all of it.
        (true, Some(earlier)) => {
            let now = claimed.map(|_| part.unwrap_or(paid.amount));
            paid.settled = Some(now.map_or(earlier, |now| now.max(earlier)));
        }
        (true, None) => {}
    }
    let charged = about.price();
    match (claimed, before, paid.settled) {
        (Some(_), _, Some(_)) | (None, true, Some(_)) => (Entry::Note { id }, State::Unknown),
        // Claimed once is claimed: what comes for the same payload later takes nothing back.
        (_, true, None) => (Entry::Note { id }, State::Settled),
        (Some(_), false, None) => (Entry::Settle { id, charged }, State::Settled),
        (None, false, _) => (Entry::Note { id }, State::Unknown),
    }
}

/// The part of a maximum that a receipt says was taken; `None` when that is all of it, or the receipt
/// does not fit what was signed.
fn part(about: &About, claim: &Claim) -> Option<Amount> {
    let less = claim.amount.filter(|amount| Some(*amount) < about.amount());
    less.filter(|_| about.is_upto() && !differs(about, claim))
}

/// Does the receipt name another network or payer than was signed, another amount or more than the maximum, what
/// is none of these, or no transaction although something was taken?
pub(super) fn differs(about: &About, claim: &Claim) -> bool {
    let upto = about.is_upto();
    let nothing = upto && claim.amount == Some(Amount(0));
    let amount = claim.amount.is_some_and(|amount| match upto {
        true => Some(amount) > about.amount(),
        false => Some(amount) != about.amount(),
    });
    let network = claim.network.as_ref();
    claim.odd
        || claim.transaction.is_none() && !nothing
        || amount
        || about.is_payer_of(claim) == Some(false)
        || network.is_some_and(|n| n.as_str() != about.network())
}

/// What the receipt says, for the record. `before`: what an earlier one said stays. An amount is in the books only
/// where it is what was signed, or the part of a maximum that `paid` has: any other is a claim that moved nothing
/// (threats M-13, X-20).
pub(super) fn says(event: &mut SpendEvent, receipt: &Receipt, paid: &Paid, before: bool) {
    let signed = event.amount;
    match receipt {
        _ if before => {
            event.receipt = Some("claimed".into());
            event.transaction.clone_from(&paid.transaction);
        }
        Receipt::Claimed(claim) => {
            event.receipt = Some("claimed".into());
            event.amount_settled = claim.amount.filter(|amount| Some(*amount) == signed);
            event.transaction.clone_from(&claim.transaction);
        }
        Receipt::Denied { why, transaction } => {
            event.receipt = Some("denied".into());
            event.reason = (!why.is_empty()).then(|| why.clone());
            event.transaction.clone_from(transaction);
        }
        Receipt::Absent => event.receipt = Some("absent".into()),
    }
    if let Some(part) = paid.settled {
        event.amount_settled = Some(part);
        event.reason = Some(HELD_ABOVE_CLAIM.into());
    }
}

/// A receipt that says something else than what was signed.
pub(super) fn mismatch(about: &About, receipt: &Receipt, now: Timestamp) -> Option<Flag> {
    match receipt {
        Receipt::Claimed(claim) if differs(about, claim) || about.belies(claim, now) => {
            Some(Flag::ReceiptMismatch)
        }
        Receipt::Claimed(_) | Receipt::Denied { .. } | Receipt::Absent => None,
    }
}
