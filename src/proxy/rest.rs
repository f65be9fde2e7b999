//! Connections of HTTP/1 on which nothing is asked. What the HTTP library keeps for one (a buffer, and
//! room for an exchange) is several times what the connection itself takes, and agents wait for minutes
//! between two requests: so its part is taken down after a while, and set up again with the first byte.

use std::io;
use std::mem::{self, MaybeUninit};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1::UpgradeableConnection;
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::io::Rewound;
use super::serve::Serve;

/// What is read of a request before the library has a buffer for it.
const FIRST: usize = 512;

/// A stream that is cheap to move, and what was read of it too early.
pub(super) type Io<S> = Rewound<Box<S>>;

/// A connection whose library's part is there while it is needed.
pub(super) struct Resting<S, V, I, W>
where
    V: HttpService<Incoming>,
{
    phase: Phase<S, V>,
    /// Is everything that was asked answered, to the last byte, and nothing more begun?
    idle: I,
    /// Sets the library's part up.
    wake: W,
}

enum Phase<S, V>
where
    V: HttpService<Incoming>,
{
    Awake(Box<UpgradeableConnection<TokioIo<Io<S>>, V>>),
    Resting(Io<S>),
    /// It rested when it was to end.
    Leaving(Io<S>),
    /// The stream is somebody else's now.
    Over,
}

impl<S, V, I, W> Resting<S, V, I, W>
where
    V: HttpService<Incoming>,
    W: Fn(Io<S>) -> UpgradeableConnection<TokioIo<Io<S>>, V>,
{
    pub(super) fn new(io: S, idle: I, wake: W) -> Self {
        let io = Rewound::new(Bytes::new(), Box::new(io));
        Self {
            phase: Phase::Awake(Box::new(wake(io))),
            idle,
            wake,
        }
    }
}

impl<S, V, B, I, W> Serve for Resting<S, V, I, W>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    V: HttpService<Incoming, ResBody = B>,
    V::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: Fn() -> bool,
    W: Fn(Io<S>) -> UpgradeableConnection<TokioIo<Io<S>>, V>,
{
    fn poll_served(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.phase {
                Phase::Awake(connection) => {
                    let served = ready!(Pin::new(&mut **connection).poll(cx));
                    return Poll::Ready(served.map_err(io::Error::other));
                }
                Phase::Resting(io) => {
                    let mut room = [MaybeUninit::uninit(); FIRST];
                    let mut first = ReadBuf::uninit(&mut room);
                    ready!(Pin::new(&mut *io).poll_read(cx, &mut first))?;
                    // The end of the stream too is for the library, which sees it once more.
                    io.unread(Bytes::copy_from_slice(first.filled()));
                    if let Phase::Resting(io) = mem::replace(&mut self.phase, Phase::Over) {
                        self.phase = Phase::Awake(Box::new((self.wake)(io)));
                    }
                }
                Phase::Leaving(io) => return Pin::new(io).poll_shutdown(cx),
                Phase::Over => return Poll::Ready(Ok(())),
            }
        }
    }

    fn finish(&mut self) {
        self.phase = match mem::replace(&mut self.phase, Phase::Over) {
            Phase::Awake(mut connection) => {
                Pin::new(&mut *connection).graceful_shutdown();
                Phase::Awake(connection)
            }
            Phase::Resting(io) | Phase::Leaving(io) => Phase::Leaving(io),
            Phase::Over => Phase::Over,
        };
    }

    fn rest(&mut self) {
        if !(self.idle)() {
            return;
        }
        self.phase = match mem::replace(&mut self.phase, Phase::Over) {
            Phase::Awake(connection) => match connection.into_parts() {
                Some(parts) => {
                    let mut io = parts.io.into_inner();
                    io.unread(parts.read_buf);
                    Phase::Resting(io)
                }
                None => Phase::Over,
            },
            other => other,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use http::{Request, Response};
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::timeout;

    use super::*;
    use crate::proxy::body::Body;

    async fn echo(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let path = request.uri().path().to_owned();
        Ok(Response::new(Body::full(format!("<{path}>"))))
    }

    /// Polls it once.
    async fn once(served: &mut impl Serve) -> Poll<io::Result<()>> {
        poll_fn(|cx| Poll::Ready(served.poll_served(cx))).await
    }

    /// Reads until that much of an answer has come, while the connection is served.
    async fn hear(served: &mut impl Serve, client: &mut DuplexStream, end: &str) -> String {
        let mut heard = vec![];
        let reads = async {
            while !heard.ends_with(end.as_bytes()) {
                client.read_buf(&mut heard).await.unwrap();
            }
        };
        tokio::select! {
            () = reads => {}
            ended = poll_fn(|cx| served.poll_served(cx)) => panic!("{ended:?}"),
            () = tokio::time::sleep(Duration::from_secs(5)) => panic!("no answer"),
        }
        String::from_utf8(heard).unwrap()
    }

    #[tokio::test]
    async fn what_comes_after_a_rest_is_served_and_nothing_is_lost() {
        let (mut client, near) = duplex(64 * 1024);
        let idle = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&idle);
        let wake = |io| {
            http1::Builder::new()
                .serve_connection(TokioIo::new(io), service_fn(echo))
                .with_upgrades()
        };
        let mut served = Resting::new(near, move || told.load(Ordering::Relaxed), wake);

        client
            .write_all(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        hear(&mut served, &mut client, "</1>").await;
        served.rest();
        assert!(
            matches!(served.phase, Phase::Awake(_)),
            "something is asked"
        );
        idle.store(true, Ordering::Relaxed);
        served.rest();
        assert!(matches!(served.phase, Phase::Resting(_)));
        assert!(once(&mut served).await.is_pending());
        assert!(matches!(served.phase, Phase::Resting(_)), "nothing came");

        // More than is read at first, and in two pieces.
        let filler = "x".repeat(3 * FIRST);
        let head = format!("GET /2 HTTP/1.1\r\nhost: a\r\nfiller: {filler}\r\n\r\n");
        let (piece, rest) = head.split_at(100);
        client.write_all(piece.as_bytes()).await.unwrap();
        assert!(once(&mut served).await.is_pending());
        assert!(matches!(served.phase, Phase::Awake(_)));
        client.write_all(rest.as_bytes()).await.unwrap();
        hear(&mut served, &mut client, "</2>").await;

        // Two at once.
        served.rest();
        let both = "GET /3 HTTP/1.1\r\nhost: a\r\n\r\nGET /4 HTTP/1.1\r\nhost: a\r\n\r\n";
        client.write_all(both.as_bytes()).await.unwrap();
        let heard = hear(&mut served, &mut client, "</4>").await;
        assert!(heard.contains("</3>"), "{heard}");

        // What the library has read and not used is not lost with it.
        client.write_all(b"GET /5 HT").await.unwrap();
        assert!(once(&mut served).await.is_pending());
        served.rest();
        client
            .write_all(b"TP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        hear(&mut served, &mut client, "</5>").await;

        served.rest();
        drop(client);
        let ended = timeout(Duration::from_secs(5), poll_fn(|cx| served.poll_served(cx)));
        ended.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn one_that_rests_ends_at_once() {
        let (mut client, near) = duplex(64 * 1024);
        let wake = |io| {
            http1::Builder::new()
                .serve_connection(TokioIo::new(io), service_fn(echo))
                .with_upgrades()
        };
        let mut served = Resting::new(near, || true, wake);
        client
            .write_all(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        hear(&mut served, &mut client, "</1>").await;
        served.rest();
        served.finish();
        assert!(matches!(once(&mut served).await, Poll::Ready(Ok(()))));
        let mut rest = vec![];
        client.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    }
}
