//! `farepass completions`: to be written.

use super::{Command, Exit, Failure, Terminal};

/// Shell completions
#[derive(Debug, clap::Args)]
pub(super) struct Completions {}

impl Command for Completions {
    const NAME: &'static str = "completions";

    fn run(self, _terminal: &mut Terminal) -> Result<Exit, Failure> {
        Err(Failure::new(Exit::Failed, "not written yet"))
    }
}
