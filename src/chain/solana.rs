//! A Solana cluster: which one it is, and which block a transaction may name.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

use super::ChainError;
use super::rpc::Node;
use crate::money::Network;
use crate::solana::Blockhash;

/// How long one block is named by all payments: a small part of the life of each.
const FRESH: Duration = Duration::from_secs(2);

/// A node of one cluster.
pub(super) struct Cluster {
    network: Network,
    node: Node,
    newest: Mutex<Newest>,
}

/// What was heard last.
#[derive(Default)]
struct Newest {
    /// Did it say that it is of this cluster?
    known: bool,
    block: Option<(Instant, Blockhash)>,
}

/// An answer as of some slot.
#[derive(Deserialize)]
struct Said<T> {
    value: T,
}

#[derive(Deserialize)]
struct Latest {
    blockhash: String,
}

impl Cluster {
    pub(super) fn new(network: Network, node: Node) -> Self {
        Self {
            network,
            node,
            newest: Mutex::default(),
        }
    }

    /// A block of the last seconds. Those who ask at the same time wait for one answer.
    pub(super) async fn recent(&self) -> Result<Blockhash, ChainError> {
        let mut newest = self.newest.lock().await;
        if let Some((at, blockhash)) = newest.block
            && at.elapsed() < FRESH
        {
            return Ok(blockhash);
        }
        if !newest.known {
            self.is_named().await?;
            newest.known = true;
        }
        const METHOD: &str = "getLatestBlockhash";
        // Not the newest of all: the facilitator's node must have heard of it too.
        let asked = json!([{ "commitment": "confirmed" }]);
        let at = Instant::now();
        let said: Said<Latest> = self.node.ask(METHOD, asked).await?;
        let blockhash = said.value.blockhash.parse();
        let blockhash = blockhash.map_err(|_| self.node.unreadable(METHOD))?;
        newest.block = Some((at, blockhash));
        Ok(blockhash)
    }

    /// CAIP-2 names a cluster by the first 32 characters of its genesis hash. A transaction names none, so
    /// with the block of another cluster it would be a payment there.
    async fn is_named(&self) -> Result<(), ChainError> {
        const METHOD: &str = "getGenesisHash";
        let genesis: String = self.node.ask(METHOD, json!([])).await?;
        if genesis.parse::<Blockhash>().is_err() {
            return Err(self.node.unreadable(METHOD));
        }
        let found: String = genesis.chars().take(32).collect();
        let found = format!("solana:{found}");
        match found == self.network.as_str() {
            true => Ok(()),
            false => Err(ChainError::WrongChain {
                host: self.node.host(),
                network: self.network.clone(),
                found,
            }),
        }
    }
}
