//! What the programs of this comparison share: certificates and time.

use std::path::Path;
use std::time::SystemTime;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

/// Whatever went wrong; these programs only say it.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The certificates in a PEM file.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    Ok(CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?)
}

/// Roots out of PEM files.
pub fn roots<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    for path in paths {
        for certificate in certificates(path)? {
            roots.add(certificate)?;
        }
    }
    Ok(roots)
}

/// Nanoseconds by the clock that all processes of a machine share.
pub fn nanos() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX))
}
