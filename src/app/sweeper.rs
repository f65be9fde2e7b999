//! Who looks every now and then after what was left open.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::arrival::Arrival;
use crate::ledger::Ledger;
use crate::payer::Payer;

/// How often dead payloads are looked for: often enough that a budget is not missed, seldom enough
/// to cost nothing.
const SWEEP: Duration = Duration::from_secs(15);

pub(super) struct Sweeper {
    /// What comes first, where the ledger was away.
    pub(super) late: Option<Arrival>,
    pub(super) payer: Arc<Payer>,
    pub(super) ledger: Arc<dyn Ledger>,
}

impl Sweeper {
    pub(super) async fn run(self, mut drains: watch::Receiver<bool>) {
        if let Some(arrival) = self.late {
            tokio::select! {
                _ = drains.wait_for(|d| *d) => return,
                () = arrival.at_last() => {}
            }
        }
        let mut ticks = tokio::time::interval(SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let reconciler = self.payer.reconciler();
        loop {
            tokio::select! {
                _ = drains.wait_for(|d| *d) => return,
                _ = ticks.tick() => {}
            }
            match self.ledger.leads().await {
                Ok(true) => {}
                // Another proxy does it, or nobody can.
                Ok(false) | Err(_) => continue,
            }
            if let Err(error) = self.payer.sweep().await {
                tracing::error!(%error, "open payments could not be looked through");
            }
            // A chain may be slow, and what is not recorded of it today is found there tomorrow.
            let round = tokio::select! {
                _ = drains.wait_for(|d| *d) => return,
                round = reconciler.round() => round,
            };
            if let Err(error) = round {
                tracing::error!(%error, "what the chains show could not be recorded");
            }
        }
    }
}
