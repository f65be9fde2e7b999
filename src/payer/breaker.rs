//! Circuit breakers: a route, or a host, that takes payments without delivering gets no more for a
//! while (threat X-13).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::clock::Timestamp;
use crate::payment::{Reason, Refusal};
use crate::policy::plain_spelling;

/// Paid requests to one path in a row that got no usable answer.
const ROUTE_FAILURES: u32 = 5;

/// The same over all paths of a host: many broken routes are a broken merchant.
const HOST_FAILURES: u32 = 20;

/// How long a circuit stays open; doubled with every failure after that.
const PAUSE_SECS: u64 = 60;

/// The longest pause.
pub(super) const PAUSE_MAX_SECS: u64 = 3600;

/// Circuits that are watched. A new one beyond that makes room by forgetting those that are closed.
const CIRCUITS: usize = 10_000;

/// Failures in a row, and what they lead to.
#[derive(Clone, Copy, Default)]
pub(super) struct Circuit {
    pub(super) failures: u32,
    pub(super) open_until: Timestamp,
}

/// By host and path; the path of a whole host is empty.
#[derive(Default)]
pub(super) struct Breaker(Mutex<HashMap<(String, String), Circuit>>);

impl Breaker {
    /// May this route be paid?
    ///
    /// # Errors
    /// The refusal while its circuit is open. After the pause one payment is tried again.
    pub(super) fn check(&self, host: &str, path: &str, now: Timestamp) -> Result<(), Refusal> {
        let circuits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if circuits.is_empty() {
            return Ok(());
        }
        for path in [&*plain_spelling(path), ""] {
            let circuit = circuits.get(&(host.to_owned(), path.to_owned()));
            if let Some(circuit) = circuit.filter(|c| now < c.open_until) {
                return Err(open(circuit));
            }
        }
        Ok(())
    }

    /// What became of a paid request. Returns until when a circuit is open that was not before.
    pub(super) fn record(
        &self,
        host: &str,
        path: &str,
        delivered: bool,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let mut circuits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if circuits.len() >= CIRCUITS {
            circuits.retain(|_, c| c.open_until > now);
        }
        let mut opened = None;
        let path = plain_spelling(path);
        for (path, most) in [(&*path, ROUTE_FAILURES), ("", HOST_FAILURES)] {
            let key = (host.to_owned(), path.to_owned());
            if delivered {
                circuits.remove(&key);
            } else if circuits.len() < CIRCUITS || circuits.contains_key(&key) {
                let circuit = circuits.entry(key).or_default();
                circuit.failed(most, now);
                let new = circuit.failures == most;
                opened = opened.or(new.then_some(circuit.open_until));
            }
        }
        opened
    }
}

impl Circuit {
    /// One more. From `most` on the circuit is open, each time for twice as long.
    pub(super) fn failed(&mut self, most: u32, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        if let Some(beyond) = self.failures.checked_sub(most) {
            let pause = PAUSE_SECS.saturating_mul(1 << beyond.min(10));
            self.open_until = now.after_secs(pause.min(PAUSE_MAX_SECS));
        }
    }
}

fn open(circuit: &Circuit) -> Refusal {
    let detail = format!(
        "the last {} paid requests here got no usable answer",
        circuit.failures
    );
    Refusal {
        retryable: true,
        resets_at: Some(circuit.open_until),
        ..Refusal::new(Reason::CircuitOpen, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circuit_opens_after_failures_in_a_row_and_closes_on_delivery() {
        let breaker = Breaker::default();
        let now = Timestamp::from_secs(1000);
        let check = |path: &str, now| breaker.check("a.test", path, now);
        for _ in 0..ROUTE_FAILURES - 1 {
            breaker.record("a.test", "/x", false, now);
            assert_eq!(check("/x", now), Ok(()));
        }
        breaker.record("a.test", "/x", false, now);
        let refusal = check("/x", now).unwrap_err();
        assert_eq!(refusal.reason, Reason::CircuitOpen);
        assert_eq!(refusal.resets_at, Some(now.after_secs(PAUSE_SECS)));
        assert_eq!(check("/y", now), Ok(()), "another route is another circuit");

        let later = now.after_secs(PAUSE_SECS);
        assert_eq!(check("/x", later), Ok(()), "one try after the pause");
        breaker.record("a.test", "/x", false, later);
        let again = check("/x", later).unwrap_err();
        assert_eq!(again.resets_at, Some(later.after_secs(2 * PAUSE_SECS)));
        breaker.record("a.test", "/x", true, later);
        assert_eq!(check("/x", later), Ok(()));
    }

    #[test]
    fn many_broken_routes_are_a_broken_host() {
        let breaker = Breaker::default();
        let now = Timestamp::from_secs(1000);
        for n in 0..HOST_FAILURES {
            assert_eq!(breaker.check("a.test", "/new", now), Ok(()));
            breaker.record("a.test", &format!("/{n}"), false, now);
        }
        assert!(breaker.check("a.test", "/new", now).is_err());
        assert_eq!(breaker.check("b.test", "/new", now), Ok(()));
    }

    #[test]
    fn what_is_watched_has_bounds() {
        let breaker = Breaker::default();
        let now = Timestamp::from_secs(1000);
        for _ in 0..ROUTE_FAILURES {
            breaker.record("bad.test", "/", false, now);
        }
        for n in 0..CIRCUITS * 2 {
            breaker.record(&format!("{n}.test"), "/", false, now);
        }
        let watched = breaker.0.lock().unwrap().len();
        assert!(watched <= CIRCUITS, "{watched}");
        assert!(
            breaker.check("bad.test", "/", now).is_err(),
            "an open circuit is not forgotten"
        );
    }
}
