//! `farepass ledger`: to be written.

use super::{Command, Exit, Failure, Terminal};

/// What was spent, and whether the books are whole
#[derive(Debug, clap::Args)]
pub(super) struct Ledger {}

impl Command for Ledger {
    const NAME: &'static str = "ledger";

    fn run(self, _terminal: &mut Terminal) -> Result<Exit, Failure> {
        Err(Failure::new(Exit::Failed, "not written yet"))
    }
}
