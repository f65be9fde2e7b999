//! `exact` on Solana: a transaction that moves exactly the price, signed by us, paid for and sent by the fee
//! payer that the challenge names (x402 `scheme_exact_svm`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::{Order, Recipient, Scheme};
use crate::payment::{Instruction, Problem, Reason, Requirement, Signature};
use crate::solana::{self, NotTransfer, Pubkey, TokenTransfer, Transfer};

/// The scheme.
pub(super) const SCHEME: Scheme = Scheme {
    name: "exact",
    namespace: "solana",
    transfer_method: "transfer",
    instruct,
    payload,
};

/// What the merchant gets.
#[derive(Serialize)]
struct Paid {
    transaction: String,
}

fn instruct(order: &Order<'_>) -> Result<Instruction, Problem> {
    let (asset, requirement) = (order.asset, order.requirement);
    let not_allowed = |detail: &str| Problem::new(Reason::AssetNotAllowed, detail);
    if asset.network != requirement.network || !asset.is(&requirement.asset) {
        return Err(not_allowed("the asset is not the one that was priced"));
    }
    let program = asset.token_program;
    let program = program.ok_or_else(|| not_allowed("the asset names no token program"))?;
    let mint = asset.address.parse();
    let mint = mint.map_err(|_| not_allowed("the asset's address is not a Solana address"))?;
    let unavailable = |detail: &str| Problem::new(Reason::WalletUnavailable, detail);
    let owner = order.payer.parse();
    let owner = owner.map_err(|_| unavailable("the wallet's address is not a Solana address"))?;
    let blockhash = order.cluster.blockhash;
    let transfer = Transfer {
        fee_payer: fee_payer(order)?,
        owner,
        payee: payee(requirement)?,
        mint,
        program,
        amount: amount(requirement)?,
        decimals: asset.decimals,
        memo: memo(order),
        blockhash: blockhash.ok_or_else(|| unavailable("no recent block of the chain is known"))?,
    };
    let transfer = TokenTransfer::new(transfer).map_err(|why| {
        let reason = match why {
            NotTransfer::Payee => Reason::RecipientInvalid,
            NotTransfer::FeePayer | NotTransfer::Memo | NotTransfer::Accounts => {
                Reason::MalformedChallenge
            }
        };
        Problem::new(reason, why.to_string())
    })?;
    Ok(Instruction::Tokens {
        network: requirement.network.clone(),
        transfer: Box::new(transfer),
    })
}

/// Whoever it is can do no more than send what we signed. It must be able to sign for itself, though.
fn fee_payer(order: &Order<'_>) -> Result<Pubkey, Problem> {
    let malformed = |detail: &str| Problem::new(Reason::MalformedChallenge, detail);
    let named = order.cluster.fee_payer;
    let named = named.ok_or_else(|| malformed("the challenge names no fee payer"))?;
    let fee_payer: Pubkey = named
        .parse()
        .map_err(|_| malformed("the fee payer is not a Solana address"))?;
    if named == order.payer {
        return Err(malformed("the fee payer is the paying wallet itself"));
    }
    match fee_payer.is_on_curve() {
        true => Ok(fee_payer),
        false => Err(malformed("no key can sign for the fee payer")),
    }
}

fn payee(requirement: &Requirement) -> Result<Pubkey, Problem> {
    let payee = requirement.pay_to.parse();
    payee.map_err(|e| {
        let detail = format!("the recipient is not a payable address: {e}");
        Problem::new(Reason::RecipientInvalid, detail)
    })
}

/// Token accounts hold 64 bits.
fn amount(requirement: &Requirement) -> Result<u64, Problem> {
    u64::try_from(requirement.amount.0).map_err(|_| {
        let detail = "the price is more than any account on this chain can hold";
        Problem::new(Reason::OverRequestCap, detail)
    })
}

/// The merchant's, or half of our random nonce in digits. One of nothing is none, as the official client has it.
fn memo(order: &Order<'_>) -> String {
    match order.cluster.memo.filter(|memo| !memo.is_empty()) {
        Some(memo) => memo.to_owned(),
        None => {
            let (half, _) = order.nonce.0.split_at(16);
            hex::encode(half)
        }
    }
}

fn payload(
    requirement: &Requirement,
    instruction: &Instruction,
    signature: &Signature,
    _recipient: Recipient,
) -> Result<String, Problem> {
    let transfer = match instruction {
        Instruction::Tokens { network, transfer } if *network == requirement.network => transfer,
        Instruction::Tokens { .. }
        | Instruction::Transfer(_)
        | Instruction::Permit(_)
        | Instruction::Tempo(_)
        | Instruction::Invoice { .. } => return Err(super::eip155::foreign()),
    };
    let transaction = match signature {
        Signature::Solana(signature) => transfer.transaction(signature),
        // The wallet looked at it; nothing else goes out all the same.
        Signature::Transaction(made) if solana::same(made, transfer).is_some() => made.clone(),
        Signature::Transaction(_) => return Err(super::eip155::foreign()),
        Signature::Evm(_) | Signature::Authorization { .. } | Signature::Preimage { .. } => {
            return Err(super::eip155::foreign());
        }
    };
    let terms = transfer.terms();
    let same = requirement.amount.0 == u128::from(terms.amount)
        && requirement.pay_to.parse() == Ok(terms.payee)
        && requirement.asset.parse() == Ok(terms.mint);
    let paid = Paid {
        transaction: STANDARD.encode(transaction),
    };
    same.then(|| serde_json::to_string(&paid).ok())
        .flatten()
        .ok_or_else(super::eip155::foreign)
}
