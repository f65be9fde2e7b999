//! `farepass demo`: to be written.

use super::{Command, Exit, Failure, Terminal};

/// See it work: a merchant that asks for payment, an agent, a refusal, the ledger. Needs nothing
#[derive(Debug, clap::Args)]
pub(super) struct Demo {}

impl Command for Demo {
    const NAME: &'static str = "demo";

    fn run(self, _terminal: &mut Terminal) -> Result<Exit, Failure> {
        Err(Failure::new(Exit::Failed, "not written yet"))
    }
}
