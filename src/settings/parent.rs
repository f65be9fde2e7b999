//! The proxy that connections go through, where the network lets none out directly.

use std::path::{Path, PathBuf};

use crate::section::{Section, SectionError};

use super::read::path;
use super::{HostPattern, normalise_host};

/// How connections leave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UpstreamProxy {
    /// Straight to where they go. The default, whatever the environment says.
    #[default]
    None,
    /// As `HTTPS_PROXY` and `NO_PROXY` of the proxy's own environment say, when it starts.
    Environment,
    /// Through this one.
    Through(Through),
}

/// A parent proxy that the operator named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Through {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `user:password`, in a file that nobody else can read.
    pub credentials_file: Option<PathBuf>,
    /// Hosts that are reached directly, within the rules for that.
    pub no_proxy: Vec<HostPattern>,
}

const EXAMPLE: &str = "for example \"http://proxy.corp.example:3128\"";

impl UpstreamProxy {
    /// Reads `egress.upstream_proxy:`. Paths start at `base`.
    ///
    /// # Errors
    /// With the place of what cannot be read.
    pub(super) fn read(mut section: Section, base: &Path) -> Result<Self, SectionError> {
        if section.is_nothing() {
            return Ok(Self::None);
        }
        if !section.is_map() {
            let word = section.clone().text()?;
            if word == "environment" {
                return Ok(Self::Environment);
            }
            let (host, port) = place(section)?;
            return Ok(Self::Through(Through {
                host,
                port,
                credentials_file: None,
                no_proxy: vec![],
            }));
        }
        let (host, port) = place(section.need("url")?)?;
        let file = |s: Section| path(s, base).map(Some);
        let credentials_file = section.or("credentials_file", None, file)?;
        let no_proxy = section.or("no_proxy", vec![], |s| s.list(Section::parse))?;
        section.finish()?;
        Ok(Self::Through(Through {
            host,
            port,
            credentials_file,
            no_proxy,
        }))
    }
}

/// `http://host:port`, and nothing else.
fn place(section: Section) -> Result<(String, u16), SectionError> {
    let text = section.clone().text()?;
    let bare = text.strip_prefix("http://");
    let bare = bare.map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    let Some(bare) = bare else {
        let error = section.error("expected a URL that begins with http://");
        return Err(error.hint(EXAMPLE));
    };
    if bare.contains('@') {
        // Not quoted: there may be a password in it.
        let error = section.error("credentials do not belong into this file");
        return Err(
            error.hint("write { url: \"http://host:port\", credentials_file: parent.secret }")
        );
    }
    let parted = bare.rsplit_once(':').and_then(|(host, port)| {
        let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
        Some((normalise_host(host).ok()?, port))
    });
    parted.ok_or_else(|| section.error("expected a host and a port").hint(EXAMPLE))
}
