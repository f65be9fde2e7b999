//! Looks at one payment after the other, and what they share.

use std::collections::{HashMap, HashSet};

use tokio::time::timeout;

use super::finding::without;
use super::{DEADLINE, Finding, Outcome, Reconciler, clusters, conclude};
use crate::budget::Payment;
use crate::chain::{Authorization, ChainError, Keeper, Sight, View};
use crate::event::SpendEvent;
use crate::evm::{Address, Charge};
use crate::ledger::PostError;
use crate::payment::PaymentId;

/// Looks that share what they know of each chain. Whoever is silent is not waited for again and again.
pub struct Pass<'a> {
    pub(super) house: &'a Reconciler,
    views: HashMap<String, Result<Option<View>, ChainError>>,
    /// Clusters that were silent, by network.
    pub(super) clusters: HashMap<String, ChainError>,
    /// Wallets that were silent, by name.
    pub(super) wallets: HashSet<String>,
}

impl<'a> Pass<'a> {
    pub(super) fn of(house: &'a Reconciler) -> Self {
        Self {
            house,
            views: HashMap::new(),
            clusters: HashMap::new(),
            wallets: HashSet::new(),
        }
    }

    /// What a chain shows of one payment, recorded.
    ///
    /// # Errors
    /// When the ledger cannot be read or written, or has no such payment.
    pub async fn look(&mut self, id: PaymentId) -> Result<Finding, PostError> {
        let house = self.house;
        let no_payment = PostError::Rejected(crate::budget::Reject::NoSuchPayment);
        let (payment, last) = house.ledger.booked(id).await?.ok_or(no_payment)?;
        if let Some((wallet, hash)) = house.node(&payment, &last) {
            return self.look_at_node(&payment, &last, wallet, hash).await;
        }
        if let Some(sent) = clusters::sent(&payment, &last) {
            return self.look_at_cluster(&payment, &last, sent).await;
        }
        let Some(about) = authorization(&payment, &last) else {
            return Ok(without(
                &last,
                Outcome::NotAsked,
                "it is no transfer on a chain that can be asked",
            ));
        };
        if !last.awaits_chain() {
            return Ok(conclude::again(&last));
        }
        if house.under_way(&payment, &last) {
            return Ok(without(
                &last,
                Outcome::Undecided,
                "its request may still be under way",
            ));
        }
        let sight = match timeout(DEADLINE, self.sight(&last.network, &about)).await {
            Ok(Ok(Some(Sight::Unseen))) => {
                let why = "no log of its network tells of it, and nothing more can be asked";
                return Ok(without(&last, Outcome::Unseen, why));
            }
            Ok(Ok(Some(sight))) => sight,
            Ok(Ok(None)) => {
                let why = format!(
                    "`rpc` of the configuration has no node for {}",
                    last.network
                );
                return Ok(without(&last, Outcome::NotAsked, why));
            }
            Ok(Err(error)) => return Ok(without(&last, Outcome::Unanswered, error.to_string())),
            Err(_) => return Ok(without(&last, Outcome::Unanswered, "no answer in time")),
        };
        house.book(&payment, &last, sight).await
    }

    pub(super) async fn sight(
        &mut self,
        network: &str,
        about: &Authorization,
    ) -> Result<Option<Sight>, ChainError> {
        if !self.views.contains_key(network) {
            let view = self.house.chains.view(network).await;
            self.views.insert(network.to_owned(), view);
        }
        let view = match self.views.get(network) {
            Some(Ok(Some(view))) => view,
            Some(Ok(None)) | None => return Ok(None),
            Some(Err(error)) => return Err(error.clone()),
        };
        let sight = view.look(about).await;
        // Any other error may be about this one payment, and a merchant's doing.
        if let Err(error) = &sight
            && error.is_silence()
        {
            self.views.insert(network.to_owned(), Err(error.clone()));
        }
        sight.map(Some)
    }
}

/// What was signed, from what the book is kept under: wallet, network, asset and nonce.
pub(super) fn authorization(payment: &Payment, event: &SpendEvent) -> Option<Authorization> {
    let mut words = payment.nonce.split(' ');
    let (from, network, token) = (words.next()?, words.next()?, words.next()?);
    let nonce = words.next()?.strip_prefix("0x")?;
    // The facilitator is in no record that is kept here, and makes no difference to what is looked for.
    let facilitator = Address::default();
    let keeper = match (words.next(), &*event.scheme) {
        (None, "exact" | "evm/charge") => Keeper::Token,
        (Some("tempo"), "tempo/charge") => Keeper::Memo,
        (Some("permit2"), "exact") => Keeper::Permit2(Charge::Whole),
        (Some("permit2"), "upto") => Keeper::Permit2(Charge::UpTo { facilitator }),
        _ => return None,
    };
    if words.next().is_some() || network != event.network {
        return None;
    }
    let mut bytes = [0; 32];
    hex::decode_to_slice(nonce, &mut bytes).ok()?;
    Some(Authorization {
        keeper,
        token: Address::from_hex(token).ok()?,
        from: Address::from_hex(from).ok()?,
        to: Address::from_hex(&event.pay_to).ok()?,
        value: event.amount?.0,
        nonce: bytes,
        since: event.id.made().secs(),
        valid_before: event.valid_before?,
        claimed: event.transaction.clone(),
    })
}
