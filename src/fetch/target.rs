//! Where a request goes, and how its host is reached.

use std::io;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue, USER_AGENT};
use http::uri::{Authority, Scheme};
use http::{Request, Uri};
use http_body_util::Full;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{AGENT, FetchError};
use crate::settings::port;

/// Where a request goes.
pub(super) struct Target {
    pub(super) secure: bool,
    /// Without brackets.
    host: String,
    port: u16,
    /// As the `Host` field has it: without user and password.
    pub(super) authority: String,
    /// Ready for an `Authorization` field.
    basic: Option<HeaderValue>,
}

impl Target {
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let secure = match uri.scheme()? {
            s if *s == Scheme::HTTPS => true,
            s if *s == Scheme::HTTP => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        let host = authority.host().trim_matches(['[', ']']);
        if host.is_empty() {
            return None;
        }
        let port = port(authority, if secure { 443 } else { 80 })?;
        let (_, plain) = authority
            .as_str()
            .rsplit_once('@')
            .unwrap_or(("", authority.as_str()));
        Some(Self {
            secure,
            host: host.to_owned(),
            port,
            authority: plain.to_owned(),
            basic: basic(authority)?,
        })
    }

    /// For messages.
    pub(super) fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The other side of a connection proves who it is.
    pub(super) async fn shake(
        &self,
        tls: &TlsConnector,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, FetchError> {
        let name = ServerName::try_from(self.host.clone()).map_err(|_| FetchError::Url)?;
        let stream = tls.connect(name, stream).await;
        stream.map_err(|e| self.unreached(&e))
    }

    /// A step before the request begins to leave: late is as if nobody were there.
    pub(super) async fn reached<T>(
        &self,
        end: Instant,
        step: impl Future<Output = Result<T, FetchError>>,
    ) -> Result<T, FetchError> {
        let late = |_| Err(self.unreached(&io::ErrorKind::TimedOut.into()));
        timeout_at(end, step).await.unwrap_or_else(late)
    }

    /// The exchange itself: what is late may have arrived.
    pub(super) async fn answered<T>(
        &self,
        end: Instant,
        exchange: impl Future<Output = Result<T, FetchError>>,
    ) -> Result<T, FetchError> {
        let late = |_| Err(FetchError::Late { host: self.name() });
        timeout_at(end, exchange).await.unwrap_or_else(late)
    }

    fn unreached(&self, error: &io::Error) -> FetchError {
        FetchError::Connection {
            host: self.name(),
            problem: error.to_string(),
        }
    }

    pub(super) fn broken(&self, error: &impl ToString) -> FetchError {
        FetchError::Answer {
            host: self.name(),
            problem: error.to_string(),
        }
    }

    /// The request as it goes over the wire, with the path alone in its first line.
    pub(super) fn aim(&self, request: Request<Bytes>) -> Request<Full<Bytes>> {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |p| p.as_str());
        head.uri = path.parse().unwrap_or_default();
        if let Ok(host) = HeaderValue::from_str(&self.authority) {
            head.headers.insert(HOST, host);
        }
        head.headers
            .insert(CONNECTION, HeaderValue::from_static("close"));
        let agent = HeaderValue::from_static(AGENT);
        head.headers.entry(USER_AGENT).or_insert(agent);
        if let Some(basic) = &self.basic {
            head.headers
                .entry(AUTHORIZATION)
                .or_insert_with(|| basic.clone());
        }
        Request::from_parts(head, Full::new(body))
    }
}

/// The first address that answers. Each gets its share of what time is left, so that a silent one
/// does not eat the others' time.
pub(super) async fn dial(target: &Target, end: Instant) -> Result<TcpStream, FetchError> {
    let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
    let addresses: Vec<SocketAddr> = found.map_err(|e| target.unreached(&e))?.collect();
    let mut last = io::Error::other("the name has no address");
    for (tried, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len().saturating_sub(tried)).unwrap_or(u32::MAX);
        let now = Instant::now();
        let share = end.saturating_duration_since(now) / left.max(1);
        match timeout_at(now + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Best effort: a request is one write anyway.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::from(io::ErrorKind::TimedOut),
        }
    }
    Err(target.unreached(&last))
}

/// User and password of a URL, percent-decoded (RFC 3986, section 2.1), with a colon between them.
/// `None`: they cannot be read.
#[must_use]
pub fn user_and_password(text: &str) -> Option<zeroize::Zeroizing<Vec<u8>>> {
    let mut plain = percent_decoded(text)?;
    if !plain.contains(&b':') {
        plain.push(b':');
    }
    Some(plain)
}

/// What a percent-encoded text says (RFC 3986, section 2.1). `None`: it is not encoded so.
#[must_use]
pub fn percent_decoded(text: &str) -> Option<zeroize::Zeroizing<Vec<u8>>> {
    // Room for the colon of a user without a password, too: a secret is not copied to grow.
    let mut plain = zeroize::Zeroizing::new(Vec::with_capacity(text.len() + 1));
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        plain.push(match byte {
            b'%' => {
                let mut out = [0];
                hex::decode_to_slice([rest.next()?, rest.next()?], &mut out).ok()?;
                out[0]
            }
            byte => byte,
        });
    }
    Some(plain)
}

/// The field for them. The outer `None`: they cannot be read.
fn basic(authority: &Authority) -> Option<Option<HeaderValue>> {
    let Some((credentials, _)) = authority.as_str().rsplit_once('@') else {
        return Some(None);
    };
    let plain = user_and_password(credentials)?;
    let text = zeroize::Zeroizing::new(format!("Basic {}", STANDARD.encode(&*plain)));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(Some(value))
}
