//! MPP's `tempo/charge` (draft-tempo-charge-00): a transaction on Tempo that we sign and the merchant sends. What
//! it does is made of the price and the payees alone; a challenge that dictates more is refused by name.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::Terms;
use super::encoding::object;
use super::entry::{amount, word};
use crate::evm::keccak;
use crate::money::{Amount, Network};
use crate::payment::{Instruction, Nonce, Problem, Reason, Requirement, Split};
use crate::scheme;

/// What we call it.
pub(super) const TEMPO_CHARGE: &str = "tempo/charge";

/// Seconds that such a transaction lives: the chain takes none that may wait for more than 30.
const LIFE: u64 = 25;

/// Seconds of a challenge that must be left: fee payers do not sign below the first of them, and what is
/// dead before it arrives is not signed.
const MARGIN_SPONSORED: u64 = 15;
const MARGIN_OWN: u64 = 2;

/// Most splits of one charge.
const SPLITS_MAX: usize = 10;

/// Members that would make the transaction another one.
const DICTATES: &[&str] = &[
    "accessList",
    "approve",
    "authorizationList",
    "call",
    "calldata",
    "callData",
    "calls",
    "data",
    "feePayerSignature",
    "feeToken",
    "gas",
    "gasPrice",
    "input",
    "keyAuthorization",
    "maxFeePerGas",
    "maxPriorityFeePerGas",
    "nonce",
    "nonceKey",
    "spender",
    "to",
    "transaction",
    "tx",
    "value",
];

/// `methodDetails` of `tempo`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Details<'a> {
    chain_id: Option<u64>,
    fee_payer: Option<bool>,
    supported_modes: Option<Vec<String>>,
    #[serde(borrow)]
    splits: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    memo: Option<&'a RawValue>,
}

/// One of `splits`.
#[derive(Deserialize)]
struct Share<'a> {
    #[serde(borrow)]
    amount: Option<&'a RawValue>,
    #[serde(borrow)]
    recipient: Option<&'a RawValue>,
    #[serde(borrow)]
    memo: Option<&'a RawValue>,
}

/// The members of a charge that decide.
pub(super) struct Asked<'a> {
    pub(super) amount: Option<&'a RawValue>,
    pub(super) currency: Option<&'a RawValue>,
    pub(super) recipient: Option<&'a RawValue>,
    pub(super) method_details: Option<&'a RawValue>,
    /// All of it.
    pub(super) request: &'a str,
}

fn malformed(detail: &'static str) -> Problem {
    Problem::new(Reason::MalformedChallenge, detail)
}

/// What the request asks for, if that is paid.
pub(super) fn read(asked: &Asked<'_>) -> Result<Requirement, Problem> {
    let unreadable = || malformed("the details of the payment method cannot be read");
    let text = asked.method_details.map_or("{}", RawValue::get);
    dictates(asked.request)?;
    dictates(text)?;
    let details: Details<'_> = object(text).map_err(|_| unreadable())?;
    let chain = details.chain_id.map(|id| format!("eip155:{id}"));
    let network = chain.and_then(|name| name.parse::<Network>().ok());
    let network = network.ok_or_else(|| {
        let detail = "the challenge does not say by its number on which chain it is paid";
        Problem::new(Reason::NetworkNotAllowed, detail)
    })?;
    pulls(details.supported_modes.as_deref())?;
    if details.memo.is_some() {
        let detail =
            "the challenge dictates the memo of the transfer, by which the payment is found again";
        return Err(Problem::new(Reason::ExtensionRefused, detail));
    }
    let amount = amount(asked.amount)?;
    let asset = word(asked.currency).ok_or_else(|| malformed("the challenge names no currency"))?;
    let pay_to = word(asked.recipient).ok_or_else(|| {
        let detail = "the challenge names no recipient";
        Problem::new(Reason::RecipientInvalid, detail)
    })?;
    Ok(Requirement {
        protocol: "mpp",
        scheme: TEMPO_CHARGE.into(),
        network,
        asset,
        amount,
        pay_to,
        valid_for: LIFE,
        expires: None,
        transfer_method: "tip20".into(),
        facilitator: None,
        splits: splits(details.splits.unwrap_or_default(), amount)?,
        own_fee: details.fee_payer != Some(true),
        resource: None,
        mime_type: None,
        offer: std::sync::Arc::default(),
    })
}

/// The transaction is made here, whatever the merchant would like in it.
fn dictates(object: &str) -> Result<(), Problem> {
    let members: BTreeMap<String, IgnoredAny> = serde_json::from_str(object)
        .map_err(|_| malformed("a part of the request is no object"))?;
    match DICTATES.iter().find(|name| members.contains_key(**name)) {
        None => Ok(()),
        Some(name) => {
            let detail = format!(
                "the challenge dictates `{name}`, and a transaction is made of price and payees alone"
            );
            Err(Problem::new(Reason::ExtensionRefused, detail))
        }
    }
}

/// Does the merchant take a transaction to be sent? Silence takes it.
fn pulls(modes: Option<&[String]>) -> Result<(), Problem> {
    let Some(modes) = modes else { return Ok(()) };
    let takes = |mode: &str| modes.iter().any(|m| m == mode);
    let detail = match (takes("pull"), takes("push")) {
        (true, _) => return Ok(()),
        (false, true) => {
            "the payer would have to send the transaction itself, and the money would be gone before the merchant answers"
        }
        (false, false) => "the challenge takes no signed transaction",
    };
    Err(Problem::new(Reason::TransferMethodUnsupported, detail))
}

/// Shares of others: each above nothing, and all together below the amount, so that something is left for
/// the payee.
fn splits(shares: Vec<&RawValue>, whole: Amount) -> Result<Vec<Split>, Problem> {
    let invalid = |detail: &'static str| Problem::new(Reason::SplitInvalid, detail);
    if shares.len() > SPLITS_MAX {
        return Err(invalid("the amount is split among more than ten others"));
    }
    let mut left = whole.0;
    let mut splits = Vec::with_capacity(shares.len());
    for raw in shares {
        dictates(raw.get())?;
        let unreadable = |_| invalid("a share of the amount cannot be read");
        let share: Share<'_> = object(raw.get()).map_err(unreadable)?;
        let amount = amount(share.amount)?;
        if amount.0 == 0 {
            return Err(invalid("a share of the amount is nothing"));
        }
        left = left
            .checked_sub(amount.0)
            .filter(|left| *left > 0)
            .ok_or_else(|| invalid("the shares leave nothing of the amount for the payee"))?;
        let pay_to = word(share.recipient);
        splits.push(Split {
            amount,
            pay_to: pay_to.ok_or_else(|| invalid("a share of the amount has no recipient"))?,
            memo: share.memo.map(memo_of).transpose()?,
        });
    }
    Ok(splits)
}

/// 32 bytes, hexadecimal.
fn memo_of(raw: &RawValue) -> Result<[u8; 32], Problem> {
    let mut bytes = [0; 32];
    let text = word(Some(raw));
    let digits = text.as_deref().and_then(|t| t.strip_prefix("0x"));
    digits
        .and_then(|digits| hex::decode_to_slice(digits, &mut bytes).ok())
        .map(|()| bytes)
        .ok_or_else(|| {
            let detail = "the memo of a share is not 32 bytes";
            Problem::new(Reason::SplitInvalid, detail)
        })
}

/// The memo that binds the transfer to its challenge: merchants take no other. It names no client, so one
/// challenge has one memo, and one payment.
fn memo(realm: &str, id: &str) -> [u8; 32] {
    let mut memo = [0; 32];
    let parts = [
        (&keccak(b"mpp")[..], 0..4),
        (&[1], 4..5),
        (&keccak(realm.as_bytes()), 5..15),
        (&keccak(id.as_bytes()), 25..32),
    ];
    for (bytes, place) in parts {
        let to = memo.get_mut(place).unwrap_or_default();
        to.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    }
    memo
}

/// What the wallet signs for a challenge of this realm and id.
pub(super) fn instruct(terms: &Terms<'_>, realm: &str, id: &str) -> Result<Instruction, Problem> {
    let needed = match terms.requirement.own_fee {
        true => MARGIN_OWN,
        false => MARGIN_SPONSORED,
    };
    if terms.valid_for < needed {
        let detail = "the challenge expires before a payment could arrive";
        return Err(Problem::new(Reason::ChallengeExpired, detail));
    }
    let life = terms.valid_for.min(LIFE);
    scheme::instruct(&scheme::Order {
        requirement: terms.requirement,
        asset: terms.asset,
        payer: terms.payer,
        nonce: Nonce(memo(realm, id)),
        valid_after: long_ago(terms.nonce),
        valid_before: terms.now.secs().saturating_add(life),
        fee: terms.fee,
        cluster: scheme::Cluster::default(),
    })
}

/// A moment before 1987, another one for each payment: what keeps two transactions apart that are the same
/// otherwise.
fn long_ago(random: Nonce) -> u64 {
    let [a, b, c, d, ..] = random.0;
    u64::from(u32::from_be_bytes([a & 0x1f, b, c, d | 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memo_is_the_official_clients() {
        let text = include_str!("../../tests/vectors/mpp/derived.json");
        let derived: serde_json::Value = serde_json::from_str(text).unwrap();
        let wanted = &derived["attribution_memo"];
        let of = |name: &str| wanted[name].as_str().unwrap();
        let found = memo(of("server_id"), of("challenge_id"));
        assert_eq!(format!("0x{}", hex::encode(found)), of("anonymous"));
    }

    #[test]
    fn a_transaction_has_been_valid_since_long_ago() {
        assert_eq!(long_ago(Nonce([0; 32])), 1);
        assert_eq!(long_ago(Nonce([0xff; 32])), 0x1fff_ffff);
        assert_ne!(long_ago(Nonce([1; 32])), long_ago(Nonce([2; 32])));
    }
}
