//! Certificates that a node made for itself and marked as those of an authority, as LND does. The usual rules
//! know no server that is its own authority. One that the operator named, byte for byte, is believed all the
//! same, for its own names and its own time; it vouches for itself and not for what else the rules refuse.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};

use super::FetchError;

/// The usual verifier, and what the operator named.
#[derive(Debug)]
pub(super) struct Own {
    usual: Arc<WebPkiServerVerifier>,
    named: Arc<[CertificateDer<'static>]>,
}

impl Own {
    /// # Errors
    /// [`FetchError::Crypto`].
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        named: Arc<[CertificateDer<'static>]>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<Self>, FetchError> {
        let usual = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        let usual = usual.map_err(|e| FetchError::Crypto(e.to_string()))?;
        Ok(Arc::new(Self { usual, named }))
    }
}

impl ServerCertVerifier for Own {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let usual = self
            .usual
            .verify_server_cert(certificate, intermediates, name, ocsp, now);
        match usual {
            Err(error) if is_authority(&error) && self.named.contains(certificate) => {
                alone(certificate, name, now)
            }
            usual => usual,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// Is it only refused for being an authority's?
fn is_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else {
        return false;
    };
    let problem = other.0.downcast_ref::<webpki::Error>();
    matches!(problem, Some(webpki::Error::CaUsedAsEndEntity))
}

/// What the usual rules ask of a certificate besides its issuer: its time, its purpose and its names.
fn alone(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, Error> {
    let read = X509Certificate::from_der(certificate);
    let (_, read) = read.map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).ok();
    let now = now.and_then(|secs| ASN1Time::from_timestamp(secs).ok());
    let now = now.ok_or(Error::FailedToGetCurrentTime)?;
    if now < read.validity().not_before {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > read.validity().not_after {
        return Err(CertificateError::Expired.into());
    }
    match read.extended_key_usage() {
        Ok(None) => {}
        Ok(Some(purposes)) if purposes.value.server_auth => {}
        Ok(Some(_)) => return Err(CertificateError::InvalidPurpose.into()),
        Err(_) => return Err(CertificateError::BadEncoding.into()),
    }
    verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
    Ok(ServerCertVerified::assertion())
}

#[cfg(test)]
mod tests;
