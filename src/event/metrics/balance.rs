//! What wallets hold, as somebody saw it last. Labels are the operator's: wallets, and assets that have a price.

use std::sync::{Mutex, PoisonError};

use super::{Family, Page, dollars};
use crate::money::Usd;

const LABELS: &[&str] = &["wallet", "network", "asset"];

pub(super) const HELD: Family = Family::gauge(
    "farepass_wallet_balance_usd",
    LABELS,
    "What a wallet holds of an asset, in US dollars by its fixed price; missing while nobody can say.",
);
pub(super) const LOW: Family = Family::gauge(
    "farepass_wallet_low_balance_usd",
    LABELS,
    "Its `low_balance`, in US dollars by the same price.",
);
pub(super) const KNOWN: Family = Family::gauge(
    "farepass_wallet_balance_known",
    LABELS,
    "1 when a node said it at the last look, 0 when none did.",
);

/// One asset of one wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// The operator's name for it.
    pub wallet: String,
    /// The chain.
    pub network: String,
    /// The asset: different for each of them.
    pub asset: String,
    /// What it holds; `None` when nobody can say.
    pub held: Option<Usd>,
    /// What is low, if anything is.
    pub low: Option<Usd>,
}

#[derive(Default)]
pub(super) struct Balances(Mutex<Vec<Balance>>);

impl Balances {
    pub(super) fn put(&self, balances: Vec<Balance>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = balances;
    }

    pub(super) fn render(&self, page: &mut Page) {
        let balances = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (family, of) in [
            (&HELD, (|b| b.held) as fn(&Balance) -> Option<Usd>),
            (&LOW, |b| b.low),
        ] {
            page.family(family);
            for balance in balances.iter() {
                if let Some(usd) = of(balance) {
                    page.sample(family, &labels(balance), dollars(usd));
                }
            }
        }
        page.family(&KNOWN);
        for balance in balances.iter() {
            let known = u8::from(balance.held.is_some());
            page.sample(&KNOWN, &labels(balance), known);
        }
    }
}

fn labels(balance: &Balance) -> [&str; 3] {
    [&balance.wallet, &balance.network, &balance.asset]
}
