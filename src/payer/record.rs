//! Telling the ledger and the sinks what happened, when nobody needs to wait for the disk.

use std::sync::Arc;
use std::time::Instant;

use super::Payer;
use super::about::About;
use crate::budget::{Entry, Reject};
use crate::event::metrics::Step;
use crate::event::{Conclusion, SpendEvent, State};
use crate::ledger::{Post, PostError};
use crate::money::Usd;
use crate::payment::{Asked, Reason, Refusal, Session, Trace};

/// What is new in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The payment reached another state.
    State,
    /// The state is as before, but somebody should look.
    Flags,
    /// Evidence only.
    None,
}

impl Payer {
    /// Records a refusal that the wire found on its own (an agent's payment header, a body too long
    /// to send twice) and gives it back.
    pub async fn refuse(&self, asked: &Asked, refusal: Refusal) -> Refusal {
        let about = About::new(asked, &self.policy(), self.clock.now());
        self.deny(about, refusal).await
    }

    /// Best effort: a refusal that cannot be recorded, or is one of too many, is still a refusal.
    pub(super) async fn deny(&self, mut about: About, mut refusal: Refusal) -> Refusal {
        if refusal.reason == Reason::OverRequestCap && refusal.remaining.is_none() {
            refusal.remaining = self.left(about.asked_in()).await;
        }
        let Some(id) = about.refused((self.fresh)().map(|(id, _)| id)) else {
            return refusal;
        };
        let mut event = about.event(self.clock.now(), State::Denied);
        event.reason = Some(refusal.reason.code().into());
        event.price = event.price.or(refusal.price);
        event.rule = event.rule.or_else(|| refusal.rule.clone());
        self.concludes(about.trace(), &about, &event, refusal.remaining);
        if !self.refused.is_recorded(&event.session) {
            self.sinks.iter().for_each(|sink| sink.left_out(&event));
            return refusal;
        }
        self.record(vec![Entry::Note { id }], event).await;
        refusal
    }

    /// What is left of a session, where the ledger has it at hand: no refusal is worth a question to a database.
    async fn left(&self, session: &Session) -> Option<Usd> {
        if self.is_shared() {
            return None;
        }
        match self.ledger.session(&session.id).await.ok()? {
            None => Some(session.budget),
            Some(row) if row.session.created == session.created => {
                Some(row.session.budget.minus(row.spent).unwrap_or_default())
            }
            Some(_) => None,
        }
    }

    /// Stored with the next commit, or where the storage does not work, with the first one when it works again. What
    /// is lost only counts too much, unless the operator wants unproven payments back.
    pub(super) async fn record(&self, entries: Vec<Entry>, event: SpendEvent) {
        self.tell(entries, event, News::State).await;
    }

    /// As `record`, for what may be no news to those who watch states.
    pub(super) async fn tell(&self, entries: Vec<Entry>, event: SpendEvent, news: News) {
        let post = Post {
            time: event.time,
            entries,
            event: Some(event.clone()),
        };
        let sinks = Arc::clone(&self.sinks);
        let then = Box::new(move |posted: Result<_, PostError>| {
            if posted == Err(PostError::Rejected(Reject::TooEarly)) {
                // It stays as it was: there is nothing to tell of.
                tracing::warn!(id = %event.id, "a payment was not given back: by the ledger's clock, which this machine's is ahead of, it may be taken yet");
                return;
            }
            if let Err(problem) = posted {
                tracing::error!(id = %event.id, error = %problem, "a spend event was not stored");
            }
            // Logged even when it was not stored: the log is then the only trace of it.
            sinks.iter().for_each(|sink| match news {
                News::State => sink.observe(&event),
                News::Flags => sink.flagged(&event),
                News::None => {}
            });
        });
        self.ledger.post_soon(post, then).await;
    }

    /// Do other proxies pay from the same ledger?
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.ledger.is_shared()
    }

    /// Waits until all who share the ledger know what was told: an agent without an answer may ask the same
    /// again at once, through another proxy.
    pub(super) async fn spread(&self) {
        if self.is_shared() {
            let _ = self.ledger.flush().await;
        }
    }

    /// Tells of a step that is over.
    pub fn took(&self, step: Step, began: Instant, trace: Option<&Trace>) {
        let time = began.elapsed();
        let sinks = self.sinks.iter();
        sinks.for_each(|sink| sink.took(step, time, trace));
    }

    /// Tells how an exchange ends, where somebody traces it.
    pub(super) fn concludes(
        &self,
        trace: Option<&Trace>,
        about: &About,
        event: &SpendEvent,
        remaining: Option<Usd>,
    ) {
        if let Some(trace) = trace {
            let end = Conclusion {
                event,
                budgets: about.budgets(),
                remaining,
            };
            let sinks = self.sinks.iter();
            sinks.for_each(|sink| sink.concludes(trace, &end));
        }
    }

    pub(super) fn observe(&self, event: &SpendEvent) {
        self.sinks.iter().for_each(|sink| sink.observe(event));
    }
}
