//! The body of one stream as it comes.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use crate::proxy::framing;

/// Nobody said how long it is.
const UNKNOWN: u64 = u64::MAX;

/// What comes on one stream.
pub(in crate::proxy) struct Received {
    stream: RecvStream,
    /// Bytes that are still to come, or `UNKNOWN`. The `h2` crate holds the peer to it.
    left: u64,
    only_trailers: bool,
}

impl Received {
    /// The body of a message with these fields.
    pub(super) fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        Self {
            left: framing::length(headers).unwrap_or(UNKNOWN),
            stream,
            only_trailers: false,
        }
    }

    pub(in crate::proxy) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.only_trailers {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Taken from us at once: whoever reads no more polls no more.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    if self.left != UNKNOWN {
                        self.left = self.left.saturating_sub(data.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // The peer has said all that it wants to say (RFC 9113 section 8.1).
                Some(Err(e)) if e.reason() == Some(Reason::NO_ERROR) => return Poll::Ready(None),
                Some(Err(e)) => return Poll::Ready(Some(Err(e))),
                None => self.only_trailers = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        Poll::Ready(trailers.map(|t| t.map(Frame::trailers)).transpose())
    }

    pub(in crate::proxy) fn is_end(&self) -> bool {
        self.stream.is_end_stream()
    }

    pub(in crate::proxy) fn size(&self) -> SizeHint {
        match self.left {
            _ if self.is_end() => SizeHint::with_exact(0),
            UNKNOWN => SizeHint::default(),
            left => SizeHint::with_exact(left),
        }
    }
}
