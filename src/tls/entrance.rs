//! TLS to the proxy itself: who the proxy is to its agents, and which agents it lets in.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::authority::TlsError;
use super::crypto;
use super::trust::pair;
use super::upstream::crls;
use crate::settings::{EntranceTls, Tls};

/// The proxy's side of its own TLS. With `client_ca` a client shows a certificate that this authority
/// signed, in its time and on no list of `tls.crls`, or is not served.
///
/// # Errors
/// When a file cannot be read or holds nothing of use, the key is open to others, or the two do not
/// belong together.
pub fn entrance(settings: &EntranceTls, tls: &Tls) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(crypto::provider());
    let crypto = |e: rustls::Error| TlsError::Crypto(e.to_string());
    let shown = pair(&settings.cert_file, &settings.key_file, &provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(crypto)?;
    let clients = settings.client_ca.as_deref();
    let clients = clients.map(|path| clients_of(path, tls, &provider));
    let builder = match clients.transpose()? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(shown));
    // HTTP/2 to a proxy is extended CONNECT, which none of our agents' clients speak.
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    match settings.client_ca {
        // A ticket would stand for a certificate that has expired or was revoked since.
        Some(_) => {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        None => config.ticketer = Ticketer::new().map_err(crypto)?,
    }
    Ok(config)
}

fn clients_of(
    path: &Path,
    tls: &Tls,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let pem = fs::read(path).map_err(|e| TlsError::file(path, e))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|e| TlsError::unusable(path, e))?;
        let added = roots.add(certificate);
        added.map_err(|e| TlsError::unusable(path, e))?;
    }
    if roots.is_empty() {
        return Err(TlsError::unusable(path, "no PEM certificate in it"));
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .with_crls(crls(tls)?)
            .allow_unknown_revocation_status();
    verifier.build().map_err(|e| TlsError::unusable(path, e))
}
