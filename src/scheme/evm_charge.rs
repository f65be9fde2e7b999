//! MPP's `evm/charge` by authorization: the transfer of `exact` with EIP-3009, whose nonce the
//! challenge decides.

use serde::Serialize;

use super::{Order, Recipient, Scheme, eip155, exact_eip155};
use crate::evm::Address;
use crate::payment::{Instruction, Nonce, Problem, Requirement, Signature};

/// The scheme.
pub(super) const SCHEME: Scheme = Scheme {
    name: "evm/charge",
    namespace: "eip155",
    transfer_method: "eip3009",
    instruct: |order: &Order<'_>| exact_eip155::instruct(order),
    payload,
};

/// What the merchant gets, members in the order of RFC 8785.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Paid {
    from: String,
    nonce: String,
    signature: String,
    to: String,
    r#type: &'static str,
    valid_after: String,
    valid_before: String,
    value: String,
}

fn payload(
    requirement: &Requirement,
    instruction: &Instruction,
    signature: &Signature,
    _recipient: Recipient,
) -> Result<String, Problem> {
    let Instruction::Transfer(transfer) = instruction else {
        return Err(eip155::foreign());
    };
    let signature = eip155::signature(signature)?;
    let paid = Paid {
        from: transfer.from.to_string(),
        nonce: Nonce(transfer.nonce).to_string(),
        signature: format!("0x{}", hex::encode(signature)),
        to: transfer.to.to_string(),
        r#type: "authorization",
        valid_after: transfer.valid_after.to_string(),
        valid_before: transfer.valid_before.to_string(),
        value: transfer.value.to_string(),
    };
    let same = requirement.amount.0 == transfer.value
        && Address::from_hex(&requirement.pay_to) == Ok(transfer.to);
    same.then(|| serde_json::to_string(&paid).ok())
        .flatten()
        .ok_or_else(eip155::foreign)
}
