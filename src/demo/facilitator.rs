//! Checks a payment as an official x402 facilitator does, without a chain: what was offered, who
//! signed, what exactly, and whether the nonce was seen before.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, Secp256k1};
use serde::Deserialize;
use serde_json::Value;

use crate::clock::Timestamp;
use crate::evm::{self, Address, Domain, TransferWithAuthorization};

/// USDC on Base Sepolia, the token of the demonstration.
pub const TOKEN: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";

/// Its chain, by its CAIP-2 name.
pub const NETWORK: &str = "eip155:84532";

/// Seconds that a payload must still be valid: an official facilitator asks for as many.
const SETTLING: u64 = 6;

/// The longest payment header that is read, in bytes.
const HEADER_MAX: usize = 64 * 1024;

/// The two versions of x402.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Offer in the body, payment in `X-PAYMENT`.
    V1,
    /// Offer in `PAYMENT-REQUIRED`, payment in `PAYMENT-SIGNATURE`.
    V2,
}

/// One thing for sale.
#[derive(Clone, Debug)]
pub struct Offer {
    /// How it is offered.
    pub version: Version,
    /// Its price in atomic units.
    pub amount: u128,
    /// Who is paid.
    pub pay_to: Address,
    /// The one entry of `accepts`.
    pub entry: Value,
}

/// Why a payment is not taken. `Display` is the code that goes into `error` of the next offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    /// Not Base64 of JSON, or members are missing or of another kind.
    #[error("invalid_payload")]
    Payload,
    /// Another version than that of the offer.
    #[error("invalid_x402_version")]
    Version,
    /// What was accepted is not, member by member, what was offered.
    #[error("No matching payment requirements")]
    Requirements,
    /// Not signed by `from` under the token's domain, or in a form that the token rejects.
    #[error("invalid_exact_evm_signature")]
    Signature,
    /// Pays somebody else.
    #[error("invalid_exact_evm_recipient_mismatch")]
    Recipient,
    /// Dies before it could be settled.
    #[error("invalid_exact_evm_payload_authorization_valid_before")]
    ValidBefore,
    /// Not valid yet.
    #[error("invalid_exact_evm_payload_authorization_valid_after")]
    ValidAfter,
    /// More or less than the price.
    #[error("invalid_exact_evm_payload_authorization_value_mismatch")]
    Value,
    /// This nonce was paid with before.
    #[error("invalid_exact_evm_nonce_already_used")]
    NonceUsed,
}

/// A payment that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sale {
    /// Who paid.
    pub from: Address,
    /// Atomic units.
    pub amount: u128,
    /// On-chain nonce.
    pub nonce: [u8; 32],
    /// A stand-in for the transaction hash: no chain is involved.
    pub transaction: [u8; 32],
}

/// The nonces that were paid with, and what they brought.
#[derive(Debug, Default)]
pub struct Facilitator {
    used: BTreeSet<(Address, [u8; 32])>,
    earned: u128,
}

impl Facilitator {
    /// Checks the payment header and takes the money, once.
    ///
    /// # Errors
    /// The first objection, in the order of [`Objection`]. Nothing was taken then.
    pub fn settle(
        &mut self,
        offer: &Offer,
        header: &[u8],
        now: Timestamp,
    ) -> Result<Sale, Objection> {
        let sale = verify(offer, header, now)?;
        if !self.used.insert((sale.from, sale.nonce)) {
            return Err(Objection::NonceUsed);
        }
        self.earned = self.earned.saturating_add(sale.amount);
        Ok(sale)
    }

    /// Payments taken.
    #[must_use]
    pub fn payments(&self) -> usize {
        self.used.len()
    }

    /// Atomic units taken.
    #[must_use]
    pub fn earned(&self) -> u128 {
        self.earned
    }
}

/// Everything but the nonce's history.
fn verify(offer: &Offer, header: &[u8], now: Timestamp) -> Result<Sale, Objection> {
    let payment = Payment::decode(offer.version, header)?;
    payment.matches(offer)?;
    let transfer = payment.transfer()?;
    let digest = transfer.digest();
    if signer(&payment.signature()?, digest) != Some(transfer.from) {
        return Err(Objection::Signature);
    }
    if transfer.to != offer.pay_to {
        return Err(Objection::Recipient);
    }
    if transfer.valid_before < now.secs().saturating_add(SETTLING) {
        return Err(Objection::ValidBefore);
    }
    if transfer.valid_after > now.secs() {
        return Err(Objection::ValidAfter);
    }
    if transfer.value != offer.amount {
        return Err(Objection::Value);
    }
    Ok(Sale {
        from: transfer.from,
        amount: transfer.value,
        nonce: transfer.nonce,
        transaction: evm::keccak(&digest),
    })
}

/// Who signed: 65 bytes r, s, v with v 27 or 28 and low s, as the token contract wants them.
fn signer(signature: &[u8; 65], digest: [u8; 32]) -> Option<Address> {
    let (compact, v) = signature.split_at(64);
    let id = i32::from(*v.first()?).checked_sub(27)?;
    let recoverable =
        RecoverableSignature::from_compact(compact, RecoveryId::from_i32(id).ok()?).ok()?;
    let mut low = recoverable.to_standard();
    low.normalize_s();
    if id > 1 || low != recoverable.to_standard() {
        return None;
    }
    let key = Secp256k1::verification_only()
        .recover_ecdsa(&Message::from_digest(digest), &recoverable)
        .ok()?;
    let point: [u8; 65] = key.serialize_uncompressed();
    Some(Address::of_public_key(point.last_chunk()?))
}

/// What the payment header says (x402 v2 section 5.2, v1 section 5.2).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payment {
    x402_version: u64,
    scheme: Option<String>,
    network: Option<String>,
    accepted: Option<Value>,
    payload: Exact,
}

#[derive(Deserialize)]
struct Exact {
    signature: String,
    authorization: Authorization,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorization {
    from: String,
    to: String,
    value: String,
    valid_after: String,
    valid_before: String,
    nonce: String,
}

impl Payment {
    fn decode(version: Version, header: &[u8]) -> Result<Self, Objection> {
        if header.len() > HEADER_MAX {
            return Err(Objection::Payload);
        }
        let json = STANDARD.decode(header).map_err(|_| Objection::Payload)?;
        let payment: Self = serde_json::from_slice(&json).map_err(|_| Objection::Payload)?;
        let number = match version {
            Version::V1 => 1,
            Version::V2 => 2,
        };
        if payment.x402_version == number {
            Ok(payment)
        } else {
            Err(Objection::Version)
        }
    }

    /// Version 2 echoes the whole entry; version 1 names scheme and network only.
    fn matches(&self, offer: &Offer) -> Result<(), Objection> {
        let named = |member: &str| offer.entry.get(member).and_then(Value::as_str);
        let same = match offer.version {
            Version::V2 => self.accepted.as_ref() == Some(&offer.entry),
            Version::V1 => {
                self.scheme.as_deref() == named("scheme")
                    && self.network.as_deref() == named("network")
            }
        };
        if same {
            Ok(())
        } else {
            Err(Objection::Requirements)
        }
    }

    /// What must have been signed, under the token's own domain: never one that the payment names.
    fn transfer(&self) -> Result<TransferWithAuthorization, Objection> {
        let a = &self.payload.authorization;
        let address = |text: &str| Address::from_hex(text).map_err(|_| Objection::Payload);
        Ok(TransferWithAuthorization {
            domain: Domain {
                name: "USDC".into(),
                version: "2".into(),
                chain_id: 84532,
                contract: address(TOKEN)?,
            },
            from: address(&a.from)?,
            to: address(&a.to)?,
            value: a.value.parse().map_err(|_| Objection::Payload)?,
            valid_after: a.valid_after.parse().map_err(|_| Objection::Payload)?,
            valid_before: a.valid_before.parse().map_err(|_| Objection::Payload)?,
            nonce: bytes(&a.nonce)?,
        })
    }

    fn signature(&self) -> Result<[u8; 65], Objection> {
        bytes(&self.payload.signature)
    }
}

/// Exactly `N` bytes as `0x` and hexadecimal digits.
fn bytes<const N: usize>(text: &str) -> Result<[u8; N], Objection> {
    let digits = text.strip_prefix("0x").ok_or(Objection::Payload)?;
    let mut bytes = [0; N];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| Objection::Payload)?;
    Ok(bytes)
}

#[cfg(test)]
pub(super) mod tests;
