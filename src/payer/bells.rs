//! Who waits for a person's answer, and is woken by it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::payment::ApprovalId;

/// Those who wait, by what they wait for. Only a bell: the answer itself is in the ledger.
#[derive(Default)]
pub(super) struct Bells(Mutex<Hung>);

#[derive(Default)]
struct Hung {
    bells: HashMap<ApprovalId, watch::Sender<()>>,
    /// Nobody waits any more.
    over: bool,
}

impl Bells {
    fn lock(&self) -> MutexGuard<'_, Hung> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rings for every answer that comes from now on. At once, where nobody is to wait.
    pub(super) fn bell(&self, id: ApprovalId) -> watch::Receiver<()> {
        let mut hung = self.lock();
        if hung.over {
            // Its other end is gone: that rings too.
            return watch::channel(()).1;
        }
        hung.bells.retain(|_, bell| bell.receiver_count() > 0);
        hung.bells.entry(id).or_default().subscribe()
    }

    pub(super) fn ring(&self, id: ApprovalId) {
        if let Some(bell) = self.lock().bells.remove(&id) {
            bell.send_replace(());
        }
    }

    /// Rings all, now and from now on.
    pub(super) fn ring_out(&self) {
        let mut hung = self.lock();
        hung.over = true;
        hung.bells.clear();
    }
}
