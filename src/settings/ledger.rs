//! `ledger:`: where the book is, when it is not in the state directory.

use std::path::{Path, PathBuf};

use super::path;
use crate::section::{Section, SectionError};

/// A PostgreSQL database that several proxies share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postgres {
    /// Holds the URL, with the password in it.
    pub url_file: PathBuf,
    /// PEM file of the roots that may vouch for the server; the system's without it.
    pub ca_file: Option<PathBuf>,
}

impl Postgres {
    /// Reads `ledger:`. `null` is as if it were not there.
    ///
    /// # Errors
    /// With the place of what cannot be read.
    pub fn read(mut section: Section, base: &Path) -> Result<Option<Self>, SectionError> {
        if section.is_nothing() {
            return Ok(None);
        }
        let mut postgres = section.need("postgres")?;
        let url_file = path(postgres.need("url_file")?, base)?;
        let ca_file = postgres.take("ca_file").map(|s| path(s, base));
        let ca_file = ca_file.transpose()?;
        postgres.finish()?;
        section.finish()?;
        Ok(Some(Self { url_file, ca_file }))
    }
}
