//! `assets:`: additions to the built-in table. Only what is in the table has a price.

use crate::evm::Address;
use crate::money::{Asset, Fee, TokenDomain, Usd, canonical_assets};
use crate::section::{Problems, Section, SectionError};
use crate::settings;
use crate::solana::{Pubkey, TokenProgram};

/// The built-in table with the operator's additions, which come first and replace equals, and what wallets
/// price themselves.
pub(super) fn read(
    section: Option<Section>,
    priced: Vec<Asset>,
    problems: &mut Problems,
) -> Vec<Asset> {
    let canonical = canonical_assets();
    let items = problems.keep(section.map_or(Ok(vec![]), Section::items));
    let mut added: Vec<Asset> = vec![];
    for item in items.unwrap_or_default() {
        let place = item.clone();
        let Some(asset) = problems.keep(asset(item)) else {
            continue;
        };
        if added.iter().any(|a| same(a, &asset)) {
            problems.push(place.error("this asset is listed twice"));
        }
        // A fact of the chain: a price would be another one by powers of ten.
        let built_in = canonical.iter().find(|c| same(c, &asset));
        if let Some(known) = built_in.filter(|c| c.decimals != asset.decimals) {
            let what = format!("this asset is built in and has {} decimals", known.decimals);
            problems.push(
                place
                    .key_error("decimals", what)
                    .hint("leave the entry out"),
            );
        }
        added.push(asset);
    }
    let kept: Vec<_> = canonical
        .into_iter()
        .filter(|c| !added.iter().any(|a| same(a, c)))
        .collect();
    added.into_iter().chain(priced).chain(kept).collect()
}

fn same(a: &Asset, b: &Asset) -> bool {
    a.network == b.network && a.is(&b.address)
}

fn asset(mut section: Section) -> Result<Asset, SectionError> {
    let network = settings::network(section.need("network")?)?;
    if network.is_lightning() {
        let error = section.error("what is paid over Lightning is priced by the wallet");
        return Err(error.hint("write `usd_per_btc` below `wallets:`"));
    }
    let address = section.need("address")?;
    let address = match network.namespace() {
        "eip155" => address.parse::<Address>()?.to_string(),
        "solana" => address.parse::<Pubkey>()?.to_string(),
        _ => address.text()?,
    };
    let written = section.take("token_program");
    let token_program = match (network.is_solana(), written) {
        (true, None) => Some(TokenProgram::default()),
        (true, Some(written)) => Some(written.parse()?),
        (false, None) => None,
        (false, Some(written)) => return Err(written.error("only Solana has token programs")),
    };
    let symbol = section.need("symbol")?;
    let text = symbol.clone().text()?;
    if text.is_empty() || text.len() > 16 || !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err(symbol.expected("a symbol of 1 to 16 characters"));
    }
    let decimals = section.need("decimals")?.number(0..=30)?;
    // The only unit of account. What is worth something else has no price that we could hold to.
    section.need("currency")?.word(&[("USD", ())])?;
    let eip712 = section.take("eip712").map(domain).transpose()?;
    section.finish()?;
    Ok(Asset {
        network,
        address,
        symbol: text,
        decimals: u8::try_from(decimals).unwrap_or(u8::MAX),
        unit: Usd(1_000_000_000),
        eip3009: eip712.is_some(),
        token_program,
        fee: Fee::default(),
        eip712,
    })
}

fn domain(mut section: Section) -> Result<TokenDomain, SectionError> {
    let name = section.need("name")?.text()?;
    let version = section.need("version")?.text()?;
    section.finish()?;
    Ok(TokenDomain { name, version })
}
