//! The payment transaction: decide, reserve, sign, and after the retry, settle. The only writer of
//! payments to the ledger.
//!
//! The reservation is durable before the wallet is asked. From then on money may move, so nothing
//! but proof gives it back: no proof, no refund.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use http::{HeaderMap, StatusCode};

use crate::chain::Chains;
use crate::clock::{Clock, Timestamp};
use crate::event::Sink;
use crate::event::metrics::Step;
use crate::failpoint;
use crate::ledger::{Ledger, PostError};
use crate::money::Network;
use crate::payment::{Asked, Challenge, Nonce, Payload, PaymentId, Refusal, Trace};
use crate::policy::{OnUnknown, Policy};
use crate::settings::Unproven;
use crate::wallet::Wallet;

mod about;
mod again;
mod ahead;
mod arrival;
mod bells;
mod breaker;
mod claim;
mod consent;
mod endings;
mod foresee;
mod freeze;
mod loops;
mod outstanding;
mod plan;
mod prepay;
mod rates;
mod recall;
mod received;
mod reconcile;
mod record;
mod refusals;
mod refused;
mod reserve;
mod settle;
mod sign;
mod sign_in;
mod sweep;
mod tokens;
mod waiting;

use about::About;
pub use about::Paid;
pub use ahead::{NotAsked, ask_ahead};
pub use arrival::Recourse;
use bells::Bells;
use breaker::Breaker;
pub use consent::{Pending, Unpaid, answer, digest_of};
pub use foresee::{Foreseen, Past, foresee, passed};
pub use freeze::{STOP_FILE, forget, freeze, frozen, stopped, unfreeze};
use loops::Loops;
use outstanding::{Again, Outstanding};
use plan::Taken;
pub use prepay::{Advance, Quote};
use prepay::{Lesson, Quotes};
use rates::Rates;
pub use received::Received;
pub use reconcile::{Finding, Outcome, Reconciler};
pub use refusals::over_limit;
use refused::Refused;
pub use reserve::{known, named, route};
pub use settle::{Recorded, Settled};
use sign_in::Logins;
pub use sign_in::SignedIn;
use tokens::Tokens;
pub use tokens::{Credential, refuses};
pub use waiting::{Presence, Waiting};

/// Seconds that a hold outlives its payload: block times and clocks differ a little.
const SKEW: u64 = 60;

/// Where ids and nonces come from. Fails when the operating system has no randomness; then nothing
/// is paid.
pub type Fresh = Box<dyn Fn() -> Option<(PaymentId, Nonce)> + Send + Sync>;

/// Ids and nonces from the operating system's generator.
#[must_use]
pub fn os_randomness() -> Fresh {
    Box::new(|| {
        let (mut id, mut nonce) = ([0; 10], [0; 32]);
        getrandom::fill(&mut id).ok()?;
        getrandom::fill(&mut nonce).ok()?;
        Some((PaymentId::new(crate::clock::wall(), id), Nonce(nonce)))
    })
}

/// What a payer is made of.
pub struct Parts {
    /// The first policy.
    pub policy: Arc<Policy>,
    /// The book.
    pub ledger: Arc<dyn Ledger>,
    /// Who signs, in the operator's order.
    pub wallets: Vec<Arc<dyn Wallet>>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Ids and nonces.
    pub fresh: Fresh,
    /// Who watches.
    pub sinks: Vec<Arc<dyn Sink>>,
    /// What becomes of payments that nothing proves.
    pub unproven: Unproven,
    /// Beginning of the URLs at which a person answers questions.
    pub admin_url: String,
    /// Says whether the operator stopped all payments by other means than the ledger: a file.
    pub stopped: Stopped,
    /// Whom to ask for proof.
    pub chains: Chains,
}

/// Asked before every payment; must not block for long.
pub type Stopped = Box<dyn Fn() -> bool + Send + Sync>;

/// Decides and pays. One policy snapshot per request.
pub struct Payer {
    policy: RwLock<Arc<Policy>>,
    ledger: Arc<dyn Ledger>,
    wallets: Vec<Arc<dyn Wallet>>,
    payers: Vec<(Network, String)>,
    clock: Arc<dyn Clock>,
    fresh: Fresh,
    sinks: Arc<[Arc<dyn Sink>]>,
    unproven: Unproven,
    chains: Chains,
    reconciler: Arc<Reconciler>,
    draining: AtomicBool,
    /// Why what was paid before is not known yet; nothing is paid until it is.
    waits: RwLock<Option<PostError>>,
    /// When approvals were last looked through; 0 for never.
    tidied: AtomicU64,
    outstanding: Outstanding,
    breaker: Breaker,
    loops: Loops,
    tokens: Tokens,
    quotes: Quotes,
    logins: Logins,
    bells: Bells,
    rates: Rates,
    refused: Refused,
    admin_url: String,
    stopped: Stopped,
    /// All payments are stopped, and the ledger does not have that yet.
    held: AtomicBool,
}

/// A payload that may now be charged. The ledger already says so: losing this value loses nothing.
#[must_use = "a signed payment must be settled"]
pub struct Signed {
    /// The header of the retry.
    pub payload: Payload,
    again: Again,
    asked: Asked,
    resent: bool,
    /// Who wants the answer; `None` when nobody said.
    waiting: Option<Arc<Waiting>>,
    lesson: Lesson,
    advance: Option<Advance>,
}

impl Payer {
    /// Assembles the parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let payers = parts.wallets.iter().flat_map(|w| {
            let address = |n: &Network| Some((n.clone(), w.address(n)?));
            w.networks().iter().filter_map(address)
        });
        let payers = payers.collect();
        let sinks: Arc<[Arc<dyn Sink>]> = parts.sinks.into();
        let (ledger, clock) = (Arc::clone(&parts.ledger), Arc::clone(&parts.clock));
        let wallets = parts.wallets.clone();
        let chains = parts.chains.clone();
        let reconciler = Reconciler::new(ledger, parts.chains, wallets, clock, Arc::clone(&sinks));
        Self {
            payers,
            policy: RwLock::new(parts.policy),
            ledger: parts.ledger,
            wallets: parts.wallets,
            refused: Refused::new(),
            rates: Rates::new(Arc::clone(&parts.clock)),
            bells: Bells::default(),
            admin_url: parts.admin_url,
            stopped: parts.stopped,
            held: AtomicBool::new(false),
            clock: parts.clock,
            fresh: parts.fresh,
            sinks,
            chains,
            reconciler: Arc::new(reconciler),
            unproven: parts.unproven,
            draining: AtomicBool::new(false),
            waits: RwLock::default(),
            tidied: AtomicU64::new(0),
            outstanding: Outstanding::default(),
            breaker: Breaker::default(),
            loops: Loops::default(),
            tokens: Tokens::default(),
            quotes: Quotes::default(),
            logins: Logins::default(),
        }
    }

    /// The policy of this moment.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a new policy in place. Requests that are under way keep theirs.
    pub async fn set_policy(&self, policy: Arc<Policy>) {
        self.recount(policy.identical_payments()).await;
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
        self.quotes.clear();
    }

    /// Who asks the chains.
    #[must_use]
    pub fn reconciler(&self) -> Arc<Reconciler> {
        Arc::clone(&self.reconciler)
    }

    /// From now on nothing new is signed, and nobody waits for a person's leave to; what is open may still settle.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.end_questions();
    }

    /// What was paid before cannot be read from the ledger yet, for this reason: nothing is paid. `None`: it
    /// was read.
    pub fn wait(&self, why: Option<PostError>) {
        *self.waits.write().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Why it waits.
    #[must_use]
    pub fn waits(&self) -> Option<PostError> {
        let waits = self.waits.read().unwrap_or_else(PoisonError::into_inner);
        waits.clone()
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Decides, reserves, signs, without waiting for anybody. Every refusal is recorded.
    ///
    /// # Errors
    /// The refusal that the agent is to be told; also for a wallet or ledger that is not there.
    pub async fn authorize(&self, asked: &Asked, challenge: &Challenge) -> Result<Signed, Refusal> {
        match self.consider(asked, challenge, None).await {
            Ok(signed) => Ok(signed),
            Err(Unpaid::Refused(refusal)) => Err(refusal),
            Err(Unpaid::Pending(pending)) => Err(self.unanswered(*pending).await),
        }
    }

    /// Decides, reserves, signs. Everything that can fail without money comes before the
    /// reservation. Every refusal is recorded. `waiting`: who wants the answer; it learns of the payment before
    /// the wallet is asked, which may take longer than its patience.
    ///
    /// # Errors
    /// The refusal that the agent is to be told, or that a person was asked and may answer yet.
    pub async fn consider(
        &self,
        asked: &Asked,
        challenge: &Challenge,
        waiting: Option<&Waiting>,
    ) -> Result<Signed, Unpaid> {
        let (policy, began) = (self.policy(), Instant::now());
        let mut about = About::new(asked, &policy, self.clock.now());
        self.reread(asked).await;
        match self.known(&policy, asked).await {
            Ok(None) => {}
            Ok(Some(again)) => {
                return Ok(Signed {
                    payload: again.payload.clone(),
                    asked: asked.clone(),
                    again,
                    resent: true,
                    waiting: None,
                    lesson: Lesson::default(),
                    advance: None,
                });
            }
            Err(refusal) => return Err(self.refused(about, refusal).await),
        }
        let known = match self.remembered(&policy, asked).await {
            Ok(known) => known,
            Err(problem) => {
                let refusal = refusals::of_ledger(&problem);
                return Err(self.refused(about, refusal).await);
            }
        };
        let planned = self.prepare(&policy, asked, challenge, known, &mut about);
        let planned = planned.await;
        self.took(Step::Decide, began, asked.trace.as_ref());
        let mut plan = match planned {
            Ok(plan) => plan,
            Err(refusal) => return Err(self.refused(about, refusal).await),
        };
        let granted = match self.agreed(asked, &plan, &about).await {
            Ok(granted) => granted,
            Err(Unpaid::Refused(refusal)) => return Err(self.refused(about, refusal).await),
            Err(pending @ Unpaid::Pending(_)) => return Err(pending),
        };
        // After the question: what a person thinks about takes no place of what is paid.
        let places = match self.in_rate(&policy, asked, &plan.approval) {
            Ok(places) => places,
            Err(refusal) => return Err(self.refused(about, refusal).await),
        };
        failpoint::reach("before-reserve");
        let approval = granted.as_ref().map(|yes| (yes.id, yes.at));
        let remaining = match self.reserve((&policy, asked), &about, &plan, granted).await {
            Ok(remaining) => remaining,
            Err(problem) => {
                self.not_taken(places, &problem);
                let refusal = refusals::of_post(&problem, &plan.approval);
                about.unreserved(&problem);
                return Err(self.refused(about, refusal).await);
            }
        };
        plan.taken = Taken { places, approval };
        if let Some(waiting) = waiting {
            waiting.is_for(about.id());
        }
        let signed = self.sign(about, asked, &plan, remaining).await;
        self.unless_frozen(signed.map_err(Unpaid::Refused)?).await
    }

    async fn refused(&self, about: About, refusal: Refusal) -> Unpaid {
        Unpaid::Refused(Box::pin(self.deny(about, refusal)).await)
    }

    /// The time that has come by either clock. A payload is dead when this is past its hold: a wall
    /// clock that jumps ahead, or a start at the time of a record from the future, kills none.
    fn surely(&self) -> Timestamp {
        self.clock.now().min(self.clock.wall())
    }
}

impl Signed {
    /// The payment's id.
    #[must_use]
    pub fn id(&self) -> PaymentId {
        self.again.about.id()
    }

    /// May the same payload go out again where it is not known what became of it (`on_unknown`)?
    #[must_use]
    pub fn may_go_again(&self) -> bool {
        self.again.on_unknown == OnUnknown::ResendSame
    }

    /// Where the exchange that it is for stands in a trace.
    #[must_use]
    pub fn trace(&self) -> Option<Trace> {
        self.asked.trace
    }
}

/// The head of the answer to a paid request.
pub type Answer<'a> = (StatusCode, &'a HeaderMap);
