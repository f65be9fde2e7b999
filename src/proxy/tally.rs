//! What the data plane counts, and how full it is.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{PURCHASES, Proxy};
use crate::event::metrics::{Family, Page};

/// A number that only grows.
#[derive(Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Handshakes on one side.
#[derive(Default)]
pub(super) struct Handshakes {
    done: Count,
    failed: Count,
}

impl Handshakes {
    pub(super) fn shaken<T, E, F>(&self, shaken: &Result<Result<T, E>, F>) {
        match shaken {
            Ok(Ok(_)) => self.done.one(),
            Ok(Err(_)) | Err(_) => self.failed.one(),
        }
    }
}

/// The counters.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) accepted: Count,
    pub(super) turned_away: Count,
    pub(super) agents: Handshakes,
    pub(super) merchants: Handshakes,
    pub(super) reused: Count,
}

const CONNECTIONS: Family = Family::gauge(
    "farepass_connections_open",
    &[],
    "Connections of agents that are open.",
);
const CONNECTIONS_MAX: Family = Family::gauge(
    "farepass_connections_limit",
    &[],
    "Most that may be open (limits.connections).",
);
const ACCEPTED: Family = Family::counter(
    "farepass_connections_total",
    &["result"],
    "Connections of agents: served, or turned away because one client had too many or few files were left.",
);
const TUNNELS: Family = Family::gauge(
    "farepass_blind_tunnels",
    &[],
    "Tunnels that are open and not looked into.",
);
const BUYING: Family = Family::gauge(
    "farepass_purchases_in_flight",
    &[],
    "Exchanges that are being paid.",
);
const HANDSHAKES: Family = Family::counter(
    "farepass_handshakes_total",
    &["side", "result"],
    "TLS handshakes with agents (in tunnels that are opened) and with merchants.",
);
const LEAVES: Family = Family::gauge(
    "farepass_leaf_certificates_cached",
    &[],
    "Leaf certificates in the cache.",
);
const MINTED: Family = Family::counter(
    "farepass_leaf_certificates_total",
    &["result"],
    "Leaf certificates that were wanted: found in the cache, or made.",
);
const POOL: Family = Family::gauge(
    "farepass_pool_connections",
    &["version"],
    "Connections to merchants that are kept: idle ones of HTTP/1.1, all of HTTP/2.",
);
const UPSTREAM: Family = Family::counter(
    "farepass_upstream_connections_total",
    &["result"],
    "Connections to hosts: dialled, or (HTTP/1.1) taken again.",
);

/// What the data plane shows.
pub const FAMILIES: [Family; 10] = [
    CONNECTIONS,
    CONNECTIONS_MAX,
    ACCEPTED,
    TUNNELS,
    BUYING,
    HANDSHAKES,
    LEAVES,
    MINTED,
    POOL,
    UPSTREAM,
];

impl Proxy {
    /// Adds its families to a page of metrics.
    pub fn render(&self, page: &mut Page) {
        let tally = &self.pool.tally;
        page.single(&CONNECTIONS, self.crowd.size());
        page.single(&CONNECTIONS_MAX, self.limits.connections);
        page.family(&ACCEPTED);
        page.sample(&ACCEPTED, &["served"], tally.accepted.now());
        page.sample(&ACCEPTED, &["turned_away"], tally.turned_away.now());
        let tunnels = self.tunnels.available_permits();
        page.single(&TUNNELS, self.limits.tunnels.saturating_sub(tunnels));
        let buying = (PURCHASES as usize).saturating_sub(self.purchases.available_permits());
        page.single(&BUYING, buying);
        page.family(&HANDSHAKES);
        for (side, shaken) in [("agent", &tally.agents), ("merchant", &tally.merchants)] {
            page.sample(&HANDSHAKES, &[side, "ok"], shaken.done.now());
            page.sample(&HANDSHAKES, &[side, "failed"], shaken.failed.now());
        }
        page.single(&LEAVES, self.interceptor.cached_leaves());
        let (found, made) = self.interceptor.wanted_leaves();
        page.family(&MINTED);
        page.sample(&MINTED, &["cached"], found);
        page.sample(&MINTED, &["made"], made);
        let (h1, h2) = self.pool.kept();
        page.family(&POOL);
        page.sample(&POOL, &["1.1"], h1);
        page.sample(&POOL, &["2"], h2);
        page.family(&UPSTREAM);
        page.sample(&UPSTREAM, &["dialled"], self.upstream.dialer.dialled.now());
        page.sample(&UPSTREAM, &["reused"], tally.reused.now());
    }
}
