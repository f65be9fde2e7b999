//! How much of a paid answer came. Its head gives nothing yet: a merchant is known by what arrived.

use http::StatusCode;

use super::Payer;
use super::about::About;
use super::outstanding::Again;
use crate::payment::{Asked, RequestKey};

/// An answer on its way to the agent, with the right to send the same payload again should it not arrive
/// whole.
pub struct Recourse(Box<OnItsWay>);

struct OnItsWay {
    request: RequestKey,
    again: Again,
    counts: Counts,
}

/// What an answer counts for, should it not arrive as it ought to.
#[derive(Clone, Copy)]
pub(super) struct Counts {
    /// Paid for this answer, and not only asked again.
    pub(super) anew: bool,
    /// Something must be in it.
    pub(super) filled: bool,
}

impl Counts {
    pub(super) fn of(asked: &Asked, status: Option<StatusCode>, resent: bool) -> Self {
        let filled = |s: StatusCode| is_filled(asked.method.as_str(), s.as_u16());
        Self {
            anew: !resent,
            filled: status.is_some_and(filled),
        }
    }
}

impl Recourse {
    pub(super) fn new(request: RequestKey, again: Again, counts: Counts) -> Self {
        Self(Box::new(OnItsWay {
            request,
            again,
            counts,
        }))
    }
}

impl Payer {
    /// The answer came whole, with so many bytes in its body.
    pub fn arrived(&self, recourse: Recourse, length: u64) {
        let OnItsWay { again, counts, .. } = *recourse.0;
        // An empty answer may be all there is to say of what a receipt confirms.
        let gave = length > 0 || !counts.filled || again.claimed;
        self.judge(&again.about, gave, counts.anew);
    }

    /// The agent left after so many bytes of the answer. That is no fault of the merchant's, who gave something if
    /// anything came: long streams end so.
    pub fn hung_up(&self, recourse: Recourse, length: u64) {
        if length > 0 {
            self.judge(&recourse.0.again.about, true, false);
        }
    }

    /// The merchant broke its answer off: the agent's next request like it is a retry, not a purchase.
    pub fn broken_off(&self, recourse: Recourse) {
        let OnItsWay {
            request,
            again,
            counts,
        } = *recourse.0;
        self.judge(&again.about, false, counts.anew);
        self.outstanding.hold(request, again, self.surely());
    }

    /// A merchant that takes without giving is left alone for a while, and the operator hears of it. A payload that
    /// is sent again in vain is no other payment.
    pub(super) fn judge(&self, about: &About, gave: bool, anew: bool) {
        if !gave && !anew {
            return;
        }
        let (host, now) = (about.host(), self.clock.now());
        if let Some(until) = self.breaker.record(host, about.path(), gave, now) {
            tracing::warn!(host, %until, "payments without a usable answer: a circuit is open");
        }
    }
}

/// Must an answer have something in it? One to HEAD has nothing, nor has 204, and an error says enough by itself.
pub(super) fn is_filled(method: &str, status: u16) -> bool {
    (200..300).contains(&status) && status != 204 && method != "HEAD"
}
