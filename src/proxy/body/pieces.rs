//! A body of which a part, or all, is in memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::{BodyError, Polled, Share, Stream, length};

/// Pieces already in memory, then what is left of a stream, then trailers.
#[derive(Default)]
pub(in crate::proxy) struct Pieces {
    /// In order.
    pub(in crate::proxy) first: VecDeque<Bytes>,
    /// What has not been read yet.
    pub(in crate::proxy) rest: Option<Stream>,
    /// Of a body that was read to its end.
    pub(in crate::proxy) trailers: Option<HeaderMap>,
    /// Why it has no end: whoever gets it must not take what is here for all of it.
    pub(in crate::proxy) broken: Option<BodyError>,
    /// What they take of the memory that there is for copies.
    pub(in crate::proxy) held: Option<Arc<Share>>,
}

impl From<Stream> for Pieces {
    fn from(stream: Stream) -> Self {
        Self {
            rest: Some(stream),
            ..Self::default()
        }
    }
}

impl Pieces {
    /// The same, if nothing is left to be read.
    pub(in crate::proxy) fn copy(&self) -> Option<Self> {
        (self.rest.is_none() && self.broken.is_none()).then(|| Self {
            first: self.first.clone(),
            held: self.held.clone(),
            trailers: self.trailers.clone(),
            ..Self::default()
        })
    }

    /// Is nothing left of it?
    pub(in crate::proxy) fn is_end(&self) -> bool {
        let read = self.rest.as_ref().is_none_or(Stream::is_end);
        self.first.is_empty() && read && self.trailers.is_none() && self.broken.is_none()
    }

    pub(in crate::proxy) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        if let Some(piece) = self.first.pop_front() {
            // What is left of it may stream for long.
            self.held.take_if(|_| self.first.is_empty());
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if let Some(rest) = &mut self.rest {
            return rest.poll(cx);
        }
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        Poll::Ready(self.trailers.take().map(|t| Ok(Frame::trailers(t))))
    }

    pub(in crate::proxy) fn size_hint(&self) -> SizeHint {
        let here = length(self.first.iter());
        let rest = self.rest.as_ref().map(Stream::size);
        match rest {
            // Trailers need chunked framing, so no length is promised before them.
            None if self.trailers.is_some() || self.broken.is_some() => SizeHint::default(),
            None => SizeHint::with_exact(here),
            Some(rest) => rest
                .exact()
                .map_or_else(SizeHint::default, |n| SizeHint::with_exact(here + n)),
        }
    }
}
