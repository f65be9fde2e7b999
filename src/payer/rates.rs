//! Rates in memory: a flood is turned away before it costs the ledger anything. What holds is the count in
//! the ledger; of this one a new process knows no more than [`Rates::recall`] tells it.

use std::collections::HashMap;
use std::hash::Hash;
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
    /// By which identical requests are counted, also those under an older policy.
    identical: Mutex<Option<Rate>>,
}

impl Rates {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let start = clock.now();
        Self {
            ticks: Ticks { clock, start },
            all: Mutex::default(),
            identical: Mutex::default(),
        }
    }

    /// By which rate identical requests are counted, whatever policy they are under.
    pub(super) fn identical(&self) -> Option<Rate> {
        *self
            .identical
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts identical requests by this rate from now on, from nothing: the keys of its buckets begin with
    /// `those`, and what they counted before is not up to date.
    pub(super) fn count_identical(&self, rate: Option<Rate>, those: &str) {
        if let Some(rate) = rate {
            let keyed = self.keyed(rate);
            keyed
                .buckets
                .lock()
                .retain(|key, _| !key.starts_with(those));
        }
        *self
            .identical
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = rate;
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

    /// When every place under a key is free again.
    pub(super) fn free_at(&self, rate: Rate, key: &str) -> Timestamp {
        let full = self.keyed(rate).buckets.lock().get(key).copied();
        let millis = full.map_or(0, |full| full.as_u64().div_ceil(1_000_000));
        Timestamp(self.ticks.start.0.saturating_add(millis))
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

    /// Takes the places of what was paid before the process began, as far as none of them is free again. `paid` are
    /// keys and times, the oldest first.
    pub(super) fn recall<K: Eq + Hash + AsRef<str>>(
        &self,
        rate: Rate,
        paid: impl Iterator<Item = (K, Timestamp)>,
    ) {
        let millis = rate.seconds.saturating_mul(1000);
        let each = (millis / u64::from(rate.count.max(1))).max(1);
        // When all places of a key are free.
        let mut free: HashMap<K, u64> = HashMap::new();
        for (key, at) in paid {
            let free = free.entry(key).or_default();
            *free = at.0.max(*free).saturating_add(each);
        }
        let now = self.ticks.clock.now().0;
        for (key, free) in free {
            let taken = free
                .saturating_sub(now)
                .div_ceil(each)
                .min(rate.count.into());
            for _ in 0..taken {
                let _ = self.take(rate, key.as_ref());
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
    fn what_was_paid_before_the_start_counts_as_long_as_it_would_have() {
        let hand = Arc::new(Hand(AtomicU64::new(1_000_000)));
        let rate: Rate = "30/m".parse().unwrap();
        let left = |paid: &[u64]| {
            let rates = Rates::new(Arc::clone(&hand) as Arc<dyn Clock>);
            rates.recall(rate, paid.iter().map(|at| ("a", Timestamp(*at))));
            assert_eq!(rates.take(rate, "b"), Ok(()), "another key");
            (0..31)
                .take_while(|_| rates.take(rate, "a").is_ok())
                .count()
        };
        assert_eq!(left(&[]), 30);
        assert_eq!(left(&[1_000_000; 20]), 10);
        assert_eq!(left(&[1_000_000; 50]), 0);
        assert_eq!(left(&[980_000; 20]), 20, "ten are free again");
        assert_eq!(left(&[900_000; 20]), 30);
        assert_eq!(left(&[995_000; 30]), 2, "the third is not free yet");
        assert_eq!(left(&[u64::MAX; 2]), 0, "no time is too late");
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
