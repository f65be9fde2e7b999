//! The program that knows nothing about payments: plain HTTPS through a proxy, with one more
//! trusted root.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The longest answer to CONNECT, in bytes.
const CONNECT_MAX: usize = 8 * 1024;

/// The longest body that is read, in bytes.
const BODY_MAX: usize = 1024 * 1024;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The connection, or TLS on it.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The root certificate is no PEM, or not one that can be trusted.
    #[error("the root certificate is unusable: {0}")]
    Root(String),
    /// The proxy would not open a tunnel.
    #[error("the proxy opened no tunnel: {0}")]
    Tunnel(String),
    /// The host is no name.
    #[error("{0}")]
    Name(#[from] InvalidDnsNameError),
    /// HTTP itself.
    #[error("HTTP failed: {0}")]
    Http(#[from] hyper::Error),
    /// The body broke off or was too long.
    #[error("the body could not be read: {0}")]
    Body(String),
}

/// A proxy address and a root certificate: all that it was ever told.
pub struct Agent {
    proxy: SocketAddr,
    tls: TlsConnector,
}

impl Agent {
    /// An agent that trusts this one root, given as PEM.
    ///
    /// # Errors
    /// [`AgentError::Root`].
    pub fn new(proxy: SocketAddr, root_pem: &str) -> Result<Self, AgentError> {
        let root = CertificateDer::from_pem_slice(root_pem.as_bytes())
            .map_err(|e| AgentError::Root(e.to_string()))?;
        let mut roots = RootCertStore::empty();
        let unusable = |e: rustls::Error| AgentError::Root(e.to_string());
        roots.add(root).map_err(unusable)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            proxy,
            tls: TlsConnector::from(Arc::new(tls)),
        })
    }

    /// One request to port 443 of `host`, on a connection of its own.
    ///
    /// # Errors
    /// When no answer came. A refusal is an answer.
    pub async fn send(
        &self,
        host: &str,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, AgentError> {
        let mut socket = TcpStream::connect(self.proxy).await?;
        let connect = format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n");
        socket.write_all(connect.as_bytes()).await?;
        tunnelled(&mut socket).await?;
        self.exchange(socket, host, request).await
    }

    /// TLS and one HTTP/1.1 exchange on an open connection.
    pub(super) async fn exchange(
        &self,
        socket: TcpStream,
        host: &str,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, AgentError> {
        let name = ServerName::try_from(host.to_owned())?;
        let stream = self.tls.connect(name, socket).await?;
        if let Ok(host) = header::HeaderValue::from_str(host) {
            request.headers_mut().insert(header::HOST, host);
        }
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let answer = async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            drop(sender);
            let body = Limited::new(body, BODY_MAX).collect().await;
            let body = body
                .map_err(|e| AgentError::Body(e.to_string()))?
                .to_bytes();
            Ok(Response::from_parts(head, body))
        };
        // The connection must be driven while the answer is awaited; how it ends afterwards is its own affair.
        let (answer, _) = tokio::join!(answer, connection);
        answer
    }
}

/// Reads the proxy's answer to CONNECT, byte for byte, so that nothing of the tunnel is swallowed.
async fn tunnelled(socket: &mut TcpStream) -> Result<(), AgentError> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= CONNECT_MAX {
            return Err(AgentError::Tunnel("its answer is endless".into()));
        }
        head.push(socket.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head);
    let line = text.lines().next().unwrap_or_default();
    if line.split(' ').nth(1) == Some("200") {
        Ok(())
    } else {
        Err(AgentError::Tunnel(line.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::merchant::Merchant;
    use crate::tls::Authority;

    #[tokio::test]
    async fn a_stranger_root_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let merchant = Merchant::start(dir.path(), &["weather.example"]);
        let merchant = merchant.await.unwrap();
        let other = Authority::open_or_create(&dir.path().join("other")).unwrap();
        let agent = Agent::new(merchant.address(), other.certificate_pem()).unwrap();
        let socket = TcpStream::connect(merchant.address()).await.unwrap();
        let request = Request::new(Full::default());
        let failed = agent.exchange(socket, "weather.example", request).await;
        assert!(matches!(failed, Err(AgentError::Io(_))));
    }
}
