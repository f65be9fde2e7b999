//! Payment with the first request, where what a route costs is known from a payment before it.
//!
//! A saving of one round trip and nothing else: the decision, the reservation and what counts are those
//! of every payment, made with the terms as they were. What the merchant then asks is no reason for a
//! second payload: whoever took the first may still charge it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Method, StatusCode};

use super::about::About;
use super::{Payer, Signed, Waiting, refusals};
use crate::clock::Timestamp;
use crate::event::{Flag, SpendEvent};
use crate::ledger::PostError;
use crate::payment::{Asked, Challenge, Reason, Receipt, Refusal, Requirement, SessionId};
use crate::policy::{Mode, Policy};

/// Seconds after which terms that nobody confirmed are asked for again.
const FRESH_SECS: u64 = 600;

/// Routes whose terms are remembered, over all sessions. What is forgotten is asked for again.
const QUOTES: usize = 4096;

/// Seconds for which nothing is paid in advance at a host that asked again for what was paid so.
const VAIN_SECS: u64 = 24 * 60 * 60;

/// Such hosts that are remembered.
const VAIN: usize = 1024;

/// Bytes of path and query. Longer ones are seldom asked for twice.
const TARGET_MAX: usize = 2048;

/// Whose terms, and of what: what one session learned is no other's, and a merchant may ask another
/// price with every query.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Route {
    session: SessionId,
    /// A session that is renewed starts with nothing.
    created: Timestamp,
    secure: bool,
    host: Arc<str>,
    port: u16,
    method: Method,
    target: Arc<str>,
}

impl Route {
    fn site(&self) -> Site {
        (Arc::clone(&self.host), self.port)
    }

    pub(super) fn of(asked: &Asked, target: &str) -> Option<Self> {
        (target.len() <= TARGET_MAX).then(|| Self {
            session: asked.session.id.clone(),
            created: asked.session.created,
            secure: asked.secure,
            host: Arc::clone(&asked.host),
            port: asked.port,
            method: asked.method.clone(),
            target: target.into(),
        })
    }
}

/// Terms that a merchant took for a route, and when.
#[derive(Clone)]
pub struct Quote {
    requirement: Arc<Requirement>,
    /// Terms that another policy paid are unknown to this one.
    policy: Arc<str>,
    confirmed: Timestamp,
}

/// The terms of a payment that went with the first request.
pub struct Advance {
    requirement: Arc<Requirement>,
    at: Site,
    /// Until then the payload may be charged.
    until: Timestamp,
}

/// What a payment may teach, once the merchant has confirmed it.
#[derive(Default)]
pub(super) struct Lesson {
    /// Path and query that it is for, where somebody said so.
    target: Option<Arc<str>>,
    /// What was paid, and by which policy.
    terms: Option<(Arc<Requirement>, Arc<str>)>,
}

/// A merchant's host and port.
type Site = (Arc<str>, u16);

#[derive(Default)]
pub(super) struct Quotes {
    terms: Mutex<HashMap<Route, Quote>>,
    /// Where paying in advance was in vain, and when.
    vain: Mutex<HashMap<Site, Timestamp>>,
}

impl Quotes {
    fn lock(&self) -> MutexGuard<'_, HashMap<Route, Quote>> {
        self.terms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn vain(&self) -> MutexGuard<'_, HashMap<Site, Timestamp>> {
        self.vain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A payment in advance at this site was not taken, and the terms were those of today: they are good for one
    /// request, and every further payment would be as vain.
    fn in_vain(&self, site: Site, now: Timestamp) {
        let mut vain = self.vain();
        if vain.len() >= VAIN && !vain.contains_key(&site) {
            let oldest = vain.iter().min_by_key(|(_, since)| **since);
            if let Some(oldest) = oldest.map(|(site, _)| site.clone()) {
                vain.remove(&oldest);
            }
        }
        self.lock().retain(|route, _| route.site() != site);
        vain.insert(site, now);
    }

    /// Was it in vain here, not long ago? A clock that was set back forgets nothing.
    fn is_vain(&self, site: &Site, now: Timestamp) -> bool {
        let since = self.vain().get(site).copied();
        since.is_some_and(|since| now < since.after_secs(VAIN_SECS))
    }

    fn find(&self, route: &Route, now: Timestamp) -> Option<Quote> {
        let mut all = self.lock();
        let quote = all.get(route)?;
        // A clock that was set back makes nothing fresh for longer.
        let fresh = quote.confirmed <= now && now < quote.confirmed.after_secs(FRESH_SECS);
        if !fresh {
            all.remove(route);
            return None;
        }
        Some(quote.clone())
    }

    fn put(&self, route: Route, quote: Quote) {
        let mut all = self.lock();
        if all.len() >= QUOTES && !all.contains_key(&route) {
            let now = quote.confirmed;
            all.retain(|_, q| now < q.confirmed.after_secs(FRESH_SECS));
        }
        if all.len() >= QUOTES && !all.contains_key(&route) {
            let oldest = all.iter().min_by_key(|(_, q)| q.confirmed);
            if let Some(oldest) = oldest.map(|(route, _)| route.clone()) {
                all.remove(&oldest);
            }
        }
        all.insert(route, quote);
    }

    fn forget(&self, route: &Route) {
        self.lock().remove(route);
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

impl Lesson {
    /// What this payment may teach: nothing unless the rule pays in advance.
    pub(super) fn of(prepay: bool, requirement: &Requirement, about: &About) -> Self {
        let terms = || (Arc::new(requirement.clone()), about.policy().into());
        Self {
            target: None,
            terms: prepay.then(terms),
        }
    }
}

impl Signed {
    /// The same payment, and the path with its query that it is for: where the rule allows it, the next
    /// request there is paid in advance.
    pub fn at(mut self, target: &str) -> Self {
        self.lesson.target = Some(target.into());
        self
    }

    /// The terms of a payment that went with the first request.
    pub fn advance(&mut self) -> Option<Advance> {
        self.advance.take()
    }
}

impl Payer {
    /// Are any terms known at all? Few rules pay in advance, so that this is all that most requests ask.
    #[must_use]
    pub fn holds_quotes(&self) -> bool {
        !self.quotes.is_empty()
    }

    /// What this session paid for the same route a while ago, under this policy. `target`: path and query.
    #[must_use]
    pub fn quote(&self, asked: &Asked, target: &str) -> Option<Quote> {
        let quote = self
            .quotes
            .find(&Route::of(asked, target)?, self.clock.now())?;
        let policy = self.policy();
        let same = *quote.policy == *policy.hash() && policy.mode() == Mode::Enforce;
        same.then_some(quote)
    }

    /// Decides, reserves and signs on terms from before, for the agent that waits. `None`: the request goes
    /// without a payment, and what the merchant then asks is decided on; nothing was recorded.
    ///
    /// # Errors
    /// The refusal, where money may be held already: then there is no second try.
    pub async fn prepay(
        &self,
        asked: &Asked,
        quote: &Quote,
        waiting: &Arc<Waiting>,
    ) -> Result<Option<Signed>, Refusal> {
        let policy = self.policy();
        // First: who asks the same again must find who asked before, also while the wallet is being asked.
        if let Some(request) = asked.request {
            self.begin(request, waiting);
        }
        if !self.unburdened(&policy, asked) {
            return Ok(None);
        }
        let mut about = About::new(asked, &policy, self.clock.now());
        let Ok(known) = self.remembered(&policy, asked).await else {
            return Ok(None);
        };
        let challenge = Challenge {
            requirements: vec![Requirement::clone(&quote.requirement)],
            problems: vec![],
        };
        let plan = self.prepare(&policy, asked, &challenge, known, &mut about);
        let Ok(mut plan) = plan.await else {
            return Ok(None);
        };
        // Where a person must be asked first, or was asked before, it is paid what the merchant asks today.
        let approval = &plan.approval;
        if !approval.prepay || approval.duties.consent.is_some() {
            return Ok(None);
        }
        let Ok(None) = self.agreed(asked, &plan, &about).await else {
            return Ok(None);
        };
        let Ok(places) = self.in_rate(&policy, asked, approval) else {
            return Ok(None);
        };
        let remaining = match self.reserve((&policy, asked), &about, &plan, None).await {
            Ok(remaining) => remaining,
            Err(problem @ PostError::Rejected(_)) => {
                self.not_taken(places, &problem);
                return Ok(None);
            }
            // It may be stored all the same.
            Err(problem) => {
                about.unreserved(&problem);
                let refusal = refusals::of_post(&problem, approval);
                return Err(self.deny(about, refusal).await);
            }
        };
        plan.taken.places = places;
        waiting.is_for(about.id());
        let until = plan.until;
        let mut signed = self.sign(about, asked, &plan, remaining).await?;
        signed.advance = Some(Advance {
            requirement: Arc::clone(&quote.requirement),
            at: (Arc::clone(&asked.host), asked.port),
            until,
        });
        Ok(Some(signed))
    }

    /// What the agent is told when the merchant asks again after a payment in advance. `told` is what it would be
    /// told otherwise. That the merchant asks for something else is noted with the payment.
    pub async fn asked_again(
        &self,
        (advance, told): (&Advance, Refusal),
        asks: &Challenge,
        event: &mut SpendEvent,
    ) -> Refusal {
        let refusal = advance.changed(asks, told);
        match flag(refusal.reason) {
            Some(flag) => self.notice_flag(event, flag).await,
            None => self.quotes.in_vain(advance.at.clone(), self.clock.now()),
        }
        refusal
    }

    /// Does nothing from before speak against a payment for this request?
    fn unburdened(&self, policy: &Policy, asked: &Asked) -> bool {
        let free = |request| {
            self.outstanding.left_behind(request).is_ok()
                && !self.outstanding.has(request, self.surely())
        };
        !self.is_draining()
            && policy.pays(asked)
            && self.thawed(asked).is_ok()
            && asked.request.is_some_and(free)
    }

    /// Remembers the terms of a payment that the merchant confirmed, and forgets those of any other.
    pub(super) fn learn(
        &self,
        asked: &Asked,
        about: &About,
        Lesson { target, terms }: Lesson,
        (receipt, status): (&Receipt, Option<StatusCode>),
    ) {
        let confirmed = matches!(receipt, Receipt::Claimed(_));
        let good = confirmed && status.is_some_and(|s| s.is_success());
        self.bought(asked, about, good);
        let Some(route) = target.and_then(|target| Route::of(asked, &target)) else {
            return;
        };
        let now = self.clock.now();
        match terms.filter(|_| good) {
            Some(_) if self.quotes.is_vain(&route.site(), now) => {}
            Some((requirement, policy)) => self.quotes.put(
                route,
                Quote {
                    requirement,
                    policy,
                    confirmed: now,
                },
            ),
            None => self.quotes.forget(&route),
        }
    }
}

/// What is noted of a payment whose terms are no longer those of the merchant.
fn flag(told: Reason) -> Option<Flag> {
    let flags = [
        (Reason::PriceChanged, Flag::PriceChanged),
        (Reason::RecipientChanged, Flag::RecipientChanged),
    ];
    let flag = |(reason, flag)| (reason == told).then_some(flag);
    flags.into_iter().find_map(flag)
}

impl Advance {
    /// What the agent is told when the merchant asks again, and for something else than was paid. `told`
    /// is what it would be told otherwise.
    fn changed(&self, asks: &Challenge, told: Refusal) -> Refusal {
        let paid = &*self.requirement;
        let alike = |r: &&Requirement| {
            let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
            r.scheme == paid.scheme && r.network == paid.network && same(&r.asset, &paid.asset)
        };
        let mut alike = asks.requirements.iter().filter(alike);
        let payee = |r: &Requirement| r.pay_to.eq_ignore_ascii_case(&paid.pay_to);
        if asks.requirements.is_empty()
            || alike.clone().any(|r| payee(r) && r.amount == paid.amount)
        {
            return told;
        }
        // Another way to pay the same one is no other recipient.
        if alike.clone().next().is_none() && asks.requirements.iter().any(payee) {
            return told;
        }
        let (reason, what) = match alike.any(payee) {
            true => (Reason::PriceChanged, "another price"),
            false => (Reason::RecipientChanged, "a payment to somebody else"),
        };
        let detail = format!(
            "this request was paid in advance, and the merchant now asks for {what}; nothing more is signed for it, and what was signed counts"
        );
        Refusal {
            reason,
            detail,
            retryable: true,
            resets_at: Some(self.until),
            ..told
        }
    }
}

#[cfg(test)]
mod tests;
