//! The nouns of a paid request, in the field's own words.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::money::{Amount, Network, Usd};
use crate::signer::Seal;

mod id;
mod instruction;
mod reason;
mod receipt;
mod tool;
mod trace;
mod uri;

pub use id::{ApprovalId, NotApprovalId, NotPaymentId, PaymentId};
pub use instruction::{Instruction, Signature};
pub use reason::Reason;
pub use receipt::{Claim, Receipt, SignedReceipt};
pub use tool::Tool;
pub use trace::{Cause, SpanId, TRACEPARENT, Trace, TraceId};

/// A session's public name: `default` or what the operator calls it instead, or `ses_` and 16 hexadecimal
/// digits. Not a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub Arc<str>);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// 32 bytes: the on-chain nonce of one payment. From the operating system's generator, or the hash that
/// binds an MPP payment to its challenge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(pub [u8; 32]);

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

/// Can it name an agent or a session? Both stand in URLs and in the names of accounts: 1 to 64 letters,
/// digits, `-`, `_` or `.`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

/// A budget, an expiry and a secret. One proxy URL is one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Public name.
    pub id: SessionId,
    /// The agent it was made for; also the user name of its proxy URL.
    pub agent: Arc<str>,
    /// Most that may be spent in it, ever.
    pub budget: Usd,
    /// When it was made.
    pub created: Timestamp,
    /// From then on nothing is paid.
    pub expires: Timestamp,
}

/// What makes two requests of one session the same purchase: a SHA-256 over method, URL, body and
/// `Idempotency-Key`. An agent that asks again while the outcome is unknown is recognised by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey(pub [u8; 32]);

impl fmt::Display for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for RequestKey {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// One request of an agent, as far as a decision needs it. Hosts are normalised: lower case, no
/// trailing dot, IPv6 without brackets.
#[derive(Clone, Debug)]
pub struct Asked {
    /// On whose budget.
    pub session: Arc<Session>,
    /// HTTP method, as sent.
    pub method: http::Method,
    /// Is the connection to the merchant TLS with a verified certificate?
    pub secure: bool,
    /// The merchant: the name that was dialled and verified, never one that a header claims.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// Path without query, as sent.
    pub path: Arc<str>,
    /// What its body asks an MCP server for.
    pub tool: Tool,
    /// What makes it the same purchase as another; `None` for questions and for what was not kept.
    pub request: Option<RequestKey>,
    /// Where it stands in a trace, if it does.
    pub trace: Option<Trace>,
}

/// Everything the 402 offered, whatever protocols it spoke, and what could not be read.
/// A broken requirement does not hide a good one.
#[derive(Clone, Debug, Default)]
pub struct Challenge {
    /// Ways to pay, in the merchant's order.
    pub requirements: Vec<Requirement>,
    /// What is wrong with the rest.
    pub problems: Vec<Problem>,
}

/// A part of a challenge that cannot be used, in our words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable code.
    pub reason: Reason,
    /// One plain sentence without merchant text.
    pub detail: String,
    /// What may be paid by in the protocol that it is about; empty where it is about none.
    pub schemes: &'static [&'static str],
}

impl Problem {
    /// A problem with its code and one sentence.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            schemes: &[],
        }
    }
}

/// One acceptable way to pay, normalised. What is decided on here is what is signed.
#[derive(Clone, Debug)]
pub struct Requirement {
    /// The protocol it came in: `x402-v1`, `x402-v2`, `mpp`.
    pub protocol: &'static str,
    /// `exact`, …
    pub scheme: String,
    /// The chain.
    pub network: Network,
    /// Contract address or mint, as written; `BTC` on Lightning.
    pub asset: String,
    /// Price in atomic units.
    pub amount: Amount,
    /// Who is paid, as written.
    pub pay_to: String,
    /// Seconds that the merchant asks the payload to be valid.
    pub valid_for: u64,
    /// When the challenge expires; a payload lives no longer, whatever `valid_for` says.
    pub expires: Option<Timestamp>,
    /// How the asset is moved: `eip3009`, `permit2`, …
    pub transfer_method: String,
    /// Who says how much of the price is taken (`upto`), as written.
    pub facilitator: Option<String>,
    /// Parts of the amount that others than `pay_to` get, in the merchant's order.
    pub splits: Vec<Split>,
    /// Would the payer pay the network for the transaction, besides the amount?
    pub own_fee: bool,
    /// The URL that the challenge says it is for. A claim: compared, never used.
    pub resource: Option<String>,
    /// The media type that the challenge promises. A claim.
    pub mime_type: Option<String>,
    /// What the merchant wrote, for the echo.
    pub offer: Arc<Offer>,
}

/// A part of the amount for somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Atomic units.
    pub amount: Amount,
    /// Who gets it, as written.
    pub pay_to: String,
    /// What the token's log is to say beside it.
    pub memo: Option<[u8; 32]>,
}

impl Requirement {
    /// Everybody who would be paid, as written.
    pub fn payees(&self) -> impl Iterator<Item = &str> {
        let others = self.splits.iter().map(|split| &*split.pay_to);
        std::iter::once(&*self.pay_to).chain(others)
    }

    /// Seconds that the merchant lets a payload live from `now` on.
    #[must_use]
    pub fn lives(&self, now: Timestamp) -> u64 {
        self.expires.map_or(self.valid_for, |expires| {
            expires.secs().saturating_sub(now.secs())
        })
    }
}

/// The raw JSON texts that a payload must echo. Opaque to everyone but the protocol that read them.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// The chosen entry of `accepts`, verbatim; of MPP the challenge as it is echoed.
    pub entry: Box<str>,
    /// `resource` of the challenge, verbatim (x402 version 2).
    pub resource: Option<Arc<str>>,
    /// `extensions` of the challenge, verbatim (x402 version 2).
    pub extensions: Option<Arc<str>>,
    /// What the merchant signed of it.
    pub signed: Signed,
}

/// Whether a merchant signs its offers.
#[derive(Clone, Debug, Default)]
pub enum Signed {
    /// It signs none.
    #[default]
    None,
    /// There is no merchant: somebody only wants to know what the policy would say.
    Supposed,
    /// It does; these are for the very terms of the requirement. Whose signatures they are is not known yet.
    Offers(Vec<SignedOffer>),
}

/// An offer for one requirement, as somebody signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedOffer {
    /// URL of what is sold.
    pub resource: String,
    /// Unix seconds; 0 for no end.
    pub valid_until: u64,
    /// Who signed it.
    pub seal: Seal,
}

/// The signed thing that can move money, as the header that the retry carries. No `Debug`.
#[derive(Clone)]
pub struct Payload {
    /// `payment-signature`, `x-payment`, `authorization` or `payment-authorization`.
    pub name: http::HeaderName,
    /// Base64 JSON, of MPP with its scheme before it, marked sensitive.
    pub value: http::HeaderValue,
}

/// A decision not to pay. Not an error. `reason` is a stable code; no merchant text in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Refusal {
    /// Stable code.
    pub reason: Reason,
    /// The rule that decided, if one matched.
    pub rule: Option<String>,
    /// One plain sentence.
    pub detail: String,
    /// What it would have cost.
    pub price: Option<Usd>,
    /// The limit that was in the way.
    pub limit: Option<Usd>,
    /// What is left of that limit.
    pub remaining: Option<Usd>,
    /// May the same request succeed later without a change of policy?
    pub retryable: bool,
    /// When the limit counts anew.
    pub resets_at: Option<Timestamp>,
    /// The payment it is about, when money may have moved.
    pub payment: Option<PaymentId>,
    /// Where a person may approve it.
    pub approve_url: Option<String>,
}

impl Refusal {
    /// A refusal with its code and one sentence; the rest is empty.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            rule: None,
            detail: detail.into(),
            price: None,
            limit: None,
            remaining: None,
            retryable: false,
            resets_at: None,
            payment: None,
            approve_url: None,
        }
    }

    /// Nothing is paid in the session any more.
    pub fn session_expired(at: Timestamp) -> Self {
        let detail = format!("the session expired at {at}");
        Self::new(Reason::SessionExpired, detail)
    }

    /// The same without limits, for an agent that is not to learn them.
    #[must_use]
    pub fn without_numbers(&self) -> Self {
        Self {
            detail: self.reason.title().into(),
            limit: None,
            remaining: None,
            ..self.clone()
        }
    }
}

/// From bucket `first` of `account` on: at most so much, so many payments. New ones count in `last`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// `session:ID@CREATED`, `budget:NAME:WHO`, `rate:RULE:WHO`.
    pub account: String,
    /// Oldest bucket that counts.
    pub first: u64,
    /// Bucket of new payments.
    pub last: u64,
    /// Most that may count; `Usd(u64::MAX)` where payments are counted only.
    pub amount: Usd,
    /// Most payments that may count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payments: Option<u32>,
    /// When the window ends, for the refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<Timestamp>,
    /// Seconds of a rolling window, also for the refusal; in no record.
    #[serde(skip)]
    pub rolls: Option<u64>,
}

impl Limit {
    /// The cap of a whole session. Its account carries the session's generation (`created`, in
    /// milliseconds), so a renewed session starts at nothing while what it spent before stays counted.
    #[must_use]
    pub fn session(session: &Session) -> Self {
        let made = session.created.0.to_string();
        Self {
            account: ["session:", &session.id.0, "@", &made].concat(),
            first: 0,
            last: 0,
            amount: session.budget,
            payments: None,
            resets_at: None,
            rolls: None,
        }
    }

    /// The sum that it bounds, if it bounds any.
    #[must_use]
    pub fn sum(&self) -> Option<Usd> {
        (self.amount != Usd(u64::MAX)).then_some(self.amount)
    }

    /// Does it bound how often is paid, and no sum?
    #[must_use]
    pub fn is_rate(&self) -> bool {
        self.account.starts_with("rate:")
    }

    /// Is this the cap of a session?
    #[must_use]
    pub fn is_session(&self) -> bool {
        self.account.starts_with("session:")
    }
}
