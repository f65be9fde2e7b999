//! `farepass freeze` and `farepass unfreeze`: the kill switch.

use std::io::Write as _;

use serde_json::Value;

use super::table::plain;
use super::{Command, Exit, Failure, Terminal, owner, setup};
use crate::admin::control;
use crate::budget::Frozen;
use crate::config::Config;
use crate::payer::{self, STOP_FILE};
use crate::settings::host_and_port;

/// Stop payments at once: all, those to a host, or those of an agent
///
/// Everything else is forwarded as before. It survives a restart; `farepass unfreeze` ends it. A running
/// proxy also freezes all payments on SIGUSR1, and as long as a file named `freeze` is in its state
/// directory. What was signed before can still be charged.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farepass freeze                          all payments
  farepass freeze host api.example.com
  farepass freeze agent research-1 --why \"spends on the wrong things\"
  farepass freeze --list")]
pub(super) struct Freeze {
    #[command(flatten)]
    whose: Whose,
    /// For the record
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    why: String,
    /// What is frozen
    #[arg(long, conflicts_with_all = ["scope", "name", "why"])]
    list: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Allow payments again
#[derive(Debug, clap::Args)]
pub(super) struct Unfreeze {
    #[command(flatten)]
    whose: Whose,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Whose {
    /// all, host or agent
    #[arg(default_value = "all", hide_default_value = true)]
    scope: String,
    /// Which host or agent
    name: Option<String>,
}

impl Whose {
    /// Read for a freeze, or for the end of one.
    fn read(
        &self,
        terminal: &Terminal,
        by: impl Fn(&str, Option<&str>) -> Result<Frozen, String>,
    ) -> Result<Frozen, Failure> {
        let name = self.name.as_deref();
        let what =
            by(&self.scope, name).map_err(|problem| Failure::new(Exit::Usage, plain(&problem)))?;
        let port = name.and_then(|name| host_and_port(name).ok()?.1);
        if let (Frozen::Host(host), Some(_)) = (&what, port) {
            terminal.say(format_args!("farepass: it is for all ports of {host}"));
        }
        Ok(what)
    }
}

impl Command for Freeze {
    const NAME: &'static str = "freeze";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let config = setup::config_for(terminal, setup::LEDGER)?;
        if !self.list {
            let what = self.whose.read(terminal, control::freezable)?;
            setup::wait(owner::freeze(&config, what, &self.why))?;
        }
        show(&config, terminal, self.json)
    }
}

impl Command for Unfreeze {
    const NAME: &'static str = "unfreeze";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let config = setup::config_for(terminal, setup::LEDGER)?;
        let what = self.whose.read(terminal, control::frozen)?;
        setup::wait(owner::unfreeze(&config, what))?;
        show(&config, terminal, self.json)
    }
}

/// What is frozen now.
fn show(config: &Config, terminal: &mut Terminal, json: bool) -> Result<Exit, Failure> {
    let rows = match setup::book(config)? {
        Some(book) => setup::wait(async { Ok(control::freezes(&*book).await?) })?,
        None => vec![],
    };
    let stopped = payer::stopped(&config.state_dir);
    if stopped {
        let file = config.state_dir.join(STOP_FILE);
        terminal.say(format_args!(
            "farepass: all payments are stopped as long as {} is there",
            plain(&file.display().to_string())
        ));
    }
    if json {
        let file = stopped.then(control::by_file).into_iter();
        let all: Vec<Value> = file.chain(rows).collect();
        terminal.json_list(&all)?;
        return Ok(Exit::Done);
    }
    if rows.is_empty() && !stopped {
        terminal.say("nothing is frozen");
    }
    for row in &rows {
        let text = |name: &str| plain(row.get(name).and_then(Value::as_str).unwrap_or_default());
        let line = format!(
            "frozen: {} since {}  {}",
            text("what"),
            text("since"),
            text("why")
        );
        writeln!(terminal.out, "{}", line.trim_end())?;
    }
    Ok(Exit::Done)
}
