//! `farepass ledger`: what was spent, and whether the books are whole. Reads only, also beside a
//! running proxy.

use std::io::Write as _;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::table::{Table, counted, minute, plain, width};
use super::{Command, Exit, Failure, Terminal, session, setup};
use crate::admin;
use crate::event::{SpendEvent, State};
use crate::ledger::{Filter, Reader};
use crate::payment::PaymentId;
use crate::settings;

pub(super) mod export;
mod reconcile;

/// What every id begins with, and how many digits come then.
const WORD: &str = "pay_";
const DIGITS: usize = 32;

/// What was spent, and whether the books are whole
#[derive(Debug, clap::Args)]
pub(super) struct Ledger {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    List(List),
    /// Everything that is known of one payment: every state it went through
    Show {
        /// Its id, or the beginning of it
        payment: String,
        /// As JSON: every event, oldest first
        #[arg(long)]
        json: bool,
    },
    Export(export::Export),
    Reconcile(reconcile::Reconcile),
    /// Walk the hash chain of all records and recompute every sum; exit code 5 when something is wrong
    Verify {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// Payments, newest first
///
/// Each with its newest state. `unknown`: no receipt came, the money may have moved, and it counts.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farepass ledger list --state unknown
  farepass ledger list --host api.example.com --limit 0 --json | jq '.[].charged'
  farepass ledger list --denied    also what was refused, and why")]
struct List {
    /// Only this session: its id, or the beginning of it
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Only this host
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Only this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only this state: reserved, unknown, settled, released or denied
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<State>,
    /// Also refusals
    #[arg(long)]
    denied: bool,
    /// At most so many; 0 for all
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
    /// As JSON, with the field names of spend events
    #[arg(long)]
    json: bool,
}

fn state(word: &str) -> Result<State, String> {
    admin::state(word).ok_or_else(|| "reserved, unknown, settled, released or denied".into())
}

impl Command for Ledger {
    const NAME: &'static str = "ledger";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let config = setup::config(terminal)?;
        let book = setup::book(&config)?;
        match self.action {
            Action::List(list) => list.run(book, terminal),
            Action::Show { payment, json } => {
                let book = book.ok_or_else(|| none(&config))?;
                let history = setup::wait(history(&*book, &payment))?;
                show(terminal, &history, json)?;
                Ok(Exit::Done)
            }
            Action::Export(export) => export.run(book, terminal),
            Action::Reconcile(reconcile) => {
                let book = book.ok_or_else(|| none(&config))?;
                reconcile.run(&config, book, terminal)
            }
            Action::Verify { json } => verify(book.ok_or_else(|| none(&config))?, terminal, json),
        }
    }
}

pub(super) fn none(config: &crate::config::Config) -> Failure {
    let place = match &config.ledger {
        Some(postgres) => format!("the database of {}", postgres.url_file.display()),
        None => config.state_dir.display().to_string(),
    };
    let said = format_args!("there is no ledger in {place} yet");
    Failure::new(Exit::Failed, said)
}

impl List {
    fn run(self, book: Option<Arc<dyn Reader>>, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let filter = Filter {
            session: session::named(book.as_deref(), self.session.as_deref())?,
            state: self.state,
            host: self.host.as_deref().map(settings::as_listed),
            agent: self.agent,
            denied: self.denied,
            limit: self.limit,
            ..Filter::default()
        };
        let rows = match book {
            Some(book) => setup::wait(async { Ok(book.payments(filter).await?) })?,
            None => vec![],
        };
        match (self.json, rows.is_empty()) {
            (true, _) => terminal.json_list(&rows)?,
            (false, true) => terminal.say("no payments"),
            (false, false) => table(&rows).write(&mut terminal.out, width())?,
        }
        if self.limit != 0 && rows.len() == self.limit {
            terminal.say(format_args!(
                "the newest {}; --limit 0 shows all",
                self.limit
            ));
        }
        Ok(Exit::Done)
    }
}

fn table(rows: &[SpendEvent]) -> Table {
    let heads = ["TIME", "STATE", "CHARGED", "REQUEST", "AGENT", "PAYMENT"];
    let mut table = Table::new(&heads, 3);
    for row in rows {
        table.row([
            minute(row.time),
            row.state.name().into(),
            charged(row),
            request(row),
            row.agent.clone(),
            short(row.id),
        ]);
    }
    table
}

/// What it counts; for a refusal, why.
pub(super) fn charged(row: &SpendEvent) -> String {
    match row.state {
        State::Denied => row.reason.clone().unwrap_or_default(),
        State::Released => "–".into(),
        State::Reserved | State::Unknown | State::Settled => {
            let usd = row.charged.or(row.price);
            usd.map(|usd| usd.to_string()).unwrap_or_default()
        }
    }
}

pub(super) fn request(row: &SpendEvent) -> String {
    format!("{} {}{}", row.method, row.host, row.path)
}

/// The beginning of an id, which `show` takes as well: its millisecond, and enough of its random digits.
fn short(id: PaymentId) -> String {
    id.to_string().chars().take(24).collect()
}

/// Every event of the payment whose id begins so.
async fn history(book: &dyn Reader, named: &str) -> Result<Vec<SpendEvent>, Failure> {
    Ok(book.history(find(book, named).await?).await?)
}

/// The one payment or refusal whose id begins so.
pub(super) async fn find(book: &dyn Reader, named: &str) -> Result<PaymentId, Failure> {
    if let Ok(id) = named.parse() {
        let found = book.payment(id).await?;
        return found.map(|event| event.id).ok_or_else(|| unknown(named));
    }
    let Some(range) = beginning(named) else {
        return Err(unknown(named));
    };
    match book.ids(range, 2).await?.as_slice() {
        [] => Err(unknown(named)),
        [id] => Ok(*id),
        [..] => Err(Failure::new(
            Exit::Usage,
            format_args!("more than one payment id begins with `{}`", plain(named)),
        )),
    }
}

/// All ids that begin so.
fn beginning(named: &str) -> Option<RangeInclusive<PaymentId>> {
    let digits = match named.strip_prefix(WORD) {
        Some(digits) => digits,
        None if !named.is_empty() && WORD.starts_with(named) => "",
        None => return None,
    };
    let filled = |with: &str| {
        let missing = DIGITS.checked_sub(digits.len())?;
        format!("{WORD}{digits}{}", with.repeat(missing))
            .parse()
            .ok()
    };
    Some(filled("0")?..=filled("f")?)
}

fn unknown(named: &str) -> Failure {
    let named = plain(named);
    Failure::new(Exit::Failed, format_args!("there is no payment `{named}`"))
        .hint("`farepass ledger list` has the ids")
}

fn show(terminal: &mut Terminal, history: &[SpendEvent], json: bool) -> Result<(), Failure> {
    if json {
        return terminal.json_list(history);
    }
    let Some(last) = history.last() else {
        return Ok(());
    };
    let text = |value: Option<String>| value.unwrap_or_default();
    let flags: Vec<&str> = last.flags.iter().map(|f| f.name()).collect();
    let delivery = last.delivery.as_ref().map(|d| {
        let kind = d.content_type.as_deref().unwrap_or("no content type");
        let length = d.length.map(|l| format!(", {l} bytes")).unwrap_or_default();
        format!("status {}, {kind}{length}", d.status)
    });
    let facts = [
        ("payment", last.id.to_string()),
        ("request", request(last)),
        ("session", format!("{} of {}", last.session, last.agent)),
        ("charged", charged(last)),
        ("price", text(last.price.map(|p| p.to_string()))),
        ("amount", amount(last)),
        ("paid to", last.pay_to.clone()),
        ("protocol", format!("{} {}", last.protocol, last.scheme)),
        ("wallet", last.wallet.clone()),
        ("nonce", text(last.nonce.clone())),
        ("rule", text(last.rule.clone())),
        ("policy", last.policy.clone()),
        ("receipt", text(last.receipt.clone())),
        ("transaction", text(last.transaction.clone())),
        ("delivery", text(delivery)),
        ("flags", flags.join(", ")),
    ];
    for (name, value) in facts {
        if !value.trim().is_empty() {
            writeln!(terminal.out, "{name:11}  {}", plain(&value))?;
        }
    }
    for event in history {
        let reason = event.reason.as_deref().map(plain).unwrap_or_default();
        let line = format!("{}  {:8}  {reason}", event.time, event.state.name());
        writeln!(terminal.out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn amount(row: &SpendEvent) -> String {
    let Some(amount) = row.amount else {
        return String::new();
    };
    let units = counted(amount.0, "atomic unit");
    format!("{units} of {} on {}", row.asset, row.network)
}

fn verify(book: Arc<dyn Reader>, terminal: &mut Terminal, json: bool) -> Result<Exit, Failure> {
    let report = setup::work("verifying the ledger", async { Ok(book.verify().await?) })?;
    let whole = report.problems.is_empty();
    if json {
        terminal.json(&report)?;
    } else {
        for problem in &report.problems {
            writeln!(terminal.out, "{}", plain(problem))?;
        }
        let (records, payments) = (report.records, report.payments);
        let verdict = if whole { "whole" } else { "DAMAGED" };
        writeln!(
            terminal.out,
            "{verdict}: {}, {}, head {}",
            counted(records, "record"),
            counted(payments, "payment"),
            report.head
        )?;
    }
    match whole {
        true => Ok(Exit::Done),
        false => {
            terminal.say("farepass: the ledger is damaged; nothing should be paid from it");
            Ok(Exit::Damaged)
        }
    }
}
