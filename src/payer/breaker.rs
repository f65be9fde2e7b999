//! A circuit breaker per host: who takes payments without delivering gets no more for a while
//! (threat X-13).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Timestamp;
use crate::payment::{Reason, Refusal};

/// Paid requests in a row that got no usable answer.
const FAILURES: u32 = 5;

/// How long the circuit stays open; doubled with every failure after that.
const PAUSE_SECS: u64 = 60;

/// The longest pause.
const PAUSE_MAX_SECS: u64 = 3600;

/// Hosts that are watched. A new one beyond that makes room by forgetting those that are closed.
const HOSTS: usize = 10_000;

#[derive(Clone, Copy, Default)]
struct Circuit {
    failures: u32,
    open_until: Timestamp,
}

#[derive(Default)]
pub(super) struct Breaker(Mutex<HashMap<Arc<str>, Circuit>>);

impl Breaker {
    /// May this host be paid?
    ///
    /// # Errors
    /// The refusal while its circuit is open. After the pause one payment is tried again.
    pub(super) fn check(&self, host: &str, now: Timestamp) -> Result<(), Refusal> {
        let circuits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match circuits.get(host) {
            Some(circuit) if now < circuit.open_until => {
                let detail = format!(
                    "the last {} paid requests to this host got no usable answer",
                    circuit.failures
                );
                Err(Refusal {
                    retryable: true,
                    resets_at: Some(circuit.open_until),
                    ..Refusal::new(Reason::CircuitOpen, detail)
                })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What became of a paid request.
    pub(super) fn record(&self, host: &Arc<str>, delivered: bool, now: Timestamp) {
        let mut circuits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if delivered {
            circuits.remove(host);
            return;
        }
        if circuits.len() >= HOSTS {
            circuits.retain(|_, c| c.open_until > now);
        }
        let circuit = circuits.entry(Arc::clone(host)).or_default();
        circuit.failures = circuit.failures.saturating_add(1);
        if let Some(beyond) = circuit.failures.checked_sub(FAILURES) {
            let pause = PAUSE_SECS
                .saturating_mul(1 << beyond.min(10))
                .min(PAUSE_MAX_SECS);
            circuit.open_until = now.after_secs(pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_circuit_opens_after_failures_in_a_row_and_closes_on_delivery() {
        let (breaker, host) = (Breaker::default(), Arc::<str>::from("a.test"));
        let now = Timestamp::from_secs(1000);
        for _ in 0..FAILURES - 1 {
            breaker.record(&host, false, now);
            assert_eq!(breaker.check(&host, now), Ok(()));
        }
        breaker.record(&host, false, now);
        let refusal = breaker.check(&host, now).unwrap_err();
        assert_eq!(refusal.reason, Reason::CircuitOpen);
        assert_eq!(refusal.resets_at, Some(now.after_secs(PAUSE_SECS)));
        assert_eq!(breaker.check("b.test", now), Ok(()));

        let later = now.after_secs(PAUSE_SECS);
        assert_eq!(
            breaker.check(&host, later),
            Ok(()),
            "one try after the pause"
        );
        breaker.record(&host, false, later);
        let again = breaker.check(&host, later).unwrap_err();
        assert_eq!(again.resets_at, Some(later.after_secs(2 * PAUSE_SECS)));
        breaker.record(&host, true, later);
        assert_eq!(breaker.check(&host, later), Ok(()));
    }
}
