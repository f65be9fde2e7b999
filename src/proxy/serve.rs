//! HTTP towards the client: one hyper connection, whose requests all go to `exchange`.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::activity::{LULL, Noted, Pulse, Silence};
use super::ahead::{Ahead, Heads};
use super::body::{Source, Stream, Tail};
use super::exchange::{Question, exchange};
use super::expect::Last;
use super::h2::serve::Connection;
use super::headers;
use super::interim::Preceded;
use super::lane::Lane;
use super::lingers::{self, Lingers};
use super::outgoing::Outgoing;
use super::pool::Place;
use super::rest::Resting;
use super::rouse::Roused;
use super::target::Target;
use super::tunnel::Passage;
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
    /// Whether anything moves on it, and whether all of it is out.
    pub(super) pulse: Arc<Pulse>,
}

impl Conn {
    /// A body with its bound on silence.
    pub(super) fn body(&self, source: Source) -> Stream {
        Stream::new(source, self.proxy.limits.idle_timeout, &self.lane.silence)
    }

    /// An answer whose body has its bound on silence.
    pub(super) fn stream(&self, mut answer: Response<Source>) -> Response<Stream> {
        let extensions = answer.extensions_mut();
        let last = extensions.remove::<Last>().map(Tail::Last);
        let tail = last.or_else(|| extensions.remove::<Place>().map(Tail::Place));
        answer.map(|source| self.body(source).followed_by(tail))
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
    /// Wherever each request's `Host` says, at the port of this address, over plain HTTP: a client that knows of
    /// no proxy. Nowhere when it is a connection of our own, which was led back.
    Redirected {
        address: Target,
        session: Arc<Session>,
        back: bool,
    },
    /// Wherever each request says in absolute form. Each brings its credentials. `https` is for connections that
    /// nobody else reads.
    Open { private: bool },
}

/// What is left to do for a client once it is known what it speaks. What finding out took is gone by
/// then: a connection that waits keeps no more than it needs.
pub(super) type Service = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// Serves plain requests, whose way is open or redirected.
pub(super) fn plain<S>(proxy: Arc<Proxy>, io: S, way: Way) -> Service
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let lane = Lane::new(false, &proxy);
    let conn = Conn {
        lane,
        way,
        proxy,
        heads: Arc::default(),
        pulse: Arc::default(),
    };
    h1(conn, io)
}

/// Serves the requests inside a tunnel.
pub(super) fn tunnelled<S>(proxy: Arc<Proxy>, io: S, passage: Passage, over: Over) -> Service
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let h2_spoken = over == Over::TlsH2;
    let lane = Lane::new(h2_spoken, &proxy);
    let conn = Conn {
        lane,
        way: Way::Tunnel {
            passage,
            secure: over != Over::Plain,
        },
        proxy,
        heads: Arc::default(),
        pulse: Arc::default(),
    };
    if h2_spoken {
        h2(conn, io)
    } else {
        h1(conn, io)
    }
}

/// Who holds a connection on which nothing is asked: its service, what makes that, and two who look.
const HOLDERS: usize = 4;

fn h1<S>(conn: Conn, io: S) -> Service
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &conn.proxy.limits;
    let mut builder = http1::Builder::new();
    builder
        // Heads have a bound of ours, which costs nothing where they come in one piece (`Bounds`).
        .header_read_timeout(None)
        .max_headers(limits.header_count)
        .max_header_size(limits.header_bytes)
        .preserve_header_case(true)
        .auto_date_header(false);
    let mut bounds = Bounds::of(&conn, LULL);
    let io = Noted::new(Lingers::new(io, &bounds.pulse), &bounds.pulse);
    let io = Preceded::new(io, conn.lane.interim.as_ref());
    let io = Ahead::new(io, &conn.heads);
    let conn = Arc::new(conn);
    bounds.heads = Some(Arc::clone(&conn));
    let asked = Arc::clone(&conn);
    let wake = move |io| {
        let conn = Arc::clone(&asked);
        let service = service_fn(move |request| answer(&conn, request));
        let connection = builder.serve_connection(TokioIo::new(io), service);
        connection.with_upgrades()
    };
    let idle = move || !answers(&conn) && conn.heads.all_served() && conn.pulse.is_flushed();
    let connection = Resting::new(io, idle, wake);
    Box::pin(bounded(connection, bounds))
}

fn h2<S>(conn: Conn, io: S) -> Service
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let bounds = Bounds::of(&conn, conn.proxy.limits.connection_idle);
    let io = Noted::new(io, &bounds.pulse);
    let conn = Arc::new(conn);
    let connection = Connection::new(conn, io);
    Box::pin(bounded(Box::new(connection), bounds))
}

/// Is something asked on this connection of HTTP/1, and not answered to its end?
fn answers(conn: &Arc<Conn>) -> bool {
    Arc::strong_count(conn) > HOLDERS || !conn.lane.has_no_body()
}

/// A connection that is served until it ends.
pub(super) trait Serve {
    fn poll_served(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Has what was asked answered, and takes nothing more.
    fn finish(&mut self);

    /// Keeps no more than it needs while nothing is asked.
    fn rest(&mut self);
}

/// As the HTTP library wants it. What the future keeps is taken apart before it begins: a future has room
/// for what it is given and, once more, for what it makes of that.
fn answer(
    conn: &Arc<Conn>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Outgoing>, Infallible>> + use<> {
    let conn = Arc::clone(conn);
    conn.pulse.leaves_unread(false);
    let mut question = Question::new(&conn, request.map(Source::Http1));
    async move {
        let mut answer = exchange(&conn, &mut question).await;
        if conn.pulse.is_unread() {
            lingers::closes(&mut answer);
        }
        Ok(Outgoing::of(answer, conn))
    }
}

/// Serves until the client leaves or its bounds end it. These cost nothing while bytes move.
async fn bounded(mut connection: impl Serve, mut bounds: Bounds) -> io::Result<()> {
    loop {
        let ended = {
            let end = pin!(bounds.end());
            let mut end = Roused::new(end);
            poll_fn(|cx| match connection.poll_served(cx) {
                Poll::Ready(served) => Poll::Ready(Ok(served)),
                Poll::Pending => Pin::new(&mut end).poll(cx).map(Err),
            })
            .await
        };
        match ended {
            Ok(served) => return served,
            Err(End::Now) => return Err(io::ErrorKind::TimedOut.into()),
            Err(End::Finish) => break,
            Err(End::Lull) => connection.rest(),
            Err(End::Late) => bounds.late()?,
        }
    }
    connection.finish();
    tokio::select! {
        served = poll_fn(|cx| connection.poll_served(cx)) => served,
        () = bounds.pulse.silence(bounds.idle) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// How a client connection ends that its client does not end.
enum End {
    /// The requests on it are still answered.
    Finish,
    /// Nobody is there to be answered.
    Now,
    /// Not yet, but nothing moves.
    Lull,
    /// A head took too long.
    Late,
}

/// When a client connection must end, whatever its client wants.
struct Bounds {
    pulse: Arc<Pulse>,
    silence: Silence,
    idle: Duration,
    until: Instant,
    draining: watch::Receiver<bool>,
    /// Of HTTP/1: whose heads are waited for.
    heads: Option<Arc<Conn>>,
}

impl Bounds {
    /// A connection that rests wants to hear of lulls this long.
    fn of(conn: &Conn, lull: Duration) -> Self {
        let proxy = &conn.proxy;
        let idle = proxy.limits.connection_idle;
        Self {
            pulse: Arc::clone(&conn.pulse),
            silence: Silence::new(idle, lull),
            idle,
            until: Instant::now() + proxy.limits.connection_lifetime,
            draining: proxy.draining.clone(),
            heads: None,
        }
    }

    /// While an answer goes out, the next head is not waited for yet.
    fn late(&self) -> io::Result<()> {
        match &self.heads {
            Some(conn) if answers(conn) => conn.heads.again(),
            Some(_) | None => return Err(io::ErrorKind::TimedOut.into()),
        }
        Ok(())
    }

    /// It is silent or old, a head is late, or the process drains.
    async fn end(&mut self) -> End {
        let heads = async {
            match &self.heads {
                Some(conn) => conn.heads.late(conn.proxy.limits.header_timeout).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = heads => End::Late,
            () = turned(&mut self.draining) => End::Finish,
            () = sleep_until(self.until) => End::Finish,
            // No byte has moved for too long: there is nobody to be polite to.
            silent = self.silence.look(&self.pulse) => match silent {
                true => End::Now,
                false => End::Lull,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, F: Future>(_: impl FnOnce(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// Every connection keeps room for one exchange, whether or not there is any, and every request is
    /// moved into it.
    #[test]
    fn an_exchange_that_needs_no_new_connection_is_small() {
        let size = size::<&'static Arc<Conn>, _, _>(answer);
        assert!(size <= 2688, "{size}");
    }
}
