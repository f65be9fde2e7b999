//! The body of an answer to a client of HTTP/1, as the HTTP library takes it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::activity::Pulse;
use super::body::{Body, BodyError};
use super::serve::Conn;

/// A client that takes nothing for so long does not get what came before the break.
const PATIENCE: Duration = Duration::from_secs(30);
/// From one look whether everything is written to the next.
const LOOK: Duration = Duration::from_millis(10);

/// A body, and whose connection it goes out on. An error closes that with whatever is not written yet, the head
/// as well, so it waits until what came before it is out.
pub(super) struct Outgoing {
    body: Body,
    conn: Arc<Conn>,
    breaks: Option<Box<Breaks>>,
    /// Has the answer a length that is not this body's?
    foreign: bool,
}

struct Breaks {
    error: Option<BodyError>,
    until: Instant,
    look: Pin<Box<Sleep>>,
}

impl Outgoing {
    /// The body of this answer.
    pub(super) fn of(answer: Response<Body>, conn: Arc<Conn>) -> Response<Self> {
        let foreign = has_foreign_length(&answer);
        answer.map(|body| Self {
            body,
            conn,
            breaks: None,
            foreign,
        })
    }
}

/// The length of a 304 is that of what it stands for (RFC 9110 section 8.6). The HTTP library keeps that beside a body
/// of unknown length only, of which it sends nothing.
fn has_foreign_length(answer: &Response<Body>) -> bool {
    let mut lengths = answer.headers().get_all(header::CONTENT_LENGTH).iter();
    let one = lengths.next().filter(|_| lengths.next().is_none());
    let length = one.and_then(|length| length.to_str().ok());
    answer.status() == StatusCode::NOT_MODIFIED
        && length.is_some_and(|length| length.parse::<u64>().is_ok())
}

impl Breaks {
    fn new(error: BodyError) -> Box<Self> {
        Box::new(Self {
            error: Some(error),
            until: Instant::now() + PATIENCE,
            look: Box::pin(sleep(Duration::ZERO)),
        })
    }

    fn poll(&mut self, cx: &mut Context<'_>, pulse: &Pulse) -> Poll<Option<BodyError>> {
        // The connection writes whenever its body has nothing, so there is time for that before the first look.
        while self.look.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if pulse.is_flushed() || now >= self.until {
                return Poll::Ready(self.error.take());
            }
            self.look.as_mut().reset(now + LOOK);
        }
        Poll::Pending
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(breaks) = &mut this.breaks {
            let over = breaks.poll(cx, &this.conn.pulse);
            return over.map(|error| error.map(Err));
        }
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Err(error))) => {
                this.breaks = Some(Breaks::new(error));
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        !self.foreign && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.foreign {
            true => SizeHint::new(),
            false => self.body.size_hint(),
        }
    }
}
