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

/// Signed by an authority of our own, for these names and no others; made anew before it ends. A client
/// that says no name, as the probes of a kubelet, is shown the first one's.
#[derive(Debug)]
struct Minted {
    leaves: Leaves,
    names: Vec<Arc<str>>,
}

impl ResolvesServerCert for Minted {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = match hello.server_name() {
            Some(asked) => self.names.iter().find(|n| n.eq_ignore_ascii_case(asked)),
            None => self.names.first(),
        };
        self.leaves.leaf(name?).ok()
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

    /// With certificates that `authority` signs for `names`. Clients that say no name get the first.
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

#[cfg(test)]
mod tests {
    use rustls::{ClientConfig, ClientConnection, ServerConnection};
    use rustls_pki_types::{CertificateDer, ServerName};

    use super::super::insecure::Anyone;
    use super::*;

    const NAMES: [&str; 2] = ["injector.sys.svc", "injector.sys.svc.cluster.local"];

    /// The certificate that a client is shown which believes everybody, as a kubelet does.
    fn shown(serving: &Serving, asked: &str) -> Result<CertificateDer<'static>, rustls::Error> {
        let provider = Arc::new(crypto::provider());
        let anyone = Anyone::new(&provider);
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(anyone)
            .with_no_client_auth();
        let name = ServerName::try_from(asked.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(serving.config()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut sent = vec![];
            client.write_tls(&mut sent).unwrap();
            server.read_tls(&mut &sent[..]).unwrap();
            server.process_new_packets()?;
            let mut sent = vec![];
            server.write_tls(&mut sent).unwrap();
            client.read_tls(&mut &sent[..]).unwrap();
            client.process_new_packets()?;
        }
        Ok(client.peer_certificates().unwrap()[0].clone())
    }

    #[test]
    fn who_says_no_name_gets_the_first_and_strangers_get_none() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path()).unwrap();
        let names = NAMES.map(Arc::from).to_vec();
        let serving = Serving::signed_by(Arc::new(authority), names).unwrap();
        let is_for = |certificate: &CertificateDer<'_>, name: &str| {
            let leaf = webpki::EndEntityCert::try_from(certificate).unwrap();
            let name = ServerName::try_from(name).unwrap();
            leaf.verify_is_valid_for_subject_name(&name).is_ok()
        };
        // No SNI has room for an address: a kubelet connects to the pod's.
        for (asked, name) in [
            ("10.1.2.3", NAMES[0]),
            ("fd00::1", NAMES[0]),
            (NAMES[0], NAMES[0]),
            (NAMES[1], NAMES[1]),
        ] {
            let certificate = shown(&serving, asked).unwrap();
            for other in NAMES {
                assert_eq!(is_for(&certificate, other), other == name, "{asked}");
            }
        }
        for foreign in ["evil.example", "other.injector.sys.svc", "injector"] {
            assert!(shown(&serving, foreign).is_err(), "{foreign}");
        }
    }
}
