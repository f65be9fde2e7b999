//! `farepass doctor`: what keeps payments from working, or programs from the proxy, and how to mend it.

use super::table::Table;
use super::{Command, Exit, Failure, Terminal, setup};
use crate::config::Config;

mod admin;
mod authority;
mod book;
mod bypass;
mod clock;
mod files;
mod finding;
mod names;
mod runtimes;
mod trust;
mod variables;
mod wallets;

use finding::{Finding, State};

/// Say what is wrong with this installation, and how to mend it
///
/// Looks at the environment that it is run in, as a program under the proxy would find it, and at the
/// files of the configuration. Changes nothing and pays nothing. Exit code 1 when something is wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farepass doctor
  farepass run -- farepass doctor                     what a program under `run` finds
  farepass run -- farepass doctor --direct 192.0.2.7:443
                                                      must not be reachable without the proxy")]
pub(super) struct Doctor {
    /// An address that programs must not reach without the proxy; can be given again
    #[arg(long, value_name = "HOST:PORT", value_parser = bypass::target)]
    direct: Vec<bypass::Target>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Command for Doctor {
    const NAME: &'static str = "doctor";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let config = setup::config(terminal)?;
        let findings = setup::work("looking", async { Ok(self.look(&config).await) })?;
        match self.json {
            true => terminal.json_list(&findings)?,
            false => report(terminal, &findings)?,
        }
        let wrong = findings.iter().any(|f| f.state == State::Wrong);
        Ok(if wrong { Exit::Failed } else { Exit::Done })
    }
}

impl Doctor {
    /// Every check, in the order of the page: what is needed first comes first.
    async fn look(&self, config: &Config) -> Vec<Finding> {
        let given = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut all = authority::look(config);
        all.push(files::look(config));
        all.extend(wallets::look(config).await);
        all.extend(book::look(config).await);
        all.extend(clock::look(config).await);
        all.extend(names::look(config).await);
        all.extend(admin::look(config).await);
        all.extend(variables::look(config, &given).await);
        all.extend(trust::look(config, &given));
        all.extend(runtimes::look(config, &given).await);
        all.extend(bypass::look(config, &self.direct).await);
        all
    }
}

fn report(terminal: &mut Terminal, findings: &[Finding]) -> Result<(), Failure> {
    use std::io::Write as _;
    let mut table = Table::new(&["STATE", "CHECK", "FINDING"], 2);
    for f in findings {
        table.row([f.state.word().into(), f.check.clone(), f.finding.clone()]);
    }
    table.write(&mut terminal.out, None)?;
    let mends = findings.iter().filter(|f| f.state == State::Wrong);
    let mends = mends.filter_map(|f| Some((&f.check, f.mend.as_ref()?)));
    // One remedy for several checks is told once.
    let mut by_mend: Vec<(&String, Vec<&str>)> = vec![];
    for (check, mend) in mends {
        match by_mend.iter_mut().find(|(told, _)| *told == mend) {
            Some((_, checks)) if checks.contains(&check.as_str()) => {}
            Some((_, checks)) => checks.push(check),
            None => by_mend.push((mend, vec![check])),
        }
    }
    if !by_mend.is_empty() {
        writeln!(terminal.out, "\nTo mend it:")?;
    }
    let width = by_mend.iter().map(|(mend, _)| mend.chars().count()).max();
    let width = width.unwrap_or(0);
    for (mend, checks) in by_mend {
        writeln!(terminal.out, "  {mend:width$}  for {}", checks.join(", "))?;
    }
    Ok(())
}
