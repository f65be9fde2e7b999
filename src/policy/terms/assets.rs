//! `assets: [USDC]`: assets that may be used, of those that have a price.

use crate::money::Network;
use crate::payment::{Reason, Refusal};
use crate::policy::catalog::Catalog;
use crate::section::{Section, SectionError};

use super::schemes::some;
use super::{About, Ask, Bound, Build, Term, TermKind};

pub(super) const TERM: TermKind = TermKind {
    key: "assets",
    doc: "symbols or addresses of assets that may be used; every one with a price if not written",
    about: About::Means,
    build: Build::Key(|section, catalog| {
        let read = |s: Section| some(s, "assets", |item| named(item, catalog));
        let assets = section.map(read).transpose()?;
        Ok(Some(Box::new(Assets(assets))))
    }),
};

/// What the operator calls it, and the assets of the table that it means.
struct Entry {
    name: String,
    assets: Vec<(Network, String)>,
}

struct Assets(Option<Vec<Entry>>);

fn named(item: Section, catalog: &Catalog) -> Result<Entry, SectionError> {
    let name = item.clone().text()?;
    let meant = catalog
        .assets
        .iter()
        .filter(|a| a.symbol == name || a.is(&name));
    let assets: Vec<_> = meant
        .map(|a| (a.network.clone(), a.address.clone()))
        .collect();
    if assets.is_empty() {
        let error = item.error(format!("no asset is called \"{}\"", name.escape_debug()));
        let mut symbols: Vec<_> = catalog.assets.iter().map(|a| &*a.symbol).collect();
        symbols.sort_unstable();
        symbols.dedup();
        return Err(error.hint_words(&name, symbols.into_iter()));
    }
    Ok(Entry { name, assets })
}

impl Term for Assets {
    fn bounds(&self) -> Vec<(&'static str, Bound)> {
        let one = |(network, address): &(Network, String)| format!("{network} {address}");
        let only = |list: &Vec<Entry>| {
            let assets = list.iter().flat_map(|entry| &entry.assets);
            ("assets", Bound::only(assets.map(one)))
        };
        self.0.iter().map(only).collect()
    }

    fn check(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        let refuse = |detail: String| Err(Refusal::new(Reason::AssetNotAllowed, detail));
        let Some(asset) = ask.asset else {
            return refuse("the asset is not in the table of assets with a price".into());
        };
        let is = |(n, a): &(Network, String)| *n == asset.network && *a == asset.address;
        match &self.0 {
            Some(list) if !list.iter().any(|entry| entry.assets.iter().any(is)) => {
                let names: Vec<_> = list.iter().map(|entry| &*entry.name).collect();
                refuse(format!(
                    "the rule pays in these assets: {}",
                    names.join(", ")
                ))
            }
            _ => Ok(()),
        }
    }
}
