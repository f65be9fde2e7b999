//! Who we are to some hosts, and which hosts need not say who they are.

use std::path::{Path, PathBuf};

use crate::section::{Section, SectionError};

use super::HostPattern;
use super::read::path;

/// A certificate of ours, shown to the hosts listed and to no other (threat T-17).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Who may ask for it.
    pub hosts: Vec<HostPattern>,
    /// The certificate and what stands between it and its root, PEM.
    pub cert_file: PathBuf,
    /// Its key, PEM, mode 0600.
    pub key_file: PathBuf,
}

impl ClientCertificate {
    /// Reads one item of `tls.client_certificates:`. Paths start at `base`.
    ///
    /// # Errors
    /// With the place of what cannot be read.
    pub(super) fn read(mut section: Section, base: &Path) -> Result<Self, SectionError> {
        let listed = section.need("hosts")?;
        let place = listed.clone();
        let hosts = listed.list(named_host)?;
        if hosts.is_empty() {
            let error = place.error("no host is listed, so the certificate is never shown");
            return Err(error.hint("for example [\"mtls.example.com\"]"));
        }
        let cert_file = path(section.need("cert_file")?, base)?;
        let key_file = path(section.need("key_file")?, base)?;
        section.finish()?;
        Ok(Self {
            hosts,
            cert_file,
            key_file,
        })
    }
}

/// A host that is told who we are: not everybody.
fn named_host(item: Section) -> Result<HostPattern, SectionError> {
    let pattern: HostPattern = item.clone().parse()?;
    match pattern.is_any() {
        false => Ok(pattern),
        true => Err(item
            .error("every host could ask who you are")
            .hint("name the hosts that this certificate is for")),
    }
}

/// A host by its whole name: no pattern may switch verification off.
pub(super) fn exact_host(item: Section) -> Result<HostPattern, SectionError> {
    let pattern: HostPattern = item.clone().parse()?;
    match pattern.is_exact() {
        true => Ok(pattern),
        false => Err(item
            .error("a pattern would leave hosts unverified that nobody thought of")
            .hint("write each host in full, for example \"dev.example.com:8443\"")),
    }
}
