//! A merchant for `*.wire.test`: TLS and plain, and every byte of every connection is kept.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::message::Message;
use super::wire::{Log, Wire};

pub(crate) struct Origin {
    pub(crate) tls: SocketAddr,
    pub(crate) plain: SocketAddr,
    /// The CA to trust.
    pub(crate) root: PathBuf,
    connections: Arc<Mutex<Vec<Log>>>,
    _dir: tempfile::TempDir,
}

/// What happens to a connection after an answer.
pub(crate) enum Then {
    Keep,
    Close,
    /// Stays open and says nothing more.
    Hang,
}

impl Origin {
    /// Speaks `alpn` over TLS, and gives every connection with its number to `serve`.
    pub(crate) async fn start<F>(
        alpn: &[&str],
        serve: impl Fn(Wire, usize) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("origin-ca.pem");
        let (config, pem) = credentials(alpn);
        std::fs::write(&root, pem).unwrap();
        let connections = Arc::new(Mutex::new(vec![]));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listen = |acceptor: Option<TlsAcceptor>| {
            accept(acceptor, Arc::clone(&connections), serve.clone())
        };
        let tls = listen(Some(acceptor)).await;
        let plain = listen(None).await;
        Self {
            tls,
            plain,
            root,
            connections,
            _dir: dir,
        }
    }

    /// Speaks HTTP/1.1 and answers as `script` says.
    pub(crate) async fn scripted(
        script: impl Fn(&Message) -> (Vec<u8>, Then) + Send + Sync + 'static,
    ) -> Self {
        let script = Arc::new(script);
        Self::start(&["http/1.1"], move |mut wire, _| {
            let script = Arc::clone(&script);
            async move {
                while let Some(message) = wire.request().await {
                    let (bytes, then) = script(&message);
                    if wire.write(&bytes).await.is_err() {
                        return;
                    }
                    match then {
                        Then::Keep => {}
                        Then::Close => return wire.finish().await,
                        Then::Hang => {
                            wire.rest().await;
                            return;
                        }
                    }
                }
            }
        })
        .await
    }

    /// Everything that came, connection by connection.
    pub(crate) fn heard(&self) -> Vec<Vec<u8>> {
        let connections = self.connections.lock().unwrap();
        connections
            .iter()
            .map(|c| c.lock().unwrap().clone())
            .collect()
    }
}

async fn accept<F>(
    acceptor: Option<TlsAcceptor>,
    connections: Arc<Mutex<Vec<Log>>>,
    serve: impl Fn(Wire, usize) -> F + Clone + Send + Sync + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            socket.set_nodelay(true).unwrap();
            let (acceptor, connections, serve) =
                (acceptor.clone(), Arc::clone(&connections), serve.clone());
            tokio::spawn(async move {
                let log = Log::default();
                let wire = match acceptor {
                    Some(acceptor) => match acceptor.accept(socket).await {
                        Ok(tls) => Wire::new(tls, Arc::clone(&log)),
                        Err(_) => return,
                    },
                    None => Wire::new(socket, Arc::clone(&log)),
                };
                let number = {
                    let mut connections = connections.lock().unwrap();
                    connections.push(log);
                    connections.len() - 1
                };
                serve(wire, number).await;
            });
        }
    });
    address
}

pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// One leaf for every name, and the CA that signed it.
fn credentials(alpn: &[&str]) -> (rustls::ServerConfig, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let names = ["*.wire.test", "127.0.0.1", "::1", "2001:db8::1"];
    let params = CertificateParams::new(names.map(str::to_owned).to_vec()).unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap();
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], der)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    (config, pem)
}

/// A whole HTTP/1.1 answer.
pub(crate) fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}
