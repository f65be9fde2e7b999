//! Payments that a person must approve: bound to the exact terms by their digest, used once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Payer;
use super::about::About;
use super::plan::Plan;
use super::reserve::named;
use crate::budget::facts::key;
use crate::budget::{Asked as Stage, Asking, Entry, Fact, Reject};
use crate::clock::Timestamp;
use crate::event::Notice;
use crate::ledger::{Post, PostError};
use crate::payment::{ApprovalId, Asked, Reason, Refusal};
use crate::policy::{Approval, Consent};
use crate::settings::Rate;

/// New questions of one session: more than a person can answer is noise.
pub(super) const ASKS: Rate = Rate {
    count: 30,
    seconds: 3600,
};

/// A person said yes to exactly this.
pub(super) struct Granted {
    pub(super) id: ApprovalId,
    pub(super) digest: String,
}

/// A request that may wait for a person. Nothing was reserved or signed.
pub struct Pending {
    /// What the agent is told if nobody answers in time.
    pub refusal: Refusal,
    about: About,
    wait: Duration,
    bell: watch::Receiver<()>,
}

/// Why nothing was signed.
pub enum Unpaid {
    /// The answer is no.
    Refused(Refusal),
    /// Nobody answered yet.
    Pending(Box<Pending>),
}

/// Those who wait, by what they wait for. Only a bell: the answer itself is in the ledger.
#[derive(Default)]
pub(super) struct Bells(Mutex<HashMap<ApprovalId, watch::Sender<()>>>);

impl Bells {
    /// Rings for every answer that comes from now on.
    fn bell(&self, id: ApprovalId) -> watch::Receiver<()> {
        let mut bells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bells.retain(|_, bell| bell.receiver_count() > 0);
        bells.entry(id).or_default().subscribe()
    }

    fn ring(&self, id: ApprovalId) {
        let mut bells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bell) = bells.remove(&id) {
            bell.send_replace(());
        }
    }
}

impl Pending {
    /// Returns when somebody answered or nobody will in time. Decide again then.
    pub async fn answered(&mut self) {
        // Whether it rang or not: what counts is what the ledger says now.
        let _ = timeout(self.wait, self.bell.changed()).await;
    }
}

impl Payer {
    /// Has a person agreed to exactly this plan? Asks, if nobody was asked yet.
    pub(super) async fn consent(
        &self,
        consent: &Consent,
        asked: &Asked,
        plan: &Plan<'_>,
        about: &About,
    ) -> Result<Granted, Unpaid> {
        // A yes would buy nothing there, and nobody is shown the question.
        if let Ok(Some(row)) = self.ledger.session(&asked.session.id).await
            && row.closed
        {
            let closed = super::refusals::session_closed();
            return Err(Unpaid::Refused(about_plan(closed, plan)));
        }
        let digest = digest(asked, &plan.approval);
        let id = id(&digest);
        // Before the question is looked up, so that no answer in between is missed.
        let bell = self.bells.bell(id);
        let now = self.clock.now();
        let fact = self.ledger.fact(&key::approval(id)).await;
        let known = match fact {
            Ok(Some(Fact::Approval(known))) => Some(known),
            Ok(_) => None,
            Err(e) => {
                return Err(Unpaid::Refused(super::refusals::of_post(
                    &e,
                    &plan.approval,
                )));
            }
        };
        let digest = hex::encode(digest);
        match known {
            Some(known) if known.is_open(now) && known.digest == digest => {
                if matches!(known.stage, Stage::Approved { .. }) {
                    return Ok(Granted { id, digest });
                }
            }
            Some(known) if now < known.expires && matches!(known.stage, Stage::Denied { .. }) => {
                return Err(Unpaid::Refused(denied(&known, plan)));
            }
            Some(_) | None => {
                let asking = asking(id, digest, consent, &plan.approval, about, now);
                self.ask(asking, plan).await?;
            }
        }
        let refusal = required(self.approve_url(id), consent, plan);
        if consent.wait.is_zero() {
            return Err(Unpaid::Refused(refusal));
        }
        Err(Unpaid::Pending(Box::new(Pending {
            refusal,
            about: about.clone(),
            wait: consent.wait,
            bell,
        })))
    }

    async fn ask(&self, asking: Asking, plan: &Plan<'_>) -> Result<(), Unpaid> {
        let refuse = |refusal: Refusal| Err(Unpaid::Refused(about_plan(refusal, plan)));
        if self
            .rates
            .take(ASKS, &format!("asks:{}", asking.session))
            .is_err()
        {
            let detail = "a person must approve this, and was asked too often already";
            return refuse(Refusal::new(Reason::ApprovalRequired, detail));
        }
        let post = Post {
            time: asking.asked,
            entries: vec![Entry::Ask {
                asking: Box::new(asking.clone()),
            }],
            event: None,
        };
        if let Err(problem) = self.ledger.post(post).await {
            return refuse(super::refusals::of_post(&problem, &plan.approval));
        }
        self.notice(&Notice::ApprovalRequested {
            time: asking.asked,
            approve_url: self.approve_url(asking.id),
            approval: Box::new(asking),
        });
        Ok(())
    }

    /// A person's answer. Whoever waits for it decides again, limits included.
    ///
    /// # Errors
    /// When there is no such question, or it is over.
    pub async fn answer(&self, id: ApprovalId, approve: bool) -> Result<Asking, PostError> {
        let asking = answer(&*self.ledger, id, approve, self.clock.now()).await?;
        self.bells.ring(id);
        self.notice(&Notice::ApprovalAnswered {
            time: self.clock.now(),
            approval: Box::new(asking.clone()),
        });
        Ok(asking)
    }

    /// Where a person answers.
    #[must_use]
    pub fn approve_url(&self, id: ApprovalId) -> String {
        format!("{}/approvals/{id}", self.admin_url)
    }

    /// The refusal of a request that waited in vain, recorded.
    pub async fn unanswered(&self, pending: Pending) -> Refusal {
        self.deny(pending.about, pending.refusal).await
    }
}

/// Enters a person's answer in the ledger, also without a running proxy.
///
/// # Errors
/// When there is no such question, or it is over.
pub async fn answer(
    ledger: &dyn crate::ledger::Ledger,
    id: ApprovalId,
    approve: bool,
    now: Timestamp,
) -> Result<Asking, PostError> {
    let entry = Entry::Answer { id, approve, now };
    let post = Post {
        time: now,
        entries: vec![entry],
        event: None,
    };
    ledger.post(post).await?;
    match ledger.fact(&key::approval(id)).await? {
        Some(Fact::Approval(asking)) => Ok(*asking),
        _ => Err(Reject::NoSuchApproval.into()),
    }
}

/// Everything that a person agrees to: who asks, where, and every term that would be signed.
pub(super) fn digest(asked: &Asked, approval: &Approval) -> [u8; 32] {
    let requirement = &approval.requirement;
    let port = asked.port.to_string();
    let amount = requirement.amount.to_string();
    let texts = [
        &*asked.session.id.0,
        asked.method.as_str(),
        if asked.secure { "https" } else { "http" },
        &asked.host,
        &port,
        &asked.path,
        &approval.rule,
        requirement.protocol,
        &requirement.scheme,
        requirement.network.as_str(),
        &approval.asset.address,
        &amount,
        &requirement.pay_to,
        &requirement.transfer_method,
        requirement.facilitator.as_deref().unwrap_or_default(),
    ];
    let shares = requirement.splits.iter().flat_map(|split| {
        let memo = split.memo.map(hex::encode).unwrap_or_default();
        [split.amount.to_string(), split.pay_to.clone(), memo]
    });
    let shares: Vec<String> = shares.collect();
    let fee = approval.fee.to_string();
    let own_fee = requirement.own_fee.then_some(&*fee);
    // Only where one is named, so that what was approved before tools counted stays approved. Not to be
    // taken for a fee, which has digits only.
    let tool = asked.tool.name().map(|tool| format!("tool {tool}"));
    let mut hash = Sha256::new();
    for text in texts
        .into_iter()
        .chain(shares.iter().map(|share| &**share))
        .chain(own_fee)
        .chain(tool.as_deref())
    {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}

/// The digest of a question, as [`Asking::digest`] has it.
#[must_use]
pub fn digest_of(asked: &Asked, approval: &Approval) -> String {
    hex::encode(digest(asked, approval))
}

pub(super) fn id(digest: &[u8; 32]) -> ApprovalId {
    let half = digest.iter().take(16);
    ApprovalId(half.fold(0, |sum, byte| sum << 8 | u128::from(*byte)))
}

pub(super) fn asking(
    id: ApprovalId,
    digest: String,
    consent: &Consent,
    approval: &Approval,
    about: &About,
    now: Timestamp,
) -> Asking {
    let event = about.event(now, crate::event::State::Denied);
    let path = match about.tool() {
        Some(tool) => named(&event.path, tool),
        None => event.path,
    };
    Asking {
        id,
        digest,
        because: consent.because.iter().map(|b| (*b).to_owned()).collect(),
        session: event.session,
        agent: event.agent,
        method: event.method,
        host: event.host,
        path,
        rule: approval.rule.clone(),
        network: event.network,
        asset: event.asset,
        amount: approval.requirement.amount,
        pay_to: event.pay_to,
        price: approval.price,
        asked: now,
        expires: now.after_secs(consent.valid.as_secs()),
        stage: Stage::Waiting,
    }
}

fn required(approve_url: String, consent: &Consent, plan: &Plan<'_>) -> Refusal {
    let detail = format!(
        "a person must approve this payment ({}); ask again when it is approved",
        consent.because.join(", ")
    );
    let refusal = Refusal {
        retryable: true,
        approve_url: Some(approve_url),
        ..Refusal::new(Reason::ApprovalRequired, detail)
    };
    about_plan(refusal, plan)
}

fn denied(known: &Asking, plan: &Plan<'_>) -> Refusal {
    let refusal = Refusal {
        resets_at: Some(known.expires),
        ..Refusal::new(Reason::ApprovalDenied, "a person denied this payment")
    };
    about_plan(refusal, plan)
}

fn about_plan(refusal: Refusal, plan: &Plan<'_>) -> Refusal {
    Refusal {
        rule: Some(plan.approval.rule.clone()),
        price: Some(plan.approval.price),
        ..refusal
    }
}
