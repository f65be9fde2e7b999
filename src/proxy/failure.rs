//! Why an upstream gave no response, told apart as far as an agent or operator needs.

use std::error::Error as _;
use std::io;

use http::StatusCode;

use super::parent::ParentFailure;
use crate::tls::VerifyFailure;

/// Why there is no response. Each has a stable code, an HTTP status and an RFC 9209 error type.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    #[error("the host name does not resolve")]
    Dns,
    #[error("resolving the host name took too long")]
    DnsTimeout,
    #[error("the port is not on the list of allowed ports")]
    PortForbidden,
    #[error("the address is private, local or reserved, and not on the list of allowed addresses")]
    Forbidden,
    #[error("the connection was not established in time")]
    ConnectTimeout,
    #[error("the connection failed")]
    Connect(io::Error),
    #[error(transparent)]
    Parent(#[from] ParentFailure),
    #[error("the TLS handshake took too long")]
    HandshakeTimeout,
    #[error("{}", .0.sentence())]
    Certificate(VerifyFailure),
    #[error("the TLS handshake failed")]
    Tls,
    #[error("the host does not speak HTTP/1.1")]
    NotH1,
    #[error("no response head came in time")]
    FirstByteTimeout,
    #[error("the connection ended without a response")]
    Closed,
    /// RFC 9113 section 8.7: it may be sent again, whatever it asks.
    #[error("the host refused the request without a look at it")]
    Refused,
    /// RFC 9113 section 7: it is to be asked by HTTP/1.1.
    #[error("the host answers this request by HTTP/1.1 only")]
    NotH2,
    #[error("the response is not HTTP")]
    Protocol,
    #[error("interim responses came without end")]
    Interim,
    #[error("the request's body broke off or is not what its head says")]
    RequestBody,
}

impl UpstreamError {
    /// Stable code of the 502 or 504 document.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Dns | Self::DnsTimeout => "dns_error",
            Self::PortForbidden => "port_not_allowed",
            Self::Forbidden => "address_not_allowed",
            Self::ConnectTimeout => "connect_timeout",
            Self::Connect(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                "connection_refused"
            }
            Self::Connect(_) => "connection_failed",
            Self::Parent(failure) => failure.code(),
            Self::HandshakeTimeout => "tls_timeout",
            Self::Certificate(failure) => failure.code(),
            Self::Tls | Self::NotH1 => "tls_error",
            Self::FirstByteTimeout => "response_timeout",
            Self::Closed | Self::Refused | Self::NotH2 => "connection_terminated",
            Self::Protocol | Self::Interim => "protocol_error",
            Self::RequestBody => "request_body_broken",
        }
    }

    /// 403 for what our own rules forbid, 400 for what the agent broke, 504 for what took too long,
    /// 508 for a circle of proxies, else 502.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::PortForbidden | Self::Forbidden => StatusCode::FORBIDDEN,
            Self::RequestBody => StatusCode::BAD_REQUEST,
            Self::DnsTimeout
            | Self::ConnectTimeout
            | Self::HandshakeTimeout
            | Self::FirstByteTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Parent(failure) => failure.status(),
            Self::Dns
            | Self::Connect(_)
            | Self::Certificate(_)
            | Self::Tls
            | Self::NotH1
            | Self::Closed
            | Self::Refused
            | Self::NotH2
            | Self::Protocol
            | Self::Interim => StatusCode::BAD_GATEWAY,
        }
    }

    /// The proxy error type (RFC 9209 section 2.3).
    pub(super) fn proxy_error(&self) -> &'static str {
        match self {
            Self::Dns => "dns_error",
            Self::DnsTimeout => "dns_timeout",
            Self::PortForbidden => "http_request_denied",
            Self::Forbidden => "destination_ip_prohibited",
            Self::ConnectTimeout => "connection_timeout",
            Self::Connect(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                "connection_refused"
            }
            Self::Connect(_) => "destination_unavailable",
            Self::Parent(failure) => failure.proxy_error(),
            Self::HandshakeTimeout => "connection_timeout",
            Self::Certificate(_) => "tls_certificate_error",
            Self::Tls | Self::NotH1 => "tls_protocol_error",
            Self::FirstByteTimeout => "http_response_timeout",
            Self::Closed | Self::Refused | Self::NotH2 => "connection_terminated",
            Self::Protocol | Self::Interim => "http_protocol_error",
            Self::RequestBody => "http_request_error",
        }
    }
}

impl From<h2::Error> for UpstreamError {
    fn from(error: h2::Error) -> Self {
        // A stream below the last that the peer names ends with its own word, not with this one.
        let gone = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        match error.is_remote() {
            true if gone || refused => Self::Refused,
            true if error.reason() == Some(h2::Reason::HTTP_1_1_REQUIRED) => Self::NotH2,
            true | false => Self::Closed,
        }
    }
}

impl From<hyper::Error> for UpstreamError {
    fn from(error: hyper::Error) -> Self {
        if error.is_parse() {
            Self::Protocol
        } else if error.is_user() {
            Self::RequestBody
        } else if is_unwanted(&error) {
            Self::Interim
        } else {
            Self::Closed
        }
    }
}

/// Did we read no more (`ends::State::read_no_more`)?
fn is_unwanted(error: &hyper::Error) -> bool {
    let io = error.source().and_then(|e| e.downcast_ref::<io::Error>());
    io.is_some_and(|e| e.kind() == io::ErrorKind::InvalidData && e.get_ref().is_none())
}
