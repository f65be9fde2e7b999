//! The end of a TLS connection of HTTP/1.1. Many servers leave without `close_notify`, and no client is troubled by
//! that: where a length or chunks say when an answer is over, it is cut short all the same when the connection ends
//! before; and where nothing but the connection does, its end is all that there is. Of a challenge that is not enough
//! (`framing::ends_with_connection`).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::io::{Around, writes_through};

/// Takes the end of a connection for its end, announced or not.
pub(super) struct Ends<S> {
    stream: S,
}

impl<S> Ends<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ends<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.stream).poll_read(cx, buf)) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                tracing::debug!("upstream connection ended without close_notify");
                Poll::Ready(Ok(()))
            }
            read => Poll::Ready(read),
        }
    }
}

impl<S> Around for Ends<S> {}

writes_through!(Ends);
