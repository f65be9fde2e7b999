//! Closing what was left open and can no longer be charged. No proof, no refund.

use std::sync::atomic::Ordering;

use super::endings::Endings;
use super::reconcile::FRESH;
use super::reserve::with_facts;
use super::{Payer, SKEW};
use crate::budget::facts::key;
use crate::budget::{Because, Entry, Stage};
use crate::clock::Timestamp;
use crate::event::{Delivery, Flag, SETTLED_AS_CLAIMED, SpendEvent, State};
use crate::failpoint;
use crate::ledger::{Post, PostError};
use crate::money::Usd;
use crate::payment::PaymentId;
use crate::settings::Unproven;

/// Milliseconds between two looks at what people were asked.
const TIDY: u64 = 3_600_000;

/// Milliseconds for which what is over is still known by its id: a day, for whoever answers late.
const KEPT: u64 = 86_400_000;

impl Payer {
    /// Closes every open payment whose payload has died and whose chain cannot be asked; the others
    /// are for the [`Reconciler`](super::Reconciler). Returns how many. Called at start, which finishes
    /// what a crash left, and every now and then.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn sweep(&self) -> Result<usize, PostError> {
        let now = self.surely();
        let open = self.ledger.open().await?;
        let mut dead = vec![];
        for (payment, event) in open.into_iter().filter(|(p, _)| p.until <= now) {
            let unseen = self.reconciler.is_unseen(event.id);
            match !unseen && self.reconciler.knows(&payment, &event) {
                true => self.reconciler.want(event.id),
                false => dead.push((event.id, self.seen(&event).await)),
            }
        }
        dead.sort_by_key(|(id, _)| Endings::share(*id));
        let mut closed = 0;
        for share in dead.chunk_by(|(a, _), (b, _)| Endings::share(*a) == Endings::share(*b)) {
            closed += self.close(now, share).await?;
        }
        self.tidy().await?;
        Ok(closed)
    }

    /// Once an hour: what people were asked and is long over goes from the table; the records keep it.
    async fn tidy(&self) -> Result<(), PostError> {
        let now = self.clock.now();
        let last = self.tidied.load(Ordering::Relaxed);
        if last != 0 && now.0.saturating_sub(last) < TIDY {
            return Ok(());
        }
        let before = Timestamp(self.surely().0.saturating_sub(KEPT));
        let known = self.ledger.facts(key::APPROVALS).await?;
        if known.iter().any(|(_, fact)| fact.expired(before)) {
            let post = Post {
                time: now,
                entries: vec![Entry::DropApprovals { before }],
                event: None,
            };
            self.ledger.post(post).await?;
        }
        self.tidied.store(now.0, Ordering::Relaxed);
        Ok(())
    }

    /// Closes payments of one share, if they are still open when all that was said about them is written.
    async fn close(
        &self,
        now: Timestamp,
        dead: &[(PaymentId, Option<bool>)],
    ) -> Result<usize, PostError> {
        let Some((first, _)) = dead.first() else {
            return Ok(0);
        };
        let endings = self.reconciler.endings();
        let _turn = endings.close(Endings::share(*first)).await;
        self.ledger.flush().await?;
        let mut closed = 0;
        for (id, seen) in dead {
            let Some((payment, last)) = self.ledger.booked(*id).await? else {
                continue;
            };
            if payment.stage != Stage::Reserved {
                continue;
            }
            failpoint::reach("before-close");
            let (entry, event) = self.end(now, &last, payment.amount, *seen);
            let entries = with_facts(entry, &event, None);
            self.record(entries, event).await;
            failpoint::reach("after-close");
            self.reconciler.forget(*id);
            closed += 1;
        }
        Ok(closed)
    }

    /// What its wallet knows of it.
    async fn seen(&self, last: &SpendEvent) -> Option<bool> {
        let wallet = self.wallets.iter().find(|w| w.name() == last.wallet)?;
        wallet.settled(last.id).await
    }

    /// A payment whose payload is dead, or that was seen on its chain, may have been closed while its
    /// answer was on the way; another proxy looks at chains too, at payments that are not new any more, and two
    /// retries may have been sent the same payload. Then what closed it stands; returns whether it was.
    pub(super) async fn swept(&self, event: &mut SpendEvent, resent: bool) -> bool {
        let dies = event.valid_before.map(|s| s.saturating_add(SKEW));
        // By the clock that never steps back: the wall may have been set since it was closed.
        let dead = dies.is_some_and(|at| self.clock.now() >= Timestamp::from_secs(at));
        let age = self.clock.now().0.saturating_sub(event.id.made().0);
        let elsewhere = self.ledger.is_shared() && age >= FRESH;
        if !dead && !elsewhere && !resent && !self.reconciler.told(event.id) {
            return false;
        }
        // What closed it may still wait for its commit.
        let _ = self.ledger.flush().await;
        let Ok(Some(last)) = self.ledger.payment(event.id).await else {
            return false;
        };
        match last.state {
            State::Reserved | State::Unknown | State::Denied => {
                keep(event, &last);
                // A part that another answer claimed, while the rest is held.
                if event.state == State::Unknown && claims_more(&last, event) {
                    event.reason.clone_from(&last.reason);
                    outdone(event, &last, resent);
                }
                false
            }
            State::Settled | State::Released => {
                event.state = last.state;
                event.charged = last.charged;
                event.confirmed = last.confirmed;
                event.reason.clone_from(&last.reason);
                event.block = last.block;
                if last.block.is_some() {
                    event.transaction.clone_from(&last.transaction);
                    event.amount_settled = last.amount_settled;
                }
                outdone(event, &last, resent);
                true
            }
        }
    }

    /// The wallet's word, else the operator's, else it counts.
    fn end(
        &self,
        now: Timestamp,
        last: &SpendEvent,
        amount: Usd,
        seen: Option<bool>,
    ) -> (Entry, SpendEvent) {
        let id = last.id;
        // No more can be taken than a receipt named, if it was true; nobody is there to ask.
        let claimed = last.held_above().filter(|_| seen.is_none());
        let (release, reason) = match (seen, self.unproven) {
            _ if claimed.is_some() => (false, SETTLED_AS_CLAIMED),
            (Some(true), _) => (false, "seen_on_chain"),
            (Some(false), _) => (true, "unused_on_chain"),
            // That nothing is there to see proves nothing, whatever is done where nobody can look.
            (None, _) if self.reconciler.is_unseen(id) => (false, "unseen_on_chain"),
            (None, Unproven::Release) => (true, "expired_unproven"),
            (None, Unproven::Count) => (false, "expired_unproven"),
        };
        let mut event = SpendEvent {
            time: now,
            reason: Some(reason.into()),
            latency_ms: None,
            ..last.clone()
        };
        if release {
            event.state = State::Released;
            event.charged = None;
            let because = Because::Expired { now };
            return (Entry::Release { id, because }, event);
        }
        event.state = State::Settled;
        event.confirmed = seen == Some(true);
        let share = claimed.and_then(|part| last.share(part));
        // What was reserved is what the price was: never more than it.
        let charged = share.map_or(amount, |share| share.min(amount));
        event.charged = Some(charged);
        (Entry::Settle { id, charged }, event)
    }
}

/// What is odd about the terms of a payment stays so, whatever its next answer brings.
fn keep(event: &mut SpendEvent, last: &SpendEvent) {
    for flag in [Flag::PriceChanged, Flag::RecipientChanged] {
        if last.flags.contains(&flag) && !event.flags.contains(&flag) {
            event.flags.push(flag);
        }
    }
}

/// Does this record of a payment have a claim that the other one has not, or a larger one?
fn claims_more(last: &SpendEvent, event: &SpendEvent) -> bool {
    let larger = event.state == State::Unknown && last.amount_settled > event.amount_settled;
    last.receipt.as_deref() == Some("claimed") && (event.receipt != last.receipt || larger)
}

/// What another answer to the same payload claimed or brought stays, whatever this one says.
fn outdone(event: &mut SpendEvent, last: &SpendEvent, resent: bool) {
    if claims_more(last, event) {
        event.receipt.clone_from(&last.receipt);
        event.transaction.clone_from(&last.transaction);
        event.amount_settled = last.amount_settled;
    }
    let brought = |d: &Delivery| d.digest.is_some();
    if resent && is_in_vain(event) && last.delivery.as_ref().is_some_and(brought) {
        event.delivery.clone_from(&last.delivery);
        event.flags.retain(|f| !VAIN.contains(f));
    }
    let new = last.flags.iter().filter(|f| !event.flags.contains(f));
    let new: Vec<_> = new.copied().collect();
    event.flags.extend(new);
}

/// Said of an answer that brought nothing. It takes nothing away from another one that did.
const VAIN: [Flag; 2] = [Flag::PaidButDenied, Flag::PaidNotDelivered];

/// Is it recorded of an answer that brought nothing?
pub(super) fn is_in_vain(event: &SpendEvent) -> bool {
    event.flags.iter().any(|flag| VAIN.contains(flag))
}
