//! An agent that opens tunnels and leaves everything in them to the case.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::origin::provider;
use super::wire::{Log, Wire};

#[derive(Clone)]
pub(crate) struct Agent {
    proxy: SocketAddr,
    config: Arc<ClientConfig>,
}

impl Agent {
    pub(crate) fn new(proxy: SocketAddr, ca: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            proxy,
            config: Arc::new(config),
        }
    }

    /// A bare connection to the proxy.
    pub(crate) async fn plain(&self) -> Wire {
        let socket = TcpStream::connect(self.proxy).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Wire::new(socket, Log::default())
    }

    /// A tunnel, and nothing in it yet.
    pub(crate) async fn tunnel(&self, to: &str) -> Wire {
        let mut wire = self.plain().await;
        let head = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
        wire.write(head.as_bytes()).await.unwrap();
        let answer = wire.head().await.unwrap();
        assert_eq!(answer.status(), 200, "{to}: {answer:?}");
        wire
    }

    /// TLS to port 443 of `host` through a tunnel; HTTP/1.1 without `alpn`.
    pub(crate) async fn tls(&self, host: &str, alpn: &[&str]) -> Wire {
        let tunnel = self.tunnel(&format!("{host}:443")).await;
        let tls = self.handshake(tunnel, host, alpn).await.unwrap();
        Wire::new(tls, Log::default())
    }

    /// TLS to the address itself: no proxy between.
    pub(crate) async fn direct(&self, host: &str) -> Wire {
        let wire = self.plain().await;
        let tls = self.handshake(wire, host, &["http/1.1"]).await.unwrap();
        Wire::new(tls, Log::default())
    }

    pub(crate) async fn handshake(
        &self,
        tunnel: Wire,
        host: &str,
        alpn: &[&str],
    ) -> std::io::Result<tokio_rustls::client::TlsStream<Box<dyn super::wire::Duplex>>> {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, tunnel.io)
            .await
    }
}
