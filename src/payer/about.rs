//! What every event of one payment has in common, filled in as the payment goes on.

use crate::clock::Timestamp;
use crate::event::{Flag, PREIMAGE, SpendEvent, State};
use crate::ledger::PostError;
use crate::money::{Amount, Network, Usd};
use crate::payment::{Asked, Challenge, Claim, PaymentId, Requirement, Session, SessionId, Trace};
use crate::policy::{self, Approval, Policy};
use crate::protocol::Terms;
use crate::signer::Key;

/// Seconds that the clock of whoever dates a receipt may be off.
const CLOCKS: u64 = 300;

/// The event in the making.
#[derive(Clone, Debug)]
pub(super) struct About {
    event: SpendEvent,
    started: Timestamp,
    /// Budgets that it counts against, where somebody traces it.
    budgets: Vec<String>,
    statement: Statement,
}

/// What a signed receipt is held against.
#[derive(Clone, Debug)]
struct Statement {
    /// The keys of the merchant that the policy knows.
    keys: Vec<Key>,
    asked: Asked,
    /// Who pays.
    payer: String,
    /// What the challenge said that it sells.
    resource: Option<String>,
    /// Of which media type that is.
    sells: Option<String>,
}

impl About {
    pub(super) fn new(asked: &Asked, policy: &Policy, now: Timestamp) -> Self {
        let default = if asked.secure { 443 } else { 80 };
        let host = match (asked.port == default, asked.host.contains(':')) {
            (true, _) => asked.host.to_string(),
            (false, false) => format!("{}:{}", asked.host, asked.port),
            // As in a URL and in a rule: else it would be another address, and no port.
            (false, true) => format!("[{}]:{}", asked.host, asked.port),
        };
        let event = SpendEvent {
            session: asked.session.id.clone(),
            agent: asked.session.agent.to_string(),
            method: asked.method.to_string(),
            host,
            path: asked.path.to_string(),
            policy: policy.hash().to_owned(),
            request: asked.request.map(|r| r.to_string()),
            trace_id: asked.trace.map(|t| hex::encode(t.id)),
            span_id: asked.trace.map(|t| hex::encode(t.span)),
            ..SpendEvent::default()
        };
        Self {
            event,
            started: now,
            budgets: vec![],
            statement: Statement {
                keys: policy.keys(&asked.host, asked.port),
                asked: asked.clone(),
                payer: String::new(),
                resource: None,
                sells: None,
            },
        }
    }

    /// Budgets that it counts against, where somebody traces it.
    pub(super) fn budgets(&self) -> &[String] {
        &self.budgets
    }

    /// Where its exchange stands in a trace.
    pub(super) fn trace(&self) -> Option<&Trace> {
        self.statement.asked.trace.as_ref()
    }

    /// What a refusal is about: the requirement that was nearest to being paid, else the only one.
    pub(super) fn offered(
        &mut self,
        challenge: &Challenge,
        nearest: Option<usize>,
        policy: &Policy,
    ) {
        let all = challenge.requirements.as_slice();
        let only = || all.first().filter(|_| all.len() == 1);
        if let Some(offered) = nearest.and_then(|n| all.get(n)).or_else(only) {
            self.terms(offered);
            if let Some(asset) = policy.asset(&offered.network, &offered.asset) {
                self.event.asset.clone_from(&asset.symbol);
            }
        }
    }

    pub(super) fn chosen(&mut self, approval: &Approval) {
        self.terms(&approval.requirement);
        self.event.asset = approval.asset.symbol.clone();
        self.event.price = Some(approval.price);
        self.event.rule = Some(approval.rule.clone());
        if self.trace().is_some_and(|t| t.exported) {
            let accounts = approval.limits.iter().map(|l| &*l.account);
            let budgets = accounts.filter_map(|a| a.strip_prefix("budget:"));
            self.budgets = budgets.map(str::to_owned).collect();
        }
        let changes = [
            (approval.duties.recipient_changed, Flag::RecipientChanged),
            (approval.duties.price_changed, Flag::PriceChanged),
            (approval.duties.offer_unsigned, Flag::ReceiptMismatch),
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
        self.statement.payer = terms.payer.to_owned();
        let requirement = terms.requirement;
        self.statement.resource.clone_from(&requirement.resource);
        self.statement.sells.clone_from(&requirement.mime_type);
        let asked = &self.statement.asked;
        if let Some(resource) = &requirement.resource
            && policy::is_of(asked, resource) == Some(true)
            && path(resource) != &*asked.path
        {
            tracing::info!(host = %self.event.host, "the challenge speaks of another path of its host than was asked");
        }
    }

    /// Whoever signs chooses the nonce, and nobody knows it yet.
    pub(super) fn without_nonce(&mut self) {
        self.event.nonce = None;
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

    pub(super) fn session(&self) -> &SessionId {
        &self.event.session
    }

    pub(super) fn path(&self) -> &str {
        &self.event.path
    }

    /// The tool, prompt or resource that the body names.
    pub(super) fn tool(&self) -> Option<&str> {
        self.statement.asked.tool.name()
    }

    /// The hash of the policy that decided.
    pub(super) fn policy(&self) -> &str {
        &self.event.policy
    }

    pub(super) fn id(&self) -> PaymentId {
        self.event.id
    }

    /// The rule that decided, once one did.
    pub(super) fn rule(&self) -> Option<&String> {
        self.event.rule.as_ref()
    }

    /// The session as it was when the agent asked.
    pub(super) fn asked_in(&self) -> &Session {
        &self.statement.asked.session
    }

    pub(super) fn amount(&self) -> Option<Amount> {
        self.event.amount
    }

    /// May the merchant take less than was signed?
    pub(super) fn is_upto(&self) -> bool {
        self.event.scheme == "upto"
    }

    /// Is a signed receipt false: of another key than the merchant's, of other terms than were signed, or of
    /// another time? Without a key of the merchant nothing is claimed of it.
    pub(super) fn belies(&self, claim: &Claim, now: Timestamp) -> bool {
        let Statement {
            keys,
            asked,
            payer,
            resource,
            sells: _,
        } = &self.statement;
        let Some(signed) = claim.signed.as_ref().filter(|_| !keys.is_empty()) else {
            return false;
        };
        let of_this = resource.as_ref() == Some(&signed.resource)
            || policy::is_of(asked, &signed.resource) == Some(true)
                && path(&signed.resource) == &*asked.path;
        let evm = self.event.network.starts_with("eip155:");
        let paid_by = match evm {
            true => signed.payer.eq_ignore_ascii_case(payer),
            false => signed.payer == *payer,
        };
        let begun = self.started.secs().saturating_sub(CLOCKS);
        let timely = (begun..=now.secs().saturating_add(CLOCKS)).contains(&signed.issued_at);
        let transaction = signed.transaction.is_none() || signed.transaction == claim.transaction;
        let sealed = keys.iter().any(|key| key.sealed(&signed.seal));
        let same = signed.network == self.event.network && of_this && paid_by && transaction;
        !(sealed && same && timely)
    }

    /// Does the receipt name whoever paid? `None` where it names nobody, and where its payer may be whoever pays
    /// the chain's fees.
    pub(super) fn is_payer_of(&self, claim: &Claim) -> Option<bool> {
        let payer = &self.statement.payer;
        let evm = self.event.network.starts_with("eip155:") && !payer.is_empty();
        let named = claim.payer.as_ref().filter(|_| evm)?;
        Some(named.eq_ignore_ascii_case(payer))
    }

    /// Is the answer of another kind than the merchant said that it sells (threat X-14)? Streams of events are
    /// taken for whatever they carry.
    pub(super) fn is_another_kind(&self, content_type: &str) -> bool {
        // What carries the answer of a tool is not what the tool sells.
        let tool = self.tool().is_some();
        let Some(promised) = self.statement.sells.as_ref().filter(|_| !tool) else {
            return false;
        };
        let kinds = |list: &str| -> Vec<String> {
            let kinds = list.split(',').map(|kind| kind.split(';').next());
            let kinds = kinds.map(|kind| kind.unwrap_or_default().trim().to_ascii_lowercase());
            kinds.filter(|kind| kind.contains('/')).collect()
        };
        let (promised, came) = (kinds(promised), kinds(content_type));
        let [came] = &*came else {
            return false;
        };
        let fits = |promised: &String| {
            let all = promised.strip_suffix('*');
            let family = |kind: &str| {
                kind.rsplit(['/', '+'])
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            };
            promised == came
                || all.is_some_and(|group| group == "*/" || came.starts_with(group))
                || family(promised) == family(came) && came != "application/problem+json"
        };
        let streamed = [
            "text/event-stream",
            "application/octet-stream",
            "multipart/byteranges",
        ];
        !promised.is_empty() && !promised.iter().any(fits) && !streamed.contains(&&**came)
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

/// Path of a URL.
fn path(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
    path.split(['?', '#']).next().unwrap_or_default()
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
