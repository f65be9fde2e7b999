//! The local certificate authority: made on first start, kept in two files, its key never shown.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use super::succession::{finish, retired};
use crate::wallet::secret_file::{self, SecretFileError};

/// One year: long enough to be forgotten about, short enough that a lost key dies (threat T-06).
const LIFETIME: Duration = Duration::days(365);

/// Clocks of agents may be a little behind.
const BACKDATED: Duration = Duration::hours(1);

/// In the subject of every authority of ours: what a person sees in a list of trusted roots.
pub(super) const ORGANISATION: &str = "Farepass: trust on this machine only";

/// What is wrong with the authority's files, or with a root to trust.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The key could be read by others.
    #[error("{path}: mode {mode:04o} lets others read the CA key; run: chmod 600 {path}")]
    Exposed {
        /// The key.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// One of the two files is missing.
    #[error(
        "{path} is missing beside its other half; restore it, or move both away to make a new CA"
    )]
    Half {
        /// The missing one.
        path: PathBuf,
    },
    /// Not a certificate, not a key, or not a pair.
    #[error("{path}: {problem}")]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Past its end.
    #[error(
        "{path}: the CA certificate expired on {at}; move both CA files away to make a new one"
    )]
    Expired {
        /// The certificate.
        path: PathBuf,
        /// Its end, a date.
        at: String,
    },
    /// A key of ours that cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretFileError),
    /// Key generation or the TLS library failed.
    #[error("{0}")]
    Crypto(String),
}

impl TlsError {
    pub(super) fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File {
            path: path.into(),
            source,
        }
    }

    pub(super) fn unusable(path: &Path, problem: impl ToString) -> Self {
        Self::Unusable {
            path: path.into(),
            problem: problem.to_string(),
        }
    }
}

/// A certificate authority of this installation. Signs leaves; its key leaves neither this value
/// nor its 0600 file.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    path: PathBuf,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl Authority {
    /// Opens `ca.pem` and `ca-key.pem` in `dir`, or makes them when neither is there. A rotation that was
    /// interrupted between the two is finished first.
    ///
    /// # Errors
    /// When a file cannot be used, or the key is readable by others.
    pub fn open_or_create(dir: &Path) -> Result<Self, TlsError> {
        finish(dir)?;
        let (certificate, key) = (dir.join("ca.pem"), dir.join("ca-key.pem"));
        match (certificate.exists(), key.exists()) {
            (false, false) => create(dir, &certificate, &key)?,
            (true, true) => {}
            (false, true) => return Err(TlsError::Half { path: certificate }),
            (true, false) => return Err(TlsError::Half { path: key }),
        }
        Self::open(&certificate, &key)
    }

    /// Opens an authority by its two files, PEM.
    ///
    /// # Errors
    /// When a file cannot be used, or the key is readable by others.
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let pem = fs::read_to_string(certificate).map_err(|e| TlsError::file(certificate, e))?;
        let pair = KeyPair::from_pem(&read_key(key)?).map_err(|e| TlsError::unusable(key, e))?;
        Self::assemble(pem, pair, certificate)
    }

    fn assemble(pem: String, pair: KeyPair, path: &Path) -> Result<Self, TlsError> {
        let unusable = |problem: &str| TlsError::unusable(path, problem);
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| unusable("not a PEM certificate"))?;
        let issued = facts(&der).ok_or_else(|| unusable("not an X.509 certificate"))?;
        if !issued.ca {
            return Err(unusable("not a CA certificate"));
        }
        if issued.public_key != rcgen::PublicKeyData::subject_public_key_info(&pair) {
            return Err(unusable("the CA key does not belong to this certificate"));
        }
        if issued.not_after <= OffsetDateTime::now_utc() {
            return Err(TlsError::Expired {
                path: path.into(),
                at: issued.not_after.date().to_string(),
            });
        }
        let issuer =
            Issuer::from_ca_cert_der(&der, pair).map_err(|e| TlsError::unusable(path, e))?;
        Ok(Self {
            issuer,
            certificate: der,
            pem,
            path: path.into(),
            not_before: issued.not_before,
            not_after: issued.not_after,
        })
    }

    /// The certificate, PEM. Never the key.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// The certificate, DER.
    #[must_use]
    pub fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Every certificate of this installation: the one in use, and those it replaced, which agents
    /// may still trust.
    ///
    /// # Errors
    /// When its folder cannot be read.
    pub fn all_certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let mut all = vec![self.certificate.clone()];
        let Some(dir) = self.path.parent() else {
            return Ok(all);
        };
        for (_, certificate) in retired(dir)? {
            all.push(certificate);
        }
        Ok(all)
    }

    /// The file that the certificate is in.
    #[must_use]
    pub fn certificate_path(&self) -> &Path {
        &self.path
    }

    /// SHA-256 of the certificate, hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.certificate);
        hex::encode(digest)
    }

    /// When the certificate begins. Later than now where the clock was ahead as it was made: it is believed by nobody
    /// until then, though it can be used.
    #[must_use]
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// When the certificate ends.
    #[must_use]
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }
}

struct Facts {
    ca: bool,
    public_key: Vec<u8>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

fn facts(der: &CertificateDer<'_>) -> Option<Facts> {
    use x509_parser::prelude::FromDer;
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(der).ok()?;
    Some(Facts {
        ca: parsed.is_ca(),
        public_key: parsed.public_key().raw.to_vec(),
        not_before: parsed.validity().not_before.to_datetime(),
        not_after: parsed.validity().not_after.to_datetime(),
    })
}

/// Are the two files a pair? Not when one is missing, or the certificate is none.
///
/// # Errors
/// When the key is there and cannot be read.
pub(super) fn is_pair(certificate: &Path, key: &Path) -> Result<bool, TlsError> {
    let pem = fs::read(certificate).unwrap_or_default();
    let known = CertificateDer::from_pem_slice(&pem).ok();
    let Some(known) = known.as_ref().and_then(facts).filter(|_| key.exists()) else {
        return Ok(false);
    };
    let pair = KeyPair::from_pem(&read_key(key)?).map_err(|e| TlsError::unusable(key, e))?;
    Ok(known.public_key == rcgen::PublicKeyData::subject_public_key_info(&pair))
}

fn read_key(key: &Path) -> Result<Zeroizing<String>, TlsError> {
    secret_file::read_text(key).map_err(|error| match error {
        SecretFileError::Exposed { path, mode } => TlsError::Exposed { path, mode },
        other => TlsError::Secret(other),
    })
}

/// A serial number nobody can guess: 16 random bytes, positive.
pub(super) fn serial() -> Result<SerialNumber, TlsError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| TlsError::Crypto(e.to_string()))?;
    bytes[0] &= 0x7f;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Makes both files, or neither.
pub(super) fn create(dir: &Path, certificate: &Path, key: &Path) -> Result<(), TlsError> {
    let crypto = |e: rcgen::Error| TlsError::Crypto(e.to_string());
    let serial = serial()?;
    let install = hex::encode(serial.to_bytes())
        .chars()
        .take(8)
        .collect::<String>();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, ORGANISATION);
    name.push(DnType::CommonName, format!("Farepass local CA {install}"));
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial);
    params.distinguished_name = name;
    params.not_before = now - BACKDATED;
    params.not_after = now + LIFETIME;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let pair = KeyPair::generate().map_err(crypto)?;
    let signed = params.self_signed(&pair).map_err(crypto)?;
    let private = Zeroizing::new(pair.serialize_pem());
    if !dir.exists() {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir);
        made.map_err(|e| TlsError::file(dir, e))?;
    }
    write_new(key, private.as_bytes(), 0o600)?;
    write_new(certificate, signed.pem().as_bytes(), 0o644).inspect_err(|_| {
        // Alone it would be half an authority, which nothing starts with.
        let _ = fs::remove_file(key);
    })
}

/// Never overwrites: two processes that start at once do not mix their halves.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TlsError> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    let mut file = file.map_err(|e| TlsError::file(path, e))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|e| {
        let _ = fs::remove_file(path);
        TlsError::file(path, e)
    })
}
