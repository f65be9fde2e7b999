//! Word that what was queued on a connection is written. A reset takes back what its stream has in the queue, so
//! whoever has something to say before it waits for that.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

/// A peer that takes nothing for so long does not get what was queued for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Those who wait for the queue of one connection.
#[derive(Default)]
pub(super) struct Outs(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    asked: Vec<oneshot::Sender<()>>,
    connection: Option<Waker>,
}

/// Those who wait for what was queued before the connection last looked.
#[derive(Default)]
pub(super) struct Told(Vec<oneshot::Sender<()>>);

impl Outs {
    /// Waits until what was queued until now is out, or cannot be.
    pub(super) async fn all_out(&self) {
        let (asked, told) = oneshot::channel();
        let waker = {
            let mut waiting = self.lock();
            waiting.asked.push(asked);
            waiting.connection.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        // One that ended tells nobody, and is not to be waited for.
        drop(timeout(PATIENCE, told).await);
    }

    /// Before the connection writes: who waits for that.
    pub(super) fn look(&self, told: &mut Told, cx: &Context<'_>) {
        let mut waiting = self.lock();
        told.0.append(&mut waiting.asked);
        if !waiting
            .connection
            .as_ref()
            .is_some_and(|w| w.will_wake(cx.waker()))
        {
            waiting.connection = Some(cx.waker().clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    /// After the connection wrote everything.
    pub(super) fn out(&mut self) {
        for waits in self.0.drain(..) {
            // Gone, it waits for nothing.
            let _ = waits.send(());
        }
    }
}
