//! What a policy's hash is about: the keys that say what is paid, and what the file says elsewhere that
//! payments are held against.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::money::Asset;
use crate::section::Section;
use crate::settings::Limits;

use super::Catalog;

/// The keys that say what is paid.
const KEYS: [&str; 5] = ["mode", "assets", "budgets", "categories", "rules"];

/// Those that count only where they are written, so that a policy without them keeps its hash.
const SINCE: [&str; 1] = ["signers"];

/// What the hash is about, as data.
pub(super) fn written(file: &Section, catalog: &Catalog) -> Value {
    let key = |key: &str| Some((key.to_owned(), file.peek(key)?.data()));
    let keys = KEYS.into_iter().chain(SINCE);
    let keys = keys.filter(|key| *key != "mode").filter_map(key);
    Value::Object(keys.chain(elsewhere(catalog)).collect())
}

pub(super) fn hash(file: &Section, catalog: &Catalog) -> String {
    let mut hasher = Sha256::new();
    for key in KEYS {
        let text = file.peek(key).map(|s| s.canonical()).unwrap_or_default();
        hasher.update(format!("{key}={text}\n"));
    }
    for key in SINCE {
        if let Some(section) = file.peek(key) {
            hasher.update(format!("{key}={}\n", section.canonical()));
        }
    }
    for (key, value) in elsewhere(catalog) {
        hasher.update(format!("{key}={value}\n"));
    }
    let digest = hex::encode(hasher.finalize());
    digest.get(..16).unwrap_or_default().into()
}

/// Limits that are not the default, and what wallets price: also from these a policy may become weaker, and
/// a hash that left them out would accept what nobody has seen.
fn elsewhere(catalog: &Catalog) -> impl Iterator<Item = (String, Value)> {
    let limits = Some(limits(catalog)).filter(|limits| !limits.is_empty());
    let priced = catalog.assets.iter().filter(|a| a.network.is_lightning());
    let price = |asset: &Asset| {
        json!({
            "network": asset.network.to_string(), "asset": asset.symbol, "price": asset.unit.to_string(),
            "decimals": asset.decimals, "max_fee_msat": asset.fee.least_msat, "max_fee_percent": asset.fee.percent,
        })
    };
    let prices: Vec<_> = priced.map(price).collect();
    let prices = Some(prices).filter(|prices| !prices.is_empty());
    let limits = limits.map(|limits| ("limits".to_owned(), Value::Object(limits)));
    let prices = prices.map(|prices| ("prices".to_owned(), Value::Array(prices)));
    limits.into_iter().chain(prices)
}

fn limits(catalog: &Catalog) -> Map<String, Value> {
    let usual = Limits::default();
    let mut limits = Map::new();
    if catalog.identical_payments != usual.identical_payments {
        let rate = catalog.identical_payments;
        let rate = rate.map_or("off".into(), |r| format!("{}/{}s", r.count, r.seconds));
        limits.insert("identical_payments".into(), rate.into());
    }
    if catalog.requirements != usual.requirements {
        limits.insert("requirements".into(), catalog.requirements.into());
    }
    if catalog.validity != usual.validity.as_secs() {
        limits.insert("validity".into(), format!("{}s", catalog.validity).into());
    }
    limits
}
