//! Which refusals are recorded one by one. An agent may be refused as often as it asks, and asking costs it
//! nothing: without a bound it would fill the ledger and the disk, and keep payments of others waiting
//! (threats A-07, D-06, D-08). What moves money has no bound here.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::clock::DefaultClock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::payment::SessionId;

/// At once, of one session. After that, one a second.
const BURST: NonZeroU32 = match NonZeroU32::new(1000) {
    Some(n) => n,
    None => NonZeroU32::MIN,
};

/// Sessions that are remembered before those that have been quiet are forgotten.
const SESSIONS: usize = 1024;

/// How many refusals of each session were recorded lately.
pub(super) struct Refused {
    sessions: RateLimiter<Arc<str>, HashMapStateStore<Arc<str>>, DefaultClock>,
    left_out: AtomicU64,
}

impl Refused {
    pub(super) fn new() -> Self {
        let quota = Quota::per_second(NonZeroU32::MIN).allow_burst(BURST);
        Self {
            sessions: RateLimiter::hashmap(quota),
            left_out: AtomicU64::new(0),
        }
    }

    /// Is one more refusal of this session recorded? The log says when not, less and less often.
    pub(super) fn is_recorded(&self, session: &SessionId) -> bool {
        if self.sessions.len() >= SESSIONS {
            self.sessions.retain_recent();
        }
        if self.sessions.check_key(&session.0).is_ok() {
            return true;
        }
        let so_far = self.left_out.fetch_add(1, Ordering::Relaxed) + 1;
        if so_far.is_power_of_two() {
            tracing::warn!(%session, so_far, "too many refusals: they are counted, and no longer recorded one by one");
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_is_refused_without_end_takes_no_records_of_others() {
        let refused = Refused::new();
        let (one, other) = (SessionId("one".into()), SessionId("other".into()));
        let recorded = (0..10 * BURST.get()).filter(|_| refused.is_recorded(&one));
        let recorded = u32::try_from(recorded.count()).unwrap();
        // Some come back while this runs.
        assert!(
            (BURST.get()..BURST.get() + 60).contains(&recorded),
            "{recorded}"
        );
        assert!(refused.is_recorded(&other));
    }
}
