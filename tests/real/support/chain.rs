//! What a token contract would see in a payload: an independent reading of EIP-3009 and EIP-712.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, PublicKey, Secp256k1, SecretKey};
use serde_json::Value;
use sha3::{Digest as _, Keccak256};

use super::permit::{self, Permit};

/// A token's EIP-712 domain.
#[derive(Clone, Debug)]
pub(crate) struct Domain {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) chain: u64,
    pub(crate) token: String,
}

/// A signed transfer, as found in a payment header.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) value: u128,
    pub(crate) valid_after: u64,
    pub(crate) valid_before: u64,
    pub(crate) nonce: String,
    pub(crate) signature: String,
    /// By Permit2, not by the token itself.
    pub(crate) permit: Option<Permit>,
}

impl Transfer {
    /// From the value of a payment header: base64 of JSON, of MPP behind the scheme's name.
    pub(crate) fn in_header(value: &str) -> Option<Self> {
        let bytes = match value.strip_prefix("Payment ") {
            Some(credential) => URL_SAFE_NO_PAD.decode(credential),
            None => STANDARD.decode(value),
        };
        Self::of(&serde_json::from_slice(&bytes.ok()?).ok()?)
    }

    /// From a decoded payment: `{…, "payload": {"authorization": {…}, "signature": "0x…"}}`.
    pub(crate) fn of(payment: &Value) -> Option<Self> {
        if let Some(permitted) = permit::of(payment) {
            return Some(permitted);
        }
        // MPP has the authorization where x402 has what holds it.
        let payload = &payment["payload"];
        let a = match payload["type"] == "authorization" {
            true => payload,
            false => &payload["authorization"],
        };
        let text = |key: &str| a[key].as_str().map(str::to_owned);
        Some(Self {
            from: text("from")?,
            to: text("to")?,
            value: text("value")?.parse().ok()?,
            valid_after: text("validAfter")?.parse().ok()?,
            valid_before: text("validBefore")?.parse().ok()?,
            nonce: text("nonce")?,
            signature: payment["payload"]["signature"].as_str()?.to_owned(),
            permit: None,
        })
    }

    /// The contract that is called to take the money.
    pub(crate) fn taker(&self) -> &str {
        self.permit.as_ref().map_or(super::USDC, |p| &p.spender)
    }

    /// The call of `transferWithAuthorization`, or of x402's proxy, that takes the money: this much of
    /// it, where there is a choice.
    pub(crate) fn call_for(&self, amount: u128) -> String {
        if let Some(permit) = &self.permit {
            return permit.call(self, amount);
        }
        const CALL: &[u8] = b"transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)";
        let signature = bytes(&self.signature).unwrap();
        let words = [
            &address(&self.from).unwrap()[..],
            &address(&self.to).unwrap(),
            &word(self.value),
            &word(u128::from(self.valid_after)),
            &word(u128::from(self.valid_before)),
            &bytes(&self.nonce).unwrap(),
            &word(u128::from(signature[64])),
            &signature[..64],
        ];
        let data = [&keccak(&[CALL])[..4], &words.concat()].concat();
        format!("0x{}", hex::encode(data))
    }

    /// What is signed: these terms for this token.
    pub(crate) fn digest(&self, domain: &Domain) -> Option<[u8; 32]> {
        if let Some(permit) = &self.permit {
            return permit.digest(self, domain);
        }
        let separator = keccak(&[
            &keccak(&[b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"]),
            &keccak(&[domain.name.as_bytes()]),
            &keccak(&[domain.version.as_bytes()]),
            &word(u128::from(domain.chain)),
            &address(&domain.token)?,
        ]);
        let kind = b"TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)";
        let message = keccak(&[
            &keccak(&[kind]),
            &address(&self.from)?,
            &address(&self.to)?,
            &word(self.value),
            &word(u128::from(self.valid_after)),
            &word(u128::from(self.valid_before)),
            &bytes(&self.nonce)?,
        ]);
        Some(keccak(&[b"\x19\x01", &separator, &message]))
    }

    /// The address whose key signed exactly these terms for this token.
    pub(crate) fn signer(&self, domain: &Domain) -> Option<String> {
        let digest = self.digest(domain)?;
        let signature = bytes(&self.signature).filter(|s| s.len() == 65)?;
        let parity = i32::from(signature[64].checked_sub(27)?);
        let id = RecoveryId::from_i32(parity).ok()?;
        let signature = RecoverableSignature::from_compact(&signature[..64], id).ok()?;
        let key = Secp256k1::new()
            .recover_ecdsa(&Message::from_digest(digest), &signature)
            .ok()?;
        Some(address_of(&key))
    }
}

/// r ‖ s ‖ v with v 27 or 28, as signers elsewhere make it.
pub(crate) fn sign(secret: &[u8; 32], digest: [u8; 32]) -> [u8; 65] {
    let key = SecretKey::from_slice(secret).unwrap();
    let signed = Secp256k1::new().sign_ecdsa_recoverable(&Message::from_digest(digest), &key);
    let (id, compact) = signed.serialize_compact();
    let mut bytes = [0; 65];
    bytes[..64].copy_from_slice(&compact);
    bytes[64] = 27 + u8::try_from(id.to_i32()).unwrap();
    bytes
}

/// The address of a secret key, lower case.
pub(crate) fn payer(secret: &[u8; 32]) -> String {
    address_of(
        &SecretKey::from_slice(secret)
            .unwrap()
            .public_key(&Secp256k1::new()),
    )
}

fn address_of(key: &PublicKey) -> String {
    format!(
        "0x{}",
        hex::encode(&keccak(&[&key.serialize_uncompressed()[1..]])[12..])
    )
}

pub(crate) fn keccak(parts: &[&[u8]]) -> [u8; 32] {
    parts
        .iter()
        .fold(Keccak256::new(), |hash, part| hash.chain_update(part))
        .finalize()
        .into()
}

pub(super) fn word(value: u128) -> [u8; 32] {
    let mut word = [0; 32];
    word[16..].copy_from_slice(&value.to_be_bytes());
    word
}

pub(super) fn bytes(hexadecimal: &str) -> Option<Vec<u8>> {
    hex::decode(hexadecimal.strip_prefix("0x")?).ok()
}

pub(super) fn address(text: &str) -> Option<[u8; 32]> {
    let bytes = bytes(text).filter(|b| b.len() == 20)?;
    let mut word = [0; 32];
    word[12..].copy_from_slice(&bytes);
    Some(word)
}
