//! `farepass ledger reconcile`: payments against what their chains show. Whoever owns the ledger
//! records it: this command, or the running proxy that it asks.

use std::io::Write as _;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::{history, minute};
use crate::cli::table::{Table, width};
use crate::cli::{Exit, Failure, Terminal, owner, setup};
use crate::config::{Config, WalletEntry};
use crate::event::export::Recorded;
use crate::event::{SpendEvent, State};
use crate::ledger::{Filter, Reader};
use crate::payer::{Finding, Outcome};
use crate::payment::PaymentId;
use crate::wallet;

/// Ask the chains what became of payments, and record it
///
/// Only a chain confirms a payment, and only a chain gives one back: one whose validity is over and
/// that was never used. One that was given back and is found taken counts again. What cannot be
/// asked, or contradicts itself, stays as it is. `serve` does the same by itself. Exit code 4 when a
/// payment is undecided, or unknown as before: its money may have moved.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Outcomes:
  confirmed        taken as signed
  recounted        taken as signed after it was given back: it counts again
  taken_otherwise  its nonce was spent on other terms: it counts in full
  spent            its nonce was spent, by which transaction is not seen: it counts in full
  released         never used and dead: given back
  unused           never used and dead, but settled before: it stays counted
  unseen           dead, and no log tells of it: it stays as it was
  undecided        nothing is certain yet; exit code 4
  unanswered       the chain could not be asked; exit code 1
  not_asked        there is no chain to ask")]
pub(super) struct Reconcile {
    /// Their ids, or the beginnings of them [default: all that a chain could say more about]
    #[arg(value_name = "PAYMENT")]
    payments: Vec<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Reconcile {
    pub(super) fn run(
        self,
        config: &Config,
        book: Arc<dyn Reader>,
        terminal: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let asked = |w: &WalletEntry| wallet::pays_itself(&w.kind);
        if config.rpc.is_empty() && !config.wallets.iter().any(asked) {
            let problem = "there is no chain to ask: the configuration has no `rpc`";
            return Err(
                Failure::new(Exit::Usage, problem).hint("rpc: { \"eip155:84532\": \"https://…\" }")
            );
        }
        let findings = setup::work("asking the chains", async {
            let wanted = match self.payments.as_slice() {
                [] => unfinished(config, &*book).await?,
                named => named_ones(&*book, named).await?,
            };
            owner::reconcile(config, &wanted).await
        })?;
        match self.json {
            true => terminal.json_list(&findings)?,
            false => table(terminal, &findings)?,
        }
        Ok(ending(&findings))
    }
}

/// A chain that could not be asked is a failure, and asking again may help. Else what may have moved money
/// is told apart from what is known.
fn ending(findings: &[Finding]) -> Exit {
    let any = |fits: fn(&Finding) -> bool| findings.iter().any(fits);
    let open = |f: &Finding| {
        let undecided = f.outcome == Outcome::Undecided;
        undecided || matches!(f.state, State::Reserved | State::Unknown)
    };
    match any(|f| f.outcome == Outcome::Unanswered) {
        true => Exit::Failed,
        false if any(open) => Exit::Unknown,
        false => Exit::Done,
    }
}

async fn named_ones(book: &dyn Reader, named: &[String]) -> Result<Vec<PaymentId>, Failure> {
    let mut found = vec![];
    for name in named {
        found.extend(history(book, name).await?.last().map(|event| event.id));
    }
    Ok(found)
}

/// Everything that a chain could say more about.
async fn unfinished(config: &Config, book: &dyn Reader) -> Result<Vec<PaymentId>, Failure> {
    let asked = |event: &SpendEvent| {
        let network = config
            .rpc
            .iter()
            .any(|e| e.network.as_str() == event.network);
        let mut wallets = config.wallets.iter();
        let node = wallets.any(|w| w.name == event.wallet && wallet::pays_itself(&w.kind));
        (network || node) && event.awaits_chain()
    };
    let (sender, mut rows) = mpsc::channel::<Recorded>(256);
    let collected = async move {
        let mut found = vec![];
        while let Some(row) = rows.recv().await {
            if asked(&row.event) {
                found.push(row.event.id);
            }
        }
        found
    };
    let (walked, found) = tokio::join!(book.walk(Filter::default(), sender), collected);
    walked?;
    Ok(found)
}

fn table(terminal: &mut Terminal, findings: &[Finding]) -> Result<(), Failure> {
    if findings.is_empty() {
        terminal.say("nothing to ask: every payment on a chain with an `rpc` is finished");
        return Ok(());
    }
    let mut table = Table::new(&["PAYMENT", "OUTCOME", "STATE", "MADE", "WHY"], 4);
    for finding in findings {
        let detail = finding.transaction.as_ref().or(finding.detail.as_ref());
        table.row([
            finding.id.to_string(),
            finding.outcome.name().into(),
            finding.state.name().into(),
            minute(finding.id.made()),
            detail.cloned().unwrap_or_default(),
        ]);
    }
    table.write(&mut terminal.out, width())?;
    terminal.out.flush()?;
    let recounted = findings.iter().filter(|f| f.outcome == Outcome::Recounted);
    match recounted.count() {
        0 => {}
        n => terminal.say(format_args!(
            "farepass: {n} released payments were taken all the same; they count again"
        )),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_moved_money_has_an_exit_code_of_its_own() {
        let finding = |outcome, state| Finding {
            id: PaymentId(1),
            outcome,
            state,
            transaction: None,
            detail: None,
        };
        let done = [
            finding(Outcome::Confirmed, State::Settled),
            finding(Outcome::Released, State::Released),
            finding(Outcome::NotAsked, State::Settled),
        ];
        assert_eq!(ending(&done), Exit::Done);
        assert_eq!(ending(&[]), Exit::Done);
        for open in [
            finding(Outcome::Undecided, State::Unknown),
            finding(Outcome::Undecided, State::Settled),
            finding(Outcome::Unseen, State::Unknown),
            finding(Outcome::NotAsked, State::Reserved),
        ] {
            let all = [&done[..], &[open]].concat();
            assert_eq!(ending(&all), Exit::Unknown);
            let silent = finding(Outcome::Unanswered, State::Unknown);
            let all = [&all[..], &[silent]].concat();
            assert_eq!(ending(&all), Exit::Failed, "asking again may help");
        }
    }
}
