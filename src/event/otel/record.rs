//! Spans and log records, and what they say of a payment. No secrets, no query strings, no text of a
//! merchant's but addresses and the transaction that it names.

use std::sync::Arc;
use std::time::Instant;

use http::HeaderValue;

use crate::clock::Timestamp;
use crate::event::{Notice, SpendEvent, State, log};
use crate::money::Usd;
use crate::payment::{SpanId, TraceId};

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Shared(Arc<str>),
    Number(u64),
    Flag(bool),
    Texts(Vec<String>),
}

/// Names with their values.
pub(super) type Attributes = Vec<(&'static str, Value)>;

/// Whose work a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpanKind {
    /// Within the proxy.
    Internal,
    /// An answer to somebody.
    Server,
    /// A question to somebody.
    Client,
}

impl SpanKind {
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Internal => 1,
            Self::Server => 2,
            Self::Client => 3,
        }
    }
}

/// Work that is over.
pub(super) struct Span {
    pub(super) trace: TraceId,
    pub(super) id: SpanId,
    pub(super) parent: Option<SpanId>,
    /// Is the parent another program's?
    pub(super) remote: bool,
    /// The agent's `tracestate`, as it came.
    pub(super) state: Option<HeaderValue>,
    pub(super) name: &'static str,
    pub(super) kind: SpanKind,
    pub(super) began: Instant,
    pub(super) ended: Instant,
    pub(super) attributes: Attributes,
    /// What went wrong, if anything did.
    pub(super) failed: Option<&'static str>,
}

/// How much a log record matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Info,
    Warn,
}

impl Severity {
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Info => 9,
            Self::Warn => 13,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warn => "WARN",
        }
    }
}

/// Something that happened.
pub(super) struct Log {
    pub(super) time: Timestamp,
    pub(super) observed: Instant,
    pub(super) severity: Severity,
    pub(super) name: &'static str,
    pub(super) body: String,
    pub(super) attributes: Attributes,
    pub(super) place: Option<(TraceId, SpanId)>,
}

impl Log {
    /// A change of state, or a refusal.
    pub(super) fn of_event(event: &SpendEvent, name: &'static str) -> Self {
        let odd = !event.flags.is_empty() || event.state == State::Unknown;
        Self {
            time: event.time,
            observed: Instant::now(),
            severity: if odd { Severity::Warn } else { Severity::Info },
            name,
            body: sentence(event),
            attributes: exchange(event).into_iter().chain(payment(event)).collect(),
            place: place(event),
        }
    }

    /// What is no payment. The record itself is the body.
    pub(super) fn of_notice(notice: &Notice) -> Self {
        let json = serde_json::to_string(notice).unwrap_or_default();
        let (time, severity) = match notice {
            Notice::ApprovalRequested { time, .. }
            | Notice::BudgetWarning { time, .. }
            | Notice::LowBalance { time, .. }
            | Notice::Frozen { time, .. } => (*time, Severity::Warn),
            Notice::ApprovalAnswered { time, .. }
            | Notice::SignedIn { time, .. }
            | Notice::Unfrozen { time, .. } => (*time, Severity::Info),
        };
        Self {
            time,
            observed: Instant::now(),
            severity,
            name: notice.name(),
            body: log::ascii(json),
            attributes: vec![],
            place: None,
        }
    }
}

/// `settled: 0.01 USD to shop.example`.
fn sentence(event: &SpendEvent) -> String {
    let price = event.charged.or(event.price);
    let price = price.map_or_else(String::new, |p| format!("{p} to "));
    let why = event.reason.as_deref();
    let why = why.map_or_else(String::new, |why| format!(" ({why})"));
    format!("{}: {price}{}{why}", event.state.name(), event.host)
}

fn place(event: &SpendEvent) -> Option<(TraceId, SpanId)> {
    let (mut trace, mut span) = (TraceId::default(), SpanId::default());
    hex::decode_to_slice(event.trace_id.as_deref()?, &mut trace).ok()?;
    hex::decode_to_slice(event.span_id.as_deref()?, &mut span).ok()?;
    Some((trace, span))
}

/// Whose request, and for what: also known of an exchange that is not paid.
fn exchange(event: &SpendEvent) -> Attributes {
    let text = |text: &str| Value::Text(text.to_owned());
    vec![
        ("farepass.session", text(&event.session.0)),
        ("farepass.agent", text(&event.agent)),
        ("farepass.host", text(&event.host)),
        ("http.request.method", text(&event.method)),
        ("url.path", text(&event.path)),
    ]
}

/// What became of it. What is not known is left out.
pub(super) fn payment(event: &SpendEvent) -> Attributes {
    let mut all = vec![
        ("farepass.outcome", Value::Text(event.state.name().into())),
        ("farepass.payment.id", Value::Text(event.id.to_string())),
    ];
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let usd = |usd: Option<Usd>| usd.map(|usd| usd.to_string());
    let texts = [
        ("farepass.protocol", given(&event.protocol)),
        ("farepass.scheme", given(&event.scheme)),
        ("farepass.network", given(&event.network)),
        ("farepass.asset", given(&event.asset)),
        ("farepass.pay_to", given(&event.pay_to)),
        ("farepass.wallet", given(&event.wallet)),
        ("farepass.policy", given(&event.policy)),
        ("farepass.amount", event.amount.map(|a| a.to_string())),
        (
            "farepass.amount_settled",
            event.amount_settled.map(|a| a.to_string()),
        ),
        ("farepass.price", usd(event.price)),
        ("farepass.charged", usd(event.charged)),
        ("farepass.rule", event.rule.clone()),
        ("farepass.reason", event.reason.clone()),
        ("farepass.receipt", event.receipt.clone()),
        ("farepass.transaction", event.transaction.clone()),
    ];
    let texts = texts.into_iter();
    all.extend(texts.filter_map(|(name, text)| Some((name, Value::Text(text?)))));
    if !event.flags.is_empty() {
        let flags = event.flags.iter().map(|f| f.name().to_owned()).collect();
        all.push(("farepass.flags", Value::Texts(flags)));
    }
    if event.confirmed {
        all.push(("farepass.confirmed", Value::Flag(true)));
    }
    all
}
