//! Leaves a signer alone that fails again and again, so that payments are refused at once and it can recover.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row after which it is left alone.
const FAILURES: u32 = 5;

/// How long, the first time; doubled with every trial that fails.
const PAUSE: Duration = Duration::from_secs(10);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(120);

/// What a question showed of the signer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It works, although it may have refused this one payment.
    Well,
    /// Nobody else would have fared better.
    Ill,
    /// It was not asked.
    Unseen,
}

#[derive(Default)]
struct State {
    failures: u32,
    /// Until then nobody asks.
    until: Option<Instant>,
    /// Somebody asks whether it is well again.
    trying: bool,
}

/// One signer's circuit: closed, open for a while, then open to one trial.
#[derive(Default)]
pub(super) struct Breaker(Mutex<State>);

/// Leave to ask once. Whoever drops it without a word was cut off in the middle, which is a failure.
pub(super) struct Leave<'a> {
    breaker: &'a Breaker,
    health: Health,
}

impl Breaker {
    /// May the signer be asked now?
    ///
    /// # Errors
    /// Seconds to wait, at least one.
    pub(super) fn enter(&self, now: Instant) -> Result<Leave<'_>, u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = state.until {
            if now < until {
                return Err(until.duration_since(now).as_secs().saturating_add(1));
            }
            if state.trying {
                return Err(1);
            }
            state.trying = true;
        }
        Ok(Leave {
            breaker: self,
            health: Health::Ill,
        })
    }

    fn learn(&self, health: Health, now: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match health {
            Health::Well => *state = State::default(),
            Health::Unseen => state.trying = false,
            Health::Ill => {
                state.failures = state.failures.saturating_add(1);
                // Those that asked before it opened prolong nothing.
                let trial = std::mem::take(&mut state.trying);
                if trial || (state.until.is_none() && state.failures >= FAILURES) {
                    let doubled = state.failures.saturating_sub(FAILURES).min(8);
                    let trials = if trial { doubled } else { 0 };
                    let pause = PAUSE.saturating_mul(1 << trials).min(PAUSE_MAX);
                    state.until = Some(now + pause);
                }
            }
        }
    }
}

impl Leave<'_> {
    /// What it showed.
    pub(super) fn done(mut self, health: Health) {
        self.health = health;
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.breaker.learn(self.health, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(breaker: &Breaker, health: Health, now: Instant) -> Result<(), u64> {
        let mut leave = breaker.enter(now)?;
        // Learned here, by the time of the test, and not again.
        breaker.learn(health, now);
        leave.health = Health::Unseen;
        std::mem::forget(leave);
        Ok(())
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_after_one_trial() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        let after = |secs: u64| start + Duration::from_secs(secs);
        for _ in 0..4 {
            ask(&breaker, Health::Ill, start).unwrap();
        }
        ask(&breaker, Health::Well, start).unwrap();
        for _ in 0..5 {
            ask(&breaker, Health::Ill, start).unwrap();
        }
        assert_eq!(ask(&breaker, Health::Well, start), Err(11));
        assert_eq!(ask(&breaker, Health::Well, after(9)), Err(2));
        // One trial at a time, and a failed one doubles the pause.
        let trial = breaker.enter(after(10)).ok().unwrap();
        assert_eq!(breaker.enter(after(10)).err(), Some(1));
        breaker.learn(Health::Ill, after(10));
        std::mem::forget(trial);
        assert_eq!(ask(&breaker, Health::Well, after(29)), Err(2));
        // One that did not ask leaves the next to try.
        ask(&breaker, Health::Unseen, after(30)).unwrap();
        ask(&breaker, Health::Well, after(30)).unwrap();
        for _ in 0..4 {
            ask(&breaker, Health::Ill, after(31)).unwrap();
        }
        ask(&breaker, Health::Well, after(31)).unwrap();
    }

    #[test]
    fn the_pause_has_an_end_and_late_failures_prolong_nothing() {
        let (breaker, mut now) = (Breaker::default(), Instant::now());
        let leaves: Vec<_> = (0..9).map(|_| breaker.enter(now).ok().unwrap()).collect();
        for leave in leaves {
            breaker.learn(Health::Ill, now);
            std::mem::forget(leave);
        }
        assert_eq!(breaker.enter(now).err(), Some(11));
        for _ in 0..20 {
            now += PAUSE_MAX;
            ask(&breaker, Health::Ill, now).unwrap();
        }
        assert_eq!(breaker.enter(now).err(), Some(121));
        now += PAUSE_MAX;
        assert!(breaker.enter(now).is_ok());
    }

    #[test]
    fn whoever_is_cut_off_has_failed() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..5 {
            drop(breaker.enter(now).ok().unwrap());
        }
        assert!(breaker.enter(now).is_err());
    }
}
