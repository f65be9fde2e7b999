//! Connections that cannot be accepted: said once, and once when it is over.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// After a failed accept (no file descriptors left) the next try waits, so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(50);

/// So long none may fail before it is over: where files are few, some are accepted between others that are not.
const OVER: Duration = Duration::from_secs(10);

/// How it went with one listener.
#[derive(Default)]
pub(super) struct Accepting {
    /// When one failed last, until that is over.
    failed: Option<Instant>,
}

impl Accepting {
    /// One was not accepted. Waits for a moment.
    pub(super) async fn failed(&mut self, error: &io::Error) {
        if self.failed.replace(Instant::now()).is_none() {
            tracing::warn!(%error, "accept failed; it is not said again until it is over");
        }
        sleep(PAUSE).await;
    }

    /// One was accepted.
    pub(super) fn succeeded(&mut self) {
        if self.failed.is_some_and(|last| last.elapsed() >= OVER) {
            self.failed = None;
            tracing::warn!("connections are accepted again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_over_when_none_failed_for_a_while() {
        let mut accepting = Accepting::default();
        accepting.succeeded();
        assert_eq!(accepting.failed, None);
        accepting.failed(&io::ErrorKind::Other.into()).await;
        accepting.succeeded();
        assert!(accepting.failed.is_some());
        accepting.failed = Instant::now().checked_sub(OVER);
        accepting.succeeded();
        assert_eq!(accepting.failed, None);
    }
}
