//! `farepass ca`: to be written.

use super::{Command, Exit, Failure, Terminal};

/// The local certificate authority
#[derive(Debug, clap::Args)]
pub(super) struct Ca {}

impl Command for Ca {
    const NAME: &'static str = "ca";

    fn run(self, _terminal: &mut Terminal) -> Result<Exit, Failure> {
        Err(Failure::new(Exit::Failed, "not written yet"))
    }
}
