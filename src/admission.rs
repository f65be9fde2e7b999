//! The mutating admission webhook: an API server asks, over TLS, and every pod that is about to be made
//! gets its sidecar or a reason. It has no state and changes nothing by itself, so a dry run is as any
//! other, and two of it answer alike.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::proxy::{Busy, Guest, Manners, attend, turned};
use crate::sidecar::{self, Settings};
use crate::tls::Serving;

mod room;

use room::{Held, Room};

/// Where reviews are sent to.
pub const PATH: &str = "/inject";

/// Connections at once. API servers keep a few open.
const CONNECTIONS: usize = 256;

/// For a handshake, a head, and a body. API servers give up after 30 s at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// For the turn of a whole review and its answer, while others want the place: twice that patience.
const STAY: Duration = Duration::from_secs(20);

/// Most bytes of a review: what an API server itself reads of a request.
const REVIEW_MAX: usize = 3 * 1024 * 1024;

/// Of reviews and answers at once, beside the small ones. `deploy/k8s/injector` has the memory for it.
const ROOM: usize = 12 * 1024 * 1024;

/// What is read ahead on each connection.
const BUFFER: usize = 64 * 1024;

/// Between two looks at the certificate's files.
const LOOK: Duration = Duration::from_secs(30);

/// For reviews under way when it ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// A webhook that is ready to serve.
pub struct Admission {
    settings: Settings,
    namespace: Option<String>,
    serving: Serving,
    room: Room,
    /// One at a time: the tree of a review is larger than its text.
    judging: Semaphore,
}

impl Admission {
    /// What is put into pods, by whom, and the namespace of its own, where it touches nothing.
    #[must_use]
    pub fn new(settings: Settings, namespace: Option<String>, serving: Serving) -> Self {
        Self {
            settings,
            namespace,
            serving,
            room: Room::new(ROOM),
            judging: Semaphore::new(1),
        }
    }

    /// Serves until `over` turns true.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, over: watch::Receiver<bool>) {
        let acceptor = TlsAcceptor::from(self.serving.config());
        let manners = Manners {
            connections: CONNECTIONS,
            farewell: FAREWELL,
        };
        let client = |stream, guest| {
            Arc::clone(&self).client((stream, guest), acceptor.clone(), over.clone())
        };
        tokio::select! {
            () = attend(listener, manners, over.clone(), client) => {}
            () = self.refreshed() => {}
        }
    }

    /// Looks at the certificate again and again. Never returns.
    async fn refreshed(&self) {
        let mut look = tokio::time::interval(LOOK);
        loop {
            look.tick().await;
            self.refresh();
        }
    }

    fn refresh(&self) {
        match self.serving.refresh() {
            Ok(true) => tracing::info!("the certificate was replaced"),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "the new certificate cannot be used; the old one stays");
            }
        }
    }

    async fn client(
        self: Arc<Self>,
        (stream, guest): (TcpStream, Guest),
        acceptor: TlsAcceptor,
        mut over: watch::Receiver<bool>,
    ) {
        // Whoever does not read its answer holds it no longer than this.
        let patience = u32::try_from(PATIENCE.as_millis()).unwrap_or(u32::MAX);
        if let Err(error) = sockopt::set_tcp_user_timeout(&stream, patience) {
            tracing::debug!(%error, "a connection has no bound on its silence");
        }
        let stream = match timeout(PATIENCE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "a handshake failed"),
            Err(_) => return tracing::debug!("a handshake took too long"),
        };
        let service = service_fn(move |request| {
            let (admission, guest) = (Arc::clone(&self), guest.clone());
            async move { Ok::<_, Infallible>(admission.answer(request, &guest).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        let mut served = std::pin::pin!(served);
        let served = tokio::select! {
            ended = served.as_mut() => ended,
            () = turned(&mut over) => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a connection ended");
        }
    }

    async fn answer(&self, request: Request<Incoming>, guest: &Guest) -> Response<Full<Bytes>> {
        let read = matches!(*request.method(), Method::GET | Method::HEAD);
        match request.uri().path() {
            "/healthz" | "/readyz" if read => plain(StatusCode::OK, "ok\n"),
            PATH if request.method() == Method::POST => self.review(request, guest).await,
            PATH => another_method("POST"),
            "/healthz" | "/readyz" => another_method("GET, HEAD"),
            _ => plain(StatusCode::NOT_FOUND, "reviews go to /inject\n"),
        }
    }

    async fn review(&self, request: Request<Incoming>, guest: &Guest) -> Response<Full<Bytes>> {
        let review = match timeout(PATIENCE, self.read(request.into_body())).await {
            Ok(Ok(review)) => review,
            Ok(Err(refusal)) => return refusal,
            Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "the review took too long\n"),
        };
        // Anybody may connect, and ask whether it is ready: only what is judged and answered has its place for sure.
        let busy_with = guest.busy(STAY);
        let Ok(Ok(_alone)) = timeout(PATIENCE, self.judging.acquire()).await else {
            return busy();
        };
        let answer = sidecar::answer(review.as_ref(), &self.settings, self.namespace.as_deref());
        drop(review);
        tracing::info!(
            uid = answer.uid(),
            outcome = %answer.outcome.escape_debug(),
            "a pod was reviewed"
        );
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_REQUEST);
        let Ok(text) = self.room.hold(answer.body.to_string().into_bytes()) else {
            return busy();
        };
        let mut response = Response::new(Full::from(Bytes::from_owner(Answer(text, busy_with))));
        *response.status_mut() = status;
        let json = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }

    /// A whole review, or the answer to what is none.
    async fn read(&self, mut body: Incoming) -> Result<Held, Response<Full<Bytes>>> {
        let too_large = || {
            plain(
                StatusCode::PAYLOAD_TOO_LARGE,
                "not a whole review of at most 3 MiB\n",
            )
        };
        let most = u64::try_from(REVIEW_MAX).unwrap_or(u64::MAX);
        if body.size_hint().lower() > most {
            return Err(too_large());
        }
        let mut review = self.room.hold(vec![]).map_err(|_| busy())?;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| too_large())?;
            // Trailers say nothing.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            review.add(&data).map_err(|_| busy())?;
            if review.len() > REVIEW_MAX {
                return Err(too_large());
            }
        }
        Ok(review)
    }
}

/// An answer, and whoever stays until it is written.
struct Answer(Held, #[expect(dead_code, reason = "held, not read")] Busy);

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

fn busy() -> Response<Full<Bytes>> {
    plain(
        StatusCode::SERVICE_UNAVAILABLE,
        "too much at once; ask again\n",
    )
}

/// RFC 9110 section 15.5.6: it says which methods there are.
fn another_method(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "another method\n");
    let allowed = http::HeaderValue::from_static(allowed);
    response.headers_mut().insert(ALLOW, allowed);
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}
