//! A demonstration that needs nothing: a merchant of its own that asks for payment and checks it,
//! an agent that knows nothing about payments, and the real proxy between them.

use std::io::{self, Write};
use std::time::Duration;

use tokio::time::timeout;

use crate::app::StartError;
use crate::config::ConfigError;
use crate::ledger::PostError;
use crate::wallet::local::KeyError;

pub mod agent;
pub mod facilitator;
pub mod merchant;
mod page;
mod scratch;
mod script;
mod stage;

/// Why the demonstration did not reach its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The transcript, or a file in the temporary folder.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// There is no place for its files.
    #[error(transparent)]
    Folder(io::Error),
    /// The merchant.
    #[error(transparent)]
    Merchant(#[from] merchant::MerchantError),
    /// The wallet key.
    #[error(transparent)]
    Wallet(#[from] KeyError),
    /// The configuration that it writes for itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The proxy.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] PostError),
    /// A request that got no answer.
    #[error(transparent)]
    Agent(#[from] agent::AgentError),
    /// A signal came first.
    #[error("interrupted")]
    Interrupted,
    /// What should have happened, and did not.
    #[error("not as it should be: {0}")]
    Unexpected(&'static str),
}

/// It takes less than a second; who waits longer waits for something that will not come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sets the stage and keeps it open for somebody's own client until `over`; then shows the ledger.
///
/// # Errors
/// When the stage cannot be set, or `out` not be written.
pub async fn stay(
    out: &mut (dyn Write + Send),
    colour: bool,
    over: impl Future<Output = ()>,
) -> Result<(), DemoError> {
    let stage = stage::Stage::set().await?;
    let mut page = page::Page::new(out, colour);
    let invited = script::invite(&stage, &mut page);
    if invited.is_ok() {
        over.await;
    }
    let payments = stage.payments().await;
    stage.clear().await;
    invited?;
    page.part("The ledger")?;
    Ok(page.ledger(&payments?)?)
}

/// Sets the stage in a temporary folder, plays, and leaves nothing behind, also when it is `over` before its end.
/// Nothing leaves this machine.
///
/// # Errors
/// When anything does not go as it should.
pub async fn run(
    out: &mut (dyn Write + Send),
    colour: bool,
    over: impl Future<Output = ()>,
) -> Result<(), DemoError> {
    let stage = stage::Stage::set().await?;
    let mut page = page::Page::new(out, colour);
    let late = DemoError::Unexpected("it ends within half a minute");
    let played = tokio::select! {
        played = timeout(PATIENCE, script::play(&stage, &mut page)) => played.unwrap_or(Err(late)),
        () = over => Err(DemoError::Interrupted),
    };
    stage.clear().await;
    played
}
