//! `farepass run`: one program behind a proxy of its own.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use super::{Command, Exit, Failure, Terminal, setup};
use crate::config::{Config, ConfigError};
use crate::ledger::Filter;
use crate::money::Usd;
use crate::settings::{Entrance, Listen, UpstreamProxy};

mod access;
mod child;
mod door;
mod environment;
mod folder;
mod guests;
mod limits;
mod outer;
mod shared;
mod summary;
mod trusted;
mod wgetrc;

use access::{Access, Wish};
use child::Signals;
pub(super) use child::ignores;
pub(super) use environment::LENT;
use folder::Folder;
use limits::Limits;
use trusted::Trusted;

/// How long something is closed that was never used: a person has pressed Ctrl-C and waits.
const CLOSING: Duration = Duration::from_secs(2);

/// Run one program behind a proxy of its own, and say what it spent
///
/// The program gets every proxy and certificate variable that common HTTP clients read, and a session
/// of its own. What it spent is told on stderr at the end. The exit code is the program's; 128 + n when
/// signal n ended it. When a proxy runs on the same state directory, that one is used, through a port of
/// the program's own: what comes there without credentials is in its session. Inside of another `run` the
/// session is that one's. At a terminal, a `run` whose proxy others use goes on until they end, or Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farepass run -- python agent.py
  farepass run --budget \"0.50 USD\" -- curl https://api.example.com/v1/prices
  farepass run --agent research-1 -- sh -c 'npm install && node agent.js'

Programs that change the user or clear the environment (sudo, env -i, docker run) lose the variables.
The program runs as you, so it could read the wallet's key; give programs that you do not trust with
that another user, a container or a sidecar.")]
pub(super) struct Run {
    /// Most that the program may spend [default: as sessions.default of the configuration]
    #[arg(long, value_name = "MONEY")]
    budget: Option<Usd>,
    /// Its name, for rules and the ledger [default: run]
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// After this time nothing more is paid, however long it runs [default: 24h]
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Command for Run {
    const NAME: &'static str = "run";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let runtime = setup::runtime()?;
        let exit = runtime.block_on(self.go(terminal));
        // Nothing that still waits may hold up the end.
        runtime.shutdown_background();
        exit
    }
}

impl Run {
    async fn go(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let mut signals = Signals::catch()?;
        let limits = Limits::now();
        let folder = Folder::new().map_err(|e| Failure::new(Exit::Failed, e))?;
        let source = Source::find(terminal, folder.path())?;
        let wish = Wish {
            agent: self.agent,
            budget: self.budget,
            expires: self.expires,
        };
        let access = before_it_begins(Access::gain(&source, &wish), &mut signals).await?;
        let given = |name: &str| std::env::var_os(name);
        let trusted = Trusted::read(&given);
        let (ca, wgetrc) = (&access.ca, wgetrc::settings(&access.url));
        let files = match folder.fill(ca, &wgetrc, &trusted.certificates) {
            Ok(files) => files,
            Err(error) => {
                close(access).await;
                return Err(error.into());
            }
        };
        for said in trusted.problems.iter().chain(&access.told) {
            terminal.say(format_args!("farepass: {said}"));
        }
        if access.told.is_none() && source.goes_directly() {
            warn_of_proxy(terminal, &given);
        }
        let names = environment::names();
        let settings =
            environment::environment(&given, &names, (&access.url, access.proxy), &files);
        if let Some(number) = signals.come().await {
            return Err(stopped(Some(access), number).await);
        }
        let exit = child::run(&self.command, &settings, &limits, &mut signals).await;
        let (book, session, budget) = (
            Arc::clone(&access.book),
            access.session.clone(),
            access.budget,
        );
        if let Err(failure) = leave(access, terminal, &mut signals).await {
            // The program's exit code says more.
            failure.report(&mut std::io::stderr());
        }
        let filter = Filter {
            session: Some(session),
            denied: true,
            ..Filter::default()
        };
        if exit.is_ok() {
            match book.payments(filter).await {
                Ok(payments) => terminal.say(summary::summary(&payments, budget).trim_end()),
                Err(error) => drop(Failure::from(error).report(&mut std::io::stderr())),
            }
        }
        source.hint(terminal);
        exit
    }
}

/// After the end of the program: its session is closed, and the proxy ends, if it is ours. Where others use
/// it and somebody is there to read that, it goes on until they have ended or the reader has it otherwise.
async fn leave(access: Access, terminal: &Terminal, signals: &mut Signals) -> Result<(), Failure> {
    let at_once = || terminal.say("farepass: stopped at once; open payments count");
    let state_dir = access.state_dir.clone();
    let (running, closed) = tokio::select! {
        closed = access.close() => closed,
        _ = signals.next() => {
            at_once();
            return Ok(());
        }
    };
    let Some(running) = running else {
        return closed;
    };
    if guests::present(&state_dir) && std::io::stderr().is_terminal() {
        terminal.say(
            "farepass: another `farepass run` uses this proxy, so it goes on until that ends; Ctrl-C hands it over",
        );
        tokio::select! {
            () = guests::gone(&state_dir) => {}
            _ = signals.next() => {}
        }
    }
    tokio::select! {
        () = running.hand_over() => {}
        _ = signals.next() => at_once(),
    }
    closed
}

/// Waits for a proxy, unless a signal comes first: it was for a program that has not begun, and does not.
async fn before_it_begins(
    gain: impl Future<Output = Result<Access, Failure>>,
    signals: &mut Signals,
) -> Result<Access, Failure> {
    let mut gain = pin!(gain);
    let (_, number) = tokio::select! {
        biased;
        signal = signals.next() => signal,
        access = &mut gain => return access,
    };
    // What is half made is made and closed, unless that takes long: it was given to nobody.
    let access = tokio::select! {
        access = tokio::time::timeout(CLOSING, gain) => access.ok().and_then(Result::ok),
        _ = signals.next() => None,
    };
    Err(stopped(access, number).await)
}

/// Closes what was made for a program that does not begin.
async fn stopped(access: Option<Access>, number: Signal) -> Failure {
    if let Some(access) = access {
        close(access).await;
    }
    let exit = child::ended_by(number);
    Failure::new(exit, "stopped before the program began")
}

/// Closes what no program has used.
async fn close(access: Access) {
    if let Ok(Err(failure)) = tokio::time::timeout(CLOSING, access.end()).await {
        failure.report(&mut std::io::stderr());
    }
}

/// Where the configuration comes from.
enum Source {
    /// A file.
    File(std::path::PathBuf),
    /// There is none: nothing is paid, and everything lives in the private folder.
    None(std::path::PathBuf),
}

impl Source {
    fn find(terminal: &Terminal, folder: &Path) -> Result<Self, Failure> {
        match crate::config::find(terminal.globals.config.as_deref()) {
            Ok(file) => Ok(Self::File(file)),
            Err(_) => Ok(Self::None(folder.join("none/farepass.yaml"))),
        }
    }

    /// The configuration, with listeners that are free.
    fn load(&self) -> Result<Config, Failure> {
        let mut config = match self {
            Self::File(file) => Config::load(Some(file))?,
            Self::None(file) => {
                Config::parse(file, "version: 1\n").map_err(ConfigError::Invalid)?
            }
        };
        let free = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        config.listen = Listen {
            proxy: vec![Entrance::Plain(free)],
            admin: free,
            ..Listen::default()
        };
        Ok(config)
    }

    /// Is there no parent proxy between Farepass and merchants?
    fn goes_directly(&self) -> bool {
        let config = self.load();
        config.is_ok_and(|config| config.egress.upstream_proxy == UpstreamProxy::None)
    }

    fn hint(&self, terminal: &Terminal) {
        if let Self::None(_) = self {
            terminal.say(
                "hint: there is no configuration, so nothing is paid; farepass init writes one",
            );
        }
    }
}

/// A proxy of the user's is not gone through. Its URL may hold a password: only its name is told.
fn warn_of_proxy(terminal: &Terminal, given: &dyn Fn(&str) -> Option<OsString>) {
    let set = |name: &&str| given(name).is_some_and(|v| !v.is_empty());
    if let Some(name) = ["HTTPS_PROXY", "https_proxy"].iter().find(|n| set(n)) {
        terminal.say(format_args!(
            "farepass: the proxy in ${name} is not used: Farepass connects to merchants directly"
        ));
    }
}
