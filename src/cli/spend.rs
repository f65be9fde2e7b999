//! `farepass spend`: what was spent, summed up for people and for finance. Reads the ledger only, also
//! beside a running proxy.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::ledger::export::in_order;
use super::table::{Table, width};
use super::{Command, Exit, Failure, Terminal, session, setup};
use crate::clock::{self, Timestamp};
use crate::event::export::Recorded;
use crate::ledger::{Filter, Reader};
use crate::money::{Asset, Usd};
use crate::settings::Span;

mod sums;

use sums::{Book, Key, Split, Sums, TooMuch, Units};

/// Rows on their way from the disk.
const WAITING: usize = 256;

/// What was spent, by host, agent, session, day, …
///
/// `spent` is what counts against the budgets: `confirmed` (a chain shows it), `claimed` (a receipt
/// says so, or nothing proves the opposite) and `held` (reserved or unknown: it may have moved). What
/// was released costs nothing. Payments belong to the moment they were made at, days and months are
/// UTC. Dollars are added over everything; units of an asset only with those of the same asset on the
/// same network.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farepass spend --since 7d --by day
  farepass spend --by agent,host --since 2026-01-01 --until 2026-02-01
  farepass spend --by month,asset,network --json | jq .total.assets")]
pub(super) struct Spend {
    /// A row for each of these, and for each pair of several
    #[arg(
        long,
        value_name = "KEY,…",
        value_enum,
        value_delimiter = ',',
        default_value = "host"
    )]
    by: Vec<Key>,
    /// Only what was made at this time or later: 2026-01-31, 2026-01-31T12:00:00Z or 7d ago
    #[arg(long, value_name = "TIME", value_parser = moment, alias = "from")]
    since: Option<Timestamp>,
    /// Only what was made before this time
    #[arg(long, value_name = "TIME", value_parser = moment, alias = "to")]
    until: Option<Timestamp>,
    /// Only this session: its id, or the beginning of it
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Only this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// As JSON: sums in dollars, and atomic units per asset and network
    #[arg(long)]
    json: bool,
}

/// A moment, or how long ago it was.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(Span(ago)) = text.parse() {
        let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        return Ok(Timestamp(clock::wall().0.saturating_sub(ago)));
    }
    let moment = text.parse::<Timestamp>();
    moment.map_err(|_| "2026-01-31, 2026-01-31T12:00:00Z (UTC), or 7d, 24h, 30m ago".into())
}

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Page<'a> {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    by: Vec<&'static str>,
    groups: Vec<Row<'a>>,
    total: &'a Sums,
}

#[derive(serde::Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    keys: BTreeMap<&'static str, &'a str>,
    #[serde(flatten)]
    sums: &'a Sums,
}

impl Command for Spend {
    const NAME: &'static str = "spend";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        in_order(("--since", self.since), ("--until", self.until))?;
        let config = setup::config(terminal)?;
        let book = setup::book(&config)?;
        let filter = Filter {
            session: session::named(book.as_deref(), self.session.as_deref())?,
            agent: self.agent,
            denied: true,
            from: self.since,
            to: self.until,
            ..Filter::default()
        };
        let mut sums = Book::new(self.by);
        if let Some(book) = book {
            setup::work("adding up", add(book, filter, &mut sums))?;
        }
        if self.json {
            terminal.json(&page(self.since, self.until, &sums))?;
            return Ok(Exit::Done);
        }
        if sums.groups().is_empty() {
            terminal.say("no payments");
            return Ok(Exit::Done);
        }
        groups(&sums).write(&mut terminal.out, width())?;
        if !sums.total.assets.is_empty() {
            writeln!(terminal.out)?;
            let assets = &config.policy.assets();
            units(&sums.total, assets).write(&mut terminal.out, width())?;
        }
        Ok(Exit::Done)
    }
}

/// One payment after the other, however many there are.
async fn add(book: Arc<dyn Reader>, filter: Filter, sums: &mut Book) -> Result<(), Failure> {
    let (sender, mut rows) = mpsc::channel::<Recorded>(WAITING);
    let summed = async move {
        while let Some(row) = rows.recv().await {
            sums.add(&row.event)?;
        }
        Ok::<_, TooMuch>(())
    };
    let (walked, summed) = tokio::join!(book.walk(filter, sender), summed);
    summed.map_err(|e| Failure::new(Exit::Failed, e))?;
    Ok(walked?)
}

fn page(since: Option<Timestamp>, until: Option<Timestamp>, sums: &Book) -> Page<'_> {
    let names = || sums.by().iter().map(|key| key.name());
    let groups = sums.groups().into_iter().map(|(values, sums)| Row {
        keys: names().zip(values.iter().map(String::as_str)).collect(),
        sums,
    });
    Page {
        since,
        until,
        by: names().collect(),
        groups: groups.collect(),
        total: &sums.total,
    }
}

fn groups(sums: &Book) -> Table {
    let money = [
        "PAYMENTS",
        "SPENT",
        "CONFIRMED",
        "CLAIMED",
        "HELD",
        "REFUSED",
    ];
    let keys = sums.by().iter().map(|key| key.head());
    let heads: Vec<&'static str> = keys.chain(money).collect();
    let mut table = Table::new(&heads, 0);
    for at in 1..sums.by().len() {
        table.gives_way_too(at);
    }
    let row = |values: &[String], sums: &Sums| {
        let money = split(&sums.money, dollars);
        let counts = [sums.payments.to_string()].into_iter().chain(money);
        let values = values.iter().cloned().chain(counts);
        values.chain([sums.refused.to_string()]).collect()
    };
    for (values, sums) in sums.groups() {
        table.line(row(values, sums));
    }
    let mut total = vec![String::new(); sums.by().len()];
    if let Some(first) = total.first_mut() {
        *first = "total".into();
    }
    table.line(row(&total, &sums.total));
    table
}

/// Of each asset on each network: never added to those of another.
fn units(total: &Sums, known: &[Asset]) -> Table {
    let heads = [
        "ASSET",
        "NETWORK",
        "PAYMENTS",
        "SPENT",
        "CONFIRMED",
        "CLAIMED",
        "HELD",
    ];
    let mut table = Table::new(&heads, 1);
    table.gives_way_too(0);
    for units in total.assets.values() {
        let decimals = decimals(units, known);
        let amounts = split(&units.amount, |amount| match decimals {
            Some(decimals) => amount.whole(decimals),
            None => format!("{amount} atomic"),
        });
        let named = [&units.asset, &units.network].map(Clone::clone);
        let named = named.into_iter().chain([units.payments.to_string()]);
        table.line(named.chain(amounts).collect());
    }
    table
}

/// Of an asset that the configuration knows, and knows one of only.
fn decimals(units: &Units, known: &[Asset]) -> Option<u8> {
    let here = |a: &&Asset| a.network.as_str() == units.network;
    let named = |a: &&Asset| a.symbol == units.asset || a.is(&units.asset);
    let mut all = known.iter().filter(here).filter(named).map(|a| a.decimals);
    let first = all.next()?;
    all.all(|other| other == first).then_some(first)
}

fn split<T: Copy>(split: &Split<T>, text: impl Fn(T) -> String) -> [String; 4] {
    [split.spent, split.confirmed, split.claimed, split.held].map(text)
}

/// Without the currency: the heads would be as wide as the money.
fn dollars(usd: Usd) -> String {
    let text = usd.to_string();
    format!("${}", text.trim_end_matches(" USD"))
}
