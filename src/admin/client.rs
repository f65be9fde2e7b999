//! Asking a running proxy: what commands do when somebody else owns the ledger.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Beacon, Token, TokenError};
use crate::settings::here;

/// A proxy on this machine answers at once, or not at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// For questions that make it ask others first.
const LONG_PATIENCE: Duration = Duration::from_secs(300);

/// Most bytes of an answer: ten thousand payments.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody says that a proxy runs.
    #[error("no proxy runs on {0}")]
    NoProxy(String),
    /// The ledger is in use, but nobody says where.
    #[error("a process holds {0}, but there is no serve.json that says where it listens")]
    NoBeacon(String),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The connection.
    #[error("the proxy at {0} does not answer: {1}")]
    Connection(SocketAddr, String),
    /// It took the question, and what became of it is unknown.
    #[error("the proxy at {0} does not answer; whether it did what was asked is not known")]
    Silent(SocketAddr),
    /// It said no.
    #[error("{detail}")]
    Refused {
        /// With this status.
        status: StatusCode,
        /// For this reason.
        detail: String,
    },
}

impl ClientError {
    fn refused(status: StatusCode, text: &[u8]) -> Self {
        let document: Option<Value> = serde_json::from_slice(text).ok();
        let detail = document.as_ref().and_then(|d| d.get("detail")?.as_str());
        Self::Refused {
            status,
            detail: detail.unwrap_or("the proxy said no").to_owned(),
        }
    }
}

/// A running proxy, and the right to ask it.
pub struct Client {
    beacon: Beacon,
    token: Token,
}

impl Client {
    /// The proxy that owns a state directory.
    ///
    /// # Errors
    /// When there is none, or its token cannot be read.
    pub fn beside(state_dir: &Path) -> Result<Self, ClientError> {
        let beacon = Beacon::seen(state_dir)
            .ok_or_else(|| ClientError::NoBeacon(state_dir.display().to_string()))?;
        let token = Token::read(state_dir)?;
        Ok(Self { beacon, token })
    }

    /// What it says about itself.
    #[must_use]
    pub fn beacon(&self) -> &Beacon {
        &self.beacon
    }

    /// Asks. `path` follows `/api/v1/`.
    ///
    /// # Errors
    /// When it does not answer, or says no.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Value, ClientError> {
        let patience = match path {
            "reconcile" => LONG_PATIENCE,
            _ => PATIENCE,
        };
        self.ask_within(patience, method, path, body).await
    }

    async fn ask_within(
        &self,
        patience: Duration,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Value, ClientError> {
        let at = here(self.beacon.admin);
        let lost = |why: String| ClientError::Connection(at, why);
        let asked = timeout(patience, self.exchange(method, path, body));
        let (status, text) = asked
            .await
            .map_err(|_| ClientError::Silent(at))?
            .map_err(lost)?;
        let document: Value =
            serde_json::from_slice(&text).map_err(|_| lost("the answer is not JSON".into()))?;
        match status.is_success() {
            true => Ok(document),
            false => Err(ClientError::refused(status, &text)),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<(StatusCode, Bytes), String> {
        let at = here(self.beacon.admin);
        let bearer = self
            .token
            .bearer()
            .ok_or("the token is not a header value")?;
        let text = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1/{path}"))
            .header(HOST, at.to_string())
            .header(AUTHORIZATION, bearer)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(text)))
            .map_err(|e| e.to_string())?;
        send(at, request).await
    }
}

/// May the proxy that owns a state directory pay right now?
pub const READY: &str = "/readyz";

/// Does it run and forward?
pub const ALIVE: &str = "/healthz";

/// Asks it what a probe asks; needs no token.
///
/// # Errors
/// When there is none, it does not answer, or it says why not.
pub async fn probe(state_dir: &Path, what: &str) -> Result<(), ClientError> {
    let beacon = Beacon::seen(state_dir)
        .ok_or_else(|| ClientError::NoProxy(state_dir.display().to_string()))?;
    let at = here(beacon.admin);
    let request = Request::builder()
        .uri(what)
        .header(HOST, at.to_string())
        .body(Full::default());
    let lost = |why: String| ClientError::Connection(at, why);
    let request = request.map_err(|e| lost(e.to_string()))?;
    let asked = timeout(PATIENCE, send(at, request)).await;
    let (status, text) = asked
        .map_err(|_| lost("no answer in time".into()))?
        .map_err(lost)?;
    match status.is_success() {
        true => Ok(()),
        false => Err(ClientError::refused(status, &text)),
    }
}

async fn send(
    at: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), String> {
    let stream = TcpStream::connect(at).await.map_err(|e| e.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let talk = async {
        let answer = sender
            .send_request(request)
            .await
            .map_err(|e| e.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        Ok((status, body.map_err(|e| e.to_string())?.to_bytes()))
    };
    tokio::pin!(talk);
    // The connection drives the exchange; it ends first only when the other side hangs up.
    tokio::select! {
        answer = &mut talk => answer,
        ended = connection => match ended {
            Ok(()) => talk.await,
            Err(e) => Err(e.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::settings::Entrance;

    /// Whoever has the question may be doing what it asks, so it is not asked again.
    #[tokio::test]
    async fn a_proxy_that_says_nothing_is_told_from_one_that_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = |admin| Client {
            beacon: Beacon {
                pid: 1,
                proxy: Entrance::Plain(admin),
                admin,
                started: Timestamp::default(),
                passing: false,
            },
            token: Token::read_or_create(dir.path()).unwrap(),
        };
        let here = listener.local_addr().unwrap();
        let moment = Duration::from_millis(200);
        let silent = client(here);
        let silent = silent.ask_within(moment, Method::POST, "freezes", &Value::Null);
        assert!(matches!(silent.await, Err(ClientError::Silent(_))));
        drop(listener);
        let gone = client(here);
        let gone = gone.ask_within(PATIENCE, Method::POST, "freezes", &Value::Null);
        assert!(matches!(gone.await, Err(ClientError::Connection(..))));
    }
}
