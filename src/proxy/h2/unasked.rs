//! A connection to a merchant on which nothing is asked, and what its merchant says there.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::ask::WINDOW;
use crate::proxy::io::{Around, writes_through};

/// Bytes that nobody asked for. Whatever was asked for and is not wanted any more fits into a window, and
/// keepalives add up to next to nothing before the connection is too old.
const MAX: usize = 2 * WINDOW as usize;

/// Ends where more comes than anybody asked for.
pub(super) struct Unasked<S> {
    stream: S,
    /// Requests on it.
    asked: Arc<AtomicUsize>,
    unasked: usize,
}

impl<S> Unasked<S> {
    pub(super) fn new(stream: S, asked: Arc<AtomicUsize>) -> Self {
        Self {
            stream,
            asked,
            unasked: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unasked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        if self.asked.load(Ordering::Relaxed) > 0 {
            self.unasked = 0;
            return Poll::Ready(read);
        }
        self.unasked += buf.filled().len() - before;
        Poll::Ready(match self.unasked > MAX {
            true => Err(io::ErrorKind::InvalidData.into()),
            false => read,
        })
    }
}

impl<S> Around for Unasked<S> {}

writes_through!(Unasked);

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn what_nobody_asked_for_has_an_end() {
        let asked = Arc::new(AtomicUsize::new(1));
        let mut endless = Unasked::new(tokio::io::repeat(1), Arc::clone(&asked));
        let mut window = vec![0; MAX / 2];
        for _ in 0..3 {
            endless.read_exact(&mut window).await.unwrap();
        }
        asked.store(0, Ordering::Relaxed);
        for _ in 0..2 {
            endless.read_exact(&mut window).await.unwrap();
        }
        assert!(endless.read(&mut window).await.is_err());
    }
}
