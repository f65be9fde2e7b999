//! Payments that a person must approve: bound to the exact terms by their digest, used once.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::time::timeout;

use super::about::About;
use super::foresee::{Past, passed};
use super::plan::Plan;
use super::reserve::named;
use super::{Payer, refusals};
use crate::budget::facts::key;
use crate::budget::{Asked as Stage, Asking, Entry, Fact, Reject};
use crate::clock::{Clock, Timestamp};
use crate::event::Notice;
use crate::ledger::{Post, PostError};
use crate::payment::{ApprovalId, Asked, Reason, Refusal, Requirement};
use crate::policy::{self, Approval, Consent, plain_payee};
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
    /// When.
    pub(super) at: Timestamp,
}

/// A request that may wait for a person. Nothing was reserved or signed.
pub struct Pending {
    /// What the agent is told if nobody answers in time.
    pub refusal: Refusal,
    about: About,
    id: ApprovalId,
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

impl Pending {
    /// Returns when somebody answered or nobody will in time. Decide again then.
    pub async fn answered(&mut self) {
        // Whether it rang or not: what counts is what the ledger says now.
        let _ = timeout(self.wait, self.bell.changed()).await;
    }
}

impl Payer {
    /// Has a person agreed to exactly this plan? Asks, where the policy wants it and nobody was asked yet. What
    /// was asked holds until it is over, also where the reason for it is gone: something else was paid meanwhile.
    /// `None`: nobody need agree.
    pub(super) async fn agreed(
        &self,
        asked: &Asked,
        plan: &Plan<'_>,
        about: &About,
    ) -> Result<Option<Granted>, Unpaid> {
        let Some(wait) = plan.approval.duties.asks else {
            return Ok(None);
        };
        let digest = digest(asked, &plan.approval);
        let id = id(&digest);
        // Before the question is looked up, so that no answer in between is missed.
        let bell = self.bells.bell(id);
        let now = self.clock.later();
        let known = self.asked_before(id, plan).await?;
        let digest = hex::encode(digest);
        let because = match (known, &plan.approval.duties.consent) {
            (Some(known), _) if known.is_open(now) && known.digest == digest => {
                if let Stage::Approved { at } = known.stage {
                    return Ok(Some(Granted { id, digest, at }));
                }
                self.affordable(asked, plan).await?;
                known.because.join(", ")
            }
            (Some(known), _)
                if now < known.expires && matches!(known.stage, Stage::Denied { .. }) =>
            {
                return Err(Unpaid::Refused(about_plan(denied(&known), plan)));
            }
            (_, None) => return Ok(None),
            (_, Some(consent)) => {
                self.affordable(asked, plan).await?;
                let asking = asking(id, digest, consent, &plan.approval, about, now);
                self.ask(asking, plan).await?;
                consent.because.join(", ")
            }
        };
        let refusal = required(self.approve_url(id), &because, plan);
        // After its session's end a yes buys nothing.
        let left = asked.session.expires.0.saturating_sub(self.clock.now().0);
        let left = Duration::from_millis(left);
        if wait.is_zero() {
            return Err(Unpaid::Refused(refusal));
        }
        Err(Unpaid::Pending(Box::new(Pending {
            refusal,
            about: about.clone(),
            id,
            wait: wait.min(left),
            bell,
        })))
    }

    async fn asked_before(
        &self,
        id: ApprovalId,
        plan: &Plan<'_>,
    ) -> Result<Option<Box<Asking>>, Unpaid> {
        match self.ledger.fact(&key::approval(id)).await {
            Ok(Some(Fact::Approval(known))) => Ok(Some(known)),
            Ok(_) => Ok(None),
            Err(e) => Err(Unpaid::Refused(refusals::of_post(&e, &plan.approval))),
        }
    }

    /// A yes would buy nothing where the session is closed or a limit reached, so nobody is shown the question,
    /// and nobody waits for the answer.
    async fn affordable(&self, asked: &Asked, plan: &Plan<'_>) -> Result<(), Unpaid> {
        let past = Past {
            book: Some(&*self.ledger),
            stopped: false,
        };
        match passed(past, asked, &plan.approval).await {
            Ok(None) => Ok(()),
            Ok(Some(refusal)) => Err(Unpaid::Refused(about_plan(refusal, plan))),
            Err(e) => Err(Unpaid::Refused(refusals::of_post(&e, &plan.approval))),
        }
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
        let now = self.clock.now();
        let post = Post {
            time: now,
            entries: vec![Entry::Ask {
                asking: Box::new(asking.clone()),
            }],
            event: None,
        };
        if let Err(problem) = self.ledger.post(post).await {
            return refuse(refusals::of_post(&problem, &plan.approval));
        }
        self.notice(&Notice::ApprovalRequested {
            time: now,
            approve_url: self.approve_url(asking.id),
            approval: Box::new(asking),
        });
        Ok(())
    }

    /// A person's answer. Whoever waits for it decides again, limits included. The same answer once more changes
    /// nothing, and nobody is told again.
    ///
    /// # Errors
    /// When there is no such question, or it is over.
    pub async fn answer(&self, id: ApprovalId, approve: bool) -> Result<Asking, PostError> {
        let before = self.ledger.fact(&key::approval(id)).await;
        let asking = answer(&*self.ledger, id, approve, &*self.clock).await?;
        self.bells.ring(id);
        let known =
            matches!(before, Ok(Some(Fact::Approval(known))) if known.stage == asking.stage);
        if !known {
            self.notice(&Notice::ApprovalAnswered {
                time: self.clock.now(),
                approval: Box::new(asking.clone()),
            });
        }
        Ok(asking)
    }

    /// Nobody waits for a person from now on. What was asked stands in the ledger, for whoever pays next.
    pub fn end_questions(&self) {
        self.bells.ring_out();
    }

    /// Where a person answers.
    #[must_use]
    pub fn approve_url(&self, id: ApprovalId) -> String {
        format!("{}/approvals/{id}", self.admin_url)
    }

    /// The refusal of a request whose question was answered with no, recorded. Who waited for that is not paid for
    /// either because nobody need agree any more since.
    pub async fn turned_down(&self, pending: &Pending) -> Option<Refusal> {
        let known = self.ledger.fact(&key::approval(pending.id)).await;
        match known {
            Ok(Some(Fact::Approval(known))) if matches!(known.stage, Stage::Denied { .. }) => {
                let refusal = Refusal {
                    rule: pending.refusal.rule.clone(),
                    price: pending.refusal.price,
                    ..denied(&known)
                };
                Some(self.deny(pending.about.clone(), refusal).await)
            }
            // Whatever else keeps it from being paid is found when it is decided again.
            Ok(_) | Err(_) => None,
        }
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
    clock: &dyn Clock,
) -> Result<Asking, PostError> {
    let now = clock.later();
    let entry = Entry::Answer { id, approve, now };
    let post = Post {
        time: clock.now(),
        entries: vec![entry],
        event: None,
    };
    ledger.post(post).await?;
    match ledger.fact(&key::approval(id)).await? {
        Some(Fact::Approval(asking)) => Ok(*asking),
        _ => Err(Reject::NoSuchApproval.into()),
    }
}

/// Everything that a person agrees to: who asks, where, and whatever decides what is paid to whom. How a merchant spells
/// its terms is none of it, nor by which of its doors the same money leaves: nobody is shown either, and who asks ahead
/// knows neither.
pub(super) fn digest(asked: &Asked, approval: &Approval) -> [u8; 32] {
    let requirement = &approval.requirement;
    let port = asked.port.to_string();
    let amount = requirement.amount.to_string();
    let text = |payee: &str| plain_payee(&requirement.network, payee);
    let path = policy::plain_spelling(&asked.path);
    let pay_to = text(&requirement.pay_to);
    let facilitator = requirement.facilitator.as_deref().map(text);
    let texts = [
        &*asked.session.id.0,
        asked.method.as_str(),
        if asked.secure { "https" } else { "http" },
        &asked.host,
        &port,
        &path,
        &approval.rule,
        family(requirement.protocol),
        &requirement.scheme,
        requirement.network.as_str(),
        &approval.asset.address,
        &amount,
        &pay_to,
        moved(requirement),
        facilitator.as_deref().unwrap_or_default(),
    ];
    let shares = requirement.splits.iter().flat_map(|split| {
        let memo = split.memo.map(hex::encode).unwrap_or_default();
        [split.amount.to_string(), text(&split.pay_to), memo]
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

/// Both versions of x402 have the same terms, and a merchant may speak either.
fn family(protocol: &str) -> &str {
    match protocol {
        "x402-v1" => "x402-v2",
        other => other,
    }
}

/// By `exact` the payee gets the amount and nobody anything else, whether token or Permit2 moves it. Which of them may is
/// for the rule to say (`transfer_methods`).
fn moved(requirement: &Requirement) -> &str {
    match (&*requirement.scheme, &*requirement.transfer_method) {
        ("exact", "permit2") => "eip3009",
        (_, method) => method,
    }
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

fn required(approve_url: String, because: &str, plan: &Plan<'_>) -> Refusal {
    let detail =
        format!("a person must approve this payment ({because}); ask again when it is approved");
    let refusal = Refusal {
        retryable: true,
        approve_url: Some(approve_url),
        ..Refusal::new(Reason::ApprovalRequired, detail)
    };
    about_plan(refusal, plan)
}

fn denied(known: &Asking) -> Refusal {
    Refusal {
        resets_at: Some(known.expires),
        ..Refusal::new(Reason::ApprovalDenied, "a person denied this payment")
    }
}

fn about_plan(refusal: Refusal, plan: &Plan<'_>) -> Refusal {
    Refusal {
        rule: Some(plan.approval.rule.clone()),
        price: Some(plan.approval.price),
        ..refusal
    }
}
