//! The same request bought over and over in vain: an agent that is stuck, or a merchant that steers
//! one. What an agent gets for its money may be anything, so nothing that was delivered counts here;
//! how often that is bought is bounded by `limits.identical_payments` and the budgets.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use http::StatusCode;

use super::breaker::{Circuit, PAUSE_MAX_SECS};
use crate::clock::Timestamp;
use crate::payment::{Reason, Refusal, RequestKey};

/// Payments in a row for one and the same request that brought no success. Card schemes bound what a
/// merchant may try again at about so many; nobody wants the same error an eleventh time for money.
const IN_VAIN: u32 = 10;

/// A redirect may be what is sold, and is asked for again by whoever polls it. One that comes back
/// within this time is being followed in a circle.
const BACK_SECS: u64 = 10;

/// Requests that are watched. Each cost a payment that brought nothing, so nobody fills this for free.
const WATCHED: usize = 10_000;

#[derive(Default)]
struct Row {
    circuit: Circuit,
    last: Timestamp,
}

/// By request, which holds the session in it.
#[derive(Default)]
pub(super) struct Loops(Mutex<HashMap<RequestKey, Row>>);

impl Loops {
    /// May this request be paid once more?
    ///
    /// # Errors
    /// The refusal while it is in a loop. After the pause one payment is tried again.
    pub(super) fn check(&self, request: RequestKey, now: Timestamp) -> Result<(), Refusal> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let row = rows.get(&request).map(|row| &row.circuit);
        match row.filter(|circuit| now < circuit.open_until) {
            Some(circuit) => Err(over(circuit)),
            None => Ok(()),
        }
    }

    /// What became of a payment. Returns until when its request is not paid, if that is new.
    pub(super) fn record(
        &self,
        request: RequestKey,
        status: Option<StatusCode>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let redirect = status.is_some_and(|s| s.is_redirection() && s != StatusCode::NOT_MODIFIED);
        let error = status.is_none_or(|s| s.is_client_error() || s.is_server_error());
        if !redirect && !error {
            rows.remove(&request);
            return None;
        }
        if rows.len() >= WATCHED {
            rows.retain(|_, row| now < row.last.after_secs(PAUSE_MAX_SECS));
        }
        if rows.len() >= WATCHED && !rows.contains_key(&request) {
            return None;
        }
        let row = rows.entry(request).or_default();
        let known = row.circuit.failures >= IN_VAIN && now < row.last.after_secs(PAUSE_MAX_SECS);
        if redirect && !known && now >= row.last.after_secs(BACK_SECS) {
            row.circuit = Circuit::default();
        }
        row.circuit.failed(IN_VAIN, now);
        row.last = now;
        (row.circuit.failures == IN_VAIN).then_some(row.circuit.open_until)
    }
}

fn over(circuit: &Circuit) -> Refusal {
    let detail = format!(
        "this very request was paid {} times in a row and brought nothing but errors or redirects",
        circuit.failures
    );
    Refusal {
        retryable: true,
        resets_at: Some(circuit.open_until),
        ..Refusal::new(Reason::PaymentLoop, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(n: u64) -> RequestKey {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        RequestKey(key)
    }

    const SEE_OTHER: Option<StatusCode> = Some(StatusCode::SEE_OTHER);

    /// Buys until it is refused, at most `most` times, `gap` seconds apart.
    fn bought(loops: &Loops, most: u32, gap: u64, answer: Option<StatusCode>) -> u32 {
        let mut now = Timestamp::from_secs(1000);
        for n in 0..most {
            if loops.check(request(1), now).is_err() {
                return n;
            }
            loops.record(request(1), answer, now);
            now = now.after_secs(gap);
        }
        most
    }

    #[test]
    fn what_brings_nothing_is_bought_ten_times() {
        for answer in [400, 404, 500, 402] {
            let answer = StatusCode::from_u16(answer).ok();
            assert_eq!(bought(&Loops::default(), 100, 1, answer), IN_VAIN);
        }
        assert_eq!(bought(&Loops::default(), 100, 1, None), IN_VAIN);
        for answer in [200, 204, 206, 304] {
            let answer = StatusCode::from_u16(answer).ok();
            assert_eq!(bought(&Loops::default(), 1000, 0, answer), 1000);
        }
    }

    #[test]
    fn a_redirect_in_a_circle_ends_and_one_that_is_polled_does_not() {
        assert_eq!(
            bought(&Loops::default(), 100, BACK_SECS - 1, SEE_OTHER),
            IN_VAIN
        );
        assert_eq!(bought(&Loops::default(), 100, BACK_SECS, SEE_OTHER), 100);
    }

    #[test]
    fn a_pause_allows_one_more_and_a_success_all() {
        let (loops, now) = (Loops::default(), Timestamp::from_secs(1000));
        for _ in 0..IN_VAIN {
            loops.record(request(1), SEE_OTHER, now);
        }
        let first = loops.check(request(1), now).unwrap_err();
        assert_eq!(first.reason, Reason::PaymentLoop);
        assert_eq!(loops.check(request(2), now), Ok(()), "another request");
        let later = first.resets_at.unwrap();
        assert_eq!(loops.check(request(1), later), Ok(()));
        loops.record(request(1), SEE_OTHER, later);
        let second = loops.check(request(1), later).unwrap_err();
        assert!(
            second.resets_at.unwrap() > later.after_secs(60),
            "each pause is longer"
        );
        loops.record(request(1), Some(StatusCode::OK), later);
        assert_eq!(loops.check(request(1), later), Ok(()));
    }

    #[test]
    fn what_is_watched_has_bounds() {
        let (loops, now) = (Loops::default(), Timestamp::from_secs(1000));
        let most = u64::try_from(WATCHED).unwrap();
        for _ in 0..IN_VAIN {
            loops.record(request(0), None, now);
        }
        for n in 1..most * 2 {
            loops.record(request(n), None, now);
        }
        assert_eq!(loops.0.lock().unwrap().len(), WATCHED);
        assert!(loops.check(request(0), now).is_err(), "none is forgotten");
        let later = now.after_secs(PAUSE_MAX_SECS);
        loops.record(request(most * 3), None, later);
        assert_eq!(loops.0.lock().unwrap().len(), 1, "the old make room");
    }
}
