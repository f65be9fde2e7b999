//! Answers that leave before their requests were read (RFC 9112 section 9.6). The connection ends with such an answer,
//! and an end with bytes in it that nobody took is a reset: many agents then lose the answer, or never look for it. So
//! what still comes is read for a while, after the agent was told that nothing more is said.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};
use hyper::body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::Pulse;
use super::body::{Body, Source};

/// How long an agent may go on after the answer; one that takes longer is cut off.
const TOTAL: Duration = Duration::from_secs(5);

/// And how long it may say nothing: it has its answer, or will never read it.
const SILENT: Duration = Duration::from_secs(1);

/// A body up to this length the HTTP library reads to its end, as a rule, and the connection stays.
const SHORT: u64 = 16 << 10;

/// Bytes that are read, and forgotten, at once.
const SCRAP: usize = 8 << 10;

/// Is this the body of a request of HTTP/1, and worth not being read?
pub(super) fn is_long(body: &Source) -> bool {
    match body {
        Source::Http1(body) => {
            !body.is_end_stream() && body.size_hint().exact().is_none_or(|n| n > SHORT)
        }
        Source::Http2(_) => false,
    }
}

/// Tells the connection when a body is given up before it was read.
pub(super) struct Unread {
    pulse: Arc<Pulse>,
    read: bool,
}

impl Unread {
    pub(super) fn of(pulse: &Arc<Pulse>) -> Self {
        Self {
            pulse: Arc::clone(pulse),
            read: false,
        }
    }

    /// It was.
    pub(super) fn is_read(&mut self) {
        self.read = true;
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        if !self.read {
            self.pulse.leaves_unread(true);
        }
    }
}

/// The answer says that the connection ends with it. A 101 says what becomes of it itself.
pub(super) fn closes(answer: &mut Response<Body>) {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    let close = HeaderValue::from_static("close");
    answer.headers_mut().insert(header::CONNECTION, close);
}

/// The stream of a connection of HTTP/1.
pub(super) struct Lingers<S> {
    stream: S,
    pulse: Arc<Pulse>,
    /// Since everything was said.
    end: Option<Box<End>>,
}

struct End {
    until: Instant,
    silent: Pin<Box<Sleep>>,
}

impl<S> Lingers<S> {
    pub(super) fn new(stream: S, pulse: &Arc<Pulse>) -> Self {
        Self {
            stream,
            pulse: Arc::clone(pulse),
            end: None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingers<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingers<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.end.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            if !this.pulse.is_unread() {
                return Poll::Ready(Ok(()));
            }
        }
        let now = Instant::now();
        let end = this.end.get_or_insert_with(|| {
            Box::new(End {
                until: now + TOTAL,
                silent: Box::pin(sleep_until(now + SILENT)),
            })
        });
        let mut moved = false;
        loop {
            let mut scrap = [MaybeUninit::uninit(); SCRAP];
            let mut scrap = ReadBuf::uninit(&mut scrap);
            match Pin::new(&mut this.stream).poll_read(cx, &mut scrap) {
                Poll::Ready(Ok(())) if !scrap.filled().is_empty() => moved = true,
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        if moved {
            end.silent.as_mut().reset(end.until.min(now + SILENT));
        }
        end.silent.as_mut().poll(cx).map(Ok)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}
