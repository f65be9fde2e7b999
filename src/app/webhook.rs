//! The operator's service for notices.

use std::sync::Arc;

use rustls::RootCertStore;

use super::StartError;
use crate::event::webhook::{self, Courier, Secret, Webhook};
use crate::fetch::Fetch;
use crate::settings;
use crate::wallet::secret_file;

/// The sink and its courier, if the configuration names a service.
pub(super) fn open(
    settings: Option<&settings::Webhook>,
    roots: Arc<RootCertStore>,
) -> Result<Option<(Arc<Webhook>, Courier)>, StartError> {
    let Some(settings) = settings else {
        return Ok(None);
    };
    let failed = |problem: String| StartError::Webhook(problem);
    let file = &settings.secret_file;
    let bytes = secret_file::read(file).map_err(|e| failed(e.to_string()))?;
    let secret = Secret::read(&bytes).map_err(|e| failed(format!("{}: {e}", file.display())))?;
    let fetch = Fetch::new(roots).map_err(|e| failed(e.to_string()))?;
    Ok(Some(webhook::open(fetch, settings.url.clone(), secret)))
}
