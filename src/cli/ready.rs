//! `farepass ready`: a probe for where no HTTP client is.

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Command, Exit, Failure, Terminal, setup};
use crate::admin::client;
use crate::settings::Span;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// Ask the running proxy whether it may pay
///
/// Exit code 0 when it may, 1 with the reason when it may not or does not run: a probe for images
/// without an HTTP client, and a way to wait for it. A freeze is no reason: it would take pods out of
/// service that go on with what costs nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farepass ready
  farepass serve & farepass ready --wait 30s && ./agent
  farepass ready --alive")]
pub(super) struct Ready {
    /// How long it may take, as 30s
    #[arg(long, value_name = "TIME", default_value = "0s")]
    wait: Span,
    /// Only whether it runs and forwards, also while it may not pay
    #[arg(long)]
    alive: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Command for Ready {
    const NAME: &'static str = "ready";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let config = setup::config_for(terminal, &["state_dir"])?;
        let (Span(wait), started) = (self.wait, Instant::now());
        let (what, name) = match self.alive {
            true => (client::ALIVE, "alive"),
            false => (client::READY, "ready"),
        };
        let problem = setup::work("waiting for the proxy", async {
            loop {
                match client::probe(&config.state_dir, what).await {
                    Ok(()) => return Ok(None),
                    Err(error) if started.elapsed() >= wait => return Ok(Some(error.to_string())),
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        })?;
        if self.json {
            terminal.json(&json!({ name: problem.is_none(), "problem": problem }))?;
            terminal.out.flush()?;
        }
        match problem {
            None => Ok(Exit::Done),
            Some(problem) => Err(Failure::new(Exit::Failed, problem)),
        }
    }
}
