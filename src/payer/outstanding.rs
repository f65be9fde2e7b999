//! Payments whose outcome is unknown, by the request they were made for: the agent's own retry gets
//! the same payload or a refusal, never a second payment (threats M-11, M-12).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::about::{About, Paid};
use super::waiting::Waiting;
use crate::clock::Timestamp;
use crate::money::Usd;
use crate::payment::{Payload, PaymentId, Reason, Refusal, RequestKey, SessionId};
use crate::policy::OnUnknown;
use crate::protocol::Protocol;

/// How often one payload is sent again, the first sending not counted.
const RESENDS: u8 = 3;

/// Requests that are remembered. While there are so many nothing more is paid, as what were forgotten could be paid
/// twice.
const REMEMBERED: usize = 10_000;
/// As many of one session are too many for it, so that it takes no room from others.
const SHARE: usize = REMEMBERED / 8;

/// Requests being paid, after which those that ended are cleared away.
const FLYING: usize = 4096;

/// A payload that can be sent again.
#[derive(Clone)]
pub(super) struct Again {
    pub(super) payload: Payload,
    pub(super) protocol: &'static dyn Protocol,
    pub(super) about: About,
    pub(super) paid: Paid,
    pub(super) on_unknown: OnUnknown,
    pub(super) until: Timestamp,
    /// A receipt claims it, but the agent did not get what it paid for.
    pub(super) claimed: bool,
    /// How often it was sent again.
    pub(super) resends: u8,
}

/// A payment whose answer nobody has.
#[derive(Clone)]
pub(super) struct Left {
    pub(super) id: PaymentId,
    pub(super) session: SessionId,
    pub(super) until: Timestamp,
    pub(super) claimed: bool,
    pub(super) rule: Option<String>,
    pub(super) price: Option<Usd>,
}

/// One payment that may have been charged.
struct Held {
    session: SessionId,
    id: PaymentId,
    until: Timestamp,
    /// A receipt says that it was charged.
    claimed: bool,
    /// By which rule, and for how much.
    rule: Option<String>,
    price: Option<Usd>,
    /// `None` after a restart: payloads are in no file.
    again: Option<Again>,
}

/// What is said where a payload cannot or must not be sent again.
pub(super) fn refusal((id, until): (PaymentId, Timestamp), claimed: bool) -> Refusal {
    let detail = match claimed {
        true => "this request was paid before, and its answer did not arrive whole",
        false => "this request was paid before, and nobody knows yet whether it was charged",
    };
    Refusal {
        retryable: true,
        resets_at: Some(until),
        payment: Some(id),
        ..Refusal::new(Reason::OutcomeUnknown, detail)
    }
}

/// All of them. One request may have been paid by several agents at once, each on its own account.
#[derive(Default)]
struct Table {
    by_request: HashMap<RequestKey, Vec<Held>>,
    count: usize,
}

impl Table {
    fn of(&self, request: RequestKey) -> &[Held] {
        self.by_request.get(&request).map_or(&[], Vec::as_slice)
    }

    fn has(&self, request: RequestKey, id: PaymentId) -> bool {
        self.of(request).iter().any(|held| held.id == id)
    }

    fn all(&self) -> impl Iterator<Item = &Held> {
        self.by_request.values().flatten()
    }

    /// Keeps of one request what is to be kept.
    fn retain(&mut self, request: RequestKey, keep: impl FnMut(&Held) -> bool) {
        if let Some(own) = self.by_request.get_mut(&request) {
            let before = own.len();
            own.retain(keep);
            self.count = self.count.saturating_sub(before - own.len());
            if own.is_empty() {
                self.by_request.remove(&request);
            }
        }
    }

    fn bury(&mut self, now: Timestamp) {
        self.by_request.retain(|_, own| {
            own.retain(|held| now < held.until);
            !own.is_empty()
        });
        self.count = self.by_request.values().map(Vec::len).sum();
    }

    /// In the place of what was known of the same payment.
    fn put(&mut self, request: RequestKey, mut held: Held) {
        let own = self.by_request.entry(request).or_default();
        match own.iter_mut().find(|known| known.id == held.id) {
            Some(known) => {
                // Of two that were sent at once the one that was sent last may have ended first.
                if let (Some(new), Some(old)) = (&mut held.again, &known.again) {
                    new.resends = new.resends.max(old.resends);
                }
                *known = held;
            }
            None => {
                own.push(held);
                self.count += 1;
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Outstanding {
    held: Mutex<Table>,
    /// Requests that are being paid right now, and who waits for them.
    flying: Mutex<HashMap<RequestKey, Vec<Weak<Waiting>>>>,
}

impl Outstanding {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request that is about to be paid. Known as such until the last of `waiting` is dropped.
    pub(super) fn begin(&self, request: RequestKey, waiting: &Arc<Waiting>) {
        let mut flying = self.flying.lock().unwrap_or_else(PoisonError::into_inner);
        if flying.len() >= FLYING {
            flying.retain(|_, all| all.iter().any(|w| w.strong_count() > 0));
        }
        let all = flying.entry(request).or_default();
        all.retain(|w| w.strong_count() > 0);
        all.push(Arc::downgrade(waiting));
    }

    /// What is being paid right now.
    pub(super) fn flying(&self) -> HashSet<PaymentId> {
        let flying = self.flying.lock().unwrap_or_else(PoisonError::into_inner);
        let all = flying.values().flatten().filter_map(Weak::upgrade);
        all.filter_map(|w| w.payment()).collect()
    }

    /// Is this very request being paid for an agent that gave up waiting? Then it is that agent's own
    /// retry. Two that both wait are two purchases.
    ///
    /// # Errors
    /// The refusal. The answer may still come; then the same payload is sent again.
    pub(super) fn left_behind(&self, request: RequestKey) -> Result<(), Refusal> {
        let flying = self.flying.lock().unwrap_or_else(PoisonError::into_inner);
        let all = flying.get(&request).into_iter().flatten();
        let Some(left) = all.filter_map(Weak::upgrade).find(|w| w.is_gone()) else {
            return Ok(());
        };
        let detail = "this request is being paid already, and its answer is still awaited";
        Err(Refusal {
            retryable: true,
            payment: left.payment(),
            ..Refusal::new(Reason::OutcomeUnknown, detail)
        })
    }

    /// Was this very request paid before, with an outcome that nobody knows? Of several payments each gets its
    /// turn: first the one that was sent the least often, and of those the oldest.
    ///
    /// # Errors
    /// The refusal, when no payload can or must be sent again.
    pub(super) fn find(
        &self,
        request: RequestKey,
        now: Timestamp,
    ) -> Result<Option<Again>, Refusal> {
        let mut all = self.lock();
        all.retain(request, |held| now < held.until);
        let Some(own) = all.by_request.get_mut(&request) else {
            return Ok(None);
        };
        let sendable = own.iter_mut().filter_map(Held::sendable);
        if let Some(again) = sendable.min_by_key(|again| again.resends) {
            again.resends += 1;
            return Ok(Some(again.clone()));
        }
        refused(own).map_or(Ok(None), Err)
    }

    /// The refusal of what is held of this request, whether or not it could be sent again.
    pub(super) fn held(&self, request: RequestKey, now: Timestamp) -> Option<Refusal> {
        let mut all = self.lock();
        all.retain(request, |held| now < held.until);
        refused(all.of(request))
    }

    /// Which payment of this request was another process's, as far as is known here?
    pub(super) fn recalled(&self, request: RequestKey) -> Vec<PaymentId> {
        let all = self.lock();
        let own = all.of(request).iter();
        own.filter(|h| h.again.is_none()).map(|h| h.id).collect()
    }

    /// May one more payment of this session end without an answer?
    ///
    /// # Errors
    /// The refusal, while there are too many.
    pub(super) fn room(&self, session: &SessionId, now: Timestamp) -> Result<(), Refusal> {
        let all = self.lock();
        if all.count < SHARE {
            return Ok(());
        }
        let living = all.all().filter(|held| now < held.until);
        let (mut total, mut own) = (0, 0);
        for held in living {
            total += 1;
            own += usize::from(held.session == *session);
        }
        if total < REMEMBERED && own < SHARE {
            return Ok(());
        }
        let detail =
            "too many payments have an unknown outcome: nothing more is paid until some are over";
        Err(Refusal {
            retryable: true,
            ..Refusal::new(Reason::OutcomeUnknown, detail)
        })
    }

    /// Does `find` have anything to say about this request?
    pub(super) fn has(&self, request: RequestKey, now: Timestamp) -> bool {
        self.lock().of(request).iter().any(|h| now < h.until)
    }

    /// Remembers a payment whose exchange ended without a usable answer.
    pub(super) fn hold(&self, request: RequestKey, again: Again, now: Timestamp) {
        self.insert(request, again.into(), now);
    }

    /// The same of what was sent again, unless meanwhile it brought somebody what it was for. Is it remembered?
    pub(super) fn hold_still(&self, request: RequestKey, again: Again) -> bool {
        let mut all = self.lock();
        let known = all.has(request, again.about.id());
        if known {
            all.put(request, again.into());
        }
        known
    }

    /// Remembers what a silent wallet left open; there is no payload, but there may be one somewhere.
    pub(super) fn leave(&self, request: RequestKey, left: Left, now: Timestamp) {
        self.insert(request, left.into(), now);
    }

    /// The same of what a crash or restart left open, as far as there is room.
    pub(super) fn recall(&self, request: RequestKey, left: Left, now: Timestamp) {
        let full = |all: &Table| all.count >= REMEMBERED && !all.has(request, left.id);
        let mut all = self.lock();
        if full(&all) {
            all.bury(now);
        }
        if !full(&all) {
            drop(all);
            self.insert(request, left.into(), now);
        }
    }

    /// This payment brought the request what it was for. What else was paid for the same one is still owed.
    pub(super) fn forget(&self, request: RequestKey, id: PaymentId) {
        self.lock().retain(request, |held| held.id != id);
    }

    /// The same, whichever request it was. Was it remembered?
    pub(super) fn forget_payment(&self, id: PaymentId) -> bool {
        let mut all = self.lock();
        let mut requests = all.by_request.iter();
        let known = requests.find(|(_, own)| own.iter().any(|held| held.id == id));
        let known = known.map(|(request, _)| *request);
        if let Some(request) = known {
            all.retain(request, |held| held.id != id);
        }
        known.is_some()
    }

    fn insert(&self, request: RequestKey, held: Held, now: Timestamp) {
        let mut all = self.lock();
        if all.count >= REMEMBERED {
            all.bury(now);
        }
        all.put(request, held);
    }
}

impl From<Again> for Held {
    fn from(again: Again) -> Self {
        Self {
            session: again.about.session().clone(),
            id: again.about.id(),
            until: again.until,
            claimed: again.claimed,
            rule: again.about.rule().cloned(),
            price: Some(again.about.price()),
            again: Some(again),
        }
    }
}

impl From<Left> for Held {
    fn from(left: Left) -> Self {
        Self {
            session: left.session,
            id: left.id,
            until: left.until,
            claimed: left.claimed,
            rule: left.rule,
            price: left.price,
            again: None,
        }
    }
}

/// Of several, what lasts the longest.
fn refused(own: &[Held]) -> Option<Refusal> {
    own.iter().max_by_key(|held| held.until).map(Held::refusal)
}

impl Held {
    /// Its payload, if it may be sent once more.
    fn sendable(&mut self) -> Option<&mut Again> {
        self.again.as_mut().filter(|again| again.is_sendable())
    }

    /// What is said where it may not.
    fn refusal(&self) -> Refusal {
        Refusal {
            rule: self.rule.clone(),
            price: self.price,
            ..refusal((self.id, self.until), self.claimed)
        }
    }
}

impl Again {
    /// May its payload be sent once more?
    fn is_sendable(&self) -> bool {
        self.on_unknown == OnUnknown::ResendSame && self.resends < RESENDS
    }

    /// Does the next request like this one bring the same payload again?
    pub(super) fn serves(&self, request: Option<RequestKey>) -> bool {
        request.is_some() && self.is_sendable()
    }
}

#[cfg(test)]
mod tests;
