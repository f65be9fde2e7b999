//! What the operator sets, as plain values with their defaults and the reason of each default.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::PathBuf;

use http::StatusCode;

use crate::money::Usd;

mod cidr;
mod clash;
mod discovery;
mod entrance;
mod grammar;
mod host;
mod identity;
mod ledger;
mod limits;
mod origin;
mod parent;
mod port;
mod read;
mod reload;
mod telemetry;
mod webhook;

pub use cidr::{Cidr, NotCidr};
pub use discovery::discovery;
pub use entrance::{Entrance, EntranceTls, NotEntrance, here};
pub use grammar::{NotPercent, NotRate, NotSize, NotSpan, Percent, Rate, Size, Span};
pub use host::{HostPattern, NotHost, NotHostPattern, as_listed, host_and_port, normalise_host};
pub use identity::ClientCertificate;
pub use ledger::Postgres;
pub use limits::Limits;
pub use origin::origin;
pub use parent::{Through, UpstreamProxy};
pub use port::port;
pub use read::{name, network, of_name, path};
pub use reload::Reload;
pub use telemetry::{NotOtlpProtocol, NotSampler, OtlpProtocol, Sampler, Telemetry};
pub use webhook::Webhook;

/// The listeners. An agent needs the first only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// CONNECT and absolute-form. A non-loopback address needs client authentication.
    pub proxy: Vec<Entrance>,
    /// What those of them say first that have an address; plain HTTP without it.
    pub tls: Option<EntranceTls>,
    /// Users that a Unix socket serves, besides the one that the proxy runs as.
    pub allow_users: Vec<u32>,
    /// Redirected traffic, whose first destination the kernel knows: an address a family. Off unless
    /// set.
    pub transparent: Vec<SocketAddr>,
    /// Health, metrics, dashboard, API. Never reachable through the proxy.
    pub admin: SocketAddr,
    /// Whom the proxy and the transparent listener serve; everybody when it is empty.
    pub allow_from: Vec<Cidr>,
}

impl Listen {
    /// Where programs are told to go, of all entrances.
    #[must_use]
    pub fn told(&self) -> Entrance {
        let entrance = Entrance::told(&self.proxy).cloned();
        entrance.unwrap_or_else(|| Entrance::Plain((Ipv4Addr::LOCALHOST, 0).into()))
    }
}

impl Default for Listen {
    /// Loopback only: whoever wants to be reachable must say so.
    fn default() -> Self {
        let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Self {
            proxy: vec![Entrance::Plain(loopback(4020))],
            tls: None,
            allow_users: vec![],
            transparent: vec![],
            admin: loopback(4022),
            allow_from: vec![],
        }
    }
}

/// Which tunnels are opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Intercept {
    /// All but the pass-through list. The default: a 402 anywhere can be explained.
    #[default]
    All,
    /// Only hosts that some rule could pay; the rest is tunnelled blind.
    Payable,
}

/// What is opened, and whom upstream is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Folder of `ca.pem` and `ca-key.pem`, made on first start.
    pub ca_dir: PathBuf,
    /// Which tunnels are opened.
    pub intercept: Intercept,
    /// Always tunnelled blind, never paid.
    pub passthrough: Vec<HostPattern>,
    /// PEM files of roots that are believed besides the system's.
    pub extra_roots: Vec<PathBuf>,
    /// PEM files of revocation lists.
    pub crls: Vec<PathBuf>,
    /// Who we are to hosts that ask for a certificate of ours.
    pub client_certificates: Vec<ClientCertificate>,
    /// Hosts whose certificate is not verified: each named exactly, and never paid (threat T-02).
    pub insecure_hosts: Vec<HostPattern>,
}

/// Where the proxy may connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// Private, loopback and metadata addresses that are allowed all the same.
    pub allow_private: Vec<Cidr>,
    /// Ports that may be dialled.
    pub ports: Vec<u16>,
    /// Pinned names: normalised host and port to address. Implies permission for that address.
    pub resolve: BTreeMap<(String, u16), SocketAddr>,
    /// The proxy that connections go through.
    pub upstream_proxy: UpstreamProxy,
}

impl Default for Egress {
    /// The two ports of the web, and no private address: an agent must not reach what the operator's
    /// network believes to be its own.
    fn default() -> Self {
        Self {
            allow_private: vec![],
            ports: vec![443, 80],
            resolve: BTreeMap::new(),
            upstream_proxy: UpstreamProxy::None,
        }
    }
}

impl Egress {
    /// The address that this name and port are pinned to.
    #[must_use]
    pub fn pinned(&self, host: &str, port: u16) -> Option<SocketAddr> {
        if self.resolve.is_empty() {
            return None;
        }
        self.resolve.get(&(host.to_owned(), port)).copied()
    }
}

/// What an agent is given when it is not paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusals {
    /// 402, 403 or 429.
    pub status: StatusCode,
    /// Ours or the merchant's words.
    pub body: RefusalBody,
    /// Is the agent told limits, and what is left of them?
    pub numbers: bool,
}

impl Default for Refusals {
    /// 402, because nothing was paid; our own document, because merchant text is not to be trusted.
    fn default() -> Self {
        Self {
            status: StatusCode::PAYMENT_REQUIRED,
            body: RefusalBody::Problem,
            numbers: true,
        }
    }
}

/// Whose words a refusal carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefusalBody {
    /// Our `application/problem+json`.
    #[default]
    Problem,
    /// The merchant's own 402, untouched.
    Original,
}

/// What a session is given when nobody says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// Most that may be spent in it.
    pub budget: Usd,
    /// How long it lives.
    pub expires: Duration,
    /// May clients without credentials use the session `default`?
    pub without_credentials: bool,
}

impl Default for Sessions {
    /// A dollar in an hour: enough to see it work, little enough to lose.
    fn default() -> Self {
        Self {
            budget: Usd(1_000_000_000),
            expires: Duration::from_secs(3600),
            without_credentials: true,
        }
    }
}

/// What becomes of a payment without receipt, after its validity, when no chain can be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unproven {
    /// It counts. The default: a merchant can settle and keep the receipt to itself.
    #[default]
    Count,
    /// It is given back.
    Release,
}
