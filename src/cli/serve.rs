//! `farepass serve`: to be written.

use super::{Command, Exit, Failure, Terminal};

/// Run the proxy as a service
#[derive(Debug, clap::Args)]
pub(super) struct Serve {}

impl Command for Serve {
    const NAME: &'static str = "serve";

    fn run(self, _terminal: &mut Terminal) -> Result<Exit, Failure> {
        Err(Failure::new(Exit::Failed, "not written yet"))
    }
}
