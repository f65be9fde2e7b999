//! Where request heads begin and end, and whether one of them has two ends. The HTTP library reads a
//! message with both `Content-Length` and `Transfer-Encoding` as RFC 9112 section 6.3 allows, and drops
//! the length before anybody can see it; whoever wrote both may have meant another to be misled (threat
//! H-01). So the bytes are looked at on their way in: heads and chunk sizes once, bodies not at all.
//!
//! This never decides where a message ends. The library does, with rules at least as strict; where the
//! two should ever differ, fewer heads are seen than requests served, and nothing more is forwarded.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::io::{Around, writes_through};
use super::scan::Scan;

/// What is known of the heads on one connection.
#[derive(Default)]
pub(super) struct Heads {
    /// Heads that have come whole.
    seen: AtomicU64,
    /// Requests that the library made of them.
    served: AtomicU64,
    /// The number of the first with two ends; 0 when there is none.
    doubtful: AtomicU64,
    /// What comes now is another protocol.
    over: AtomicBool,
}

impl Heads {
    /// Counts a request. Is its end beyond doubt?
    pub(super) fn next(&self) -> bool {
        // Reader and request are polled by one task, so nothing needs to be ordered.
        let number = self.served.fetch_add(1, Ordering::Relaxed) + 1;
        let doubtful = self.doubtful.load(Ordering::Relaxed);
        let seen = self.seen.load(Ordering::Relaxed);
        number <= seen && (doubtful == 0 || number < doubtful)
    }

    /// After an upgrade nothing is HTTP any more.
    pub(super) fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    fn whole(&self, two_ends: bool) {
        let number = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
        if two_ends {
            self.doubtful.store(number, Ordering::Relaxed);
            self.stop();
        }
    }
}

/// A client's stream whose heads are looked at.
pub(super) struct Ahead<S> {
    stream: S,
    scan: Scan,
    heads: Arc<Heads>,
}

impl<S> Ahead<S> {
    pub(super) fn new(stream: S, heads: &Arc<Heads>) -> Self {
        Self {
            stream,
            scan: Scan::new(),
            heads: Arc::clone(heads),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let Self {
            stream,
            scan,
            heads,
        } = &mut *self;
        let polled = Pin::new(stream).poll_read(cx, buf);
        if polled.is_ready() && !heads.over.load(Ordering::Relaxed) {
            let came = buf.filled().get(before..).unwrap_or_default();
            scan.feed(came, |two_ends| heads.whole(two_ends));
        }
        polled
    }
}

impl<S> Around for Ahead<S> {}

writes_through!(Ahead);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_beyond_what_was_seen_is_doubtful() {
        let heads = Heads::default();
        assert!(!heads.next());
        let heads = Heads::default();
        heads.whole(false);
        heads.whole(true);
        assert!(heads.next());
        assert!(!heads.next());
        assert!(!heads.next());
    }
}
