//! Is the agent still there for the answer that is being paid for? One that hung up and asks the same
//! again is retrying, not buying twice (threat M-12).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::endings::Endings;
use super::record::News;
use super::{Payer, Signed};
use crate::budget::Entry;
use crate::event::{SpendEvent, Standing};
use crate::payment::{PaymentId, RequestKey};

/// Between two looks at what is about to be signed for an agent that is gone.
const LOOK: Duration = Duration::from_millis(50);

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

    /// This payment is made for it.
    pub(super) fn is_for(&self, payment: PaymentId) {
        let _ = self.payment.set(payment);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    pub(super) fn payment(&self) -> Option<PaymentId> {
        self.payment.get().copied()
    }
}

/// Dropped before it `stays`, its agent has left.
#[must_use]
pub struct Presence(Option<Arc<Waiting>>);

impl Presence {
    /// The agent gets its answer.
    pub fn stays(mut self) {
        self.0 = None;
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Some(waiting) = self.0.take() {
            waiting.leave();
        }
    }
}

impl Payer {
    /// Notes that this request is about to be paid, for as long as `waiting` lives.
    pub fn begin(&self, request: RequestKey, waiting: &Arc<Waiting>) {
        self.outstanding.begin(request, waiting);
    }

    /// Notes that the agent hung up on what is being paid for it, where others share the ledger: it may ask
    /// the same again through another proxy, which sees two purchases otherwise.
    pub async fn abandoned(&self, waiting: Arc<Waiting>) {
        let wait = Arc::downgrade(&waiting);
        drop(waiting);
        while self.is_shared() {
            let Some(waiting) = wait.upgrade() else {
                return;
            };
            if let Some(id) = waiting.payment() {
                drop(waiting);
                return self.owes(id).await;
            }
            drop(waiting);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Notes that nobody waits for the answer to this payment, unless it came.
    async fn owes(&self, id: PaymentId) {
        let endings = self.reconciler.endings();
        let _turn = endings.close(Endings::share(id)).await;
        let _ = self.ledger.flush().await;
        let Ok(Some((_, last))) = self.ledger.booked(id).await else {
            return;
        };
        if last.delivery.is_some() || last.standing() != Standing::Flying {
            return;
        }
        let event = SpendEvent {
            time: self.clock.now(),
            owed: last.request.is_some(),
            agreed: None,
            latency_ms: None,
            ..last
        };
        self.tell(vec![Entry::Note { id }], event, News::None).await;
    }
}

impl Signed {
    /// Stands for whoever waits for the answer to this payment. Until that is recorded nothing else is signed for the
    /// same request, should it be dropped.
    pub fn presence(&self) -> Presence {
        Presence(self.waiting.clone())
    }

    /// The same payment, with the agent that waits for it.
    pub fn awaited(mut self, waiting: Arc<Waiting>) -> Self {
        waiting.is_for(self.id());
        self.waiting = Some(waiting);
        self
    }
}
