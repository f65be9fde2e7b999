//! Offers that a merchant might make, for a question that has none.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::evm::{Address, is_tip20};
use crate::money::{Amount, Asset, Network, Usd};
use crate::payment::{Offer, Requirement, Signed};

use super::Facts;
use super::trial::Question;

/// Schemes that may be asked about. Of `upto` the amount is the maximum, of `l402` that of the invoice;
/// `evm/charge` and `tempo/charge` are MPP's, the latter with a fee payer.
pub(super) const SCHEMES: [&str; 5] = ["exact", "upto", "evm/charge", "tempo/charge", "l402"];

/// An address that nobody is known to own, for a question that names no recipient.
const SOMEBODY: &str = "0x1111111111111111111111111111111111111111";

/// The same on Solana: 32 bytes of 17, which are a point of the curve.
const SOMEBODY_ON_SOLANA: &str = "29d2S7vB453rNYFdR5Ycwt7y9haRT5fwVwL9zTmBhfV2";

/// A node that nobody is known to run.
const SOME_NODE: &str = "021111111111111111111111111111111111111111111111111111111111111111";

/// Is this a recipient that was made up for a question without one?
#[must_use]
pub fn is_nobody(pay_to: &str) -> bool {
    [SOMEBODY, SOMEBODY_ON_SOLANA, SOME_NODE].contains(&pay_to)
}

/// One way to pay that a merchant might offer. Written `evm/charge`, or with a price of its own
/// `evm/charge=0.01 USD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supposed {
    /// By which scheme.
    pub scheme: &'static str,
    /// At which price. That of the question, if not said.
    pub amount: Option<Usd>,
}

/// Why a text is no such way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSupposed {
    /// No scheme that is known.
    #[error("write one of {}, and a price behind it if you like: exact=\"0.01 USD\"", SCHEMES.join(", "))]
    Scheme,
    /// A price that cannot be read.
    #[error("the price behind the scheme cannot be read: {0}")]
    Price(String),
}

impl Supposed {
    /// By a scheme, at the price of the question.
    #[must_use]
    pub(super) fn by(scheme: &'static str) -> Self {
        let amount = None;
        Self { scheme, amount }
    }
}

impl FromStr for Supposed {
    type Err = NotSupposed;

    fn from_str(text: &str) -> Result<Self, NotSupposed> {
        let (name, price) = match text.split_once('=') {
            Some((name, price)) => (name, Some(price)),
            None => (text, None),
        };
        let scheme = SCHEMES.into_iter().find(|s| *s == name);
        let read = |price: &str| {
            let price = price.trim().parse::<Usd>();
            price.map_err(|e| NotSupposed::Price(e.to_string()))
        };
        Ok(Self {
            scheme: scheme.ok_or(NotSupposed::Scheme)?,
            amount: price.map(read).transpose()?,
        })
    }
}

impl fmt::Display for Supposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.amount {
            Some(amount) => write!(f, "{}={amount}", self.scheme),
            None => f.write_str(self.scheme),
        }
    }
}

/// Offers that fit the question, and otherwise are as ordinary as can be. None without any asset.
pub(super) fn all(
    assets: &[Asset],
    question: &Question,
    payees: &[String],
    facts: &Facts,
) -> Vec<Requirement> {
    let usual = [Supposed::by("exact")];
    let offers = match &*question.offers {
        [] => &usual[..],
        offers => offers,
    };
    let one = |offer: &Supposed| assume(assets, question, offer, payees, facts);
    offers.iter().filter_map(one).collect()
}

fn assume(
    assets: &[Asset],
    question: &Question,
    offer: &Supposed,
    payees: &[String],
    facts: &Facts,
) -> Option<Requirement> {
    let lightning = offer.scheme == "l402";
    let tempo = offer.scheme == "tempo/charge";
    let named = |a: &&Asset| match &question.asset {
        Some(name) => a.symbol == *name || a.is(name),
        None if tempo => is_tempo(a),
        None => a.eip3009 || lightning || a.token_program.is_some(),
    };
    let mut payers = facts.payers.iter().map(|(network, _)| network);
    let on_tempo = |n: &Network| assets.iter().any(|a| a.network == *n && is_tempo(a));
    let fits = |n: &&Network| (!lightning || n.is_lightning()) && (!tempo || on_tempo(n));
    let wallets = || payers.find(fits);
    let network = question.network.as_ref().or_else(wallets);
    let here = |a: &&Asset| network.is_none_or(|n| *n == a.network);
    let asset = assets.iter().filter(here).find(named);
    let unlisted = || question.asset.clone().unwrap_or_default();
    let network = network.or(asset.or(assets.first()).map(|a| &a.network))?;
    let scheme = offer.scheme;
    let mpp = tempo || scheme == "evm/charge";
    let permit2 = scheme == "upto" || !mpp && asset.is_some_and(|a| !a.eip3009);
    let solana = network.is_solana();
    let somebody = match (lightning, solana) {
        (true, _) => SOME_NODE,
        (false, true) => SOMEBODY_ON_SOLANA,
        (false, false) => SOMEBODY,
    };
    let payee = || of_network(payees, network);
    let pay_to = question.pay_to.as_deref().or_else(payee);
    Some(Requirement {
        protocol: match scheme {
            "evm/charge" | "tempo/charge" => "mpp",
            "l402" => "l402",
            _ => "x402-v2",
        },
        scheme: scheme.into(),
        network: network.clone(),
        asset: asset.map_or_else(unlisted, |a| a.address.clone()),
        amount: asset.map_or(Amount(1), |a| atoms(a, offer.amount.or(question.amount))),
        pay_to: pay_to.unwrap_or(somebody).into(),
        valid_for: 60,
        expires: None,
        transfer_method: match permit2 {
            _ if lightning => "lightning".into(),
            _ if solana => "transfer".into(),
            _ if tempo => "tip20".into(),
            true => "permit2".into(),
            false => "eip3009".into(),
        },
        facilitator: (scheme == "upto").then(|| SOMEBODY.into()),
        splits: vec![],
        own_fee: false,
        resource: None,
        mime_type: None,
        offer: Arc::new(Offer {
            signed: Signed::Supposed,
            ..Offer::default()
        }),
    })
}

/// The first recipient that could be one of this network.
fn of_network<'a>(payees: &'a [String], network: &Network) -> Option<&'a str> {
    let evm = network.namespace() == "eip155";
    let here = |payee: &&String| payee.starts_with("0x") == evm;
    payees.iter().find(here).map(|payee| &**payee)
}

/// Is it a token of Tempo?
fn is_tempo(asset: &Asset) -> bool {
    Address::from_hex(&asset.address).is_ok_and(is_tip20)
}

/// The smallest amount that is worth so much.
fn atoms(asset: &Asset, price: Option<Usd>) -> Amount {
    let scale = 10u128.checked_pow(u32::from(asset.decimals));
    let amount = price
        .zip(scale)
        .and_then(|(price, scale)| u128::from(price.0).checked_mul(scale))
        .map(|product| product.div_ceil(u128::from(asset.unit.0).max(1)));
    Amount(amount.unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_written_as_it_is_read() {
        for text in [
            "exact",
            "upto",
            "l402",
            "tempo/charge",
            "evm/charge=0.01 USD",
        ] {
            assert_eq!(text.parse::<Supposed>().unwrap().to_string(), text);
        }
        let unknown = "stripe/charge".parse::<Supposed>();
        assert_eq!(unknown, Err(NotSupposed::Scheme));
        let priceless = "exact=much".parse::<Supposed>();
        assert!(
            matches!(priceless, Err(NotSupposed::Price(_))),
            "{priceless:?}"
        );
    }
}
