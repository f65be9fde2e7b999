//! Asking the operator's own services over HTTP: one request, one answer, everything bounded. No
//! redirects, no proxies of the environment, no cookies, no compression.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue, USER_AGENT};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::settings::port;

mod h2;

/// Most bytes of an answer's head.
const HEAD_MAX: usize = 64 * 1024;

/// What services see of us.
const AGENT: &str = concat!("farepass/", env!("CARGO_PKG_VERSION"));

/// Why there is no answer. Names the host at most: credentials may be in every other part of a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// It cannot be asked at all.
    #[error("the URL is not http:// or https:// with a host")]
    Url,
    /// No certificate could be verified.
    #[error("TLS cannot be set up: {0}")]
    Crypto(String),
    /// Nobody there, or nobody who proves to be it.
    #[error("no connection to {host}: {problem}")]
    Connection {
        /// Whom it should have been.
        host: String,
        /// What the system or the handshake says.
        problem: String,
    },
    /// The exchange broke.
    #[error("no answer from {host}: {problem}")]
    Answer {
        /// Who was asked.
        host: String,
        /// What went wrong.
        problem: String,
    },
    /// More than was asked for.
    #[error("the answer of {host} is longer than {most} bytes")]
    TooLong {
        /// Who was asked.
        host: String,
        /// The bound.
        most: usize,
    },
    /// The deadline passed.
    #[error("no answer from {host} in time")]
    Late {
        /// Who was asked.
        host: String,
    },
}

impl FetchError {
    /// Is nobody there, or not in time?
    #[must_use]
    pub fn is_silence(&self) -> bool {
        match self {
            Self::Connection { .. } | Self::Late { .. } => true,
            Self::Url | Self::Crypto(_) | Self::Answer { .. } | Self::TooLong { .. } => false,
        }
    }
}

/// A client for services that the operator named. Cheap to clone.
#[derive(Clone)]
pub struct Fetch {
    tls: TlsConnector,
    h2: TlsConnector,
}

impl Fetch {
    /// A client that believes these roots.
    ///
    /// # Errors
    /// [`FetchError::Crypto`].
    pub fn new(roots: Arc<RootCertStore>) -> Result<Self, FetchError> {
        let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|e| FetchError::Crypto(e.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut h2 = config.clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        h2.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            h2: TlsConnector::from(Arc::new(h2)),
        })
    }

    /// Sends a request to the absolute `http` or `https` URL in it, and reads at most `most` bytes of
    /// body. Any status is an answer. A user and password of the URL become `Authorization: Basic`.
    ///
    /// # Errors
    /// [`FetchError`]; it may have arrived all the same, unless it is [`FetchError::Url`] or
    /// [`FetchError::Connection`].
    pub async fn send(
        &self,
        request: Request<Bytes>,
        deadline: Duration,
        most: usize,
    ) -> Result<Response<Bytes>, FetchError> {
        self.send_until(Until::End, request, deadline, most).await
    }

    /// The same for an answer whose body is a stream of lines that may go on for long: it is read up to the
    /// end of a line that says something, or to its own.
    ///
    /// # Errors
    /// Those of [`Fetch::send`].
    pub async fn send_for_line(
        &self,
        request: Request<Bytes>,
        deadline: Duration,
        most: usize,
    ) -> Result<Response<Bytes>, FetchError> {
        self.send_until(Until::Line, request, deadline, most).await
    }

    async fn send_until(
        &self,
        until: Until,
        request: Request<Bytes>,
        deadline: Duration,
        most: usize,
    ) -> Result<Response<Bytes>, FetchError> {
        let target = Target::of(request.uri()).ok_or(FetchError::Url)?;
        let end = Instant::now() + deadline;
        let late = || FetchError::Late {
            host: target.name(),
        };
        let asked = async {
            let stream = dial(&target, end).await?;
            let request = target.aim(request);
            if !target.secure {
                return exchange(stream, request, &target, (until, most)).await;
            }
            let name = ServerName::try_from(target.host.clone()).map_err(|_| FetchError::Url)?;
            let stream = self.tls.connect(name, stream).await;
            exchange(
                stream.map_err(|e| target.unreached(&e))?,
                request,
                &target,
                (until, most),
            )
            .await
        };
        timeout_at(end, asked).await.unwrap_or_else(|_| Err(late()))
    }
}

/// How much of a body is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// All of it.
    End,
    /// One line.
    Line,
}

/// Where a request goes.
struct Target {
    secure: bool,
    /// Without brackets.
    host: String,
    port: u16,
    /// As the `Host` field has it: without user and password.
    authority: String,
    /// Ready for an `Authorization` field.
    basic: Option<HeaderValue>,
}

impl Target {
    fn of(uri: &Uri) -> Option<Self> {
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
    fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn unreached(&self, error: &io::Error) -> FetchError {
        FetchError::Connection {
            host: self.name(),
            problem: error.to_string(),
        }
    }

    fn broken(&self, error: &impl ToString) -> FetchError {
        FetchError::Answer {
            host: self.name(),
            problem: error.to_string(),
        }
    }

    /// The request as it goes over the wire, with the path alone in its first line.
    fn aim(&self, request: Request<Bytes>) -> Request<Full<Bytes>> {
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

/// The first address that answers. Each gets its share of what time is left, so that a silent one
/// does not eat the others' time.
async fn dial(target: &Target, end: Instant) -> Result<TcpStream, FetchError> {
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

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    request: Request<Full<Bytes>>,
    target: &Target,
    bounds: (Until, usize),
) -> Result<Response<Bytes>, FetchError> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| target.broken(&e))?;
    let answer = sender.send_request(request);
    let (answer, _) = whole(answer, connection, target, bounds).await?;
    Ok(answer)
}

/// The answer that comes on a connection, with its body of at most so many bytes, and its trailers.
async fn whole(
    answer: impl Future<Output = hyper::Result<Response<Incoming>>>,
    connection: impl Future<Output = hyper::Result<()>>,
    target: &Target,
    (until, most): (Until, usize),
) -> Result<(Response<Bytes>, HeaderMap), FetchError> {
    let talk = async {
        let (head, body) = answer.await.map_err(|e| target.broken(&e))?.into_parts();
        match read(Limited::new(body, most), until).await {
            Ok((body, after)) => Ok((Response::from_parts(head, body), after)),
            Err(e) if e.is::<http_body_util::LengthLimitError>() => Err(FetchError::TooLong {
                host: target.name(),
                most,
            }),
            Err(e) => Err(target.broken(&e)),
        }
    };
    tokio::pin!(talk);
    // The connection drives the exchange; it ends first only when the other side hangs up. What is whole by
    // then is an answer, whatever became of the connection: many a server spares itself the farewell of TLS.
    tokio::select! {
        answer = &mut talk => answer,
        ended = connection => match ended {
            Ok(()) => talk.await,
            Err(e) => talk.await.map_err(|error| match error {
                FetchError::TooLong { .. } => error,
                FetchError::Url
                | FetchError::Crypto(_)
                | FetchError::Connection { .. }
                | FetchError::Answer { .. }
                | FetchError::Late { .. } => target.broken(&e),
            }),
        },
    }
}

type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// A body and its trailers, as far as they are waited for.
async fn read(mut body: Limited<Incoming>, until: Until) -> Result<(Bytes, HeaderMap), Trouble> {
    let (mut read, mut after) = (BytesMut::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => read.extend_from_slice(&data),
            Err(frame) => after = frame.into_trailers().unwrap_or_default(),
        }
        if until == Until::Line && read.trim_ascii_start().contains(&b'\n') {
            break;
        }
    }
    Ok((read.freeze(), after))
}

#[cfg(test)]
mod tests;
