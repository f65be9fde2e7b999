//! `farepass approve` and `farepass deny`: a person's answer to a payment that waits for one.

use std::collections::BTreeSet;
use std::io::Write as _;

use super::table::{Table, minute, plain, width};
use super::{Command, Exit, Failure, Terminal, owner, setup};
use crate::admin::control;
use crate::budget::{Asked, Asking};
use crate::clock;
use crate::config::Config;
use crate::payment::{ApprovalId, SessionId};

/// Approve a payment that waits for a person, or list what waits
///
/// The approval is for exactly the terms that were asked for, and for one payment. All limits are
/// checked again when it is made.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farepass approve            what waits
  farepass approve apr_…      yes to this one: all 32 digits of its id")]
pub(super) struct Approve {
    /// Its whole id; without one, what waits is listed
    approval: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Deny a payment that waits for a person, or was approved and not made yet
#[derive(Debug, clap::Args)]
pub(super) struct Deny {
    /// Its id, or the beginning of it
    approval: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Command for Approve {
    const NAME: &'static str = "approve";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let config = setup::config_for(terminal, setup::LEDGER)?;
        match self.approval {
            Some(named) => {
                let id = whole(&named)?;
                answer(&config, terminal, id, true, self.json)?;
            }
            None => list(&config, terminal, self.json)?,
        }
        Ok(Exit::Done)
    }
}

impl Command for Deny {
    const NAME: &'static str = "deny";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let config = setup::config_for(terminal, setup::LEDGER)?;
        let id = find(&all(&config)?, &self.approval)?;
        answer(&config, terminal, id, false, self.json)?;
        Ok(Exit::Done)
    }
}

fn all(config: &Config) -> Result<Vec<Asking>, Failure> {
    match setup::book(config)? {
        Some(book) => setup::wait(async { Ok(control::approvals(&*book).await?) }),
        None => Ok(vec![]),
    }
}

/// Sessions in which nothing more is paid, whatever a person says.
fn over(config: &Config) -> Result<BTreeSet<SessionId>, Failure> {
    let Some(book) = setup::book(config)? else {
        return Ok(BTreeSet::new());
    };
    let now = clock::wall();
    let rows = setup::wait(async { Ok(book.sessions().await?) })?;
    let over = rows
        .into_iter()
        .filter(|row| row.closed || row.session.expires <= now);
    Ok(over.map(|row| row.session.id).collect())
}

fn answer(
    config: &Config,
    terminal: &mut Terminal,
    id: ApprovalId,
    approve: bool,
    json: bool,
) -> Result<(), Failure> {
    let asking = setup::wait(owner::answer(config, id, approve))?;
    if json {
        return terminal.json(&asking);
    }
    let word = if approve { "approved" } else { "denied" };
    writeln!(terminal.out, "{word} {}", describe(&asking))?;
    Ok(())
}

fn describe(asking: &Asking) -> String {
    format!(
        "{} to {} for {} {}{} of {}",
        asking.price,
        plain(&asking.pay_to),
        plain(&asking.method),
        plain(&asking.host),
        plain(&asking.path),
        plain(&asking.agent)
    )
}

/// What every id begins with.
const WORD: &str = "apr_";

const LIST: &str = "`farepass approve` lists what waits";

/// Ids come from terms that an agent chooses, so it can find two purchases whose ids begin alike, and ask the
/// second once the first is over. A yes takes all digits.
fn whole(named: &str) -> Result<ApprovalId, Failure> {
    named.parse().map_err(|_| {
        let said = format_args!(
            "`{}` is not a whole id: apr_ and 32 hexadecimal digits, as another purchase may begin alike",
            plain(named)
        );
        Failure::new(Exit::Usage, said).hint(LIST)
    })
}

/// A no may be short: at worst something is not bought.
fn find(all: &[Asking], named: &str) -> Result<ApprovalId, Failure> {
    if let Ok(id) = named.parse() {
        return Ok(id);
    }
    if WORD.starts_with(named) {
        let said = format_args!("`{}` is the beginning of every id", plain(named));
        return Err(Failure::new(Exit::Usage, said).hint(LIST));
    }
    let now = clock::wall();
    let mut fitting = all
        .iter()
        .filter(|a| a.is_open(now) && a.id.to_string().starts_with(named));
    match (fitting.next(), fitting.next()) {
        (Some(asking), None) => Ok(asking.id),
        (None, _) => Err(Failure::new(
            Exit::Failed,
            format_args!("nothing waits under the id `{}`", plain(named)),
        )
        .hint(LIST)),
        (Some(_), _) => Err(Failure::new(
            Exit::Usage,
            format_args!("more than one id begins with `{}`", plain(named)),
        )),
    }
}

fn list(config: &Config, terminal: &mut Terminal, json: bool) -> Result<(), Failure> {
    let now = clock::wall();
    let mut open = all(config)?;
    let over = over(config)?;
    open.retain(|asking| asking.is_open(now) && !over.contains(&asking.session));
    if json {
        return terminal.json_list(&open);
    }
    if open.is_empty() {
        terminal.say("nothing waits for an answer");
        return Ok(());
    }
    let heads = [
        "ID", "STATE", "PRICE", "REQUEST", "AGENT", "BECAUSE", "UNTIL",
    ];
    let mut table = Table::new(&heads, 3);
    table.gives_way_too(4);
    table.gives_way_too(5);
    for asking in &open {
        table.row([
            asking.id.to_string(),
            stage(asking.stage).into(),
            asking.price.to_string(),
            format!("{} {}{}", asking.method, asking.host, asking.path),
            asking.agent.clone(),
            asking.because.join(", "),
            minute(asking.expires),
        ]);
    }
    Ok(table.write(&mut terminal.out, width())?)
}

fn stage(stage: Asked) -> &'static str {
    match stage {
        Asked::Waiting => "waiting",
        Asked::Approved { .. } => "approved",
        Asked::Denied { .. } => "denied",
        Asked::Used { .. } => "used",
    }
}
