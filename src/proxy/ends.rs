//! The end of a connection of HTTP/1.1 to an upstream. Many servers of TLS leave without `close_notify`, and no client
//! is troubled by that: where a length or chunks say when an answer is over, it is cut short all the same when the
//! connection ends before; and where nothing but the connection does, its end is all that there is. Of a challenge that
//! is not enough (`framing::ends_with_connection`).
//!
//! And many answer before they have read a whole request, and leave: nothing can be written then, and the answer is
//! there to be read. The HTTP library takes an error of writing for the end of everything. So it hears of none until
//! the end was read, and what it writes until then goes nowhere.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

/// Takes the end of a connection for its end, announced or not, and reads up to it whatever becomes of the writing.
pub(super) struct Ends<S> {
    stream: S,
    /// Why nothing more can be written.
    broken: Option<io::ErrorKind>,
    /// The same for whoever holds the connection, and what they have to say of it.
    state: Arc<State>,
    /// Nothing more comes.
    over: bool,
}

/// What is known of a connection beside its bytes.
#[derive(Default)]
pub(super) struct State {
    gone: AtomicBool,
    unwanted: AtomicBool,
}

impl State {
    /// Nothing more can be written: then nothing new is to be asked here.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Whatever else comes is not to be read: for whoever reads, the connection ends with `InvalidData`.
    pub(super) fn read_no_more(&self) {
        self.unwanted.store(true, Ordering::Relaxed);
    }
}

impl<S> Ends<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            broken: None,
            state: Arc::default(),
            over: false,
        }
    }

    pub(super) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }

    /// What is said of `done` to whoever wrote: that it went well, while the upstream is gone and there may still be
    /// something to read of it.
    fn told<T>(&mut self, done: io::Result<T>, well: T) -> io::Result<T> {
        match done {
            Err(e) if !self.over && is_gone(e.kind()) => {
                tracing::debug!(error = %e, "upstream takes no more of a request");
                self.broken = Some(e.kind());
                self.state.gone.store(true, Ordering::Relaxed);
                Ok(well)
            }
            done => done,
        }
    }

    /// The same of what need not be tried. Whoever writes without a pause must pause here, to read.
    fn unheard<T>(
        &self,
        broken: io::ErrorKind,
        well: T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        ready!(poll_proceed(cx)).made_progress();
        Poll::Ready(match self.over {
            true => Err(broken.into()),
            false => Ok(well),
        })
    }

    /// A reset is told once only, and then to whoever wrote: what ends after that may have been cut short. Not so
    /// where the other side had ended before (`BrokenPipe`).
    fn end(&mut self, read: io::Result<()>) -> io::Result<()> {
        self.over = true;
        let reset = self.broken.filter(|e| *e != io::ErrorKind::BrokenPipe);
        reset.map_or(read, |e| Err(e.into()))
    }
}

/// Is this how writing fails when the other side has left?
fn is_gone(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
    )
}

impl<S: AsyncRead + Unpin> AsyncRead for Ends<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.state.unwanted.load(Ordering::Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buf.filled().len();
        let read = match ready!(Pin::new(&mut self.stream).poll_read(cx, buf)) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                tracing::debug!("upstream connection ended without close_notify");
                Ok(())
            }
            read => read,
        };
        Poll::Ready(match buf.filled().len() == before {
            true => self.end(read),
            false => read,
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ends<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(broken) = self.broken {
            return self.unheard(broken, buf.len(), cx);
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        Poll::Ready(self.told(written, buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(broken) = self.broken {
            return self.unheard(broken, (), cx);
        }
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        Poll::Ready(self.told(flushed, ()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
        let all = || bufs.iter().map(|b| b.len()).sum();
        if let Some(broken) = self.broken {
            return self.unheard(broken, all(), cx);
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs));
        Poll::Ready(match written {
            Ok(n) => Ok(n),
            gone => self.told(gone, all()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::Waker;
    use std::time::Duration;

    use bytes::Bytes;
    use http::Request;
    use http_body::{Body, Frame};
    use http_body_util::BodyExt as _;
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use super::*;
    use crate::proxy::h1::H1;

    /// So many pieces of a body that never pauses.
    struct Upload(usize);

    impl Body for Upload {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let Some(left) = self.0.checked_sub(1) else {
                return Poll::Ready(None);
            };
            self.0 = left;
            let piece = Bytes::from_static(&[b'x'; 10_000]);
            Poll::Ready(Some(Ok(Frame::data(piece))))
        }
    }

    fn upload(pieces: usize) -> Request<Upload> {
        let post = Request::post("/").header("host", "a");
        post.body(Upload(pieces)).unwrap()
    }

    /// An upstream that takes so many bytes and then has left. What it said can be read from then on.
    struct Left {
        takes: usize,
        how: io::ErrorKind,
        said: &'static [u8],
        ends: bool,
        reader: Option<Waker>,
    }

    impl Left {
        fn saying(said: &'static [u8], how: io::ErrorKind) -> Ends<Self> {
            Ends::new(Self {
                takes: 100_000,
                how,
                said,
                ends: true,
                reader: None,
            })
        }
    }

    impl AsyncRead for Left {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.takes > 0 || self.said.is_empty() && !self.ends {
                self.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let (now, rest) = self.said.split_at(self.said.len().min(20));
            buf.put_slice(now);
            self.said = rest;
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Left {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = self.takes.min(buf.len());
            self.takes -= taken;
            match taken {
                0 => {
                    if let Some(reader) = self.reader.take() {
                        reader.wake();
                    }
                    Poll::Ready(Err(self.how.into()))
                }
                taken => Poll::Ready(Ok(taken)),
            }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// What comes of an upload without an end. Nothing more is asked on its connection.
    async fn uploaded(upstream: Ends<Left>) -> Result<Bytes, hyper::Error> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(upstream)).await?;
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(upload(usize::MAX)).await?;
        let body = answer.into_body().collect().await?;
        let ended = timeout(Duration::from_secs(5), connection).await;
        assert!(ended.expect("its end").unwrap().is_err());
        Ok(body.to_bytes())
    }

    const ANSWER: &[u8] =
        b"HTTP/1.1 413 Too Large\r\nContent-Length: 30\r\n\r\n123456789012345678901234567890";
    const ENDLESS: &[u8] = b"HTTP/1.1 413 Too Large\r\n\r\nthat is all";

    #[tokio::test]
    async fn whoever_has_answered_and_left_is_heard() {
        for how in [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset] {
            let body = uploaded(Left::saying(ANSWER, how)).await.unwrap();
            assert_eq!(body.len(), 30, "{how}");
            assert!(uploaded(Left::saying(b"", how)).await.is_err(), "{how}");
        }
        // Another error has no answer behind it.
        let other = io::ErrorKind::TimedOut;
        assert!(uploaded(Left::saying(ANSWER, other)).await.is_err());
    }

    #[tokio::test]
    async fn a_reset_is_no_end_of_an_answer_without_a_length() {
        let ended = Left::saying(ENDLESS, io::ErrorKind::BrokenPipe);
        assert_eq!(uploaded(ended).await.unwrap(), "that is all");
        let reset = Left::saying(ENDLESS, io::ErrorKind::ConnectionReset);
        assert!(uploaded(reset).await.is_err());
    }

    #[tokio::test]
    async fn writing_fails_once_the_end_was_read_and_waits_for_nobody_before() {
        let mut upstream = Left::saying(b"bye", io::ErrorKind::BrokenPipe);
        let long = [b'x'; 200_000];
        upstream.write_all(&long).await.unwrap();
        upstream.write_all(&long).await.unwrap();
        upstream.flush().await.unwrap();
        let mut said = vec![];
        upstream.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"bye");
        assert!(upstream.write_all(b"x").await.is_err());
        assert!(upstream.flush().await.is_err());
        // The end came first.
        let mut upstream = Left::saying(b"", io::ErrorKind::BrokenPipe);
        upstream.stream.takes = 0;
        assert_eq!(upstream.read(&mut [0; 9]).await.unwrap(), 0);
        assert!(upstream.write_all(b"x").await.is_err());
    }

    #[tokio::test]
    async fn where_nothing_can_be_written_nothing_is_asked() {
        let mut upstream = Left::saying(b"", io::ErrorKind::ConnectionReset);
        upstream.stream.ends = false;
        let state = upstream.state();
        let (near, _far) = tokio::io::duplex(1000);
        let (sender, connection) = http1::handshake(TokioIo::new(near)).await.unwrap();
        tokio::spawn(connection);
        let mut sender = H1::new(sender, state);
        assert!(sender.ready().await && sender.is_ready() && !sender.is_closed());
        upstream.write_all(&[b'x'; 200_000]).await.unwrap();
        assert!(!sender.is_ready() && sender.is_closed() && !sender.ready().await);
    }

    /// No more than an upstream that is mute: the bounds on the answer hold, and the connection goes with it.
    #[tokio::test]
    async fn whoever_takes_no_more_and_says_nothing_keeps_nothing() {
        let mut upstream = Left::saying(b"", io::ErrorKind::BrokenPipe);
        upstream.stream.ends = false;
        let (mut sender, connection) = http1::handshake(TokioIo::new(upstream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(upload(20));
        let short = timeout(Duration::from_millis(100), answer).await;
        assert!(short.is_err());
        let ended = timeout(Duration::from_secs(5), connection).await;
        ended.expect("its end").unwrap().unwrap();
    }
}
