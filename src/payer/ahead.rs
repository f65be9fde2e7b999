//! Asking a person before any request was made. The question is the one that the request itself would
//! ask, on the same exact terms; it raises no limit and promises nothing.

use super::about::About;
use super::consent::{ASKS, asking, digest, id};
use super::foresee::{Past, foresee};
use super::{Payer, refusals};
use crate::budget::facts::key;
use crate::budget::{Asking, Entry, Fact};
use crate::clock::{Clock, Timestamp};
use crate::event::Notice;
use crate::ledger::{Ledger, Post, PostError};
use crate::money::{Network, Usd};
use crate::payment::{Refusal, SessionId};
use crate::policy::{Mode, Policy, Question, is_nobody};

/// Why nobody was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAsked {
    /// No such session, or a closed one.
    #[error("there is no open session of that id")]
    Session,
    /// A person's yes would not help.
    #[error("a person's approval would not help: {}", .0.detail)]
    Refused(Box<Refusal>),
    /// The policy asks nobody.
    #[error("nobody needs to be asked: the policy pays {0} there by itself")]
    Needless(Usd),
    /// An approval is for one recipient.
    #[error("the recipient is not known yet: say who is to be paid")]
    Recipient,
    /// Who says how much is taken is among the terms, and only the merchant names it.
    #[error(
        "by `upto` the merchant names who says how much is taken, so nobody can be asked ahead: make the request, and a person is asked then"
    )]
    Facilitator,
    /// More than a person can answer is noise.
    #[error("a person was asked too often already; wait for an answer")]
    TooOften,
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] PostError),
}

/// Enters the question in the ledger, also without a running proxy. One that was asked already is
/// given as it stands, and `false` with it. `stopped`: is the operator's file there that stops all payments?
///
/// # Errors
/// [`NotAsked`].
pub async fn ask_ahead(
    ledger: &dyn Ledger,
    policy: &Policy,
    payers: &[(Network, String)],
    session: &SessionId,
    question: &Question,
    (clock, stopped): (&dyn Clock, bool),
) -> Result<(Asking, bool), NotAsked> {
    let row = ledger.session(session).await?.filter(|row| !row.closed);
    let session = row.ok_or(NotAsked::Session)?.session;
    let past = Past {
        book: Some(ledger),
        stopped,
    };
    let (now, by) = (clock.now(), clock.later());
    let foreseen = foresee(policy, payers, past, &session, question, now).await?;
    if let Some(refusal) = foreseen.refusal {
        return Err(NotAsked::Refused(Box::new(refusal)));
    }
    let approval = foreseen.answer.outcome;
    let approval = approval.map_err(|refusal| NotAsked::Refused(Box::new(refusal)))?;
    match policy.mode() {
        Mode::Enforce => {}
        Mode::Observe => {
            let refusal = refusals::observed(&approval);
            return Err(NotAsked::Refused(Box::new(refusal)));
        }
    }
    let asked = question.asked(&session);
    let digest = digest(&asked, &approval);
    let id = id(&digest);
    if let Some(Fact::Approval(known)) = ledger.fact(&key::approval(id)).await?
        && by < known.expires
        && !known.is_used()
    {
        return Ok((*known, false));
    }
    let Some(consent) = &approval.duties.consent else {
        return Err(NotAsked::Needless(approval.price));
    };
    if approval.requirement.facilitator.is_some() {
        return Err(NotAsked::Facilitator);
    }
    if is_nobody(&approval.requirement.pay_to) {
        return Err(NotAsked::Recipient);
    }
    if asked_too_often(ledger, &session.id, by).await? {
        return Err(NotAsked::TooOften);
    }
    let mut about = About::new(&asked, policy, now);
    about.chosen(&approval);
    let asking = asking(id, hex::encode(digest), consent, &approval, &about, by);
    let post = Post {
        time: now,
        entries: vec![Entry::Ask {
            asking: Box::new(asking.clone()),
        }],
        event: None,
    };
    ledger.post(post).await?;
    Ok((asking, true))
}

/// Were so many questions of this session asked lately that one more would be noise?
async fn asked_too_often(
    ledger: &dyn Ledger,
    session: &SessionId,
    now: Timestamp,
) -> Result<bool, PostError> {
    let earlier = ledger.facts(key::APPROVALS).await?.into_iter();
    let recent = |fact: &Fact| match fact {
        Fact::Approval(asking) => {
            asking.session == *session && now < asking.asked.after_secs(ASKS.seconds)
        }
        Fact::Frozen { .. } | Fact::Merchant { .. } | Fact::Payee { .. } | Fact::Price { .. } => {
            false
        }
    };
    let recent = earlier.filter(|(_, fact)| recent(fact)).count();
    Ok(u32::try_from(recent).is_ok_and(|n| n >= ASKS.count))
}

impl Payer {
    /// The same by the running proxy, which tells whoever watches.
    ///
    /// # Errors
    /// [`NotAsked`].
    pub async fn ask_ahead(
        &self,
        session: &SessionId,
        question: &Question,
    ) -> Result<Asking, NotAsked> {
        let policy = self.policy();
        let when = (&*self.clock, self.is_stopped());
        let asked = ask_ahead(
            &*self.ledger,
            &policy,
            &self.payers,
            session,
            question,
            when,
        );
        let (asking, new) = asked.await?;
        if new {
            self.notice(&Notice::ApprovalRequested {
                time: self.clock.now(),
                approve_url: self.approve_url(asking.id),
                approval: Box::new(asking.clone()),
            });
        }
        Ok(asking)
    }
}
