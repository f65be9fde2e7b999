//! `rpc:`: whom to ask what a chain shows. A closed map; what is not in it is never asked.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::chain::Endpoint;
use crate::money::Network;
use crate::section::{Problems, Section, SectionError};
use crate::settings;
use crate::wallet::secret_file;

/// A node that is not yet asked. Its URL may hold credentials.
#[derive(Clone)]
pub struct RpcEntry {
    /// The network it is a node of.
    pub network: Network,
    source: Source,
    section: Section,
}

#[derive(Clone)]
enum Source {
    Here(Endpoint),
    File(PathBuf),
}

impl RpcEntry {
    /// Where it is. Reads the file that has the URL, if it is in one.
    ///
    /// # Errors
    /// When the file is missing, open to others, or has no URL of a node in it.
    pub fn endpoint(&self) -> Result<Endpoint, SectionError> {
        let path = match &self.source {
            Source::Here(endpoint) => return Ok(endpoint.clone()),
            Source::File(path) => path,
        };
        let text = secret_file::read_text(path).map_err(|e| self.section.error(e.to_string()))?;
        let url = Zeroizing::new(text.trim().to_owned());
        Endpoint::new(url).map_err(|e| {
            let file = path.display();
            self.section.error(format!("{file} holds no such URL; {e}"))
        })
    }
}

pub(super) fn read(
    section: Option<Section>,
    base: &Path,
    problems: &mut Problems,
) -> Vec<RpcEntry> {
    let entries = problems.keep(section.map_or(Ok(vec![]), Section::entries));
    let entries = entries.unwrap_or_default().into_iter();
    entries
        .filter_map(|(name, section)| problems.keep(entry(&name, section, base)))
        .collect()
}

/// A rule that signs maxima: where it says so, and on which networks.
pub(super) struct Upto {
    place: Section,
    /// `None`: on those of the wallets.
    networks: Option<Vec<String>>,
    /// May it move assets by Permit2, as `upto` does?
    moves: bool,
}

/// The rules that allow `upto`. What is wrong with them is said by who reads them.
pub(super) fn upto(file: &Section) -> Vec<Upto> {
    let rules = file.peek("rules").and_then(|rules| rules.items().ok());
    let allows = |rule: Section| {
        let pay = rule.peek("pay")?;
        let named = |key: &str, word: &str| {
            let mut items = pay.peek(key)?.items().ok()?.into_iter();
            items.find(|s| s.clone().text().as_deref() == Ok(word))
        };
        let place = named("schemes", "upto")?;
        let moves = named("transfer_methods", "permit2").is_some();
        let list = pay.peek("networks").and_then(|list| list.items().ok());
        let text = |s: Section| s.text().ok();
        let networks = list.map(|list| list.into_iter().filter_map(text).collect());
        Some(Upto {
            place,
            networks,
            moves,
        })
    };
    rules.into_iter().flatten().filter_map(allows).collect()
}

/// Warns of rules that allow `upto` and not Permit2, by which alone it moves assets.
fn unmoved(upto: &[Upto]) -> Vec<SectionError> {
    let never = |upto: &Upto| {
        let error = "the rule never pays `upto`, which moves assets by Permit2";
        let hint = "write `transfer_methods: [eip3009, permit2]` beside it";
        upto.place.error(error).hint(hint)
    };
    upto.iter().filter(|u| !u.moves).map(never).collect()
}

/// Warns of rules that allow `upto` where it is never paid, or where no node can tell how much was taken.
pub(super) fn doubts(
    upto: &[Upto],
    wallets: &[super::WalletEntry],
    rpc: &[RpcEntry],
) -> Vec<SectionError> {
    let mut warnings = unmoved(upto);
    for Upto {
        place, networks, ..
    } in upto.iter().filter(|u| u.moves)
    {
        let named = |network: &Network| {
            let list = networks.as_ref();
            list.is_none_or(|list| list.iter().any(|n| n == network.as_str()))
        };
        let asked = |network: &Network| rpc.iter().any(|entry| entry.network == *network);
        let paid = wallets.iter().flat_map(|wallet| &wallet.networks);
        let mut blind = paid.filter(|n| n.chain_id().is_some() && named(n) && !asked(n));
        if let Some(network) = blind.next() {
            let warning = place.error(format!(
                "on `{network}` a receipt that names less than was taken is believed, because no node is asked"
            ));
            warnings.push(warning.hint(format!("add rpc: {{ \"{network}\": \"https://…\" }}")));
        }
    }
    warnings
}

fn entry(name: &str, mut section: Section, base: &Path) -> Result<RpcEntry, SectionError> {
    let shown = name.escape_debug();
    let place = section.clone();
    let network: Network = name.parse().map_err(|e| {
        let error = place.error(format!("`{shown}` is no network"));
        error.hint(format!("{e}"))
    })?;
    if network.chain_id().is_none() && !network.is_solana() {
        let error = place.error(format!(
            "`{shown}` cannot be asked: EVM and Solana networks only"
        ));
        return Err(
            error.hint("write eip155: and the number of the chain, or solana: and its genesis")
        );
    }
    let source = match section.is_map() && !section.is_nothing() {
        true => {
            let file = settings::path(section.need("url_file")?, base)?;
            section.finish()?;
            Source::File(file)
        }
        // Not quoted in the error: there may be a key in it.
        false => {
            let url = Zeroizing::new(section.text()?);
            Source::Here(Endpoint::new(url).map_err(|e| {
                let error = place.error(format!("this is no URL of a node; {e}"));
                error.hint("or keep it in a file of mode 0600: { url_file: rpc.url }")
            })?)
        }
    };
    Ok(RpcEntry {
        network,
        source,
        section: place,
    })
}
