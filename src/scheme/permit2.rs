//! Permit2 on EVM chains, through x402's own proxies: `exact` moves exactly the price, `upto` at most
//! the price and as much as the named facilitator says. Both once, off-chain signed (x402
//! `scheme_exact_evm` and `scheme_upto_evm`).

use std::str::FromStr;

use serde::Serialize;

use super::eip155::{self, payer, recipient};
use super::{Order, Recipient, Scheme};
use crate::evm::{Address, Charge, PERMIT2, PermitMessage, PermitTransfer};
use crate::payment::{Instruction, Problem, Reason, Requirement, Signature};

/// The whole price.
pub(super) const EXACT: Scheme = Scheme {
    name: "exact",
    namespace: "eip155",
    transfer_method: "permit2",
    instruct: |order| permit(order, Charge::Whole),
    payload,
};

/// At most the price.
pub(super) const UPTO: Scheme = Scheme {
    name: "upto",
    namespace: "eip155",
    transfer_method: "permit2",
    instruct: |order| permit(order, up_to(order)?),
    payload,
};

/// What the merchant gets, members in the order of the official client.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Paid {
    signature: String,
    permit2_authorization: Authorization,
}

#[derive(Serialize)]
struct Authorization {
    from: String,
    #[serde(flatten)]
    message: PermitMessage,
}

fn permit(order: &Order<'_>, charge: Charge) -> Result<Instruction, Problem> {
    let (chain_id, token) = eip155::token(order)?;
    let from = payer(order)?;
    let to = recipient(order.requirement, from, token)?;
    if to == PERMIT2 || to == charge.spender() {
        let detail = "the recipient is one of the contracts that would move the asset";
        return Err(Problem::new(Reason::RecipientInvalid, detail));
    }
    Ok(Instruction::Permit(PermitTransfer {
        chain_id,
        from,
        token,
        amount: order.requirement.amount.0,
        charge,
        nonce: order.nonce.0,
        // Permit2 still takes it in this very second. Whoever waits for its end waits a minute longer.
        deadline: order.valid_before,
        to,
        valid_after: order.valid_after,
    }))
}

/// Who may say how much is taken. Whoever it is, it cannot take more than was permitted, or give it to
/// another; but without a name nobody could settle, and a name that is no account hides something.
fn up_to(order: &Order<'_>) -> Result<Charge, Problem> {
    let malformed = |detail: &str| Problem::new(Reason::MalformedChallenge, detail);
    let named = order.requirement.facilitator.as_deref();
    let named = named.ok_or_else(|| malformed("the challenge names no facilitator"))?;
    let facilitator = Address::from_str(named)
        .map_err(|e| malformed(&format!("the facilitator is not an account: {e}")))?;
    if facilitator.is_reserved() {
        let detail = "the facilitator is the zero address or a precompiled contract";
        return Err(malformed(detail));
    }
    if facilitator == payer(order)? {
        return Err(malformed("the facilitator is the paying wallet itself"));
    }
    Ok(Charge::UpTo { facilitator })
}

fn payload(
    requirement: &Requirement,
    instruction: &Instruction,
    signature: &Signature,
    _recipient: Recipient,
) -> Result<String, Problem> {
    let signature = eip155::signature(signature)?;
    let Instruction::Permit(permit) = instruction else {
        return Err(eip155::foreign());
    };
    let facilitator = match permit.charge {
        Charge::Whole => None,
        Charge::UpTo { facilitator } => Some(facilitator),
    };
    let named = requirement.facilitator.as_deref();
    let named = named.filter(|_| facilitator.is_some());
    let same = requirement.amount.0 == permit.amount
        && Address::from_hex(&requirement.pay_to) == Ok(permit.to)
        && Address::from_hex(&requirement.asset) == Ok(permit.token)
        && named.and_then(|f| Address::from_hex(f).ok()) == facilitator
        && (requirement.scheme == "upto") == facilitator.is_some();
    let paid = Paid {
        signature: format!("0x{}", hex::encode(signature)),
        permit2_authorization: Authorization {
            from: permit.from.to_string(),
            message: permit.message(),
        },
    };
    same.then(|| serde_json::to_string(&paid).ok())
        .flatten()
        .ok_or_else(eip155::foreign)
}
