//! Assembly: every part is built once, in order, and taken down in order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::admin::sessions::{Opened, Wanted};
use crate::admin::{self, Admin, Beacon, Lit};
use crate::clock::Clock;
use crate::config::Config;
use crate::event::Sink;
use crate::event::metrics::Metrics;
use crate::event::otel::{self, Couriers, Otel};
use crate::event::webhook::Courier;
use crate::ledger::sessions::Named;
use crate::ledger::{Held, Ledger, PostError};
use crate::money::Usd;
use crate::payer::{self, Payer};
use crate::policy::{Mode, Policy};
use crate::proxy::{self, Proxy};
use crate::settings::{Entrance, Unproven, here};
use crate::tls::{Authority, Interceptor};
use crate::wallet::harden::harden;

mod arrival;
mod balances;
mod chains;
mod doors;
mod error;
mod files;
mod ground;
mod handout;
mod keys;
mod listener;
mod lowered;
mod parent;
mod reload;
mod sweeper;
mod telemetry;
mod vigil;
mod watchers;
mod webhook;

use arrival::Arrival;
use balances::Watchman;
pub use balances::{Holding, Holdings};
pub use chains::{chains, fetch, paying, signers};
use doors::Doors;
pub use error::StartError;
use ground::Ground;
pub use ground::guard;
pub use handout::NODE_PRELOAD;
pub use listener::listen;
pub use reload::{NotReloaded, Reloader, Weaker};
use sweeper::Sweeper;
use vigil::Vigil;
use watchers::Watch;

/// What the caller decides, and no file does.
#[derive(Default)]
pub struct Options {
    /// Who watches spend events, besides the metrics page.
    pub sinks: Vec<Arc<dyn Sink>>,
    /// A session of its own, which is also that of clients without credentials: for a proxy that
    /// lives as long as one program.
    pub own_session: Option<Wanted>,
    /// What the session of clients without credentials is called, and its agent.
    pub named: Named,
    /// Its budget, if it is to be less than `sessions.default` says.
    pub budget: Option<Usd>,
    /// Takes the place of a proxy that lived as long as one program, for others that used it. Clients without
    /// credentials may be what that program left behind: they are in no session.
    pub successor: bool,
    /// Folder for the certificates that agents of another container need; written before anybody is
    /// let in.
    pub handout: Option<PathBuf>,
}

/// A running proxy.
pub struct Running {
    /// The data plane, as programs are told.
    pub proxy: Entrance,
    /// All ways into the data plane.
    pub entrances: Vec<Entrance>,
    /// Where redirected connections arrive.
    pub transparent: Vec<SocketAddr>,
    /// The admin listener.
    pub admin: SocketAddr,
    /// Whom agents trust.
    pub authority: Arc<Authority>,
    /// The book.
    pub ledger: Arc<dyn Ledger>,
    /// Decides and pays.
    pub payer: Arc<Payer>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The session that was asked for.
    pub own_session: Option<Opened>,
    /// Who takes new policies.
    pub reloader: Arc<Reloader>,
    drain: watch::Sender<bool>,
    over: watch::Sender<bool>,
    plane: JoinSet<()>,
    beside: JoinSet<()>,
    beacon: Lit,
    drain_time: Duration,
    _held: Option<Held>,
}

/// Builds every part and starts it.
///
/// # Errors
/// The first thing that is wrong. Nothing runs then.
pub async fn start(config: Config, options: Options) -> Result<Running, StartError> {
    shield();
    let mut ground = Ground::lay(&config, &options).await?;
    let watch = Watch::new(options.sinks, &config, &ground)?;
    let watchman = ground.watchman(&config, &watch);
    let may_sign = !ground.wallets.is_empty() || config.policy.mode() == Mode::Observe;
    let judgement = (config.policy, config.unproven);
    let (payer, late) = payer(&mut ground, judgement, &config.state_dir, watch.sinks).await?;
    let reloader = Reloader::new(&ground, config.reload, &payer, &watch.metrics);
    let (drain, drains) = watch::channel(false);
    let proxy = Proxy::new(proxy::Parts {
        payer: Arc::clone(&payer),
        ledger: Arc::clone(&ground.ledger),
        guests: ground.guests,
        interceptor: Interceptor::new(Arc::clone(&ground.authority), config.limits.leaves)?,
        upstream_tls: ground.upstream_tls,
        intercept: config.tls.intercept,
        passthrough: config.tls.passthrough,
        parent: ground.parent,
        egress: config.egress,
        limits: config.limits,
        refusals: config.refusals,
        via: config.via,
        own_ports: [ground.doors.ports(), watch.ports].concat(),
        otel: watch.otel.clone(),
        allow_from: config.listen.allow_from,
        draining: drains.clone(),
    });
    let admin = Admin::new(admin::Parts {
        ledger: Arc::clone(&ground.ledger),
        payer: Arc::clone(&payer),
        clock: Arc::clone(&ground.clock) as Arc<dyn Clock>,
        token: ground.token,
        proxy: ground.doors.told(),
        certificate: vigil::certificate(&ground.authority),
        usual: ground.usual,
        ready: ready(&payer, &ground.ledger, &drains, may_sign),
        reload: reload_by(&reloader),
        metrics: page(Arc::clone(&watch.metrics), Arc::clone(&proxy), watch.otel),
        feed: watch.feed,
        numbers: config.refusals.numbers,
        started: ground.clock.now(),
    });
    let house = House {
        watchman,
        late,
        courier: watch.courier,
        couriers: watch.couriers,
        proxy,
        admin,
        payer,
        ledger: ground.ledger,
        held: ground.held,
        clock: ground.clock,
        authority: ground.authority,
        passing: options.successor || ground.own_session.is_some(),
        own_session: ground.own_session,
        reloader,
    };
    house.open(ground.doors, &config.state_dir, drain, drains)
}

/// Who pays, and what comes first where the ledger is away.
async fn payer(
    ground: &mut Ground,
    (policy, unproven): (Policy, Unproven),
    state_dir: &Path,
    sinks: Vec<Arc<dyn Sink>>,
) -> Result<(Arc<Payer>, Option<Arrival>), StartError> {
    let state_dir = state_dir.to_owned();
    let payer = Arc::new(Payer::new(payer::Parts {
        policy: Arc::new(policy),
        ledger: Arc::clone(&ground.ledger),
        wallets: std::mem::take(&mut ground.wallets),
        clock: Arc::clone(&ground.clock) as Arc<dyn Clock>,
        fresh: payer::os_randomness(),
        sinks,
        unproven,
        admin_url: format!("http://{}", here(ground.doors.admin_at)),
        stopped: Box::new(move || payer::stopped(&state_dir)),
        chains: std::mem::take(&mut ground.chains),
    }));
    let arrival = Arrival {
        ledger: Arc::clone(&ground.ledger),
        clock: Arc::clone(&ground.clock),
        payer: Arc::clone(&payer),
        session: ground.guests.own.clone(),
    };
    Ok((payer, arrival.unless_late().await?))
}

/// Every part, before anybody is let in.
struct House {
    watchman: Watchman,
    late: Option<Arrival>,
    courier: Option<Courier>,
    couriers: Option<Couriers>,
    proxy: Arc<Proxy>,
    admin: Arc<Admin>,
    payer: Arc<Payer>,
    ledger: Arc<dyn Ledger>,
    held: Option<Held>,
    clock: Arc<dyn Clock>,
    authority: Arc<Authority>,
    own_session: Option<Opened>,
    reloader: Arc<Reloader>,
    passing: bool,
}

impl House {
    fn open(
        self,
        doors: Doors,
        state_dir: &Path,
        drain: watch::Sender<bool>,
        drains: watch::Receiver<bool>,
    ) -> Result<Running, StartError> {
        let beacon = Beacon {
            pid: std::process::id(),
            proxy: doors.told(),
            admin: doors.admin_at,
            started: self.clock.now(),
            passing: self.passing,
        };
        let (over, ends) = watch::channel(false);
        let (mut plane, mut beside) = (JoinSet::new(), JoinSet::new());
        let proxy = doors.told();
        for door in doors.data {
            plane.spawn(Arc::clone(&self.proxy).serve(door));
        }
        if let Some(courier) = self.courier {
            beside.spawn(courier.run(ends.clone()));
        }
        if let Some(couriers) = self.couriers {
            beside.spawn(couriers.run(ends.clone()));
        }
        beside.spawn(self.admin.serve(doors.admin, ends));
        beside.spawn(Arc::clone(&self.reloader).run(drains.clone()));
        beside.spawn(self.watchman.watch(drains.clone()));
        let sweeper = Sweeper {
            late: self.late,
            payer: Arc::clone(&self.payer),
            ledger: Arc::clone(&self.ledger),
        };
        let vigil = Vigil::over(&self.authority, Arc::clone(&self.clock));
        beside.spawn(vigil.keep(drains.clone()));
        beside.spawn(sweeper.run(drains));
        let lit = beacon.light(state_dir);
        Ok(Running {
            proxy,
            entrances: doors.proxy_at,
            transparent: doors.transparent_at,
            admin: doors.admin_at,
            authority: self.authority,
            ledger: self.ledger,
            payer: self.payer,
            clock: self.clock,
            own_session: self.own_session,
            reloader: self.reloader,
            drain,
            over,
            plane,
            beside,
            drain_time: self.proxy.drain_time(),
            _held: self.held,
            beacon: lit.map_err(|source| StartError::File {
                path: state_dir.into(),
                source,
            })?,
        })
    }
}

/// What a process that holds keys asks of its system first.
fn shield() {
    if let Err(error) = harden() {
        tracing::warn!(%error, "this process could not be shielded from others of the same user");
    }
    files::raise();
}

impl Running {
    /// Returns when a part ended that should not have.
    pub async fn failed(&mut self) {
        tokio::select! {
            _ = self.plane.join_next() => {}
            _ = self.beside.join_next() => {}
        }
    }

    /// Signs nothing new, lets open payments finish, and stops. Takes at most `limits.drain`.
    pub async fn stop(self) {
        self.payer.drain();
        self.hand_over().await;
    }

    /// The same for a proxy whose place another one takes at once: what was asked before is paid too, since nobody
    /// would ask again.
    pub async fn hand_over(mut self) {
        let until = Instant::now() + self.drain_time;
        self.drain.send_replace(true);
        // A person may take longer than all of that, and may answer whoever is next.
        self.payer.end_questions();
        while self.plane.join_next().await.is_some() {}
        self.payer.drain();
        let left = timeout(FAREWELL, self.payer.leave_open()).await;
        if !matches!(left, Ok(Ok(()))) {
            tracing::warn!(
                "what is still open could not be noted as unknown; it counts all the same"
            );
        }
        if let Err(error) = self.written(until).await {
            tracing::error!(%error, "the last entries may be missing; what is missing counts, unless unproven payments are given back");
        }
        // Health is answered to the end.
        self.over.send_replace(true);
        while self.beside.join_next().await.is_some() {}
        drop(self.beacon);
    }

    /// Whether the last entries are stored. Where the storage does not work and a receipt waits for it, as long
    /// as the time lasts: whoever takes over knows of no other.
    async fn written(&self, until: Instant) -> Result<(), PostError> {
        loop {
            let flushed = self.ledger.flush().await;
            let may_heal = matches!(flushed, Err(PostError::Unavailable(_)));
            if !may_heal || !self.ledger.owes() || Instant::now() >= until {
                return flushed;
            }
            sleep(AGAIN).await;
        }
    }
}

/// Between two looks whether the ledger is well again, at the end.
const AGAIN: Duration = Duration::from_millis(100);

/// For what is said of open payments at the end.
const FAREWELL: Duration = Duration::from_secs(3);

/// "May pay": the ledger can promise and was read, somebody can sign, and the end is not near. A freeze is the
/// operator's will and no fault: whoever is frozen still forwards, and is not taken out of service.
fn ready(
    payer: &Arc<Payer>,
    ledger: &Arc<dyn Ledger>,
    drains: &watch::Receiver<bool>,
    may_sign: bool,
) -> admin::Ready {
    let (payer, ledger, drains) = (Arc::clone(payer), Arc::clone(ledger), drains.clone());
    Box::new(move || {
        if *drains.borrow() {
            return Err("shutting down".into());
        }
        if !may_sign {
            return Err("no wallet is configured".into());
        }
        // What is wrong now says more than what was wrong when it was read last.
        let may = ledger.healthy().and(payer.waits().map_or(Ok(()), Err));
        may.map_err(|e| e.to_string())
    })
}

fn reload_by(reloader: &Arc<Reloader>) -> admin::Reload {
    let reloader = Arc::clone(reloader);
    Box::new(move |allow| {
        let may = match allow {
            true => Weaker::Allowed,
            false => Weaker::AsWritten,
        };
        let reloader = Arc::clone(&reloader);
        Box::pin(async move { reloader.reload(may).await.map_err(|e| e.to_string()) })
    })
}

fn page(metrics: Arc<Metrics>, proxy: Arc<Proxy>, otel: Option<Arc<Otel>>) -> admin::Metrics {
    Box::new(move |page| {
        metrics.render(page);
        proxy.render(page);
        otel::render(otel.as_deref(), page);
    })
}
