//! The reservation: what the ledger must hold before anybody is asked to sign.

use std::time::{Duration, Instant};

use http::Method;
use sha2::{Digest as _, Sha256};

use super::Payer;
use super::about::About;
use super::consent::Granted;
use super::plan::{Plan, Taken};
use super::rates::Places;
use crate::budget::Fact;
use crate::budget::facts::key;
use crate::budget::{Counted, Entry};
use crate::clock::{Timestamp, Window};
use crate::event::metrics::Step;
use crate::event::{self, Agreed, Notice, SpendEvent, State};
use crate::ledger::{Post, PostError, Reader};
use crate::money::Usd;
use crate::payment::{Asked, Limit, PaymentId, Reason, Refusal, RequestKey};
use crate::policy::{self, Approval, Known, Policy, Warning};
use crate::settings::Rate;

/// Characters of a tool's name that are kept as they are.
const NAME_MAX: usize = 128;

impl Payer {
    /// What the ledger remembers of the merchant and the route, if any rule asks.
    pub(super) async fn remembered(
        &self,
        policy: &Policy,
        asked: &Asked,
    ) -> Result<Known, PostError> {
        match policy.remembers() {
            true => {
                let route = route(&asked.path, asked.tool.name());
                known(&*self.ledger, &asked.host, &asked.method, &route).await
            }
            false => Ok(Known::default()),
        }
    }

    /// A flood is turned away here, before it costs the ledger anything. Returns the places that are taken now:
    /// [`Payer::not_taken`] when the ledger refuses.
    ///
    /// Each session has places of its own here, because a place is taken before the ledger judges: one
    /// that is over its budget must not use up the others'. What they share is counted in the ledger.
    pub(super) fn in_rate(
        &self,
        policy: &Policy,
        asked: &Asked,
        approval: &Approval,
    ) -> Result<Places, Refusal> {
        let mut places = Places::new();
        let too_many = |reason, resets_at, detail| Refusal {
            rule: Some(approval.rule.clone()),
            price: Some(approval.price),
            retryable: true,
            resets_at: Some(resets_at),
            ..Refusal::new(reason, detail)
        };
        // First: an agent in a loop takes no place from its other requests.
        if let (Some(rate), Some(request)) = (policy.identical_payments(), asked.request) {
            let key = identical(request);
            if let Err(wait) = self.rates.take(rate, &key) {
                let detail = format!(
                    "this very request was paid {} times in {} s (limits.identical_payments)",
                    rate.count, rate.seconds
                );
                let again = later(self.clock.now(), wait);
                return Err(too_many(Reason::PaymentLoop, again, detail));
            }
            places.push((rate, key));
        }
        places.extend(self.by_newest(policy, asked));
        for (account, rate) in &approval.duties.rates {
            let key = format!("{} {account}", asked.session.id);
            if self.rates.take(*rate, &key).is_err() {
                self.rates.give_back(places);
                let detail = format!(
                    "the rule allows {} payments in {} s",
                    rate.count, rate.seconds
                );
                let again = leaves(*rate, self.rates.free_at(*rate, &key));
                return Err(too_many(Reason::RateLimited, again, detail));
            }
            places.push((*rate, key));
        }
        Ok(places)
    }

    /// A newer policy, or one that is about to be taken, counts what is paid under this one too.
    fn by_newest(&self, policy: &Policy, asked: &Asked) -> Option<(Rate, String)> {
        let newest = self.rates.identical();
        let rate = newest.filter(|_| newest != policy.identical_payments())?;
        let key = identical(asked.request?);
        self.rates.take(rate, &key).ok()?;
        Some((rate, key))
    }

    /// What the ledger refuses is no payment and keeps no place. Whatever else goes wrong with it may be stored.
    pub(super) fn not_taken(&self, places: Places, problem: &PostError) {
        match problem {
            PostError::Rejected(_) => self.rates.give_back(places),
            PostError::Unavailable(_) | PostError::Damaged(_) => {}
        }
    }

    /// A payment that was certainly never signed keeps no place of a rate of its rule. That it was asked for is counted
    /// where requests that go in a circle are.
    pub(super) fn never_paid(&self, asked: &Asked, places: &Places) {
        let request = asked.request.map(identical);
        let of_rule = places
            .iter()
            .filter(|(_, key)| Some(key) != request.as_ref());
        self.rates.give_back(of_rule.cloned().collect());
    }

    /// Durable before anybody is asked to sign. Returns what is left of the session's budget.
    pub(super) async fn reserve(
        &self,
        (policy, asked): (&Policy, &Asked),
        about: &About,
        plan: &Plan<'_>,
        granted: Option<Granted>,
    ) -> Result<Usd, PostError> {
        // A session, like what a person said, is over when either clock says so: one of them may have slept.
        let (now, by) = (self.clock.now(), self.clock.later());
        let limits = plan.approval.limits.iter().filter(|l| !l.is_session());
        let limits: Vec<Limit> = limits.cloned().collect();
        let mut entries = vec![];
        // First: a reservation by itself makes its host known for good, whatever becomes of it.
        if policy.remembers() {
            entries.push(Entry::Met {
                payment: about.id(),
                host: asked.host.to_string(),
                now,
            });
        }
        entries.push(Entry::Reserve {
            id: about.id(),
            session: asked.session.id.clone(),
            amount: plan.approval.price,
            limits: limits.clone(),
            until: plan.until,
            now: by,
            nonce: plan.nonce.clone(),
            host: asked.host.to_string(),
        });
        entries.extend(memories(asked, about.id(), &plan.approval, now));
        entries.extend(granted.map(|granted| Entry::UseApproval {
            id: granted.id,
            digest: granted.digest,
            payment: about.id(),
            now: by,
        }));
        let event = about.event(now, State::Reserved);
        // In the book only: whoever watches has seen enough.
        let agreed = Agreed::new(&plan.approval.requirement, &plan.instruction);
        let kept = SpendEvent {
            agreed: Some(Box::new(agreed)),
            ..event.clone()
        };
        let post = Post {
            time: now,
            entries,
            event: Some(kept.capped()),
        };
        let began = Instant::now();
        let posted = self.ledger.post(post).await;
        self.took(Step::Reserve, began, asked.trace.as_ref());
        let posted = posted?;
        self.observe(&event);
        for (limit, counted) in limits.iter().zip(&posted.counted) {
            self.warn(about, &plan.approval, limit, *counted);
        }
        let spent = posted.session_counted.map_or(Usd(0), |c| c.amount);
        Ok(asked.session.budget.minus(spent).unwrap_or(Usd(0)))
    }

    /// Tells of a budget that this payment, and none before it, brought to its `warn_at`.
    fn warn(&self, about: &About, approval: &Approval, limit: &Limit, counted: Counted) {
        let mut warnings = approval.duties.warnings.iter();
        let Some(warning) = warnings.find(|w| w.account == limit.account) else {
            return;
        };
        let before = Counted {
            amount: counted.amount.minus(approval.price).unwrap_or_default(),
            payments: counted.payments.saturating_sub(1),
        };
        if reached(warning, counted) && !reached(warning, before) {
            self.notice(&Notice::BudgetWarning {
                time: self.clock.now(),
                account: limit.account.clone(),
                at: warning.at.to_string(),
                counted: counted.amount,
                limit: limit.sum(),
                payments: counted.payments,
                payments_limit: limit.payments,
                payment: about.id(),
            });
        }
    }

    pub(super) fn notice(&self, notice: &Notice) {
        self.sinks.iter().for_each(|sink| sink.notice(notice));
    }
}

/// Bytes of a path that are kept as they are. An index of PostgreSQL has room for 2,700 with the host and the tool.
const PATH_MAX: usize = 2048;

/// What a price is remembered for: the path in its plain spelling, long ones hashed, with the tool, prompt or resource that the body names.
#[must_use]
pub fn route(path: &str, tool: Option<&str>) -> String {
    let mut path = policy::plain_spelling(path);
    if path.len() > PATH_MAX {
        // No path begins so.
        path = format!("%{}", hex::encode(Sha256::digest(&*path))).into();
    }
    match tool {
        Some(tool) => named(&path, tool),
        None => path.into_owned(),
    }
}

/// A path, and behind a `#`, which no path has, the tool, prompt or resource that is asked for there. Names are percent-encoded,
/// and long ones hashed.
#[must_use]
pub fn named(path: &str, tool: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte);
    let mut name = String::with_capacity(tool.len());
    for byte in tool.bytes() {
        match plain(byte) {
            true => name.push(char::from(byte)),
            false => name.push_str(&format!("%{byte:02X}")),
        }
    }
    match name.len() <= NAME_MAX {
        true => format!("{path}#{name}"),
        false => format!("{path}#%{}", hex::encode(Sha256::digest(tool))),
    }
}

/// What a ledger remembers of a merchant and one of its [`route`]s. Where a tool has no price of its own yet, that
/// of its path holds: ledgers of old know no other.
///
/// # Errors
/// When it cannot be read.
pub async fn known(
    ledger: &dyn Reader,
    host: &str,
    method: &Method,
    route: &str,
) -> Result<Known, PostError> {
    let mut known = Known::default();
    if let Some(Fact::Merchant { since, .. }) = ledger.fact(&key::merchant(host)).await? {
        known.merchant = Some(since);
    }
    let path = route.split('#').next().unwrap_or_default();
    for route in [path, route] {
        let price = key::price(host, method.as_str(), route);
        if let Some(Fact::Price { lowest, .. }) = ledger.fact(&price).await? {
            known.price = Some(lowest);
        }
    }
    let prefix = key::payees(host);
    for (key, fact) in ledger.facts(&prefix).await? {
        if let (Some(network), Fact::Payee { pay_to, .. }) = (key.strip_prefix(&prefix), fact) {
            known.payees.insert(network.to_owned(), pay_to);
        }
    }
    Ok(known)
}

/// What the payments for one request are counted under.
pub(super) fn identical(request: RequestKey) -> String {
    format!("{IDENTICAL}{request}")
}

/// How the keys of all requests begin.
pub(super) const IDENTICAL: &str = "request ";

/// When the ledger counts the oldest of a rate's places no more. `free` is when all of them are free in memory, a
/// whole window after the oldest was taken: the others come back one by one there, but not in the ledger.
fn leaves(rate: Rate, free: Timestamp) -> Timestamp {
    let window = Window::Rolling {
        seconds: rate.seconds,
    };
    let (_, bucket) = window.buckets(window.starts_at(free));
    Timestamp::from_secs(bucket.saturating_add(rate.seconds))
}

fn later(now: Timestamp, wait: Duration) -> Timestamp {
    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    Timestamp(now.0.saturating_add(millis))
}

fn reached(warning: &Warning, counted: Counted) -> bool {
    counted.amount >= warning.amount || warning.payments.is_some_and(|n| counted.payments >= n)
}

/// What the payment must agree with, or is the first of. A person's yes is for this one payment, so of what they were
/// asked about nothing is entered: what is known stays, for this rule and all others.
fn memories(asked: &Asked, id: PaymentId, approval: &Approval, now: Timestamp) -> Vec<Entry> {
    let duties = &approval.duties;
    let agreed = |what| duties.consent.as_ref().is_some_and(|c| c.is_about(what));
    let payee = duties.payee.as_ref().filter(|_| !agreed("new_payee"));
    let payee = payee.map(|pay_to| Entry::Payee {
        host: asked.host.to_string(),
        network: approval.requirement.network.to_string(),
        pay_to: pay_to.clone(),
        now,
        approved: false,
        payment: Some(id),
    });
    let price = duties.price.filter(|_| !agreed("price_increase"));
    let price = price.map(|increase| Entry::Price {
        host: asked.host.to_string(),
        method: asked.method.to_string(),
        path: route(&asked.path, asked.tool.name()),
        price: approval.price,
        increase,
        now,
        approved: false,
        payment: Some(id),
    });
    payee.into_iter().chain(price).collect()
}

/// An end of a payment with what follows for what it made known: of one that is released it is forgotten, as nothing was
/// paid there, unless the merchant gave something for it: then it may have taken the money, whatever is proven. Where
/// it is not known any more what was asked for, the price of a tool or of a long path stays. `never`: what was asked for
/// and taken by one that was never signed.
pub(super) fn with_facts(
    end: Entry,
    event: &SpendEvent,
    never: Option<(&Asked, &Taken)>,
) -> Vec<Entry> {
    let gave = event.delivery.as_ref().is_some_and(|d| d.status < 400);
    let unmet = matches!(end, Entry::Release { .. } if !gave).then(|| unmet(event, never));
    std::iter::once(end).chain(unmet).collect()
}

fn unmet(event: &SpendEvent, never: Option<(&Asked, &Taken)>) -> Entry {
    let (host, _) = event::place(&event.host);
    Entry::Unmet {
        payment: event.id,
        host: host.to_owned(),
        network: event.network.clone(),
        method: event.method.clone(),
        approval: never.and_then(|(_, taken)| taken.approval),
        path: match never {
            Some((asked, _)) => route(&asked.path, asked.tool.name()),
            None => route(&event.path, None),
        },
    }
}
