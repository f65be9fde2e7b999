//! May what was signed before go out once more? Nothing new is reserved for it, so nobody else asks.

use super::outstanding::Again;
use super::{Payer, Signed, Unpaid, refusals};
use crate::payment::{Asked, Reason, Refusal};
use crate::policy::{Mode, OnUnknown, Policy};

/// Why nothing goes out now.
enum Barred {
    /// The policy pays nothing of the kind any more: its own refusal comes.
    Denied,
    /// Its rule keeps back what nobody knows the fate of.
    Held,
    /// The session is over.
    Session(Refusal),
}

impl Barred {
    /// What the agent is told about what is held.
    fn told(self, held: Refusal) -> Refusal {
        match self {
            Self::Denied | Self::Held => held,
            Self::Session(over) => Refusal {
                payment: held.payment,
                rule: held.rule,
                price: held.price,
                ..over
            },
        }
    }
}

impl Payer {
    /// What is known of this request and host from payments before: a payload to send again, or a
    /// reason to sign nothing.
    pub(super) async fn known(
        &self,
        policy: &Policy,
        asked: &Asked,
    ) -> Result<Option<Again>, Refusal> {
        if self.is_draining() {
            let detail = "the proxy is shutting down and signs nothing new";
            return Err(Refusal {
                // By the one that is started in its place.
                retryable: true,
                ..Refusal::new(Reason::Draining, detail)
            });
        }
        if policy.payable(&asked.host, asked.port) {
            self.thawed(asked)?;
            if let Some(why) = self.waits() {
                return Err(refusals::of_ledger(&why));
            }
        }
        match asked.request {
            Some(request) if policy.payable(&asked.host, asked.port) => {
                let barred = self.barred(policy, asked).await;
                // Nothing is waited for between this look and the next one.
                self.outstanding.left_behind(request)?;
                match barred {
                    None => self.outstanding.find(request, self.surely()),
                    Some(Barred::Denied) => Ok(None),
                    Some(why) => match self.outstanding.held(request, self.surely()) {
                        Some(held) => Err(why.told(held)),
                        None => Ok(None),
                    },
                }
            }
            Some(_) | None => Ok(None),
        }
    }

    /// What has changed since a payload was signed counts: the mode, the rule for this request, its `on_unknown`, the
    /// session. What is kept back counts on as before, and may go out when that is different again.
    async fn barred(&self, policy: &Policy, asked: &Asked) -> Option<Barred> {
        let request = asked.request?;
        if !self.outstanding.has(request, self.surely()) {
            return None;
        }
        let pays = match policy.mode() {
            Mode::Enforce => policy.on_unknown(asked),
            Mode::Observe => None,
        };
        match pays {
            None => Some(Barred::Denied),
            Some(OnUnknown::Hold) => Some(Barred::Held),
            Some(OnUnknown::ResendSame) => self.still_open(asked).await.err().map(Barred::Session),
        }
    }

    /// Is the session still open, the very one that asks? One that was made anew under its name is another.
    ///
    /// # Errors
    /// The refusal; also while the ledger cannot tell.
    pub(super) async fn still_open(&self, asked: &Asked) -> Result<(), Refusal> {
        let session = &asked.session;
        if self.clock.now() >= session.expires {
            return Err(Refusal::session_expired(session.expires));
        }
        match self.ledger.session(&session.id).await {
            Ok(Some(row)) if !row.closed && row.session.created == session.created => Ok(()),
            Ok(_) => Err(refusals::session_closed()),
            Err(problem) => Err(refusals::of_ledger(&problem)),
        }
    }

    /// What was frozen while the wallet signed stays here, and counts until it dies or goes out after the thaw. The
    /// proof of a wallet that has paid already may go.
    pub(super) async fn unless_frozen(&self, signed: Signed) -> Result<Signed, Unpaid> {
        if signed.again.paid.proven.is_some() {
            return Ok(signed);
        }
        let Err(frozen) = self.thawed(&signed.asked) else {
            return Ok(signed);
        };
        let about = &signed.again.about;
        let refusal = Refusal {
            payment: Some(about.id()),
            rule: about.rule().cloned(),
            price: Some(about.price()),
            ..frozen
        };
        Box::pin(self.settle(signed, None)).await;
        Err(Unpaid::Refused(refusal))
    }
}
