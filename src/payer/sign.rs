//! The wallet's turn: after the reservation, and before anything leaves.

use std::time::Instant;

use tokio::time::timeout;

use super::about::{About, Paid, Proven};
use super::outstanding::{Again, Left};
use super::plan::Plan;
use super::prepay::Lesson;
use super::reserve::with_facts;
use super::{Payer, Signed, refusals};
use crate::budget::{Because, Entry};
use crate::event::State;
use crate::event::metrics::Step;
use crate::failpoint;
use crate::money::{Amount, Usd};
use crate::payment::{Asked, Instruction, Refusal, Signature};
use crate::policy::Approval;
use crate::wallet::{Purpose, WalletError};

impl Payer {
    /// The wallet's turn, after the reservation.
    pub(super) async fn sign(
        &self,
        about: About,
        asked: &Asked,
        plan: &Plan<'_>,
        remaining: Usd,
    ) -> Result<Signed, Refusal> {
        failpoint::reach("before-sign");
        let began = Instant::now();
        let purpose = Purpose {
            id: about.id(),
            challenge: plan.challenge.clone(),
        };
        let signing = plan.wallet.sign_for(&plan.instruction, &purpose);
        let signed = timeout(plan.wallet.patience(), signing).await;
        self.took(Step::Sign, began, asked.trace.as_ref());
        failpoint::reach("after-sign");
        match signed.unwrap_or_else(|_| Err(WalletError::Unknown("no answer in time".into()))) {
            Ok(signature) => self.seal(about, asked, plan, remaining, &signature).await,
            Err(problem) => Err(Box::pin(self.unsigned(about, asked, plan, &problem)).await),
        }
    }

    async fn seal(
        &self,
        about: About,
        asked: &Asked,
        plan: &Plan<'_>,
        remaining: Usd,
        signature: &Signature,
    ) -> Result<Signed, Refusal> {
        let requirement = &plan.approval.requirement;
        let own;
        // Whoever chose the nonce itself signed another instruction to the same end.
        let (instruction, written) = match signature {
            Signature::Authorization {
                transfer,
                signature,
            } => {
                own = (
                    Instruction::Transfer((**transfer).clone()),
                    Signature::Evm(*signature),
                );
                (&own.0, &own.1)
            }
            Signature::Evm(_)
            | Signature::Solana(_)
            | Signature::Transaction(_)
            | Signature::Preimage { .. } => (&plan.instruction, signature),
        };
        let payload = plan
            .protocol
            .payload(requirement, instruction, written, about.id());
        match payload {
            Ok(payload) => {
                let mut paid = Paid::new(about.id(), &plan.approval, remaining);
                paid.reusable_until = plan.protocol.reusable_until(requirement);
                Box::pin(self.proven(&about, plan, signature, &mut paid)).await;
                let stands = plan.approval.prepay && plan.protocol.stands(requirement);
                Ok(Signed {
                    payload: payload.clone(),
                    asked: asked.clone(),
                    resent: false,
                    waiting: None,
                    lesson: Lesson::of(stands, requirement, &about),
                    advance: None,
                    again: Again {
                        payload,
                        protocol: plan.protocol,
                        on_unknown: plan.approval.on_unknown,
                        until: plan.until,
                        claimed: paid.proven.is_some(),
                        resends: 0,
                        paid,
                        about,
                    },
                })
            }
            // The wallet signed, so the hold stays, though the payload goes nowhere.
            Err(problem) => {
                let why = WalletError::Unknown(problem.detail);
                Err(Box::pin(self.unsigned(about, asked, plan, &why)).await)
            }
        }
    }

    /// A wallet that pays itself has moved the money when it answers: settled, before anything is sent.
    async fn proven(&self, about: &About, plan: &Plan<'_>, signature: &Signature, paid: &mut Paid) {
        let fee = match signature {
            Signature::Evm(_)
            | Signature::Authorization { .. }
            | Signature::Solana(_)
            | Signature::Transaction(_) => return,
            Signature::Preimage { fee_msat, .. } => *fee_msat,
        };
        let Approval { asset, price, .. } = &plan.approval;
        let fee = fee.map(u128::from);
        let taken = fee.and_then(|fee| paid.amount.0.checked_add(fee).map(Amount));
        // A wallet that names no fee may have paid the most of it.
        let worth = taken.and_then(|taken| asset.worth(taken));
        if worth.is_some_and(|worth| worth > *price) {
            let id = about.id();
            tracing::warn!(%id, "routing cost more than the wallet was allowed; the reservation counts");
        }
        let charged = worth.map_or(*price, |worth| worth.min(*price));
        paid.remaining = price
            .minus(charged)
            .and_then(|less| paid.remaining.plus(less))
            .unwrap_or(paid.remaining);
        paid.charged = charged;
        paid.proven = Some(Proven { taken });
        let id = about.id();
        let _turn = self.reconciler.endings().answer(id, false).await;
        let mut event = about.event(self.clock.now(), State::Settled);
        paid.prove(&mut event);
        self.record(vec![Entry::Settle { id, charged }], event)
            .await;
        failpoint::reach("after-proof");
    }

    /// No payload. Certainly nothing signed gives the reservation back; anything else keeps it.
    async fn unsigned(
        &self,
        about: About,
        asked: &Asked,
        plan: &Plan<'_>,
        problem: &WalletError,
    ) -> Refusal {
        let now = self.clock.now();
        if let Some(request) = asked.request
            && !problem.is_final()
        {
            let left = Left {
                id: about.id(),
                session: about.session().clone(),
                until: plan.until,
                claimed: false,
                rule: about.rule().cloned(),
                price: Some(about.price()),
            };
            self.outstanding.leave(request, left, self.surely());
        }
        let (entry, state) = match problem.is_final() {
            true => {
                let because = Because::NeverSigned;
                (
                    Entry::Release {
                        id: about.id(),
                        because,
                    },
                    State::Released,
                )
            }
            false => (Entry::Note { id: about.id() }, State::Unknown),
        };
        let refusal = Refusal {
            rule: about.rule().cloned(),
            price: Some(about.price()),
            ..refusals::of_wallet(problem, about.id(), now)
        };
        let _turn = self.reconciler.endings().answer(about.id(), false).await;
        let mut event = about.event(now, state);
        event.reason = Some(refusal.reason.code().into());
        self.concludes(asked.trace.as_ref(), &about, &event, None);
        let entries = with_facts(entry, &event, Some((asked, &plan.taken)));
        self.record(entries, event).await;
        match problem.is_final() {
            true => self.never_paid(asked, &plan.taken.places),
            false => self.spread().await,
        }
        refusal
    }
}
