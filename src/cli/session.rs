//! `farepass session`: to be written.

use super::{Command, Exit, Failure, Terminal};

/// Budgets with an expiry and a secret: one proxy URL each
#[derive(Debug, clap::Args)]
pub(super) struct Session {}

impl Command for Session {
    const NAME: &'static str = "session";

    fn run(self, _terminal: &mut Terminal) -> Result<Exit, Failure> {
        Err(Failure::new(Exit::Failed, "not written yet"))
    }
}
