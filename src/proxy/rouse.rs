//! What seldom happens beside what always does: a future that costs its task nothing until something
//! woke that very future.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// A future that is polled when it was woken, not whenever its task runs.
pub(super) struct Roused<F> {
    future: F,
    bell: Arc<Bell>,
    /// Rings the bell.
    waker: Waker,
    /// Who the bell wakes, as far as this side knows.
    task: Option<Waker>,
}

struct Bell {
    rung: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Bell {
    fn tell(&self, task: Waker) {
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = &*task {
            task.wake_by_ref();
        }
    }
}

impl<F: Future> Roused<F> {
    pub(super) fn new(future: F) -> Self {
        let bell = Arc::new(Bell {
            rung: AtomicBool::new(true),
            task: Mutex::new(None),
        });
        Self {
            future,
            waker: Waker::from(Arc::clone(&bell)),
            bell,
            task: None,
        }
    }
}

impl<F: Future + Unpin> Future for Roused<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if !this.task.as_ref().is_some_and(|t| t.will_wake(cx.waker())) {
            // Known before the bell is looked at: who rings after that wakes the right task.
            this.task = Some(cx.waker().clone());
            this.bell.tell(cx.waker().clone());
        }
        let rung = &this.bell.rung;
        if !rung.load(Ordering::Relaxed) || !rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        Pin::new(&mut this.future).poll(&mut Context::from_waker(&this.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn it_is_asked_once_for_each_time_it_was_woken() {
        let (asked, notify) = (AtomicUsize::new(0), Notify::new());
        let mut seldom = std::pin::pin!(async {
            notify.notified().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        });
        let counted = std::future::poll_fn(|cx| {
            asked.fetch_add(1, Ordering::Relaxed);
            seldom.as_mut().poll(cx)
        });
        let mut roused = Roused::new(counted);
        let mut turns = 0;
        let mut busy = tokio::time::interval(Duration::from_millis(10));
        std::future::poll_fn(|cx| {
            while busy.poll_tick(cx).is_ready() {
                turns += 1;
                if turns == 10 {
                    notify.notify_one();
                }
            }
            Pin::new(&mut roused).poll(cx)
        })
        .await;
        assert!(turns >= 12, "{turns}");
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn it_wakes_the_task_that_asked_last() {
        let notify = Arc::new(Notify::new());
        let waits = {
            let notify = Arc::clone(&notify);
            Box::pin(async move { notify.notified().await })
        };
        let mut roused = Roused::new(waits);
        // Asked here first, then moved to a task of its own.
        let first = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut roused).poll(cx))).await;
        assert!(first.is_pending());
        let task = tokio::spawn(roused);
        tokio::task::yield_now().await;
        notify.notify_one();
        let ended = tokio::time::timeout(Duration::from_secs(5), task).await;
        ended.unwrap().unwrap();
    }
}
