//! What every event of one payment has in common, filled in as the payment goes on.

use crate::clock::Timestamp;
use crate::event::{Flag, SpendEvent, State};
use crate::ledger::PostError;
use crate::money::{Amount, Network, Usd};
use crate::payment::{Asked, Challenge, PaymentId, Requirement};
use crate::policy::{Approval, Policy};
use crate::protocol::Terms;

/// `receipt` of a payment that its own preimage proves.
pub(super) const PREIMAGE: &str = "preimage";

/// The event in the making.
#[derive(Clone, Debug)]
pub(super) struct About {
    event: SpendEvent,
    started: Timestamp,
}

impl About {
    pub(super) fn new(asked: &Asked, policy: &Policy, now: Timestamp) -> Self {
        let default = if asked.secure { 443 } else { 80 };
        let host = if asked.port == default {
            asked.host.to_string()
        } else {
            format!("{}:{}", asked.host, asked.port)
        };
        let event = SpendEvent {
            session: asked.session.id.clone(),
            agent: asked.session.agent.to_string(),
            method: asked.method.to_string(),
            host,
            path: asked.path.to_string(),
            policy: policy.hash().to_owned(),
            request: asked.request.map(|r| r.to_string()),
            ..SpendEvent::default()
        };
        Self {
            event,
            started: now,
        }
    }

    /// The only requirement of a challenge is what a refusal is about.
    pub(super) fn offered(&mut self, challenge: &Challenge) {
        if let [only] = challenge.requirements.as_slice() {
            self.terms(only);
        }
    }

    pub(super) fn chosen(&mut self, approval: &Approval) {
        self.terms(&approval.requirement);
        self.event.asset = approval.asset.symbol.clone();
        self.event.price = Some(approval.price);
        self.event.rule = Some(approval.rule.clone());
        let changes = [
            (approval.duties.recipient_changed, Flag::RecipientChanged),
            (approval.duties.price_changed, Flag::PriceChanged),
        ];
        self.event.flags = changes
            .iter()
            .filter(|(c, _)| *c)
            .map(|(_, f)| *f)
            .collect();
    }

    fn terms(&mut self, requirement: &Requirement) {
        self.event.protocol = requirement.protocol.into();
        self.event.scheme.clone_from(&requirement.scheme);
        self.event.network = requirement.network.to_string();
        self.event.asset.clone_from(&requirement.asset);
        self.event.pay_to.clone_from(&requirement.pay_to);
        self.event.amount = Some(requirement.amount);
    }

    pub(super) fn signing(&mut self, terms: &Terms<'_>, wallet: &str) {
        self.event.id = terms.id;
        self.event.nonce = Some(terms.nonce.to_string());
        self.event.valid_before = Some(terms.now.secs().saturating_add(terms.valid_for));
        self.event.wallet = wallet.into();
    }

    /// The ledger did not promise the reservation. It may have stored it all the same, and then the id
    /// is a payment's that counts, and no refusal's.
    pub(super) fn unreserved(&mut self, problem: &PostError) {
        match problem {
            PostError::Rejected(_) => {}
            PostError::Unavailable(_) | PostError::Damaged(_) => {
                self.event.id = PaymentId::default();
            }
        }
    }

    /// A refusal gets an id of its own, unless it already has the payment's. `None`: there is none.
    pub(super) fn refused(&mut self, fresh: Option<PaymentId>) -> Option<PaymentId> {
        self.event.nonce = None;
        self.event.valid_before = None;
        if self.event.id == PaymentId::default() {
            self.event.id = fresh?;
        }
        Some(self.event.id)
    }

    /// Host, with its port when that is not the default.
    pub(super) fn host(&self) -> &str {
        &self.event.host
    }

    pub(super) fn path(&self) -> &str {
        &self.event.path
    }

    /// The hash of the policy that decided.
    pub(super) fn policy(&self) -> &str {
        &self.event.policy
    }

    pub(super) fn id(&self) -> PaymentId {
        self.event.id
    }

    pub(super) fn amount(&self) -> Option<Amount> {
        self.event.amount
    }

    /// May the merchant take less than was signed?
    pub(super) fn is_upto(&self) -> bool {
        self.event.scheme == "upto"
    }

    pub(super) fn price(&self) -> Usd {
        self.event.price.unwrap_or_default()
    }

    pub(super) fn network(&self) -> &str {
        &self.event.network
    }

    /// The record of reaching `state`.
    pub(super) fn event(&self, now: Timestamp, state: State) -> SpendEvent {
        let charged = match state {
            State::Reserved | State::Unknown | State::Settled => self.event.price,
            State::Released | State::Denied => None,
        };
        SpendEvent {
            time: now,
            state,
            charged,
            latency_ms: Some(now.0.saturating_sub(self.started.0)),
            ..self.event.clone()
        }
        .capped()
    }
}

/// What the agent is told about a payment.
#[derive(Clone, Debug)]
pub struct Paid {
    /// The payment.
    pub id: PaymentId,
    /// Signed, atomic units.
    pub amount: Amount,
    /// Symbol from our own table.
    pub asset: String,
    /// CAIP-2.
    pub network: Network,
    /// What it counts.
    pub charged: Usd,
    /// What is left of the session's budget.
    pub remaining: Usd,
    /// The transaction that the receipt names, if well formed.
    pub transaction: Option<String>,
    /// What the receipt says was taken, when that is less than was signed: atomic units.
    pub settled: Option<Amount>,
    /// Until when what was paid for is good for further requests, if it is for any.
    pub reusable_until: Option<Timestamp>,
    /// What the wallet proved, when it paid by itself.
    pub proven: Option<Proven>,
}

/// A payment that was made and proven before the merchant was asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proven {
    /// What it took with the fee for moving it, atomic units, if the wallet said so.
    pub taken: Option<Amount>,
}

impl Paid {
    pub(super) fn new(id: PaymentId, approval: &Approval, remaining: Usd) -> Self {
        Self {
            id,
            amount: approval.requirement.amount,
            asset: approval.asset.symbol.clone(),
            network: approval.requirement.network.clone(),
            charged: approval.price,
            remaining,
            transaction: None,
            settled: None,
            reusable_until: None,
            proven: None,
        }
    }

    /// Says in an event what the wallet proved: no merchant and no chain is asked for that.
    pub(super) fn prove(&self, event: &mut SpendEvent) {
        if let Some(Proven { taken }) = self.proven {
            event.charged = Some(self.charged);
            event.receipt = Some(PREIMAGE.into());
            event.amount_settled = taken;
            event.confirmed = true;
        }
    }
}
