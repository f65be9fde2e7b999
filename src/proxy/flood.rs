//! How fast strangers may make this process work: new connections, and new certificates. Beyond the
//! rate a client waits; it is not refused, and nobody else notices (threats D-01, T-16).

use std::num::NonZeroU32;

use governor::clock::DefaultClock;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock>;

/// Bounds on the work that a connection may cause before anybody is known to be behind it.
pub(super) struct Flood {
    connections: Limiter,
    leaves: Limiter,
}

impl Flood {
    /// With so many new connections, and so many intercepted handshakes, a second; bursts of one
    /// second's worth.
    pub(super) fn new(connections: NonZeroU32, leaves: NonZeroU32) -> Self {
        Self {
            connections: RateLimiter::direct(Quota::per_second(connections)),
            leaves: RateLimiter::direct(Quota::per_second(leaves)),
        }
    }

    /// Waits for its turn to be accepted.
    pub(super) async fn connection(&self) {
        self.connections.until_ready().await;
    }

    /// Waits for its turn to shake hands.
    pub(super) async fn leaf(&self) {
        self.leaves.until_ready().await;
    }
}
