//! What happened since the start, as a page for Prometheus. Labels are from closed lists: the operator's
//! hosts, rules and agents, our own words, and `other` for the rest (threats D-08, L-06). Whoever counts
//! takes no lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::money::Usd;
use crate::payment::{Reason, Trace};
use crate::settings::HostPattern;

use super::{Sink, SpendEvent, State, place};

mod balance;
mod latency;
mod page;
mod series;

pub use balance::Balance;
pub use latency::Latency;
pub use page::{Family, Kind, Page, dollars};
use series::{Names, OTHER, Series, add};

/// Every outcome that is a payment, in the order of the page.
const OUTCOMES: [State; 4] = [
    State::Reserved,
    State::Unknown,
    State::Settled,
    State::Released,
];

/// Patterns of hosts that have a label of their own, the first of the policy.
const HOSTS: usize = 50;
/// Agents.
const AGENTS: usize = 32;
/// Networks: those of wallets.
const NETWORKS: usize = 16;
/// Wallets of the file.
const WALLETS: usize = 16;
/// Schemes that are paid.
const SCHEMES: usize = 8;
/// Rules.
const RULES: usize = 100;
/// Combinations of labels that have counters of their own.
const SERIES: usize = 2048;

/// A step of a payment that takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reading the challenge against the policy, and what the ledger remembers.
    Decide,
    /// Until the reservation is durable.
    Reserve,
    /// A person's turn.
    Approve,
    /// The wallet's turn.
    Sign,
    /// From sending the paid request to the head of its answer.
    Pay,
    /// From the head of the paid answer to its record.
    Settle,
    /// From the merchant's 402 to the head of the paid answer.
    Purchase,
}

const STEPS: [Step; 6] = [
    Step::Decide,
    Step::Approve,
    Step::Reserve,
    Step::Sign,
    Step::Pay,
    Step::Settle,
];

impl Step {
    /// The word in metrics and traces.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Decide => "decide",
            Self::Approve => "approve",
            Self::Reserve => "reserve",
            Self::Sign => "sign",
            Self::Pay => "pay",
            Self::Settle => "settle",
            Self::Purchase => "purchase",
        }
    }
}

/// What is drawn from spend events, and what wallets hold.
pub const FAMILIES: [Family; 9] = [
    PAYMENTS,
    AMOUNT,
    SPENT,
    REFUSALS,
    STEP,
    PURCHASE,
    balance::HELD,
    balance::LOW,
    balance::KNOWN,
];

const LABELS: &[&str] = &["outcome", "host", "scheme", "network", "agent", "wallet"];

const PAYMENTS: Family = Family::counter(
    "farepass_payments_total",
    LABELS,
    "Payments that reached this state: reserved, unknown, settled, released.",
);
const AMOUNT: Family = Family::counter(
    "farepass_amount_usd_total",
    LABELS,
    "What those payments count, in US dollars; for released ones what they would have cost.",
);
const SPENT: Family = Family::counter(
    "farepass_spent_usd_total",
    &[],
    "Charged by settled payments, in US dollars.",
);
const REFUSALS: Family = Family::counter(
    "farepass_refusals_total",
    &["reason", "rule"],
    "Requests that were not paid, by reason and deciding rule.",
);
const STEP: Family = Family {
    name: "farepass_step_seconds",
    kind: Kind::Histogram,
    labels: &["step"],
    help: "How long the steps of a payment took: decide, approve, reserve, sign, pay, settle.",
};
const PURCHASE: Family = Family {
    name: "farepass_purchase_seconds",
    kind: Kind::Histogram,
    labels: &[],
    help: "From a merchant's 402 to the head of the paid answer.",
};

/// Counts since the process started.
pub struct Metrics {
    hosts: Names<HostPattern>,
    agents: Names<Box<str>>,
    networks: Names<Box<str>>,
    wallets: Names<Box<str>>,
    schemes: Names<Box<str>>,
    rules: Names<Box<str>>,
    /// Payments and billionths of a dollar.
    payments: Series<2>,
    refusals: Series<1>,
    /// Billionths of a US dollar.
    spent: AtomicU64,
    steps: [Latency; STEPS.len()],
    purchases: Latency,
    balances: balance::Balances,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            hosts: Names::new(HOSTS),
            agents: Names::new(AGENTS),
            networks: Names::new(NETWORKS),
            wallets: Names::new(WALLETS),
            schemes: Names::new(SCHEMES),
            rules: Names::new(RULES),
            payments: Series::new(SERIES),
            refusals: Series::new(SERIES),
            spent: AtomicU64::new(0),
            steps: Default::default(),
            purchases: Latency::default(),
            balances: balance::Balances::default(),
        }
    }
}

/// Several small numbers in one, eight bits each: no table of labels has more than 255 names.
fn packed(places: &[usize]) -> u64 {
    let byte = |place: &usize| u64::try_from(*place).unwrap_or(u64::MAX).min(255);
    places.iter().fold(0, |key, place| key << 8 | byte(place))
}

/// The last of them was packed last.
fn unpacked<const N: usize>(key: u64) -> [usize; N] {
    let mut places = [0; N];
    let mut left = key;
    for place in places.iter_mut().rev() {
        *place = usize::from(u8::try_from(left & 255).unwrap_or_default());
        left >>= 8;
    }
    places
}

impl Sink for Metrics {
    fn observe(&self, event: &SpendEvent) {
        if event.state == State::Denied {
            let code = event.reason.as_deref();
            let reason = Reason::ALL.iter().position(|r| Some(r.code()) == code);
            // A rule that refused is one of the operator's; there are no others.
            let rule = self.rules.text(event.rule.as_deref().unwrap_or_default());
            let key = packed(&[reason.unwrap_or(Reason::ALL.len()), rule]);
            let [count] = self.refusals.at(key);
            return add(count, 1);
        }
        let Some(outcome) = OUTCOMES.iter().position(|s| *s == event.state) else {
            return;
        };
        let key = packed(&[
            outcome,
            self.host(&event.host),
            self.schemes.text(&event.scheme),
            self.networks.text(&event.network),
            self.agents.text(&event.agent),
            self.wallets.text(&event.wallet),
        ]);
        let [count, amount] = self.payments.at(key);
        add(count, 1);
        let usd = event.charged.or(event.price).map_or(0, |usd| usd.0);
        add(amount, usd);
        if event.state == State::Settled {
            add(&self.spent, event.charged.map_or(0, |usd| usd.0));
        }
    }

    fn left_out(&self, event: &SpendEvent) {
        self.observe(event);
    }

    fn took(&self, step: Step, time: Duration, _trace: Option<&Trace>) {
        let own = STEPS.iter().position(|s| *s == step);
        let latency = own.and_then(|i| self.steps.get(i));
        latency.unwrap_or(&self.purchases).took(time);
    }
}

impl Metrics {
    /// Hosts that have a label from now on, as far as there is room: the patterns of the policy.
    pub fn name_hosts(&self, patterns: impl Iterator<Item = HostPattern>) {
        for pattern in patterns.filter(|pattern| pattern.to_string() != OTHER) {
            self.hosts.keep(|p| *p == pattern, || pattern.clone());
        }
    }

    /// `host` has its port when that is not the default.
    fn host(&self, host: &str) -> usize {
        let (name, port) = place(host);
        let place = self.hosts.find(|pattern| pattern.matches(name, port));
        place.unwrap_or(HOSTS)
    }

    /// Adds its families.
    pub fn render(&self, page: &mut Page) {
        let all = self.payments.all();
        for (family, column) in [(&PAYMENTS, 0), (&AMOUNT, 1)] {
            page.family(family);
            for (key, numbers) in &all {
                self.payment(page, family, *key, numbers.get(column).copied());
            }
        }
        let spent = Usd(self.spent.load(Ordering::Relaxed));
        page.single(&SPENT, dollars(spent));
        page.family(&REFUSALS);
        for (key, [count]) in self.refusals.all() {
            let labels = key.map(|key| {
                let [reason, rule] = unpacked(key);
                let reason = Reason::ALL.get(reason).map_or(OTHER, |r| r.code());
                [reason, self.rules.name(rule)]
            });
            page.sample(&REFUSALS, &labels.unwrap_or([OTHER; 2]), count);
        }
        page.family(&STEP);
        for (step, latency) in STEPS.iter().zip(&self.steps) {
            latency.render(page, &STEP, &[step.name()]);
        }
        page.family(&PURCHASE);
        self.purchases.render(page, &PURCHASE, &[]);
        self.balances.render(page);
    }

    /// What wallets hold from now on, all of them.
    pub fn hold(&self, balances: Vec<Balance>) {
        self.balances.put(balances);
    }

    fn payment(&self, page: &mut Page, family: &Family, key: Option<u64>, number: Option<u64>) {
        let number = number.unwrap_or_default();
        let number = match family.name == AMOUNT.name {
            true => dollars(Usd(number)),
            false => number.to_string(),
        };
        let Some(key) = key else {
            return page.sample(family, &[OTHER; 6], number);
        };
        let [outcome, host, scheme, network, agent, wallet] = unpacked(key);
        let host = self.hosts.get(host).map(ToString::to_string);
        let labels = [
            OUTCOMES.get(outcome).map_or(OTHER, |s| s.name()),
            host.as_deref().unwrap_or(OTHER),
            self.schemes.name(scheme),
            self.networks.name(network),
            self.agents.name(agent),
            self.wallets.name(wallet),
        ];
        page.sample(family, &labels, number);
    }
}

#[cfg(test)]
mod tests;
