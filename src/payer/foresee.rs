//! What would come of a question now: the policy's answer, and what the ledger says to it. Reads only.

use super::freeze::by_file;
use super::refusals::session_closed;
use super::{frozen, known, over_limit, route};
use crate::budget::facts::key;
use crate::budget::{Counted, Frozen};
use crate::clock::Timestamp;
use crate::ledger::{PostError, Reader};
use crate::money::Network;
use crate::payment::{Asked, Limit, Refusal, Session};
use crate::policy::{Answer, Approval, Facts, Policy, Question};

/// The answer to a question, with what is spent already.
#[derive(Clone, Debug)]
pub struct Foreseen {
    /// What the policy says.
    pub answer: Answer,
    /// Every limit with what counts there.
    pub limits: Vec<(Limit, Counted)>,
    /// The decision.
    pub refusal: Option<Refusal>,
}

/// What has happened already.
#[derive(Clone, Copy)]
pub struct Past<'a> {
    /// The ledger. Without one nothing counts as spent, and nothing is remembered.
    pub book: Option<&'a dyn Reader>,
    /// Is the operator's file there that stops all payments?
    pub stopped: bool,
}

/// What would be decided were this session to ask. `payers` is who would pay where.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn foresee(
    policy: &Policy,
    payers: &[(Network, String)],
    past: Past<'_>,
    session: &Session,
    question: &Question,
    now: Timestamp,
) -> Result<Foreseen, PostError> {
    let mut facts = Facts {
        payers: payers.to_vec(),
        ..Facts::default()
    };
    if let Some(book) = past.book {
        let route = route(&question.path, question.tool.as_deref());
        facts.known = known(book, &question.host, &question.method, &route).await?;
    }
    let answer = policy.answer(question, session, &facts, now);
    let limits = match &answer.outcome {
        Ok(approval) => counted(past.book, approval).await?,
        Err(_) => vec![],
    };
    let refusal = match &answer.outcome {
        Err(refusal) => Some(refusal.clone()),
        Ok(approval) => match stopped(past, session, &question.host).await? {
            Some(stopped) => Some(stopped),
            None => beyond(approval, &limits),
        },
    };
    Ok(Foreseen {
        answer,
        limits,
        refusal,
    })
}

/// Why an approved payment would be refused all the same: the session's end, a freeze, or what is spent
/// already.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn passed(
    past: Past<'_>,
    asked: &Asked,
    approval: &Approval,
) -> Result<Option<Refusal>, PostError> {
    if let Some(refusal) = stopped(past, &asked.session, &asked.host).await? {
        return Ok(Some(refusal));
    }
    Ok(beyond(approval, &counted(past.book, approval).await?))
}

/// Every limit of a payment, with what counts there.
async fn counted(
    book: Option<&dyn Reader>,
    approval: &Approval,
) -> Result<Vec<(Limit, Counted)>, PostError> {
    let mut limits = vec![];
    for limit in &approval.limits {
        let counted = match book {
            Some(book) => book.counted(&limit.account, limit.first).await?,
            None => Counted::default(),
        };
        limits.push((limit.clone(), counted));
    }
    Ok(limits)
}

/// The session's end, or a freeze.
async fn stopped(
    past: Past<'_>,
    session: &Session,
    host: &str,
) -> Result<Option<Refusal>, PostError> {
    let row = match past.book {
        Some(book) => book.session(&session.id).await?,
        None => None,
    };
    match row {
        Some(row) if row.closed => Ok(Some(session_closed())),
        Some(_) | None => freeze(past, host, &session.agent).await,
    }
}

/// What the operator froze that this would be under.
async fn freeze(past: Past<'_>, host: &str, agent: &str) -> Result<Option<Refusal>, PostError> {
    if past.stopped {
        return Ok(Some(by_file()));
    }
    let Some(book) = past.book else {
        return Ok(None);
    };
    let freezes = book.facts(key::FREEZES).await?.into_iter().collect();
    let what = Frozen::among(&freezes, host, agent);
    Ok(what.map(|what| frozen(&what)))
}

/// The first limit that does not hold the payment as well.
fn beyond(approval: &Approval, limits: &[(Limit, Counted)]) -> Option<Refusal> {
    let price = approval.price;
    let over = |(limit, counted): &&(Limit, Counted)| {
        let sum = counted.amount.plus(price);
        let many = limit.payments.is_some_and(|most| counted.payments >= most);
        many || sum.is_none_or(|sum| sum > limit.amount)
    };
    let (limit, counted) = limits.iter().find(over)?;
    Some(Refusal {
        rule: Some(approval.rule.clone()),
        price: Some(price),
        ..over_limit(limit, counted, price)
    })
}
