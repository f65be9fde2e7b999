//! `farepass demo`: the product at work, with nothing but itself.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

use super::{Command, Exit, Failure, Terminal, setup};
use crate::demo::{self, DemoError};

/// See it work: buy, be refused, look at the books; needs nothing
///
/// Starts a merchant with TLS that verifies real signatures, a proxy with a policy, and an agent that
/// knows nothing about payments; buys, is refused, and shows the books. Everything stays on this
/// machine and is gone at the end.
#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// Keep merchant and proxy open for your own client, until Ctrl-C
    #[arg(long)]
    stay: bool,
}

impl Command for Demo {
    const NAME: &'static str = "demo";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let colour = terminal.colours();
        setup::runtime()?.block_on(async {
            let over = told_to_stop()?;
            match self.stay {
                true => demo::stay(&mut terminal.out, colour, over).await,
                false => demo::run(&mut terminal.out, colour, over).await,
            }
        })?;
        Ok(Exit::Done)
    }
}

/// Ends on SIGINT, SIGTERM or SIGHUP, as from a terminal that is closed; all are caught from now on.
fn told_to_stop() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Self {
        match error {
            DemoError::Io(error) => error.into(),
            DemoError::Config(error) => error.into(),
            DemoError::Start(error) => error.into(),
            DemoError::Ledger(error) => error.into(),
            DemoError::Folder(_)
            | DemoError::Merchant(_)
            | DemoError::Wallet(_)
            | DemoError::Agent(_)
            | DemoError::Interrupted
            | DemoError::Unexpected(_) => Self::new(Exit::Failed, format_args!("demo: {error}")),
        }
    }
}
