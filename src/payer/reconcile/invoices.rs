//! Payments that a wallet makes itself, by the word of that wallet: a preimage proves one, and only the node
//! that was asked knows that it never will be made.

use std::sync::Arc;

use super::conclude::Conclusion;
use super::finding::without;
use super::{Finding, Outcome, Pass, Reconciler, conclude};
use crate::budget::{Because, Entry, Payment, Stage};
use crate::clock::Timestamp;
use crate::event::{Flag, PREIMAGE, SpendEvent, State};
use crate::ledger::PostError;
use crate::money::Amount;
use crate::payer::endings::Endings;
use crate::payment::Nonce;
use crate::wallet::{Standing, Wallet};

/// Reason of a payment that its wallet says came to nothing.
const FAILED: &str = "payment_failed";

/// Reason of a payment that its wallet did not know when nobody could pay it any more. It may be another
/// node's word than the one that was asked to pay, so whoever asks again is answered anew.
const UNKNOWN: &str = "payment_unknown";

/// What is said of a wallet that does not answer.
const SILENT: &str = "no answer";

impl Reconciler {
    /// The wallet that was asked for this payment, and the hash it knows it by.
    pub(super) fn node(
        &self,
        payment: &Payment,
        event: &SpendEvent,
    ) -> Option<(Arc<dyn Wallet>, Nonce)> {
        let mut words = payment.nonce.split(' ');
        if words.next()? != "invoice" || words.next()? != event.network {
            return None;
        }
        let mut hash = [0; 32];
        hex::decode_to_slice(words.nth(1)?.strip_prefix("0x")?, &mut hash).ok()?;
        let mut wallets = self.wallets.iter().filter(|w| w.pays_itself());
        let wallet = wallets.find(|w| w.name() == event.wallet)?;
        Some((Arc::clone(wallet), Nonce(hash)))
    }

    /// Is a wallet of that name asked what became of its payments?
    pub(super) fn pays_itself(&self, name: &str) -> bool {
        let mut wallets = self.wallets.iter();
        wallets.any(|w| w.name() == name && w.pays_itself())
    }
}

impl Pass<'_> {
    /// What the wallet says of one payment, recorded.
    pub(super) async fn look_at_node(
        &mut self,
        payment: &Payment,
        last: &SpendEvent,
        wallet: Arc<dyn Wallet>,
        hash: Nonce,
    ) -> Result<Finding, PostError> {
        let house = self.house;
        if !last.awaits_chain()
            || payment.stage == Stage::Released && last.reason.as_deref() == Some(FAILED)
        {
            return Ok(conclude::again(last));
        }
        if house.under_way(payment, last) {
            let why = "its request may still be under way";
            return Ok(without(last, Outcome::Undecided, why));
        }
        if self.wallets.contains(wallet.name()) {
            return Ok(without(last, Outcome::Unanswered, SILENT));
        }
        let standing = wallet.standing(hash).await;
        if standing == Some(Standing::Silent) {
            self.wallets.insert(wallet.name().to_owned());
        }
        let id = last.id;
        let _turn = house.endings.close(Endings::share(id)).await;
        house.ledger.flush().await?;
        if house.ledger.booked(id).await?.as_ref() != Some(&(payment.clone(), last.clone())) {
            let why = "it went on while its wallet was asked";
            return Ok(without(last, Outcome::Undecided, why));
        }
        let (now, surely) = (house.clock.now(), house.surely());
        match follows(payment, last, standing, now, surely) {
            Ok(conclusion) => house.record(last, conclusion).await,
            Err(finding) => Ok(*finding),
        }
    }
}

/// What follows from the wallet's word. Nothing but a preimage settles; nothing but its end releases.
fn follows(
    payment: &Payment,
    last: &SpendEvent,
    standing: Option<Standing>,
    now: Timestamp,
    surely: Timestamp,
) -> Result<Conclusion, Box<Finding>> {
    let open = |outcome, why: &str| Err(Box::new(without(last, outcome, why)));
    let event = SpendEvent {
        time: now,
        latency_ms: None,
        ..last.clone()
    };
    match (standing, payment.stage) {
        (Some(Standing::Made { fee_msat }), _) => Ok(made(payment, event, fee_msat)),
        (Some(Standing::Failed), Stage::Reserved) => {
            Ok(released(event, Because::NeverSigned, FAILED))
        }
        // Nobody has heard of it, and by now nobody would pay its invoice.
        (Some(Standing::Missing), Stage::Reserved) if surely >= payment.until => {
            Ok(released(event, Because::Expired { now: surely }, UNKNOWN))
        }
        (Some(Standing::Failed | Standing::Missing), Stage::Released) => {
            open(Outcome::Released, "the wallet did not make it")
        }
        (Some(Standing::Pending), _) => open(Outcome::Undecided, "it is still on its way"),
        (Some(Standing::Silent), _) => open(Outcome::Unanswered, SILENT),
        (Some(Standing::Unanswered(why)), _) => open(Outcome::Unanswered, &why),
        (Some(Standing::Missing), Stage::Reserved | Stage::Settled) => {
            open(Outcome::Undecided, "its wallet does not know it")
        }
        (Some(Standing::Failed), Stage::Settled) => open(
            Outcome::Undecided,
            "its wallet says that it failed, but it was settled",
        ),
        (None, _) => open(Outcome::NotAsked, "its wallet cannot be asked"),
    }
}

/// It counts in full: what of the fee was not needed is known only while a payment is made.
fn made(payment: &Payment, mut event: SpendEvent, fee_msat: Option<u64>) -> Conclusion {
    let id = event.id;
    let fee = fee_msat.map(u128::from);
    let taken = event
        .amount
        .zip(fee)
        .and_then(|(a, fee)| a.0.checked_add(fee));
    event.amount_settled = taken.map(Amount);
    event.confirmed = true;
    event.receipt = Some(PREIMAGE.into());
    event.reason = Some("proven_by_preimage".into());
    event.state = State::Settled;
    event.charged = Some(payment.amount);
    let charged = payment.amount;
    let (entry, outcome) = match payment.stage {
        Stage::Reserved => (Entry::Settle { id, charged }, Outcome::Confirmed),
        Stage::Settled => {
            event.charged = event.charged.or(event.price);
            (Entry::Note { id }, Outcome::Confirmed)
        }
        Stage::Released => {
            if !event.flags.contains(&Flag::TakenAfterRelease) {
                event.flags.push(Flag::TakenAfterRelease);
            }
            event.charged = event.price;
            let charged = event.price.unwrap_or_default();
            (Entry::Recount { id, charged }, Outcome::Recounted)
        }
    };
    Conclusion {
        entry,
        event,
        outcome,
    }
}

fn released(mut event: SpendEvent, because: Because, reason: &str) -> Conclusion {
    let id = event.id;
    event.state = State::Released;
    event.charged = None;
    event.reason = Some(reason.into());
    Conclusion {
        entry: Entry::Release { id, because },
        event,
        outcome: Outcome::Released,
    }
}
