//! Streams around streams.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a stream around another one does beside writing to it.
pub(super) trait Around {
    /// Before bytes are written, or with `flush` before all of them are to be out.
    fn before(&mut self, _cx: &mut Context<'_>, _flush: bool) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// After bytes were written, or could not be.
    fn wrote(&self) {}

    /// After everything that was written is out, or cannot be.
    fn flushed(&self) {}
}

/// Writes to the `stream` inside.
macro_rules! writes_through {
    ($outer:ident) => {
        impl<S: AsyncWrite + Unpin> AsyncWrite for $outer<S> {
            fn poll_write(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                ready!(self.before(cx, false))?;
                let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
                self.wrote();
                Poll::Ready(written)
            }

            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                ready!(self.before(cx, true))?;
                let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
                self.flushed();
                Poll::Ready(flushed)
            }

            fn poll_shutdown(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                Pin::new(&mut self.stream).poll_shutdown(cx)
            }

            fn is_write_vectored(&self) -> bool {
                self.stream.is_write_vectored()
            }

            fn poll_write_vectored(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                ready!(self.before(cx, false))?;
                let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs));
                self.wrote();
                Poll::Ready(written)
            }
        }
    };
}

pub(super) use writes_through;

/// Gives back `first`, then reads on.
pub(super) struct Rewound<S> {
    first: Bytes,
    stream: S,
}

impl<S> Rewound<S> {
    pub(super) fn new(first: Bytes, stream: S) -> Self {
        Self { first, stream }
    }

    /// Gives these back before anything else.
    pub(super) fn unread(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.first = match self.first.is_empty() {
            true => bytes,
            false => [bytes, std::mem::take(&mut self.first)].concat().into(),
        };
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let n = self.first.len().min(buf.remaining());
        buf.put_slice(self.first.get(..n).unwrap_or_default());
        self.first.advance(n);
        if self.first.is_empty() {
            // An empty slice of a large buffer would keep it alive for the whole connection.
            self.first = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S> Around for Rewound<S> {}

writes_through!(Rewound);
