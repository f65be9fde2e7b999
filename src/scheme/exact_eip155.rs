//! `exact` on EVM chains with EIP-3009: one transfer of exactly the price, signed off-chain, usable
//! once (x402 `scheme_exact_evm`).

use serde::Serialize;

use super::eip155::{self, payer, recipient};
use super::{Order, Recipient, Scheme};
use crate::evm::{Address, Domain, TransferWithAuthorization};
use crate::payment::{Instruction, Nonce, Problem, Reason, Requirement, Signature};

/// The scheme.
pub(super) const SCHEME: Scheme = Scheme {
    name: "exact",
    namespace: "eip155",
    transfer_method: "eip3009",
    instruct,
    payload,
};

/// What the merchant gets, members in the order of the official client.
#[derive(Serialize)]
struct Paid<'a> {
    authorization: Authorization<'a>,
    signature: String,
}

/// The signed message; numbers are strings.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Authorization<'a> {
    from: String,
    to: &'a str,
    value: String,
    valid_after: String,
    valid_before: String,
    nonce: String,
}

pub(super) fn instruct(order: &Order<'_>) -> Result<Instruction, Problem> {
    let domain = domain(order)?;
    let from = payer(order)?;
    let to = recipient(order.requirement, from, domain.contract)?;
    Ok(Instruction::Transfer(TransferWithAuthorization {
        domain,
        from,
        to,
        value: order.requirement.amount.0,
        valid_after: order.valid_after,
        valid_before: order.valid_before,
        nonce: order.nonce.0,
    }))
}

/// The signing domain of our own table. What the challenge says about it was only compared.
fn domain(order: &Order<'_>) -> Result<Domain, Problem> {
    let (chain_id, contract) = eip155::token(order)?;
    if !order.asset.eip3009 {
        let detail = "the asset's contract has no transfer with authorization (EIP-3009)";
        return Err(Problem::new(Reason::TransferMethodUnsupported, detail));
    }
    let names = order.asset.eip712.as_ref().ok_or_else(|| {
        let detail = "the asset has no signing domain in `assets`";
        Problem::new(Reason::AssetNotAllowed, detail)
    })?;
    Ok(Domain {
        name: names.name.clone(),
        version: names.version.clone(),
        chain_id,
        contract,
    })
}

fn payload(
    requirement: &Requirement,
    instruction: &Instruction,
    signature: &Signature,
    recipient: Recipient,
) -> Result<String, Problem> {
    let Instruction::Transfer(transfer) = instruction else {
        return Err(eip155::foreign());
    };
    let signature = eip155::signature(signature)?;
    let checksummed = transfer.to.to_string();
    let to = match recipient {
        Recipient::Checksummed => checksummed.as_str(),
        Recipient::AsOffered => requirement.pay_to.as_str(),
    };
    let paid = Paid {
        authorization: Authorization {
            from: transfer.from.to_string(),
            to,
            value: transfer.value.to_string(),
            valid_after: transfer.valid_after.to_string(),
            valid_before: transfer.valid_before.to_string(),
            nonce: Nonce(transfer.nonce).to_string(),
        },
        signature: format!("0x{}", hex::encode(signature)),
    };
    let same = requirement.amount.0 == transfer.value
        && Address::from_hex(&requirement.pay_to) == Ok(transfer.to);
    same.then(|| serde_json::to_string(&paid).ok())
        .flatten()
        .ok_or_else(eip155::foreign)
}
