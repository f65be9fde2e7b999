//! Everything the proxy says in its own words: refusals and gateway errors, as problem documents
//! (RFC 9457) with `Farepass-Decision` and `Proxy-Status` (RFC 9209). No merchant text in any of it.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;

use super::body::Body;
use super::failure::UpstreamError;
use super::parent::ParentFailure;
use super::target::NotTarget;
use crate::clock::Timestamp;
use crate::money::Usd;
use crate::payment::{PaymentId, Refusal};

const DECISION: HeaderName = HeaderName::from_static("farepass-decision");
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// The document of a refusal. Field names are part of the contract with agents.
#[derive(Serialize)]
struct Denied<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    reason: &'static str,
    rule: Option<&'a str>,
    price: Option<Usd>,
    limit: Option<Usd>,
    remaining: Option<Usd>,
    retryable: bool,
    resets_at: Option<Timestamp>,
    approve_url: Option<&'a str>,
    payment: Option<PaymentId>,
}

/// The document of an upstream or client error.
#[derive(Serialize)]
struct Failed<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment: Option<PaymentId>,
}

/// The answer to a request that was not paid, or was paid without an outcome that can be trusted.
pub(super) fn refused(refusal: &Refusal, status: StatusCode) -> Response<Body> {
    let code = refusal.reason.code();
    let document = Denied {
        r#type: format!("urn:farepass:denied:{}", code.replace('_', "-")),
        title: refusal.reason.title(),
        status: status.as_u16(),
        detail: &refusal.detail,
        reason: code,
        rule: refusal.rule.as_deref(),
        price: refusal.price,
        limit: refusal.limit,
        remaining: refusal.remaining,
        retryable: refusal.retryable,
        resets_at: refusal.resets_at,
        approve_url: refusal.approve_url.as_deref(),
        payment: refusal.payment,
    };
    let mut response = problem(status, &document);
    explain(response.headers_mut(), refusal);
    response
}

/// The two headers that explain a refusal, also beside a merchant's own 402.
pub(super) fn explain(headers: &mut HeaderMap, refusal: &Refusal) {
    let code = refusal.reason.code();
    let rule = refusal
        .rule
        .as_deref()
        .map_or_else(String::new, |r| format!("; rule={}", quoted(r)));
    insert(
        headers,
        DECISION,
        format!("denied; reason=\"{code}\"{rule}"),
    );
    let details = quoted(&refusal.detail);
    let status = format!("farepass; error=http_request_denied; details={details}");
    insert(headers, PROXY_STATUS, status);
}

/// The answer when there is no upstream response. Inside the tunnel, never on CONNECT.
pub(super) fn gateway(error: &UpstreamError) -> Response<Body> {
    let status = error.status();
    let detail = error.to_string();
    let document = Failed {
        r#type: format!("urn:farepass:upstream:{}", error.code().replace('_', "-")),
        title: "The merchant could not be reached",
        status: status.as_u16(),
        detail: &detail,
        reason: error.code(),
        payment: None,
    };
    let mut response = problem(status, &document);
    let kind = error.proxy_error();
    let text = format!("farepass; error={kind}; details={}", quoted(&detail));
    insert(response.headers_mut(), PROXY_STATUS, text);
    response
}

/// What an agent did wrong on the way to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ClientError {
    #[error(transparent)]
    Target(#[from] NotTarget),
    #[error("the Host or :authority names another host than the tunnel")]
    Misdirected,
    #[error("a request to the proxy itself needs an absolute URI of http or https, or CONNECT")]
    NotProxyForm,
    #[error(
        "use CONNECT: an https URI is taken only where nobody else reads it (loopback, a Unix socket, TLS to the proxy)"
    )]
    Exposed,
    #[error("use CONNECT: this host passes unopened (tls.passthrough)")]
    Unopened,
    #[error("user information in a URI is not accepted")]
    UserInfo,
    #[error("the proxy credentials are missing or wrong")]
    Credentials,
    #[error("TRACE is not forwarded, and CONNECT not inside a tunnel")]
    Method,
    #[error("a tunnel has a connection of its own: CONNECT comes first on it, so open a new one")]
    NotFirst,
    #[error("a request names its host in exactly one Host field")]
    Host,
    #[error("the request target has a form that does not fit its method or its tunnel")]
    Form,
    #[error(
        "the end of the request is in doubt: it has a length and a transfer coding, or another coding than `chunked`"
    )]
    Framing,
    #[error("too many tunnels are open (limits.tunnels)")]
    Crowded,
    #[error("the request came through this proxy before")]
    Loop,
    #[error("the ledger cannot be asked whose request it is")]
    Ledger,
}

impl ClientError {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Target(_)
            | Self::NotProxyForm
            | Self::Exposed
            | Self::Unopened
            | Self::UserInfo
            | Self::Host
            | Self::Form
            | Self::Framing => StatusCode::BAD_REQUEST,
            Self::Crowded | Self::Ledger => StatusCode::SERVICE_UNAVAILABLE,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Credentials => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            Self::Method | Self::NotFirst => StatusCode::METHOD_NOT_ALLOWED,
            Self::Loop => StatusCode::LOOP_DETECTED,
        }
    }

    /// Was the request itself wrong, rather than where it was sent or by whom?
    pub(super) fn doubtful(self) -> bool {
        matches!(
            self.status(),
            StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED
        )
    }

    fn code(self) -> &'static str {
        match self {
            Self::Target(_) => "destination_invalid",
            Self::Misdirected => "misdirected_request",
            Self::NotProxyForm => "not_a_proxy_request",
            Self::Exposed | Self::Unopened => "connect_required",
            Self::UserInfo => "user_information",
            Self::Credentials => "proxy_authentication_required",
            Self::Method | Self::NotFirst => "method_not_forwarded",
            Self::Host => "host_field_invalid",
            Self::Form => "request_target_invalid",
            Self::Framing => "framing_invalid",
            Self::Crowded => "too_many_tunnels",
            Self::Loop => "loop_detected",
            Self::Ledger => "ledger_unavailable",
        }
    }

    /// The document, for requests that can be answered as HTTP.
    pub(super) fn response(self) -> Response<Body> {
        let status = self.status();
        let detail = self.to_string();
        // A circle is nothing that the client did wrong: it is told as the ones that are seen further on.
        let circle = self == Self::Loop;
        let whose = if circle { "upstream" } else { "client" };
        let document = Failed {
            r#type: format!("urn:farepass:{whose}:{}", self.code().replace('_', "-")),
            title: status.canonical_reason().unwrap_or("Bad request"),
            status: status.as_u16(),
            detail: &detail,
            reason: self.code(),
            payment: None,
        };
        let mut response = problem(status, &document);
        if circle {
            let kind = ParentFailure::Loop.proxy_error();
            let text = format!("farepass; error={kind}; details={}", quoted(&detail));
            insert(response.headers_mut(), PROXY_STATUS, text);
        }
        if self == Self::Credentials {
            response.headers_mut().insert(
                header::PROXY_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"farepass\", charset=\"UTF-8\""),
            );
        }
        response
    }
}

/// The answer when a task of ours ended without one. What it may have signed is in the ledger.
pub(super) fn stopped() -> Response<Body> {
    let refusal = Refusal::new(
        crate::payment::Reason::OutcomeUnknown,
        "the proxy stopped in the middle of this request",
    );
    refused(&refusal, StatusCode::INTERNAL_SERVER_ERROR)
}

fn problem<T: Serialize>(status: StatusCode, document: &T) -> Response<Body> {
    // The documents above hold nothing that serde_json could refuse.
    let text = serde_json::to_vec(document).unwrap_or_default();
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, PROBLEM);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn insert(headers: &mut HeaderMap, name: HeaderName, text: String) {
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(name, value);
    }
}

/// A structured-field string (RFC 9651 section 3.3.3): printable ASCII, quotes escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' => out.push(c),
            _ => out.push('?'),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payment::Reason;

    fn document(response: Response<Body>) -> serde_json::Value {
        let Body::Full(Some(bytes)) = response.into_body() else {
            panic!("a body of our own");
        };
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn a_circle_is_told_as_one_wherever_it_is_seen() {
        let seen_here = ClientError::Loop.response();
        let further_on = gateway(&ParentFailure::Loop.into());
        for response in [seen_here, further_on] {
            assert_eq!(response.status(), StatusCode::LOOP_DETECTED);
            let said = response.headers()[PROXY_STATUS].to_str().unwrap();
            let kind = "farepass; error=proxy_loop_detected; details=\"";
            assert!(said.starts_with(kind), "{said}");
            let document = document(response);
            assert_eq!(document["type"], "urn:farepass:upstream:loop-detected");
            assert_eq!(document["reason"], "loop_detected");
        }
        let wrong = ClientError::Method.response();
        assert!(!wrong.headers().contains_key(PROXY_STATUS));
        let wrong = document(wrong);
        assert_eq!(wrong["type"], "urn:farepass:client:method-not-forwarded");
    }

    #[test]
    fn a_refusal_explains_itself_in_headers_and_body() {
        let refusal = Refusal {
            rule: Some("say \"cheese\"\r\n".into()),
            price: Some(Usd(60_000_000)),
            ..Refusal::new(Reason::OverRequestCap, "0.06 USD is more than 0.05 USD")
        };
        let response = refused(&refusal, StatusCode::PAYMENT_REQUIRED);
        assert_eq!(
            response.headers()[DECISION],
            r#"denied; reason="over_request_cap"; rule="say \"cheese\"??""#
        );
        assert_eq!(
            response.headers()[PROXY_STATUS],
            r#"farepass; error=http_request_denied; details="0.06 USD is more than 0.05 USD""#
        );
        let document = document(response);
        assert_eq!(document["type"], "urn:farepass:denied:over-request-cap");
        assert_eq!(document["reason"], "over_request_cap");
        assert_eq!(document["price"], "0.06 USD");
        assert_eq!(document["retryable"], false);
        assert!(document["approve_url"].is_null());
    }
}
