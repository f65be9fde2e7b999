//! The wire: from an accepted socket to an answered request. Read `exchange.rs` first.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::event::otel::Otel;
use crate::ledger::Ledger;
use crate::payer::Payer;
use crate::payment::Session;
use crate::settings::{Cidr, Egress, HostPattern, Intercept, Limits, Refusals};
use crate::tls::{Interceptor, UpstreamTls};

mod accepting;
mod activity;
mod ahead;
mod attend;
mod body;
mod challenge;
mod circle;
mod client;
mod connect;
mod copies;
mod copy;
mod crowd;
mod dial;
mod ends;
mod evidence;
mod exchange;
mod expect;
mod eyeballs;
mod failure;
mod files;
mod first;
mod flood;
mod form;
mod framing;
mod h1;
mod h2;
mod headers;
mod identify;
mod interim;
mod io;
mod lane;
mod lingers;
mod listen;
mod lookups;
mod open;
mod outgoing;
mod own;
mod parent;
mod patience;
mod pool;
mod prepay;
mod purchase;
mod refuse;
mod relay;
mod replay;
mod rest;
mod reuse;
mod rouse;
mod rpc;
mod scan;
mod serve;
mod sign_in;
mod slices;
mod socket;
mod tally;
mod target;
mod tee;
mod timer;
mod trail;
mod transparent;
mod tunnel;
mod turns;
mod upgrade;
mod upstream;

pub use attend::{Busy, Guest, Manners, attend};
pub use challenge::unpacked;
pub use files::kept;
pub use identify::{Guests, basic};
pub use listen::Door;
pub use parent::Parent;
pub use socket::UnixDoor;
pub use tally::FAMILIES;
pub use target::{NotTarget, Target};

/// Everything a proxy is made of; `app` builds it.
pub struct Parts {
    /// Decides and pays.
    pub payer: Arc<Payer>,
    /// Knows the sessions.
    pub ledger: Arc<dyn Ledger>,
    /// Whom it lets in without asking it.
    pub guests: Guests,
    /// The agent's side of TLS.
    pub interceptor: Interceptor,
    /// The merchant's side of TLS.
    pub upstream_tls: UpstreamTls,
    /// Open every host, or only those that a rule could pay.
    pub intercept: Intercept,
    /// Hosts that are always tunnelled blind.
    pub passthrough: Vec<HostPattern>,
    /// Where connections may go.
    pub egress: Egress,
    /// The proxy that connections go through.
    pub parent: Option<Parent>,
    /// Who is served; everybody when it is empty.
    pub allow_from: Vec<Cidr>,
    /// Bounds on everything.
    pub limits: Limits,
    /// How refusals look.
    pub refusals: Refusals,
    /// Our name in `Via` fields; `None` adds none.
    pub via: Option<String>,
    /// Ports that this process listens on, and those of collectors of its telemetry; never a destination
    /// on this machine.
    pub own_ports: Vec<u16>,
    /// Who traces exchanges, if anybody does.
    pub otel: Option<Arc<Otel>>,
    /// Turns true when the process shuts down.
    pub draining: watch::Receiver<bool>,
}

/// The data plane. Cheap to share; every connection holds it.
pub struct Proxy {
    payer: Arc<Payer>,
    doorkeeper: identify::Doorkeeper,
    interceptor: Interceptor,
    intercept: Intercept,
    passthrough: Vec<HostPattern>,
    upstream: upstream::Upstream,
    pool: Arc<pool::Pool>,
    lanes: lane::Lanes,
    limits: Limits,
    copies: Arc<copies::Budget>,
    /// The same for what is read of answers in search of terms.
    answers: Arc<copies::Budget>,
    refusals: Refusals,
    via: Option<Arc<str>>,
    mark: Arc<trail::Mark>,
    otel: Option<Arc<Otel>>,
    flood: flood::Flood,
    crowd: Arc<crowd::Crowd>,
    allow_from: Vec<Cidr>,
    /// One permit per client, whatever door it came through.
    connections: Arc<Semaphore>,
    /// One permit per tunnel whose bytes are only copied.
    tunnels: Arc<Semaphore>,
    /// Half of them are the most that one session has (threat D-07).
    tunnels_of_session: turns::Turns,
    /// One permit per exchange that is being paid; all of them together mean that none is.
    purchases: Arc<Semaphore>,
    /// Who may pay now, and who waits (`limits.payments_in_flight`): one session does not take every wallet
    /// and connection.
    turns: turns::Turns,
    draining: watch::Receiver<bool>,
}

/// Exchanges that may be paid at once, all sessions together: each holds a request body.
const PURCHASES: u32 = 4096;

/// How often idle upstream connections are looked through.
const SWEEP: Duration = Duration::from_secs(15);

/// Ends when the signal turns true; a sender that is gone means the same.
pub async fn turned(signal: &mut watch::Receiver<bool>) {
    // The value that `wait_for` lends must not live across the next wait of the caller.
    let _ = signal.wait_for(|on| *on).await;
}

impl Proxy {
    /// Assembles the parts. Nothing listens yet.
    #[must_use]
    pub fn new(mut parts: Parts) -> Arc<Self> {
        files::fit(&mut parts.limits);
        let pool = Arc::new(pool::Pool::new(
            parts.limits.pool_idle_timeout,
            parts.limits.pool_idle,
        ));
        let mark = Arc::new(trail::Mark::fresh());
        let upstream = upstream::Upstream {
            dialer: dial::Dialer {
                egress: parts.egress,
                parent: parts.parent,
                own: own::Own::new(parts.own_ports),
                circle: Arc::default(),
                mark: Arc::clone(&mark),
                connect_timeout: parts.limits.connect_timeout,
                pause: parts.limits.idle_timeout,
                lookups: lookups::Lookups::default(),
                dialled: tally::Count::default(),
            },
            tls: parts.upstream_tls,
            pool: Arc::clone(&pool),
            limits: parts.limits.clone(),
        };
        Arc::new(Self {
            payer: parts.payer,
            doorkeeper: identify::Doorkeeper::new(parts.ledger, parts.guests),
            interceptor: parts.interceptor,
            intercept: parts.intercept,
            passthrough: parts.passthrough,
            upstream,
            pool,
            lanes: lane::Lanes::default(),
            flood: flood::Flood::new(&parts.limits),
            crowd: crowd::Crowd::new(parts.limits.connections_per_client),
            tunnels: Arc::new(Semaphore::new(parts.limits.tunnels)),
            tunnels_of_session: turns::Turns::new(parts.limits.tunnels.div_ceil(2)),
            allow_from: parts.allow_from,
            connections: Arc::new(Semaphore::new(parts.limits.connections)),
            turns: turns::Turns::new(parts.limits.payments_in_flight),
            copies: copies::Budget::new((parts.limits.replay_bodies, parts.limits.replay_body), 0),
            answers: copies::Budget::new(
                (parts.limits.challenge_bodies, parts.limits.challenge_body),
                challenge::SPARED,
            ),
            limits: parts.limits,
            refusals: parts.refusals,
            via: parts.via.map(Arc::from),
            mark,
            otel: parts.otel,
            purchases: Arc::new(Semaphore::new(PURCHASES as usize)),
            draining: parts.draining,
        })
    }

    /// A place among what is paid now; `None` at the end. A session's own turn comes first: whoever waits for it
    /// holds none of the places of all others.
    async fn turn(
        &self,
        session: &Session,
    ) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let own = self.turns.of(&session.id.0).acquire_owned().await.ok()?;
        let place = Arc::clone(&self.purchases).acquire_owned().await.ok()?;
        Some((own, place))
    }

    /// Waits until no exchange is being paid: each has its outcome in the ledger.
    pub async fn settled(&self) {
        let _ = self.purchases.acquire_many(PURCHASES).await;
    }

    /// Is this host tunnelled without being opened?
    fn blind(&self, target: &Target) -> bool {
        self.passes(target)
            || match self.intercept {
                Intercept::All => false,
                Intercept::Payable => !self.payer.policy().payable(&target.host, target.port),
            }
    }

    /// Is it on the list of what always passes unopened?
    fn passes(&self, target: &Target) -> bool {
        let listed = |p: &HostPattern| p.matches(&target.host, target.port);
        self.passthrough.iter().any(listed)
    }
}
