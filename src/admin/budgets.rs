//! The budgets of the policy and how each stands: limit, used, left, and until when.

use serde::Serialize;

use crate::budget::Counted;
use crate::clock::{Timestamp, Window};
use crate::ledger::{PostError, Reader};
use crate::money::Usd;
use crate::policy::{Budget, Policy, Scope};
use crate::settings::Span;

/// Most accounts of one budget that are told, the fullest first: a budget of each host has one for each
/// host that was paid.
const ACCOUNTS_MAX: usize = 1000;

/// One budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Standing {
    pub(super) name: String,
    /// `session`, `agent`, `host`, `wallet`, `all`.
    pub(super) scope: &'static str,
    /// `1h`, `day`, `month`.
    window: String,
    /// Missing when only payments are counted.
    pub(super) limit: Option<Usd>,
    pub(super) payments_limit: Option<u32>,
    warn_at: Option<String>,
    /// When what counts now counts no more.
    resets_at: Option<Timestamp>,
    /// Whose payments count together, and how much does; the fullest first. Whoever spent nothing
    /// has none.
    pub(super) accounts: Vec<Account>,
    /// How many there are, of which `accounts` may have fewer.
    #[serde(skip)]
    pub(super) in_use: usize,
    /// Payments of whichever has the most.
    #[serde(skip)]
    pub(super) most_payments: u32,
}

/// What counts together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Account {
    /// Which session, agent, host or wallet; empty for all.
    pub(super) whose: String,
    pub(super) spent: Usd,
    pub(super) remaining: Option<Usd>,
    pub(super) payments: u32,
    pub(super) payments_remaining: Option<u32>,
}

/// Every budget, in the order of the file.
///
/// # Errors
/// When the ledger cannot be read.
pub(super) async fn standings(
    policy: &Policy,
    ledger: &dyn Reader,
    now: Timestamp,
) -> Result<Vec<Standing>, PostError> {
    let mut all = vec![];
    for budget in policy.budgets() {
        all.push(standing(budget, ledger, now).await?);
    }
    Ok(all)
}

async fn standing(
    budget: &Budget,
    ledger: &dyn Reader,
    now: Timestamp,
) -> Result<Standing, PostError> {
    let (first, last) = budget.window.buckets(now);
    let prefix = format!("budget:{}:", budget.name);
    let counted = ledger.accounts(&prefix, first.min(last), ACCOUNTS_MAX);
    let counted = counted.await?;
    let account = |(name, counted): (String, Counted)| Account {
        whose: name.strip_prefix(&prefix).unwrap_or_default().to_owned(),
        spent: counted.amount,
        remaining: limit(budget).map(|most| most.minus(counted.amount).unwrap_or_default()),
        payments: counted.payments,
        payments_remaining: budget.payments.map(|n| n.saturating_sub(counted.payments)),
    };
    Ok(Standing {
        in_use: counted.in_use,
        most_payments: counted.most_payments,
        name: budget.name.clone(),
        scope: scope(budget.scope),
        window: window(budget.window),
        limit: limit(budget),
        payments_limit: budget.payments,
        warn_at: budget.warn_at.map(|at| at.to_string()),
        resets_at: budget.window.resets_at(now),
        accounts: counted.fullest.into_iter().map(account).collect(),
    })
}

fn limit(budget: &Budget) -> Option<Usd> {
    (budget.limit != Usd(u64::MAX)).then_some(budget.limit)
}

fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::Session => "session",
        Scope::Agent => "agent",
        Scope::Host => "host",
        Scope::Wallet => "wallet",
        Scope::All => "all",
    }
}

fn window(window: Window) -> String {
    match window {
        Window::Rolling { seconds } => Span(std::time::Duration::from_secs(seconds)).to_string(),
        Window::Day => "day".into(),
        Window::Month => "month".into(),
        Window::Always => "always".into(),
    }
}
