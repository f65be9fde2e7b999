//! What is wrong with an upstream's certificate, in words that stay the same.

use rustls::{AlertDescription, CertificateError, Error};

/// What was wrong with an upstream's certificate, as far as an agent needs to tell cases apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyFailure {
    /// It is for another name.
    Name,
    /// Past its end, or one of its issuers is.
    Expired,
    /// Before its start.
    NotYetValid,
    /// No trusted root signed it.
    UnknownRoot,
    /// Revoked.
    Revoked,
    /// A revocation list of its issuer cannot be relied on.
    Revocation,
    /// Not for servers.
    Purpose,
    /// Whoever signed it may not: no authority, too far from one, or not for this name.
    Constraints,
    /// A wrong signature, or one that is too weak to mean anything.
    Signature,
    /// A critical extension that nobody here understands.
    Extension,
    /// No certificate, or one that cannot be read.
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
            Self::Revocation => "certificate_revocation_unknown",
            Self::Purpose => "certificate_purpose",
            Self::Constraints => "certificate_constraints",
            Self::Signature => "certificate_signature",
            Self::Extension => "certificate_extension",
            Self::Invalid => "certificate_invalid",
        }
    }

    /// A plain sentence for the agent. Nothing in it comes from the certificate.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Name => "the certificate is for another name",
            Self::Expired => "the certificate, or one of its issuers, has expired",
            Self::NotYetValid => "the certificate is not valid yet, or the clock is wrong",
            Self::UnknownRoot => "no trusted authority signed the certificate",
            Self::Revoked => "the certificate was revoked",
            Self::Revocation => "the revocation list of its issuer cannot be relied on",
            Self::Purpose => {
                "the certificate is not for servers: it may be an authority's own, as many self-signed ones are"
            }
            Self::Constraints => "whoever signed the certificate may not sign it",
            Self::Signature => "a signature of the certificate is wrong or too weak",
            Self::Extension => "the certificate demands something that is not understood",
            Self::Invalid => "there is no certificate, or it cannot be read",
        }
    }
}

/// Was this handshake error about the certificate, and what about it?
#[must_use]
pub fn verify_failure(error: &std::io::Error) -> Option<VerifyFailure> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidCertificate(problem) => Some(verdict(problem)),
        Error::InvalidCertRevocationList(_) => Some(VerifyFailure::Revocation),
        Error::NoCertificatesPresented => Some(VerifyFailure::Invalid),
        // Not ours to list in full: everything else is about the handshake.
        _ => None,
    }
}

/// Did the handshake fail because the peer speaks none of the protocols that were offered?
#[must_use]
pub fn no_common_protocol(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
    let alert = Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    inner == Some(&alert) || inner == Some(&Error::NoApplicationProtocol)
}

fn verdict(problem: &CertificateError) -> VerifyFailure {
    match problem {
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
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => VerifyFailure::Revocation,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            VerifyFailure::Purpose
        }
        CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            VerifyFailure::Signature
        }
        CertificateError::UnhandledCriticalExtension => VerifyFailure::Extension,
        CertificateError::Other(other) => other
            .0
            .downcast_ref::<webpki::Error>()
            .map_or(VerifyFailure::Invalid, path),
        _ => VerifyFailure::Invalid,
    }
}

/// What the path from a root to the certificate breaks.
fn path(problem: &webpki::Error) -> VerifyFailure {
    use webpki::Error as E;
    match problem {
        E::EndEntityUsedAsCa
        | E::NameConstraintViolation
        | E::MalformedNameConstraint
        | E::InvalidNetworkMaskConstraint
        | E::PathLenConstraintViolated
        | E::MaximumPathDepthExceeded
        | E::MaximumPathBuildCallsExceeded
        | E::MaximumNameConstraintComparisonsExceeded => VerifyFailure::Constraints,
        E::MaximumSignatureChecksExceeded | E::SignatureAlgorithmMismatch => {
            VerifyFailure::Signature
        }
        E::UnsupportedCriticalExtension => VerifyFailure::Extension,
        // Self-signed by `openssl req -x509`, most of all.
        E::EmptyEkuExtension | E::CaUsedAsEndEntity => VerifyFailure::Purpose,
        _ => VerifyFailure::Invalid,
    }
}
