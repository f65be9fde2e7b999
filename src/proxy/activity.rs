//! When something last moved, so that silence has a bound.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

use super::io::{Around, writes_through};

/// The moment of the last movement. Shared by whoever moves and whoever waits.
pub(super) struct Activity {
    base: Instant,
    millis: AtomicU64,
    over: AtomicBool,
}

impl Activity {
    /// Moved just now.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            base: Instant::now(),
            millis: AtomicU64::new(0),
            over: AtomicBool::new(false),
        })
    }

    /// Nothing moves any more.
    pub(super) fn end(&self) {
        self.moved();
        self.over.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(super) fn moved(&self) {
        let now = u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(now, Ordering::Relaxed);
    }

    /// The moment of the last movement.
    pub(super) fn last(&self) -> Instant {
        self.base + Duration::from_millis(self.millis.load(Ordering::Relaxed))
    }
}

/// Whether anything moved since somebody last looked: costs those who move next to nothing, and never
/// a look at the clock.
#[derive(Default)]
pub(super) struct Pulse {
    moved: AtomicBool,
    /// Something is to be written that is not out.
    unsent: AtomicBool,
    /// Exchanges whose answers have not come.
    asked: AtomicUsize,
    /// The body of the last request was given up before it was read.
    unread: AtomicBool,
}

/// An exchange whose answer has not come: until it is dropped, nobody is silent for too long.
pub(super) struct Asked<'a>(&'a AtomicUsize);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How often silence is looked for while it could become too long.
const LOOKS: u32 = 8;

/// Nothing that moves so seldom is worth memory which it does not need until it moves again.
pub(super) const LULL: Duration = Duration::from_millis(100);

impl Pulse {
    fn beat(&self) {
        // Reading first: a line of memory that is only read stays in every processor's cache.
        if !self.moved.load(Ordering::Relaxed) {
            self.moved.store(true, Ordering::Relaxed);
        }
    }

    /// Notes of a request whether its body was given up before it was read: nothing follows it then.
    pub(super) fn leaves_unread(&self, unread: bool) {
        self.unread.store(unread, Ordering::Relaxed);
    }

    pub(super) fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// Something is asked, and the time that its answer may take has bounds of its own.
    pub(super) fn ask(&self) -> Asked<'_> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Asked(&self.asked)
    }

    /// Is all that somebody began to write out?
    pub(super) fn is_flushed(&self) -> bool {
        !self.unsent.load(Ordering::Relaxed)
    }

    /// Ends once nothing has moved for `bound`, or up to an eighth longer, and no answer is waited for.
    pub(super) async fn silence(&self, bound: Duration) {
        let mut silence = Silence::new(bound, bound);
        while !silence.look(self).await {}
    }
}

/// How long nothing has moved and no answer was waited for. It is looked for more often at first, and the longer it lasts the less.
pub(super) struct Silence {
    bound: Duration,
    last: Instant,
    /// From one look to the next.
    step: Duration,
    /// The next look. Kept here, as whoever waits for it is often interrupted, and must not begin anew.
    next: Option<Instant>,
    shortest: Duration,
    longest: Duration,
}

impl Silence {
    /// From now on, up to this bound. A lull of `lull` is of interest too.
    pub(super) fn new(bound: Duration, lull: Duration) -> Self {
        let longest = (bound / LOOKS).max(Duration::from_millis(1));
        let shortest = longest.min(lull);
        Self {
            bound,
            last: Instant::now(),
            step: shortest,
            next: None,
            shortest,
            longest,
        }
    }

    /// Ends after the next lull in which nothing moved. Is it beyond the bound?
    pub(super) async fn look(&mut self, pulse: &Pulse) -> bool {
        loop {
            let next = self.next.unwrap_or_else(|| Instant::now() + self.step);
            self.next = Some(next);
            sleep_until(next).await;
            self.next = None;
            let now = Instant::now();
            if pulse.moved.swap(false, Ordering::Relaxed) {
                self.last = now;
                self.step = self.shortest;
                continue;
            }
            if pulse.asked.load(Ordering::Relaxed) > 0 {
                self.last = now;
            }
            self.step = self.longest.min(self.step * 2);
            return now.duration_since(self.last) >= self.bound;
        }
    }
}

/// A stream that notes when bytes move, either way.
pub(super) struct Noted<S> {
    stream: S,
    pulse: Arc<Pulse>,
}

impl<S> Noted<S> {
    pub(super) fn new(stream: S, pulse: &Arc<Pulse>) -> Self {
        Self {
            stream,
            pulse: Arc::clone(pulse),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        self.pulse.beat();
        Poll::Ready(read)
    }
}

impl<S> Around for Noted<S> {
    fn before(&mut self, _: &mut Context<'_>, flush: bool) -> Poll<io::Result<()>> {
        if !flush {
            self.pulse.unsent.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }

    fn wrote(&self) {
        self.pulse.beat();
    }

    fn flushed(&self) {
        self.pulse.unsent.store(false, Ordering::Relaxed);
    }
}

writes_through!(Noted);
