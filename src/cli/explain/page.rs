//! What `explain` says, for people and for programs.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::Explained;
use crate::budget::Counted;
use crate::money::Usd;
use crate::payment::{Limit, Requirement};
use crate::policy::{Assumed, Verdict};

/// `session`, `budget hourly of bot`.
fn named(limit: &Limit) -> String {
    if limit.is_session() {
        return "session".into();
    }
    let kind = if limit.is_rate() {
        "rate per"
    } else {
        "budget"
    };
    let mut parts = limit.account.splitn(3, ':').skip(1);
    let (name, who) = (parts.next(), parts.next());
    match (name, who) {
        (Some(name), None | Some("")) => format!("{kind} {name}"),
        (Some(name), Some(who)) => format!("{kind} {name} of {who}"),
        (None, _) => limit.account.clone(),
    }
}

fn left(limit: &Limit, counted: &Counted) -> String {
    let mut text = match limit.amount {
        // Counts payments only.
        Usd(u64::MAX) => String::new(),
        amount => {
            let left = amount.minus(counted.amount).unwrap_or_default();
            format!("{left} left of {amount}")
        }
    };
    if let Some(most) = limit.payments {
        let comma = if text.is_empty() { "" } else { ", " };
        let left = most.saturating_sub(counted.payments);
        text += &format!("{comma}{left} left of {most} payments");
    }
    text
}

/// For people.
pub(super) fn write(out: &mut dyn Write, explained: &Explained) -> io::Result<()> {
    let answer = &explained.answer;
    writeln!(out, "{}", asked(explained))?;
    let several = answer.offers.len() > 1;
    for (offer, costs) in answer.offers.iter().zip(offered(explained)) {
        let by = match several {
            true => format!(" by {}", way(&offer.requirement)),
            false => String::new(),
        };
        writeln!(out, "supposing it costs {costs}{by}")?;
    }
    match &answer.rule {
        Some(rule) => writeln!(out, "rule: {rule}")?,
        None => writeln!(out, "rule: none matches")?,
    }
    for offer in &answer.offers {
        if several && !offer.verdicts.is_empty() {
            writeln!(out, "{}:", way(&offer.requirement))?;
        }
        for verdict in &offer.verdicts {
            match &verdict.refusal {
                None => writeln!(out, "  {:<18} ok", verdict.term)?,
                Some(refusal) => writeln!(out, "  {:<18} no: {}", verdict.term, refusal.detail)?,
            }
        }
    }
    if let (true, Ok(approval)) = (several, &answer.outcome) {
        writeln!(
            out,
            "of what the rule accepts the cheapest, then the first of its schemes: {}",
            way(&approval.requirement)
        )?;
    }
    for (limit, counted) in &explained.limits {
        writeln!(out, "{}: {}", named(limit), left(limit, counted))?;
    }
    if let Some(never) = &explained.never {
        return writeln!(out, "not paid: {never}");
    }
    match (&explained.refusal, &answer.outcome) {
        (Some(refusal), _) => writeln!(out, "refused, {}: {}", refusal.reason, refusal.detail),
        (None, Ok(approval)) if explained.observing => {
            writeln!(
                out,
                "allowed, {}; mode is observe, so nothing is paid",
                approval.price
            )
        }
        (None, Ok(approval)) => match &approval.duties.consent {
            Some(consent) => writeln!(
                out,
                "a person is asked first ({}), then paid, {}",
                consent.because.join(", "),
                approval.price
            ),
            None => writeln!(out, "paid, {}", approval.price),
        },
        (None, Err(refusal)) => writeln!(out, "refused, {refusal}"),
    }
}

/// `GET https://api.example.com/v1/x for the agent `bot``.
fn asked(explained: &Explained) -> String {
    let question = &explained.question;
    let (scheme, usual) = match question.secure {
        true => ("https", 443),
        false => ("http", 80),
    };
    let host = match question.host.contains(':') {
        true => format!("[{}]", question.host),
        false => question.host.clone(),
    };
    let port = match question.port {
        port if port == usual => String::new(),
        port => format!(":{port}"),
    };
    let (method, path, agent) = (&question.method, &question.path, &explained.session.agent);
    format!("{method} {scheme}://{host}{port}{path} for the agent `{agent}`")
}

/// `0.03 USD (30000 units of USDC on eip155:84532), paid to somebody the rule allows`.
fn offered(explained: &Explained) -> impl Iterator<Item = String> {
    let Explained {
        question,
        answer,
        assets,
        ..
    } = explained;
    let to = question.pay_to.as_deref();
    let to = to.unwrap_or("somebody the rule allows");
    answer
        .offers
        .iter()
        .zip(assets)
        .enumerate()
        .map(move |(n, (offer, asset))| {
            let offer = &offer.requirement;
            let most = match &*offer.scheme {
                "upto" => "at most ",
                _ => "",
            };
            let own = question.offers.get(n).and_then(|o| o.amount);
            let what = format!("{} units of {asset} on {}", offer.amount, offer.network);
            match own.or(question.amount) {
                Some(price) => format!("{most}{price} ({what}), paid to {to}"),
                None => format!("{most}{what}, paid to {to}"),
            }
        })
}

/// `evm/charge (mpp)`.
fn way(offer: &Requirement) -> String {
    format!("{} ({})", offer.scheme, offer.protocol)
}

/// What each term says, for programs.
fn terms(offer: &Assumed) -> Vec<Value> {
    let verdict = |verdict: &Verdict| {
        json!({
            "term": verdict.term,
            "ok": verdict.refusal.is_none(),
            "reason": verdict.refusal.as_ref().map(|r| r.reason),
            "detail": verdict.refusal.as_ref().map(|r| &r.detail),
        })
    };
    offer.verdicts.iter().map(verdict).collect()
}

/// What is left of each limit, for programs.
fn limits(explained: &Explained) -> Vec<Value> {
    let limits = explained.limits.iter().map(|(limit, counted)| {
        // One that counts payments only has no money.
        let money = limit.sum();
        json!({
            "account": limit.account,
            "limit": money,
            "spent": counted.amount,
            "remaining": money.map(|most| most.minus(counted.amount).unwrap_or_default()),
            "payments": counted.payments,
            "payments_limit": limit.payments,
            "resets_at": limit.resets_at,
        })
    });
    limits.collect()
}

/// For programs.
pub(super) fn json(explained: &Explained) -> Value {
    let Explained {
        question,
        session,
        answer,
        refusal,
        ..
    } = explained;
    let chosen = answer.chosen();
    let offer = chosen.map(|o| &o.requirement);
    let paid = answer.outcome.is_ok();
    let offers = answer.offers.iter().zip(&explained.assets);
    let offers = offers.map(|(offer, asset)| {
        let Assumed { requirement, .. } = offer;
        json!({
            "protocol": requirement.protocol,
            "scheme": requirement.scheme,
            "network": requirement.network,
            "asset": asset,
            "amount": requirement.amount,
            "pay_to": requirement.pay_to,
            "chosen": paid && chosen.is_some_and(|c| std::ptr::eq(c, offer)),
            "terms": terms(offer),
        })
    });
    let place = answer
        .offers
        .iter()
        .position(|o| chosen.is_some_and(|c| std::ptr::eq(c, o)));
    let approval = answer.outcome.as_ref().ok();
    json!({
        "decision": if explained.is_paid() { "pay" } else { "refuse" },
        "reason": refusal.as_ref().map(|r| r.reason),
        "detail": refusal.as_ref().map(|r| &r.detail).or(explained.never.as_ref()),
        "rule": answer.rule,
        "price": approval.map(|a| a.price).or(refusal.as_ref().and_then(|r| r.price)),
        "method": question.method.as_str(),
        "host": question.host,
        "port": question.port,
        "path": question.path,
        "agent": session.agent,
        "session": session.id,
        "network": offer.map(|o| &o.network),
        "asset": place.and_then(|n| explained.assets.get(n)),
        "protocol": offer.map(|o| o.protocol),
        "scheme": offer.map(|o| &o.scheme),
        "amount": offer.map(|o| o.amount),
        "pay_to": offer.map(|o| &o.pay_to),
        "approval": approval.and_then(|a| a.duties.consent.as_ref()).map(|c| &c.because),
        "terms": chosen.map(terms).unwrap_or_default(),
        "offers": offers.collect::<Vec<_>>(),
        "limits": limits(explained),
        "mode": if explained.observing { "observe" } else { "enforce" },
        "policy": explained.policy,
    })
}
