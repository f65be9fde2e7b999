//! What the wallets hold, by the nodes of `rpc:`: for the operator. No payment waits for it or looks at it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, timeout};

use crate::chain::Chains;
use crate::clock::Clock;
use crate::config::Mark;
use crate::event::metrics::{Balance, Metrics};
use crate::event::{Notice, Sink};
use crate::money::{Amount, Asset, Network, Usd};
use crate::wallet::Wallet;

/// For all answers of one node about one wallet.
const PATIENCE: Duration = Duration::from_secs(20);

/// One asset of one wallet, which may hold some of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The operator's name for the wallet.
    pub wallet: String,
    /// Its address on this network.
    pub address: String,
    /// What, and on which network.
    pub asset: Asset,
    /// What the asset is called, so that no other of the wallet on this network is called the same.
    pub label: String,
    /// Less than this is low.
    pub low: Option<Amount>,
    /// Atomic units; or why nobody can say.
    pub held: Result<Amount, String>,
}

impl Holding {
    /// Does it hold too little? `None` where nobody can say, or nothing is too little.
    #[must_use]
    pub fn is_low(&self) -> Option<bool> {
        let held = self.held.as_ref().ok()?;
        Some(*held < self.low?)
    }
}

/// What is looked at: a wallet on one network.
struct Place {
    wallet: String,
    network: Network,
    address: String,
    assets: Vec<Asset>,
    marks: Vec<Mark>,
}

/// All wallets, and whom to ask.
pub struct Holdings {
    places: Vec<Place>,
    chains: Chains,
}

impl Holdings {
    /// These wallets, each with the marks of its place in the configuration, and the assets that have a price.
    #[must_use]
    pub fn new<'a>(
        wallets: impl Iterator<Item = (&'a Arc<dyn Wallet>, &'a [Mark])>,
        assets: &[Asset],
        chains: Chains,
    ) -> Self {
        let mut places = vec![];
        for (wallet, marks) in wallets {
            for network in wallet.networks() {
                let here = |a: &&Asset| a.network == *network;
                places.push(Place {
                    wallet: wallet.name().to_owned(),
                    network: network.clone(),
                    address: wallet.address(network).unwrap_or_default(),
                    assets: assets.iter().filter(here).cloned().collect(),
                    marks: marks.to_vec(),
                });
            }
        }
        Self { places, chains }
    }

    /// Can anybody be asked?
    #[must_use]
    pub fn can_ask(&self) -> bool {
        let known = |place: &Place| {
            let network = place.network.as_str();
            self.chains.knows(network) || self.chains.knows_cluster(network)
        };
        self.places.iter().any(known)
    }

    /// Asks for everything: one node after the other, so that none is asked much at once.
    pub async fn look(&self) -> Vec<Holding> {
        let mut all = vec![];
        for place in &self.places {
            all.extend(self.look_at(place).await);
        }
        all
    }

    async fn look_at(&self, place: &Place) -> Vec<Holding> {
        let asked = self
            .chains
            .balances(&place.network, &place.address, &place.assets);
        let all = |why: String| vec![Err(why); place.assets.len()];
        let held = match timeout(PATIENCE, asked).await {
            Ok(Ok(Some(held))) => {
                let held = held.into_iter();
                held.map(|held| held.map_err(|e| e.to_string())).collect()
            }
            Ok(Ok(None)) if place.network.is_lightning() => {
                all("what a Lightning node holds, it says itself".into())
            }
            Ok(Ok(None)) => all(format!("`rpc` has no node for {}", place.network)),
            Ok(Err(error)) => all(error.to_string()),
            Err(_) => all(format!(
                "the node for {} does not answer in time",
                place.network
            )),
        };
        let of = |(asset, held): (&Asset, _)| place.holding(asset, held);
        place.assets.iter().zip(held).map(of).collect()
    }
}

impl Place {
    fn holding(&self, asset: &Asset, held: Result<Amount, String>) -> Holding {
        let mark = |m: &&Mark| m.network == asset.network && asset.is(&m.address);
        let same = self.assets.iter().filter(|a| a.symbol == asset.symbol);
        Holding {
            wallet: self.wallet.clone(),
            address: self.address.clone(),
            label: match same.count() {
                1 => asset.symbol.clone(),
                _ => asset.address.clone(),
            },
            low: self.marks.iter().find(mark).map(|m| m.amount),
            asset: asset.clone(),
            held,
        }
    }
}

/// Who looks now and then, for the page of metrics and for who is told.
pub(super) struct Watchman {
    holdings: Holdings,
    metrics: Arc<Metrics>,
    sinks: Vec<Arc<dyn Sink>>,
    clock: Arc<dyn Clock>,
    every: Duration,
    /// Wallet, network and label of what was low at the last look that saw it.
    low: HashSet<[String; 3]>,
}

impl Watchman {
    pub(super) fn new(
        holdings: Holdings,
        metrics: Arc<Metrics>,
        sinks: Vec<Arc<dyn Sink>>,
        clock: Arc<dyn Clock>,
        every: Duration,
    ) -> Self {
        Self {
            holdings,
            metrics,
            sinks,
            clock,
            every,
            low: HashSet::new(),
        }
    }

    pub(super) async fn watch(mut self, mut drains: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.holdings.can_ask() {
            tokio::select! {
                _ = drains.wait_for(|d| *d) => return,
                _ = ticks.tick() => {}
            }
            let held = tokio::select! {
                _ = drains.wait_for(|d| *d) => return,
                held = self.holdings.look() => held,
            };
            self.metrics.hold(held.iter().map(balance).collect());
            held.iter().for_each(|h| self.tell(h));
        }
        // A part that ends is taken for one that failed.
        let _ = drains.wait_for(|d| *d).await;
    }

    /// Once for each time that it becomes low. What nobody can say changes nothing.
    fn tell(&mut self, holding: &Holding) {
        let network = &holding.asset.network;
        let key = [&holding.wallet, network.as_str(), &holding.label].map(str::to_owned);
        match (holding.is_low(), &holding.held, holding.low) {
            (Some(true), Ok(held), Some(low)) => {
                if !self.low.insert(key) {
                    return;
                }
                let whole = |amount: Amount| amount.whole(holding.asset.decimals);
                let notice = Notice::LowBalance {
                    time: self.clock.now(),
                    wallet: holding.wallet.clone(),
                    address: holding.address.clone(),
                    network: network.to_string(),
                    asset: holding.label.clone(),
                    balance: whole(*held),
                    low_balance: whole(low),
                };
                self.sinks.iter().for_each(|sink| sink.notice(&notice));
                let (wallet, asset) = (&holding.wallet, &holding.label);
                let balance = whole(*held);
                tracing::warn!(%wallet, %network, %asset, %balance, "a wallet runs out of money");
            }
            (Some(false), ..) => drop(self.low.remove(&key)),
            (Some(true) | None, ..) => {}
        }
    }
}

fn balance(holding: &Holding) -> Balance {
    let worth = |amount| holding.asset.worth(amount).unwrap_or(Usd(u64::MAX));
    Balance {
        wallet: holding.wallet.clone(),
        network: holding.asset.network.to_string(),
        asset: holding.label.clone(),
        held: holding.held.as_ref().ok().copied().map(worth),
        low: holding.low.map(worth),
    }
}
