//! `farepass merchant`: what is remembered of hosts that were paid, and how to forget it.

use serde_json::Value;

use super::table::{Table, width};
use super::{Command, Exit, Failure, Terminal, owner, setup};
use crate::admin::control;
use crate::config::Config;
use crate::settings::{host_and_port, normalise_host};

/// What is remembered of hosts that were paid: recipients and lowest prices
///
/// `pay_to: first-seen` and `max_price_increase` hold new payments against it. After a merchant told you
/// of a new address or a higher price, forget the host: its next payment is the first again.
#[derive(Debug, clap::Args)]
pub(super) struct Merchant {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Every host that was paid
    List {
        /// Only this host
        host: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Forget the recipients and prices of a host
    Forget {
        /// The host, without a port
        host: String,
    },
}

impl Command for Merchant {
    const NAME: &'static str = "merchant";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let config = setup::config(terminal)?;
        match self.action {
            Action::List { host, json } => list(&config, terminal, host.as_deref(), json)?,
            Action::Forget { host } => {
                let host = normalise_host(&host).map_err(|e| Failure::new(Exit::Usage, e))?;
                if of(&all(&config)?, &host).next().is_none() {
                    let said = format_args!("nothing is remembered of {host}");
                    return Err(Failure::new(Exit::Failed, said).hint(LIST));
                }
                setup::wait(owner::forget(&config, &host))?;
                terminal.say(format_args!("{host}: its next payment is the first again"));
            }
        }
        Ok(Exit::Done)
    }
}

const LIST: &str = "`farepass merchant list` has the hosts";

/// What is remembered.
fn all(config: &Config) -> Result<Vec<Value>, Failure> {
    match setup::book(config)? {
        Some(book) => setup::wait(async { Ok(control::merchants(&*book).await?) }),
        None => Ok(vec![]),
    }
}

fn of<'a>(rows: &'a [Value], host: &str) -> impl Iterator<Item = &'a Value> {
    rows.iter().filter(move |row| text(row, "host") == host)
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn list(
    config: &Config,
    terminal: &mut Terminal,
    host: Option<&str>,
    json: bool,
) -> Result<(), Failure> {
    // What is remembered is for all ports of a host, and rows of the ledger name it with one.
    let host = host.map(host_and_port).transpose();
    let host = host.map_err(|e| Failure::new(Exit::Usage, e))?;
    let mut rows = all(config)?;
    if let Some((host, _)) = &host {
        rows = of(&rows, host).cloned().collect();
    }
    if json {
        return terminal.json_list(&rows);
    }
    if rows.is_empty() {
        match host {
            Some((host, _)) => terminal.say(format_args!("nothing is remembered of {host}")),
            None => terminal.say("no host was paid yet"),
        }
        return Ok(());
    }
    let text = |row: &Value, name: &str| text(row, name).to_owned();
    let mut table = Table::new(&["HOST", "SINCE", "WHAT", "IS"], 3);
    for row in &rows {
        let since: String = text(row, "since").chars().take(19).collect();
        let (what, is) = match (text(row, "network"), text(row, "path")) {
            (network, _) if !network.is_empty() => {
                (format!("recipient on {network}"), text(row, "pay_to"))
            }
            (_, path) if !path.is_empty() => {
                let lowest = text(row, "lowest");
                (format!("price of {} {path}", text(row, "method")), lowest)
            }
            (_, _) => ("first paid".into(), String::new()),
        };
        table.row([text(row, "host"), since, what, is]);
    }
    Ok(table.write(&mut terminal.out, width())?)
}
