//! Lightning invoices (BOLT 11), checked before anything is decided about them. Pure: what time it is, and
//! what the policy says to it, is asked elsewhere.

use std::str::FromStr as _;
use std::sync::Arc;

use lightning_invoice::{Currency, RawBolt11Invoice, SignedRawBolt11Invoice};

use crate::money::Network;

/// Bytes of an invoice. Real ones have 200 to 600, with routing hints up to 2000.
const TEXT_MAX: usize = 4096;

/// Seconds that an invoice lives which does not say (BOLT 11, field `x`).
const EXPIRY: u64 = 3600;

/// Picobitcoin in one millisatoshi: amounts are written in the former, and paid in the latter.
const PICO: u64 = 10;

/// An invoice that says how much, to whom and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoice {
    /// As it was written.
    pub text: Arc<str>,
    /// `lightning`, or one of its test networks.
    pub network: Network,
    /// Price, millisatoshi.
    pub amount_msat: u64,
    /// SHA-256 of the preimage that whoever is paid gives away for it.
    pub hash: [u8; 32],
    /// Public key of the node that is paid: the one that signed.
    pub payee: [u8; 33],
    /// Unix seconds from which on it is no longer valid.
    pub expires: u64,
}

/// Why a text is no invoice that can be paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotInvoice {
    /// Not BOLT 11, or its checksum is wrong.
    #[error("the invoice cannot be read")]
    Malformed,
    /// Longer than any real one.
    #[error("the invoice is longer than {TEXT_MAX} bytes")]
    TooLong,
    /// Of a network that nobody uses.
    #[error("the invoice is for a network that is not known")]
    Network,
    /// Its signature is not that of the node that it names.
    #[error("the signature of the invoice is wrong")]
    Signature,
    /// Whoever is paid could take any amount.
    #[error("the invoice names no amount")]
    NoAmount,
    /// Zero, a part of a millisatoshi, or more than there is.
    #[error("the amount of the invoice is not a whole number of millisatoshi above zero")]
    Amount,
    /// Without a payment hash there is no proof of payment.
    #[error("the invoice has no payment hash")]
    NoHash,
}

impl Invoice {
    /// Reads and checks the text, and checks its signature.
    ///
    /// # Errors
    /// [`NotInvoice`]: what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, NotInvoice> {
        if text.len() > TEXT_MAX {
            return Err(NotInvoice::TooLong);
        }
        let signed = SignedRawBolt11Invoice::from_str(text).map_err(|_| NotInvoice::Malformed)?;
        let raw = signed.raw_invoice();
        let network = match raw.currency() {
            Currency::Bitcoin => "lightning",
            Currency::BitcoinTestnet => "lightning:testnet",
            Currency::Signet => "lightning:signet",
            Currency::Regtest => "lightning:regtest",
            Currency::Simnet => return Err(NotInvoice::Network),
        };
        let payee = signed.recover_payee_pub_key();
        let payee = payee.map_err(|_| NotInvoice::Signature)?;
        // Where the invoice names its node, the signature must be that node's.
        if !signed.check_signature() {
            return Err(NotInvoice::Signature);
        }
        let hash = raw.payment_hash().ok_or(NotInvoice::NoHash)?;
        let expiry = raw.expiry_time().map_or(EXPIRY, |e| e.as_seconds());
        Ok(Self {
            text: text.into(),
            network: network.parse().map_err(|_| NotInvoice::Network)?,
            amount_msat: amount(raw)?,
            hash: *hash.0.as_ref(),
            payee: payee.0.serialize(),
            expires: raw
                .data
                .timestamp
                .as_unix_timestamp()
                .saturating_add(expiry),
        })
    }
}

/// Millisatoshi. A smaller part of a bitcoin cannot be paid, and is not rounded away.
fn amount(raw: &RawBolt11Invoice) -> Result<u64, NotInvoice> {
    if raw.hrp.raw_amount.is_none() {
        return Err(NotInvoice::NoAmount);
    }
    let pico = raw.amount_pico_btc().ok_or(NotInvoice::Amount)?;
    match pico > 0 && pico % PICO == 0 {
        true => Ok(pico / PICO),
        false => Err(NotInvoice::Amount),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Each invoice of the vectors, made and checked by other implementations, is read as they read it.
    #[test]
    fn invoices_are_read_as_others_read_them() {
        let text = include_str!("../tests/vectors/l402/bolt11.json");
        let vectors: Value = serde_json::from_str(text).unwrap();
        let mut read = (0, 0);
        for vector in vectors["invoices"].as_array().unwrap() {
            let note = &vector["note"];
            let parsed = Invoice::parse(vector["bolt11"].as_str().unwrap());
            let payable = vector["valid"] == true && vector["amount_msat"].is_u64();
            if !payable {
                read.1 += 1;
                assert!(parsed.is_err(), "{note}");
                continue;
            }
            read.0 += 1;
            let invoice = parsed.unwrap_or_else(|e| panic!("{note}: {e}"));
            assert_eq!(invoice.amount_msat, vector["amount_msat"], "{note}");
            assert_eq!(hex::encode(invoice.hash), vector["payment_hash"], "{note}");
            let at = |key: &str| vector[key].as_u64().unwrap();
            assert_eq!(
                invoice.expires,
                at("timestamp") + at("expiry_seconds"),
                "{note}"
            );
            let network = match vector["network"].as_str().unwrap() {
                "mainnet" => "lightning".to_owned(),
                other => format!("lightning:{other}"),
            };
            assert_eq!(invoice.network.as_str(), network, "{note}");
        }
        assert!(read.0 >= 14 && read.1 >= 10, "{read:?}");
    }
}
