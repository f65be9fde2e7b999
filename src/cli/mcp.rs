//! `farepass mcp`: what an agent may know of its own budget, for clients of the Model Context Protocol.

use std::path::PathBuf;

use rmcp::ServiceExt as _;

use super::explain::payers;
use super::{Command, Exit, Failure, Terminal, setup};

mod market;
mod server;
mod tools;
mod view;
mod whose;

use server::Server;
use whose::Whose;
pub(super) use whose::credentials;

/// Tell an agent its budget, over the Model Context Protocol on stdin and stdout
///
/// Tools: get_budget, quote, recent_spend, request_approval, discover. They read, also beside a running proxy;
/// request_approval asks a person, and raises no limit. Told is what concerns one session only: the one named here, else
/// that of the proxy URL in the environment, else that of clients without credentials.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  claude mcp add budget -- farepass mcp --config /etc/farepass/farepass.yaml
  farepass run -- my-agent    whatever it starts finds its own session")]
pub(super) struct Mcp {
    /// Which session
    ///
    /// [env: FAREPASS_SESSION, unless --agent is given]
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// The newest open session of which agent
    ///
    /// [env: FAREPASS_AGENT, unless --session is given]
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
}

impl Command for Mcp {
    const NAME: &'static str = "mcp";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let config = setup::config(terminal)?;
        let server = Server {
            whose: Whose::find(self.session, self.agent),
            payers: payers(&config),
            file: config.file,
        };
        setup::wait(serve(server))?;
        Ok(Exit::Done)
    }
}

/// Until stdin ends.
async fn serve(server: Server) -> Result<(), Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::new(Exit::Failed, e);
    let running = match server.serve(rmcp::transport::stdio()).await {
        Ok(running) => running,
        // It ended before it began to speak.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(failed(&error)),
    };
    running.waiting().await.map(drop).map_err(|e| failed(&e))
}

/// The file whose policy is asked; read again for each question, as a running proxy may have done.
type File = PathBuf;
