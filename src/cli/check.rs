//! `farepass check`: to be written.

use super::{Command, Exit, Failure, Terminal};

/// Read the configuration, say what is wrong, and run its tests
#[derive(Debug, clap::Args)]
pub(super) struct Check {}

impl Command for Check {
    const NAME: &'static str = "check";

    fn run(self, _terminal: &mut Terminal) -> Result<Exit, Failure> {
        Err(Failure::new(Exit::Failed, "not written yet"))
    }
}
