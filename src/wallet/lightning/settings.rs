//! What an operator sets of a node, and what the policy must know of it.

use std::path::Path;

use secrecy::zeroize::Zeroizing;

use super::{Node, cln, lnbits, lnd, phoenixd};
use crate::money::{Asset, Fee, Network, Usd};
use crate::section::{Section, SectionError};
use crate::settings::Percent;
use crate::wallet::credentials::{self, Files, Texts, is_visible};
use crate::wallet::remote::secure_base;

/// What routing may cost if nothing else is written: one percent, and 10 satoshi for small sums.
const FEE_PERCENT: Percent = Percent(1);
const FEE_SAT: u64 = 10;

/// Atomic units of a bitcoin are millisatoshi: 10^11.
const DECIMALS: u8 = 11;

/// The words after `backend:`.
pub(super) const BACKENDS: &[(&str, &'static dyn Node)] = &[
    ("lnd", &lnd::Lnd),
    ("cln", &cln::Cln),
    ("phoenixd", &phoenixd::Phoenixd),
    ("lnbits", &lnbits::Lnbits),
];

/// What an operator sets.
pub(super) struct Settings {
    pub(super) backend: &'static str,
    pub(super) node: &'static dyn Node,
    pub(super) url: String,
    pub(super) files: Files<1>,
}

pub(super) fn read(mut section: Section, base: &Path) -> Result<Settings, SectionError> {
    let words = BACKENDS.iter().map(|(word, node)| (*word, (*word, *node)));
    let words: Vec<_> = words.collect();
    let (backend, node) = section.need("backend")?.word(&words)?;
    let url = secure_base(section.need("url")?)?;
    let files = [credentials::named(section.need("secret_file")?, base)?];
    // For the policy; here they are only checked.
    terms(&mut section)?;
    section.finish()?;
    Ok(Settings {
        backend,
        node,
        url,
        files,
    })
}

/// What the policy must know: what routing may cost, and what a bitcoin is worth.
fn terms(section: &mut Section) -> Result<(Fee, Usd), SectionError> {
    let percent = section.take("max_fee_percent").map(|percent| {
        let read = percent.clone().parse::<Percent>()?;
        match read.0 {
            0..=100 => Ok(read),
            _ => Err(percent.expected("a percentage from 0% to 100%")),
        }
    });
    let percent = percent.transpose()?.unwrap_or(FEE_PERCENT);
    let sat = section.take("max_fee_sat").map(|s| s.number(0..=1_000_000));
    let sat = sat.transpose()?.unwrap_or(FEE_SAT);
    let rate = section.need("usd_per_btc")?;
    let usd_per_btc: Usd = rate.clone().parse()?;
    if usd_per_btc == Usd(0) {
        return Err(rate.error("at this rate every payment would cost nothing"));
    }
    let fee = Fee {
        least_msat: sat.saturating_mul(1000),
        percent: percent.0.into(),
    };
    Ok((fee, usd_per_btc))
}

/// Bitcoin on the wallet's networks, at the operator's rate. None where the settings are wrong.
pub(in crate::wallet) fn assets(section: &Section, networks: &[Network]) -> Vec<Asset> {
    let Ok((fee, unit)) = terms(&mut section.clone()) else {
        return vec![];
    };
    let asset = |network: &Network| Asset {
        network: network.clone(),
        address: "BTC".into(),
        symbol: "BTC".into(),
        decimals: DECIMALS,
        unit,
        eip712: None,
        eip3009: false,
        token_program: None,
        fee,
    };
    networks.iter().map(asset).collect()
}

/// What is in the file.
pub(super) fn secret([text]: &Texts<1>) -> Result<Zeroizing<String>, (usize, &'static str)> {
    match is_visible(text) {
        true => Ok(text.clone()),
        false => Err((
            0,
            "it is empty, or not one word of text (a macaroon is written in hexadecimal)",
        )),
    }
}
