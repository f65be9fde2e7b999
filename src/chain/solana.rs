//! A Solana cluster: which one it is, which block a transaction may name, and whether a transaction that was
//! signed was taken. That one never will be is not proven here: what is signed names no time, and nodes forget.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use super::rpc::Node;
use super::{ChainError, Found, if_told};
use crate::money::Network;
use crate::solana::{Blockhash, split};

/// How long one block is named by all payments: a small part of the life of each.
const FRESH: Duration = Duration::from_secs(2);

/// Transactions of a page of what an account was part of: the most that a node gives.
const PAGE: usize = 1000;

/// Pages that are read for one payment.
const PAGES: usize = 5;

/// Transactions that are looked into for one payment.
const LOOKS: usize = 64;

/// Seconds by which the clocks of a cluster and ours may differ.
const SKEW: u64 = 120;

/// The code for a transaction of a newer version than was asked for.
const NEWER_VERSION: i64 = -32015;

/// One signed transaction, as it was agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Who signed: an account of the transaction.
    pub owner: String,
    /// SHA-256 of its message.
    pub id: [u8; 32],
    /// Atomic units that it moves.
    pub amount: u128,
    /// Unix seconds before which it did not exist.
    pub since: u64,
    /// Unix seconds after which it is not taken.
    pub until: u64,
    /// The transaction that a receipt names: where to look first, no more.
    pub claimed: Option<String>,
}

/// What an account was part of.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    signature: String,
    err: Value,
    block_time: Option<i64>,
}

impl Listed {
    /// Can it be one that was signed between these two?
    fn fits(&self, sent: &Sent) -> bool {
        let time = self.block_time.and_then(|t| u64::try_from(t).ok());
        let early = sent.since.saturating_sub(SKEW);
        let late = sent.until.saturating_add(SKEW);
        self.err.is_null() && time.is_none_or(|t| (early..=late).contains(&t))
    }

    /// Is it from before, and so is everything after it in the list?
    fn is_before(&self, sent: &Sent) -> bool {
        let early = sent.since.saturating_sub(SKEW);
        let time = self.block_time.and_then(|t| u64::try_from(t).ok());
        time.is_some_and(|t| t < early)
    }
}

/// A transaction, as base64.
#[derive(Deserialize)]
struct Landed {
    slot: u64,
    transaction: (String, String),
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    err: Value,
}

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
pub(super) struct Said<T> {
    pub(super) value: T,
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

    /// The finalized transaction with this very message, if it did what it says: from the one that the receipt
    /// names, else from those that the payer was part of.
    pub(super) async fn find(&self, sent: &Sent) -> Result<Option<Found>, ChainError> {
        self.is_sure().await?;
        if let Some(claimed) = sent.claimed.as_deref().filter(|c| is_signature(c))
            && let Some(found) = if_told(self.landed(claimed, sent).await)?
        {
            return Ok(Some(found));
        }
        let (mut before, mut looks) = (None::<String>, 0);
        for _ in 0..PAGES {
            let page = self.page(&sent.owner, before.as_deref()).await?;
            for listed in &page {
                if listed.is_before(sent) || looks >= LOOKS {
                    return Ok(None);
                }
                if !listed.fits(sent) {
                    continue;
                }
                looks += 1;
                match self.landed(&listed.signature, sent).await {
                    // Ours are of no newer version, and anybody can name an account in one.
                    Err(ChainError::Refused { code, .. }) if code == NEWER_VERSION => {}
                    Err(error) => return Err(error),
                    Ok(Some(found)) => return Ok(Some(found)),
                    Ok(None) => {}
                }
            }
            match page.last().filter(|_| page.len() == PAGE) {
                Some(last) => before = Some(last.signature.clone()),
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Has it said that it is of the cluster that the configuration names?
    pub(super) async fn is_sure(&self) -> Result<(), ChainError> {
        let mut newest = self.newest.lock().await;
        if !newest.known {
            self.is_named().await?;
            newest.known = true;
        }
        Ok(())
    }

    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    async fn page(&self, owner: &str, before: Option<&str>) -> Result<Vec<Listed>, ChainError> {
        let mut wanted = json!({ "limit": PAGE, "commitment": "finalized" });
        if let Some(before) = before {
            wanted["before"] = json!(before);
        }
        let asked = json!([owner, wanted]);
        let mut page: Vec<Listed> = self.node.ask("getSignaturesForAddress", asked).await?;
        page.truncate(PAGE);
        Ok(page)
    }

    /// Where a transaction landed, if it is ours and moved the money.
    async fn landed(&self, signature: &str, sent: &Sent) -> Result<Option<Found>, ChainError> {
        const METHOD: &str = "getTransaction";
        let wanted = json!({
            "encoding": "base64", "commitment": "finalized", "maxSupportedTransactionVersion": 0,
        });
        let landed: Option<Landed> = self.node.ask(METHOD, json!([signature, wanted])).await?;
        let Some(Landed {
            slot,
            transaction: (text, _),
            meta: Some(Meta { err: Value::Null }),
        }) = landed
        else {
            return Ok(None);
        };
        let bytes = STANDARD.decode(text);
        let bytes = bytes.map_err(|_| self.node.unreadable(METHOD))?;
        let (signatures, message) = split(&bytes).ok_or_else(|| self.node.unreadable(METHOD))?;
        let first = signatures.first().map(|s| bs58::encode(s).into_string());
        if first.as_deref() != Some(signature) {
            let what = "another transaction than was asked for";
            return Err(self.node.contradiction(what));
        }
        let ours = Sha256::digest(message)[..] == sent.id;
        Ok(ours.then(|| Found {
            transaction: signature.to_owned(),
            block: slot,
            value: sent.amount,
        }))
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

/// Can it name a transaction at all? Receipts of all networks are read alike.
fn is_signature(text: &str) -> bool {
    let mut signature = [0; 64];
    bs58::decode(text).onto(&mut signature) == Ok(64)
}
