//! Whom to ask what a chain shows.

use std::sync::Arc;

use super::StartError;
use crate::chain::Chains;
use crate::config::{Config, WalletEntry};
use crate::fetch::Fetch;
use crate::tls::{Authority, TlsError, UpstreamTls};
use crate::wallet::{self, Wallet};

/// The nodes of `rpc:`, believed as the operator's own.
///
/// # Errors
/// When a file that holds a URL cannot be used, or no certificate could be verified.
pub(super) fn open(config: &Config, tls: &UpstreamTls) -> Result<Chains, StartError> {
    let mut endpoints = vec![];
    for entry in &config.rpc {
        let endpoint = entry.endpoint().map_err(StartError::Wallet)?;
        endpoints.push((entry.network.clone(), endpoint));
    }
    Ok(Chains::new(endpoints, &own(tls)?))
}

/// The same for a command, without a proxy.
///
/// # Errors
/// Those of a start.
pub fn chains(config: &Config) -> Result<Chains, StartError> {
    open(config, &believed(config)?)
}

/// The wallets that make payments themselves, for a command that asks what became of those.
///
/// # Errors
/// When one of them cannot be opened.
pub fn paying(config: &Config) -> Result<Vec<Arc<dyn Wallet>>, StartError> {
    let mut entries = config
        .wallets
        .iter()
        .filter(|w| wallet::pays_itself(&w.kind))
        .peekable();
    if entries.peek().is_none() {
        return Ok(vec![]);
    }
    let fetch = signers(config)?;
    let open = |w: &WalletEntry| wallet::open(&w.kind, w.opening(Some(fetch.clone())));
    let wallets: Result<_, _> = entries.map(open).collect();
    wallets.map_err(StartError::Wallet)
}

/// How catalogues are asked, before there is a proxy.
///
/// # Errors
/// Those of a start.
pub fn fetch(config: &Config) -> Result<Fetch, StartError> {
    let fetch = Fetch::new(believed(config)?.roots());
    Ok(fetch.map_err(|e| TlsError::Crypto(e.to_string()))?)
}

/// How the operator's own signers and nodes are asked, before there is a proxy.
///
/// # Errors
/// Those of a start.
pub fn signers(config: &Config) -> Result<Fetch, StartError> {
    own(&believed(config)?)
}

fn own(tls: &UpstreamTls) -> Result<Fetch, StartError> {
    let fetch = Fetch::of_own(tls.roots(), tls.named());
    Ok(fetch.map_err(|e| TlsError::Crypto(e.to_string()))?)
}

/// Whom to believe. Makes no authority; one that is there vouches for nobody.
fn believed(config: &Config) -> Result<UpstreamTls, StartError> {
    let dir = &config.tls.ca_dir;
    let own = match dir.join("ca.pem").exists() {
        true => Some(Authority::open_or_create(dir)?),
        false => None,
    };
    Ok(UpstreamTls::new(&config.tls, own.as_ref())?)
}
