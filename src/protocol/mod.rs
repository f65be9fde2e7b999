//! Payment protocols spoken over HTTP 402. Pure: heads and bytes in, values out; every function is
//! total and every length bounded.

use http::{HeaderMap, response};

use crate::clock::Timestamp;
use crate::money::Asset;
use crate::payment::{
    Challenge, Instruction, Nonce, Payload, PaymentId, Problem, Receipt, Requirement, Signature,
};

/// Who is to be paid, by whom, under which id, and until when. All of it decided before.
pub struct Terms<'a> {
    /// What the policy approved.
    pub requirement: &'a Requirement,
    /// The asset, from our own table: the signing domain comes from here.
    pub asset: &'a Asset,
    /// The wallet's address.
    pub payer: &'a str,
    /// The payment.
    pub id: PaymentId,
    /// Its on-chain nonce.
    pub nonce: Nonce,
    /// Wall time of the decision.
    pub now: Timestamp,
    /// Seconds the payload lives: what the merchant asks, cut to what the policy allows.
    pub valid_for: u64,
}

/// One wire protocol.
pub trait Protocol: Send + Sync {
    /// `x402-v2`.
    fn name(&self) -> &'static str;
    /// Request headers that carry a payment in this protocol. An agent may not send them.
    fn payment_headers(&self) -> &'static [&'static str];
    /// Response headers that carry a receipt in this protocol.
    fn receipt_headers(&self) -> &'static [&'static str];
    /// Cheap test on the head only, so that other 402s stream through untouched.
    fn recognises(&self, head: &response::Parts) -> bool;
    /// Does `read` look at the body? Then up to `limits.challenge_body` bytes of it are read first.
    fn needs_body(&self) -> bool;
    /// Reads all requirements; reports what is broken and goes on. `body` is `None` when it was not
    /// asked for, was too long, or did not end.
    fn read(&self, head: &response::Parts, body: Option<&[u8]>, into: &mut Challenge);
    /// What the wallet must do to take the requirement. Every objection is raised here, before
    /// money is held.
    fn instruct(&self, terms: &Terms<'_>) -> Result<Instruction, Problem>;
    /// The header that the retry carries.
    fn payload(
        &self,
        requirement: &Requirement,
        instruction: &Instruction,
        signature: &Signature,
        id: PaymentId,
    ) -> Result<Payload, Problem>;
    /// Never fails: an unreadable receipt is `Absent`.
    fn receipt(&self, headers: &HeaderMap) -> Receipt;
}

/// The protocols that a 402 speaks, by its head alone.
#[must_use]
pub fn recognise(_head: &response::Parts) -> Vec<&'static dyn Protocol> {
    vec![]
}

/// Everything that the 402 offers.
#[must_use]
pub fn read(_: &[&dyn Protocol], _: &response::Parts, _: Option<&[u8]>) -> Challenge {
    Challenge::default()
}

/// Does a request carry a payment of its own?
#[must_use]
pub fn carried(_: &HeaderMap) -> bool {
    false
}
