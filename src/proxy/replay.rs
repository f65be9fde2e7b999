//! A request that can be sent twice, if its body fits.

use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Method, Request, Uri};
use tokio::time::timeout;

use super::body::{Body, Stream};
use super::tee::{self, Kept, NotReplayable};

/// An agent that is still sending its body when the 402 came gets this long to end it.
const UPLOAD: Duration = Duration::from_secs(30);

/// What is kept of a request while its first sending streams.
pub(super) struct Replay {
    pub(super) method: Method,
    pub(super) uri: Uri,
    /// Absent for hosts that no rule could pay.
    headers: Option<HeaderMap>,
    body: Copy,
}

enum Copy {
    Empty,
    Kept(Kept),
    /// Nothing was kept: no rule could pay here.
    Not,
}

impl Replay {
    /// Splits a request into its first sending and what a second one needs. With `limit` at `None`
    /// nothing is kept: bodies of hosts that cannot be paid cost no memory.
    pub(super) fn split(
        parts: Parts,
        stream: Stream,
        limit: Option<usize>,
    ) -> (Request<Body>, Self) {
        let (body, copy) = match limit {
            _ if stream.is_end() => (Body::Empty, Copy::Empty),
            None => (Body::Stream(stream), Copy::Not),
            Some(limit) => {
                let (tee, kept) = tee::tee(stream, limit);
                (Body::Tee(tee), Copy::Kept(kept))
            }
        };
        let replay = Self {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            headers: limit.map(|_| parts.headers.clone()),
            body: copy,
        };
        let mut first = Request::new(body);
        *first.method_mut() = parts.method;
        *first.uri_mut() = parts.uri;
        *first.version_mut() = parts.version;
        *first.headers_mut() = parts.headers;
        (first, replay)
    }

    /// The same request once more: method, URI, header fields and body bytes.
    pub(super) async fn again(self) -> Result<Request<Body>, NotReplayable> {
        let headers = self.headers.ok_or(NotReplayable::NotKept)?;
        let body = match self.body {
            Copy::Empty => Body::Empty,
            Copy::Not => return Err(NotReplayable::NotKept),
            Copy::Kept(kept) => {
                let whole = timeout(UPLOAD, kept.whole()).await;
                Body::Pieces(whole.map_err(|_| NotReplayable::Broken)??)
            }
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = headers;
        Ok(request)
    }
}
