//! What a start must know of the time before it: answers that agents still wait for, and who was paid for
//! nothing. A restart is a fresh start for nobody.

use std::time::Duration;

use http::StatusCode;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::arrival::is_filled;
use super::breaker::PAUSE_MAX_SECS;
use super::endings::Endings;
use super::outstanding::Left;
use super::reserve::{IDENTICAL, identical};
use super::settle::{given, usable};
use super::{Payer, SKEW};
use crate::budget::Entry;
use crate::clock::Timestamp;
use crate::event::export::Recorded;
use crate::event::{Flag, SpendEvent, Standing, State};
use crate::ledger::{Filter, PostError};
use crate::payment::{Asked, Claim, Receipt, RequestKey};
use crate::settings::Rate;

/// No payload lives longer (`limits.validity`), and no record of one that lives is older than this and
/// the skew of its clocks.
const LONGEST_SECS: u64 = 3600;

/// Payments of the last hour that are looked at after a start: more than enough to know a merchant by.
const RELEARNED: usize = 1000;

/// How long a new policy waits for what was paid before.
const RECOUNT: Duration = Duration::from_secs(3);

/// Rows on their way from the ledger.
const ROWS: usize = 64;

impl Payer {
    /// Finds the requests whose answer somebody may still ask for: of payments that a crash or restart
    /// left open, and of those that were closed while nobody had the answer.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn recall(&self) -> Result<(), PostError> {
        // What was just closed may still wait for its commit.
        self.ledger.flush().await?;
        self.recall_closed().await?;
        let now = self.surely();
        for (payment, event) in self.ledger.open().await? {
            if let Some(request) = request(&event).filter(|_| !delivered(&event)) {
                let left = Left {
                    id: event.id,
                    session: event.session.clone(),
                    until: payment.until,
                    claimed: false,
                    rule: event.rule.clone(),
                    price: event.price,
                };
                self.outstanding.recall(request, left, now);
            }
            // Its process is gone. Where others share the ledger it may be theirs, and under way.
            if event.state == State::Reserved && !self.is_shared() {
                self.is_unknown(event).await;
            }
        }
        self.relearn().await
    }

    /// Says of what is still open when the process ends that nobody knows how it came out, unless that is said
    /// meanwhile.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn leave_open(&self) -> Result<(), PostError> {
        let own = self.outstanding.flying();
        self.ledger.flush().await?;
        for (_, event) in self.ledger.open().await? {
            if event.state != State::Reserved || self.is_shared() && !own.contains(&event.id) {
                continue;
            }
            let endings = self.reconciler.endings();
            let _turn = endings.close(Endings::share(event.id)).await;
            self.ledger.flush().await?;
            match self.ledger.booked(event.id).await? {
                Some((_, last)) if last.state == State::Reserved => self.is_unknown(last).await,
                _ => {}
            }
        }
        Ok(())
    }

    async fn is_unknown(&self, last: SpendEvent) {
        let event = SpendEvent {
            time: self.clock.now(),
            state: State::Unknown,
            owed: last.request.is_some(),
            latency_ms: None,
            ..last
        };
        self.record(vec![Entry::Note { id: event.id }], event).await;
    }

    /// Looks once more at what was recalled of this request: meanwhile it may be over, above all where another
    /// proxy had it on its way.
    pub(super) async fn reread(&self, asked: &Asked) {
        let Some(request) = asked.request else {
            return;
        };
        for id in self.outstanding.recalled(request) {
            // Without a ledger nothing is forgotten.
            if let Ok(Some((_, event))) = self.ledger.booked(id).await
                && over(&event)
            {
                self.outstanding.forget(request, id);
            }
        }
    }

    /// One by one, since an hour may hold many.
    async fn recall_closed(&self) -> Result<(), PostError> {
        let now = self.surely();
        let since = now.0.saturating_sub((LONGEST_SECS + 2 * SKEW) * 1000);
        let (rows, mut found) = mpsc::channel(ROWS);
        let settled = Filter {
            state: Some(State::Settled),
            changed: Some(Timestamp(since)),
            lives: Some(Timestamp(now.0.saturating_sub(SKEW * 1000))),
            ..Filter::default()
        };
        let keep = async {
            while let Some(Recorded { event, .. }) = found.recv().await {
                let dies = event.valid_before.unwrap_or_default();
                let left = Left {
                    id: event.id,
                    session: event.session.clone(),
                    until: Timestamp::from_secs(dies.saturating_add(SKEW)),
                    claimed: event.is_claimed(),
                    rule: event.rule.clone(),
                    price: event.price,
                };
                // No answer came before it was closed, or the process died before it knew how much of one
                // was handed over.
                let owed = event.standing() != Standing::Over && now < left.until;
                if let Some(request) = request(&event).filter(|_| owed) {
                    self.outstanding.recall(request, left, now);
                }
            }
        };
        let (walked, ()) = tokio::join!(self.ledger.walk(settled, rows), keep);
        walked
    }

    /// Which merchants lately took payments without delivering, which requests brought nothing, and which were paid
    /// how often.
    async fn relearn(&self) -> Result<(), PostError> {
        let mut lately = self.paid_within(PAUSE_MAX_SECS).await?;
        lately.reverse();
        let rate = self.policy().identical_payments();
        self.rates.count_identical(rate, IDENTICAL);
        if let Some(rate) = rate {
            self.take_places(rate, &lately);
        }
        for event in lately {
            let Some((gave, status)) = came(&event) else {
                continue;
            };
            let (host, path) = (&event.host, &event.path);
            if let Some(gave) = gave {
                self.breaker.record(host, path, gave, event.time);
            }
            if let Some(request) = request(&event) {
                self.loops.record(request, status, event.time);
            }
        }
        Ok(())
    }
}

impl Payer {
    /// Counts by a new rate what was paid for identical requests, before a policy with that rate is in force. Where the
    /// ledger cannot be read, the policy must not wait for it.
    pub(super) async fn recount(&self, rate: Option<Rate>) {
        if rate == self.policy().identical_payments() {
            return;
        }
        // First: what is paid from here on counts by it too, so that nothing is paid uncounted in between.
        self.rates.count_identical(rate, IDENTICAL);
        let Some(rate) = rate else {
            return;
        };
        let paid = async {
            // What was just paid may still wait for its commit.
            self.ledger.flush().await?;
            self.paid_within(rate.seconds).await
        };
        match timeout(RECOUNT, paid).await {
            Ok(Ok(paid)) => self.take_places(rate, &paid),
            Ok(Err(error)) => {
                tracing::warn!(%error, "what was paid before does not count by the new limits.identical_payments");
            }
            Err(_) => tracing::warn!(
                "the ledger is slow: what was paid before does not count by the new limits.identical_payments"
            ),
        }
    }

    /// What was paid in the last seconds, the newest first.
    async fn paid_within(&self, seconds: u64) -> Result<Vec<SpendEvent>, PostError> {
        let now = self.clock.now();
        let since = Timestamp(now.0.saturating_sub(seconds.saturating_mul(1000)));
        let newest = Filter {
            limit: RELEARNED,
            changed: Some(since),
            ..Filter::default()
        };
        self.ledger.payments(newest).await
    }

    /// Takes the places of these payments in a rate of identical requests.
    fn take_places(&self, rate: Rate, events: &[SpendEvent]) {
        // What was refused took no place.
        let paid = events.iter().filter(|e| e.state != State::Denied);
        let paid = paid.filter_map(|e| Some((identical(request(e)?), e.id.made())));
        let mut paid: Vec<_> = paid.collect();
        paid.sort_by_key(|(_, made)| *made);
        self.rates.recall(rate, paid.into_iter());
    }
}

fn request(event: &SpendEvent) -> Option<RequestKey> {
    event.request.as_deref()?.parse().ok()
}

/// Would it not be recalled by now?
fn over(event: &SpendEvent) -> bool {
    match event.state {
        State::Released | State::Denied => true,
        State::Settled => event.standing() == Standing::Over,
        State::Reserved | State::Unknown => delivered(event),
    }
}

/// Did the agent get its answer whole, though without a receipt? Then the next one is a purchase, as it
/// was before the restart.
fn delivered(event: &SpendEvent) -> bool {
    let delivery = event.delivery.as_ref();
    let given = |status| StatusCode::from_u16(status).is_ok_and(given);
    let whole = delivery.filter(|d| d.digest.is_some() && given(d.status));
    // One without a body is whole also where nobody was there to take it.
    whole.is_some() && !event.owed && !event.flags.contains(&Flag::PaidNotDelivered)
}

/// What came for this payment: whether the merchant gave something, where that is known, and the status. `None`
/// when it ended before anything could.
fn came(event: &SpendEvent) -> Option<(Option<bool>, Option<StatusCode>)> {
    let receipt = match event.receipt.as_deref()? {
        "claimed" => Receipt::Claimed(Claim::default()),
        _ => Receipt::Absent,
    };
    let status = event.delivery.as_ref().map(|d| d.status);
    let status = status.and_then(|s| StatusCode::from_u16(s).ok());
    let gave = match usable(&receipt, status) {
        true => arrived(event),
        false => Some(false),
    };
    Some((gave, status))
}

/// Did the body of an answer bring something? `None` where nobody knows: the process died, or the agent left
/// first.
fn arrived(event: &SpendEvent) -> Option<bool> {
    let delivery = event.delivery.as_ref()?;
    let claimed = event.receipt.as_deref() == Some("claimed");
    let filled = !claimed && is_filled(&event.method, delivery.status);
    match (delivery.digest.is_some(), delivery.length) {
        (true, length) => Some(!filled || length != Some(0)),
        // Only the merchant cuts what is owed and had begun.
        (false, Some(1..)) if event.flags.contains(&Flag::PaidNotDelivered) => Some(!event.owed),
        (false, _) => None,
    }
}
