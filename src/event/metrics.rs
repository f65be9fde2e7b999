//! Counters drawn from spend events, as a page for Prometheus. Labels are from closed lists only.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::payment::Reason;

use super::{Sink, SpendEvent, State};

/// Every outcome that is a payment, in the order of the page.
const OUTCOMES: [State; 4] = [
    State::Reserved,
    State::Unknown,
    State::Settled,
    State::Released,
];

/// Counts since the process started.
pub struct Metrics {
    payments: [AtomicU64; OUTCOMES.len()],
    refusals: Vec<AtomicU64>,
    /// Refusals whose code is not in the table.
    other_refusals: AtomicU64,
    /// Billionths of a US dollar.
    spent: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            payments: Default::default(),
            refusals: Reason::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            other_refusals: AtomicU64::new(0),
            spent: AtomicU64::new(0),
        }
    }
}

impl Sink for Metrics {
    fn observe(&self, event: &SpendEvent) {
        if event.state == State::Denied {
            let code = event.reason.as_deref();
            let known = Reason::ALL.iter().position(|r| Some(r.code()) == code);
            let counter = known.and_then(|i| self.refusals.get(i));
            add(counter.unwrap_or(&self.other_refusals), 1);
            return;
        }
        let outcome = OUTCOMES.iter().position(|s| *s == event.state);
        if let Some(counter) = outcome.and_then(|i| self.payments.get(i)) {
            add(counter, 1);
        }
        if event.state == State::Settled {
            add(&self.spent, event.charged.map_or(0, |usd| usd.0));
        }
    }
}

/// Stays at the largest number rather than starting anew.
fn add(counter: &AtomicU64, more: u64) {
    let sum = |now: u64| Some(now.saturating_add(more));
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
}

impl Metrics {
    /// The page, in the text format of Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        let mut page = String::new();
        head(
            &mut page,
            "farepass_payments_total",
            "Payments that reached this state.",
        );
        for (state, counter) in OUTCOMES.iter().zip(&self.payments) {
            let (name, n) = (state.name(), counter.load(Ordering::Relaxed));
            let _ = writeln!(page, "farepass_payments_total{{outcome=\"{name}\"}} {n}");
        }
        head(
            &mut page,
            "farepass_refusals_total",
            "Requests that were not paid, by reason.",
        );
        for (reason, counter) in Reason::ALL.iter().zip(&self.refusals) {
            refusals(&mut page, reason.code(), counter);
        }
        refusals(&mut page, "other", &self.other_refusals);
        head(
            &mut page,
            "farepass_spent_usd_total",
            "Charged by settled payments, in US dollars.",
        );
        let spent = self.spent.load(Ordering::Relaxed);
        let (whole, part) = (spent / 1_000_000_000, spent % 1_000_000_000);
        let _ = writeln!(page, "farepass_spent_usd_total {whole}.{part:09}");
        page
    }
}

fn head(page: &mut String, name: &str, help: &str) {
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} counter");
}

/// Reasons that did not occur are left out: there are many.
fn refusals(page: &mut String, reason: &str, counter: &AtomicU64) {
    let n = counter.load(Ordering::Relaxed);
    if n > 0 {
        let _ = writeln!(page, "farepass_refusals_total{{reason=\"{reason}\"}} {n}");
    }
}

#[cfg(test)]
mod tests {
    use crate::money::Usd;

    use super::*;

    fn event(state: State, charged: u64, reason: Option<&str>) -> SpendEvent {
        SpendEvent {
            state,
            charged: Some(Usd(charged)),
            reason: reason.map(Into::into),
            ..SpendEvent::default()
        }
    }

    #[test]
    fn the_page_counts_what_happened() {
        let metrics = Metrics::default();
        for event in [
            event(State::Reserved, 50_000_000, None),
            event(State::Settled, 50_000_000, None),
            event(State::Reserved, 1, None),
            event(State::Unknown, 1, None),
            event(State::Settled, 1, None),
            event(State::Denied, 9, Some("over_request_cap")),
            event(State::Denied, 9, Some("\"}\nforged 1")),
        ] {
            metrics.observe(&event);
        }
        let page = metrics.render();
        for line in [
            "farepass_payments_total{outcome=\"reserved\"} 2",
            "farepass_payments_total{outcome=\"unknown\"} 1",
            "farepass_payments_total{outcome=\"settled\"} 2",
            "farepass_payments_total{outcome=\"released\"} 0",
            "farepass_refusals_total{reason=\"over_request_cap\"} 1",
            "farepass_refusals_total{reason=\"other\"} 1",
            "farepass_spent_usd_total 0.050000001",
        ] {
            assert!(page.lines().any(|l| l == line), "{line}\n{page}");
        }
        assert!(!page.contains("forged"), "{page}");
    }
}
