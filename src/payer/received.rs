//! Delivery evidence: what was received for a payment, noted when the answer has ended.

use super::Payer;
use super::arrival::is_filled;
use super::record::News;
use super::sweep::is_in_vain;
use crate::budget::Entry;
use crate::event::{Delivery, Flag, SpendEvent, State};

/// What the agent was handed of a paid answer's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes.
    pub length: u64,
    /// SHA-256, hexadecimal; `None` when the body did not end.
    pub digest: Option<String>,
    /// Did the merchant break it off? Then the agent does not have it, and did not choose so.
    pub broken_off: bool,
    /// Was our own payload in it? Then whoever reads it could charge it elsewhere.
    pub echoed: bool,
}

impl Payer {
    /// Adds what was received to what was recorded when the answer began. Best effort: evidence
    /// moves no sum.
    pub async fn received(&self, settled: SpendEvent, received: Received) {
        let now = self.clock.now();
        let id = settled.id;
        let alone = may_be_outdone(&settled);
        let _turn = self.reconciler.endings().answer(id, alone).await;
        if let Some(newer) = self.answered_since(&settled).await {
            // That answer stands; what this one brought is evidence of the merchant, not of the payment.
            let mut event = SpendEvent { time: now, ..newer };
            let known = event.flags.len();
            flag(&mut event.flags, Flag::AuthorizationEchoed, received.echoed);
            if event.flags.len() > known {
                self.tell(vec![Entry::Note { id }], event, News::Flags)
                    .await;
            }
            return;
        }
        let mut event = SpendEvent {
            time: now,
            ..settled
        };
        // A stream may outlast its payment's validity.
        self.swept(&mut event, false).await;
        let flags = event.flags.clone();
        event.owed |= received.broken_off;
        let delivery = event.delivery.get_or_insert_with(Delivery::default);
        delivery.length = Some(received.length);
        delivery.digest.clone_from(&received.digest);
        let empty = received.length == 0 && is_filled(&event.method, delivery.status);
        flag(&mut event.flags, Flag::PaidNotDelivered, empty);
        flag(
            &mut event.flags,
            Flag::PaidNotDelivered,
            received.digest.is_none(),
        );
        flag(&mut event.flags, Flag::AuthorizationEchoed, received.echoed);
        let news = if event.flags == flags {
            News::None
        } else {
            News::Flags
        };
        self.tell(vec![Entry::Note { id }], event, news).await;
        if received.broken_off {
            self.spread().await;
        }
    }
}

impl Payer {
    /// Notes something to look at that was seen after the head of the answer was recorded.
    pub(super) async fn notice_flag(&self, settled: &mut SpendEvent, which: Flag) {
        let id = settled.id;
        let _turn = self.reconciler.endings().answer(id, true).await;
        match self.answered_since(settled).await {
            Some(newer) => *settled = newer,
            None => {
                self.swept(settled, false).await;
            }
        }
        settled.time = self.clock.now();
        flag(&mut settled.flags, which, true);
        self.tell(vec![Entry::Note { id }], settled.clone(), News::Flags)
            .await;
    }

    /// What a later answer to the same payload left, when it says more than this one: a payload that is
    /// sent again may be answered whole before the first answer has ended.
    async fn answered_since(&self, settled: &SpendEvent) -> Option<SpendEvent> {
        if !may_be_outdone(settled) {
            return None;
        }
        let _ = self.ledger.flush().await;
        let last = self.ledger.payment(settled.id).await.ok().flatten();
        // What is only reserved is no answer: nothing could be stored since.
        let last = last.filter(|last| last.state != State::Reserved)?;
        let claimed = |event: &SpendEvent| event.receipt.as_deref() == Some("claimed");
        let more = claimed(&last) && !claimed(settled)
            || last.amount_settled > settled.amount_settled
            || is_in_vain(settled) && !is_in_vain(&last);
        (is_of_another(settled) || more).then_some(last)
    }
}

/// May another answer to the same payload have left more than this one did?
fn may_be_outdone(settled: &SpendEvent) -> bool {
    settled.state == State::Unknown || is_of_another(settled) || is_in_vain(settled)
}

/// Had another answer ended before this one began, so that its delivery is what is recorded (`swept`)?
fn is_of_another(settled: &SpendEvent) -> bool {
    let delivery = settled.delivery.as_ref();
    delivery.is_some_and(|d| d.digest.is_some())
}

fn flag(flags: &mut Vec<Flag>, which: Flag, raised: bool) {
    if raised && !flags.contains(&which) {
        flags.push(which);
    }
}
