//! What a merchant says about the settlement.

use crate::money::{Amount, Network};
use crate::signer::Seal;

/// A receipt as somebody signed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignedReceipt {
    /// CAIP-2.
    pub network: String,
    /// URL of what was sold.
    pub resource: String,
    /// Who paid.
    pub payer: String,
    /// Unix seconds.
    pub issued_at: u64,
    /// The transaction, where it is named.
    pub transaction: Option<String>,
    /// Who signed it.
    pub seal: Seal,
}

/// What the merchant says about the settlement. A claim, never a proof.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Receipt {
    /// It says that it was paid.
    Claimed(Claim),
    /// It says that settlement failed, for a reason of at most 64 plain characters.
    Denied {
        /// The merchant's `errorReason`, cut to letters, digits, `_`, `-` and `.`.
        why: String,
        /// A transaction it names all the same.
        transaction: Option<String>,
    },
    /// No receipt, or an unreadable one.
    #[default]
    Absent,
}

/// The content of a receipt that says *paid*, each member only when well formed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Transaction hash.
    pub transaction: Option<String>,
    /// The chain it names.
    pub network: Option<Network>,
    /// Who paid.
    pub payer: Option<String>,
    /// What it says was charged.
    pub amount: Option<Amount>,
    /// What it says in a form that is signed, beside the rest.
    pub signed: Option<Box<SignedReceipt>>,
    /// Is there a network, payer or amount in it that is none?
    pub odd: bool,
}
