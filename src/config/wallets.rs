//! `wallets:`: who signs. Their own keys are read by the wallets, when they are opened.

use std::path::{Path, PathBuf};

use crate::fetch::Fetch;
use crate::money::{Amount, Asset, Network};
use crate::section::{Problems, Section, SectionError};
use crate::settings;
use crate::wallet::{self, Opening};

/// A wallet that is not yet opened.
#[derive(Clone, Debug)]
pub struct WalletEntry {
    /// The operator's name for it.
    pub name: String,
    /// The word after `kind:`.
    pub kind: String,
    /// The networks it may pay on: a closed list.
    pub networks: Vec<Network>,
    /// Its other keys.
    pub section: Section,
    /// Below how much of an asset the operator is told.
    pub low_balance: Vec<Mark>,
    /// The same, before it is known which assets there are.
    written: Option<Section>,
    /// Folder that relative paths start from.
    pub base: PathBuf,
}

/// A low mark of one asset on one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The network.
    pub network: Network,
    /// The asset's address there.
    pub address: String,
    /// Atomic units; less than this is low.
    pub amount: Amount,
}

/// `low_balance:`, an amount for each asset on each network of the wallet that has it.
fn marks(
    section: Section,
    networks: &[Network],
    assets: &[Asset],
    problems: &mut Problems,
) -> Vec<Mark> {
    let entries = problems.keep(section.entries());
    let mut all = vec![];
    for (symbol, section) in entries.unwrap_or_default() {
        if let Some(marks) = problems.keep(mark(&symbol, section, networks, assets)) {
            all.extend(marks);
        }
    }
    all
}

fn mark(
    symbol: &str,
    section: Section,
    networks: &[Network],
    assets: &[Asset],
) -> Result<Vec<Mark>, SectionError> {
    let held = assets.iter().filter(|a| networks.contains(&a.network));
    let meant: Vec<&Asset> = held.clone().filter(|a| a.symbol == symbol).collect();
    if meant.is_empty() {
        let shown = symbol.escape_debug();
        let error = section.error(format!("no network of this wallet has an asset `{shown}`"));
        let near = held.clone().map(|a| a.symbol.as_str());
        return Err(error.hint_words(&symbol.to_ascii_uppercase(), near));
    }
    let text = section.clone().text()?;
    let mark = |asset: &Asset| {
        let amount = Amount::of_whole(&text, asset.decimals).filter(|a| a.0 > 0);
        let mark = amount.map(|amount| Mark {
            network: asset.network.clone(),
            address: asset.address.clone(),
            amount,
        });
        let most = asset.decimals;
        mark.ok_or_else(|| {
            let what =
                format!("more than 0 of {symbol}, as \"5.00\", with at most {most} decimals");
            section.expected(&what)
        })
    };
    meant.into_iter().map(mark).collect()
}

/// Warns of networks that a rule names and no wallet pays on.
pub(super) fn unpaid(rules: Option<Section>, wallets: &[WalletEntry]) -> Vec<SectionError> {
    let paid = |network: &Network| wallets.iter().any(|w| w.networks.contains(network));
    let named = |rule: Section| rule.peek("pay")?.peek("networks")?.items().ok();
    let rules = rules.and_then(|rules| rules.items().ok());
    let named = rules.into_iter().flatten().filter_map(named).flatten();
    let unpaid = named.filter_map(|item| {
        let network = settings::network(item.clone()).ok()?;
        let error = item.error(format!("no wallet pays on `{network}`"));
        (!wallets.is_empty() && !paid(&network))
            .then(|| error.hint("add it to the `networks` of a wallet"))
    });
    unpaid.collect()
}

/// Reads the low marks, which need to know the assets.
pub(super) fn marked(
    wallets: &mut [WalletEntry],
    (assets, rpc): (&[Asset], &[super::RpcEntry]),
    problems: &mut Problems,
) -> Vec<SectionError> {
    let mut warnings = vec![];
    for wallet in wallets {
        let Some(section) = wallet.written.take() else {
            continue;
        };
        let place = section.clone();
        wallet.low_balance = marks(section, &wallet.networks, assets, problems);
        let asked = |mark: &&Mark| rpc.iter().any(|entry| entry.network == mark.network);
        if let Some(Mark { network, .. }) = wallet.low_balance.iter().find(|m| !asked(m)) {
            let problem = format!("nobody is asked what the wallet holds on `{network}`");
            let hint = format!("add rpc: {{ \"{network}\": \"https://…\" }}");
            warnings.push(place.error(problem).hint(hint));
        }
    }
    warnings
}

impl WalletEntry {
    /// What the wallet is opened with. Without a way to ask, remote ones can be looked at only.
    #[must_use]
    pub fn opening(&self, fetch: Option<Fetch>) -> Opening {
        Opening {
            section: self.section.clone(),
            name: self.name.clone(),
            networks: self.networks.clone(),
            base: self.base.clone(),
            fetch,
        }
    }
}

/// Reads the list. Two wallets of one name could not be told apart in the ledger.
pub(super) fn read(
    section: Option<Section>,
    base: &Path,
    problems: &mut Problems,
) -> Vec<WalletEntry> {
    let items = problems.keep(section.map_or(Ok(vec![]), Section::items));
    let mut wallets: Vec<WalletEntry> = vec![];
    for item in items.unwrap_or_default() {
        let place = item.clone();
        let Some(wallet) = problems.keep(entry(item, base)) else {
            continue;
        };
        if wallets.iter().any(|w| w.name == wallet.name) {
            problems.push(place.error(format!("two wallets are called `{}`", wallet.name)));
        }
        wallets.push(wallet);
    }
    wallets
}

/// What wallets price themselves. A payment has one price, whichever wallet makes it.
pub(super) fn assets(wallets: &[WalletEntry], problems: &mut Problems) -> Vec<Asset> {
    let mut all: Vec<Asset> = vec![];
    for wallet in wallets {
        for asset in wallet::assets(&wallet.kind, &wallet.section, &wallet.networks) {
            let known = all.iter().find(|a| a.network == asset.network);
            match known.map(|known| *known == asset) {
                None => all.push(asset),
                Some(true) => {}
                Some(false) => problems.push(wallet.section.error(format!(
                    "two wallets on `{}` differ in `usd_per_btc` or in what a fee may be",
                    asset.network
                ))),
            }
        }
    }
    all
}

/// Is it on another kind of chain than the first network of the list?
fn strange(networks: &[Network], network: &Network) -> bool {
    let first = networks.first();
    first.is_some_and(|first| first.namespace() != network.namespace())
}

/// Solana transactions name a recent block, which a node must be asked for.
pub(super) fn unasked(wallets: &[WalletEntry], rpc: &[super::RpcEntry], problems: &mut Problems) {
    for wallet in wallets {
        let asked = |network: &Network| rpc.iter().any(|r| r.network == *network);
        let mut networks = wallet.networks.iter();
        if let Some(network) = networks.find(|n| n.is_solana() && !asked(n)) {
            let error = wallet.section.error(format!(
                "it pays on `{network}`, where every payment names a recent block, and `rpc` has no node for it"
            ));
            problems.push(error.hint(format!("add rpc: {{ \"{network}\": \"https://…\" }}")));
        }
    }
}

fn entry(mut section: Section, base: &Path) -> Result<WalletEntry, SectionError> {
    let name = settings::name(section.need("name")?)?;
    let kind = section.need("kind")?.text()?;
    let listed = section.need("networks")?;
    let place = listed.clone();
    let networks = listed.list(settings::network)?;
    if networks.is_empty() {
        let error = place.error("the list of networks is empty, so the wallet never pays");
        return Err(error.hint("for example [\"eip155:84532\"], a test network"));
    }
    if let Some(other) = networks
        .iter()
        .find(|n| n.is_lightning() != wallet::pays_itself(&kind))
    {
        let error = place.error(format!(
            "a wallet of kind `{kind}` does not pay on `{other}`"
        ));
        return Err(match other.is_lightning() {
            true => error.hint("wallets of kind `lightning` do"),
            false => error.hint("it pays on `lightning`, and on `lightning:regtest` and the like"),
        });
    }
    if let (Some(one), Some(other)) = (
        networks.first(),
        networks.iter().find(|n| strange(&networks, n)),
    ) {
        let error = place.error(format!(
            "`{one}` and `{other}` are paid with keys of different curves, so one wallet cannot pay on both"
        ));
        return Err(error.hint("write two wallets, one for each"));
    }
    let held_on_chain = !wallet::pays_itself(&kind);
    let written = held_on_chain.then(|| section.take("low_balance")).flatten();
    wallet::check(&kind, section.clone())?;
    Ok(WalletEntry {
        name,
        kind,
        networks,
        section,
        written,
        low_balance: vec![],
        base: base.to_path_buf(),
    })
}
