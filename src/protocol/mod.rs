//! Payment protocols spoken over HTTP 402. Pure: heads and bytes in, values out; every function is
//! total and every length bounded.

use http::{HeaderMap, HeaderName, StatusCode, header, response};

use crate::clock::Timestamp;
use crate::money::{Amount, Asset};
use crate::payment::{
    Challenge, Instruction, Nonce, Payload, PaymentId, Problem, Reason, Receipt, Requirement,
    Signature,
};
use crate::scheme::{self, Cluster};
use crate::solana::Blockhash;

mod a2a;
mod authenticate;
mod bound;
mod charge;
mod encoding;
mod entry;
mod extensions;
pub mod jsonrpc;
mod l402;
mod macaroon;
pub mod mcp;
mod mpp;
mod mpp_native;
mod receipt;
mod sign_in;
mod statements;
mod tempo_charge;
mod x402_v1;
mod x402_v2;

pub use sign_in::{header as login_header, login};
pub(crate) use x402_v1::speaks_x402;

/// Every protocol. Order is preference between requirements that the policy likes equally.
pub const PROTOCOLS: &[&dyn Protocol] =
    &[&x402_v2::X402V2, &x402_v1::X402V1, &mpp::Mpp, &l402::L402];

/// Request headers that carry a payment in any protocol, also in those that are only refused. An
/// agent may not send them; see [`carried`] for `Authorization`.
pub const PAYMENT_HEADERS: &[&str] = &["payment-signature", "x-payment", "payment-authorization"];

/// Response headers that carry a receipt in any protocol. They mean nothing on a request.
pub const RECEIPT_HEADERS: &[&str] = &["payment-response", "x-payment-response", "payment-receipt"];

/// Schemes of `Authorization` that are a payment (MPP, L402 and its older name).
const PAYMENT_SCHEMES: &[&str] = &["payment", "l402", "lsat"];

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
    /// Most that the network may take besides, atomic units, where the payer pays it.
    pub fee: Amount,
    /// A recent block of the chain, where a payment must name one.
    pub blockhash: Option<Blockhash>,
}

/// The request that would be sent again with the payment, as far as a challenge may be bound to it.
pub struct Repeat<'a> {
    /// The host that was asked, normalised.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
    /// Does the payment go into its body, as the demand came in one?
    pub within: bool,
    /// Its header fields.
    pub headers: &'a HeaderMap,
    /// Makes the SHA-256 of its body.
    pub body: &'a dyn Fn() -> [u8; 32],
}

/// One wire protocol.
pub trait Protocol: Send + Sync {
    /// `x402-v2`.
    fn name(&self) -> &'static str;
    /// What its ways to pay are called in rules.
    fn schemes(&self) -> &'static [&'static str];
    /// Request headers that carry a payment in this protocol. An agent may not send them.
    fn payment_headers(&self) -> &'static [&'static str];
    /// Response headers that carry a receipt in this protocol.
    fn receipt_headers(&self) -> &'static [&'static str];
    /// Cheap test on the head only, so that other 402s stream through untouched.
    fn recognises(&self, head: &response::Parts) -> bool;
    /// Does `read` look at the body? Then up to `limits.challenge_body` bytes of it are read first.
    fn needs_body(&self) -> bool;
    /// Reads all requirements; reports what is broken and goes on. `body` is `None` when it was not
    /// asked for, was too long, or did not end; who read it says why. Neither a requirement nor a
    /// problem: the 402 asks for something else, and belongs to the agent.
    fn read(&self, head: &response::Parts, body: Option<&[u8]>, into: &mut Challenge);
    /// May the requirement be answered with this request? Asked before anything is decided.
    fn fits(&self, _requirement: &Requirement, _repeat: &Repeat<'_>) -> Result<(), Problem> {
        Ok(())
    }
    /// What the wallet must do to take the requirement. Every objection is raised here, before
    /// money is held.
    fn instruct(&self, terms: &Terms<'_>) -> Result<Instruction, Problem>;
    /// The challenge as a value of `WWW-Authenticate`, for wallets that answer challenges. `None` where
    /// there is no such a one.
    fn challenge(&self, _requirement: &Requirement) -> Option<String> {
        None
    }
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
    /// Do these terms stand for the next request too, so that it can bring its payment along? Not where a
    /// challenge is made for one request.
    fn stands(&self, _requirement: &Requirement) -> bool {
        false
    }
    /// Until when at most what was paid for is good for further requests to the same origin; `None` where
    /// one payment buys one answer.
    fn reusable_until(&self, _requirement: &Requirement) -> Option<Timestamp> {
        None
    }
}

/// The protocol of that name: the one a requirement came from.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static dyn Protocol> {
    PROTOCOLS.iter().copied().find(|p| p.name() == name)
}

/// Is there a scheme of that name in any protocol?
fn speaks(scheme: &str) -> bool {
    let mut all = PROTOCOLS.iter();
    all.any(|p| p.schemes().contains(&scheme)) || scheme::knows(scheme)
}

/// The protocols that this response may speak, judged by its head. Only status 402 ever starts a
/// payment; empty: hand it back untouched.
#[must_use]
pub fn recognise(head: &response::Parts) -> Vec<&'static dyn Protocol> {
    if head.status != StatusCode::PAYMENT_REQUIRED {
        return Vec::new();
    }
    let speaking = PROTOCOLS.iter().copied().filter(|p| p.recognises(head));
    speaking.collect()
}

/// Everything that the 402 offers in the protocols that it speaks.
#[must_use]
pub fn read(speaking: &[&dyn Protocol], head: &response::Parts, body: Option<&[u8]>) -> Challenge {
    let mut challenge = Challenge::default();
    for protocol in speaking {
        protocol.read(head, body, &mut challenge);
        about(*protocol, &mut challenge.problems);
    }
    challenge
}

/// What was found wrong by now is about this protocol, where it is about none yet.
fn about(protocol: &dyn Protocol, problems: &mut [Problem]) {
    let new = problems.iter_mut().filter(|p| p.schemes.is_empty());
    new.for_each(|problem| problem.schemes = protocol.schemes());
}

/// The ways to pay of a catalogue's entry, read as those of a 402 of this version of x402.
#[must_use]
pub fn listed(version: u64, accepts: &serde_json::value::RawValue) -> Challenge {
    let mut challenge = Challenge::default();
    let dialect = match version {
        1 => Ok(&x402_v1::DIALECT),
        2 => Ok(&x402_v2::DIALECT),
        _ => Err(Problem::new(
            Reason::VersionUnsupported,
            "the version of x402 is not known",
        )),
    };
    let shared = entry::Shared::default();
    let read = dialect.and_then(|d| entry::read_all(d, Some(accepts), &shared, &mut challenge));
    challenge.problems.extend(read.err());
    challenge
}

/// Is what it offers good for more than one request?
#[must_use]
pub fn is_token(requirement: &Requirement) -> bool {
    let protocol = by_name(requirement.protocol);
    protocol.is_some_and(|p| p.reusable_until(requirement).is_some())
}

/// Leaves what may be answered with this request; says of the rest why not, before what was wrong
/// anyway, as it was nearer to being paid.
pub fn fit(challenge: &mut Challenge, repeat: &Repeat<'_>) {
    let Challenge {
        requirements,
        problems,
    } = challenge;
    let mut unfit = vec![];
    requirements.retain(|requirement| {
        let Some(protocol) = by_name(requirement.protocol) else {
            return true;
        };
        let unfits = protocol.fits(requirement, repeat).err();
        let fits = unfits.is_none();
        unfit.extend(unfits);
        about(protocol, &mut unfit);
        fits
    });
    problems.splice(0..0, unfit);
}

/// What the wallet must do for one x402 requirement, valid from `valid_after` (Unix seconds) on. The
/// domain comes from our own table; a challenge that names another one is about another token.
fn instruct(terms: &Terms<'_>, valid_after: u64) -> Result<Instruction, Problem> {
    if let Some(domain) = &terms.asset.eip712
        && !entry::names_domain(
            &terms.requirement.offer.entry,
            &domain.name,
            &domain.version,
        )?
    {
        let detail = "the challenge names a signing domain that is not the asset's";
        return Err(Problem::new(Reason::AssetNotAllowed, detail));
    }
    let valid_before = terms.now.secs().checked_add(terms.valid_for);
    let valid_before = valid_before
        .filter(|_| terms.valid_for > 0)
        .ok_or_else(|| {
            let detail = "the payload would be valid at no time";
            Problem::new(Reason::ValidityTooLong, detail)
        })?;
    let named = match terms.requirement.network.is_solana() {
        true => entry::cluster(&terms.requirement.offer.entry)?,
        false => entry::Named::default(),
    };
    scheme::instruct(&scheme::Order {
        requirement: terms.requirement,
        asset: terms.asset,
        payer: terms.payer,
        nonce: terms.nonce,
        valid_after,
        valid_before,
        fee: terms.fee,
        cluster: Cluster {
            fee_payer: named.fee_payer.as_deref(),
            memo: named.memo.as_deref(),
            blockhash: terms.blockhash,
        },
    })
}

/// Is this a header with a receipt or a challenge, which only merchants send?
#[must_use]
pub fn is_receipt(name: &HeaderName) -> bool {
    let mut known = RECEIPT_HEADERS.iter().chain(&[x402_v2::REQUIRED]);
    known.any(|known| same_name(name.as_str().as_bytes(), known.as_bytes()))
}

/// Is this a header with a payment?
#[must_use]
pub fn is_payment(name: &HeaderName) -> bool {
    let mut known = PAYMENT_HEADERS.iter();
    known.any(|known| same_name(name.as_str().as_bytes(), known.as_bytes()))
}

/// The same name to a merchant behind a gateway that writes `-` and `_` as one, as CGI did.
#[must_use]
pub fn same_name(name: &[u8], known: &[u8]) -> bool {
    let same = |(a, b): (&u8, &u8)| a == b || (*a == b'_' && *b == b'-');
    name.len() == known.len() && name.iter().zip(known).all(same)
}

/// Does this request already carry a payment, in any protocol that is known to exist? Then the
/// agent pays for itself, or tries to look as if it did; both are refused.
#[must_use]
pub fn carried(headers: &HeaderMap) -> bool {
    let pays = |value: &header::HeaderValue| value.as_bytes().split(|b| *b == b',').any(is_scheme);
    headers.keys().any(is_payment) || headers.get_all(header::AUTHORIZATION).iter().any(pays)
}

/// Do these credentials start with a scheme that is a payment? Schemes ignore case (RFC 9110
/// section 11.1). What is no letter of a token parts words: some servers take more for a blank than the RFC has.
fn is_scheme(credentials: &[u8]) -> bool {
    let scheme = credentials
        .split(|b| !is_tchar(*b))
        .find(|word| !word.is_empty())
        .unwrap_or_default();
    PAYMENT_SCHEMES
        .iter()
        .any(|s| s.as_bytes().eq_ignore_ascii_case(scheme))
}

/// `tchar` of RFC 9110 section 5.6.2.
fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
