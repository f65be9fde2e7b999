//! Where request heads begin and end, and whether one of them has two ends. The HTTP library reads a
//! message with both `Content-Length` and `Transfer-Encoding` as RFC 9112 section 6.3 allows, and drops
//! the length before anybody can see it; whoever wrote both may have meant another to be misled (threat
//! H-01). So the bytes are looked at on their way in: heads and chunk sizes once, bodies not at all.
//!
//! This never decides where a message ends. The library does, with rules at least as strict; where the
//! two should ever differ, fewer heads are seen than requests served, and nothing more is forwarded.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::io::{Around, writes_through};
use super::scan::Scan;

/// What is known of the heads on one connection.
pub(super) struct Heads {
    /// Heads that have come whole.
    seen: AtomicU64,
    /// Requests that the library made of them.
    served: AtomicU64,
    /// The number of the first with two ends; 0 when there is none.
    doubtful: AtomicU64,
    /// What comes now is another protocol.
    over: AtomicBool,
    /// What came last belongs to a request of which more is to come.
    within: AtomicBool,
    /// Since when a head is on its way, where one is that did not come in one piece. The first one is
    /// waited for from the beginning.
    begun: Mutex<Option<Instant>>,
    /// There is one.
    news: Notify,
}

impl Default for Heads {
    fn default() -> Self {
        Self {
            seen: AtomicU64::new(0),
            served: AtomicU64::new(0),
            doubtful: AtomicU64::new(0),
            over: AtomicBool::new(false),
            within: AtomicBool::new(false),
            begun: Mutex::new(Some(Instant::now())),
            news: Notify::new(),
        }
    }
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

    /// Was there a request, and has every one come whole and been served?
    pub(super) fn all_served(&self) -> bool {
        let seen = self.seen.load(Ordering::Relaxed);
        seen > 0
            && seen == self.served.load(Ordering::Relaxed)
            && !self.within.load(Ordering::Relaxed)
            && !self.over.load(Ordering::Relaxed)
    }

    /// After an upgrade nothing is HTTP any more.
    pub(super) fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Ends when a head has been on its way for longer than `patience`, or the first one not come at all. How long
    /// a connection may wait for its next request is not its matter, and a head in one piece costs no timer.
    pub(super) async fn late(&self, patience: Duration) {
        loop {
            let news = self.news.notified();
            let begun = *self.lock();
            match begun.map(|begun| begun + patience) {
                Some(due) if due <= Instant::now() => return,
                Some(due) => sleep_until(due).await,
                None => news.await,
            }
        }
    }

    /// The one that is late has as much time again.
    pub(super) fn again(&self) {
        if let Some(begun) = &mut *self.lock() {
            *begun = Instant::now();
        }
    }

    fn begins(&self, in_head: bool) {
        *self.lock() = in_head.then(Instant::now);
        if in_head {
            self.news.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Is a head waited for: the first one, or one that the last bytes ended in?
    in_head: bool,
    heads: Arc<Heads>,
}

impl<S> Ahead<S> {
    pub(super) fn new(stream: S, heads: &Arc<Heads>) -> Self {
        Self {
            stream,
            scan: Scan::new(),
            in_head: true,
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
            in_head,
            heads,
        } = &mut *self;
        let polled = Pin::new(stream).poll_read(cx, buf);
        if polled.is_ready() && !heads.over.load(Ordering::Relaxed) {
            let came = buf.filled().get(before..).unwrap_or_default();
            let mut ended = false;
            scan.feed(came, |two_ends| {
                ended = true;
                heads.whole(two_ends);
            });
            heads.within.store(!scan.is_between(), Ordering::Relaxed);
            // One more piece of a head makes it no younger.
            let begins = scan.in_head() && !*in_head;
            if ended || begins {
                let before = std::mem::replace(in_head, scan.in_head());
                if before || *in_head {
                    heads.begins(*in_head);
                }
            }
        }
        polled
    }
}

impl<S> Around for Ahead<S> {}

writes_through!(Ahead);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn only_a_head_that_has_begun_is_waited_for_in_vain() {
        let patience = Duration::from_millis(80);
        let (heads, long) = (Arc::new(Heads::default()), 5 * patience);
        let start = Instant::now();
        heads.late(patience).await;
        let took = start.elapsed();
        assert!(took < long, "a client that asks for nothing: {took:?}");

        let (mut client, near) = duplex(1000);
        let mut near = Ahead::new(near, &heads);
        let mut hear = async |text: &[u8]| {
            client.write_all(text).await.unwrap();
            let mut heard = vec![0; text.len()];
            near.read_exact(&mut heard).await.unwrap();
        };
        hear(b"\r\n").await;
        assert!(timeout(long, heads.late(patience)).await.is_ok(), "nor now");
        hear(b"GET / HTTP/1.1\r\n\r\n").await;
        let waits = timeout(long, heads.late(patience)).await;
        assert!(waits.is_err(), "a connection may wait for its next request");
        // It is noticed by whoever waits already; and of two pieces the second makes it no younger.
        let mut late = Box::pin(heads.late(patience));
        assert!(timeout(patience / 2, &mut late).await.is_err());
        hear(b"GET / HT").await;
        let begun = Instant::now();
        assert!(timeout(patience / 2, &mut late).await.is_err());
        hear(b"TP/1.1\r\nA: b").await;
        late.await;
        let took = begun.elapsed();
        assert!(took >= patience && took < long, "{took:?}");
        heads.again();
        assert!(timeout(patience / 2, heads.late(patience)).await.is_err());
        // Its end, and the beginning of the next, in one piece.
        tokio::time::sleep(patience).await;
        hear(b"\r\n\r\nGET / ").await;
        assert!(timeout(patience / 2, heads.late(patience)).await.is_err());
        hear(b"HTTP/1.1\r\n\r\n").await;
        assert!(timeout(long, heads.late(patience)).await.is_err());
        assert!(heads.lock().is_none());
    }

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
