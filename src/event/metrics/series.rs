//! Labels and counters without locks: places that are taken once, and numbers that only grow. A table
//! that is full counts under `other`, so nobody's words make it grow.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// What everything else is called.
pub(super) const OTHER: &str = "other";

/// Stays at the largest number rather than starting anew.
pub(super) fn add(counter: &AtomicU64, more: u64) {
    let sum = |now: u64| Some(now.saturating_add(more));
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
}

/// Names in the order in which they came, so many and no more.
pub(super) struct Names<T>(Box<[OnceLock<T>]>);

impl<T> Names<T> {
    pub(super) fn new(most: usize) -> Self {
        Self((0..most).map(|_| OnceLock::new()).collect())
    }

    /// The place of the first that fits.
    pub(super) fn find(&self, fits: impl Fn(&T) -> bool) -> Option<usize> {
        let taken = self.0.iter().map_while(OnceLock::get);
        taken
            .enumerate()
            .find(|(_, name)| fits(name))
            .map(|(i, _)| i)
    }

    /// The place of this one, taken now if there is one left; else the place behind all others.
    pub(super) fn keep(&self, fits: impl Fn(&T) -> bool, make: impl Fn() -> T) -> usize {
        for (place, slot) in self.0.iter().enumerate() {
            if fits(slot.get_or_init(&make)) {
                return place;
            }
        }
        self.0.len()
    }

    pub(super) fn get(&self, place: usize) -> Option<&T> {
        self.0.get(place)?.get()
    }
}

impl Names<Box<str>> {
    /// Whoever is called like the rest counts among it: two samples of one name would spoil the page.
    pub(super) fn text(&self, text: &str) -> usize {
        if text == OTHER {
            return self.0.len();
        }
        self.keep(|name| **name == *text, || text.into())
    }

    pub(super) fn name(&self, place: usize) -> &str {
        self.get(place).map_or(OTHER, |name| name)
    }
}

/// Counters under a number that stands for their labels.
pub(super) struct Series<const N: usize> {
    rows: Box<[OnceLock<Row<N>>]>,
    /// For what has no place any more.
    rest: [AtomicU64; N],
}

struct Row<const N: usize> {
    key: u64,
    counters: [AtomicU64; N],
}

fn zeros<const N: usize>() -> [AtomicU64; N] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

impl<const N: usize> Series<N> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            rows: (0..most).map(|_| OnceLock::new()).collect(),
            rest: zeros(),
        }
    }

    /// The counters of this key; a place is taken for it if there is one left.
    pub(super) fn at(&self, key: u64) -> &[AtomicU64; N] {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
        let places = self.rows.len();
        let first = usize::try_from(hash).unwrap_or_default() % places.max(1);
        let (before, after) = self.rows.split_at(first);
        for slot in after.iter().chain(before) {
            let row = slot.get_or_init(|| Row {
                key,
                counters: zeros(),
            });
            if row.key == key {
                return &row.counters;
            }
        }
        &self.rest
    }

    /// Every key with what it counts, in the order of the keys; `None` for the rest.
    pub(super) fn all(&self) -> Vec<(Option<u64>, [u64; N])> {
        let read = |counters: &[AtomicU64; N]| {
            std::array::from_fn(|i| counters.get(i).map_or(0, |c| c.load(Ordering::Relaxed)))
        };
        let rows = self.rows.iter().filter_map(OnceLock::get);
        let mut all: Vec<_> = rows.map(|r| (Some(r.key), read(&r.counters))).collect();
        all.sort_unstable();
        let rest: [u64; N] = read(&self.rest);
        if rest.iter().any(|n| *n > 0) {
            all.push((None, rest));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_place_counts_among_the_rest() {
        let names = Names::new(2);
        assert_eq!((names.text(OTHER), names.name(2)), (2, OTHER));
        assert_eq!((names.text("a"), names.text("b")), (0, 1));
        assert_eq!((names.text("c"), names.text("a")), (2, 0));
        assert_eq!((names.name(1), names.name(2)), ("b", OTHER));
        let series = Series::<1>::new(3);
        for key in [7, 8, 9, 7, 10, 11] {
            add(&series.at(key)[0], 1);
        }
        let rest = [(Some(7), [2]), (Some(8), [1]), (Some(9), [1]), (None, [2])];
        assert_eq!(series.all(), rest);
        add(&series.at(7)[0], u64::MAX);
        assert_eq!(series.all()[0], (Some(7), [u64::MAX]));
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let series = Series::<1>::new(64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..40_000).for_each(|n| add(&series.at(n % 50)[0], 1)));
            }
        });
        let all = series.all();
        assert_eq!(all.len(), 50);
        assert!(all.iter().all(|(_, [n])| *n == 3200), "{all:?}");
    }
}
