//! How a scheme turns a requirement into something to sign, and a signature into what a protocol
//! carries. Shared by every protocol that speaks the scheme.

use serde_json::value::RawValue;

use crate::money::{Amount, Asset};
use crate::payment::{Instruction, Nonce, Problem, Reason, Requirement, Signature};
use crate::solana::Blockhash;

mod eip155;
mod evm_charge;
mod exact_eip155;
mod exact_solana;
mod permit2;
mod tempo_charge;

/// Every scheme, one per chain family and way of moving the asset.
pub const SCHEMES: &[&Scheme] = &[
    &exact_eip155::SCHEME,
    &permit2::EXACT,
    &permit2::UPTO,
    &evm_charge::SCHEME,
    &exact_solana::SCHEME,
    &tempo_charge::SCHEME,
];

/// One scheme on one chain family.
pub struct Scheme {
    /// `exact`.
    pub name: &'static str,
    /// The chain family, as CAIP-2 names it: `eip155`.
    pub namespace: &'static str,
    /// How the asset is moved: `eip3009`.
    pub transfer_method: &'static str,
    /// What the wallet must do.
    instruct: fn(&Order<'_>) -> Result<Instruction, Problem>,
    /// What the protocol carries, as JSON.
    payload: fn(&Requirement, &Instruction, &Signature, Recipient) -> Result<String, Problem>,
}

/// One payment, decided in every detail.
pub struct Order<'a> {
    /// What was approved.
    pub requirement: &'a Requirement,
    /// Its asset, from our own table.
    pub asset: &'a Asset,
    /// Who pays.
    pub payer: &'a str,
    /// The on-chain nonce.
    pub nonce: Nonce,
    /// Unix seconds, exclusive.
    pub valid_after: u64,
    /// Unix seconds, exclusive.
    pub valid_before: u64,
    /// Most that the network may take besides, atomic units, where the payer pays it.
    pub fee: Amount,
    /// What a payment on Solana needs besides; nothing elsewhere.
    pub cluster: Cluster<'a>,
}

/// What a Solana transaction is made of that no other payment has.
#[derive(Clone, Copy, Default)]
pub struct Cluster<'a> {
    /// Who pays for the transaction, as the challenge says.
    pub fee_payer: Option<&'a str>,
    /// The memo that the challenge wants.
    pub memo: Option<&'a str>,
    /// A recent block, from a node of our own.
    pub blockhash: Option<Blockhash>,
}

/// How the payload spells the recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// In the chain's own canonical spelling.
    Checksummed,
    /// As the merchant wrote it; the same bytes.
    AsOffered,
}

/// Is there a scheme of that name on any chain?
#[must_use]
pub fn knows(name: &str) -> bool {
    SCHEMES.iter().any(|s| s.name == name)
}

/// What the wallet must do to pay.
///
/// # Errors
/// Every objection to the requirement that only the scheme can see.
pub fn instruct(order: &Order<'_>) -> Result<Instruction, Problem> {
    (find(order.requirement)?.instruct)(order)
}

/// The inner payload of a protocol, as JSON.
///
/// # Errors
/// When instruction and requirement do not belong together: a bug, found before anything is sent.
pub fn payload(
    requirement: &Requirement,
    instruction: &Instruction,
    signature: &Signature,
    recipient: Recipient,
) -> Result<Box<RawValue>, Problem> {
    let json = (find(requirement)?.payload)(requirement, instruction, signature, recipient)?;
    RawValue::from_string(json).map_err(|_| {
        Problem::new(
            Reason::WalletUnavailable,
            "the payload could not be written",
        )
    })
}

fn find(requirement: &Requirement) -> Result<&'static Scheme, Problem> {
    let namespace = requirement.network.namespace();
    let mut named = SCHEMES
        .iter()
        .filter(|s| s.name == requirement.scheme && s.namespace == namespace)
        .peekable();
    if named.peek().is_none() {
        let detail = "the payment scheme is not spoken on this network";
        return Err(Problem::new(Reason::SchemeUnsupported, detail));
    }
    let found = named.find(|s| s.transfer_method == requirement.transfer_method);
    found.copied().ok_or_else(|| {
        let detail = "the asset would have to be moved in a way that is not supported";
        Problem::new(Reason::TransferMethodUnsupported, detail)
    })
}
