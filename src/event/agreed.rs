//! What a payment was asked for and what was signed for it, as far as its other fields do not say:
//! kept once, with the reservation, so that it can be shown in a dispute.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::clock::Timestamp;
use crate::evm::{Charge, PERMIT2, PERMIT2_NAME, TempoCall, TempoFee, TempoTransfer};
use crate::payment::{Instruction, Requirement};

/// The rest of the offer, and the rest of the typed data or transaction. The signature is in no record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Agreed {
    /// SHA-256 of the chosen entry of the challenge as it was read, hexadecimal.
    pub offer: String,
    /// The URL that the offer names, without credentials, query and fragment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Seconds that the offer allows for the payment.
    pub max_timeout: u64,
    /// When the offer says that it expires, which comes before `max_timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// `name` of the signing domain.
    pub name: String,
    /// Its `version`.
    pub version: String,
    /// Its `chainId`.
    pub chain_id: u64,
    /// Its `verifyingContract`.
    pub contract: String,
    /// Who pays.
    pub from: String,
    /// Unix seconds after which the payload lives.
    pub valid_after: u64,
    /// What a Solana transaction says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub solana: Option<Transacted>,
    /// What a Permit2 payload says besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permit: Option<Permitted>,
    /// What a Tempo transaction says besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction: Option<TempoSigned>,
}

/// The rest of a Permit2 payload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Permitted {
    /// The token's contract.
    pub token: String,
    /// The contract that may move it.
    pub spender: String,
    /// Who says how much is taken, when that is not all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facilitator: Option<String>,
}

/// What a Solana transaction says besides recipient, amount and token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Transacted {
    /// Who pays for it and sends it.
    pub fee_payer: String,
    /// The program that moves the token.
    pub program: String,
    /// The token.
    pub mint: String,
    /// Its decimals.
    pub decimals: u8,
    /// The memo in it.
    pub memo: String,
    /// The recent block that it names.
    pub blockhash: String,
}

/// The rest of a Tempo transaction. Numbers are text: they may be larger than readers of JSON hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TempoSigned {
    /// Its transfers, in its order.
    pub calls: Vec<TempoPaid>,
    /// Most gas.
    pub gas: String,
    /// Most that one gas may cost.
    pub max_fee_per_gas: String,
    /// What of it the block's maker may have.
    pub max_priority_fee_per_gas: String,
    /// The token that pays the network; none where a fee payer does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fee_token: Option<String>,
}

/// One transfer of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TempoPaid {
    /// Who is paid.
    pub to: String,
    /// Atomic units.
    pub value: String,
    /// What the token's log says beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memo: Option<String>,
}

impl TempoSigned {
    fn new(transfer: &TempoTransfer) -> Self {
        let call = |call: &TempoCall| TempoPaid {
            to: call.to.to_string(),
            value: call.value.to_string(),
            memo: call.memo.map(|memo| format!("0x{}", hex::encode(memo))),
        };
        Self {
            calls: transfer.calls.iter().map(call).collect(),
            gas: transfer.gas.to_string(),
            max_fee_per_gas: transfer.max_fee_per_gas.to_string(),
            max_priority_fee_per_gas: transfer.max_priority_fee_per_gas.to_string(),
            fee_token: match transfer.fee {
                TempoFee::Own(token) => Some(token.unwrap_or_default().to_string()),
                TempoFee::Sponsored => None,
            },
        }
    }
}

impl Agreed {
    /// Of an offer and what the wallet is asked to sign for it.
    #[must_use]
    pub fn new(requirement: &Requirement, instruction: &Instruction) -> Self {
        let offered = Self {
            offer: digest(&requirement.offer.entry),
            resource: requirement.resource.as_deref().and_then(bare),
            max_timeout: requirement.valid_for,
            expires: requirement.expires,
            chain_id: instruction.chain_id().unwrap_or_default(),
            from: instruction
                .from()
                .map_or_else(String::new, |a| a.to_string()),
            ..Self::default()
        };
        match instruction {
            Instruction::Transfer(transfer) => Self {
                name: transfer.domain.name.clone(),
                version: transfer.domain.version.clone(),
                contract: transfer.domain.contract.to_string(),
                valid_after: transfer.valid_after,
                ..offered
            },
            Instruction::Permit(permit) => Self {
                name: PERMIT2_NAME.into(),
                contract: PERMIT2.to_string(),
                valid_after: permit.valid_after,
                permit: Some(Permitted {
                    token: permit.token.to_string(),
                    spender: permit.charge.spender().to_string(),
                    facilitator: match permit.charge {
                        Charge::Whole => None,
                        Charge::UpTo { facilitator } => Some(facilitator.to_string()),
                    },
                }),
                ..offered
            },
            Instruction::Tokens { transfer, .. } => {
                let terms = transfer.terms();
                Self {
                    from: terms.owner.to_string(),
                    contract: terms.mint.to_string(),
                    solana: Some(Transacted {
                        fee_payer: terms.fee_payer.to_string(),
                        program: terms.program.id().to_string(),
                        mint: terms.mint.to_string(),
                        decimals: terms.decimals,
                        memo: terms.memo.clone(),
                        blockhash: terms.blockhash.to_string(),
                    }),
                    ..offered
                }
            }
            Instruction::Tempo(transfer) => Self {
                contract: transfer.token.to_string(),
                valid_after: transfer.valid_after,
                transaction: Some(TempoSigned::new(transfer)),
                ..offered
            },
            // The invoice is in the offer, and what pays it signs nothing.
            Instruction::Invoice { .. } => offered,
        }
    }
}

fn digest(entry: &str) -> String {
    hex::encode(Sha256::digest(entry.as_bytes()))
}

/// A URL without what may be secret in it; what is no URL was the merchant's prose.
fn bare(url: &str) -> Option<String> {
    let url: http::Uri = url.parse().ok()?;
    let host = url.host()?;
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    Some(format!(
        "{}://{host}{port}{}",
        url.scheme_str()?,
        url.path()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_entry_as_it_was_read() {
        // printf '{ "scheme":"exact" }' | sha256sum
        const DIGEST: &str = "ca6092b32ca1302c14945ea05c0f3fa46aa1526cc0ef4642a01cc4dfd35bef10";
        let entry = r#"{ "scheme":"exact" }"#;
        assert_eq!(digest(entry), DIGEST);
    }

    #[test]
    fn a_resource_is_kept_without_what_may_be_secret() {
        let kept = |url| bare(url);
        let whole = "https://u:canary@api.example.com:8443/v1/x?key=canary#canary";
        assert_eq!(
            kept(whole).as_deref(),
            Some("https://api.example.com:8443/v1/x")
        );
        for prose in ["", "pay me now", "/v1/x?key=canary", "mailto:canary"] {
            assert_eq!(kept(prose), None, "{prose}");
        }
    }

    #[test]
    fn records_from_before_are_still_read() {
        let old: crate::event::SpendEvent = serde_json::from_str(r#"{"amount":"1"}"#).unwrap();
        assert_eq!(old.agreed, None);
        let text = serde_json::to_string(&old).unwrap();
        assert!(!text.contains("agreed"), "{text}");
    }
}
