//! Delivery evidence: what was received for a payment, noted when the answer has ended.

use super::Payer;
use super::record::News;
use crate::budget::Entry;
use crate::event::{Delivery, Flag, SpendEvent};

/// No payload dies so soon, so nobody else has written about the payment since.
const RECENT_MS: u64 = 5_000;

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
    /// Adds what was received to what was recorded when the answer began. Best effort: evidence
    /// moves no sum.
    pub async fn received(&self, settled: SpendEvent, received: Received) {
        let now = self.clock.now();
        let id = settled.id;
        let last = match now.0.saturating_sub(settled.time.0) > RECENT_MS {
            // A stream may outlast its payment's validity; the sweeper may have closed it since.
            true => self.ledger.payment(id).await.ok().flatten(),
            false => None,
        };
        let mut event = SpendEvent {
            time: now,
            ..last.unwrap_or(settled)
        };
        let flags = event.flags.clone();
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
