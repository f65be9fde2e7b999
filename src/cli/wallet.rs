//! `farepass wallet`: who pays, and what it holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::table::{Table, width};
use super::{Command, Exit, Failure, Terminal, setup};
use crate::app::{self, Holding, Holdings};
use crate::config::{Config, WalletEntry};
use crate::money::Amount;
use crate::wallet;

/// Who pays, and what it holds
#[derive(Debug, clap::Args)]
pub(super) struct Wallet {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    List(List),
}

/// Every wallet with its address and its balance on each network
///
/// Balances are asked of the nodes of `rpc:`; without one they are unknown, and paying needs none. `LOW`
/// marks what is below `low_balance`. Gas is left out: whoever settles pays it.
#[derive(Debug, clap::Args)]
struct List {
    /// As JSON: atomic units, and whole ones
    #[arg(long)]
    json: bool,
}

impl Command for Wallet {
    const NAME: &'static str = "wallet";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let config = setup::config(terminal)?;
        match self.action {
            Action::List(list) => list.run(&config, terminal),
        }
    }
}

/// One wallet, as far as it could be opened.
#[derive(serde::Serialize)]
struct Row {
    name: String,
    kind: String,
    /// Why it cannot be opened.
    problem: Option<String>,
    networks: Vec<Place>,
}

#[derive(serde::Serialize)]
struct Place {
    network: String,
    address: Option<String>,
    balances: Vec<Held>,
}

#[derive(serde::Serialize)]
struct Held {
    asset: String,
    address: String,
    /// Atomic units; null when nobody can say.
    amount: Option<Amount>,
    /// The same in whole units.
    balance: Option<String>,
    low_balance: Option<String>,
    low: Option<bool>,
    /// Why nobody can say.
    unknown: Option<String>,
}

impl Held {
    fn of(holding: Holding) -> Self {
        let whole = |amount: Amount| amount.whole(holding.asset.decimals);
        Self {
            amount: holding.held.as_ref().ok().copied(),
            balance: holding.held.as_ref().ok().copied().map(whole),
            low_balance: holding.low.map(whole),
            low: holding.is_low(),
            asset: holding.label,
            address: holding.asset.address,
            unknown: holding.held.err(),
        }
    }
}

impl List {
    fn run(self, config: &Config, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let rows = setup::work("asking the nodes", rows(config))?;
        let broken = rows.iter().any(|row| row.problem.is_some());
        match self.json {
            true => terminal.json_list(&rows)?,
            false if rows.is_empty() => terminal.say("no wallets"),
            false => table(&rows).write(&mut terminal.out, width())?,
        }
        if !self.json {
            say(terminal, &rows);
        }
        Ok(if broken { Exit::Failed } else { Exit::Done })
    }
}

async fn rows(config: &Config) -> Result<Vec<Row>, Failure> {
    let open = |entry: &WalletEntry| wallet::open(&entry.kind, entry.opening(None));
    let opened: Vec<_> = config.wallets.iter().map(open).collect();
    let marks = config.wallets.iter().map(|w| &w.low_balance[..]);
    let usable = opened.iter().zip(marks);
    let usable = usable.filter_map(|(wallet, marks)| Some((wallet.as_ref().ok()?, marks)));
    let holdings = Holdings::new(usable, config.policy.assets(), app::chains(config)?);
    let mut held: BTreeMap<_, Vec<Held>> = BTreeMap::new();
    for holding in holdings.look().await {
        let place = (holding.wallet.clone(), holding.asset.network.clone());
        held.entry(place).or_default().push(Held::of(holding));
    }
    let entries = config.wallets.iter().zip(opened);
    let row = |(entry, wallet): (&WalletEntry, Result<Arc<dyn wallet::Wallet>, _>)| {
        let place = |network: &crate::money::Network| Place {
            network: network.to_string(),
            address: wallet.as_ref().ok().and_then(|w| w.address(network)),
            balances: held
                .remove(&(entry.name.clone(), network.clone()))
                .unwrap_or_default(),
        };
        Row {
            networks: entry.networks.iter().map(place).collect(),
            name: entry.name.clone(),
            kind: entry.kind.clone(),
            problem: wallet
                .err()
                .map(|e: crate::section::SectionError| e.to_string()),
        }
    };
    Ok(entries.map(row).collect())
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(
        &["WALLET", "KIND", "NETWORK", "ADDRESS", "BALANCE", "MARK"],
        3,
    );
    table.gives_way_too(2);
    for row in rows {
        for place in &row.networks {
            let mut lines: Vec<_> = place.balances.iter().filter(|h| h.matters()).collect();
            // One line each, also where there is nothing to say.
            if lines.is_empty() {
                lines.extend(place.balances.first());
            }
            let cells = |balance: String, mark: String| {
                let address = place.address.clone().unwrap_or_default();
                let named = [&row.name, &row.kind, &place.network].map(Clone::clone);
                let [name, kind, network] = named;
                [name, kind, network, address, balance, mark]
            };
            if lines.is_empty() {
                table.row(cells("–".into(), String::new()));
            }
            for held in lines {
                table.row(cells(held.text(), held.mark()));
            }
        }
    }
    table
}

impl Held {
    /// Is there any, or should there be?
    fn matters(&self) -> bool {
        self.low_balance.is_some() || self.amount.is_some_and(|amount| amount.0 > 0)
    }

    fn text(&self) -> String {
        let balance = self.balance.as_deref().unwrap_or("unknown");
        match self.balance {
            Some(_) => format!("{balance} {}", self.asset),
            None => balance.into(),
        }
    }

    fn mark(&self) -> String {
        match (&self.low_balance, self.low) {
            (Some(mark), Some(true)) => format!("LOW (below {mark})"),
            (Some(mark), _) => format!("{mark} {}", self.asset),
            (None, _) => String::new(),
        }
    }
}

/// Why something is missing, each reason once.
fn say(terminal: &Terminal, rows: &[Row]) {
    let mut said: Vec<String> = vec![];
    for row in rows {
        let held = row.networks.iter().flat_map(|place| &place.balances);
        let unknown = held.filter_map(|held| held.unknown.clone());
        for why in row.problem.iter().cloned().chain(unknown) {
            let line = format!("farepass: wallet {}: {why}", row.name);
            if !said.contains(&line) {
                terminal.say(&line);
                said.push(line);
            }
        }
    }
}
