//! What every scheme on EVM chains asks before anything is signed.

use std::str::FromStr;

use super::Order;
use crate::evm::Address;
use crate::payment::{Problem, Reason, Requirement, Signature};

/// The asset that was priced: its chain's number and its contract, from our own table.
pub(super) fn token(order: &Order<'_>) -> Result<(u64, Address), Problem> {
    let (asset, requirement) = (order.asset, order.requirement);
    let not_allowed = |detail: &str| Problem::new(Reason::AssetNotAllowed, detail);
    if asset.network != requirement.network || !asset.is(&requirement.asset) {
        return Err(not_allowed("the asset is not the one that was priced"));
    }
    let chain_id = asset.network.chain_id();
    let chain_id = chain_id.ok_or_else(|| not_allowed("the asset's network has no chain id"))?;
    let contract = Address::from_hex(&asset.address)
        .map_err(|_| not_allowed("the asset's address is not an EVM address"))?;
    Ok((chain_id, contract))
}

/// The paying wallet's account.
pub(super) fn payer(order: &Order<'_>) -> Result<Address, Problem> {
    Address::from_str(order.payer).map_err(|_| {
        let detail = "the wallet's address is not an EVM address";
        Problem::new(Reason::WalletUnavailable, detail)
    })
}

/// A payee who can have meant it: a well-formed address, not reserved, not the token, not ourselves.
pub(super) fn recipient(
    requirement: &Requirement,
    payer: Address,
    contract: Address,
) -> Result<Address, Problem> {
    payable(&requirement.pay_to, payer, contract)
}

/// The same of anybody who is to get a part.
pub(super) fn payable(text: &str, payer: Address, contract: Address) -> Result<Address, Problem> {
    let invalid = |detail: &str| Problem::new(Reason::RecipientInvalid, detail);
    let to = Address::from_str(text)
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

/// What an EVM account signs with.
pub(super) fn signature(signature: &Signature) -> Result<&[u8; 65], Problem> {
    match signature {
        Signature::Evm(signature) => Ok(signature),
        Signature::Solana(_)
        | Signature::Transaction(_)
        | Signature::Authorization { .. }
        | Signature::Preimage { .. } => Err(foreign()),
    }
}

/// Instruction and requirement do not belong together: a bug, found before anything is sent.
pub(super) fn foreign() -> Problem {
    Problem::new(
        Reason::WalletUnavailable,
        "what was signed is not what was approved",
    )
}
