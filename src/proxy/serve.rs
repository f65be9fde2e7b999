//! HTTP towards the client: one hyper connection, whose requests all go to `exchange`.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::activity::{Activity, Noted};
use super::ahead::{Ahead, Heads};
use super::body::Stream;
use super::exchange::exchange;
use super::expect::Last;
use super::headers;
use super::tunnel::Passage;
use super::upstream::Lane;
use super::{Proxy, turned};
use crate::payment::Session;

/// What carries the requests of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Plain,
    TlsH1,
    TlsH2,
}

/// One client connection.
pub(super) struct Conn {
    pub(super) proxy: Arc<Proxy>,
    pub(super) lane: Arc<Lane>,
    pub(super) way: Way,
    /// Of HTTP/1.
    pub(super) heads: Arc<Heads>,
}

impl Conn {
    /// A body with its bound on silence.
    pub(super) fn body(&self, incoming: Incoming) -> Stream {
        Stream::new(incoming, self.proxy.limits.idle_timeout)
    }

    /// An answer whose body has its bound on silence.
    pub(super) fn stream(&self, mut answer: Response<Incoming>) -> Response<Stream> {
        let last = answer.extensions_mut().remove::<Last>();
        answer.map(|incoming| self.body(incoming).last(last))
    }

    /// Adds our name to a message of this version, if the operator gave us one.
    pub(super) fn via(&self, headers: &mut HeaderMap, version: Version) {
        if let Some(name) = &self.proxy.via {
            headers::via(headers, version, name);
        }
    }
}

/// Where the requests of a connection may go.
pub(super) enum Way {
    /// To one destination: the CONNECT target, whose name was verified when `secure`.
    Tunnel { passage: Passage, secure: bool },
    /// Wherever each request's `Host` says, at this port, over plain HTTP: a client that knows of no
    /// proxy.
    Redirected { port: u16, session: Arc<Session> },
    /// Wherever each request says, over plain HTTP. Each brings its credentials.
    Open,
}

/// Serves plain requests, whose way is open or redirected.
pub(super) async fn plain<S>(proxy: Arc<Proxy>, io: S, way: Way) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let lane = Lane::new(false, Arc::clone(&proxy.pool));
    let conn = Conn {
        lane: Arc::new(lane),
        way,
        proxy,
        heads: Arc::default(),
    };
    h1(conn, io).await
}

/// Serves the requests inside a tunnel.
pub(super) async fn tunnelled<S>(
    proxy: Arc<Proxy>,
    io: S,
    passage: Passage,
    over: Over,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let h2_spoken = over == Over::TlsH2;
    let lane = Lane::new(h2_spoken, Arc::clone(&proxy.pool));
    let conn = Conn {
        lane: Arc::new(lane),
        way: Way::Tunnel {
            passage,
            secure: over != Over::Plain,
        },
        proxy,
        heads: Arc::default(),
    };
    if h2_spoken {
        h2(conn, io).await
    } else {
        h1(conn, io).await
    }
}

async fn h1<S>(conn: Conn, io: S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &conn.proxy.limits;
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(limits.header_count)
        .max_header_size(limits.header_bytes)
        .preserve_header_case(true)
        .auto_date_header(false);
    let bounds = Bounds::of(&conn.proxy);
    let io = Ahead::new(Noted::new(io, &bounds.activity), &conn.heads);
    let io = TokioIo::new(io);
    let conn = Arc::new(conn);
    let service = service_fn(move |request| {
        let conn = Arc::clone(&conn);
        async move { Ok::<_, Infallible>(exchange(&conn, request).await) }
    });
    let connection = builder.serve_connection(io, service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        served = connection.as_mut() => return served.map_err(io::Error::other),
        () = bounds.silence() => return Err(io::ErrorKind::TimedOut.into()),
        () = bounds.end() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        served = connection => served.map_err(io::Error::other),
        () = bounds.silence() => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn h2<S>(conn: Conn, io: S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &conn.proxy.limits;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(limits.header_bytes_u32())
        .max_pending_accept_reset_streams(limits.h2_resets)
        .max_local_error_reset_streams(limits.h2_errors)
        .auto_date_header(false);
    let bounds = Bounds::of(&conn.proxy);
    let io = TokioIo::new(Noted::new(io, &bounds.activity));
    let conn = Arc::new(conn);
    let service = service_fn(move |request| {
        let conn = Arc::clone(&conn);
        async move { Ok::<_, Infallible>(exchange(&conn, request).await) }
    });
    let connection = builder.serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        served = connection.as_mut() => return served.map_err(io::Error::other),
        () = bounds.silence() => return Err(io::ErrorKind::TimedOut.into()),
        () = bounds.end() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        served = connection => served.map_err(io::Error::other),
        () = bounds.silence() => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// When a client connection must end, whatever its client wants.
struct Bounds {
    activity: Arc<Activity>,
    idle: Duration,
    until: Instant,
    draining: watch::Receiver<bool>,
}

impl Bounds {
    fn of(proxy: &Proxy) -> Self {
        Self {
            activity: Activity::new(),
            idle: proxy.limits.connection_idle,
            until: Instant::now() + proxy.limits.connection_lifetime,
            draining: proxy.draining.clone(),
        }
    }

    /// No byte has moved for too long: there is nobody to be polite to.
    async fn silence(&self) {
        self.activity.silence(self.idle).await;
    }

    /// It is old, or the process drains: the requests on it are still answered.
    async fn end(&self) {
        let mut draining = self.draining.clone();
        tokio::select! {
            () = turned(&mut draining) => {}
            () = sleep_until(self.until) => {}
        }
    }
}
