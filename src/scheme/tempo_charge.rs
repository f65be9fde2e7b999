//! MPP's `tempo/charge` as a signed transaction: TIP-20 transfers to the payee and to those who share the
//! amount, and to nobody else.

use serde::Serialize;

use super::eip155::{self, payable};
use super::{Order, Recipient, Scheme};
use crate::evm::{Address, TempoCall, TempoFee, TempoTransfer, is_tip20};
use crate::money::Amount;
use crate::payment::{Instruction, Problem, Reason, Requirement, Signature};

/// The scheme.
pub(super) const SCHEME: Scheme = Scheme {
    name: "tempo/charge",
    namespace: "eip155",
    transfer_method: "tip20",
    instruct,
    payload,
};

/// Most gas of one transfer, as the official client takes it, and of each more. A transfer uses some ten
/// thousand, and some hundred thousand where the payee never held the token.
const GAS: u64 = 789_000;
const GAS_MORE: u64 = 120_000;

/// Decimals of every TIP-20 token.
const DECIMALS: u8 = 6;

/// Gas is priced in billionths of a billionth of a dollar: so many are one atomic unit of a token.
const PER_ATOM: u128 = 1_000_000_000_000;

/// What a fee payer may be charged at most: below what fee payers refuse by default. No money of ours.
const SPONSORED: u128 = 40_000 * PER_ATOM;

/// What of the price of gas goes to the block's maker.
const PRIORITY: u128 = 1_000_000_000;

/// What the merchant gets, members in the order of RFC 8785.
#[derive(Serialize)]
struct Paid {
    signature: String,
    r#type: &'static str,
}

fn instruct(order: &Order<'_>) -> Result<Instruction, Problem> {
    let requirement = order.requirement;
    let (chain_id, token) = eip155::token(order)?;
    if !is_tip20(token) || order.asset.decimals != DECIMALS {
        let detail = "the asset is no token of Tempo (TIP-20) with six decimals";
        return Err(Problem::new(Reason::AssetNotAllowed, detail));
    }
    let from = eip155::payer(order)?;
    let calls = calls(order, from, token)?;
    let more = u64::try_from(calls.len().saturating_sub(1)).unwrap_or(u64::MAX);
    let gas = GAS.saturating_add(GAS_MORE.saturating_mul(more));
    let (fee, most) = match requirement.own_fee {
        // In the token that pays: the one that the rule has a price for.
        true => (
            TempoFee::Own(Some(token)),
            order.fee.0.saturating_mul(PER_ATOM),
        ),
        false => (TempoFee::Sponsored, SPONSORED),
    };
    let max_fee_per_gas = most / u128::from(gas);
    if max_fee_per_gas == 0 {
        let detail = "what the rule allows for the network's fee buys no gas";
        return Err(Problem::new(Reason::TransferMethodUnsupported, detail));
    }
    Ok(Instruction::Tempo(TempoTransfer {
        chain_id,
        from,
        token,
        calls,
        gas,
        max_fee_per_gas,
        max_priority_fee_per_gas: PRIORITY.min(max_fee_per_gas),
        valid_after: order.valid_after,
        valid_before: order.valid_before,
        fee,
    }))
}

/// The payee's call with the memo, then everybody's else, in the merchant's order.
fn calls(order: &Order<'_>, from: Address, token: Address) -> Result<Vec<TempoCall>, Problem> {
    let requirement = order.requirement;
    let payable = |text: &str| match payable(text, from, token)? {
        to if is_tip20(to) => {
            let detail = "the recipient is the contract of a token";
            Err(Problem::new(Reason::RecipientInvalid, detail))
        }
        to => Ok(to),
    };
    let mut left = requirement.amount.0;
    let mut others = vec![];
    for split in &requirement.splits {
        left = left.checked_sub(split.amount.0).ok_or_else(unshared)?;
        others.push(TempoCall {
            to: payable(&split.pay_to)?,
            value: split.amount.0,
            memo: split.memo,
        });
    }
    if left == 0 {
        return Err(unshared());
    }
    let first = TempoCall {
        to: payable(&requirement.pay_to)?,
        value: left,
        memo: Some(order.nonce.0),
    };
    Ok(std::iter::once(first).chain(others).collect())
}

fn unshared() -> Problem {
    let detail = "the shares leave nothing of the amount for the payee";
    Problem::new(Reason::SplitInvalid, detail)
}

fn payload(
    requirement: &Requirement,
    instruction: &Instruction,
    signature: &Signature,
    _recipient: Recipient,
) -> Result<String, Problem> {
    let Instruction::Tempo(transfer) = instruction else {
        return Err(eip155::foreign());
    };
    let signature = eip155::signature(signature)?;
    let paid = Paid {
        signature: format!("0x{}", hex::encode(transfer.signed(signature))),
        r#type: "transaction",
    };
    let payees = transfer.calls.iter().map(|call| Ok(call.to));
    let same = transfer.total().map(Amount) == Some(requirement.amount)
        && requirement.payees().map(Address::from_hex).eq(payees);
    same.then(|| serde_json::to_string(&paid).ok())
        .flatten()
        .ok_or_else(eip155::foreign)
}
