//! `farepass run`: to be written.

use super::{Command, Exit, Failure, Terminal};

/// Run one program behind a proxy of its own, and say what it spent
#[derive(Debug, clap::Args)]
pub(super) struct Run {}

impl Command for Run {
    const NAME: &'static str = "run";

    fn run(self, _terminal: &mut Terminal) -> Result<Exit, Failure> {
        Err(Failure::new(Exit::Failed, "not written yet"))
    }
}
