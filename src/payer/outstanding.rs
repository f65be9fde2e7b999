//! Payments whose outcome is unknown, by the request they were made for: the agent's own retry gets
//! the same payload or a refusal, never a second payment (threats M-11, M-12).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::about::{About, Paid};
use super::waiting::Waiting;
use crate::clock::Timestamp;
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
}

/// A payment whose answer nobody has.
#[derive(Clone)]
pub(super) struct Left {
    pub(super) id: PaymentId,
    pub(super) session: SessionId,
    pub(super) until: Timestamp,
    pub(super) claimed: bool,
}

/// One payment that may have been charged.
struct Held {
    session: SessionId,
    id: PaymentId,
    until: Timestamp,
    resends: u8,
    /// A receipt says that it was charged.
    claimed: bool,
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

#[derive(Default)]
pub(super) struct Outstanding {
    held: Mutex<HashMap<RequestKey, Held>>,
    /// Requests that are being paid right now, and who waits for them.
    flying: Mutex<HashMap<RequestKey, Vec<Weak<Waiting>>>>,
}

impl Outstanding {
    fn lock(&self) -> MutexGuard<'_, HashMap<RequestKey, Held>> {
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

    /// Was this very request paid before, with an outcome that nobody knows?
    ///
    /// # Errors
    /// The refusal, when the payload cannot or must not be sent again.
    pub(super) fn find(
        &self,
        request: RequestKey,
        now: Timestamp,
    ) -> Result<Option<Again>, Refusal> {
        let mut all = self.lock();
        let Some(held) = all.get_mut(&request) else {
            return Ok(None);
        };
        if held.until <= now {
            all.remove(&request);
            return Ok(None);
        }
        if let Some(again) = &held.again
            && again.on_unknown == OnUnknown::ResendSame
            && held.resends < RESENDS
        {
            held.resends += 1;
            return Ok(Some(again.clone()));
        }
        Err(refusal((held.id, held.until), held.claimed))
    }

    /// May one more payment of this session end without an answer?
    ///
    /// # Errors
    /// The refusal, while there are too many.
    pub(super) fn room(&self, session: &SessionId, now: Timestamp) -> Result<(), Refusal> {
        let all = self.lock();
        if all.len() < SHARE {
            return Ok(());
        }
        let living = all.values().filter(|held| now < held.until);
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
        self.lock().get(&request).is_some_and(|h| now < h.until)
    }

    /// Remembers a payment whose exchange ended without a usable answer.
    pub(super) fn hold(&self, request: RequestKey, again: Again, now: Timestamp) {
        let left = Left {
            id: again.about.id(),
            session: again.about.session().clone(),
            until: again.until,
            claimed: again.claimed,
        };
        self.insert(request, left, Some(again), now);
    }

    /// Remembers what a silent wallet left open; there is no payload, but there may be one somewhere.
    pub(super) fn leave(&self, request: RequestKey, left: Left, now: Timestamp) {
        self.insert(request, left, None, now);
    }

    /// The same of what a crash or restart left open, as far as there is room.
    pub(super) fn recall(&self, request: RequestKey, left: Left, now: Timestamp) {
        let full = |all: &HashMap<_, _>| all.len() >= REMEMBERED && !all.contains_key(&request);
        let mut all = self.lock();
        if full(&all) {
            all.retain(|_, held| held.until > now);
        }
        if !full(&all) {
            drop(all);
            self.insert(request, left, None, now);
        }
    }

    /// The request got what it was paid for: the next one like it is a new purchase.
    pub(super) fn forget(&self, request: RequestKey) {
        self.lock().remove(&request);
    }

    fn insert(&self, request: RequestKey, left: Left, again: Option<Again>, now: Timestamp) {
        let Left {
            id,
            session,
            until,
            claimed,
        } = left;
        let mut all = self.lock();
        if all.len() >= REMEMBERED {
            all.retain(|_, held| held.until > now);
        }
        let resends = all
            .get(&request)
            .filter(|h| h.id == id)
            .map_or(0, |h| h.resends);
        let held = Held {
            id,
            session,
            until,
            resends,
            claimed,
            again,
        };
        all.insert(request, held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(n: u64) -> RequestKey {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        RequestKey(key)
    }

    fn left(n: u64, until: Timestamp) -> Left {
        Left {
            session: SessionId(format!("s{}", n % 8).into()),
            id: PaymentId(n.into()),
            until,
            claimed: false,
        }
    }

    #[test]
    fn what_is_remembered_has_bounds() {
        let all = Outstanding::default();
        let now = Timestamp::from_secs(1000);
        let (soon, later) = (now.after_secs(60), now.after_secs(600));
        let most = u64::try_from(REMEMBERED).unwrap();
        for n in 0..most * 2 {
            let until = if n % 2 == 0 { soon } else { later };
            all.recall(request(n), left(n, until), now);
        }
        assert_eq!(all.lock().len(), REMEMBERED);
        assert!(
            all.find(request(1), now).is_err(),
            "what lives is not forgotten for another"
        );
        // What was known before keeps its place, also where there is no room.
        all.recall(request(1), left(7, later), now);
        assert_eq!(
            all.find(request(1), now).err().unwrap().payment,
            Some(PaymentId(7))
        );
        all.recall(request(most * 3), left(8, later), soon);
        assert_eq!(all.lock().len(), REMEMBERED / 2 + 1, "the dead make room");
        assert!(all.find(request(most * 3), soon).is_err());

        let all = Outstanding::default();
        let session = |n: u64| left(n, now).session;
        let share = u64::try_from(SHARE).unwrap();
        for n in 0..share {
            assert!(all.room(&session(0), now).is_ok(), "{n}");
            all.recall(request(n), left(n * 8, later), now);
        }
        let full = all.room(&session(0), now).err().unwrap();
        assert_eq!(full.reason, Reason::OutcomeUnknown);
        assert!(full.retryable && all.room(&session(1), now).is_ok());
        assert!(all.room(&session(0), later).is_ok(), "they are over");
        for n in share..most {
            all.recall(request(n), left(n, later), now);
        }
        let other = SessionId("another".into());
        assert!(all.room(&other, now).is_err(), "nobody's is forgotten");

        let waiting = Arc::new(Waiting::default());
        for n in 0..most * 2 {
            all.begin(request(n), &Arc::new(Waiting::default()));
        }
        all.begin(request(0), &waiting);
        let flying = all.flying.lock().unwrap().len();
        assert!(flying <= FLYING + 1, "{flying}");
    }
}
