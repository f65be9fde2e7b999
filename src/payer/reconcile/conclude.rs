//! What follows from what a chain shows: pure. Certainty only rises, and no sum ever falls but by the
//! release of what was reserved.

use super::{Finding, Outcome};
use crate::budget::{Because, Entry, Payment, Stage};
use crate::chain::{Found, Sight};
use crate::clock::Timestamp;
use crate::event::{
    Flag, SETTLED_AS_CLAIMED, SPENT_ON_CHAIN, SpendEvent, State, TAKEN_OTHERWISE, UNUSED_ON_CHAIN,
};
use crate::money::{Amount, Usd};

/// Reason of a payment that a chain shows taken.
const SEEN: &str = "seen_on_chain";

/// What is to be recorded.
pub(super) struct Conclusion {
    pub(super) entry: Entry,
    pub(super) event: SpendEvent,
    pub(super) outcome: Outcome,
}

/// What was found before.
pub(super) fn again(last: &SpendEvent) -> Finding {
    let outcome = match (last.confirmed, last.state) {
        (true, _) => Outcome::Confirmed,
        (false, State::Released) => Outcome::Released,
        (false, _) if last.reason.as_deref() == Some(UNUSED_ON_CHAIN) => Outcome::Unused,
        (false, _) if last.reason.as_deref() == Some(SPENT_ON_CHAIN) => Outcome::Spent,
        (false, _) => Outcome::TakenOtherwise,
    };
    Finding {
        id: last.id,
        outcome,
        state: last.state,
        transaction: last.transaction.clone(),
        detail: None,
    }
}

/// What is to be recorded, if anything is certain. `surely` is our own time by its slower clock.
pub(super) fn conclude(
    payment: &Payment,
    last: &SpendEvent,
    sight: Sight,
    now: Timestamp,
    surely: Timestamp,
) -> Option<Conclusion> {
    let base = SpendEvent {
        time: now,
        latency_ms: None,
        ..last.clone()
    };
    match sight {
        Sight::Undecided | Sight::Unseen => None,
        Sight::Taken(found) => Some(taken(payment, base, found)),
        Sight::Otherwise(found) => Some(otherwise(payment, base, found)),
        Sight::Spent { block } => Some(spent(payment, base, block)),
        // By the chain's clock no block can use it; where ours says that it lives, one of them is
        // wrong, and nothing is given back.
        Sight::Unused { block, at } => {
            let alive = surely.secs() < last.valid_before.unwrap_or(u64::MAX);
            match alive || at < payment.until {
                true => None,
                false => Some(unused(payment, base, block, at)),
            }
        }
    }
}

fn taken(payment: &Payment, mut event: SpendEvent, found: Found) -> Conclusion {
    let claimed = event.receipt.as_deref() == Some("claimed");
    let named = event.transaction.as_deref();
    let elsewhere = named.is_some_and(|t| !t.eq_ignore_ascii_case(&found.transaction));
    let value = Amount(found.value);
    // Closed as claimed while no chain could be asked: it stays as it is, but somebody should look.
    let closed = event.reason.as_deref() == Some(SETTLED_AS_CLAIMED);
    let believed = event.amount_settled.filter(|_| closed);
    let said = event.held_above().or(believed);
    let less = said.is_some_and(|said| said != value);
    flag(&mut event, Flag::TakenUnclaimed, !claimed);
    flag(
        &mut event,
        Flag::ReceiptMismatch,
        claimed && (elsewhere || less),
    );
    event.confirmed = true;
    event.reason = Some(SEEN.into());
    event.amount_settled = Some(value);
    event.transaction = Some(found.transaction);
    // Of a maximum only so much was taken, and its nonce is used up.
    let charged = event.share(value);
    counted(payment, event, found.block, charged, Outcome::Confirmed)
}

fn otherwise(payment: &Payment, mut event: SpendEvent, found: Found) -> Conclusion {
    flag(&mut event, Flag::TakenOtherwise, true);
    event.reason = Some(TAKEN_OTHERWISE.into());
    event.transaction = Some(found.transaction);
    counted(payment, event, found.block, None, Outcome::TakenOtherwise)
}

/// All of it counts: how much was taken is not seen.
fn spent(payment: &Payment, mut event: SpendEvent, block: u64) -> Conclusion {
    event.reason = Some(SPENT_ON_CHAIN.into());
    counted(payment, event, block, None, Outcome::Spent)
}

/// It counts: still, or again. In full, or as much as `charged`.
fn counted(
    payment: &Payment,
    mut event: SpendEvent,
    block: u64,
    charged: Option<Usd>,
    outcome: Outcome,
) -> Conclusion {
    event.block = Some(block);
    event.state = State::Settled;
    let id = event.id;
    let (entry, outcome) = match payment.stage {
        Stage::Reserved => {
            let charged = charged.unwrap_or(payment.amount).min(payment.amount);
            event.charged = Some(charged);
            (Entry::Settle { id, charged }, outcome)
        }
        // What is closed never counts less than it did.
        Stage::Settled => (Entry::Note { id }, outcome),
        Stage::Released => {
            flag(&mut event, Flag::TakenAfterRelease, true);
            event.charged = charged.or(event.price);
            let charged = event.charged.unwrap_or_default();
            let outcome = match outcome {
                Outcome::Confirmed => Outcome::Recounted,
                other => other,
            };
            (Entry::Recount { id, charged }, outcome)
        }
    };
    Conclusion {
        entry,
        event,
        outcome,
    }
}

fn unused(payment: &Payment, mut event: SpendEvent, block: u64, at: Timestamp) -> Conclusion {
    let id = event.id;
    event.block = Some(block);
    event.reason = Some(UNUSED_ON_CHAIN.into());
    let (entry, outcome) = match payment.stage {
        Stage::Reserved => {
            // Of a maximum nothing may be taken, and then a receipt says so.
            let lied = last_claim(&event).is_some_and(|said| said > Amount(0));
            flag(&mut event, Flag::ReceiptMismatch, lied);
            event.state = State::Released;
            event.charged = None;
            let because = Because::Expired { now: at };
            (Entry::Release { id, because }, Outcome::Released)
        }
        // Closed stays closed: a receipt that lied, or an end that nobody could prove then.
        Stage::Settled => {
            let lied = event.receipt.as_deref() == Some("claimed");
            flag(&mut event, Flag::ReceiptMismatch, lied);
            event.state = State::Settled;
            (Entry::Note { id }, Outcome::Unused)
        }
        Stage::Released => {
            event.state = State::Released;
            (Entry::Note { id }, Outcome::Released)
        }
    };
    Conclusion {
        entry,
        event,
        outcome,
    }
}

/// What a receipt said was taken.
fn last_claim(event: &SpendEvent) -> Option<Amount> {
    event
        .amount_settled
        .filter(|_| event.receipt.as_deref() == Some("claimed"))
}

fn flag(event: &mut SpendEvent, which: Flag, raised: bool) {
    if raised && !event.flags.contains(&which) {
        event.flags.push(which);
    }
}
