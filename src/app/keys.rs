//! Asks signers elsewhere at the start whose key they have: a wrong address would cost a hold a payment.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::StartError;
use crate::wallet::{Probe, Wallet};

/// For all of them. Whoever is not there now may be there for the first payment.
const PATIENCE: Duration = Duration::from_secs(4);

/// Looks at all at once.
///
/// # Errors
/// The first that certainly has another key.
pub(super) async fn check(wallets: &[Arc<dyn Wallet>]) -> Result<(), StartError> {
    let ask = |wallet: &Arc<dyn Wallet>| {
        let wallet = Arc::clone(wallet);
        tokio::spawn(async move {
            let probe = timeout(PATIENCE, wallet.probe()).await;
            probe.unwrap_or_else(|_| Probe::Unanswered("no answer in time".into()))
        })
    };
    let asked: Vec<_> = wallets.iter().map(ask).collect();
    for (wallet, probe) in wallets.iter().zip(asked) {
        let name = wallet.name().to_owned();
        match probe.await.unwrap_or(Probe::Untold) {
            Probe::Right | Probe::Untold => {}
            Probe::Wrong(problem) => return Err(StartError::Key { name, problem }),
            Probe::Unanswered(problem) => {
                tracing::warn!(wallet = %name, "its signer does not say whose key it has: {problem}");
            }
        }
    }
    Ok(())
}
