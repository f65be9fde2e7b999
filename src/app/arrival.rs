//! What a proxy must do in its ledger before it pays: learn the time, open its session, close what died and
//! remember what is owed. Where the ledger is a database that is away, this comes later, and everything that
//! costs nothing is forwarded meanwhile.

use std::sync::Arc;
use std::time::Duration;

use super::lowered;
use crate::clock::{Clock as _, System};
use crate::ledger::sessions::Draft;
use crate::ledger::{Ledger, PostError};
use crate::payer::Payer;

/// Between two looks whether the ledger is there; asks nobody.
const LOOK: Duration = Duration::from_millis(100);
/// After what went wrong though it is there.
const PAUSE: Duration = Duration::from_secs(5);

pub(super) struct Arrival {
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) clock: Arc<System>,
    pub(super) payer: Arc<Payer>,
    /// What this process opens, if it opens any.
    pub(super) session: Option<Draft>,
}

impl Arrival {
    /// All of it. `Some` when the ledger is away and may come: then nothing is paid.
    ///
    /// # Errors
    /// When the ledger is there, or its own process's, and cannot be read or written.
    pub(super) async fn unless_late(self) -> Result<Option<Self>, PostError> {
        if self.ledger.is_shared()
            && let Err(why @ PostError::Unavailable(_)) = self.ledger.healthy()
        {
            tracing::error!(error = %why, "starts without its ledger: what costs nothing is forwarded, nothing is paid until the database answers");
            self.payer.wait(Some(why));
            return Ok(Some(self));
        }
        self.once().await?;
        Ok(None)
    }

    /// Waits for the ledger, and then does all of it. Damage ends it: nothing is paid then.
    pub(super) async fn at_last(&self) {
        let mut pause = LOOK;
        loop {
            tokio::time::sleep(pause).await;
            pause = LOOK;
            if self.ledger.healthy().is_err() {
                continue;
            }
            let Err(why) = self.once().await else { break };
            pause = PAUSE;
            // The same every few seconds is no news.
            if self.payer.waits().as_ref() != Some(&why) {
                tracing::error!(error = %why, "the ledger answers, and cannot be used; nothing is paid");
            }
            let damaged = matches!(why, PostError::Damaged(_));
            self.payer.wait(Some(why));
            if damaged {
                return;
            }
        }
        self.payer.wait(None);
        tracing::info!("what was paid before is known; from now on it is paid again");
    }

    async fn once(&self) -> Result<(), PostError> {
        self.clock.not_before(self.ledger.newest().await?);
        if let Some(draft) = &self.session {
            self.open(draft).await?;
        }
        if self.ledger.leads().await? {
            self.payer.sweep().await?;
        }
        self.payer.recall().await
    }

    /// One that is over stays over: a restart resets nothing.
    async fn open(&self, draft: &Draft) -> Result<(), PostError> {
        let now = self.clock.later();
        let session = draft.ensure(&*self.ledger, &*self.clock).await?;
        let row = self.ledger.session(&session.id).await?;
        let new = (draft.session.budget, draft.lasts());
        row.iter().for_each(|row| lowered::tell(row, now, new));
        if session.expires <= now || row.is_some_and(|row| row.closed) {
            tracing::warn!(
                expires = %session.expires,
                "the default session is over, so nothing is paid in it; renew it: farepass session create --default"
            );
        }
        Ok(())
    }
}
