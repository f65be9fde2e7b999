//! The merchant's side of TLS: strict verification against the platform's roots and the operator's
//! extra roots. There is no switch to turn it off.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_rustls::TlsConnector;

use super::authority::{Authority, TlsError};

/// Tickets kept per session and protocol: as many hosts as an agent returns to.
const TICKETS: usize = 256;

/// Sessions whose tickets are remembered. A forgotten one only costs full handshakes.
const SESSIONS: usize = 256;

/// Connectors to upstreams. Each session has its own ticket store, so that no session can be
/// recognised by, or ride on, another's connection (threat T-14).
pub struct UpstreamTls {
    base: ClientConfig,
    roots: Arc<RootCertStore>,
    sessions: Mutex<HashMap<Arc<str>, Connectors>>,
}

/// The two connectors of a session: one offers HTTP/1.1 alone, one HTTP/2 first.
#[derive(Clone)]
struct Connectors {
    h1: TlsConnector,
    h2: TlsConnector,
}

impl UpstreamTls {
    /// Trusts the platform's roots and `extra_roots` (PEM files). The local authority is left out
    /// even when the platform trusts it: a stolen CA key must not impersonate upstreams (threat T-07).
    ///
    /// # Errors
    /// When an extra root cannot be read or holds no certificate, or nothing is trusted at all.
    pub fn new(extra_roots: &[PathBuf], own: Option<&Authority>) -> Result<Self, TlsError> {
        let own = own.map(Authority::certificate_der);
        let mut roots = RootCertStore::empty();
        for root in rustls_native_certs::load_native_certs().certs {
            if own != Some(&root) {
                // A platform root that does not parse could verify nothing anyway.
                let _ = roots.add(root);
            }
        }
        for path in extra_roots {
            add_file(&mut roots, path, own)?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let base = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError::Crypto(e.to_string()))?
            .with_root_certificates(Arc::clone(&roots))
            .with_no_client_auth();
        Ok(Self {
            base,
            roots,
            sessions: Mutex::default(),
        })
    }

    /// Whom upstreams are believed by, for other clients of this process.
    #[must_use]
    pub fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.roots)
    }

    /// The connector for one connection of `session`; `h2` offers HTTP/2 first.
    #[must_use]
    pub fn connector(&self, session: &Arc<str>, h2: bool) -> TlsConnector {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= SESSIONS && !sessions.contains_key(session) {
            sessions.clear();
        }
        let made = sessions
            .entry(Arc::clone(session))
            .or_insert_with(|| self.connectors());
        if h2 { made.h2.clone() } else { made.h1.clone() }
    }

    fn connectors(&self) -> Connectors {
        let with = |protocols: &[&[u8]]| {
            let mut config = self.base.clone();
            config.resumption = Resumption::in_memory_sessions(TICKETS);
            config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
            TlsConnector::from(Arc::new(config))
        };
        Connectors {
            h1: with(&[b"http/1.1"]),
            h2: with(&[b"h2", b"http/1.1"]),
        }
    }
}

fn add_file(
    roots: &mut RootCertStore,
    path: &PathBuf,
    own: Option<&CertificateDer<'_>>,
) -> Result<(), TlsError> {
    let pem = fs::read(path).map_err(|e| TlsError::file(path, e))?;
    let mut found = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|e| TlsError::unusable(path, e))?;
        if own == Some(&certificate) {
            return Err(TlsError::unusable(
                path,
                "this is Farepass's own CA; it must not vouch for upstreams",
            ));
        }
        roots
            .add(certificate)
            .map_err(|e| TlsError::unusable(path, e))?;
        found += 1;
    }
    if found == 0 {
        return Err(TlsError::unusable(path, "no PEM certificate in it"));
    }
    Ok(())
}

/// What was wrong with an upstream's certificate, as far as an agent needs to tell cases apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyFailure {
    /// It is for another name.
    Name,
    /// Past its end.
    Expired,
    /// Before its start.
    NotYetValid,
    /// No trusted root signed it.
    UnknownRoot,
    /// Revoked.
    Revoked,
    /// Not for servers.
    Purpose,
    /// A bad or unsupported signature, a broken encoding, an unknown critical extension.
    Invalid,
}

impl VerifyFailure {
    /// The stable code: `certificate_name`, `certificate_expired`, …
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Name => "certificate_name",
            Self::Expired => "certificate_expired",
            Self::NotYetValid => "certificate_not_yet_valid",
            Self::UnknownRoot => "certificate_unknown_root",
            Self::Revoked => "certificate_revoked",
            Self::Purpose => "certificate_purpose",
            Self::Invalid => "certificate_invalid",
        }
    }
}

/// Was this handshake error about the certificate, and what about it?
#[must_use]
pub fn verify_failure(error: &std::io::Error) -> Option<VerifyFailure> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::InvalidCertificate(problem) = inner else {
        return matches!(inner, rustls::Error::NoCertificatesPresented)
            .then_some(VerifyFailure::Invalid);
    };
    Some(match problem {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            VerifyFailure::Name
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            VerifyFailure::Expired
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            VerifyFailure::NotYetValid
        }
        CertificateError::UnknownIssuer => VerifyFailure::UnknownRoot,
        CertificateError::Revoked => VerifyFailure::Revoked,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            VerifyFailure::Purpose
        }
        _ => VerifyFailure::Invalid,
    })
}
