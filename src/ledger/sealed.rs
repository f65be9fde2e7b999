//! A post with all that can be computed before it is its turn, so that the writer need not.

use sha2::{Digest as _, Sha256};

use crate::budget::Entry;
use crate::clock::Timestamp;
use crate::event::{SpendEvent, Standing, State, Stored};

use super::Post;

/// The number under which a nonce with this hash is kept. Two nonces with one number refuse a payment, once in
/// billions; they never let one pass.
pub(in crate::ledger) fn number_of_hash(sha256: &[u8; 32]) -> i64 {
    sha256
        .iter()
        .take(8)
        .fold(0, |sum, b| sum << 8 | i64::from(*b))
}

/// [`number_of_hash`] of a nonce.
pub(in crate::ledger) fn number_of(nonce: &str) -> i64 {
    number_of_hash(&Sha256::digest(nonce).into())
}

/// The number under which a payment is found by its request, as long as it may stop another one for it: the
/// beginning of the request's digest. Two requests with one number are as rare as two nonces.
pub(in crate::ledger) fn number_of_request(event: &SpendEvent) -> Option<i64> {
    let digits = event.request.as_deref()?.get(..16)?;
    let number = u64::from_str_radix(digits, 16).ok()?.cast_signed();
    (event.standing() != Standing::Over).then_some(number)
}

/// Posts that nobody waits for, kept while the storage does not work. Each is some kilobytes.
const KEPT_MAX: usize = 4096;

/// May one more be kept? What is asked for meanwhile is refused, and refusals, of which there may be any number, take
/// at most half of the room: what was signed before is worth more.
pub(in crate::ledger) fn has_room(kept: usize, post: &Sealed) -> bool {
    kept < if post.refuses { KEPT_MAX / 2 } else { KEPT_MAX }
}

/// See the module.
pub(in crate::ledger) struct Sealed {
    pub(in crate::ledger) time: Timestamp,
    pub(in crate::ledger) entries: Vec<Entry>,
    /// For each entry the number of the nonce that it reserves under; see `number_of_hash`.
    pub(in crate::ledger) numbers: Vec<Option<i64>>,
    /// See `number_of_request`.
    pub(in crate::ledger) request: Option<i64>,
    /// Does it only tell of a refusal?
    pub(in crate::ledger) refuses: bool,
    /// Does it tell of what a receipt or a chain says was taken?
    pub(in crate::ledger) claims: bool,
    pub(in crate::ledger) entries_json: String,
    pub(in crate::ledger) event_json: Option<String>,
}

impl Sealed {
    pub(in crate::ledger) fn new(post: Post) -> Result<Self, serde_json::Error> {
        Ok(Self {
            time: post.time,
            request: post.event.as_ref().and_then(number_of_request),
            numbers: post.entries.iter().map(number).collect(),
            refuses: (post.event.as_ref()).is_some_and(|e| e.state == State::Denied),
            claims: (post.event.as_ref())
                .is_some_and(|e| e.state == State::Settled || e.held_above().is_some()),
            entries_json: serde_json::to_string(&post.entries)?,
            event_json: post.event.as_ref().map(kept).transpose()?,
            entries: post.entries,
        })
    }

    /// Is money promised in it?
    pub(in crate::ledger) fn reserves(&self) -> bool {
        self.numbers.iter().any(Option::is_some)
    }
}

fn kept(event: &SpendEvent) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Stored(event))
}

fn number(entry: &Entry) -> Option<i64> {
    match entry {
        Entry::Reserve { nonce, .. } => Some(number_of(nonce)),
        Entry::OpenSession { .. }
        | Entry::CloseSession { .. }
        | Entry::Settle { .. }
        | Entry::Release { .. }
        | Entry::Recount { .. }
        | Entry::Note { .. }
        | Entry::Payee { .. }
        | Entry::Price { .. }
        | Entry::Met { .. }
        | Entry::Unmet { .. }
        | Entry::Forget { .. }
        | Entry::Freeze { .. }
        | Entry::Unfreeze { .. }
        | Entry::Ask { .. }
        | Entry::Answer { .. }
        | Entry::UseApproval { .. }
        | Entry::DropApprovals { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payment::PaymentId;

    #[test]
    fn refusals_leave_room_for_receipts() {
        let sealed = |state| {
            let id = PaymentId(1);
            let event = SpendEvent {
                id,
                state,
                ..SpendEvent::default()
            };
            let post = Post {
                time: Timestamp(1),
                entries: vec![Entry::Note { id }],
                event: Some(event),
            };
            Sealed::new(post).unwrap()
        };
        let (refusal, receipt) = (sealed(State::Denied), sealed(State::Settled));
        assert!(receipt.claims && !refusal.claims && !sealed(State::Unknown).claims);
        assert!(has_room(0, &refusal) && !has_room(KEPT_MAX / 2, &refusal));
        assert!(has_room(KEPT_MAX - 1, &receipt) && !has_room(KEPT_MAX, &receipt));
    }
}
