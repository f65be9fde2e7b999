//! `farepass run`: one program behind a proxy of its own.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use rustix::process::Signal;
use serde_json::Value;
use zeroize::Zeroizing;

use super::owner::{Try, patiently};
use super::{Command, Exit, Failure, Terminal, setup};
use crate::admin::client::Client;
use crate::admin::sessions::{self, Wanted};
use crate::app::{self, Options, Running, StartError};
use crate::config::{Config, ConfigError};
use crate::ledger::{Filter, OpenError, Reader};
use crate::money::Usd;
use crate::payment::SessionId;
use crate::settings::{Entrance, Listen, UpstreamProxy};
use crate::tls;

mod child;
mod door;
mod environment;
mod folder;
mod limits;
mod shared;
mod summary;
mod trusted;
mod wgetrc;

use child::Signals;
use door::Door;
pub(super) use environment::LENT;
use folder::Folder;
use limits::Limits;
use shared::Neighbour;
use trusted::Trusted;

/// How long something is closed that was never used: a person has pressed Ctrl-C and waits.
const CLOSING: Duration = Duration::from_secs(2);

/// Run one program behind a proxy of its own, and say what it spent
///
/// The program gets every proxy and certificate variable that common HTTP clients read, and a session
/// of its own. What it spent is told on stderr at the end. The exit code is the program's; 128 + n when
/// signal n ended it. When a proxy runs on the same state directory, that one is used, through a port of
/// the program's own: what comes there without credentials is in its session.
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
    /// Its name, for rules and the ledger
    #[arg(long, value_name = "NAME", default_value = "run")]
    agent: String,
    /// After this time nothing more is paid, however long it runs
    #[arg(long, value_name = "TIME", default_value = "24h")]
    expires: String,
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
        let folder = Folder::new()?;
        let source = Source::find(terminal, folder.path())?;
        let wanted = Wanted {
            agent: Some(self.agent),
            budget: self.budget,
            expires: Some(self.expires),
            default: false,
        };
        let access = before_it_begins(Access::gain(&source, wanted), &mut signals).await?;
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
        for problem in trusted.problems {
            terminal.say(format_args!("farepass: {problem}"));
        }
        if source.goes_directly() {
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
        tokio::select! {
            ended = access.end() => if let Err(failure) = ended {
                // The program's exit code says more.
                failure.report(&mut std::io::stderr());
            },
            _ = signals.next() => terminal.say("farepass: stopped at once; open payments count"),
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

/// A proxy and a session in it.
struct Access {
    proxy: SocketAddr,
    url: Zeroizing<String>,
    /// Every authority that it may sign with, PEM.
    ca: String,
    session: SessionId,
    budget: Usd,
    book: Arc<dyn Reader>,
    whose: Whose,
}

/// Whose proxy it is.
enum Whose {
    Ours(Box<Running>),
    /// With a port of our own, unless everybody must say who it is.
    Theirs(Neighbour, Option<Door>),
}

impl Access {
    /// Starts a proxy, or asks the one that owns the state directory for a session.
    async fn gain(source: &Source, wanted: Wanted) -> Result<Self, Failure> {
        patiently(async || {
            let options = Options {
                own_session: Some(wanted.clone()),
                ..Options::default()
            };
            match app::start(source.load()?, options).await {
                Ok(running) => Ok(Try::Got(Self::ours(running)?)),
                Err(StartError::Ledger(OpenError::InUse { .. })) => {
                    Self::beside(source.load()?, &wanted).await
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    fn ours(running: Running) -> Result<Self, Failure> {
        let none = || Failure::new(Exit::Failed, "the proxy has no session; this is a bug");
        let own = running.own_session.as_ref().ok_or_else(none)?;
        let session = &own.row.session;
        Ok(Self {
            proxy: plain(&running.proxy)?,
            url: own.url(&running.proxy),
            ca: running.authority.certificate_pem().to_owned(),
            session: session.id.clone(),
            budget: session.budget,
            book: Arc::clone(&running.ledger) as Arc<dyn Reader>,
            whose: Whose::Ours(Box::new(running)),
        })
    }

    /// In the proxy that owns the ledger. What cannot be used leaves no session there.
    async fn beside(config: Config, wanted: &Wanted) -> Result<Try<Self>, Failure> {
        let client = match Try::of(Client::beside(&config.state_dir))? {
            Try::Got(client) => client,
            Try::Busy(error) => return Ok(Try::Busy(error)),
        };
        let proxy = plain(&client.beacon().proxy)?;
        let wanted = serde_json::to_value(wanted).unwrap_or_default();
        let made = match Try::of(client.ask(Method::POST, "sessions", &wanted).await)? {
            Try::Got(made) => made,
            Try::Busy(error) => return Ok(Try::Busy(error)),
        };
        let theirs = Self::theirs(config, &client, (proxy, &made)).await;
        if theirs.is_err() {
            let id = made.get("id").and_then(Value::as_str).unwrap_or_default();
            let path = format!("sessions/{id}");
            let closing = client.ask(Method::DELETE, &path, &Value::Null);
            if let Ok(Err(error)) = tokio::time::timeout(CLOSING, closing).await {
                Failure::from(error).report(&mut std::io::stderr());
            }
        }
        theirs.map(Try::Got)
    }

    async fn theirs(
        config: Config,
        client: &Client,
        (proxy, made): (SocketAddr, &Value),
    ) -> Result<Self, Failure> {
        let text = |name: &str| made.get(name).and_then(Value::as_str).unwrap_or_default();
        let session = SessionId(text("id").into());
        let ca = authorities(&config.tls.ca_dir)?;
        let door = match config.sessions.without_credentials {
            true => Some(Door::open(proxy, text("proxy")).await?),
            false => None,
        };
        let (proxy, url) = match &door {
            Some(door) => (door.at, door.url.clone()),
            None => (proxy, text("proxy").to_owned().into()),
        };
        Ok(Self {
            proxy,
            url,
            ca,
            budget: text("budget").parse().unwrap_or_default(),
            book: config.read_ledger()?,
            whose: Whose::Theirs(Neighbour::watch(config, client), door),
            session,
        })
    }

    /// Closes the session, and the proxy if it is ours.
    async fn end(self) -> Result<(), Failure> {
        match self.whose {
            Whose::Ours(running) => {
                let now = running.clock.now();
                let closed = sessions::close(&*running.ledger, now, &self.session).await;
                running.stop().await;
                closed.map(drop).map_err(Failure::from)
            }
            Whose::Theirs(neighbour, door) => {
                drop(door);
                neighbour.end(&self.session).await
            }
        }
    }
}

/// Where a program under `run` comes in: few can speak to anything but plain TCP.
fn plain(proxy: &Entrance) -> Result<SocketAddr, Failure> {
    match proxy.here() {
        Entrance::Plain(at) => Ok(at),
        other => Err(Failure::new(
            Exit::Usage,
            format_args!(
                "the proxy that runs here listens on {other} only, which most programs cannot use; add a loopback address to `listen.proxy`"
            ),
        )),
    }
}

/// The authority of a proxy that somebody else runs, PEM, and those that it replaced: that proxy may sign
/// with the one that it started with, and its successor with the newest.
fn authorities(dir: &Path) -> Result<String, Failure> {
    let path = dir.join("ca.pem");
    let mut all = std::fs::read_to_string(&path)
        .map_err(|e| Failure::new(Exit::Failed, format_args!("{}: {e}", path.display())))?;
    for (_, der) in tls::retired(dir)? {
        if !all.ends_with('\n') {
            all.push('\n');
        }
        all.push_str(&tls::pem(&der));
    }
    Ok(all)
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
