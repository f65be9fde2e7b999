//! Every body that crosses the proxy: streamed as it comes, with a bounded copy only where a paid
//! retry may need it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::Notify;

/// A body in either direction.
pub(super) enum Body {
    /// Nothing.
    Empty,
    /// One piece of our own.
    Full(Option<Bytes>),
    /// Straight through.
    Incoming(Incoming),
    /// Straight through, with a copy for a second sending.
    Tee(Tee),
    /// The copy, or a part that was looked at, then the rest.
    Pieces(Pieces),
}

impl Body {
    /// A whole body of our own.
    pub(super) fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Some(bytes.into()))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Incoming(incoming) => Pin::new(incoming).poll_frame(cx),
            Self::Tee(tee) => tee.poll(cx),
            Self::Pieces(pieces) => pieces.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Incoming(incoming) => incoming.is_end_stream(),
            Self::Tee(tee) => tee.source.as_ref().is_none_or(HttpBody::is_end_stream),
            Self::Pieces(p) => p.first.is_empty() && p.rest.is_none() && p.trailers.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(length(bytes.iter())),
            Self::Incoming(incoming) => incoming.size_hint(),
            Self::Tee(tee) => tee
                .source
                .as_ref()
                .map_or_else(SizeHint::default, HttpBody::size_hint),
            Self::Pieces(pieces) => pieces.size_hint(),
        }
    }
}

fn length<'a>(pieces: impl Iterator<Item = &'a Bytes>) -> u64 {
    pieces.map(|b| b.len() as u64).sum()
}

/// Pieces already in memory, then what is left of a stream, then trailers.
#[derive(Default)]
pub(super) struct Pieces {
    /// In order.
    pub(super) first: VecDeque<Bytes>,
    /// What has not been read yet.
    pub(super) rest: Option<Incoming>,
    /// Of a body that was read to its end.
    pub(super) trailers: Option<HeaderMap>,
}

impl Pieces {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(piece) = self.first.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if let Some(rest) = &mut self.rest {
            return Pin::new(rest).poll_frame(cx);
        }
        Poll::Ready(self.trailers.take().map(|t| Ok(Frame::trailers(t))))
    }

    fn size_hint(&self) -> SizeHint {
        let here = length(self.first.iter());
        let rest = self.rest.as_ref().map(HttpBody::size_hint);
        match rest {
            // Trailers need chunked framing, so no length is promised before them.
            None if self.trailers.is_some() => SizeHint::default(),
            None => SizeHint::with_exact(here),
            Some(rest) => rest
                .exact()
                .map_or_else(SizeHint::default, |n| SizeHint::with_exact(here + n)),
        }
    }
}

/// What has been sent so far of a request body, kept for a second sending.
#[derive(Default)]
struct Copy {
    pieces: VecDeque<Bytes>,
    length: usize,
    trailers: Option<HeaderMap>,
    state: CopyState,
    /// Given back by an upstream connection that ended before it took the whole body.
    rest: Option<Incoming>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum CopyState {
    #[default]
    Growing,
    Whole,
    TooLong,
    Broken,
}

/// The agent's side of a body that may be sent twice.
pub(super) struct Kept {
    copy: Arc<Shared>,
}

struct Shared {
    limit: usize,
    copy: Mutex<Copy>,
    changed: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Copy> {
        self.copy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, frame: &Frame<Bytes>) {
        let mut copy = self.lock();
        if copy.state != CopyState::Growing {
            return;
        }
        if let Some(data) = frame.data_ref() {
            copy.length = copy.length.saturating_add(data.len());
            if copy.length > self.limit {
                copy.state = CopyState::TooLong;
                copy.pieces = VecDeque::new();
                self.changed.notify_one();
            } else {
                copy.pieces.push_back(data.clone());
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            copy.trailers = Some(trailers.clone());
        }
    }

    fn end(&self, state: CopyState) {
        let mut copy = self.lock();
        if copy.state == CopyState::Growing {
            copy.state = state;
        }
        drop(copy);
        self.changed.notify_one();
    }
}

/// Why a body cannot be sent a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotReplayable {
    /// Longer than the limit.
    TooLong,
    /// The agent stopped sending.
    Broken,
    /// No rule could pay at this host, so nothing was kept.
    NotKept,
}

/// A body that streams to the upstream and leaves a copy behind.
pub(super) struct Tee {
    source: Option<Incoming>,
    copy: Arc<Shared>,
}

/// Splits a request body into what is sent now and what is kept, at most `limit` bytes of it.
pub(super) fn tee(source: Incoming, limit: usize) -> (Tee, Kept) {
    let copy = Arc::new(Shared {
        limit,
        copy: Mutex::default(),
        changed: Notify::new(),
    });
    let kept = Kept {
        copy: Arc::clone(&copy),
    };
    let tee = Tee {
        source: Some(source),
        copy,
    };
    (tee, kept)
}

impl Tee {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(source) = &mut self.source else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(source).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.copy.take(frame),
            Poll::Ready(Some(Err(_))) => self.copy.end(CopyState::Broken),
            Poll::Ready(None) => self.copy.end(CopyState::Whole),
            Poll::Pending => return polled,
        }
        let source = self.source.as_ref();
        if source.is_some_and(HttpBody::is_end_stream) {
            self.copy.end(CopyState::Whole);
            self.source = None;
        }
        polled
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        if let Some(source) = self.source.take() {
            if source.is_end_stream() {
                return self.copy.end(CopyState::Whole);
            }
            self.copy.lock().rest = Some(source);
            self.copy.changed.notify_one();
        }
    }
}

impl Kept {
    /// Waits until the agent has sent the whole body, reading it here when the upstream does not.
    pub(super) async fn whole(self) -> Result<Pieces, NotReplayable> {
        loop {
            let mut copy = std::mem::take(&mut *self.copy.lock());
            match copy.state {
                CopyState::TooLong => return Err(NotReplayable::TooLong),
                CopyState::Broken => return Err(NotReplayable::Broken),
                CopyState::Whole => {
                    return Ok(Pieces {
                        first: copy.pieces,
                        rest: None,
                        trailers: copy.trailers,
                    });
                }
                CopyState::Growing => {}
            }
            let rest = copy.rest.take();
            *self.copy.lock() = copy;
            match rest {
                Some(rest) => drain(rest, &self.copy).await,
                None => self.copy.changed.notified().await,
            }
        }
    }
}

async fn drain(mut rest: Incoming, into: &Shared) {
    use http_body_util::BodyExt;
    while into.lock().state == CopyState::Growing {
        match rest.frame().await {
            Some(Ok(frame)) => into.take(&frame),
            Some(Err(_)) => into.end(CopyState::Broken),
            None => into.end(CopyState::Whole),
        }
    }
}
