//! Who an upstream must be, and who we are to it: decided per host, and part of every connection's key.

use std::path::Path;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::authority::TlsError;
use crate::settings::{ClientCertificate, HostPattern, Tls};
use crate::wallet::secret_file;

/// How one host is met. Two hosts with different values share no connection and no ticket (threat
/// T-14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trust {
    verified: bool,
    /// Number of our certificate on the operator's list.
    certificate: Option<usize>,
}

impl Trust {
    /// Is it certain who answers? Nothing is paid where it is not (threat T-02).
    #[must_use]
    pub fn verified(self) -> bool {
        self.verified
    }

    pub(super) fn certificate(self) -> Option<usize> {
        self.certificate
    }
}

/// The operator's exceptions.
pub(super) struct Hosts {
    insecure: Vec<HostPattern>,
    certificates: Vec<(Vec<HostPattern>, Arc<SingleCertAndKey>)>,
}

impl Hosts {
    /// Opens the certificates and their keys.
    pub(super) fn open(settings: &Tls, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let open = |c: &ClientCertificate| {
            let shown = pair(&c.cert_file, &c.key_file, provider)?;
            Ok((c.hosts.clone(), Arc::new(shown)))
        };
        let certificates: Result<_, TlsError> =
            settings.client_certificates.iter().map(open).collect();
        Ok(Self {
            insecure: settings.insecure_hosts.clone(),
            certificates: certificates?,
        })
    }

    /// The first certificate that lists a host is the one.
    pub(super) fn trust(&self, host: &str, port: u16) -> Trust {
        let listed = |hosts: &[HostPattern]| hosts.iter().any(|h| h.matches(host, port));
        Trust {
            verified: !listed(&self.insecure),
            certificate: self
                .certificates
                .iter()
                .position(|(hosts, _)| listed(hosts)),
        }
    }

    /// What a host with this trust is shown when it asks.
    pub(super) fn shown(&self, trust: Trust) -> Option<Arc<dyn ResolvesClientCert>> {
        let (_, credential) = self.certificates.get(trust.certificate()?)?;
        Some(Arc::clone(credential) as Arc<dyn ResolvesClientCert>)
    }
}

/// A chain and its key, out of files, for everybody who asks.
pub(super) fn pair(
    path: &Path,
    key_file: &Path,
    provider: &CryptoProvider,
) -> Result<SingleCertAndKey, TlsError> {
    certified(path, key_file, provider).map(SingleCertAndKey::from)
}

/// A chain and its key, out of files. The key only when nobody else can read it.
pub(super) fn certified(
    path: &Path,
    key_file: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let pem = std::fs::read(path).map_err(|e| TlsError::file(path, e))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|e| TlsError::unusable(path, e))?;
    if chain.is_empty() {
        return Err(TlsError::unusable(path, "no PEM certificate in it"));
    }
    let secret = secret_file::read(key_file)?;
    let key = PrivateKeyDer::from_pem_slice(&secret)
        .map_err(|_| TlsError::unusable(key_file, "no PEM private key in it"))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::unusable(key_file, "this key does not belong to cert_file")
        }
        other => TlsError::unusable(key_file, other),
    })
}
