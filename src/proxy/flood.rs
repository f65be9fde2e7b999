//! How fast strangers may make this process work: new connections, and new certificates. Beyond the
//! rate a client waits; it is not refused, and nobody else notices (threats D-01, T-16).

use std::sync::Arc;

use governor::clock::DefaultClock;
use governor::state::keyed::HashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::settings::Limits;

type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock>;
type BySession = RateLimiter<Arc<str>, HashMapStateStore<Arc<str>>, DefaultClock>;

/// Bounds on the work that a connection may cause before anybody is known to be behind it.
pub(super) struct Flood {
    connections: Limiter,
    leaves: Limiter,
    leaves_by_session: BySession,
}

impl Flood {
    /// With these rates; bursts of one second's worth.
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            connections: RateLimiter::direct(Quota::per_second(limits.connections_per_second)),
            leaves: RateLimiter::direct(Quota::per_second(limits.leaves_per_second)),
            leaves_by_session: RateLimiter::hashmap(Quota::per_second(limits.leaves_per_session)),
        }
    }

    /// Waits for its turn to be accepted.
    pub(super) async fn connection(&self) {
        self.connections.until_ready().await;
    }

    /// Waits for its turn to shake hands: first among those of its session, so that one session's
    /// flood takes no place of another's.
    pub(super) async fn leaf(&self, session: &Arc<str>) {
        self.leaves_by_session.until_key_ready(session).await;
        self.leaves.until_ready().await;
    }

    /// Forgets sessions that have been quiet.
    pub(super) fn sweep(&self) {
        self.leaves_by_session.retain_recent();
    }
}
