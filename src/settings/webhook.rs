//! `webhook:`: where notices are sent, and what they are signed with.

use std::path::{Path, PathBuf};

use http::Uri;

use super::{path, port};
use crate::section::{Section, SectionError};

/// A service of the operator's that is told of questions, answers, freezes and budgets that run out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where.
    pub url: Uri,
    /// The secret of the signatures.
    pub secret_file: PathBuf,
}

impl Webhook {
    /// Reads `webhook:`. `null` is as if it were not there.
    ///
    /// # Errors
    /// With the place of what cannot be read.
    pub fn read(mut section: Section, base: &Path) -> Result<Option<Self>, SectionError> {
        if section.is_nothing() {
            return Ok(None);
        }
        let url = url(section.need("url")?)?;
        let secret_file = path(section.need("secret_file")?, base)?;
        section.finish()?;
        Ok(Some(Self { url, secret_file }))
    }
}

/// An absolute URL without user and password, which would be in a file that others may read.
pub(super) fn url(section: Section) -> Result<Uri, SectionError> {
    let text = section.clone().text()?;
    let uri: Option<Uri> = text.parse().ok();
    let fits = |uri: &Uri| {
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        scheme && uri.authority().is_some_and(|a| !a.as_str().contains('@'))
    };
    let error =
        || section.error("expected a URL that begins with https:// or http://, without user");
    let uri = uri.filter(fits).ok_or_else(error)?;
    match uri.authority().and_then(|a| port(a, 443)) {
        Some(_) => Ok(uri),
        None => Err(section.error("its port is no number from 1 to 65535")),
    }
}
