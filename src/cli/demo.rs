//! `farepass demo`: the product at work, with nothing but itself.

use super::{Command, Exit, Failure, Terminal, setup};
use crate::demo::{self, DemoError};

/// See it work: a merchant that asks for payment, an agent, a refusal, the ledger. Needs nothing
///
/// Starts a merchant with TLS that verifies real signatures, a proxy with a policy, and an agent that
/// knows nothing about payments; buys, is refused, and shows the books. Everything stays on this
/// machine and is gone at the end.
#[derive(Debug, clap::Args)]
pub(super) struct Demo {}

impl Command for Demo {
    const NAME: &'static str = "demo";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let colour = terminal.colours();
        setup::runtime()?.block_on(demo::run(&mut terminal.out, colour))?;
        Ok(Exit::Done)
    }
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Self {
        match error {
            DemoError::Io(error) => error.into(),
            DemoError::Config(error) => error.into(),
            DemoError::Start(error) => error.into(),
            DemoError::Ledger(error) => error.into(),
            DemoError::Merchant(_)
            | DemoError::Wallet(_)
            | DemoError::Agent(_)
            | DemoError::Unexpected(_) => Self::new(Exit::Failed, format_args!("demo: {error}")),
        }
    }
}
