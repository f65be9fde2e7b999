//! `farepass init`: to be written.

use super::{Command, Exit, Failure, Terminal};

/// Write a first configuration, a certificate authority and a wallet key
#[derive(Debug, clap::Args)]
pub(super) struct Init {}

impl Command for Init {
    const NAME: &'static str = "init";

    fn run(self, _terminal: &mut Terminal) -> Result<Exit, Failure> {
        Err(Failure::new(Exit::Failed, "not written yet"))
    }
}
