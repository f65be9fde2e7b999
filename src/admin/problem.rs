//! What the admin listener answers: JSON, and problem documents (RFC 9457) when it does not do it.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use http_body_util::{Either, Full};
use serde::Serialize;
use serde_json::json;

use super::feed::Stream;

/// An answer: in one piece, or a stream of events.
pub(super) type Answer = Response<Either<Full<Bytes>, Stream>>;

/// Why a request is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    /// Neither this machine's name nor an address: a page that plays with DNS.
    #[error(
        "the Host header must be an address or `localhost`: no other name is answered, so ask by address"
    )]
    Host,
    /// No token, or another.
    #[error("the bearer token of admin.token in the state directory is needed")]
    Token,
    /// Nothing at this path.
    #[error("there is nothing here")]
    NotFound,
    /// An id that names nothing.
    #[error("{0}")]
    Unknown(String),
    /// Another method would do.
    #[error("the method must be one of: {0}")]
    Method(String),
    /// Not what the path takes.
    #[error("{0}")]
    Request(String),
    /// It contradicts what is there.
    #[error("{0}")]
    Conflict(String),
    /// Too long.
    #[error("the body is too long")]
    TooLong,
    /// It cannot pay, or cannot say.
    #[error("{0}")]
    Unavailable(String),
}

impl Problem {
    fn status(&self) -> StatusCode {
        match self {
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::NotFound | Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Request(_) => StatusCode::BAD_REQUEST,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The whole answer.
    pub(super) fn answer(&self) -> Answer {
        let status = self.status();
        let document = json!({
            "type": "about:blank",
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": self.to_string(),
        });
        let mut answer = typed(status, "application/problem+json", document.to_string());
        let headers = answer.headers_mut();
        match self {
            Self::Token => {
                let bearer = HeaderValue::from_static("Bearer realm=\"farepass admin\"");
                headers.insert(WWW_AUTHENTICATE, bearer);
            }
            Self::Method(allowed) => {
                // Names of methods: always a header value.
                headers.extend(HeaderValue::from_str(allowed).map(|v| (ALLOW, v)));
            }
            Self::Host
            | Self::NotFound
            | Self::Unknown(_)
            | Self::Request(_)
            | Self::Conflict(_)
            | Self::TooLong
            | Self::Unavailable(_) => {}
        }
        answer
    }
}

/// Data.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_string(value) {
        Ok(text) => typed(status, "application/json", text + "\n"),
        Err(e) => Problem::Unavailable(e.to_string()).answer(),
    }
}

/// Text of a type.
pub(super) fn typed(status: StatusCode, kind: &'static str, text: String) -> Answer {
    let mut answer = whole(Either::Left(Full::new(Bytes::from(text))), kind);
    *answer.status_mut() = status;
    answer
}

fn whole(body: Either<Full<Bytes>, Stream>, kind: &'static str) -> Answer {
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    answer
}

/// A stream of events.
pub(super) fn stream(stream: Stream) -> Answer {
    whole(Either::Right(stream), "text/event-stream")
}
