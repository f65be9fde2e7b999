//! Every body that crosses the proxy: streamed as it comes, never held back.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::activity::{Activity, Pulse};
use super::copies::Share;
use super::evidence::Watched as Evidence;
use super::expect::{Held, Last};
use super::h2::Received;
use super::headers;
use super::lingers::Unread;
use super::patience::Patience;
use super::pool::Place;
use super::rpc::Woven;
use super::tee::Tee;
use super::timer::Spare;

mod pieces;

pub(super) use pieces::Pieces;

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The connection it came on failed.
    #[error(transparent)]
    Connection(#[from] hyper::Error),
    /// The stream it came on failed.
    #[error(transparent)]
    Stream(#[from] ::h2::Error),
    /// Nothing came for `limits.idle_timeout`.
    #[error("the body was silent for too long")]
    Idle,
    /// The upstream answered without it.
    #[error("the upstream answered without the body")]
    Unwanted,
}

/// What comes from one side, in either version.
pub(super) enum Source {
    Http1(Incoming),
    Http2(Received),
}

impl Source {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        match self {
            Self::Http1(incoming) => {
                let frame = ready!(Pin::new(incoming).poll_frame(cx));
                Poll::Ready(frame.map(|f| f.map_err(BodyError::Connection)))
            }
            Self::Http2(received) => {
                let frame = ready!(received.poll(cx));
                Poll::Ready(frame.map(|f| f.map_err(BodyError::Stream)))
            }
        }
    }

    pub(super) fn is_end(&self) -> bool {
        match self {
            Self::Http1(incoming) => incoming.is_end_stream(),
            Self::Http2(received) => received.is_end(),
        }
    }

    fn size(&self) -> SizeHint {
        match self {
            Self::Http1(incoming) => incoming.size_hint(),
            Self::Http2(received) => received.size(),
        }
    }
}

/// What comes from one side, with a bound on its silences.
pub(super) struct Stream {
    source: Source,
    patience: Patience,
    tail: Option<Box<Tail>>,
}

/// What ends with the body of an answer.
pub(super) enum Tail {
    /// Its connection: it came before the request's body was asked for.
    Last(#[expect(dead_code, reason = "it is dropped")] Last),
    /// The wish to know of a request whether it was read.
    Asks(Unread),
    /// Its place among the requests of its connection.
    Place(#[expect(dead_code, reason = "it is dropped")] Place),
}

impl Stream {
    /// A body that may be silent for at most `idle`, by this timer.
    pub(super) fn new(source: Source, idle: Duration, timer: &Spare) -> Self {
        Self {
            source,
            patience: Patience::new(idle, timer),
            tail: None,
        }
    }

    /// The long body of a request, of which the connection must know whether it was read.
    pub(super) fn asking(mut self, pulse: &Arc<Pulse>) -> Self {
        self.tail = Some(Box::new(Tail::Asks(Unread::of(pulse))));
        self
    }

    /// A body of an exchange in which the other one moves too: it is silent when both are.
    pub(super) fn beside(mut self, both: Option<Arc<Activity>>) -> Self {
        self.patience = self.patience.beside(both);
        self
    }

    /// When it or the other one last moved, where both may.
    pub(super) fn both(&self) -> Option<&Arc<Activity>> {
        self.patience.both()
    }

    /// The body of an answer with which that ends.
    pub(super) fn followed_by(mut self, tail: Option<Tail>) -> Self {
        self.tail = tail.map(Box::new);
        self
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        match self.source.poll(cx) {
            Poll::Ready(mut frame) => {
                self.patience.moved();
                if let Some(Ok(frame)) = &mut frame
                    && let Some(trailers) = frame.trailers_mut()
                {
                    headers::clean_trailers(trailers);
                }
                // Nobody asks for more than trailers.
                let last = matches!(&frame, Some(Ok(frame)) if frame.is_trailers());
                if let Some(Tail::Asks(unread)) = self.tail.as_deref_mut()
                    && (last || frame.is_none() || self.source.is_end())
                {
                    unread.is_read();
                }
                Poll::Ready(frame)
            }
            Poll::Pending => {
                ready!(self.patience.poll_over(cx));
                Poll::Ready(Some(Err(BodyError::Idle)))
            }
        }
    }

    /// The next frame.
    pub(super) async fn frame(&mut self) -> Polled {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    pub(super) fn is_end(&self) -> bool {
        self.source.is_end()
    }

    pub(super) fn size(&self) -> SizeHint {
        self.source.size()
    }
}

/// A frame, the end, or an early end.
pub(super) type Polled = Option<Result<Frame<Bytes>, BodyError>>;

/// A body in either direction. Every connection has a queue of requests with room for some of them, so
/// what is large is boxed.
pub(super) enum Body {
    /// Nothing.
    Empty,
    /// One piece of our own.
    Full(Option<Bytes>),
    /// Straight through.
    Stream(Stream),
    /// Straight through, with a copy for a second sending.
    Tee(Box<Tee>),
    /// Any of these, once the upstream wants it.
    Held(Box<Held>),
    /// The copy, or a part that was looked at, then the rest.
    Pieces(Box<Pieces>),
    /// Straight through, and looked at on the way.
    Evidence(Box<Evidence>),
    /// Made of more than one answer.
    Woven(Box<Woven>),
    /// Any of these, with a note of when it last moved, and when it ended.
    Watched(Box<Self>, Noted),
}

/// A note of when a body moved. With the body it ends.
pub(super) struct Noted(Arc<Activity>);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Body {
    /// The bytes that are in memory.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        let pieces = match self {
            Self::Pieces(pieces) => Some(pieces.first.iter()),
            Self::Empty
            | Self::Full(_)
            | Self::Stream(_)
            | Self::Tee(_)
            | Self::Held(_)
            | Self::Evidence(_)
            | Self::Woven(_)
            | Self::Watched(..) => None,
        };
        pieces.into_iter().flatten()
    }

    /// The same body, if all of it is in memory.
    pub(super) fn copy(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Full(bytes) => Some(Self::Full(bytes.clone())),
            Self::Pieces(pieces) => pieces.copy().map(Box::new).map(Self::Pieces),
            Self::Stream(_)
            | Self::Tee(_)
            | Self::Held(_)
            | Self::Evidence(_)
            | Self::Woven(_)
            | Self::Watched(..) => None,
        }
    }

    /// When it or the other body of its exchange last moved, where both come from a peer.
    pub(super) fn both(&self) -> Option<&Arc<Activity>> {
        match self {
            Self::Stream(stream) => stream.both(),
            Self::Tee(tee) => tee.both(),
            Self::Held(held) => held.both(),
            Self::Pieces(pieces) => pieces.rest.as_ref()?.both(),
            Self::Watched(body, _) => body.both(),
            Self::Empty | Self::Full(_) | Self::Evidence(_) | Self::Woven(_) => None,
        }
    }

    /// Does a copy of it stay behind for a second sending?
    pub(super) fn is_kept(&self) -> bool {
        match self {
            Self::Tee(_) => true,
            Self::Held(held) => held.is_kept(),
            Self::Watched(body, _) => body.is_kept(),
            _ => false,
        }
    }

    /// The same body, and a note of when it last moved and ended.
    pub(super) fn watched(self) -> (Self, Arc<Activity>) {
        let activity = Activity::new();
        let noted = Noted(Arc::clone(&activity));
        (Self::Watched(Box::new(self), noted), activity)
    }

    /// A whole body of our own.
    pub(super) fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Some(bytes.into()))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Polled> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Stream(stream) => stream.poll(cx),
            Self::Tee(tee) => tee.poll(cx),
            Self::Held(held) => held.poll(cx),
            Self::Pieces(pieces) => pieces.poll(cx),
            Self::Evidence(evidence) => evidence.poll(cx),
            Self::Woven(woven) => woven.poll(cx),
            Self::Watched(body, activity) => {
                let polled = Pin::new(&mut **body).poll_frame(cx);
                match &polled {
                    Poll::Ready(Some(Ok(_))) if !body.is_end_stream() => activity.0.moved(),
                    Poll::Ready(_) => activity.0.end(),
                    Poll::Pending => {}
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Stream(stream) => stream.is_end(),
            Self::Tee(tee) => tee.is_end(),
            Self::Held(held) => held.is_end(),
            Self::Pieces(pieces) => pieces.is_end(),
            Self::Evidence(evidence) => evidence.is_end(),
            Self::Woven(_) => false,
            Self::Watched(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(length(bytes.iter())),
            Self::Stream(stream) => stream.size(),
            Self::Tee(tee) => tee.size(),
            Self::Held(held) => held.size(),
            Self::Pieces(pieces) => pieces.size_hint(),
            Self::Evidence(evidence) => evidence.size(),
            Self::Woven(_) => SizeHint::default(),
            Self::Watched(body, _) => body.size_hint(),
        }
    }
}

fn length<'a>(pieces: impl Iterator<Item = &'a Bytes>) -> u64 {
    pieces.map(|b| b.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The queue of a connection to an upstream has room for 32 requests.
    #[test]
    fn a_body_is_small() {
        assert!(size_of::<Body>() <= 88, "{}", size_of::<Body>());
    }
}
