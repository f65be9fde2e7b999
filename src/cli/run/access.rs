//! A proxy and a session in it: of our own, beside somebody else's, or that of a `run` around this one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use zeroize::Zeroizing;

use super::door::Door;
use super::outer::Outer;
use super::shared::Neighbour;
use super::{CLOSING, Source};
use crate::admin::Beacon;
use crate::admin::client::Client;
use crate::admin::sessions::{self, Wanted};
use crate::app::{self, Options, Running, StartError};
use crate::cli::owner::{Try, patiently};
use crate::cli::{Exit, Failure};
use crate::config::Config;
use crate::ledger::{OpenError, Reader};
use crate::money::Usd;
use crate::payment::{Session, SessionId};
use crate::settings::Entrance;
use crate::tls;

/// How long a proxy may be away that somebody starts again, or takes over after all of it has ended.
const AWAY: Duration = Duration::from_secs(5);

/// What the arguments say of the session.
pub(super) struct Wish {
    pub(super) agent: Option<String>,
    pub(super) budget: Option<Usd>,
    pub(super) expires: Option<String>,
}

impl Wish {
    fn wanted(&self) -> Wanted {
        Wanted {
            agent: Some(self.agent.clone().unwrap_or_else(|| "run".into())),
            budget: self.budget,
            expires: Some(self.expires.clone().unwrap_or_else(|| "24h".into())),
            default: false,
        }
    }
}

/// A proxy and a session in it.
pub(super) struct Access {
    pub(super) proxy: SocketAddr,
    pub(super) url: Zeroizing<String>,
    /// Every authority that it may sign with, PEM.
    pub(super) ca: String,
    pub(super) session: SessionId,
    pub(super) budget: Usd,
    pub(super) book: Arc<dyn Reader>,
    /// Where the ledger's owner leaves word.
    pub(super) state_dir: PathBuf,
    /// What is to be said of it, where the session is somebody else's as well.
    pub(super) told: Option<String>,
    whose: Whose,
}

/// Whose proxy it is.
enum Whose {
    Ours(Box<Running>),
    /// With a port of our own, unless everybody must say who it is.
    Theirs(Neighbour, Option<Door>),
}

impl Access {
    /// The session that the environment is in already; else starts a proxy, or asks the one that owns the state
    /// directory for a session.
    pub(super) async fn gain(source: &Source, wish: &Wish) -> Result<Self, Failure> {
        let config = source.load()?;
        if let Some(outer) = Outer::find(&config).await? {
            return Self::within(config, outer, wish).await;
        }
        let wanted = wish.wanted();
        patiently(async || {
            let options = Options {
                own_session: Some(wanted.clone()),
                ..Options::default()
            };
            let config = source.load()?;
            let state_dir = config.state_dir.clone();
            match app::start(config, options).await {
                Ok(running) => Ok(Try::Got(Self::ours(running, state_dir)?)),
                Err(StartError::Ledger(OpenError::InUse { .. })) => {
                    Self::beside(source.load()?, &wanted).await
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    fn ours(running: Running, state_dir: PathBuf) -> Result<Self, Failure> {
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
            state_dir,
            told: None,
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
        let theirs = Self::theirs(config, client.beacon(), (proxy, &made)).await;
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
        beacon: &Beacon,
        (proxy, made): (SocketAddr, &Value),
    ) -> Result<Self, Failure> {
        let text = |name: &str| made.get(name).and_then(Value::as_str).unwrap_or_default();
        let place = (proxy, text("proxy").to_owned().into());
        let session = SessionId(text("id").into());
        let budget = text("budget").parse().unwrap_or_default();
        Self::through(config, beacon, place, (session, budget, None)).await
    }

    /// In the session that the environment is in.
    async fn within(config: Config, outer: Outer, wish: &Wish) -> Result<Self, Failure> {
        let told = outer.may(wish)?;
        let proxy = plain(&outer.beacon.proxy)?;
        let place = (proxy, outer.url(proxy));
        let Session { id, budget, .. } = outer.row.session;
        Self::through(config, &outer.beacon, place, (id, budget, Some(told))).await
    }

    /// Into a proxy that somebody else runs, at this address and by this URL, for a session there.
    async fn through(
        config: Config,
        beacon: &Beacon,
        (proxy, url): (SocketAddr, Zeroizing<String>),
        (session, budget, told): (SessionId, Usd, Option<String>),
    ) -> Result<Self, Failure> {
        let ca = authorities(&config.tls.ca_dir)?;
        let away = match beacon.passing {
            // Its connections end first, and then the next one begins.
            true => config.limits.drain.saturating_add(AWAY),
            false => AWAY,
        };
        let door = match config.sessions.without_credentials {
            true => Some(Door::open(proxy, &url, away).await?),
            false => None,
        };
        let (proxy, url) = match &door {
            Some(door) => (door.at, door.url.clone()),
            None => (proxy, url),
        };
        Ok(Self {
            proxy,
            url,
            ca,
            session,
            budget,
            book: config.read_ledger()?,
            state_dir: config.state_dir.clone(),
            told,
            whose: Whose::Theirs(Neighbour::watch(config, beacon), door),
        })
    }

    /// Closes the session, if it is ours. The proxy goes on, if it is.
    pub(super) async fn close(self) -> (Option<Running>, Result<(), Failure>) {
        match self.whose {
            Whose::Ours(running) => {
                let now = running.clock.now();
                let closed = sessions::close(&*running.ledger, now, &self.session).await;
                (Some(*running), closed.map(drop).map_err(Failure::from))
            }
            Whose::Theirs(neighbour, door) => {
                drop(door);
                match self.told {
                    Some(_) => (neighbour.leave().await, Ok(())),
                    None => neighbour.end(&self.session).await,
                }
            }
        }
    }

    /// Closes the session, and the proxy if it is ours.
    pub(super) async fn end(self) -> Result<(), Failure> {
        let (running, closed) = self.close().await;
        if let Some(running) = running {
            running.hand_over().await;
        }
        closed
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
