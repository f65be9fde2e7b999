//! Payments on Solana: found by the hash of the message that was signed. Found, they are confirmed; not found,
//! they stay as they are, because no cluster proves that a transaction never was.

use tokio::time::timeout;

use super::finding::without;
use super::{DEADLINE, Finding, Outcome, Pass, conclude};
use crate::budget::Payment;
use crate::chain::{Sent, Sight};
use crate::event::SpendEvent;
use crate::ledger::PostError;
use crate::money::Network;

/// Seconds past its end for which a transaction is looked for: nodes are late now and then.
const LOOK_ON: u64 = 900;

/// What was signed, from what the book is kept under: wallet, network, asset and nonce.
pub(super) fn sent(payment: &Payment, event: &SpendEvent) -> Option<Sent> {
    let mut words = payment.nonce.split(' ');
    let (owner, network, _mint) = (words.next()?, words.next()?, words.next()?);
    let nonce = words.next()?.strip_prefix("0x")?;
    let network: Network = network.parse().ok()?;
    if words.next().is_some() || !network.is_solana() || network.as_str() != event.network {
        return None;
    }
    let mut id = [0; 32];
    hex::decode_to_slice(nonce, &mut id).ok()?;
    Some(Sent {
        owner: owner.to_owned(),
        id,
        amount: event.amount?.0,
        since: event.id.made().secs(),
        until: event.valid_before?,
        claimed: event.transaction.clone(),
    })
}

impl Pass<'_> {
    /// What its cluster shows of one payment, recorded.
    pub(super) async fn look_at_cluster(
        &mut self,
        payment: &Payment,
        last: &SpendEvent,
        sent: Sent,
    ) -> Result<Finding, PostError> {
        let house = self.house;
        if !last.awaits_chain() {
            return Ok(conclude::again(last));
        }
        if house.under_way(payment, last) {
            let why = "its request may still be under way";
            return Ok(without(last, Outcome::Undecided, why));
        }
        let unanswered = |why: String| Ok(without(last, Outcome::Unanswered, why));
        if let Some(error) = self.clusters.get(&last.network) {
            return unanswered(error.to_string());
        }
        match timeout(DEADLINE, house.chains.find(&last.network, &sent)).await {
            Ok(Ok(Some(Some(found)))) => house.book(payment, last, Sight::Taken(found)).await,
            Ok(Ok(Some(None))) => {
                let end = sent.until.saturating_add(LOOK_ON);
                let (outcome, why) = match house.surely().secs() < end {
                    true => (Outcome::Undecided, "its transaction is not found yet"),
                    false => (
                        Outcome::NotAsked,
                        "its transaction is not found, which proves nothing",
                    ),
                };
                Ok(without(last, outcome, why))
            }
            Ok(Ok(None)) => {
                let network = &last.network;
                let why = format!("`rpc` of the configuration has no node for {network}");
                Ok(without(last, Outcome::NotAsked, why))
            }
            Ok(Err(error)) => {
                let why = error.to_string();
                if error.is_silence() {
                    self.clusters.insert(last.network.clone(), error);
                }
                unanswered(why)
            }
            Err(_) => unanswered("no answer in time".to_owned()),
        }
    }
}
