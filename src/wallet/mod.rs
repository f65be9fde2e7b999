//! Wallet connectors. Keys live here and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::evm::Login;
use crate::fetch::Fetch;
use crate::money::{Asset, Network};
use crate::payment::{Instruction, Nonce, PaymentId, Requirement, Signature};
use crate::section::{Section, SectionError};

pub mod agentcore;
mod ask;
mod aws;
mod breaker;
mod canonical;
mod cdp;
mod credentials;
mod failure;
pub mod harden;
mod key;
mod keystore;
#[cfg(feature = "kms")]
pub mod kms;
pub mod lightning;
pub mod local;
mod privy;
mod public_keys;
mod remote;
pub mod secret_file;
mod solana_key;
mod told;
mod typed_data;
mod web3signer;

pub use typed_data::{Form, Types};

/// Every kind of wallet that can be opened.
pub const WALLETS: &[WalletKind] = &[
    local::KIND,
    web3signer::KIND,
    cdp::KIND,
    privy::KIND,
    #[cfg(feature = "kms")]
    kms::KIND,
    agentcore::KIND,
    lightning::KIND,
];

/// Kinds that are not in this program, and why.
const ABSENT: &[(&str, &str)] = &[
    #[cfg(not(feature = "kms"))]
    ("kms", "are left out of this build (feature `kms`)"),
];

/// Why a wallet gave no signature.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WalletError {
    /// It cannot sign this kind of thing.
    #[error("the wallet cannot sign this")]
    Unsupported,
    /// It refused, and is certain that nothing was signed.
    #[error("the wallet declined: {0}")]
    Declined(String),
    /// It failed too often lately and is not asked. Nothing was signed.
    #[error("the wallet is left alone for {secs} seconds")]
    Resting {
        /// Seconds until it is asked again.
        secs: u64,
    },
    /// It may have signed: no answer, or an unusable one, after the request left.
    #[error("no answer from the wallet: {0}")]
    Unknown(String),
}

impl WalletError {
    /// Is it certain that nothing was signed?
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Unsupported | Self::Declined(_) | Self::Resting { .. } => true,
            Self::Unknown(_) => false,
        }
    }
}

/// What a signature is for. Wallets that make a payment of it, and no mere signature, need to know.
pub struct Purpose {
    /// The payment.
    pub id: PaymentId,
    /// The challenge that it answers, as a value of `WWW-Authenticate`, where the protocol has such a one.
    pub challenge: Option<String>,
}

/// Somebody who signs. Sees instructions only: no policy, no budget, no request body.
#[async_trait]
pub trait Wallet: Send + Sync {
    /// The operator's name for it.
    fn name(&self) -> &str;
    /// Its kind, as in the configuration.
    fn kind(&self) -> &'static str;
    /// The address that would pay on this network, or `None` when the network is not on its list.
    fn address(&self, network: &Network) -> Option<String>;
    /// The networks it may pay on: a closed list.
    fn networks(&self) -> &[Network];
    /// Can it sign this kind of thing? Asked before anything is reserved.
    fn signs(&self, _instruction: &Instruction) -> bool {
        true
    }
    /// Signs. The reservation is durable before this is called.
    async fn sign(&self, instruction: &Instruction) -> Result<Signature, WalletError>;
    /// Signs for this payment.
    async fn sign_for(
        &self,
        instruction: &Instruction,
        _purpose: &Purpose,
    ) -> Result<Signature, WalletError> {
        self.sign(instruction).await
    }
    /// Signs in. Never moves money: what is signed begins as no transaction and no typed data does.
    async fn sign_in(&self, _login: &Login) -> Result<Signature, WalletError> {
        Err(WalletError::Unsupported)
    }
    /// Did this payment move money, as far as the wallet knows? `None`: it cannot tell.
    async fn settled(&self, _id: PaymentId) -> Option<bool> {
        None
    }
    /// Asks whoever signs whose key it has. Signs nothing.
    async fn probe(&self) -> Probe {
        Probe::Untold
    }
    /// Does it make authorizations itself? It chooses validity and nonce, where no challenge decides them.
    fn chooses_nonce(&self) -> bool {
        false
    }
    /// How long one answer may take.
    fn patience(&self) -> Duration {
        Duration::from_secs(15)
    }
    /// Does it make payments itself, and say what became of them?
    fn pays_itself(&self) -> bool {
        false
    }
    /// Where a payment stands that this wallet makes itself, by the hash of its invoice. `None`: it makes
    /// none.
    async fn standing(&self, _hash: Nonce) -> Option<Standing> {
        None
    }
}

/// What a signer elsewhere says of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It has the key of the wallet's address.
    Right,
    /// It has another's, as this says.
    Wrong(String),
    /// No answer, or none that can be used, as this says.
    Unanswered(String),
    /// There is nobody to be asked, or it cannot be asked.
    Untold,
}

/// Where a payment stands that a wallet was asked to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Made, and proven by its preimage.
    Made {
        /// Routing fee, millisatoshi; `None` when the wallet does not say.
        fee_msat: Option<u64>,
    },
    /// It came to an end without moving money.
    Failed,
    /// It may be made yet.
    Pending,
    /// The wallet knows of no such payment.
    Missing,
    /// Nobody is there, or not in time.
    Silent,
    /// No answer that can be used.
    Unanswered(String),
}

/// How a kind of wallet is named and opened. `base` is the folder of the configuration file, against
/// which relative paths are resolved.
pub struct WalletKind {
    /// The word after `kind:`.
    pub kind: &'static str,
    /// Is it asked over the network?
    pub remote: bool,
    /// Are its own keys (without `name`, `kind` and `networks`) all there and all known? Opens nothing.
    pub check: fn(Section) -> Result<(), SectionError>,
    /// Reads its own section and opens what it names.
    pub open: fn(Opening) -> Result<Arc<dyn Wallet>, SectionError>,
}

/// What every wallet is opened with.
pub struct Opening {
    /// Its own keys of the configuration.
    pub section: Section,
    /// The operator's name for it.
    pub name: String,
    /// The networks it may pay on.
    pub networks: Vec<Network>,
    /// Folder that relative paths start from.
    pub base: std::path::PathBuf,
    /// How a signer elsewhere is asked; never the way that pays. Without it nothing remote is signed.
    pub fetch: Option<Fetch>,
}

/// Opens a wallet of this kind.
///
/// # Errors
/// When there is no such kind, or its settings or its secrets are not usable.
pub fn open(kind: &str, opening: Opening) -> Result<Arc<dyn Wallet>, SectionError> {
    (find(kind, &opening.section)?.open)(opening)
}

/// Looks at the settings of a wallet of this kind without opening anything.
///
/// # Errors
/// When there is no such kind, or it has no such settings.
pub fn check(kind: &str, section: Section) -> Result<(), SectionError> {
    (find(kind, &section)?.check)(section)
}

/// Assets that a wallet prices itself, by its settings.
#[must_use]
pub fn assets(kind: &str, section: &Section, networks: &[Network]) -> Vec<Asset> {
    match kind == lightning::KIND.kind {
        true => lightning::assets(section, networks),
        false => vec![],
    }
}

/// Do wallets of this kind make payments themselves, and say what became of them?
#[must_use]
pub fn pays_itself(kind: &str) -> bool {
    kind == lightning::KIND.kind
}

/// Are wallets of this kind asked over the network?
#[must_use]
pub fn is_remote(kind: &str) -> bool {
    WALLETS.iter().any(|w| w.kind == kind && w.remote)
}

/// Why a secret of a wallet of this kind is where more can read it than have to: in the environment of this
/// process. `None`: it is in a file, or nowhere.
#[must_use]
pub fn exposed(kind: &str, section: &Section) -> Option<SectionError> {
    let amazon = ["kms", agentcore::KIND.kind].contains(&kind);
    let here = |name: &str| std::env::var(name).ok();
    let problem = "its secret is in the environment (AWS_SECRET_ACCESS_KEY), and child processes, container descriptions and crash reports show that";
    (amazon && aws::is_exposed(section, &here)).then(|| {
        let error = section.error(problem);
        error.hint(
            "write it into a file of mode 0600, and name that: `credentials_file: aws.credentials`",
        )
    })
}

fn find(kind: &str, section: &Section) -> Result<&'static WalletKind, SectionError> {
    if let Some(found) = WALLETS.iter().find(|w| w.kind == kind) {
        return Ok(found);
    }
    if let Some((_, why)) = ABSENT.iter().find(|(absent, _)| *absent == kind) {
        let error = section.error(format!("wallets of kind `{kind}` {why}"));
        return Err(error.hint("use `kind: local` with a `key_file`, or `web3signer`"));
    }
    let shown = kind.escape_debug();
    let error = section.error(format!("there is no kind of wallet `{shown}`"));
    Err(error.hint_words(kind, WALLETS.iter().map(|w| w.kind)))
}

/// The first wallet that may pay this requirement, with its address.
#[must_use]
pub fn choose<'a>(
    wallets: &'a [Arc<dyn Wallet>],
    requirement: &Requirement,
) -> Option<(&'a Arc<dyn Wallet>, String)> {
    wallets
        .iter()
        .find_map(|w| w.address(&requirement.network).map(|a| (w, a)))
}
