//! `ledger:`: where the book is, when it is not in the state directory.

use core::time::Duration;
use std::path::{Path, PathBuf};

use super::{Span, path};
use crate::section::{Section, SectionError};

/// A PostgreSQL database that several proxies share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postgres {
    /// Holds the URL, with the password in it.
    pub url_file: PathBuf,
    /// PEM file of the roots that may vouch for the server; the system's without it.
    pub ca_file: Option<PathBuf>,
    /// Is it reached through a pooler in transaction mode?
    pub pooler: bool,
    /// How often what other proxies did is looked for, from 1 s to 60 s.
    pub look_every: Duration,
}

const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_EVERY_MAX: Duration = Duration::from_secs(60);

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
        let pooler = postgres.or("pooler", false, Section::flag)?;
        let look_every = postgres.or("look_every", LOOK_EVERY, look_every)?;
        postgres.finish()?;
        section.finish()?;
        Ok(Some(Self {
            url_file,
            ca_file,
            pooler,
            look_every,
        }))
    }
}

fn look_every(section: Section) -> Result<Duration, SectionError> {
    let Span(span) = section.clone().parse()?;
    match (LOOK_EVERY..=LOOK_EVERY_MAX).contains(&span) {
        true => Ok(span),
        false => Err(section.error("must be from 1s to 60s")),
    }
}
