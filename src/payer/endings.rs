//! One end for each payment: whoever closes it and whoever brings its answer take turns, so that neither
//! writes over what the other found.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::payment::PaymentId;

/// Payments that share a turn. One that is closed holds up the answers of its own share only.
const SHARES: usize = 32;

/// Answers of one share that are recorded at once: more than there can be.
const ANSWERS: u32 = 1 << 20;

/// A turn: it ends when it is dropped. What was posted in it is in the ledger's queue by then.
pub(super) type Turn<'a> = Option<SemaphorePermit<'a>>;

pub(super) struct Endings([Semaphore; SHARES]);

impl Default for Endings {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Semaphore::new(ANSWERS as usize)))
    }
}

impl Endings {
    /// Which share a payment is in.
    pub(super) fn share(id: PaymentId) -> usize {
        // The low bits are random.
        usize::try_from(id.0 % SHARES as u128).unwrap_or_default()
    }

    /// The turn of an answer, beside other answers. `alone`: another one to the same payload may be told meanwhile,
    /// and whoever adds to what that one left must not write over it.
    pub(super) async fn answer(&self, id: PaymentId, alone: bool) -> Turn<'_> {
        let permits = if alone { ANSWERS } else { 1 };
        let share = self.0.get(Self::share(id))?;
        share.acquire_many(permits).await.ok()
    }

    /// The turn of whoever closes payments of this share, alone.
    pub(super) async fn close(&self, share: usize) -> Turn<'_> {
        self.0.get(share)?.acquire_many(ANSWERS).await.ok()
    }
}
