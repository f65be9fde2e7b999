//! May this agent pay this requirement? The first rule that matches decides; what matches nothing is
//! not paid.

use crate::clock::Timestamp;
use crate::money::{Asset, Network, Usd};
use crate::payment::{Asked, Challenge, Limit, Refusal, Requirement};

/// The operator's policy, compiled. One request sees one policy from start to end.
pub struct Policy {}

/// What a decision must know besides the policy: facts of the ledger and the wallets, read before.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Every network that a wallet may pay on, with the address that would pay.
    pub payers: Vec<(Network, String)>,
}

/// What a payment does when its outcome is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknown {
    /// Send the same payload again, never a new one.
    ResendSame,
    /// Send nothing more.
    Hold,
}

/// Permission to pay one requirement: what was decided on is what will be signed.
#[derive(Clone, Debug)]
pub struct Approval {
    /// The rule that allowed it.
    pub rule: String,
    /// The chosen requirement.
    pub requirement: Requirement,
    /// Its asset, from our own table.
    pub asset: Asset,
    /// Its price, rounded up.
    pub price: Usd,
    /// What the ledger must keep, the session's cap first.
    pub limits: Vec<Limit>,
    /// Seconds the payload may live.
    pub valid_for: u64,
    /// What to do when the outcome is not known.
    pub on_unknown: OnUnknown,
}

/// Enforce, or only watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Decide and pay.
    Enforce,
    /// Decide and log, never sign.
    Observe,
}

impl Policy {
    /// Could any rule pay at this host? Otherwise no body is kept for a retry.
    #[must_use]
    pub fn payable(&self, _host: &str, _port: u16) -> bool {
        false
    }

    /// SHA-256 of the policy, 16 hexadecimal digits, as recorded with every spend.
    #[must_use]
    pub fn hash(&self) -> &str {
        ""
    }

    /// Enforce, or only watch.
    #[must_use]
    pub fn mode(&self) -> Mode {
        Mode::Enforce
    }
}

/// Picks the cheapest requirement that the first matching rule accepts, in the merchant's order
/// among equals; otherwise the refusal that names what was nearest to being paid.
///
/// # Errors
/// A refusal with its rule, when nothing may be paid.
pub fn decide(
    _policy: &Policy,
    _asked: &Asked,
    _challenge: &Challenge,
    _facts: &Facts,
    _now: Timestamp,
) -> Result<Approval, Refusal> {
    Err(Refusal::new(
        crate::payment::Reason::HostNotAllowed,
        "no rule",
    ))
}
