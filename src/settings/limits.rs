//! Every limit with its default and the reason of the default.

use core::num::NonZeroU32;
use core::time::Duration;

use crate::section::{Section, SectionError};

use super::read::positive;
use super::{Rate, Size};

/// A limit on everything that somebody else decides the size of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of a request body that are kept for the second sending. API calls are smaller;
    /// what is longer still streams, but cannot be paid for. Default 1 MiB.
    pub replay_body: usize,
    /// Most bytes that are kept of all request bodies together; beyond, more stream and cannot be paid for. Default
    /// 32 MiB: a quarter of a small sidecar's memory.
    pub replay_bodies: usize,
    /// Most bytes of a 402 body that are read in search of terms. Honest challenges have a few
    /// kilobytes; base64 images in them a few hundred. Default 1 MiB.
    pub challenge_body: usize,
    /// Most bytes that are held of all answers together while they are read in search of terms, those of up to 16 KiB
    /// not counted; what is beyond passes unread. Default 16 MiB: an eighth of a small sidecar's memory.
    pub challenge_bodies: usize,
    /// Most ways to pay in one challenge. Honest ones list one to eight. Default 32.
    pub requirements: usize,
    /// Most bytes of a head, request or response, all header lines together. Above the 16 KiB that
    /// common servers take, with room for a challenge header of full length. Default 96 KiB.
    pub header_bytes: usize,
    /// Most header lines of a head. Default 100: browsers send about 30, and the parser keeps so many
    /// without asking for memory.
    pub header_count: usize,
    /// Most connections of agents at once; the next ones wait to be accepted. Each may cost a replay
    /// copy and two TLS states. Default 10,000: memory, not this, is the bound of a small sidecar.
    pub connections: usize,
    /// Most of these connections from one address; one more is turned away. A hostile client leaves
    /// half of them to the others. Default 5,000.
    pub connections_per_client: usize,
    /// Most tunnels whose bytes are only copied: hosts that are not opened, and connections after an
    /// upgrade such as WebSocket; one session has half of them at most. Each keeps two sockets and up to
    /// four buffers. Default 4,000.
    pub tunnels: usize,
    /// From the first byte of a request to the end of its head, and from the accepted connection to
    /// the first byte. Slow senders must not hold connections. Default 30 s.
    pub header_timeout: Duration,
    /// For a TLS handshake with an agent or an upstream. Default 10 s.
    pub handshake_timeout: Duration,
    /// For the TCP connection to an upstream, all its addresses together. Default 10 s.
    pub connect_timeout: Duration,
    /// How long a body, stream or tunnel may be silent before it is closed. Event streams send
    /// keep-alives every 15 to 60 s. Default 5 min.
    pub idle_timeout: Duration,
    /// From the answer to CONNECT to the agent's first byte inside the tunnel. Protocols in which
    /// the server speaks first must not hang. Default 10 s.
    pub first_byte_timeout: Duration,
    /// How long a connection of an agent lives on while no byte moves on it either way and no answer's head is
    /// waited for: that may take as long as `upstream_total` and a person's approval allow. Longer than
    /// `idle_timeout`, because bodies are silent so long; it ends idle connections and clients that ask and
    /// never read. Default 10 min.
    pub connection_idle: Duration,
    /// How long a connection of an agent may live, tunnel or not; then it ends with the request that is
    /// on it, and a tunnel at once. Credentials and routes change in that time. Default 24 h.
    pub connection_lifetime: Duration,
    /// How long a request body with `Expect: 100-continue` is held back for the upstream's word. Upstreams
    /// that do not know it say nothing, and clients wait about as long. Default 1 s.
    pub expect_timeout: Duration,
    /// From the end of a request to the head of its response. It bounds no body, so streams are not
    /// cut, and it must outlast a settlement on a slow chain (seconds to a minute). Default 60 s.
    pub upstream_total: Duration,
    /// Most seconds that a signed payload may live, whatever the merchant asks: as long as it lives
    /// its price is held. Default 300 s, the common default of merchants.
    pub validity: Duration,
    /// How long a shutdown waits for open requests and payments. Kubernetes kills after 30 s by
    /// default. Default 25 s.
    pub drain: Duration,
    /// How often nodes are asked what the wallets hold. Money runs out over hours, and nodes of others count
    /// questions. Default 60 s.
    pub balance_interval: Duration,
    /// Most payments of one session between reservation and answer. Default 64.
    pub payments_in_flight: usize,
    /// Most payments for the very same request: session, method, URL, body and `Idempotency-Key`. Polling is
    /// slower and a hundred samples of one prompt are fewer; a program that is stuck is faster. `None` for
    /// any number. Default 300 in a minute.
    pub identical_payments: Option<Rate>,
    /// Idle upstream connections kept per session and host. Default 32.
    pub pool_idle: usize,
    /// Most requests at once on one HTTP/2 connection of an agent. Default 128.
    pub h2_streams: u32,
    /// Most HTTP/2 streams that a peer opens and takes back before they were looked at; one more ends the
    /// connection (CVE-2023-44487). Browsers take back a page's worth. Default 64.
    pub h2_resets: usize,
    /// Most HTTP/2 streams of a connection that end in an error of the peer's making; one more ends the
    /// connection (CVE-2025-8671). Default 256.
    pub h2_errors: usize,
    /// How long an idle upstream connection is kept: less than the 60 s after which common servers
    /// close it. Default 50 s.
    pub pool_idle_timeout: Duration,
    /// Most new connections of agents a second; the next ones wait. Twenty times what a busy agent
    /// opens. Default 5,000.
    pub connections_per_second: NonZeroU32,
    /// Most intercepted handshakes a second, each of which may sign a leaf; the next ones wait. Both
    /// cores are busy at about half of it. Default 5,000.
    pub leaves_per_second: NonZeroU32,
    /// Most of these handshakes in one session; its next ones wait. An agent that asks for ever new names
    /// keeps only itself busy. Default 500.
    pub leaves_per_session: NonZeroU32,
    /// Most leaf certificates kept. A leaf and its key have about 2 KB. Default 1024.
    pub leaves: usize,
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const PER_SECOND: NonZeroU32 = rate(5_000);
const PER_SESSION: NonZeroU32 = rate(500);

const IDENTICAL: Rate = Rate {
    count: 300,
    seconds: 60,
};

const fn rate(n: u32) -> NonZeroU32 {
    match NonZeroU32::new(n) {
        Some(n) => n,
        None => NonZeroU32::MIN,
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            replay_body: MIB,
            replay_bodies: 32 * MIB,
            challenge_body: MIB,
            challenge_bodies: 16 * MIB,
            requirements: 32,
            header_bytes: 96 * KIB,
            header_count: 100,
            connections: 10_000,
            connections_per_client: 5_000,
            tunnels: 4_000,
            header_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            first_byte_timeout: Duration::from_secs(10),
            connection_idle: Duration::from_secs(600),
            connection_lifetime: Duration::from_secs(24 * 3600),
            expect_timeout: Duration::from_secs(1),
            upstream_total: Duration::from_secs(60),
            validity: Duration::from_secs(300),
            drain: Duration::from_secs(25),
            balance_interval: Duration::from_secs(60),
            payments_in_flight: 64,
            identical_payments: Some(IDENTICAL),
            pool_idle: 32,
            h2_streams: 128,
            h2_resets: 64,
            h2_errors: 256,
            pool_idle_timeout: Duration::from_secs(50),
            connections_per_second: PER_SECOND,
            leaves_per_second: PER_SECOND,
            leaves_per_session: PER_SESSION,
            leaves: 1024,
        }
    }
}

impl Limits {
    /// `header_bytes` as HTTP/2 counts them.
    #[must_use]
    pub fn header_bytes_u32(&self) -> u32 {
        u32::try_from(self.header_bytes).unwrap_or(u32::MAX)
    }
}

impl Limits {
    /// Reads `limits:`. What is not written keeps its default.
    ///
    /// # Errors
    /// With the place of what cannot be read.
    pub fn read(mut section: Section) -> Result<Self, SectionError> {
        let mut limits = Self::default();
        limits.read_sizes(&mut section)?;
        limits.read_counts(&mut section)?;
        limits.read_times(&mut section)?;
        section.finish()?;
        Ok(limits)
    }

    fn read_sizes(&mut self, section: &mut Section) -> Result<(), SectionError> {
        for (key, limit, least, most) in [
            ("replay_body", &mut self.replay_body, 0, 1024 * MIB),
            (
                "replay_bodies",
                &mut self.replay_bodies,
                0,
                1024 * 1024 * MIB,
            ),
            ("challenge_body", &mut self.challenge_body, KIB, 64 * MIB),
            (
                "challenge_bodies",
                &mut self.challenge_bodies,
                0,
                1024 * 1024 * MIB,
            ),
            ("header_bytes", &mut self.header_bytes, 8 * KIB, 16 * MIB),
        ] {
            let size = |s: Section| {
                let size = s.clone().parse::<Size>()?;
                let fits = usize::try_from(size.0).ok();
                fits.filter(|n| (least..=most).contains(n)).ok_or_else(|| {
                    let (least, most) = (Size(least as u64), Size(most as u64));
                    s.error(format!("found {size}, expected {least} to {most}"))
                })
            };
            *limit = section.or(key, *limit, size)?;
        }
        Ok(())
    }

    fn read_counts(&mut self, section: &mut Section) -> Result<(), SectionError> {
        for (key, limit, most) in [
            ("requirements", &mut self.requirements, 256),
            ("header_count", &mut self.header_count, 10_000),
            ("connections", &mut self.connections, 1_000_000),
            (
                "connections_per_client",
                &mut self.connections_per_client,
                1_000_000,
            ),
            ("tunnels", &mut self.tunnels, 1_000_000),
            ("h2_resets", &mut self.h2_resets, 10_000),
            ("h2_errors", &mut self.h2_errors, 10_000),
            ("payments_in_flight", &mut self.payments_in_flight, 10_000),
            ("pool_idle", &mut self.pool_idle, 10_000),
            ("leaves", &mut self.leaves, 1_000_000),
        ] {
            let count = |s: Section| s.number(1..=most);
            let count = section.or(key, *limit as u64, count)?;
            *limit = usize::try_from(count).unwrap_or(*limit);
        }
        let streams = section.or("h2_streams", self.h2_streams.into(), |s| {
            s.number(1..=10_000)
        })?;
        self.h2_streams = u32::try_from(streams).unwrap_or(self.h2_streams);
        for (key, limit) in [
            ("connections_per_second", &mut self.connections_per_second),
            ("leaves_per_second", &mut self.leaves_per_second),
            ("leaves_per_session", &mut self.leaves_per_session),
        ] {
            let rate = section.or(key, limit.get().into(), |s| s.number(1..=1_000_000))?;
            let rate = u32::try_from(rate).ok().and_then(NonZeroU32::new);
            *limit = rate.unwrap_or(*limit);
        }
        let identical = self.identical_payments;
        self.identical_payments =
            section.or("identical_payments", identical, identical_payments)?;
        Ok(())
    }

    fn read_times(&mut self, section: &mut Section) -> Result<(), SectionError> {
        for (key, limit) in [
            ("header_timeout", &mut self.header_timeout),
            ("handshake_timeout", &mut self.handshake_timeout),
            ("connect_timeout", &mut self.connect_timeout),
            ("idle_timeout", &mut self.idle_timeout),
            ("first_byte_timeout", &mut self.first_byte_timeout),
            ("connection_idle", &mut self.connection_idle),
            ("connection_lifetime", &mut self.connection_lifetime),
            ("expect_timeout", &mut self.expect_timeout),
            ("upstream_total", &mut self.upstream_total),
            ("drain", &mut self.drain),
            ("balance_interval", &mut self.balance_interval),
            ("pool_idle_timeout", &mut self.pool_idle_timeout),
        ] {
            *limit = section.or(key, *limit, positive)?;
        }
        self.validity = section.or("validity", self.validity, validity)?;
        Ok(())
    }
}

fn identical_payments(section: Section) -> Result<Option<Rate>, SectionError> {
    match section.clone().text()?.as_str() {
        "off" => Ok(None),
        text => {
            let rate = text.parse().ok();
            let expected = || section.expected("a rate such as 300/m, or off");
            rate.ok_or_else(expected).map(Some)
        }
    }
}

/// Facilitators want six seconds left when they look (x402 `exact`, EIP-3009); beyond an hour a hold
/// is no longer a hold.
fn validity(section: Section) -> Result<Duration, SectionError> {
    let length = positive(section.clone())?;
    let bounds = Duration::from_secs(10)..=Duration::from_secs(3600);
    match bounds.contains(&length) && length.subsec_millis() == 0 {
        true => Ok(length),
        false => Err(section.expected("whole seconds from \"10s\" to \"1h\"")),
    }
}
