//! The wallet's turn: after the reservation, and before anything leaves.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::about::{About, Paid};
use super::outstanding::{Again, Left};
use super::plan::Plan;
use super::{Payer, Signed, refusals};
use crate::budget::{Because, Entry};
use crate::event::State;
use crate::event::metrics::Step;
use crate::failpoint;
use crate::money::Usd;
use crate::payment::{Asked, Refusal, Signature};
use crate::wallet::WalletError;

/// A wallet that does not answer within this time may have signed.
const WALLET_DEADLINE: Duration = Duration::from_secs(15);

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
        let signed = timeout(WALLET_DEADLINE, plan.wallet.sign(&plan.instruction)).await;
        self.took(Step::Sign, began);
        failpoint::reach("after-sign");
        match signed.unwrap_or_else(|_| Err(WalletError::Unknown("no answer in time".into()))) {
            Ok(signature) => self.seal(about, asked, plan, remaining, &signature).await,
            Err(problem) => Err(self.unsigned(about, asked, plan, &problem).await),
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
        let payload = plan
            .protocol
            .payload(requirement, &plan.instruction, signature, about.id());
        match payload {
            Ok(payload) => Ok(Signed {
                payload: payload.clone(),
                asked: asked.clone(),
                resent: false,
                waiting: None,
                again: Again {
                    payload,
                    protocol: plan.protocol,
                    paid: Paid::new(about.id(), &plan.approval, remaining),
                    on_unknown: plan.approval.on_unknown,
                    until: plan.until,
                    claimed: false,
                    about,
                },
            }),
            // The wallet signed, so the hold stays, though the payload goes nowhere.
            Err(problem) => {
                let why = WalletError::Unknown(problem.detail);
                Err(self.unsigned(about, asked, plan, &why).await)
            }
        }
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
                until: plan.until,
                claimed: false,
            };
            self.outstanding.recall(request, left, self.surely());
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
        let refusal = refusals::of_wallet(problem, about.id());
        let mut event = about.event(now, state);
        event.reason = Some(refusal.reason.code().into());
        self.record(vec![entry], event).await;
        refusal
    }
}
