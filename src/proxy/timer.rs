//! Timers that every request sets and hardly any needs. One that exists is moved to a later time
//! without a lock, so that it is kept for the next request instead of being made anew.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// A place for one timer that is not in use.
#[derive(Clone, Default)]
pub(super) struct Spare(Arc<Mutex<Option<Pin<Box<Sleep>>>>>);

impl Spare {
    /// A timer that ends then; it comes back here when it is dropped.
    pub(super) fn until(&self, deadline: Instant) -> Lent {
        let kept = self.put(None);
        let sleep = match kept {
            Some(mut kept) => {
                kept.as_mut().reset(deadline);
                kept
            }
            None => Box::pin(sleep_until(deadline)),
        };
        Lent {
            sleep: Some(sleep),
            home: self.clone(),
        }
    }

    /// Does nobody else have this place, or a timer from it?
    pub(super) fn is_alone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    fn put(&self, sleep: Option<Pin<Box<Sleep>>>) -> Option<Pin<Box<Sleep>>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *kept, sleep)
    }
}

/// A timer in use.
pub(super) struct Lent {
    /// Always there until it is dropped.
    sleep: Option<Pin<Box<Sleep>>>,
    home: Spare,
}

impl Lent {
    pub(super) fn reset(&mut self, deadline: Instant) {
        if let Some(sleep) = &mut self.sleep {
            sleep.as_mut().reset(deadline);
        }
    }
}

impl Future for Lent {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().poll(cx),
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        drop(self.home.put(self.sleep.take()));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_timer_that_comes_back_is_set_anew() {
        let (spare, start) = (Spare::default(), Instant::now());
        let tick = Duration::from_millis(20);
        let mut first = spare.until(start + 10 * tick);
        assert!(futures_now(&mut first).await.is_pending());
        drop(first);
        // Earlier and later than what it was set to before, and while another one is out.
        for (after, both) in [(2, false), (30, true), (3, true)] {
            let began = Instant::now();
            let other = both.then(|| spare.until(began + 100 * tick));
            spare.until(began + after * tick).await;
            assert!(began.elapsed() >= after * tick && began.elapsed() < 90 * tick);
            drop(other);
        }
    }

    async fn futures_now(future: &mut Lent) -> Poll<()> {
        std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
    }
}
