//! What a chain says about a signed transfer: the only proof there is; and of Solana the recent block that
//! a transfer must name. Reads alone; whatever is unclear, unreachable or contradicts itself is an error, and
//! an error proves nothing.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::evm::{Address, Charge};
use crate::fetch::Fetch;
use crate::money::Network;
use crate::solana::Blockhash;

mod balance;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod memo;
mod permit;
mod rpc;
mod search;
mod solana;
mod words;

pub use balance::Held;
pub use error::ChainError;
use error::if_told;
use rpc::Node;
pub use rpc::{Endpoint, NotEndpoint};
use solana::Cluster;
pub use solana::Sent;
use words::{Block, Log, Receipt, Used};

/// Blocks on top of one that is believed: chains exchange their newest blocks now and then.
const DEPTH: u64 = 5;

/// Seconds past its end after which an authorization is taken for dead. No block can be older than
/// the one before it, so this is only for what a contract may count differently.
const MARGIN: u64 = 60;

/// Who keeps the nonce of a signed transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// The token itself (EIP-3009).
    Token,
    /// Permit2, called by one of x402's proxies.
    Permit2(Charge),
    /// Nobody: a transaction of our own on Tempo, found by the memo that it left with a TIP-20 token.
    Memo,
}

/// One signed transfer, as it was agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// Who keeps its nonce.
    pub keeper: Keeper,
    /// The token's contract.
    pub token: Address,
    /// Who signed.
    pub from: Address,
    /// Who was to be paid.
    pub to: Address,
    /// Atomic units: the price, or the most that may be taken.
    pub value: u128,
    /// What it is spent under, once.
    pub nonce: [u8; 32],
    /// Unix seconds before which it did not exist.
    pub since: u64,
    /// Unix seconds, exclusive.
    pub valid_before: u64,
    /// The transaction that a receipt names: where to look first, no more.
    pub claimed: Option<String>,
}

/// What the chain shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// The money moved as agreed.
    Taken(Found),
    /// The nonce is spent, and the money did not move as agreed.
    Otherwise(Found),
    /// The nonce is spent, and by which transaction cannot be told.
    Spent {
        /// The block that proves it.
        block: u64,
    },
    /// It was never used, and no block can use it any more.
    Unused {
        /// The block that proves it.
        block: u64,
        /// That block's time.
        at: Timestamp,
    },
    /// No log tells of it, and no block can hold it any more. Where logs are all there is, that proves nothing.
    Unseen,
    /// It may be used yet, or was used so lately that the block may still be exchanged.
    Undecided,
}

/// Where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Transaction hash.
    pub transaction: String,
    /// Its block.
    pub block: u64,
    /// Atomic units that moved, when they moved as agreed.
    pub value: u128,
}

/// The chains that can be asked: a closed list.
#[derive(Clone, Default)]
pub struct Chains {
    nodes: Vec<(Network, Arc<Node>)>,
    clusters: Vec<(Network, Arc<Cluster>)>,
}

impl Chains {
    /// One node for each network.
    #[must_use]
    pub fn new(endpoints: Vec<(Network, Endpoint)>, fetch: &Fetch) -> Self {
        let mut chains = Self::default();
        for (network, endpoint) in endpoints {
            let node = Node::new(network.clone(), endpoint, fetch.clone());
            match network.is_solana() {
                true => {
                    let cluster = Arc::new(Cluster::new(network.clone(), node));
                    chains.clusters.push((network, cluster));
                }
                false => chains.nodes.push((network, Arc::new(node))),
            }
        }
        chains
    }

    /// The hash of a block that a payment on this network may name. `None` when there is no node for it.
    ///
    /// # Errors
    /// When the node does not answer, or is not of that cluster.
    pub async fn recent(&self, network: &Network) -> Result<Option<Blockhash>, ChainError> {
        match self.clusters.iter().find(|(n, _)| n == network) {
            Some((_, cluster)) => cluster.recent().await.map(Some),
            None => Ok(None),
        }
    }

    /// Is there nobody to ask?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.clusters.is_empty()
    }

    /// Can this one be asked?
    #[must_use]
    pub fn knows(&self, network: &str) -> bool {
        self.nodes.iter().any(|(n, _)| n.as_str() == network)
    }

    /// Is it a Solana cluster that can be asked?
    #[must_use]
    pub fn knows_cluster(&self, network: &str) -> bool {
        self.clusters.iter().any(|(n, _)| n.as_str() == network)
    }

    /// The transaction that took a payment on Solana, when there is one. `None` when there is no node for it.
    ///
    /// # Errors
    /// When the answers are missing, unreadable or of another cluster. Nothing is known then.
    pub async fn find(
        &self,
        network: &str,
        sent: &Sent,
    ) -> Result<Option<Option<Found>>, ChainError> {
        let mut clusters = self.clusters.iter();
        match clusters.find(|(n, _)| n.as_str() == network) {
            Some((_, cluster)) => cluster.find(sent).await.map(Some),
            None => Ok(None),
        }
    }

    /// The chain as it is now. `None` when there is no node for it.
    ///
    /// # Errors
    /// When the node does not answer, or is not of that chain.
    pub async fn view(&self, network: &str) -> Result<Option<View>, ChainError> {
        let found = self.nodes.iter().find(|(n, _)| n.as_str() == network);
        let Some((_, node)) = found else {
            return Ok(None);
        };
        node.is_named().await?;
        let latest = node.latest().await?;
        let deep = node.block(latest.number.saturating_sub(DEPTH)).await?;
        if deep.timestamp > latest.timestamp {
            return Err(node.contradiction("an older block is younger"));
        }
        Ok(Some(View {
            node: Arc::clone(node),
            latest,
            deep,
        }))
    }
}

/// One chain at one moment.
pub struct View {
    node: Arc<Node>,
    latest: Block,
    /// Deep enough to be believed.
    deep: Block,
}

impl View {
    /// What became of a signed transfer.
    ///
    /// # Errors
    /// When the answers are missing, unreadable or contradictory. Nothing is known then.
    pub async fn look(&self, about: &Authorization) -> Result<Sight, ChainError> {
        if about.keeper == Keeper::Memo {
            return self.noted(about).await;
        }
        if self.node.spent(about, self.deep.number).await? {
            return match about.keeper {
                Keeper::Token => self.taken(about).await,
                Keeper::Permit2(charge) => self.permitted(about, charge).await,
                Keeper::Memo => self.noted(about).await,
            };
        }
        if !self.is_dead(about) {
            return Ok(Sight::Undecided);
        }
        // Nothing can have used it since. Whoever says so all the same is not believed at all.
        let late = self.node.spent(about, self.latest.number).await?;
        let told = match about.keeper {
            Keeper::Token => self.search(about).await?.is_some(),
            // It logs nothing.
            Keeper::Permit2(_) | Keeper::Memo => false,
        };
        if late || told {
            let what = "a dead authorization is both used and unused";
            return Err(self.node.contradiction(what));
        }
        Ok(self.unused())
    }

    /// No block to come can use it.
    fn is_dead(&self, about: &Authorization) -> bool {
        self.deep.timestamp >= about.valid_before.saturating_add(MARGIN)
    }

    fn unused(&self) -> Sight {
        Sight::Unused {
            block: self.deep.number,
            at: Timestamp::from_secs(self.deep.timestamp),
        }
    }

    /// Used, and how cannot be told.
    fn spent(&self) -> Sight {
        Sight::Spent {
            block: self.deep.number,
        }
    }

    /// By whom, and how: from the transaction that the receipt names, else from the logs.
    async fn taken(&self, about: &Authorization) -> Result<Sight, ChainError> {
        if let Some(claimed) = about.claimed.as_deref().and_then(words::hash)
            && let Some(receipt) = if_told(self.node.receipt(&claimed).await)?
            && receipt.block_number.0 <= self.deep.number
            && let Some(used) = receipt.used(about)
        {
            return Ok(self.judged(about, &receipt, &used));
        }
        let nowhere = || self.node.contradiction("a used authorization is in no log");
        let found = self.search(about).await?.ok_or_else(nowhere)?;
        let receipt = match self.node.receipt(&found.transaction_hash).await {
            // Whoever settles may do as much else as it likes in one transaction.
            Err(error) if error.is_too_long() && !found.cancels() => return Ok(self.spent()),
            receipt => receipt?,
        };
        let (receipt, used) = receipt
            .and_then(|r| r.used(about).map(|used| (r, used)))
            .ok_or_else(|| self.node.contradiction("a log is in no transaction"))?;
        if receipt.block_number != found.block_number {
            let what = "a transaction is in two blocks";
            return Err(self.node.contradiction(what));
        }
        Ok(self.judged(about, &receipt, &used))
    }

    /// Did the money move as agreed? What its signer took back moved none and never will.
    fn judged(&self, about: &Authorization, receipt: &Receipt, used: &Used) -> Sight {
        let found = Found {
            transaction: receipt.transaction_hash.to_string(),
            block: receipt.block_number.0,
            value: about.value,
        };
        match (used.canceled, receipt.moved(about, used)) {
            (true, _) if self.is_dead(about) => self.unused(),
            (true, _) => Sight::Undecided,
            (false, true) => Sight::Taken(found),
            (false, false) => Sight::Otherwise(found),
        }
    }

    async fn search(&self, about: &Authorization) -> Result<Option<Log>, ChainError> {
        search::find(&self.node, &self.deep, about).await
    }
}

#[cfg(test)]
mod tests;
