//! A transfer as EIP-712 typed data in JSON, as remote signers take it. Their own rules can read it, and
//! its digest is the one that we check their signature against.

use serde::Serialize;
use serde_json::Value;

use crate::evm::TransferWithAuthorization;

/// Largest whole number that every reader of JSON reads alike.
const EXACT_MAX: u64 = (1 << 53) - 1;

/// One member of a struct type: its name, its type.
type Member = (&'static str, &'static str);

const DOMAIN: [Member; 4] = [
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
];

const TRANSFER: [Member; 6] = [
    ("from", "address"),
    ("to", "address"),
    ("value", "uint256"),
    ("validAfter", "uint256"),
    ("validBefore", "uint256"),
    ("nonce", "bytes32"),
];

/// The struct type that is signed.
pub const PRIMARY: &str = "TransferWithAuthorization";

/// The four parts. `types` never changes: rules at a signer may compare it as a whole.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TypedData {
    pub(super) domain: Domain,
    pub(super) types: Types,
    pub(super) primary_type: &'static str,
    pub(super) message: Message,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Domain {
    name: String,
    version: String,
    chain_id: u64,
    verifying_contract: String,
}

/// Every struct type of a transfer, as `types` lists them.
#[derive(Debug, Serialize)]
pub struct Types {
    #[serde(rename = "EIP712Domain")]
    domain: Vec<Field>,
    #[serde(rename = "TransferWithAuthorization")]
    transfer: Vec<Field>,
}

#[derive(Debug, Serialize)]
struct Field {
    name: &'static str,
    r#type: &'static str,
}

/// Numbers as decimal text: they may have 128 bits.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message {
    from: String,
    to: String,
    value: String,
    valid_after: String,
    valid_before: String,
    nonce: String,
}

impl Default for Types {
    fn default() -> Self {
        Self {
            domain: fields(&DOMAIN),
            transfer: fields(&TRANSFER),
        }
    }
}

impl TypedData {
    /// `None` when signers could read it in more than one way: a chain's number beyond 2^53, or a
    /// name of the token that is not ASCII.
    pub(super) fn of(transfer: &TransferWithAuthorization) -> Option<Self> {
        let domain = &transfer.domain;
        let plain = domain.name.is_ascii() && domain.version.is_ascii();
        if !plain || domain.chain_id > EXACT_MAX {
            return None;
        }
        Some(Self {
            domain: Domain {
                name: domain.name.clone(),
                version: domain.version.clone(),
                chain_id: domain.chain_id,
                verifying_contract: domain.contract.to_string(),
            },
            types: Types::default(),
            primary_type: PRIMARY,
            message: Message {
                from: transfer.from.to_string(),
                to: transfer.to.to_string(),
                value: transfer.value.to_string(),
                valid_after: transfer.valid_after.to_string(),
                valid_before: transfer.valid_before.to_string(),
                nonce: format!("0x{}", hex::encode(transfer.nonce)),
            },
        })
    }

    /// Its JSON text, in the order of EIP-712's own examples.
    pub(super) fn text(&self) -> String {
        // Strings and numbers alone cannot fail to be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The same as a value.
    pub(super) fn value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

fn fields(members: &[Member]) -> Vec<Field> {
    let field = |(name, r#type): &Member| Field { name, r#type };
    members.iter().map(field).collect()
}
