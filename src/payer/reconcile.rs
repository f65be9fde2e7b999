//! Payments against what their chains show. Only a chain confirms, and only a chain gives back: what
//! it does not say leaves a payment as it is.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::budget::Payment;
use crate::chain::{Chains, Sight};
use crate::clock::{Clock, Timestamp};
use crate::event::export::Recorded;
use crate::event::{Flag, Sink, SpendEvent, State};
use crate::ledger::{Filter, Ledger, Post, PostError};
use crate::payment::PaymentId;
use crate::wallet::Wallet;

mod clusters;
mod conclude;
mod finding;
mod invoices;
mod pass;
mod waiting;

use super::endings::Endings;
use super::reserve::with_facts;
use conclude::{Conclusion, conclude};
use finding::without;
pub use finding::{Finding, Outcome};
use pass::{Pass, authorization};
use waiting::Waiting;

/// For everything that is asked about one payment.
const DEADLINE: Duration = Duration::from_secs(60);

/// Milliseconds after its newest event in which a payment is left alone: evidence of its answer may
/// still be on its way, and would be written over what the chain shows.
pub(super) const FRESH: u64 = 6_000;

/// Payments that are asked about in one go, one after the other.
const GO: usize = 32;

/// Goes of one round of the sweeper, unless its time is over before. The rest waits for the next round: nodes of
/// others count questions.
const GOES: usize = 8;
const ROUND: Duration = Duration::from_secs(8);

/// Asks the chains and records what they show.
pub struct Reconciler {
    ledger: Arc<dyn Ledger>,
    chains: Chains,
    wallets: Vec<Arc<dyn Wallet>>,
    clock: Arc<dyn Clock>,
    sinks: Arc<[Arc<dyn Sink>]>,
    waiting: Mutex<Waiting>,
    /// Dead payments of which their chains show nothing and never will.
    unseen: Mutex<HashSet<PaymentId>>,
    endings: Endings,
}

impl Reconciler {
    /// Assembles the parts. Asks nobody yet.
    #[must_use]
    pub fn new(
        ledger: Arc<dyn Ledger>,
        chains: Chains,
        wallets: Vec<Arc<dyn Wallet>>,
        clock: Arc<dyn Clock>,
        sinks: Arc<[Arc<dyn Sink>]>,
    ) -> Self {
        Self {
            ledger,
            chains,
            wallets,
            clock,
            sinks,
            waiting: Mutex::default(),
            unseen: Mutex::default(),
            endings: Endings::default(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose turn it is to write about a payment.
    pub(super) fn endings(&self) -> &Endings {
        &self.endings
    }

    /// Is it on a chain that can be asked?
    pub(super) fn knows(&self, payment: &Payment, event: &SpendEvent) -> bool {
        self.chains.knows(&event.network) && authorization(payment, event).is_some()
            || self.node(payment, event).is_some()
    }

    /// Could a chain say more about this payment than its newest event does?
    #[must_use]
    pub fn concerns(&self, event: &SpendEvent) -> bool {
        let asked = self.chains.knows(&event.network)
            || self.chains.knows_cluster(&event.network)
            || self.pays_itself(&event.wallet);
        event.awaits_chain() && asked
    }

    /// Was something about it recorded that a late answer must not write over?
    pub(super) fn told(&self, id: PaymentId) -> bool {
        self.waiting().told(id)
    }

    /// Looks at it in one of the next rounds.
    pub(super) fn want(&self, id: PaymentId) {
        self.waiting().want(id);
    }

    /// Was its chain asked in vain, for the last time?
    pub(super) fn is_unseen(&self, id: PaymentId) -> bool {
        self.unseen().contains(&id)
    }

    /// It is closed.
    pub(super) fn forget(&self, id: PaymentId) {
        self.unseen().remove(&id);
    }

    fn unseen(&self) -> MutexGuard<'_, HashSet<PaymentId>> {
        self.unseen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One round beside a running proxy: what is new in the ledger waits its turn, and some of what
    /// waits is looked at. Returns how many came to an end.
    ///
    /// # Errors
    /// When the ledger cannot be read or written.
    pub async fn round(&self) -> Result<usize, PostError> {
        let nobody = self.chains.is_empty() && self.wallets.iter().all(|w| !w.pays_itself());
        if nobody {
            return Ok(0);
        }
        self.notice().await?;
        let (began, mut ended) = (Instant::now(), 0);
        let mut pass = self.pass();
        for _ in 0..GOES {
            let due = self.waiting().due(self.clock.now(), GO);
            if due.is_empty() {
                break;
            }
            ended += self.go(&mut pass, &due).await?;
            if began.elapsed() >= ROUND {
                break;
            }
        }
        Ok(ended)
    }

    /// Looks at these. Returns how many came to an end.
    async fn go(&self, pass: &mut Pass<'_>, due: &[PaymentId]) -> Result<usize, PostError> {
        let mut ended = 0;
        for (i, id) in due.iter().enumerate() {
            match pass.look(*id).await {
                Ok(finding) if finding.outcome.is_open() => {
                    self.waiting().later(*id, self.clock.now());
                }
                Ok(finding) => {
                    if finding.outcome == Outcome::Unseen && finding.state != State::Settled {
                        self.unseen().insert(*id);
                    }
                    ended += 1;
                }
                Err(error) => {
                    let left = due.iter().skip(i);
                    left.for_each(|id| self.waiting().later(*id, self.clock.now()));
                    return Err(error);
                }
            }
        }
        Ok(ended)
    }

    /// The first reading of the ledger: the newest record of each payment. Most were confirmed long ago, and of each there is
    /// a record from before that, which would have its chain looked at for nothing.
    async fn survey(&self) -> Result<(), PostError> {
        let (sender, mut rows) = mpsc::channel::<Recorded>(256);
        let noticed = async move {
            let mut read = 0;
            while let Some(row) = rows.recv().await {
                let mut waiting = self.waiting();
                // From here on it is read record by record.
                if waiting.place().is_none() {
                    break;
                }
                self.meet(&mut waiting, &row.event);
                read = row.record_seq;
            }
            read
        };
        let (walked, read) = tokio::join!(self.ledger.walk(Filter::default(), sender), noticed);
        walked?;
        self.waiting().surveyed(read);
        Ok(())
    }

    fn meet(&self, waiting: &mut Waiting, event: &SpendEvent) {
        if event.state != State::Reserved && self.concerns(event) {
            waiting.put(event.id, event.time);
        }
    }

    /// Goes on reading the ledger where it stopped.
    async fn notice(&self) -> Result<(), PostError> {
        if self.waiting().is_blank() {
            self.survey().await?;
        }
        for _ in 0..waiting::PAGES {
            let Some(after) = self.waiting().place() else {
                return Ok(());
            };
            let events = self.ledger.events(after, waiting::PAGE).await?;
            let whole = events.len() == waiting::PAGE;
            let mut waiting = self.waiting();
            for (seq, event) in events {
                self.meet(&mut waiting, &event);
                waiting.read(seq);
            }
            if !whole {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Several looks at the chains as they are now.
    #[must_use]
    pub fn pass(&self) -> Pass<'_> {
        Pass::of(self)
    }
}

impl Reconciler {
    /// The time that has come by either clock, as for the payer.
    fn surely(&self) -> Timestamp {
        self.clock.now().min(self.clock.wall())
    }

    fn under_way(&self, payment: &Payment, last: &SpendEvent) -> bool {
        let open = last.state == State::Reserved && self.surely() < payment.until;
        let age = self.clock.now().0.saturating_sub(last.time.0);
        open || age < FRESH
    }

    /// What follows from what a chain shows, unless the payment went on meanwhile.
    async fn book(
        &self,
        payment: &Payment,
        last: &SpendEvent,
        sight: Sight,
    ) -> Result<Finding, PostError> {
        let _turn = self.endings.close(Endings::share(last.id)).await;
        self.ledger.flush().await?;
        let undecided = |why: &str| Ok(without(last, Outcome::Undecided, why));
        if self.ledger.booked(last.id).await?.as_ref() != Some(&(payment.clone(), last.clone())) {
            return undecided("it went on while its chain was asked");
        }
        match conclude(payment, last, sight, self.clock.now(), self.surely()) {
            Some(conclusion) => self.record(last, conclusion).await,
            None => undecided("it may be taken yet, or was too lately"),
        }
    }

    /// Durable before anybody is told.
    async fn record(
        &self,
        last: &SpendEvent,
        conclusion: Conclusion,
    ) -> Result<Finding, PostError> {
        let Conclusion {
            entry,
            event,
            outcome,
        } = conclusion;
        let post = Post {
            time: event.time,
            entries: with_facts(entry, &event, None),
            event: Some(event.clone()),
        };
        self.waiting().tell(event.id);
        match self.ledger.post(post).await {
            Ok(_) => {}
            // It went on meanwhile; the next look sees how.
            Err(PostError::Rejected(reject)) => {
                return Ok(without(last, Outcome::Undecided, reject.to_string()));
            }
            Err(error) => return Err(error),
        }
        self.tell(last, &event);
        Ok(Finding {
            id: event.id,
            outcome,
            state: event.state,
            transaction: event.transaction,
            detail: None,
        })
    }

    /// A payment that was taken behind our back is told loudly.
    fn tell(&self, last: &SpendEvent, event: &SpendEvent) {
        let new = |flag: &Flag| event.flags.contains(flag) && !last.flags.contains(flag);
        let loud = [
            (
                Flag::TakenAfterRelease,
                "a released payment was taken on the chain; it counts again",
            ),
            (
                Flag::TakenOtherwise,
                "a payment's nonce was spent on other terms than were signed",
            ),
            (
                Flag::TakenUnclaimed,
                "a payment was taken on the chain, and no receipt said so",
            ),
        ];
        if let Some((_, what)) = loud.iter().find(|(flag, _)| new(flag)) {
            let transaction = event.transaction.as_deref().unwrap_or_default();
            tracing::warn!(id = %event.id, host = %event.host, transaction, "{what}");
        }
        let flagged = event.flags.iter().any(new);
        self.sinks
            .iter()
            .for_each(|sink| match (last.state == event.state, flagged) {
                (false, _) => sink.observe(event),
                (true, true) => sink.flagged(event),
                (true, false) => {}
            });
    }
}

#[cfg(test)]
mod tests;
