//! Is the agent still there for the answer that is being paid for? One that hung up and asks the same
//! again is retrying, not buying twice (threat M-12).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::{Payer, Signed};
use crate::payment::{PaymentId, RequestKey};

/// An agent's wait for one paid answer.
#[derive(Debug, Default)]
pub struct Waiting {
    gone: AtomicBool,
    payment: OnceLock<PaymentId>,
}

impl Waiting {
    /// The agent hung up. Said once; it does not come back to the same connection.
    pub fn leave(&self) {
        self.gone.store(true, Ordering::Release);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    pub(super) fn payment(&self) -> Option<PaymentId> {
        self.payment.get().copied()
    }
}

impl Payer {
    /// Notes that this request is about to be paid, for as long as `waiting` lives.
    pub fn begin(&self, request: RequestKey, waiting: &Arc<Waiting>) {
        self.outstanding.begin(request, waiting);
    }
}

impl Signed {
    /// The same payment, with the agent that waits for it.
    pub fn awaited(mut self, waiting: Arc<Waiting>) -> Self {
        let _ = waiting.payment.set(self.id());
        self.waiting = Some(waiting);
        self
    }
}
