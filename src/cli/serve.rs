//! `farepass serve`: the proxy as a service, in the foreground.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::terminal::Talk;
use super::{Command, Exit, Failure, Terminal, setup};
use crate::app::{self, Options};
use crate::config::Config;
use crate::ledger::sessions::{DEFAULT, Named};
use crate::money::Usd;
use crate::payer::Payer;
use crate::settings::Entrance;

/// Run the proxy as a service
///
/// Runs in the foreground until it is told to stop. Spend events go to stdout, one JSON object a line;
/// everything else to stderr. SIGTERM and SIGINT sign nothing new, let open payments finish, and end
/// it; a second one ends it at once. SIGHUP reads the policy again. SIGUSR1 freezes all payments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farepass serve
  farepass serve --config /etc/farepass/farepass.yaml --log-format json
  farepass serve --export-ca /run/farepass/ca")]
pub(super) struct Serve {
    /// Write ca.pem and bundle.pem (with the system's roots) into this folder, for agents in another
    /// container
    #[arg(long, value_name = "DIR")]
    export_ca: Option<PathBuf>,
    /// Name of the session of clients without credentials: in a pod, its uid
    #[arg(long, value_name = "NAME", env = "FAREPASS_SESSION", default_value = DEFAULT, hide_env_values = true)]
    session: String,
    /// Its agent
    #[arg(long, value_name = "NAME", env = "FAREPASS_AGENT", default_value = DEFAULT, hide_env_values = true)]
    agent: String,
    /// Its budget, if less than sessions.default of the configuration
    #[arg(
        long,
        value_name = "MONEY",
        env = "FAREPASS_BUDGET",
        hide_env_values = true
    )]
    budget: Option<Usd>,
}

impl Command for Serve {
    const NAME: &'static str = "serve";
    const TALK: Talk = Talk::Service;

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let config = setup::config(terminal)?;
        let options = Options {
            sinks: vec![terminal.spend_log()],
            handout: self.export_ca,
            named: Named {
                id: self.session,
                agent: self.agent,
            },
            budget: self.budget,
            ..Options::default()
        };
        setup::runtime()?.block_on(serve(terminal, config, options))
    }
}

async fn serve(terminal: &Terminal, config: Config, options: Options) -> Result<Exit, Failure> {
    let mut signals = Signals::catch()?;
    let no_wallet = config.wallets.is_empty();
    let mut running = app::start(config, options).await?;
    let entrances = running.entrances.iter().map(|entrance| match entrance {
        Entrance::Plain(at) => format!("http://{at}"),
        Entrance::Tls(_) | Entrance::Unix(_) => entrance.to_string(),
    });
    terminal.say(format_args!(
        "farepass: proxy on {}, admin on http://{}, agents trust {}",
        entrances.collect::<Vec<_>>().join(" and "),
        running.admin,
        running.authority.certificate_path().display()
    ));
    for address in &running.transparent {
        terminal.say(format_args!(
            "farepass: redirected connections arrive at {address}"
        ));
    }
    match no_wallet {
        true => terminal.say("farepass: no wallet is configured, so nothing is paid"),
        false => terminal.say(format_args!(
            "farepass: runs as user {}; an agent of the same user can read its wallet and ledger, so give agents another",
            rustix::process::geteuid().as_raw()
        )),
    }
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => break,
                Asked::Reload => running.reloader.ask(),
                Asked::Freeze => running.payer.freeze_all("SIGUSR1").await,
            },
            () = running.failed() => {
                return Err(Failure::new(Exit::Failed, "a part of the proxy ended by itself; this is a bug"));
            }
        }
    }
    // Before anything else: whatever is slow to say, nothing new is signed.
    running.payer.drain();
    terminal.say("farepass: stopping; open payments may finish");
    let payer = Arc::clone(&running.payer);
    tokio::select! {
        () = running.stop() => Ok(Exit::Done),
        () = signals.stop(&payer) => Err(Failure::new(
            Exit::Failed,
            "stopped at once; payments that were open are in the ledger, and count",
        )),
    }
}

/// What a signal asks for.
enum Asked {
    Stop,
    Reload,
    Freeze,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.user.recv() => Asked::Freeze,
        }
    }

    /// Ends when it is told to stop once more. Who freezes meanwhile freezes what comes after the next start.
    async fn stop(&mut self, payer: &Arc<Payer>) {
        loop {
            match self.next().await {
                Asked::Stop => return,
                Asked::Reload => {}
                Asked::Freeze => payer.freeze_all("SIGUSR1").await,
            }
        }
    }
}
