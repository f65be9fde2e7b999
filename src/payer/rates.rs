//! Rates in memory: a flood is turned away before it costs the ledger anything. What holds is the count in
//! the ledger; this one starts anew with the process.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::{Quota, RateLimiter};

use crate::clock::{Clock, Timestamp};
use crate::settings::Rate;

/// Buckets of one rate that are kept before full ones are dropped.
const KEYS: usize = 10_000;

/// Different rates at once: more than any policy has, also while it is edited.
const RATES: usize = 256;

/// Our clock, as the governor reads it: from the start of the process on.
#[derive(Clone)]
struct Ticks {
    clock: Arc<dyn Clock>,
    start: Timestamp,
}

impl governor::clock::Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        let millis = self.clock.now().0.saturating_sub(self.start.0);
        // A quarter of what fits: the governor adds to it unchecked.
        Nanos::new(millis.saturating_mul(1_000_000).min(u64::MAX / 4))
    }
}

/// Places that were taken: of which rate, under which key.
pub(super) type Places = Vec<(Rate, String)>;

/// The buckets of one rate, each as the governor has it: when it would be full again.
#[derive(Clone, Default)]
struct Buckets(Arc<Mutex<HashMap<String, Nanos>>>);

impl Buckets {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Nanos>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for Buckets {
    type Key = String;

    fn measure_and_replace<T, F, E>(&self, key: &String, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut all = self.lock();
        let (told, full) = f(all.get(key).copied())?;
        match all.get_mut(key) {
            Some(old) => *old = full,
            None => drop(all.insert(key.clone(), full)),
        }
        Ok(told)
    }
}

impl ShrinkableKeyedStateStore<String> for Buckets {
    fn retain_recent(&self, drop_below: Nanos) {
        self.lock().retain(|_, full| *full > drop_below);
    }

    fn len(&self) -> usize {
        self.lock().len()
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

/// One rate.
struct Keyed {
    limiter: RateLimiter<String, Buckets, Ticks, NoOpMiddleware<Nanos>>,
    buckets: Buckets,
    /// In which time a place comes back by itself.
    each: Duration,
}

/// Every rate, each with its own buckets.
pub(super) struct Rates {
    ticks: Ticks,
    all: Mutex<HashMap<Rate, Arc<Keyed>>>,
}

impl Rates {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let start = clock.now();
        Self {
            ticks: Ticks { clock, start },
            all: Mutex::default(),
        }
    }

    /// Takes one place under a key, or says in how long there is one.
    pub(super) fn take(&self, rate: Rate, key: &str) -> Result<(), Duration> {
        let keyed = self.keyed(rate);
        if keyed.limiter.len() >= KEYS {
            keyed.limiter.retain_recent();
        }
        let taken = keyed.limiter.check_key(&key.to_owned());
        taken.map_err(|no| no.wait_time_from(self.ticks.now()))
    }

    /// As if these places had never been taken.
    pub(super) fn give_back(&self, places: Places) {
        for (rate, key) in places {
            let keyed = self.keyed(rate);
            if let Some(full) = keyed.buckets.lock().get_mut(&key) {
                *full = full.saturating_sub(keyed.each.into());
            }
        }
    }

    /// `count` at once, and one more in each `seconds / count`: never less than the ledger's count in
    /// a window allows.
    fn keyed(&self, rate: Rate) -> Arc<Keyed> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= RATES {
            all.clear();
        }
        let keyed = all.entry(rate).or_insert_with(|| {
            let count = NonZeroU32::new(rate.count).unwrap_or(NonZeroU32::MIN);
            let each = Duration::from_secs(rate.seconds) / count.get();
            let quota = Quota::with_period(each).unwrap_or(Quota::per_second(count));
            let buckets = Buckets::default();
            let (quota, ticks) = (quota.allow_burst(count), self.ticks.clone());
            Arc::new(Keyed {
                limiter: RateLimiter::new(quota, buckets.clone(), ticks),
                buckets,
                each: quota.replenish_interval(),
            })
        });
        Arc::clone(keyed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::Relaxed))
        }

        fn wall(&self) -> Timestamp {
            self.now()
        }
    }

    #[test]
    fn a_rate_holds_for_each_key_and_refills_with_time() {
        let hand = Arc::new(Hand(AtomicU64::new(1_000_000)));
        let rates = Rates::new(Arc::clone(&hand) as Arc<dyn Clock>);
        let rate: Rate = "30/m".parse().unwrap();
        for _ in 0..30 {
            assert_eq!(rates.take(rate, "a"), Ok(()));
        }
        let wait = rates.take(rate, "a").unwrap_err();
        assert!(wait <= Duration::from_secs(2), "{wait:?}");
        assert_eq!(rates.take(rate, "b"), Ok(()), "another key");
        hand.0.fetch_add(2_000, Ordering::Relaxed);
        assert_eq!(rates.take(rate, "a"), Ok(()));
        assert!(rates.take(rate, "a").is_err());
        rates.give_back(vec![(rate, "a".into()), (rate, "never".into())]);
        assert_eq!(rates.take(rate, "a"), Ok(()), "one was given back");
        assert!(rates.take(rate, "a").is_err(), "and no more");
        for _ in 0..40 {
            hand.0.fetch_add(60_000, Ordering::Relaxed);
            assert_eq!(rates.take(rate, "c"), Ok(()));
            rates.give_back(vec![(rate, "c".into())]);
        }
        let all = (0..40).filter(|_| rates.take(rate, "c").is_ok()).count();
        assert_eq!(all, 30, "what comes back makes no bucket larger");
        hand.0.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(rates.take(rate, "a"), Ok(()), "the end of time is no panic");
    }
}
