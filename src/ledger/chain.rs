//! The hash chain over all records: none can be changed, dropped or put in between unseen.

use sha2::{Digest, Sha256};

use crate::clock::Timestamp;

/// SHA-256.
pub(super) type Hash = [u8; 32];

/// One stored post, as its hash covers it: the JSON texts byte for byte.
pub(super) struct Record {
    pub(super) seq: u64,
    pub(super) time: Timestamp,
    pub(super) entries: String,
    pub(super) event: Option<String>,
    pub(super) hash: Hash,
}

/// The end of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) seq: u64,
    pub(super) hash: Hash,
}

impl Head {
    /// Before the first record. It depends on the ledger's own id, so that no two chains share a
    /// beginning and a ledger cannot stand in for another.
    pub(super) fn genesis(id: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"farepass ledger 1\n");
        hash.update(id.as_bytes());
        Self {
            seq: 0,
            hash: hash.finalize().into(),
        }
    }

    /// The head after one more record. Lengths are hashed too: no two records have the same bytes.
    pub(super) fn next(self, time: Timestamp, entries: &str, event: Option<&str>) -> Self {
        let seq = self.seq.saturating_add(1);
        let mut hash = Sha256::new();
        hash.update(self.hash);
        hash.update(seq.to_be_bytes());
        hash.update(time.0.to_be_bytes());
        for text in [Some(entries), event].into_iter().flatten() {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        Self {
            seq,
            hash: hash.finalize().into(),
        }
    }

    pub(super) fn hex(&self) -> String {
        hex::encode(self.hash)
    }
}
