//! The operator's listener: health, metrics, the API. An agent has no business here, and the proxy
//! never leads to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HOST;
use http::uri::Authority;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::clock::{Clock, Timestamp};
use crate::event::metrics::Page;
use crate::ledger::Ledger;
use crate::payer::Payer;
use crate::proxy::{Guest, Manners, attend, kept, turned};
use crate::settings::Entrance;

mod api;
mod beacon;
mod body;
mod budgets;
pub mod client;
pub mod control;
mod dashboard;
mod feed;
mod gate;
mod metrics;
mod openapi;
mod problem;
mod public;
pub mod purchase;
mod query;
mod reload;
mod routes;
pub mod sessions;
mod stalled;
mod token;

use api::Question;
pub(crate) use api::RECONCILE_MAX;
pub use beacon::{Beacon, Lit};
pub use feed::Feed;
use feed::Line;
pub use metrics::FAMILIES;
use problem::{Answer, Problem};
pub use query::state;
pub use reload::{Reload, Reloaded, Reloading};
use routes::Op;
use stalled::Stalled;
pub use token::{Token, TokenError};

/// Connections at once: a person, a scraper, a few probes.
const CONNECTIONS: usize = 64;

/// Fewer where few files may be open: half of those that agents leave to others.
fn connections() -> usize {
    let half = usize::try_from(kept() / 2).unwrap_or(CONNECTIONS);
    half.clamp(1, CONNECTIONS)
}

/// For a head, and for a body. Whoever asks is on this machine or in its pod.
const PATIENCE: Duration = Duration::from_secs(10);

/// For what is being answered when the proxy ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Most bytes of a body: a session has a hundred.
const BODY_MAX: usize = 64 * 1024;

/// Most bytes of a head.
const HEAD_MAX: usize = 16 * 1024;

/// May it pay right now? The sentence says why not.
pub type Ready = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Adds what was counted to a page for Prometheus.
pub type Metrics = Box<dyn Fn(&mut Page) + Send + Sync>;

/// What the admin listener is made of; `app` builds it.
pub struct Parts {
    /// The book.
    pub ledger: Arc<dyn Ledger>,
    /// Takes the operator's answers and freezes.
    pub payer: Arc<Payer>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The operator's token.
    pub token: Token,
    /// Where agents connect to, for the URL of a new session.
    pub proxy: Entrance,
    /// The authority's certificate, and its end.
    pub certificate: (String, Timestamp),
    /// What a session has unless it is asked otherwise.
    pub usual: sessions::Usual,
    /// Readiness.
    pub ready: Ready,
    /// The metrics page.
    pub metrics: Metrics,
    /// Reads the policy again.
    pub reload: Reload,
    /// Rings when something was recorded.
    pub feed: Arc<Feed>,
    /// May whoever has no token see limits, and what is left of them (`refusals.numbers`)?
    pub numbers: bool,
    /// Since when it runs.
    pub started: Timestamp,
}

/// The admin surface.
pub struct Admin {
    parts: Parts,
    asked: metrics::Asked,
}

impl Admin {
    /// Assembles the parts. Nothing listens yet.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let asked = metrics::Asked::default();
        Arc::new(Self { parts, asked })
    }

    /// Serves until `over` turns true: health is wanted to the very end of a drain.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, over: watch::Receiver<bool>) {
        let manners = Manners {
            connections: connections(),
            farewell: FAREWELL,
        };
        let client = |stream, guest| Arc::clone(&self).client(stream, guest, over.clone());
        attend(listener, manners, over.clone(), client).await;
    }

    async fn client(
        self: Arc<Self>,
        stream: TcpStream,
        guest: Guest,
        mut over: watch::Receiver<bool>,
    ) {
        let line = Line::new(over.clone());
        let cut = Arc::clone(&line.cut);
        let service = service_fn(move |request: Request<Incoming>| {
            if self.parts.token.opens(request.headers()) {
                guest.stays();
            }
            let (admin, line) = (Arc::clone(&self), line.clone());
            async move { Ok::<_, std::convert::Infallible>(admin.answer(request, line).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(HEAD_MAX)
            .serve_connection(TokioIo::new(Stalled::new(stream, PATIENCE)), service);
        let mut served = std::pin::pin!(served);
        let served = tokio::select! {
            ended = served.as_mut() => ended,
            () = cut.notified() => return,
            () = turned(&mut over) => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        if let Err(e) = served {
            tracing::debug!(error = %e, "admin connection ended");
        }
    }

    async fn answer(&self, request: Request<Incoming>, line: Line) -> Answer {
        let api = request.uri().path().starts_with("/api/");
        let began = Instant::now();
        let answer = match self.route(request, line).await {
            Ok(answer) => answer,
            Err(problem) => problem.answer(),
        };
        if api {
            self.asked.took(answer.status(), began.elapsed());
        }
        answer
    }

    async fn route(&self, request: Request<Incoming>, line: Line) -> Result<Answer, Problem> {
        let (head, body) = request.into_parts();
        if !is_ours(&head) {
            return Err(Problem::Host);
        }
        let path = head.uri.path();
        let read = head.method == Method::GET || head.method == Method::HEAD;
        match path {
            "/healthz" | "/readyz" | "/metrics" | "/ca.pem" | "/proxy.pac" if !read => {
                Err(Problem::Method("GET, HEAD".into()))
            }
            "/ca.pem" => Ok(public::certificate(&self.parts.certificate.0)),
            "/proxy.pac" => public::auto_configuration(&head, &self.parts.proxy),
            "/healthz" => Ok(text("ok\n".into())),
            "/readyz" => match (self.parts.ready)() {
                Ok(()) => Ok(text("ready\n".into())),
                Err(why) => Err(Problem::Unavailable(why)),
            },
            "/metrics" => {
                let numbers = self.parts.numbers || self.parts.token.admits(&head.headers);
                Ok(self.page(numbers).await)
            }
            _ if read && !path.starts_with("/api/") => {
                let login = dashboard::is_page(path)
                    .then(|| self.parts.token.login(path, head.uri.query()))
                    .flatten();
                let page = || match path.starts_with("/approvals/") {
                    true => Some(dashboard::question(&head.headers)),
                    false => dashboard::file(path),
                };
                login.or_else(page).ok_or(Problem::NotFound)
            }
            _ => {
                let inside = path.strip_prefix("/api/v1/").ok_or(Problem::NotFound)?;
                let (op, variable) = match self.parts.token.opens(&head.headers) {
                    true => routes::find(&head.method, inside)?,
                    // What is not there looks like what is, to whoever has no token.
                    false => match routes::find(&head.method, inside) {
                        Ok((op @ Op::Describe, variable)) => (op, variable),
                        _ => return Err(Problem::Token),
                    },
                };
                let body = read_body(body).await?;
                self.api(
                    op,
                    variable,
                    Question {
                        head: &head,
                        body,
                        line,
                    },
                )
                .await
            }
        }
    }
}

fn text(text: String) -> Answer {
    problem::typed(StatusCode::OK, "text/plain; charset=utf-8", text)
}

/// An address or this machine's own name. A name that somebody else's DNS leads here is neither
/// (threat S-06).
fn is_ours(head: &http::request::Parts) -> bool {
    let mut named = head.headers.get_all(HOST).iter();
    let (Some(host), None) = (named.next(), named.next()) else {
        return false;
    };
    let Some(authority) = host.to_str().ok().and_then(|h| h.parse::<Authority>().ok()) else {
        return false;
    };
    let name = authority.host().trim_matches(['[', ']']);
    let same_in_target = head.uri.authority().is_none_or(|a| *a == authority);
    same_in_target
        && (name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok())
}

async fn read_body(body: Incoming) -> Result<Bytes, Problem> {
    let whole = timeout(PATIENCE, Limited::new(body, BODY_MAX).collect()).await;
    match whole {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(e)) if e.is::<http_body_util::LengthLimitError>() => Err(Problem::TooLong),
        Ok(Err(_)) => Err(Problem::Request("the body did not arrive".into())),
        Err(_) => Err(Problem::Request("the body took too long".into())),
    }
}
