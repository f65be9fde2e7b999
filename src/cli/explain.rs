//! `farepass explain`: to be written.

use super::{Command, Exit, Failure, Terminal};

/// Say which rule and which budgets decide about a URL, and why
#[derive(Debug, clap::Args)]
pub(super) struct Explain {}

impl Command for Explain {
    const NAME: &'static str = "explain";

    fn run(self, _terminal: &mut Terminal) -> Result<Exit, Failure> {
        Err(Failure::new(Exit::Failed, "not written yet"))
    }
}
