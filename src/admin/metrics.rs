//! `/metrics`: what was counted since the start, and how ledger, budgets and questions stand now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Admin;
use super::budgets::Standing;
use super::control;
use super::problem::{Answer, typed};
use crate::event::State;
use crate::event::metrics::{Family, Kind, Latency, Page, dollars};
use crate::ledger::{PostError, Standings};
use crate::money::Usd;
use crate::payment::{PaymentId, SessionId};
use crate::policy::Mode;

const BUDGET: &[&str] = &["budget", "scope"];

const BUILD: Family = Family::gauge(
    "farepass_build_info",
    &["version", "mode"],
    "1, with what runs.",
);
const STARTED: Family = Family::gauge(
    "farepass_start_time_seconds",
    &[],
    "When it started, in seconds of the Unix epoch.",
);
const CA_END: Family = Family::gauge(
    "farepass_ca_not_after_seconds",
    &[],
    "When the certificate of the authority that agents trust ends, in seconds of the Unix epoch.",
);
const READY: Family = Family::gauge(
    "farepass_ready",
    &[],
    "1 when it may pay, 0 when it may not (as /readyz); a freeze does not count.",
);
const UP: Family = Family::gauge(
    "farepass_ledger_up",
    &[],
    "1 when the ledger could be read for this page; what is read from it is missing otherwise.",
);
const RECORDS: Family = Family::gauge(
    "farepass_ledger_records",
    &[],
    "Number of the newest record in the hash chain. It never falls.",
);
const OPEN: Family = Family::gauge(
    "farepass_open_payments",
    &["state"],
    "Payments whose end is not known: reserved, unknown.",
);
const OPEN_USD: Family = Family::gauge(
    "farepass_open_usd",
    &["state"],
    "What those payments count, in US dollars.",
);
const WAITING: Family = Family::gauge(
    "farepass_approvals_waiting",
    &[],
    "Payments that wait for a person.",
);
const FREEZES: Family = Family::gauge(
    "farepass_freezes",
    &[],
    "Freezes in force: all, hosts, agents, the file `freeze`, and a SIGUSR1 that is not stored yet.",
);
const SESSIONS: Family = Family::gauge(
    "farepass_sessions",
    &["state"],
    "Sessions: open, over (closed or expired), spent (open, and nothing is left).",
);
const LIMIT: Family = Family::gauge(
    "farepass_budget_limit_usd",
    BUDGET,
    "Limit of a budget, in US dollars.",
);
const SPENT: Family = Family::gauge(
    "farepass_budget_spent_usd",
    BUDGET,
    "What counts now in that account of a budget in which the most does, in US dollars.",
);
const REMAINING: Family = Family::gauge(
    "farepass_budget_remaining_usd",
    BUDGET,
    "What is left in that account, in US dollars.",
);
const RATIO: Family = Family::gauge(
    "farepass_budget_used_ratio",
    BUDGET,
    "How much of the limit is used in the fullest account, by money or by payments: 1 is all of it.",
);
const ACCOUNTS: Family = Family::gauge(
    "farepass_budget_accounts",
    BUDGET,
    "Accounts of a budget in which something counts now.",
);
const READERS: Family = Family::gauge(
    "farepass_event_streams",
    &[],
    "Streams of events that are read now.",
);

const API: Family = Family {
    name: "farepass_api_seconds",
    kind: Kind::Histogram,
    labels: &["result"],
    help: "Requests to the operator's API until the head of their answer: ok, refused (4xx), failed (5xx).",
};

/// For what is read from the ledger: whoever scrapes does not wait long, and the rest of the page is worth having.
const PATIENCE: Duration = Duration::from_secs(2);

/// What this part of the page shows.
pub const FAMILIES: [Family; 18] = [
    BUILD, STARTED, CA_END, READY, UP, RECORDS, OPEN, OPEN_USD, WAITING, FREEZES, SESSIONS, LIMIT,
    SPENT, REMAINING, RATIO, ACCOUNTS, READERS, API,
];

/// How requests to the API ended.
const RESULTS: [&str; 3] = ["ok", "refused", "failed"];

/// Requests to the API since the start.
#[derive(Default)]
pub(super) struct Asked([Latency; RESULTS.len()]);

impl Asked {
    pub(super) fn took(&self, status: StatusCode, time: Duration) {
        let result = match (status.is_client_error(), status.is_server_error()) {
            (true, _) => 1,
            (_, true) => 2,
            (false, false) => 0,
        };
        if let Some(latency) = self.0.get(result) {
            latency.took(time);
        }
    }
}

/// Read from the ledger, before anything is written.
struct Book {
    records: u64,
    open: [(State, u64, u64); 2],
    waiting: usize,
    freezes: usize,
    sessions: Standings,
    budgets: Vec<Standing>,
}

impl Admin {
    /// The page. `numbers`: whoever asks may know limits, and what is left of them.
    pub(super) async fn page(&self, numbers: bool) -> Answer {
        let parts = &self.parts;
        let mut page = Page::default();
        let mode = match parts.payer.policy().mode() {
            Mode::Enforce => "enforce",
            Mode::Observe => "observe",
        };
        page.family(&BUILD);
        page.sample(&BUILD, &[env!("CARGO_PKG_VERSION"), mode], 1);
        page.single(&STARTED, parts.started.secs());
        page.single(&CA_END, parts.certificate.1.secs());
        page.single(&READY, u8::from((parts.ready)().is_ok()));
        (parts.metrics)(&mut page);
        page.single(&READERS, parts.feed.readers());
        page.family(&API);
        for (result, latency) in RESULTS.iter().zip(&self.asked.0) {
            latency.render(&mut page, &API, &[result]);
        }
        let late = |_| Err(PostError::Unavailable("it did not answer in time".into()));
        let book = timeout(PATIENCE, self.book(numbers)).await;
        match book.unwrap_or_else(late) {
            Ok(book) => {
                page.single(&UP, 1);
                self.written(&mut page, &book, numbers);
            }
            Err(error) => {
                tracing::warn!(%error, "the ledger cannot be read for the page of metrics");
                page.single(&UP, 0);
            }
        }
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        typed(StatusCode::OK, kind, page.text())
    }

    async fn book(&self, numbers: bool) -> Result<Book, PostError> {
        let ledger = &*self.parts.ledger;
        let now = self.parts.clock.later();
        let mut open = [(State::Reserved, 0_u64, 0_u64), (State::Unknown, 0, 0)];
        for (payment, event) in ledger.open().await? {
            for (_, count, sum) in open.iter_mut().filter(|(state, ..)| *state == event.state) {
                *count = count.saturating_add(1);
                *sum = sum.saturating_add(payment.amount.0);
            }
        }
        let asked = control::approvals(ledger).await?.into_iter();
        let mut waiting: BTreeMap<SessionId, usize> = BTreeMap::new();
        for asking in asked.filter(|asking| asking.waits(now)) {
            *waiting.entry(asking.session).or_default() += 1;
        }
        // In a session that is over nothing more is paid, whatever a person says.
        let mut rows = JoinSet::new();
        for id in waiting.keys().cloned() {
            let ledger = Arc::clone(&self.parts.ledger);
            rows.spawn(async move { (ledger.session(&id).await, id) });
        }
        while let Some(asked) = rows.join_next().await {
            let (row, id) = asked.map_err(|e| PostError::Unavailable(e.to_string()))?;
            if row?.is_none_or(|row| row.is_over(now)) {
                waiting.remove(&id);
            }
        }
        Ok(Book {
            records: ledger.trail(PaymentId::default()).await?.head_seq,
            open,
            waiting: waiting.values().sum(),
            freezes: self.frozen().await?.len(),
            sessions: ledger.standings(now).await?,
            budgets: match numbers {
                true => self.standings().await?,
                false => vec![],
            },
        })
    }

    fn written(&self, page: &mut Page, book: &Book, numbers: bool) {
        page.single(&RECORDS, book.records);
        page.family(&OPEN);
        for (state, count, _) in book.open {
            page.sample(&OPEN, &[state.name()], count);
        }
        page.family(&OPEN_USD);
        for (state, _, sum) in book.open {
            page.sample(&OPEN_USD, &[state.name()], dollars(Usd(sum)));
        }
        page.single(&WAITING, book.waiting);
        page.single(&FREEZES, book.freezes);
        page.family(&SESSIONS);
        let Standings { open, over, spent } = book.sessions;
        for (name, count) in [("open", open), ("over", over), ("spent", spent)] {
            page.sample(&SESSIONS, &[name], count);
        }
        if numbers {
            budgets(page, &book.budgets);
        }
    }
}

fn budgets(page: &mut Page, all: &[Standing]) {
    type Column = fn(&Standing) -> Option<String>;
    let columns: [(&Family, Column); 5] = [
        (&LIMIT, |b| b.limit.map(dollars)),
        (&SPENT, |b| Some(dollars(fullest(b)))),
        (&REMAINING, |b| {
            let left = b.limit?.minus(fullest(b)).unwrap_or_default();
            Some(dollars(left))
        }),
        (&RATIO, |b| Some(used(b))),
        (&ACCOUNTS, |b| Some(b.in_use.to_string())),
    ];
    for (family, column) in columns {
        page.family(family);
        for budget in all {
            if let Some(value) = column(budget) {
                page.sample(family, &[&budget.name, budget.scope], value);
            }
        }
    }
}

/// Accounts come with the fullest first.
fn fullest(budget: &Standing) -> Usd {
    budget.accounts.first().map_or(Usd(0), |a| a.spent)
}

/// The larger of money and payments, to a hundredth of a percent, rounded up.
fn used(budget: &Standing) -> String {
    let part = |used: u64, of: u64| (u128::from(used) * 10_000).div_ceil(u128::from(of.max(1)));
    let money = budget.limit.map(|limit| part(fullest(budget).0, limit.0));
    let count = budget.payments_limit;
    let count = count.map(|limit| part(budget.most_payments.into(), limit.into()));
    let ratio = money.max(count).unwrap_or_default();
    format!("{}.{:04}", ratio / 10_000, ratio % 10_000)
}
