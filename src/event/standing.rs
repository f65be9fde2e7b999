//! What a payment means for the next request like the one that it was made for.

use super::{Flag, SpendEvent, State};

/// `receipt` of a payment that its own preimage proves.
pub const PREIMAGE: &str = "preimage";

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Whoever paid waits for the answer, or hands it over: another request like it is another purchase.
    Flying,
    /// Nobody has the answer, and nobody waits for it: another request like it is the same one again.
    Left,
    /// It was answered, or nothing was charged: another request like it is another purchase.
    Over,
}

impl SpendEvent {
    /// Does a receipt, or its own preimage, say that it was charged?
    #[must_use]
    pub fn is_claimed(&self) -> bool {
        let said = matches!(self.receipt.as_deref(), Some("claimed" | PREIMAGE));
        said && self.state == State::Settled
    }

    /// How its payment stands when this is the newest event of it.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match (self.state, &self.delivery) {
            (State::Denied | State::Released, _) => Standing::Over,
            (State::Reserved | State::Unknown | State::Settled, _) if self.owed => Standing::Left,
            // The wallet did not say whether it signed.
            (State::Unknown, None) => Standing::Left,
            (State::Reserved | State::Settled, None) => Standing::Flying,
            (State::Reserved | State::Unknown | State::Settled, Some(delivery)) => {
                let ended = delivery.digest.is_some();
                match ended || self.flags.contains(&Flag::PaidNotDelivered) {
                    true => Standing::Over,
                    false => Standing::Flying,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Delivery;

    #[test]
    fn an_event_says_whether_its_request_is_still_waited_for() {
        use Standing::{Flying, Left, Over};
        use State::{Denied, Released, Reserved, Settled, Unknown};
        let (head, whole) = (Some(None), Some(Some("d".to_owned())));
        for (state, owed, answer, flagged, standing) in [
            (Reserved, false, None, false, Flying),
            (Reserved, true, None, false, Left),
            (Settled, false, None, false, Flying),
            (Unknown, false, None, false, Left),
            (Unknown, true, None, true, Left),
            (Settled, false, head.clone(), false, Flying),
            (Unknown, false, head.clone(), false, Flying),
            (Settled, true, head.clone(), false, Left),
            // The agent left it half read.
            (Settled, false, head.clone(), true, Over),
            (Settled, false, whole.clone(), false, Over),
            (Unknown, false, whole.clone(), false, Over),
            (Unknown, true, whole.clone(), true, Left),
            (Released, true, head, true, Over),
            (Denied, false, None, false, Over),
        ] {
            let event = SpendEvent {
                state,
                owed,
                delivery: answer.clone().map(|digest| Delivery {
                    digest,
                    ..Delivery::default()
                }),
                flags: flagged
                    .then_some(Flag::PaidNotDelivered)
                    .into_iter()
                    .collect(),
                ..SpendEvent::default()
            };
            assert_eq!(event.standing(), standing, "{event:?}");
        }
    }
}
