//! The agent's side of TLS: which certificate and which protocols answer a ClientHello.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::authority::{Authority, TlsError};
use super::crypto::provider;
use super::leaf::Leaves;

/// Why a ClientHello is not answered.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It names another host than the tunnel it came through (threat T-03).
    #[error("the ClientHello names another host than CONNECT did")]
    OtherName,
    /// No certificate for the name.
    #[error(transparent)]
    Leaf(#[from] TlsError),
}

/// Builds the server side of an intercepted connection.
pub struct Interceptor {
    leaves: Arc<Leaves>,
    /// `h2` and `http/1.1`: for clients that offer one of them, or nothing.
    modern: Arc<ServerConfig>,
    /// `http/1.0` only: for clients that offer nothing else (curl `--http1.0`).
    old: Arc<ServerConfig>,
}

/// Answers with the leaf of the name in the ClientHello, which was compared with CONNECT before.
#[derive(Debug)]
struct BySni(Arc<Leaves>);

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name: Arc<str> = normalised(hello.server_name()?).into();
        self.0.leaf(&name).ok()
    }
}

/// Answers with one leaf: for clients that name nobody (IP literals).
#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl Interceptor {
    /// With a leaf key and a ticket key of its own, and at most `leaves` certificates in memory.
    ///
    /// # Errors
    /// When the TLS library cannot make keys.
    pub fn new(authority: Arc<Authority>, leaves: usize) -> Result<Self, TlsError> {
        let leaves = Arc::new(Leaves::new(authority, leaves)?);
        let crypto = |e: rustls::Error| TlsError::Crypto(e.to_string());
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .map_err(crypto)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(BySni(Arc::clone(&leaves))));
        // Client and proxy are neighbours: what is cheapest for both is right for both.
        config.ignore_client_order = true;
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(crypto)?;
        // One ticket per handshake: agents open few connections at once.
        config.send_tls13_tickets = 1;
        let mut old = config.clone();
        old.alpn_protocols = vec![b"http/1.0".to_vec()];
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            leaves,
            modern: Arc::new(config),
            old: Arc::new(old),
        })
    }

    /// The configuration that answers this ClientHello in the tunnel to `host` (normalised).
    ///
    /// # Errors
    /// [`Refused`] when the names differ or no leaf can be made.
    pub fn answer(
        &self,
        host: &Arc<str>,
        hello: &ClientHello<'_>,
    ) -> Result<Arc<ServerConfig>, Refused> {
        let base = if only_http10(hello) {
            &self.old
        } else {
            &self.modern
        };
        match hello.server_name() {
            Some(name) if normalised(name) == **host => {
                self.leaves.leaf(host)?;
                Ok(Arc::clone(base))
            }
            Some(_) => Err(Refused::OtherName),
            None => {
                let mut config = ServerConfig::clone(base);
                config.cert_resolver = Arc::new(Fixed(self.leaves.leaf(host)?));
                Ok(Arc::new(config))
            }
        }
    }

    /// Leaves that were wanted so far: found in the cache, and made. For metrics.
    #[must_use]
    pub fn wanted_leaves(&self) -> (u64, u64) {
        self.leaves.wanted()
    }

    /// Leaves in the cache, for metrics.
    #[must_use]
    pub fn cached_leaves(&self) -> usize {
        self.leaves.cached()
    }
}

fn only_http10(hello: &ClientHello<'_>) -> bool {
    let Some(offered) = hello.alpn() else {
        return false;
    };
    let mut old = false;
    for protocol in offered {
        match protocol {
            b"h2" | b"http/1.1" => return false,
            b"http/1.0" => old = true,
            _ => {}
        }
    }
    old
}

fn normalised(name: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.to_ascii_lowercase()
}
