//! HTTP/2 (RFC 9113), stream by stream, where the HTTP library has no call for what a proxy must hand on: answers
//! before the answer (RFC 9110 section 15.2), in both directions. Frames, windows and their bounds are the `h2`
//! crate's.

use std::task::{Context, Poll};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http_body::Body as _;

use super::body::Body;

pub(super) mod ask;
mod out;
mod pipe;
mod received;
pub(super) mod serve;
mod unasked;

pub(super) use received::Received;

/// Fields about a connection, which HTTP/2 does not have (RFC 9113 section 8.2.2).
const OF_CONNECTION: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Lets whoever is ready to write on a connection do so first, so that one call to the system takes all of it: woken,
/// its task goes to the end of the queue once.
#[derive(Default)]
struct Turn(bool);

impl Turn {
    fn comes(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.0 = !self.0;
        if self.0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

fn strip(headers: &mut HeaderMap) {
    for name in &OF_CONNECTION {
        headers.remove(name);
    }
}

/// Says how long a body is that does not say so itself, if it is known.
fn measure(headers: &mut HeaderMap, body: &Body) {
    if let Some(length) = body.size_hint().exact()
        && !headers.contains_key(header::CONTENT_LENGTH)
    {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
}
