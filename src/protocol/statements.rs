//! Offers and receipts that merchants sign (x402 extension `offer-receipt`). What is signed is put beside
//! what is said; whether the right key signed it is for those who know the keys.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::encoding;
use super::jsonrpc::{object, text};
use crate::evm::{OfferMessage, ReceiptMessage};
use crate::payment::{Requirement, SignedOffer, SignedReceipt};
use crate::signer::{Algorithm, Seal};

/// The extension.
pub(super) const KEY: &str = "offer-receipt";

/// The version of its statements that is read.
const VERSION: u64 = 1;

/// Offers that are looked at: more than there are ways to pay.
const OFFERS_MAX: usize = 64;

/// Characters of one JWS.
const JWS_MAX: usize = 8 << 10;

/// One statement, as it comes.
#[derive(Deserialize)]
struct Statement<'a> {
    #[serde(borrow)]
    format: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(borrow)]
    signature: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfferTerms {
    version: u64,
    resource_url: String,
    scheme: String,
    network: String,
    asset: String,
    pay_to: String,
    amount: String,
    #[serde(default)]
    valid_until: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReceiptTerms {
    version: u64,
    network: String,
    resource_url: String,
    payer: String,
    issued_at: u64,
    #[serde(default)]
    transaction: String,
}

/// A JWS header. `crit` names what a reader must understand, and nothing of it is understood.
#[derive(Deserialize)]
struct Header<'a> {
    alg: &'a str,
    #[serde(borrow)]
    crit: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Info<'a> {
    #[serde(borrow)]
    info: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Offers<'a> {
    #[serde(borrow)]
    offers: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct OneReceipt<'a> {
    #[serde(borrow)]
    receipt: Option<&'a RawValue>,
}

/// Every offer of the extension that can be read; `None`: it makes none.
pub(super) fn offers(extension: &RawValue) -> Option<Vec<Offered>> {
    let info: Info<'_> = object(extension)?;
    let offers: Offers<'_> = object(info.info?)?;
    let offers = offers.offers?.into_iter().take(OFFERS_MAX);
    Some(offers.filter_map(offer).collect())
}

/// An offer with the terms that it is for.
#[derive(Clone, Debug)]
pub(super) struct Offered {
    terms: [String; 5],
    offer: SignedOffer,
}

impl Offered {
    /// Is it for these terms? Its place in the list (`acceptIndex`) is not signed, and says nothing.
    pub(super) fn is_for(&self, requirement: &Requirement) -> bool {
        let [scheme, network, asset, pay_to, amount] = &self.terms;
        let same = *scheme == requirement.scheme
            && network == requirement.network.as_str()
            && *pay_to == requirement.pay_to
            && *amount == requirement.amount.0.to_string();
        same && *asset == requirement.asset
    }

    pub(super) fn offer(&self) -> SignedOffer {
        self.offer.clone()
    }
}

fn offer(raw: &RawValue) -> Option<Offered> {
    let (terms, seal) = opened(raw, |terms: &OfferTerms| {
        let message = OfferMessage {
            version: terms.version,
            resource_url: &terms.resource_url,
            scheme: &terms.scheme,
            network: &terms.network,
            asset: &terms.asset,
            pay_to: &terms.pay_to,
            amount: &terms.amount,
            valid_until: terms.valid_until,
        };
        (terms.version == VERSION).then(|| message.digest())
    })?;
    Some(Offered {
        terms: [
            terms.scheme,
            terms.network,
            terms.asset,
            terms.pay_to,
            terms.amount,
        ],
        offer: SignedOffer {
            resource: terms.resource_url,
            valid_until: terms.valid_until,
            seal,
        },
    })
}

/// The signed receipt in the extension; one that cannot be read is signed by nobody. `None`: there is none.
pub(super) fn receipt(extensions: &RawValue) -> Option<SignedReceipt> {
    #[derive(Deserialize)]
    struct Known<'a> {
        #[serde(borrow, rename = "offer-receipt")]
        known: Option<&'a RawValue>,
    }
    let known: Known<'_> = object(extensions)?;
    let info: Info<'_> = object(known.known?)?;
    let one: OneReceipt<'_> = object(info.info?)?;
    Some(signed_receipt(one.receipt?).unwrap_or_default())
}

fn signed_receipt(raw: &RawValue) -> Option<SignedReceipt> {
    let (terms, seal) = opened(raw, |terms: &ReceiptTerms| {
        let message = ReceiptMessage {
            version: terms.version,
            network: &terms.network,
            resource_url: &terms.resource_url,
            payer: &terms.payer,
            issued_at: terms.issued_at,
            transaction: &terms.transaction,
        };
        (terms.version == VERSION).then(|| message.digest())
    })?;
    Some(SignedReceipt {
        network: terms.network,
        resource: terms.resource_url,
        payer: terms.payer,
        issued_at: terms.issued_at,
        transaction: Some(terms.transaction).filter(|t| !t.is_empty()),
        seal,
    })
}

/// A statement's terms, and what seals them. `digest` is what EIP-712 makes of the terms, if their version
/// is known.
fn opened<T: for<'a> Deserialize<'a>>(
    raw: &RawValue,
    digest: impl Fn(&T) -> Option<[u8; 32]>,
) -> Option<(T, Seal)> {
    let statement: Statement<'_> = object(raw)?;
    let signature = text(statement.signature?)?;
    match text(statement.format?)?.as_str() {
        "eip712" => {
            let terms: T = object(statement.payload?)?;
            let mut bytes = Box::new([0; 65]);
            hex::decode_to_slice(signature.strip_prefix("0x")?, bytes.as_mut_slice()).ok()?;
            let digest = digest(&terms)?;
            let signature = bytes;
            Some((terms, Seal::TypedData { digest, signature }))
        }
        "jws" => {
            let (terms, seal) = jws(&signature)?;
            digest(&terms)?;
            Some((terms, seal))
        }
        _ => None,
    }
}

/// A compact JWS (RFC 7515 section 7.1). Its payload is what counts; one that is sent beside it is not signed.
fn jws<T: for<'a> Deserialize<'a>>(compact: &str) -> Option<(T, Seal)> {
    let compact = Some(compact).filter(|jws| jws.len() <= JWS_MAX)?;
    let (input, signature) = compact.rsplit_once('.')?;
    let (header, payload) = input.split_once('.')?;
    let part = |part: &str| {
        let json = String::from_utf8(URL_SAFE_NO_PAD.decode(part).ok()?).ok()?;
        encoding::check(&json).ok()?;
        RawValue::from_string(json).ok()
    };
    let header = part(header)?;
    let header: Header<'_> = object(&header)?;
    let algorithm = Algorithm::named(header.alg).filter(|_| header.crit.is_none())?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let terms = object(part(payload)?.as_ref())?;
    let input = input.to_owned();
    let seal = Seal::Jws {
        algorithm,
        input,
        signature,
    };
    Some((terms, seal))
}
