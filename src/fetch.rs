//! Asking the operator's own services over HTTP: one request, one answer, everything bounded. No
//! redirects, no proxies of the environment, no cookies, no compression.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

mod h2;
mod own;
mod target;

use own::Own;
use target::{Target, dial};
pub use target::{percent_decoded, user_and_password};

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
        Self::of_own(roots, Arc::default())
    }

    /// The same for signers and nodes: a server that shows one of the `named` certificates is believed also
    /// when that is marked as an authority's, as those are that some nodes make for themselves.
    ///
    /// # Errors
    /// [`FetchError::Crypto`].
    pub fn of_own(
        roots: Arc<RootCertStore>,
        named: Arc<[CertificateDer<'static>]>,
    ) -> Result<Self, FetchError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| FetchError::Crypto(e.to_string()))?;
        let config = match named.is_empty() {
            true => config.with_root_certificates(roots),
            false => config
                .dangerous()
                .with_custom_certificate_verifier(Own::new(roots, named, provider)?),
        };
        let mut config = config.with_no_client_auth();
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
        let bounds = (until, most);
        let stream = target.reached(end, dial(&target, end)).await?;
        let request = target.aim(request);
        if !target.secure {
            let asked = exchange(stream, request, &target, bounds);
            return target.answered(end, asked).await;
        }
        let stream = target.reached(end, target.shake(&self.tls, stream)).await?;
        let asked = exchange(stream, request, &target, bounds);
        target.answered(end, asked).await
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
