//! `wallets:`: who signs. Their own keys are read by the wallets, when they are opened.

use std::path::{Path, PathBuf};

use crate::fetch::Fetch;
use crate::money::Network;
use crate::section::{Problems, Section, SectionError};
use crate::settings;
use crate::wallet::{self, Opening};

/// A wallet that is not yet opened.
#[derive(Clone, Debug)]
pub struct WalletEntry {
    /// The operator's name for it.
    pub name: String,
    /// The word after `kind:`.
    pub kind: String,
    /// The networks it may pay on: a closed list.
    pub networks: Vec<Network>,
    /// Its other keys.
    pub section: Section,
    /// Folder that relative paths start from.
    pub base: PathBuf,
}

impl WalletEntry {
    /// What the wallet is opened with. Without a way to ask, remote ones can be looked at only.
    #[must_use]
    pub fn opening(&self, fetch: Option<Fetch>) -> Opening {
        Opening {
            section: self.section.clone(),
            name: self.name.clone(),
            networks: self.networks.clone(),
            base: self.base.clone(),
            fetch,
        }
    }
}

/// Reads the list. Two wallets of one name could not be told apart in the ledger.
pub(super) fn read(
    section: Option<Section>,
    base: &Path,
    problems: &mut Problems,
) -> Vec<WalletEntry> {
    let items = problems.keep(section.map_or(Ok(vec![]), Section::items));
    let mut wallets: Vec<WalletEntry> = vec![];
    for item in items.unwrap_or_default() {
        let place = item.clone();
        let Some(wallet) = problems.keep(entry(item, base)) else {
            continue;
        };
        if wallets.iter().any(|w| w.name == wallet.name) {
            problems.push(place.error(format!("two wallets are called `{}`", wallet.name)));
        }
        wallets.push(wallet);
    }
    wallets
}

fn entry(mut section: Section, base: &Path) -> Result<WalletEntry, SectionError> {
    let name = settings::name(section.need("name")?)?;
    let kind = section.need("kind")?.text()?;
    let listed = section.need("networks")?;
    let place = listed.clone();
    let networks = listed.list(settings::network)?;
    if networks.is_empty() {
        let error = place.error("the list of networks is empty, so the wallet never pays");
        return Err(error.hint("for example [\"eip155:84532\"], a test network"));
    }
    wallet::check(&kind, section.clone())?;
    Ok(WalletEntry {
        name,
        kind,
        networks,
        section,
        base: base.to_path_buf(),
    })
}
