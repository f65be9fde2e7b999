//! The kill switch: all payments, those to a host, or those of an agent. Kept in the ledger, so a restart
//! thaws nothing.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use super::Payer;
use crate::budget::facts::key;
use crate::budget::{Entry, Frozen};
use crate::clock::Timestamp;
use crate::event::Notice;
use crate::ledger::{Ledger, Post, PostError};
use crate::payment::{Asked, Reason, Refusal};

/// The operator's file that stops all payments, as long as it is there: for who has no command at hand.
pub const STOP_FILE: &str = "freeze";

/// Between two attempts to store what stops all payments.
const RETRY: Duration = Duration::from_secs(2);

/// Is that file there?
#[must_use]
pub fn stopped(state_dir: &Path) -> bool {
    let file = state_dir.join(STOP_FILE).symlink_metadata();
    // What cannot be looked up might be there.
    !matches!(file, Err(e) if e.kind() == ErrorKind::NotFound)
}

/// The refusal of a payment while it is there.
pub(super) fn by_file() -> Refusal {
    let detail = "the operator stopped all payments with a file";
    Refusal::new(Reason::Frozen, detail)
}

/// The refusal of a payment while they are stopped and the ledger does not have it.
fn held() -> Refusal {
    let detail = "the operator stopped all payments with a signal";
    Refusal::new(Reason::Frozen, detail)
}

impl Payer {
    /// Did the operator stop all payments by other means than the ledger: a file, or what the ledger does not have yet?
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.is_held() || self.is_stopped_by_file()
    }

    /// Did the operator's file?
    #[must_use]
    pub fn is_stopped_by_file(&self) -> bool {
        (self.stopped)()
    }

    /// Did a signal, which the ledger could not store yet?
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// Freezes all payments for somebody who gets no answer: at once, and in the ledger as soon as that takes it.
    pub async fn freeze_all(self: &Arc<Self>, why: &'static str) {
        if self.held.swap(true, Ordering::AcqRel) {
            return;
        }
        let Err(error) = self.store_freeze(why).await else {
            return;
        };
        tracing::error!(%error, why, "the freeze could not be stored: payments are stopped as long as this process runs, and it is tried again");
        let payer = Arc::clone(self);
        tokio::spawn(async move {
            while payer.is_held() {
                sleep(RETRY).await;
                if payer.is_held() && payer.store_freeze(why).await.is_ok() {
                    return;
                }
            }
        });
    }

    async fn store_freeze(&self, why: &str) -> Result<(), PostError> {
        self.freeze(Frozen::All, why).await?;
        self.held.store(false, Ordering::Release);
        Ok(())
    }

    /// May anything be paid here, by this agent?
    pub(super) fn thawed(&self, asked: &Asked) -> Result<(), Refusal> {
        if self.is_held() {
            return Err(held());
        }
        if self.is_stopped_by_file() {
            return Err(by_file());
        }
        match self.ledger.frozen(&asked.host, &asked.session.agent) {
            Some(what) => Err(frozen(&what)),
            None => Ok(()),
        }
    }

    /// From now on nothing more is signed there. What was signed before can still be charged. Of what is frozen
    /// already the first reason stands, and nobody is told again.
    ///
    /// # Errors
    /// When the ledger cannot store it.
    pub async fn freeze(&self, what: Frozen, why: &str) -> Result<(), PostError> {
        let now = self.clock.now();
        let known = self.holds(&what).await;
        freeze(&*self.ledger, what.clone(), why, now).await?;
        if matches!(known, Ok(true)) {
            return Ok(());
        }
        tracing::warn!(%what, why, "payments are frozen");
        self.notice(&Notice::frozen(&what, why, now));
        Ok(())
    }

    /// Payments are possible again.
    ///
    /// # Errors
    /// When the ledger cannot store it.
    pub async fn unfreeze(&self, what: Frozen) -> Result<(), PostError> {
        let time = self.clock.now();
        let known = self.holds(&what).await;
        unfreeze(&*self.ledger, what.clone(), time).await?;
        let held = what == Frozen::All && self.held.swap(false, Ordering::AcqRel);
        if matches!(known, Ok(false)) && !held {
            return Ok(());
        }
        tracing::warn!(%what, "payments are no longer frozen");
        self.notice(&Notice::Unfrozen {
            time,
            what: what.to_string(),
        });
        Ok(())
    }

    /// Is there a freeze of exactly this? Where that cannot be read, people are rather told twice than never.
    async fn holds(&self, what: &Frozen) -> Result<bool, PostError> {
        let fact = self.ledger.fact(&key::frozen(what)).await?;
        Ok(fact.is_some())
    }

    /// Forgets the recipients and prices of a host: the next ones are the first.
    ///
    /// # Errors
    /// When the ledger cannot store it.
    pub async fn forget(&self, host: &str) -> Result<(), PostError> {
        forget(&*self.ledger, host, self.clock.now()).await
    }
}

/// The refusal of a payment that is frozen.
#[must_use]
pub fn frozen(what: &Frozen) -> Refusal {
    let whose = match what {
        Frozen::All => "all payments",
        Frozen::Host(_) => "payments to this host",
        Frozen::Agent(_) => "payments of this agent",
    };
    Refusal::new(Reason::Frozen, format!("the operator froze {whose}"))
}

/// Enters a freeze in the ledger, also without a running proxy.
///
/// # Errors
/// When the ledger cannot store it.
pub async fn freeze(
    ledger: &dyn Ledger,
    what: Frozen,
    why: &str,
    now: Timestamp,
) -> Result<(), PostError> {
    let why = why.to_owned();
    enter(ledger, Entry::Freeze { what, now, why }, now).await
}

/// Takes a freeze back.
///
/// # Errors
/// When the ledger cannot store it.
pub async fn unfreeze(ledger: &dyn Ledger, what: Frozen, now: Timestamp) -> Result<(), PostError> {
    enter(ledger, Entry::Unfreeze { what }, now).await
}

/// Forgets what is known of a host.
///
/// # Errors
/// When the ledger cannot store it.
pub async fn forget(ledger: &dyn Ledger, host: &str, now: Timestamp) -> Result<(), PostError> {
    let host = host.to_owned();
    enter(ledger, Entry::Forget { host }, now).await
}

async fn enter(ledger: &dyn Ledger, entry: Entry, time: Timestamp) -> Result<(), PostError> {
    let post = Post {
        time,
        entries: vec![entry],
        event: None,
    };
    ledger.post(post).await.map(|_| ())
}
