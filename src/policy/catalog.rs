//! What rules refer to by name: budgets and assets.

use std::sync::Arc;

use crate::clock::{Timestamp, Window};
use crate::money::{Asset, Network, Usd};
use crate::payment::{Asked, Limit};
use crate::section::{Problems, Section, SectionError};
use crate::settings::{HostPattern, Percent, Rate, Span, name};
use crate::signer::Key;

use super::Warning;
use super::signers::Signer;

/// What terms may refer to.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Every budget of the file.
    pub budgets: Vec<Arc<Budget>>,
    /// Names of budgets that cannot be read, which is told already; an empty one of what has no name.
    pub unread: Vec<String>,
    /// Those that no rule names: they hold for every rule, because a limit that nothing enforces is
    /// worse than one too many.
    pub everywhere: Vec<Arc<Budget>>,
    /// Named lists of hosts.
    pub categories: Vec<Category>,
    /// Keys that speak for merchants.
    pub signers: Vec<Signer>,
    /// Every asset that has a price: the built-in table and the operator's additions.
    pub assets: Vec<Asset>,
    /// Most seconds that a payload may live (`limits.validity`).
    pub validity: u64,
    /// Most ways to pay in one challenge (`limits.requirements`).
    pub requirements: usize,
    /// Most payments for one and the same request (`limits.identical_payments`); `None` for any number.
    pub identical_payments: Option<Rate>,
}

impl Catalog {
    /// The asset that an address on a network names.
    #[must_use]
    pub fn asset(&self, network: &Network, address: &str) -> Option<&Asset> {
        let here = |a: &&Asset| a.network == *network && a.is(address);
        self.assets.iter().find(here)
    }

    /// The keys that speak for a host.
    pub(super) fn keys(&self, host: &str, port: u16) -> impl Iterator<Item = &Key> {
        let here = move |s: &&Signer| s.hosts.iter().any(|pattern| pattern.matches(host, port));
        self.signers.iter().filter(here).map(|s| &s.key)
    }
}

/// Hosts that the operator puts under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Category {
    /// What rules call it.
    pub name: String,
    /// Which hosts.
    pub hosts: Vec<HostPattern>,
}

/// Whose payments count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each session's.
    Session,
    /// Each agent's, over all its sessions.
    Agent,
    /// Each merchant's host.
    Host,
    /// Each paying address.
    Wallet,
    /// Everybody's.
    All,
}

/// A named limit over a window of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// What rules call it.
    pub name: String,
    /// Whose payments count together.
    pub scope: Scope,
    /// Most that may be spent in the window; `Usd(u64::MAX)` when only payments are counted.
    pub limit: Usd,
    /// The window.
    pub window: Window,
    /// Most payments in the window.
    pub payments: Option<u32>,
    /// From how much of it on the operator is told.
    pub warn_at: Option<Percent>,
}

/// The words after `scope:`.
const SCOPES: &[(&str, Scope)] = &[
    ("session", Scope::Session),
    ("agent", Scope::Agent),
    ("host", Scope::Host),
    ("wallet", Scope::Wallet),
    ("all", Scope::All),
];

impl Budget {
    /// Its limit for one payment: the ledger keeps it.
    #[must_use]
    pub fn limit(&self, asked: &Asked, payer: &str, now: Timestamp) -> Limit {
        let who = match self.scope {
            Scope::Session => &*asked.session.id.0,
            Scope::Agent => &*asked.session.agent,
            Scope::Host => &*asked.host,
            Scope::Wallet => payer,
            Scope::All => "",
        };
        let (first, last) = self.window.buckets(now);
        Limit {
            account: format!("budget:{}:{who}", self.name),
            first,
            last,
            amount: self.limit,
            payments: self.payments,
            resets_at: self.window.resets_at(now),
            rolls: self.window.rolls(),
        }
    }

    /// When the operator is told about one of its limits.
    #[must_use]
    pub fn warning(&self, limit: &Limit) -> Option<Warning> {
        let at = self.warn_at?;
        let payments = limit.payments.map(|most| at.reached(most.into()).max(1));
        Some(Warning {
            account: limit.account.clone(),
            amount: match limit.amount {
                Usd(u64::MAX) => limit.amount,
                Usd(amount) => Usd(at.of(amount)),
            },
            payments: payments.and_then(|n| u32::try_from(n).ok()),
            at,
        })
    }

    fn read(mut section: Section) -> Result<Self, SectionError> {
        let name = name(section.need("name")?)?;
        let scope = section.need("scope")?.word(SCOPES)?;
        let warn_at = section.take("warn_at").map(warn_at).transpose()?;
        let limit = section.take("limit").map(Section::parse).transpose()?;
        let count = |s: Section| s.number(1..=u64::from(u32::MAX));
        let payments = section.take("payments").map(count).transpose()?;
        let window = window(section.need("window")?)?;
        if limit.is_none() && payments.is_none() {
            let error = section.error("a budget has a `limit`, `payments`, or both");
            return Err(error.hint("add a limit, for example limit: \"2.00 USD\""));
        }
        section.finish()?;
        Ok(Self {
            name,
            scope,
            limit: limit.unwrap_or(Usd(u64::MAX)),
            window,
            payments: payments.and_then(|n| u32::try_from(n).ok()),
            warn_at,
        })
    }
}

fn warn_at(section: Section) -> Result<Percent, SectionError> {
    let at: Percent = section.clone().parse()?;
    match at.0 {
        1..=100 => Ok(at),
        _ => Err(section.expected("a percentage from 1% to 100%")),
    }
}

/// `1h` rolls; `day` and `month` are those of the calendar, UTC.
fn window(section: Section) -> Result<Window, SectionError> {
    const SHORTEST: u64 = 60;
    let word = section.clone().text()?;
    match &*word {
        "day" => return Ok(Window::Day),
        "month" => return Ok(Window::Month),
        _ => {}
    }
    let Ok(Span(length)) = word.parse() else {
        return Err(section.expected(
            "a window: \"1h\", \"15m\" or \"7d\" (rolling), or day or month (of the calendar, UTC)",
        ));
    };
    let seconds = length.as_secs();
    if seconds < SHORTEST || length.subsec_millis() > 0 {
        return Err(section.error("a rolling window has whole seconds, 1m at least"));
    }
    Ok(Window::Rolling { seconds })
}

/// Reads `budgets:`. Two budgets of one name would share an account.
pub(super) fn budgets(
    section: Option<Section>,
    problems: &mut Problems,
) -> (Vec<Arc<Budget>>, Vec<String>) {
    let items = section.map_or(Ok(vec![]), Section::items);
    let (mut budgets, mut unread): (Vec<Arc<Budget>>, _) = (vec![], vec![]);
    for item in problems.keep(items).unwrap_or_default() {
        let place = item.clone();
        let Some(budget) = problems.keep(Budget::read(item)) else {
            let called = place.peek("name").and_then(|name| name.text().ok());
            unread.push(called.unwrap_or_default());
            continue;
        };
        if budgets.iter().any(|b| b.name == budget.name) {
            let twice = format!("two budgets are called `{}`", budget.name);
            problems.push(place.error(twice));
        }
        budgets.push(Arc::new(budget));
    }
    (budgets, unread)
}

/// Reads `categories:`.
pub(super) fn categories(section: Option<Section>, problems: &mut Problems) -> Vec<Category> {
    let entries = section.map_or(Ok(vec![]), Section::entries);
    let mut categories = vec![];
    for (key, list) in problems.keep(entries).unwrap_or_default() {
        let place = list.clone();
        let Some(hosts) = problems.keep(list.list(Section::parse::<HostPattern>)) else {
            continue;
        };
        if hosts.is_empty() {
            problems.push(place.error("the list of hosts is empty, so the category is nowhere"));
        }
        categories.push(Category { name: key, hosts });
    }
    categories
}

/// The budgets that no rule names.
pub(super) fn unnamed(budgets: &[Arc<Budget>], rules: Option<&Section>) -> Vec<Arc<Budget>> {
    let names = |rule: Section| {
        let list = rule.peek("pay")?.peek("budgets")?.items().ok()?;
        Some(
            list.into_iter()
                .filter_map(|item| item.text().ok())
                .collect::<Vec<_>>(),
        )
    };
    let rules = rules
        .and_then(|r| r.clone().items().ok())
        .unwrap_or_default();
    let named: Vec<_> = rules.into_iter().filter_map(names).flatten().collect();
    let left = budgets.iter().filter(|b| !named.contains(&b.name));
    left.cloned().collect()
}
