//! How long things took, counted in buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::page::{Family, Page};
use super::series::add;

/// Upper bounds: microseconds, and the same in seconds as it is written.
const BOUNDS: [(u64, &str); 15] = [
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (10_000_000, "10"),
    (60_000_000, "60"),
];

/// One histogram.
#[derive(Default)]
pub struct Latency {
    buckets: [AtomicU64; BOUNDS.len()],
    beyond: AtomicU64,
    micros: AtomicU64,
}

impl Latency {
    /// One more.
    pub fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let fits = BOUNDS.iter().position(|(bound, _)| micros <= *bound);
        let bucket = fits.and_then(|i| self.buckets.get(i));
        add(bucket.unwrap_or(&self.beyond), 1);
        add(&self.micros, micros);
    }

    /// Its lines, with these values of the family's labels.
    pub fn render(&self, page: &mut Page, family: &Family, values: &[&str]) {
        let mut sum = 0_u64;
        for ((_, bound), bucket) in BOUNDS.iter().zip(&self.buckets) {
            sum = sum.saturating_add(bucket.load(Ordering::Relaxed));
            page.line(family, "_bucket", values, Some(bound), sum);
        }
        sum = sum.saturating_add(self.beyond.load(Ordering::Relaxed));
        page.line(family, "_bucket", values, Some("+Inf"), sum);
        let micros = self.micros.load(Ordering::Relaxed);
        let seconds = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
        page.line(family, "_sum", values, None, seconds);
        page.line(family, "_count", values, None, sum);
    }
}
