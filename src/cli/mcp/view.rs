//! What an agent is told: its own session, and nothing that the operator keeps from agents
//! (`refusals.numbers`).

use serde_json::{Map, Value, json};

use crate::budget::{Asked, Asking, Counted};
use crate::clock::Timestamp;
use crate::config::{Config, ConfigError};
use crate::event::{SpendEvent, State};
use crate::ledger::{OpenError, PostError, SessionRow};
use crate::money::Usd;
use crate::payer::Foreseen;
use crate::payment::{Limit, Refusal};
use crate::policy::{Budget, Mode, Scope};

/// Why there is no answer, in words that an agent may read: no path, no line of the file.
#[derive(Debug, thiserror::Error)]
pub(super) enum Silent {
    /// Nobody's.
    #[error("the session that this server was started for is not in the ledger")]
    Session,
    /// The file.
    #[error("the configuration cannot be used; the operator can see why with `farepass check`")]
    Config(#[from] ConfigError),
    /// The book.
    #[error("the ledger cannot be read")]
    Open(#[from] OpenError),
    /// The same.
    #[error("the ledger cannot be read")]
    Ledger(#[from] PostError),
    /// The question was not entered.
    #[error("nobody could be asked; the operator can see why in the log of this server")]
    Unasked(String),
    /// No catalogue was asked.
    #[error("nothing could be looked for; the operator can see why in the log of this server")]
    Unsearched(String),
    /// What was asked.
    #[error("{0}")]
    Arguments(String),
}

/// May numbers be told?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbers {
    Told,
    Kept,
}

impl Numbers {
    pub(super) fn of(config: &Config) -> Self {
        match config.refusals.numbers {
            true => Self::Told,
            false => Self::Kept,
        }
    }
}

/// The session: who, until when, and what is left.
pub(super) fn session(row: &SessionRow, now: Timestamp, numbers: Numbers) -> Value {
    let state = match row.closed {
        true => "closed",
        false if row.session.expires <= now => "expired",
        false => "open",
    };
    let mut members = Map::new();
    members.insert("id".into(), json!(row.session.id));
    members.insert("agent".into(), json!(row.session.agent));
    members.insert("state".into(), state.into());
    members.insert("expires".into(), json!(row.session.expires));
    if numbers == Numbers::Told {
        let left = row.session.budget.minus(row.spent).unwrap_or_default();
        members.insert("budget".into(), json!(row.session.budget));
        members.insert("spent".into(), json!(row.spent));
        members.insert("remaining".into(), json!(left));
        members.insert("payments".into(), json!(row.payments));
    }
    Value::Object(members)
}

/// A budget of the policy that the session draws on.
pub(super) fn budget(budget: &Budget, limit: &Limit, counted: Counted, numbers: Numbers) -> Value {
    let whose = match budget.scope {
        Scope::Session => "session",
        Scope::Agent => "agent",
        Scope::Host => "host",
        Scope::Wallet => "wallet",
        Scope::All => "all",
    };
    let mut value = json!({ "name": budget.name, "scope": whose, "resets_at": limit.resets_at });
    if numbers == Numbers::Told {
        merge(&mut value, standing(limit, &counted));
    }
    value
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

/// How much of a limit is left.
fn standing(limit: &Limit, counted: &Counted) -> Value {
    let money = limit.sum();
    let left = |most: Usd| most.minus(counted.amount).unwrap_or_default();
    json!({
        "limit": money,
        "spent": counted.amount,
        "remaining": money.map(left),
        "payments": counted.payments,
        "payments_limit": limit.payments,
        "payments_remaining": limit.payments.map(|most| most.saturating_sub(counted.payments)),
    })
}

/// `session`, `budget hourly`, `rate market-data`: without whose it is.
fn named(limit: &Limit) -> String {
    let mut parts = limit.account.split(':');
    match (parts.next(), parts.next()) {
        (Some("session"), _) => "session".into(),
        (Some(kind), Some(name)) => format!("{kind} {name}"),
        (_, _) => String::new(),
    }
}

/// What the policy would say.
pub(super) fn decision(foreseen: &Foreseen, mode: Mode, numbers: Numbers) -> Value {
    let approval = foreseen.answer.outcome.as_ref().ok();
    let because = approval.and_then(|a| a.duties.consent.as_ref());
    let because = because.map(|consent| consent.because.clone());
    let decision = match (&foreseen.refusal, mode, &because) {
        (Some(_), _, _) => "refuse",
        (None, Mode::Observe, _) => "observe",
        (None, Mode::Enforce, Some(_)) => "ask_person",
        (None, Mode::Enforce, None) => "pay",
    };
    let mut value = json!({ "decision": decision, "rule": foreseen.answer.rule });
    if let Some(approval) = approval {
        let offer = &approval.requirement;
        merge(
            &mut value,
            json!({
                "price": approval.price, "amount": offer.amount, "asset": approval.asset.symbol,
                "network": offer.network, "scheme": offer.scheme,
            }),
        );
    }
    if let Some(because) = because {
        merge(&mut value, json!({ "approval": because }));
    }
    if let Some(refused) = &foreseen.refusal {
        merge(&mut value, refusal(refused, numbers));
    }
    if numbers == Numbers::Told {
        let limits = foreseen.limits.iter().map(|(limit, counted)| {
            let mut told = standing(limit, counted);
            merge(
                &mut told,
                json!({ "what": named(limit), "resets_at": limit.resets_at }),
            );
            told
        });
        merge(&mut value, json!({ "limits": limits.collect::<Vec<_>>() }));
    }
    value
}

/// The same members as the problem document of a request that is refused.
fn refusal(refusal: &Refusal, numbers: Numbers) -> Value {
    let told = match numbers {
        Numbers::Told => refusal.clone(),
        Numbers::Kept => refusal.without_numbers(),
    };
    json!({
        "reason": told.reason,
        "title": told.reason.title(),
        "detail": told.detail,
        "price": told.price,
        "limit": told.limit,
        "remaining": told.remaining,
        "retryable": told.retryable,
        "resets_at": told.resets_at,
    })
}

/// One payment or refusal.
pub(super) fn spent(row: &SpendEvent) -> Value {
    let flags: Vec<&str> = row.flags.iter().map(|flag| flag.name()).collect();
    json!({
        "payment": row.id,
        "time": row.time,
        "state": row.state.name(),
        "method": row.method,
        "host": row.host,
        "path": row.path,
        "price": row.price,
        "charged": charged(row),
        "asset": row.asset,
        "network": row.network,
        "pay_to": row.pay_to,
        "reason": row.reason,
        "rule": row.rule,
        "transaction": row.transaction,
        "flags": flags,
    })
}

/// What it counts now.
fn charged(row: &SpendEvent) -> Option<Usd> {
    match row.state {
        State::Denied | State::Released => None,
        State::Reserved | State::Unknown | State::Settled => row.charged.or(row.price),
    }
}

/// A question to a person, and how it stands.
pub(super) fn asking(asking: &Asking, approve_url: Option<String>) -> Value {
    let stage = match asking.stage {
        Asked::Waiting => "waiting",
        Asked::Approved { .. } => "approved",
        Asked::Denied { .. } => "denied",
        Asked::Used { .. } => "used",
    };
    json!({
        "decision": "ask_person",
        "approval": asking.id,
        "stage": stage,
        "because": asking.because,
        "price": asking.price,
        "asset": asking.asset,
        "network": asking.network,
        "pay_to": asking.pay_to,
        "method": asking.method,
        "host": asking.host,
        "path": asking.path,
        "expires": asking.expires,
        "approve_url": approve_url,
    })
}
