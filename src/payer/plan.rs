//! Which requirement, at what price, against which limits, and what the wallet will be asked: all that
//! can fail without money.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::about::About;
use super::foresee::{Past, passed};
use super::rates::Places;
use super::{Payer, SKEW, refusals};
use crate::clock::Timestamp;
use crate::event::SpendEvent;
use crate::payment::{ApprovalId, Asked, Challenge, Instruction, Nonce, Problem, Reason, Refusal};
use crate::policy::{self, Approval, Facts, Known, Mode, Policy};
use crate::protocol::{self, Protocol, Terms};
use crate::solana::{self, Blockhash};
use crate::wallet::{self, Wallet};

/// Seconds that an invoice is thought of as payable: no wallet tries for so long.
const INVOICE_MAX: u64 = 3600;

/// For a node to name a recent block. The agent waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A decision with everything that carrying it out needs.
pub(super) struct Plan<'a> {
    pub(super) approval: Approval,
    pub(super) instruction: Instruction,
    pub(super) protocol: &'static dyn Protocol,
    pub(super) wallet: &'a dyn Wallet,
    pub(super) nonce: String,
    /// What a wallet answers that makes authorizations itself.
    pub(super) challenge: Option<String>,
    /// Until then the payload can be charged. Its validity is written in wall time; a wall that is set
    /// anew meanwhile changes nothing about that.
    pub(super) until: Timestamp,
    pub(super) taken: Taken,
}

/// What was taken for a payment, and is given back where it was certainly never signed.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) places: Places,
    /// A person's yes, and when it was given.
    pub(super) approval: Option<(ApprovalId, Timestamp)>,
}

/// Why there is no plan: this offer cannot be taken, or none can.
enum Stuck {
    Offer(Refusal),
    All(Refusal),
}

impl From<Refusal> for Stuck {
    fn from(refusal: Refusal) -> Self {
        Self::All(refusal)
    }
}

impl Payer {
    /// The cheapest offer that the policy allows and the protocol can carry out. A broken offer hides
    /// no good one.
    pub(super) async fn prepare<'a>(
        &'a self,
        policy: &Policy,
        asked: &Asked,
        challenge: &Challenge,
        known: Known,
        about: &mut About,
    ) -> Result<Plan<'a>, Refusal> {
        let now = self.clock.now();
        let facts = Facts {
            payers: self.payers.clone(),
            known,
            wall: Some(self.clock.wall()),
        };
        let mut left = Cow::Borrowed(challenge);
        let mut first = None;
        loop {
            let approval = match policy::judge(policy, asked, &left, &facts, now) {
                Ok(approval) => approval,
                Err((refusal, nearest)) => {
                    if first.is_none() {
                        about.offered(challenge, nearest, policy);
                    }
                    return Err(first.unwrap_or(refusal));
                }
            };
            let offer = Arc::clone(&approval.requirement.offer);
            let network = approval.requirement.network.clone();
            about.chosen(&approval);
            self.open(asked, about, &approval, now)?;
            if policy.mode() == Mode::Observe {
                return Err(self.only_seen(asked, &approval).await);
            }
            let recent = match approval.requirement.network.is_solana() {
                true => Box::pin(self.recent(&approval)).await.map(Some),
                false => Ok(None),
            };
            let silent = recent.is_err();
            let planned = match recent {
                Ok(recent) => self.plan(about, approval, recent),
                Err(stuck) => Err(stuck),
            };
            match planned {
                Ok(plan) => return self.first_sale(asked, about, plan).await,
                Err(Stuck::Offer(refusal)) => {
                    first.get_or_insert(refusal);
                    let others = &mut left.to_mut().requirements;
                    // A merchant lists as many offers as it likes: no node is asked again for each of them.
                    match silent {
                        true => others.retain(|r| r.network != network),
                        false => others.retain(|r| !Arc::ptr_eq(&r.offer, &offer)),
                    }
                }
                Err(Stuck::All(refusal)) => return Err(refusal),
            }
        }
    }

    /// While nobody knows whether an invoice was paid that buys a token, no other of that origin is paid for the
    /// session: the token might be good for both, and whoever may still be paid for the first may be paid for all.
    async fn first_sale<'a>(
        &self,
        asked: &Asked,
        about: &About,
        plan: Plan<'a>,
    ) -> Result<Plan<'a>, Refusal> {
        if !protocol::is_token(&plan.approval.requirement) {
            return Ok(plan);
        }
        let open = self.ledger.open().await;
        let open = open.map_err(|problem| refusals::of_post(&problem, &plan.approval))?;
        let (session, host) = (&asked.session.id, about.host());
        let same = |event: &SpendEvent| {
            event.protocol == plan.approval.requirement.protocol
                && event.session == *session
                && event.host == host
        };
        let Some((_, event)) = open.into_iter().find(|(_, event)| same(event)) else {
            return Ok(plan);
        };
        let detail = "an invoice of this host is on its way, and nobody knows yet whether it was paid: no other is paid meanwhile";
        Err(Refusal {
            rule: Some(plan.approval.rule.clone()),
            price: Some(plan.approval.price),
            payment: Some(event.id),
            retryable: true,
            ..Refusal::new(Reason::OutcomeUnknown, detail)
        })
    }

    /// May anything be signed at all for this request, whatever the offer?
    fn open(
        &self,
        asked: &Asked,
        about: &About,
        approval: &Approval,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let circuit = self.breaker.check(about.host(), about.path(), now);
        let looped = asked.request.map_or(Ok(()), |r| self.loops.check(r, now));
        let room = self.outstanding.room(&asked.session.id, self.surely());
        circuit.and(looped).and(room).map_err(|refusal| Refusal {
            rule: Some(approval.rule.clone()),
            price: Some(approval.price),
            ..refusal
        })
    }

    /// What would have come of it, where the policy only observes. Asks nobody and counts nothing.
    async fn only_seen(&self, asked: &Asked, approval: &Approval) -> Refusal {
        let past = Past {
            book: Some(&*self.ledger),
            stopped: self.is_stopped(),
        };
        match passed(past, asked, approval).await {
            Ok(None) => refusals::observed(approval),
            Ok(Some(refusal)) => Refusal {
                rule: Some(approval.rule.clone()),
                price: Some(approval.price),
                ..refusal
            },
            Err(problem) => refusals::of_post(&problem, approval),
        }
    }

    /// The block that a payment on Solana names.
    async fn recent(&self, approval: &Approval) -> Result<Blockhash, Stuck> {
        let network = &approval.requirement.network;
        let why = match timeout(PATIENCE, self.chains.recent(network)).await {
            Ok(Ok(Some(blockhash))) => return Ok(blockhash),
            Ok(Ok(None)) => "`rpc` of the configuration has no node for it".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::warn!(%network, "no recent block to name, so nothing is signed: {why}");
        let detail = "no node of the chain names a recent block, so nothing is signed";
        Err(Stuck::Offer(Refusal {
            rule: Some(approval.rule.clone()),
            price: Some(approval.price),
            retryable: true,
            ..Refusal::new(Reason::WalletUnavailable, detail)
        }))
    }

    fn plan(
        &self,
        about: &mut About,
        approval: Approval,
        blockhash: Option<Blockhash>,
    ) -> Result<Plan<'_>, Stuck> {
        let no_wallet =
            || Refusal::new(Reason::WalletUnavailable, "no wallet pays on this network");
        let (wallet, payer) =
            wallet::choose(&self.wallets, &approval.requirement).ok_or_else(no_wallet)?;
        let protocol = protocol::by_name(approval.requirement.protocol)
            .ok_or_else(|| Refusal::new(Reason::VersionUnsupported, "the protocol is not known"))?;
        let (id, nonce) = (self.fresh)().ok_or_else(|| {
            let detail = "the operating system gives no randomness, so nothing is signed";
            Refusal::new(Reason::WalletUnavailable, detail)
        })?;
        let wall = self.clock.wall();
        // When a challenge expires is written in wall time, and that may have been set since the policy was asked.
        let valid_for = approval.valid_for.min(approval.requirement.lives(wall));
        let mut terms = Terms {
            requirement: &approval.requirement,
            asset: &approval.asset,
            payer: &payer,
            id,
            nonce,
            now: wall,
            valid_for,
            fee: approval.fee,
            blockhash,
        };
        let stuck = |problem: Problem| {
            Stuck::Offer(Refusal {
                rule: Some(approval.rule.clone()),
                ..Refusal::new(problem.reason, problem.detail)
            })
        };
        let instruction = able(protocol, wallet.as_ref(), &terms).map_err(stuck)?;
        let makes = match wallet.chooses_nonce() {
            true => Some(made(protocol, &instruction, &terms).map_err(stuck)?),
            false => None,
        };
        // A challenge may decide it.
        terms.nonce = instruction.nonce();
        terms.valid_for = lives(&instruction, &terms);
        about.signing(&terms, wallet.name());
        let mut kept = kept_under(&instruction, &terms);
        if matches!(makes, Some(None)) {
            // No chain may be asked about a nonce that is not the one that is signed: it would be found
            // unused, and the money given back.
            about.without_nonce();
            kept = format!("chosen {id} {kept}");
        }
        Ok(Plan {
            until: wall.after_secs(terms.valid_for.saturating_add(SKEW)),
            nonce: kept,
            approval,
            instruction,
            protocol,
            wallet: wallet.as_ref(),
            challenge: makes.flatten(),
            taken: Taken::default(),
        })
    }
}

/// What the wallet is to do, if it can.
fn able(
    protocol: &dyn Protocol,
    wallet: &dyn Wallet,
    terms: &Terms<'_>,
) -> Result<Instruction, Problem> {
    let instruction = protocol.instruct(terms)?;
    if wallet.signs(&instruction) {
        return Ok(instruction);
    }
    let detail = format!(
        "the wallet `{}` ({}) cannot sign this; one of kind local, before it, could",
        wallet.name(),
        wallet.kind()
    );
    Err(Problem::new(Reason::WalletUnavailable, detail))
}

/// The challenge that a wallet is handed which makes authorizations itself; `None` where it gets the terms and
/// any nonce would do. What it makes may not outlive what is held for it.
fn made(
    protocol: &dyn Protocol,
    instruction: &Instruction,
    terms: &Terms<'_>,
) -> Result<Option<String>, Problem> {
    let transfer = match instruction {
        Instruction::Transfer(transfer) => transfer,
        Instruction::Tokens { .. } => return Ok(None),
        Instruction::Permit(_) | Instruction::Tempo(_) | Instruction::Invoice { .. } => {
            let detail = "the wallet makes no such payments";
            return Err(Problem::new(Reason::SchemeUnsupported, detail));
        }
    };
    if Nonce(transfer.nonce) == terms.nonce {
        return Ok(None);
    }
    let ends = terms.requirement.expires;
    let held = terms.now.secs().saturating_add(terms.valid_for);
    if ends.is_none_or(|ends| ends.secs() > held) {
        let detail =
            "the wallet answers challenges until they expire, and this one does so never or late";
        return Err(Problem::new(Reason::SchemeUnsupported, detail));
    }
    let challenge = protocol.challenge(terms.requirement);
    let detail = "the wallet cannot be handed this challenge";
    challenge
        .map(Some)
        .ok_or_else(|| Problem::new(Reason::SchemeUnsupported, detail))
}

/// Seconds after which the payload is dead: an invoice lives until it expires, whoever pays it, but nobody
/// goes on trying for an hour.
fn lives(instruction: &Instruction, terms: &Terms<'_>) -> u64 {
    match instruction {
        Instruction::Transfer(_) | Instruction::Permit(_) => terms.valid_for,
        // It names a block and no time, so it lives as long as that block, whatever the merchant asks.
        Instruction::Tokens { .. } => solana::LIFE,
        Instruction::Tempo(transfer) => transfer.valid_before.saturating_sub(terms.now.secs()),
        Instruction::Invoice { invoice, .. } => {
            let left = invoice.expires.saturating_sub(terms.now.secs());
            left.min(INVOICE_MAX)
        }
    }
}

/// What the book keeps it under, once and for ever. What a chain knows of it depends on who keeps the
/// nonce: the token, or Permit2. An invoice is paid once, whichever wallet does it.
fn kept_under(instruction: &Instruction, terms: &Terms<'_>) -> String {
    let Terms { payer, nonce, .. } = terms;
    let (network, asset) = (&terms.requirement.network, &terms.asset.address);
    match instruction {
        Instruction::Transfer(_) | Instruction::Tokens { .. } => {
            format!("{payer} {network} {asset} {nonce}")
        }
        Instruction::Permit(_) => format!("{payer} {network} {asset} {nonce} permit2"),
        Instruction::Tempo(_) => format!("{payer} {network} {asset} {nonce} tempo"),
        Instruction::Invoice { .. } => format!("invoice {network} {asset} {nonce}"),
    }
}
