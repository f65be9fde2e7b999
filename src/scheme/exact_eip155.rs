//! `exact` on EVM chains with EIP-3009: one transfer of exactly the price, signed off-chain, usable
//! once (x402 `scheme_exact_evm`).

use std::str::FromStr;

use serde::Serialize;

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

fn instruct(order: &Order<'_>) -> Result<Instruction, Problem> {
    let domain = domain(order)?;
    let from = Address::from_str(order.payer).map_err(|_| {
        let detail = "the wallet's address is not an EVM address";
        Problem::new(Reason::WalletUnavailable, detail)
    })?;
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
    let (asset, requirement) = (order.asset, order.requirement);
    let not_allowed = |detail: &str| Problem::new(Reason::AssetNotAllowed, detail);
    if asset.network != requirement.network || !asset.is(&requirement.asset) {
        return Err(not_allowed("the asset is not the one that was priced"));
    }
    if !asset.eip3009 {
        let detail = "the asset's contract has no transfer with authorization (EIP-3009)";
        return Err(Problem::new(Reason::TransferMethodUnsupported, detail));
    }
    let names = asset.eip712.as_ref();
    let names = names.ok_or_else(|| not_allowed("the asset has no signing domain in `assets`"))?;
    let chain_id = asset.network.chain_id();
    Ok(Domain {
        name: names.name.clone(),
        version: names.version.clone(),
        chain_id: chain_id.ok_or_else(|| not_allowed("the asset's network has no chain id"))?,
        contract: Address::from_hex(&asset.address)
            .map_err(|_| not_allowed("the asset's address is not an EVM address"))?,
    })
}

/// A payee who can have meant it: a well-formed address, not reserved, not the token, not ourselves.
fn recipient(
    requirement: &Requirement,
    payer: Address,
    contract: Address,
) -> Result<Address, Problem> {
    let invalid = |detail: &str| Problem::new(Reason::RecipientInvalid, detail);
    let to = Address::from_str(&requirement.pay_to)
        .map_err(|e| invalid(&format!("the recipient is not a payable address: {e}")))?;
    if to.is_reserved() {
        return Err(invalid(
            "the recipient is the zero address or a precompiled contract",
        ));
    }
    if to == contract {
        return Err(invalid("the recipient is the token contract itself"));
    }
    if to == payer {
        return Err(invalid("the recipient is the paying wallet itself"));
    }
    Ok(to)
}

fn payload(
    requirement: &Requirement,
    instruction: &Instruction,
    signature: &Signature,
    recipient: Recipient,
) -> Result<String, Problem> {
    let Instruction::Transfer(transfer) = instruction;
    let Signature::Evm(signature) = signature;
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
        .ok_or_else(|| {
            let detail = "what was signed is not what was approved";
            Problem::new(Reason::WalletUnavailable, detail)
        })
}
