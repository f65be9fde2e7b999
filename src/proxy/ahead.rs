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
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::io::{Around, writes_through};
use super::scan::Scan;
use super::timer::{Lent, Spare};

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
    /// What came last belongs to a request of which more is to come.
    within: AtomicBool,
    /// Since when a head is on its way, where one is that did not come in one piece.
    begun: Mutex<Option<Instant>>,
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

    /// Until when the head that is on its way must be whole, if it may take so long; `None` while there is none.
    fn due(&self, now: Instant, patience: Duration) -> Option<Instant> {
        if self.seen.load(Ordering::Relaxed) == 0 {
            // A client that asks for nothing at all.
            return Some(now);
        }
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.map(|begun| begun + patience)
    }

    fn begins(&self, in_head: bool) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if in_head != begun.is_some() {
            *begun = in_head.then(Instant::now);
        }
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
    /// Did the last bytes end within a head?
    in_head: bool,
    heads: Arc<Heads>,
}

impl<S> Ahead<S> {
    pub(super) fn new(stream: S, heads: &Arc<Heads>) -> Self {
        Self {
            stream,
            scan: Scan::new(),
            in_head: false,
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
            if ended || *in_head != scan.in_head() {
                let before = std::mem::replace(in_head, scan.in_head());
                if before || *in_head {
                    heads.begins(false);
                    heads.begins(*in_head);
                }
            }
        }
        polled
    }
}

impl<S> Around for Ahead<S> {}

/// The timer of the HTTP library for the heads on this connection. The library sets it when a request could begin; it
/// ends `patience` after one did. How long a connection may wait for its next request is not its matter.
#[derive(Clone)]
pub(super) struct HeadTimer {
    spare: Spare,
    heads: Arc<Heads>,
}

impl HeadTimer {
    pub(super) fn new(heads: &Arc<Heads>) -> Self {
        Self {
            spare: Spare::default(),
            heads: Arc::clone(heads),
        }
    }
}

struct HeadSleep {
    lent: Lent,
    heads: Arc<Heads>,
    patience: Duration,
}

impl Future for HeadSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(Pin::new(&mut self.lent).poll(cx));
            let (now, patience) = (Instant::now(), self.patience);
            match self.heads.due(now, patience) {
                Some(due) if due <= now => return Poll::Ready(()),
                Some(due) => self.lent.reset(due),
                None => self.lent.reset(now + patience),
            }
        }
    }
}

impl rt::Sleep for HeadSleep {}

impl rt::Timer for HeadTimer {
    fn sleep(&self, patience: Duration) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(HeadSleep {
            lent: self.spare.until(Instant::now() + patience),
            heads: Arc::clone(&self.heads),
            patience,
        })
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep(deadline.saturating_duration_since(std::time::Instant::now()))
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into_std()
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn rt::Sleep>>, deadline: std::time::Instant) {
        match sleep.as_mut().downcast_mut_pin::<HeadSleep>() {
            Some(mut sleep) => sleep.lent.reset(deadline.into()),
            None => *sleep = self.sleep_until(deadline),
        }
    }
}

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
        let timer = HeadTimer::new(&heads);
        let start = Instant::now();
        rt::Timer::sleep(&timer, patience).await;
        assert!(start.elapsed() < long, "a client that asks for nothing");

        let (mut client, near) = duplex(1000);
        let mut near = Ahead::new(near, &heads);
        let mut hear = async |text: &[u8]| {
            client.write_all(text).await.unwrap();
            let mut heard = vec![0; text.len()];
            near.read_exact(&mut heard).await.unwrap();
        };
        hear(b"GET / HTTP/1.1\r\n\r\n").await;
        let waits = timeout(long, rt::Timer::sleep(&timer, patience)).await;
        assert!(waits.is_err(), "a connection may wait for its next request");
        // Two pieces of one head, of which the second makes it no younger.
        hear(b"GET / HT").await;
        let begun = Instant::now();
        let mut sleep = rt::Timer::sleep(&timer, patience);
        assert!(timeout(patience / 2, &mut sleep).await.is_err());
        hear(b"TP/1.1\r\nA: b").await;
        sleep.await;
        let took = begun.elapsed();
        assert!(took >= patience && took < long, "{took:?}");
        // Its end, and the beginning of the next, in one piece.
        hear(b"\r\n\r\nGET / ").await;
        assert!(heads.due(begun, patience).unwrap() > Instant::now());
        hear(b"HTTP/1.1\r\n\r\n").await;
        assert_eq!(heads.due(begun, patience), None);
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
