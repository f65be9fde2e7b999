//! What the ledger remembers and a decision rests on, and what a decision asks of the ledger in return.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::evm::Address;
use crate::money::{Network, Usd};
use crate::payment::{Limit, Requirement};
use crate::settings::{Percent, Rate};

/// What is remembered of one merchant and one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Since when this host was paid.
    pub merchant: Option<Timestamp>,
    /// The recipient first seen on each network, by CAIP-2.
    pub payees: BTreeMap<String, String>,
    /// The lowest price that was paid on this route.
    pub price: Option<Usd>,
}

impl Known {
    /// The recipient first seen on a network.
    #[must_use]
    pub fn payee(&self, network: &Network) -> Option<&str> {
        self.payees.get(network.as_str()).map(|p| &**p)
    }

    /// Is this further above the lowest price than so many hundredths of it?
    #[must_use]
    pub fn rose(&self, price: Option<Usd>, increase: Percent) -> bool {
        match (self.price, price) {
            (Some(lowest), Some(price)) => price.0 > increase.above(lowest.0),
            (None, _) | (_, None) => false,
        }
    }
}

/// One spelling per recipient: EVM addresses in lower case, everything else as written. Of several the
/// payee first, then who shares, each once: who gets how much may change, who gets anything may not.
#[must_use]
pub fn payee_text(requirement: &Requirement) -> String {
    let text = |payee: &str| plain_payee(&requirement.network, payee);
    let payee = text(&requirement.pay_to);
    let others: BTreeSet<_> = requirement.splits.iter().map(|s| text(&s.pay_to)).collect();
    others
        .into_iter()
        .fold(payee, |all, other| all + "+" + &other)
}

/// The one spelling of one recipient.
#[must_use]
pub fn plain_payee(network: &Network, payee: &str) -> String {
    match payee.parse::<Address>() {
        Ok(_) if network.namespace() == "eip155" => payee.to_ascii_lowercase(),
        Ok(_) | Err(_) => payee.to_owned(),
    }
}

/// What a permission to pay asks of the ledger and of people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Duties {
    /// Limits that the ledger must keep, besides the session's.
    pub limits: Vec<Limit>,
    /// Rates that are among the limits, by account, for a first look without the ledger.
    pub rates: Vec<(String, Rate)>,
    /// When to tell the operator that a budget runs out.
    pub warnings: Vec<Warning>,
    /// The recipient must be the first seen, or becomes it.
    pub payee: Option<String>,
    /// The price is remembered; with a percentage it is also held against the lowest one.
    pub price: Option<Option<Percent>>,
    /// A person must agree.
    pub consent: Option<Consent>,
    /// A person may have been asked before, whether or not one must be now; how long a request waits for the answer.
    pub asks: Option<Duration>,
    /// Pay, but tell that it is not the recipient first seen.
    pub recipient_changed: bool,
    /// Pay, but tell that the price rose: above what a person need not be asked about, or where no term bounds it.
    pub price_changed: bool,
    /// Pay, but tell that the merchant's offers are not signed by its keys.
    pub offer_unsigned: bool,
}

/// Tell the operator when what counts in an account reaches this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The account of one of the limits.
    pub account: String,
    /// From this sum on.
    pub amount: Usd,
    /// From this number of payments on.
    pub payments: Option<u32>,
    /// In hundredths of the limit, as the operator wrote it.
    pub at: Percent,
}

/// What a person is asked, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// Why: `above`, `first_host`, `new_payee`, `price_increase`.
    pub because: Vec<&'static str>,
    /// How long the request waits for the answer.
    pub wait: Duration,
    /// How long question and answer stand.
    pub valid: Duration,
}

impl Consent {
    /// Was a person asked about this?
    #[must_use]
    pub fn is_about(&self, what: &str) -> bool {
        self.because.contains(&what)
    }
}
