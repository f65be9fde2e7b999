//! The merchant's side of TLS: strict verification against the platform's roots and the operator's
//! extra roots. Only a host's own line in the file switches it off, for that host.

use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use tokio_rustls::TlsConnector;

use super::authority::{Authority, TlsError};
use super::crypto;
use super::describe::is_farepass;
use super::insecure::Anyone;
use super::trust::{Hosts, Trust};
use crate::settings::Tls;

/// Tickets kept per connector: as many hosts as an agent returns to.
const TICKETS: usize = 256;

/// Connectors whose tickets are remembered. A forgotten one only costs full handshakes.
const CONNECTORS: NonZeroUsize = match NonZeroUsize::new(512) {
    Some(n) => n,
    None => NonZeroUsize::MIN,
};

/// Connectors to upstreams. No two sessions, ports or kinds of trust share a ticket store, so that no
/// session can be recognised by, or ride on, another's connection (threat T-14). Within a store
/// tickets are kept by host name.
pub struct UpstreamTls {
    strict: ClientConfig,
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    named: Arc<[CertificateDer<'static>]>,
    hosts: Hosts,
    connectors: Mutex<LruCache<Way, TlsConnector>>,
}

/// Whose tickets.
#[derive(PartialEq, Eq, Hash)]
struct Way {
    session: Arc<str>,
    port: u16,
    trust: Trust,
    h2: bool,
}

impl UpstreamTls {
    /// Trusts the platform's roots and the operator's. Farepass authorities are left out even when
    /// the platform trusts them: a stolen CA key must not impersonate upstreams (threat T-07).
    ///
    /// # Errors
    /// When a file cannot be read or holds nothing of use, or a key is open to others.
    pub fn new(settings: &Tls, own: Option<&Authority>) -> Result<Self, TlsError> {
        let provider = Arc::new(crypto::provider());
        let (roots, named) = roots(settings, own)?;
        let roots = Arc::new(roots);
        let crypto = |e: &dyn std::fmt::Display| TlsError::Crypto(e.to_string());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| crypto(&e))?;
        let strict = match crls(settings)? {
            lists if lists.is_empty() => config.with_root_certificates(Arc::clone(&roots)),
            // A list says who was revoked; of issuers without a list nothing is known, as always. One
            // that is past its time still tells the truth about those on it.
            lists => {
                let builder = WebPkiServerVerifier::builder_with_provider(
                    Arc::clone(&roots),
                    Arc::clone(&provider),
                );
                let verifier = builder.with_crls(lists).allow_unknown_revocation_status();
                config.with_webpki_verifier(verifier.build().map_err(|e| crypto(&e))?)
            }
        };
        Ok(Self {
            strict: strict.with_no_client_auth(),
            hosts: Hosts::open(settings, &provider)?,
            provider,
            roots,
            named: named.into(),
            connectors: Mutex::new(LruCache::new(CONNECTORS)),
        })
    }

    /// Whom upstreams are believed by, for other clients of this process.
    #[must_use]
    pub fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.roots)
    }

    /// The roots of the operator alone, as they were written.
    #[must_use]
    pub fn named(&self) -> Arc<[CertificateDer<'static>]> {
        Arc::clone(&self.named)
    }

    /// How this host is met.
    #[must_use]
    pub fn trust(&self, host: &str, port: u16) -> Trust {
        self.hosts.trust(host, port)
    }

    /// The connector for one connection of `session`; `h2` offers HTTP/2 first.
    #[must_use]
    pub fn connector(&self, session: &Arc<str>, port: u16, trust: Trust, h2: bool) -> TlsConnector {
        let way = Way {
            session: Arc::clone(session),
            port,
            trust,
            h2,
        };
        let mut connectors = self
            .connectors
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let made = connectors.get_or_insert(way, || self.connect_as(trust, h2));
        made.clone()
    }

    fn connect_as(&self, trust: Trust, h2: bool) -> TlsConnector {
        let mut config = self.strict.clone();
        if let Some(certificate) = self.hosts.shown(trust) {
            config.client_auth_cert_resolver = certificate;
        }
        if !trust.verified() {
            let anyone = Anyone::new(&self.provider);
            config.dangerous().set_certificate_verifier(anyone);
        }
        config.resumption = Resumption::in_memory_sessions(TICKETS);
        config.alpn_protocols = match h2 {
            true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            false => vec![b"http/1.1".to_vec()],
        };
        TlsConnector::from(Arc::new(config))
    }
}

/// All roots, and again those of the operator.
fn roots(
    settings: &Tls,
    own: Option<&Authority>,
) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsError> {
    let mut roots = RootCertStore::empty();
    for root in rustls_native_certs::load_native_certs().certs {
        if !is_farepass(&root) {
            // A platform root that does not parse could verify nothing anyway.
            let _ = roots.add(root);
        }
    }
    let ours = own.map(Authority::all_certificates).transpose()?;
    let ours = ours.unwrap_or_default();
    let mut named = vec![];
    for path in &settings.extra_roots {
        for certificate in file(path, &ours)? {
            let added = roots.add(certificate.clone());
            added.map_err(|e| TlsError::unusable(path, e))?;
            named.push(certificate);
        }
    }
    Ok((roots, named))
}

/// The certificates in a file, at least one.
fn file(
    path: &PathBuf,
    ours: &[CertificateDer<'static>],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = fs::read(path).map_err(|e| TlsError::file(path, e))?;
    let mut found = vec![];
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|e| TlsError::unusable(path, e))?;
        if ours.contains(&certificate) {
            return Err(TlsError::unusable(
                path,
                "this is Farepass's own CA; it must not vouch for upstreams",
            ));
        }
        found.push(certificate);
    }
    if found.is_empty() {
        return Err(TlsError::unusable(path, "no PEM certificate in it"));
    }
    Ok(found)
}

/// The revocation lists of the operator.
pub(super) fn crls(settings: &Tls) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let mut all = vec![];
    for path in &settings.crls {
        let pem = fs::read(path).map_err(|e| TlsError::file(path, e))?;
        let before = all.len();
        for list in CertificateRevocationListDer::pem_slice_iter(&pem) {
            let list = list.map_err(|e| TlsError::unusable(path, e))?;
            if let Some(at) = super::describe::stale(&list) {
                tracing::warn!(file = %path.display(), since = %at, "this revocation list is past its time; newer revocations are missed");
            }
            all.push(list);
        }
        if all.len() == before {
            return Err(TlsError::unusable(
                path,
                "no PEM revocation list (X509 CRL) in it",
            ));
        }
    }
    Ok(all)
}
