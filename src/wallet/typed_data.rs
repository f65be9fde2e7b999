//! An instruction as EIP-712 typed data in JSON, as remote signers take it. Their own rules can read it,
//! and its digest is the one that we check their signature against.

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::evm::{
    Charge, PERMIT2, PERMIT2_NAME, PermitMessage, PermitTransfer, TransferWithAuthorization,
};
use crate::payment::Instruction;

/// Largest whole number that every reader of JSON reads alike.
const EXACT_MAX: u64 = (1 << 53) - 1;

/// One member of a struct type: its name, its type.
type Member = (&'static str, &'static str);

/// A struct type: its name, its members.
type Struct = (&'static str, &'static [Member]);

const DOMAIN: Struct = (
    "EIP712Domain",
    &[
        ("name", "string"),
        ("version", "string"),
        ("chainId", "uint256"),
        ("verifyingContract", "address"),
    ],
);

/// That of Permit2, which has no version.
const PERMIT2_DOMAIN: Struct = (
    "EIP712Domain",
    &[
        ("name", "string"),
        ("chainId", "uint256"),
        ("verifyingContract", "address"),
    ],
);

const TRANSFER: Struct = (
    "TransferWithAuthorization",
    &[
        ("from", "address"),
        ("to", "address"),
        ("value", "uint256"),
        ("validAfter", "uint256"),
        ("validBefore", "uint256"),
        ("nonce", "bytes32"),
    ],
);

const PERMIT: Struct = (
    "PermitWitnessTransferFrom",
    &[
        ("permitted", "TokenPermissions"),
        ("spender", "address"),
        ("nonce", "uint256"),
        ("deadline", "uint256"),
        ("witness", "Witness"),
    ],
);

const PERMITTED: Struct = (
    "TokenPermissions",
    &[("token", "address"), ("amount", "uint256")],
);

const WITNESS: Struct = ("Witness", &[("to", "address"), ("validAfter", "uint256")]);

const UPTO_WITNESS: Struct = (
    "Witness",
    &[
        ("to", "address"),
        ("facilitator", "address"),
        ("validAfter", "uint256"),
    ],
);

/// The four parts. For each form `types` never changes: rules at a signer may compare it as a whole.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    chain_id: u64,
    verifying_contract: String,
}

/// The forms of typed data that this program signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// EIP-3009.
    Transfer,
    /// Permit2 through x402's proxy for `exact`.
    Permit,
    /// Permit2 through x402's proxy for `upto`.
    UptoPermit,
}

/// Every struct type of a form, as `types` lists them.
#[derive(Debug)]
pub struct Types(&'static [Struct]);

impl Form {
    /// The struct type that is signed.
    #[must_use]
    pub fn primary(self) -> &'static str {
        match self {
            Self::Transfer => TRANSFER.0,
            Self::Permit | Self::UptoPermit => PERMIT.0,
        }
    }

    /// Its struct types, the domain's first.
    #[must_use]
    pub fn types(self) -> Types {
        match self {
            Self::Transfer => Types(&[DOMAIN, TRANSFER]),
            Self::Permit => Types(&[PERMIT2_DOMAIN, PERMIT, PERMITTED, WITNESS]),
            Self::UptoPermit => Types(&[PERMIT2_DOMAIN, PERMIT, PERMITTED, UPTO_WITNESS]),
        }
    }
}

impl Serialize for Types {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, members) in self.0 {
            let field = |(name, r#type): &Member| Field { name, r#type };
            let fields: Vec<Field> = members.iter().map(field).collect();
            map.serialize_entry(name, &fields)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Field {
    name: &'static str,
    r#type: &'static str,
}

/// Numbers as decimal text: they may have 256 bits.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Message {
    Transfer(Transfer),
    Permit(PermitMessage),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Transfer {
    from: String,
    to: String,
    value: String,
    valid_after: String,
    valid_before: String,
    nonce: String,
}

impl TypedData {
    /// `None` when signers could read it in more than one way: a chain's number beyond 2^53, or a
    /// name of the token that is not ASCII; and of what is no typed data.
    pub(super) fn of(instruction: &Instruction) -> Option<Self> {
        if instruction.chain_id()? > EXACT_MAX {
            return None;
        }
        match instruction {
            Instruction::Transfer(transfer) => Self::of_transfer(transfer),
            Instruction::Permit(permit) => Some(Self::of_permit(permit)),
            Instruction::Tempo(_) | Instruction::Tokens { .. } | Instruction::Invoice { .. } => {
                None
            }
        }
    }

    fn of_transfer(transfer: &TransferWithAuthorization) -> Option<Self> {
        let domain = &transfer.domain;
        if !domain.name.is_ascii() || !domain.version.is_ascii() {
            return None;
        }
        Some(Self {
            domain: Domain {
                name: domain.name.clone(),
                version: Some(domain.version.clone()),
                chain_id: domain.chain_id,
                verifying_contract: domain.contract.to_string(),
            },
            types: Form::Transfer.types(),
            primary_type: Form::Transfer.primary(),
            message: Message::Transfer(Transfer {
                from: transfer.from.to_string(),
                to: transfer.to.to_string(),
                value: transfer.value.to_string(),
                valid_after: transfer.valid_after.to_string(),
                valid_before: transfer.valid_before.to_string(),
                nonce: format!("0x{}", hex::encode(transfer.nonce)),
            }),
        })
    }

    fn of_permit(permit: &PermitTransfer) -> Self {
        let form = match permit.charge {
            Charge::Whole => Form::Permit,
            Charge::UpTo { .. } => Form::UptoPermit,
        };
        Self {
            domain: Domain {
                name: PERMIT2_NAME.into(),
                version: None,
                chain_id: permit.chain_id,
                verifying_contract: PERMIT2.to_string(),
            },
            types: form.types(),
            primary_type: form.primary(),
            message: Message::Permit(permit.message()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evm::Address;

    /// The official client's typed data, and what it says.
    fn vectors() -> [(Value, Charge); 2] {
        let exact = include_str!("../../tests/vectors/x402/signing/exact-permit2.json");
        let upto = include_str!("../../tests/vectors/x402/signing/upto-permit2.json");
        let facilitator = Address::from_hex("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266").unwrap();
        [
            (serde_json::from_str(exact).unwrap(), Charge::Whole),
            (
                serde_json::from_str(upto).unwrap(),
                Charge::UpTo { facilitator },
            ),
        ]
    }

    #[test]
    fn remote_signers_get_the_official_clients_typed_data() {
        for (vector, charge) in vectors() {
            let (eip712, at) = (&vector["eip712"][0], |v: &Value| {
                Address::from_hex(v.as_str().unwrap()).unwrap()
            });
            let (message, random) = (&eip712["message"], vector["random"].as_str().unwrap());
            let mut nonce = [0; 32];
            hex::decode_to_slice(&random[2..], &mut nonce).unwrap();
            let number = |v: &Value| v.as_str().unwrap().parse::<u64>().unwrap();
            let permit = PermitTransfer {
                chain_id: eip712["domain"]["chainId"].as_u64().unwrap(),
                from: at(&vector["address"]),
                token: at(&message["permitted"]["token"]),
                amount: number(&message["permitted"]["amount"]).into(),
                charge,
                nonce,
                deadline: number(&message["deadline"]),
                to: at(&message["witness"]["to"]),
                valid_after: 0,
            };
            let digest = format!("0x{}", hex::encode(permit.digest()));
            assert_eq!(digest, eip712["digest"].as_str().unwrap());
            let ours = TypedData::of(&Instruction::Permit(permit)).unwrap().value();
            for part in ["domain", "primaryType", "message"] {
                assert_eq!(ours[part], eip712[part], "{part}");
            }
            let mut types = ours["types"].clone();
            types.as_object_mut().unwrap().remove("EIP712Domain");
            assert_eq!(types, eip712["types"]);
        }
    }
}
