//! Through a parent proxy: a tunnel by CONNECT for everything, also for plain http, so that what a
//! payment header says is between us and the merchant. The parent is sent names, and resolves them.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::target::Target;
use crate::settings::HostPattern;

/// Bytes of an answer to CONNECT; real ones stay under 1 KiB.
const HEAD_MAX: usize = 16 * 1024;

/// Header fields of it.
const FIELDS_MAX: usize = 64;

/// Names that mean something else to every resolver: this machine, this network (RFC 6761, 6762, 8375,
/// what clouds and clusters call their own, and what offices do, RFC 6762 appendix G). A parent would look them up in its own neighbourhood.
const LOCAL: &[&str] = &[
    "localhost",
    "local",
    "internal",
    "home.arpa",
    "localdomain",
    "svc",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "invalid",
];

/// A parent proxy, ready to be asked.
pub struct Parent {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// A whole `Proxy-Authorization` value, marked as a secret.
    pub credentials: Option<HeaderValue>,
    /// Hosts that are reached without it.
    pub no_proxy: Vec<HostPattern>,
}

/// Why there is no tunnel through the parent. None of it says anything about a payment, not even a 402
/// (threat H-15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ParentFailure {
    #[error("the parent proxy cannot be reached")]
    Unreachable,
    #[error("the parent proxy did not answer in time")]
    Timeout,
    #[error("the parent proxy wants other credentials (egress.upstream_proxy)")]
    Credentials,
    #[error("the parent proxy answered CONNECT with status {0}")]
    Refused(StatusCode),
    #[error("the parent proxy could not reach the host: status {0}")]
    Gateway(StatusCode),
    #[error("the parent proxy's answer to CONNECT is not HTTP")]
    Protocol,
    #[error("the way through the parent proxy leads back here (egress.upstream_proxy)")]
    Loop,
}

impl ParentFailure {
    /// Stable code of the 502 or 504 document.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Unreachable => "parent_unreachable",
            Self::Timeout => "parent_timeout",
            Self::Credentials => "parent_credentials",
            Self::Refused(_) => "parent_refused",
            Self::Gateway(_) => "parent_gateway",
            Self::Protocol => "parent_protocol_error",
            Self::Loop => "loop_detected",
        }
    }

    /// 504 for what took too long, 508 for a circle of proxies, else 502.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Timeout | Self::Gateway(StatusCode::GATEWAY_TIMEOUT) => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::Unreachable
            | Self::Credentials
            | Self::Refused(_)
            | Self::Gateway(_)
            | Self::Protocol => StatusCode::BAD_GATEWAY,
        }
    }

    /// The proxy error type (RFC 9209 section 2.3).
    pub(super) fn proxy_error(self) -> &'static str {
        match self {
            Self::Unreachable | Self::Credentials | Self::Refused(_) | Self::Gateway(_) => {
                "destination_unavailable"
            }
            Self::Timeout => "connection_timeout",
            Self::Protocol => "http_protocol_error",
            Self::Loop => "proxy_loop_detected",
        }
    }

    fn of(status: StatusCode) -> Result<(), Self> {
        match status {
            ok if ok.is_success() => Ok(()),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err(Self::Credentials),
            StatusCode::LOOP_DETECTED => Err(Self::Loop),
            StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(Self::Gateway(status)),
            other => Err(Self::Refused(other)),
        }
    }
}

impl Parent {
    /// Does a connection to this host go through it?
    pub(super) fn carries(&self, target: &Target) -> bool {
        let mut direct = self.no_proxy.iter();
        !direct.any(|p| p.matches(&target.host, target.port))
    }

    /// Where it is. It is the operator's, so any address will do.
    pub(super) async fn addresses(
        &self,
        patience: Duration,
    ) -> Result<Vec<SocketAddr>, ParentFailure> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port));
        let found = timeout(patience, found).await;
        let found = found.map_err(|_| ParentFailure::Timeout)?;
        Ok(found.map_err(|_| ParentFailure::Unreachable)?.collect())
    }

    /// What it is asked for a tunnel. `via`: the proxies that the request came through, we the last.
    pub(super) fn request(&self, target: &Target, via: &str) -> zeroize::Zeroizing<Vec<u8>> {
        let line = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nVia: {via}\r\n");
        let mut request = zeroize::Zeroizing::new(line.into_bytes());
        if let Some(credentials) = &self.credentials {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(credentials.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        request
    }
}

/// Asks for a tunnel on a connection to it.
pub(super) async fn tunnel(
    mut stream: TcpStream,
    request: &[u8],
    patience: Duration,
) -> Result<TcpStream, ParentFailure> {
    let asked = async {
        let unreachable = |_| ParentFailure::Unreachable;
        stream.write_all(request).await.map_err(unreachable)?;
        loop {
            let status = status(&head(&mut stream).await?)?;
            // What comes before the answer is none (RFC 9110 section 15.2).
            if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                return ParentFailure::of(status);
            }
        }
    };
    let answered = timeout(patience, asked).await;
    answered.map_err(|_| ParentFailure::Timeout)??;
    Ok(stream)
}

/// Could this name mean something of the parent's own neighbourhood?
pub(super) fn is_local(host: &str) -> bool {
    let under = |zone: &&str| {
        let above = host.strip_suffix(*zone);
        above.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    !host.contains('.') || LOCAL.iter().any(under)
}

/// Reads up to the empty line and not one byte further: the next ones are the host's.
async fn head(stream: &mut TcpStream) -> Result<Vec<u8>, ParentFailure> {
    const END: &[u8] = b"\r\n\r\n";
    let (mut head, mut peeked) = (vec![], [0; 512]);
    loop {
        let there = stream.peek(&mut peeked).await;
        let there = there.map_err(|_| ParentFailure::Unreachable)?;
        if there == 0 || head.len() > HEAD_MAX {
            return Err(ParentFailure::Protocol);
        }
        let before = head.len();
        head.extend_from_slice(peeked.get(..there).unwrap_or_default());
        let end = memchr::memmem::find(&head, END).map(|at| at + END.len());
        let taken = end.unwrap_or(head.len()).saturating_sub(before);
        let taken = peeked.get_mut(..taken).unwrap_or_default();
        let read = stream.read_exact(taken).await;
        read.map_err(|_| ParentFailure::Unreachable)?;
        if let Some(end) = end {
            head.truncate(end);
            return Ok(head);
        }
    }
}

fn status(head: &[u8]) -> Result<StatusCode, ParentFailure> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) | Err(_) => return Err(ParentFailure::Protocol),
    }
    let code = response
        .code
        .and_then(|code| StatusCode::from_u16(code).ok());
    code.ok_or(ParentFailure::Protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_neighbourhood_are_told_from_names_of_the_world() {
        for local in [
            "localhost",
            "x.localhost",
            "printer",
            "printer.local",
            "metadata.google.internal",
            "router.home.arpa",
            "kubernetes.default.svc",
            "wiki.corp",
        ] {
            assert!(is_local(local), "{local}");
        }
        for public in [
            "example.com",
            "notlocal.example",
            "mylocal.test",
            "internal.example",
        ] {
            assert!(!is_local(public), "{public}");
        }
    }

    #[tokio::test]
    async fn a_head_is_read_to_its_end_and_no_further() {
        use tokio::net::TcpListener;
        let whole = b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nbytes of the host";
        for cut in [1, 19, 23, 24, 25, 26, 30] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let at = listener.local_addr().unwrap();
            let (client, server) = tokio::join!(TcpStream::connect(at), listener.accept());
            let (mut client, (mut server, _)) = (client.unwrap(), server.unwrap());
            server.set_nodelay(true).unwrap();
            let write = async {
                server.write_all(&whole[..cut]).await.unwrap();
                tokio::task::yield_now().await;
                server.write_all(&whole[cut..]).await.unwrap();
                drop(server);
            };
            let read = async {
                let head = head(&mut client).await.unwrap();
                assert_eq!(status(&head), Ok(StatusCode::OK));
                let mut rest = vec![];
                client.read_to_end(&mut rest).await.unwrap();
                rest
            };
            let (rest, ()) = tokio::join!(read, write);
            assert_eq!(rest, b"bytes of the host", "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn what_a_parent_says_before_its_answer_is_no_answer() {
        use tokio::net::TcpListener;
        let hints = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
        let switching = Err(ParentFailure::Refused(StatusCode::SWITCHING_PROTOCOLS));
        for (said, told) in [
            (format!("{hints}HTTP/1.1 200 OK\r\n\r\n"), Ok(())),
            (
                format!("{hints}HTTP/1.1 407 Who\r\n\r\n"),
                Err(ParentFailure::Credentials),
            ),
            ("HTTP/1.1 101 Other\r\n\r\n".into(), switching),
            (hints.into(), Err(ParentFailure::Protocol)),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let at = listener.local_addr().unwrap();
            let (client, server) = tokio::join!(TcpStream::connect(at), listener.accept());
            let (client, (mut server, _)) = (client.unwrap(), server.unwrap());
            server.write_all(said.as_bytes()).await.unwrap();
            server.shutdown().await.unwrap();
            let tunnel = tunnel(client, b"CONNECT", Duration::from_secs(20)).await;
            assert_eq!(tunnel.map(drop), told, "{said}");
        }
    }
}
