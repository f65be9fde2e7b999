//! Who a server of our own is, when its certificate is replaced while it runs.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::authority::{Authority, TlsError};
use super::crypto;
use super::leaf::Leaves;
use super::trust::certified;

/// A certificate that is looked up with every handshake.
pub struct Serving {
    config: Arc<ServerConfig>,
    files: Option<Files>,
}

/// Out of files, which somebody else renews: cert-manager, for one.
struct Files {
    chain: PathBuf,
    key: PathBuf,
    current: Arc<Current>,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
struct Current(Mutex<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }
}

/// Signed by an authority of our own, for these names and no others; made anew before it ends.
#[derive(Debug)]
struct Minted {
    leaves: Leaves,
    names: Vec<Arc<str>>,
}

impl ResolvesServerCert for Minted {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name()?;
        let name = self.names.iter().find(|n| n.eq_ignore_ascii_case(asked))?;
        self.leaves.leaf(name).ok()
    }
}

impl Serving {
    /// With a chain and its key out of files.
    ///
    /// # Errors
    /// When a file cannot be read or used, or others can read the key.
    pub fn files(chain: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let provider = Arc::new(crypto::provider());
        let pair = certified(&chain, &key, &provider)?;
        let current = Arc::new(Current(Mutex::new(Arc::new(pair))));
        Ok(Self {
            config: config(&provider, Arc::clone(&current) as Arc<_>)?,
            files: Some(Files {
                chain,
                key,
                current,
                provider,
            }),
        })
    }

    /// With certificates that `authority` signs for `names`.
    ///
    /// # Errors
    /// When the TLS library cannot make keys.
    pub fn signed_by(authority: Arc<Authority>, names: Vec<Arc<str>>) -> Result<Self, TlsError> {
        let provider = Arc::new(crypto::provider());
        let leaves = Leaves::new(authority, names.len())?;
        let minted = Arc::new(Minted { leaves, names });
        Ok(Self {
            config: config(&provider, minted)?,
            files: None,
        })
    }

    /// For a TLS acceptor.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Reads the files again. What cannot be used leaves the certificate as it was. Says whether there is
    /// a new one.
    ///
    /// # Errors
    /// As [`Serving::files`].
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let Some(files) = &self.files else {
            return Ok(false);
        };
        let new = certified(&files.chain, &files.key, &files.provider)?;
        let current = files.current.0.lock();
        let mut current = current.unwrap_or_else(PoisonError::into_inner);
        let changed = current.cert != new.cert;
        if changed {
            *current = Arc::new(new);
        }
        Ok(changed)
    }
}

fn config(
    provider: &Arc<CryptoProvider>,
    resolver: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Crypto(e.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
