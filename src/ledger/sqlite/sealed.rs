//! A post with all that can be computed before it is its turn, so that the writer need not.

use crate::budget::Entry;
use crate::clock::Timestamp;
use crate::ledger::Post;

use super::nonces;

/// See the module.
pub(super) struct Sealed {
    pub(super) time: Timestamp,
    pub(super) entries: Vec<Entry>,
    /// For each entry the number of the nonce that it reserves under; see `nonces`.
    pub(super) numbers: Vec<Option<i64>>,
    pub(super) entries_json: String,
    pub(super) event_json: Option<String>,
}

impl Sealed {
    pub(super) fn new(post: Post) -> Result<Self, serde_json::Error> {
        Ok(Self {
            time: post.time,
            numbers: post.entries.iter().map(number).collect(),
            entries_json: serde_json::to_string(&post.entries)?,
            event_json: post.event.as_ref().map(serde_json::to_string).transpose()?,
            entries: post.entries,
        })
    }
}

fn number(entry: &Entry) -> Option<i64> {
    match entry {
        Entry::Reserve { nonce, .. } => Some(nonces::number_of(nonce)),
        Entry::OpenSession { .. }
        | Entry::CloseSession { .. }
        | Entry::Settle { .. }
        | Entry::Release { .. }
        | Entry::Recount { .. }
        | Entry::Note { .. }
        | Entry::Payee { .. }
        | Entry::Price { .. }
        | Entry::Forget { .. }
        | Entry::Freeze { .. }
        | Entry::Unfreeze { .. }
        | Entry::Ask { .. }
        | Entry::Answer { .. }
        | Entry::UseApproval { .. }
        | Entry::DropApprovals { .. } => None,
    }
}
