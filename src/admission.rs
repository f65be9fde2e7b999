//! The mutating admission webhook: an API server asks, over TLS, and every pod that is about to be made
//! gets its sidecar or a reason. It has no state and changes nothing by itself, so a dry run is as any
//! other, and two of it answer alike.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::proxy::{Manners, attend, turned};
use crate::sidecar::{self, Settings};
use crate::tls::Serving;

/// Where reviews are sent to.
pub const PATH: &str = "/inject";

/// Connections at once. API servers keep a few open.
const CONNECTIONS: usize = 256;

/// For a handshake, a head, and a body. API servers give up after 30 s at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most bytes of a review: an object of etcd's 1.5 MiB, twice, and the rest.
const REVIEW_MAX: usize = 8 * 1024 * 1024;

/// Between two looks at the certificate's files.
const LOOK: Duration = Duration::from_secs(30);

/// For reviews under way when it ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// A webhook that is ready to serve.
pub struct Admission {
    /// What is put into pods.
    pub settings: Settings,
    /// Its own namespace, where it touches nothing.
    pub namespace: Option<String>,
    /// Who it is.
    pub serving: Serving,
}

impl Admission {
    /// Serves until `over` turns true.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, over: watch::Receiver<bool>) {
        let acceptor = TlsAcceptor::from(self.serving.config());
        let manners = Manners {
            connections: CONNECTIONS,
            farewell: FAREWELL,
        };
        let client = |stream| Arc::clone(&self).client(stream, acceptor.clone(), over.clone());
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
        stream: TcpStream,
        acceptor: TlsAcceptor,
        mut over: watch::Receiver<bool>,
    ) {
        let stream = match timeout(PATIENCE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "a handshake failed"),
            Err(_) => return tracing::debug!("a handshake took too long"),
        };
        let service = service_fn(move |request| {
            let admission = Arc::clone(&self);
            async move { Ok::<_, Infallible>(admission.answer(request).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
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

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let read = matches!(*request.method(), Method::GET | Method::HEAD);
        match request.uri().path() {
            "/healthz" | "/readyz" if read => plain(StatusCode::OK, "ok\n"),
            PATH if request.method() == Method::POST => self.review(request).await,
            PATH => another_method("POST"),
            "/healthz" | "/readyz" => another_method("GET, HEAD"),
            _ => plain(StatusCode::NOT_FOUND, "reviews go to /inject\n"),
        }
    }

    async fn review(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let body = Limited::new(request.into_body(), REVIEW_MAX).collect();
        let body = match timeout(PATIENCE, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => {
                return plain(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "not a whole review of at most 8 MiB\n",
                );
            }
            Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "the review took too long\n"),
        };
        let answer = sidecar::answer(&body, &self.settings, self.namespace.as_deref());
        tracing::info!(
            uid = answer.uid(),
            outcome = %answer.outcome.escape_debug(),
            "a pod was reviewed"
        );
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = Response::new(Full::from(answer.body.to_string()));
        *response.status_mut() = status;
        let json = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
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
