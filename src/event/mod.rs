//! One record per payment state change and per refusal. Logs, metrics, the ledger's rows and exports
//! are all drawn from it, so they share their field names.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::money::{Amount, Usd};
use crate::payment::{PaymentId, SessionId, Trace};

mod absent;
mod agreed;
pub mod export;
pub mod log;
pub mod metrics;
mod notice;
pub mod otel;
mod standing;
mod stored;
pub mod webhook;

pub use agreed::{Agreed, Permitted, TempoSigned, Transacted};
pub use notice::Notice;
pub use standing::{PREIMAGE, Standing};
pub(crate) use stored::Stored;

/// Where a payment stands. `reserved`, `unknown` and `settled` count against every budget they touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Durable in the ledger; from here on money may move.
    Reserved,
    /// The exchange ended without a receipt; money may have moved.
    Unknown,
    /// A receipt claims it, or nothing proves the opposite.
    Settled,
    /// Certainly not charged.
    Released,
    /// Refused: there is no payment.
    #[default]
    Denied,
}

impl State {
    /// The word in records and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Unknown => "unknown",
            Self::Settled => "settled",
            Self::Released => "released",
            Self::Denied => "denied",
        }
    }
}

/// Something about a payment that a person should look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// Paid, and the answer is an error, empty, or not what was promised.
    PaidNotDelivered,
    /// Paid, and the merchant answered 402 again.
    PaidButDenied,
    /// The receipt differs from what was signed.
    ReceiptMismatch,
    /// The answer contained our own payload.
    AuthorizationEchoed,
    /// Another price than before.
    PriceChanged,
    /// Another recipient than before.
    RecipientChanged,
    /// The chain shows it taken, and no receipt said so.
    TakenUnclaimed,
    /// The chain shows its nonce spent on other terms than were signed.
    TakenOtherwise,
    /// It was given back to the budgets, and the chain shows it taken all the same: it counts again.
    TakenAfterRelease,
}

impl Flag {
    /// The word in records and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PaidNotDelivered => "paid_not_delivered",
            Self::PaidButDenied => "paid_but_denied",
            Self::ReceiptMismatch => "receipt_mismatch",
            Self::AuthorizationEchoed => "authorization_echoed",
            Self::PriceChanged => "price_changed",
            Self::RecipientChanged => "recipient_changed",
            Self::TakenUnclaimed => "taken_unclaimed",
            Self::TakenOtherwise => "taken_otherwise",
            Self::TakenAfterRelease => "taken_after_release",
        }
    }
}

/// What came back for the money: evidence, not judgement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// HTTP status of the answer to the paid request.
    pub status: u16,
    /// Its media type, at most 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Bytes of body handed to the agent, when it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// SHA-256 of the body, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// One line of the spend log and one row of the ledger (threat model L-03). No secrets: the nonce is
/// in it, the signature never; the path is in it, the query never.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpendEvent {
    /// The payment, or the refusal.
    pub id: PaymentId,
    /// When this state was reached.
    pub time: Timestamp,
    /// The state.
    pub state: State,
    /// Whose budget.
    pub session: SessionId,
    /// Which agent.
    pub agent: String,
    /// HTTP method.
    pub method: String,
    /// Host, with its port when that is not the default.
    pub host: String,
    /// Path without query.
    pub path: String,
    /// `x402-v1`, `x402-v2`, `mpp`.
    #[serde(with = "absent")]
    pub protocol: String,
    /// `exact`.
    #[serde(with = "absent")]
    pub scheme: String,
    /// CAIP-2.
    #[serde(with = "absent")]
    pub network: String,
    /// Symbol from our own table, else the address as written.
    #[serde(with = "absent")]
    pub asset: String,
    /// The recipient.
    #[serde(with = "absent")]
    pub pay_to: String,
    /// Signed, atomic units.
    pub amount: Option<Amount>,
    /// What was taken, atomic units, as a receipt says it in line with what was signed, or as a chain or the wallet
    /// shows it.
    pub amount_settled: Option<Amount>,
    /// `amount` in the unit of account, rounded up.
    pub price: Option<Usd>,
    /// What counts against the budgets.
    pub charged: Option<Usd>,
    /// On-chain nonce.
    pub nonce: Option<String>,
    /// Unix seconds at which the payload dies.
    pub valid_before: Option<u64>,
    /// Which wallet.
    #[serde(with = "absent")]
    pub wallet: String,
    /// Which rule decided.
    pub rule: Option<String>,
    /// Hash of the policy that decided.
    pub policy: String,
    /// Stable code of a refusal, or why a payment was released or is unknown.
    pub reason: Option<String>,
    /// `claimed`, `denied`, `absent`; `preimage` where no merchant's word is needed.
    pub receipt: Option<String>,
    /// The transaction that a receipt names.
    pub transaction: Option<String>,
    /// What came back.
    pub delivery: Option<Delivery>,
    /// Digest of the request (session, method, URL, body, `Idempotency-Key`), to recognise the
    /// agent's own retry.
    pub request: Option<String>,
    /// The agent does not have the answer that was paid for, and its next request like this one buys no
    /// other while the payload lives.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub owed: bool,
    /// What to look at.
    pub flags: Vec<Flag>,
    /// Seen on the chain by reconciliation.
    pub confirmed: bool,
    /// The block that shows what became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
    /// What was asked and signed; with the reservation only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreed: Option<Box<Agreed>>,
    /// From the agent's request to this state, milliseconds.
    pub latency_ms: Option<u64>,
    /// The trace of the agent's request, 32 hexadecimal digits: its own, or ours where traces are exported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The exchange's span where traces are exported, else the agent's step: 16 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_id: Option<String>,
}

/// Reason of a payment that a chain shows dead and unused.
pub const UNUSED_ON_CHAIN: &str = "unused_on_chain";
/// Reason of a payment whose nonce a chain shows spent on other terms.
pub const TAKEN_OTHERWISE: &str = "taken_otherwise";

/// Reason of a payment whose nonce a chain shows spent, without the transaction that did it.
pub const SPENT_ON_CHAIN: &str = "spent_on_chain";
/// Reason of a payment whose receipt names less than was signed: what is above may yet be taken, so all
/// of it counts until that is over (`upto`).
pub const HELD_ABOVE_CLAIM: &str = "held_above_claim";
/// Reason of a payment that counts as much as its receipt named, since no more can be taken.
pub const SETTLED_AS_CLAIMED: &str = "settled_as_claimed";

/// Longest text of a field, in characters. Hosts have 253 at most (RFC 1035), addresses and nonces
/// 66; paths may have more.
const FIELD_MAX: usize = 300;
/// Longest path.
const PATH_MAX: usize = 1024;

impl SpendEvent {
    /// How much its receipt named, when that is less than was signed and all of it still counts.
    #[must_use]
    pub fn held_above(&self) -> Option<Amount> {
        let held = self.state == State::Unknown && self.reason.as_deref() == Some(HELD_ABOVE_CLAIM);
        self.amount_settled.filter(|_| held)
    }

    /// What so many of its atomic units cost, by the price it was signed at.
    #[must_use]
    pub fn share(&self, part: Amount) -> Option<Usd> {
        Some(self.price?.share(part, self.amount?))
    }

    /// Was something signed, and has no chain said its last word about it?
    #[must_use]
    pub fn awaits_chain(&self) -> bool {
        let closed = match self.state {
            State::Denied => return false,
            // A reason is the merchant's word here.
            State::Reserved | State::Unknown => false,
            State::Settled | State::Released => true,
        };
        let last = [UNUSED_ON_CHAIN, TAKEN_OTHERWISE, SPENT_ON_CHAIN].map(Some);
        let said = closed && last.contains(&self.reason.as_deref());
        self.nonce.is_some() && !self.confirmed && !said
    }

    /// The same event with every text that others wrote fit to be kept and shown: cut to a length
    /// that a log can bear, and without characters that mislead. Everything that lists, exports or
    /// draws events reads them as they are stored, so it is done before that.
    #[must_use]
    pub fn capped(mut self) -> Self {
        cut(&mut self.path, PATH_MAX);
        for text in [
            &mut self.agent,
            &mut self.method,
            &mut self.host,
            &mut self.protocol,
            &mut self.scheme,
            &mut self.network,
            &mut self.asset,
            &mut self.pay_to,
            &mut self.wallet,
            &mut self.policy,
        ] {
            cut(text, FIELD_MAX);
        }
        let optional = [
            &mut self.nonce,
            &mut self.rule,
            &mut self.reason,
            &mut self.receipt,
            &mut self.transaction,
        ];
        for text in optional.into_iter().flatten() {
            cut(text, FIELD_MAX);
        }
        if let Some(resource) = self.agreed.as_mut().and_then(|a| a.resource.as_mut()) {
            cut(resource, PATH_MAX);
        }
        if let Some(delivery) = &mut self.delivery {
            let texts = [&mut delivery.content_type, &mut delivery.digest];
            texts.into_iter().flatten().for_each(|t| cut(t, FIELD_MAX));
        }
        self
    }
}

/// Cuts at a character, and shows it; spells out what misleads.
/// Host, without brackets, and port of what an event has as its host.
#[must_use]
pub fn place(host: &str) -> (&str, u16) {
    let with_port = host.rsplit_once(':').filter(|_| !host.ends_with(']'));
    let port = with_port.and_then(|(_, port)| port.parse().ok());
    match (with_port, port) {
        (Some((name, _)), Some(port)) if name.ends_with(']') => {
            (name.trim_matches(['[', ']']), port)
        }
        (Some((name, _)), Some(port)) if !name.contains(':') => (name, port),
        // An address of version 6 without a port has more than one colon.
        _ => (host, 443),
    }
}

fn cut(text: &mut String, most: usize) {
    let plain = |b: u8| b.is_ascii() && !b.is_ascii_control();
    if text.len() <= most && text.bytes().all(plain) {
        return;
    }
    if !text.is_ascii() || text.bytes().any(|b| b.is_ascii_control()) {
        *text = log::plain::text(text);
    }
    if let Some((at, _)) = text.char_indices().nth(most) {
        text.truncate(at);
        text.push('…');
    }
}

/// How an exchange ends, as far as money goes.
pub struct Conclusion<'a> {
    /// The payment or refusal.
    pub event: &'a SpendEvent,
    /// Budgets that it counts against: `NAME:WHO`.
    pub budgets: &'a [String],
    /// What is left of the session's budget, or of the limit that refused.
    pub remaining: Option<Usd>,
}

/// Something that watches spend events. It decides nothing and must not block.
pub trait Sink: Send + Sync {
    /// Called once per change of state and per refusal, after the ledger has it.
    fn observe(&self, event: &SpendEvent);
    /// Called for a refusal that is not recorded, as its session has had too many.
    fn left_out(&self, _event: &SpendEvent) {}
    /// Called when the state is as before, and the record of it is new: most often for something to look at in
    /// `flags`. Where there is nothing in them, only whoever shows records is told anything.
    fn flagged(&self, _event: &SpendEvent) {}
    /// Called when a step of a payment is over, with the time it took.
    fn took(&self, _step: metrics::Step, _time: Duration, _trace: Option<&Trace>) {}
    /// Called when it is known how an exchange ends for the agent, before that is stored.
    fn concludes(&self, _trace: &Trace, _end: &Conclusion<'_>) {}
    /// Called when there is something to tell that is no payment.
    fn notice(&self, _notice: &Notice) {}
}
