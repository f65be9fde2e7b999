//! Delivery evidence: what was received for a payment, noted when the answer has ended.

use super::Payer;
use crate::budget::Entry;
use crate::event::{Delivery, Flag, SpendEvent, State};
use crate::payment::PaymentId;

/// What the agent was handed of a paid answer's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes.
    pub length: u64,
    /// SHA-256, hexadecimal; `None` when the body did not end.
    pub digest: Option<String>,
    /// Was our own payload in it? Then whoever reads it could charge it elsewhere.
    pub echoed: bool,
}

impl Payer {
    /// Adds what was received to the newest record of a payment. Best effort: evidence moves no sum.
    pub async fn received(&self, id: PaymentId, received: Received) {
        let Ok(Some(last)) = self.ledger.payment(id).await else {
            return;
        };
        if last.state == State::Denied {
            return;
        }
        let mut event = SpendEvent {
            time: self.clock.now(),
            ..last
        };
        let delivery = event.delivery.get_or_insert_with(Delivery::default);
        delivery.length = Some(received.length);
        delivery.digest.clone_from(&received.digest);
        let empty = received.length == 0 && (200..300).contains(&delivery.status);
        let expected = delivery.status != 204 && event.method != "HEAD";
        flag(&mut event.flags, Flag::PaidNotDelivered, empty && expected);
        flag(
            &mut event.flags,
            Flag::PaidNotDelivered,
            received.digest.is_none(),
        );
        flag(&mut event.flags, Flag::AuthorizationEchoed, received.echoed);
        self.record(vec![Entry::Note { id }], event).await;
    }
}

fn flag(flags: &mut Vec<Flag>, which: Flag, raised: bool) {
    if raised && !flags.contains(&which) {
        flags.push(which);
    }
}
