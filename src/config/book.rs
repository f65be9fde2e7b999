//! From `ledger:` and `state_dir:` to the book.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use secrecy::SecretString;

use super::Config;
use crate::ledger::{Database, Ledger, OpenError, Opening, Reader};
use crate::settings::Postgres;
use crate::tls;
use crate::wallet::secret_file;

impl Config {
    /// The ledger, for a proxy: a database that cannot be reached may come later.
    ///
    /// # Errors
    /// [`OpenError`]; nothing may be paid then.
    pub fn open_ledger(&self) -> Result<Arc<dyn Ledger>, OpenError> {
        let mut opening = self.opening()?;
        if let Some(database) = &mut opening.database {
            database.later = true;
        }
        opening.open()
    }

    /// The ledger for reading, also while others post.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::Missing`] when there is none yet.
    pub fn read_ledger(&self) -> Result<Arc<dyn Reader>, OpenError> {
        self.opening()?.read()
    }

    /// What the ledger is opened with. Reads the files that `ledger:` names.
    ///
    /// # Errors
    /// [`OpenError::Settings`] when one of them is of no use.
    pub fn opening(&self) -> Result<Opening, OpenError> {
        Ok(Opening {
            state_dir: self.state_dir.clone(),
            database: self.ledger.as_ref().map(database).transpose()?,
        })
    }
}

fn database(settings: &Postgres) -> Result<Database, OpenError> {
    let file = settings.url_file.clone();
    let again = move || match secret_file::read_text(&file) {
        Ok(text) => Ok(SecretString::from(text.trim())),
        Err(error) => Err(error.to_string()),
    };
    Ok(Database {
        url: again().map_err(OpenError::Settings)?,
        roots: Arc::new(roots(settings)?),
        file: settings.url_file.clone(),
        again: Some(Arc::new(again)),
        pooler: settings.pooler,
        look_every: settings.look_every,
        later: false,
    })
}

fn roots(settings: &Postgres) -> Result<RootCertStore, OpenError> {
    let mut roots = RootCertStore::empty();
    let Some(file) = &settings.ca_file else {
        let platform = tls::platform_roots().into_iter().map(CertificateDer::from);
        roots.add_parsable_certificates(platform);
        return Ok(roots);
    };
    let unusable = |problem: String| OpenError::Settings(format!("{}: {problem}", file.display()));
    let pem = std::fs::read(file).map_err(|e| unusable(e.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|e| unusable(e.to_string()))?;
    let (added, _) = roots.add_parsable_certificates(certificates);
    match added {
        0 => Err(unusable("no PEM certificate in it".into())),
        _ => Ok(roots),
    }
}
