//! Delivery evidence: what was received for a payment, noted when the answer has ended.

use super::Payer;
use super::record::News;
use crate::budget::Entry;
use crate::event::{Delivery, Flag, SpendEvent};

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
        let mut event = SpendEvent {
            time: now,
            ..settled
        };
        let _turn = self.reconciler.endings().answer(id).await;
        // A stream may outlast its payment's validity.
        self.swept(&mut event).await;
        let flags = event.flags.clone();
        event.owed |= received.broken_off;
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
        let news = if event.flags == flags {
            News::None
        } else {
            News::Flags
        };
        self.tell(vec![Entry::Note { id }], event, news).await;
    }
}

fn flag(flags: &mut Vec<Flag>, which: Flag, raised: bool) {
    if raised && !flags.contains(&which) {
        flags.push(which);
    }
}
