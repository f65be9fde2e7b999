//! How long nothing may move before whoever waits for it gives up.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::activity::Activity;
use super::timer::{Lent, Spare};

/// The bound of one wait after the other.
pub(super) struct Patience {
    /// Milliseconds.
    idle: u64,
    /// When either body of its exchange last moved, where both may.
    both: Option<Arc<Activity>>,
    /// Only while waiting: what is there at once costs no timer.
    wait: Option<Lent>,
    timer: Spare,
}

impl Patience {
    /// Waits of at most `idle`, by this timer.
    pub(super) fn new(idle: Duration, timer: &Spare) -> Self {
        Self {
            idle: u64::try_from(idle.as_millis()).unwrap_or(u64::MAX),
            both: None,
            wait: None,
            timer: timer.clone(),
        }
    }

    /// In an exchange in which the other body moves too: a wait begins anew whenever either does.
    pub(super) fn beside(mut self, both: Option<Arc<Activity>>) -> Self {
        self.both = both;
        self
    }

    pub(super) fn both(&self) -> Option<&Arc<Activity>> {
        self.both.as_ref()
    }

    /// Something moved.
    pub(super) fn moved(&mut self) {
        self.wait = None;
        if let Some(both) = &self.both {
            both.moved();
        }
    }

    /// The end of a wait, if there was one: what never waits never looks at the clock.
    pub(super) fn rewarded(&mut self) {
        if self.wait.is_some() {
            self.moved();
        }
    }

    /// Waits on, until it took too long.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let idle = Duration::from_millis(self.idle);
        let begin = || self.timer.until(Instant::now() + idle);
        let wait = self.wait.get_or_insert_with(begin);
        loop {
            ready!(Pin::new(&mut *wait).poll(cx));
            let moved = self.both.as_ref().map(|both| both.last() + idle);
            match moved.filter(|until| *until > Instant::now()) {
                Some(until) => wait.reset(until),
                None => return Poll::Ready(()),
            }
        }
    }
}
