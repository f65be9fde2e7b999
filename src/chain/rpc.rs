//! One node, asked by JSON-RPC over HTTP: one question at a time, everything bounded.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Request, StatusCode, Uri};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::memo::memo_topic;
use super::permit::{self, Sent};
use super::words::{
    Block, Bytes, Log, Quantity, Receipt, Word, canceled_topic, transfer_topic, used_topic, word,
};
use super::{Authorization, ChainError, Keeper};
use crate::evm::{Address, PERMIT2, keccak};
use crate::fetch::Fetch;
use crate::money::Network;
use crate::settings::port;

/// For one answer. Nodes answer within a second; nobody waits for this.
const DEADLINE: Duration = Duration::from_secs(10);

/// Most bytes of an answer. A transaction that settles hundreds of payments has some hundred KiB.
const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// The URL of a node. It may hold credentials in every part, so it has no `Debug` and no `Display`.
#[derive(Clone)]
pub struct Endpoint(Zeroizing<String>);

/// Why a text is no URL of a node. Does not quote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write the URL of a node as \"https://host/path\"")]
pub struct NotEndpoint;

impl Endpoint {
    /// An absolute URL, `http` or `https`.
    ///
    /// # Errors
    /// When it is something else.
    pub fn new(url: Zeroizing<String>) -> Result<Self, NotEndpoint> {
        let uri: Uri = url.parse().map_err(|_| NotEndpoint)?;
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        let host = uri.host().is_some_and(|h| !h.is_empty());
        let port = uri.authority().and_then(|a| port(a, 443)).is_some();
        match scheme && host && port {
            true => Ok(Self(url)),
            false => Err(NotEndpoint),
        }
    }

    fn uri(&self) -> Uri {
        self.0.parse().unwrap_or_default()
    }
}

/// A node of one network.
pub(super) struct Node {
    network: Network,
    endpoint: Endpoint,
    fetch: Fetch,
}

/// An answer of JSON-RPC 2.0.
#[derive(Deserialize)]
struct Answer {
    jsonrpc: String,
    id: Value,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    error: Option<Wrong>,
}

/// Its message is the node's, so it is not shown.
#[derive(Deserialize)]
struct Wrong {
    code: i64,
}

impl Node {
    pub(super) fn new(network: Network, endpoint: Endpoint, fetch: Fetch) -> Self {
        Self {
            network,
            endpoint,
            fetch,
        }
    }

    /// For messages.
    pub(super) fn host(&self) -> String {
        let uri = self.endpoint.uri();
        format!("{} ({})", uri.host().unwrap_or_default(), self.network)
    }

    pub(super) fn contradiction(&self, what: &'static str) -> ChainError {
        ChainError::Contradiction {
            host: self.host(),
            what,
        }
    }

    /// Is it of the chain that the configuration says?
    pub(super) async fn is_named(&self) -> Result<(), ChainError> {
        let Quantity(chain) = self.ask("eth_chainId", json!([])).await?;
        match self.network.chain_id() == Some(chain) {
            true => Ok(()),
            false => Err(ChainError::WrongChain {
                host: self.host(),
                network: self.network.clone(),
                found: format!("eip155:{chain}"),
            }),
        }
    }

    pub(super) async fn latest(&self) -> Result<Block, ChainError> {
        self.ask("eth_getBlockByNumber", json!(["latest", false]))
            .await
    }

    pub(super) async fn block(&self, number: u64) -> Result<Block, ChainError> {
        let asked = json!([quantity(number), false]);
        let block: Block = self.ask("eth_getBlockByNumber", asked).await?;
        match block.number == number {
            true => Ok(block),
            false => Err(self.contradiction("another block than was asked for")),
        }
    }

    /// `authorizationState(address,bytes32)` of the token, or the nonce's bit at Permit2, as of a block.
    pub(super) async fn spent(&self, about: &Authorization, at: u64) -> Result<bool, ChainError> {
        const METHOD: &str = "eth_call";
        if let Keeper::Permit2(_) = about.keeper {
            let (number, bit) = permit::place(&about.nonce);
            let question = b"nonceBitmap(address,uint256)";
            let answer = self.call(PERMIT2, question, about.from, number, at).await?;
            return Ok(permit::is_set(&answer, bit));
        }
        let question = b"authorizationState(address,bytes32)";
        let nonce = Bytes(about.nonce);
        let answer = self
            .call(about.token, question, about.from, nonce, at)
            .await?;
        match answer.0 {
            [0, .., 0] if answer.0.iter().all(|b| *b == 0) => Ok(false),
            [0, .., 1] if answer.0.iter().filter(|b| **b != 0).count() == 1 => Ok(true),
            _ => Err(self.unreadable(METHOD)),
        }
    }

    /// Asks a contract about an account and a word, as of a block.
    async fn call(
        &self,
        contract: Address,
        question: &[u8],
        account: Address,
        argument: Word,
        at: u64,
    ) -> Result<Word, ChainError> {
        let [a, b, c, d, ..] = keccak(question);
        let data = [&[a, b, c, d][..], &word(account).0, &argument.0].concat();
        let data = format!("0x{}", hex::encode(data));
        let call = json!({ "to": contract.to_string(), "data": data });
        self.ask("eth_call", json!([call, quantity(at)])).await
    }

    /// What moved this token from payer to payee, within these blocks.
    pub(super) async fn movements(
        &self,
        about: &Authorization,
        first: u64,
        last: u64,
    ) -> Result<Vec<Log>, ChainError> {
        let (from, to) = (word(about.from).to_string(), word(about.to).to_string());
        let filter = json!({
            "address": about.token.to_string(),
            "fromBlock": quantity(first),
            "toBlock": quantity(last),
            "topics": [transfer_topic().to_string(), from, to],
        });
        let logs: Vec<Log> = self.ask("eth_getLogs", json!([filter])).await?;
        let fits = |l: &Log| l.pays(about) && (first..=last).contains(&l.block_number.0);
        match logs.iter().all(fits) {
            true => Ok(logs),
            false => Err(self.contradiction("other logs than were asked for")),
        }
    }

    /// A transaction as it was sent; `None` when there is none of that hash.
    pub(super) async fn sent(&self, hash: &Word) -> Result<Option<Sent>, ChainError> {
        let asked = json!([hash.to_string()]);
        let found: Option<Sent> = self.ask("eth_getTransactionByHash", asked).await?;
        match found {
            Some(sent) if sent.hash != *hash => {
                Err(self.contradiction("another transaction than was asked for"))
            }
            found => Ok(found),
        }
    }

    /// Where the authorization was used or canceled, or its memo left, within these blocks.
    pub(super) async fn spendings(
        &self,
        about: &Authorization,
        first: u64,
        last: u64,
    ) -> Result<Vec<Log>, ChainError> {
        let nonce = format!("0x{}", hex::encode(about.nonce));
        let from = word(about.from).to_string();
        let noted = about.keeper == Keeper::Memo;
        let topics = match noted {
            true => json!([
                memo_topic().to_string(),
                from,
                word(about.to).to_string(),
                nonce
            ]),
            false => {
                let kinds = [used_topic().to_string(), canceled_topic().to_string()];
                json!([kinds, from, nonce])
            }
        };
        let filter = json!({
            "address": about.token.to_string(),
            "fromBlock": quantity(first),
            "toBlock": quantity(last),
            "topics": topics,
        });
        let logs: Vec<Log> = self.ask("eth_getLogs", json!([filter])).await?;
        let told = |l: &Log| {
            if noted {
                l.notes(about)
            } else {
                l.spends(about)
            }
        };
        let fits = |l: &Log| told(l) && (first..=last).contains(&l.block_number.0);
        match logs.iter().all(fits) {
            true => Ok(logs),
            false => Err(self.contradiction("other logs than were asked for")),
        }
    }

    /// What a transaction did; `None` when there is none of that hash.
    pub(super) async fn receipt(&self, hash: &Word) -> Result<Option<Receipt>, ChainError> {
        let asked = json!([hash.to_string()]);
        let found: Option<Receipt> = self.ask("eth_getTransactionReceipt", asked).await?;
        match found {
            Some(receipt) if receipt.transaction_hash != *hash => {
                Err(self.contradiction("another transaction than was asked for"))
            }
            found => Ok(found),
        }
    }

    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T, ChainError> {
        let question = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let request = Request::post(self.endpoint.uri())
            .header(CONTENT_TYPE, "application/json")
            .body(question.to_string().into())
            .map_err(|_| self.unreadable(method))?;
        let answer = self.fetch.send(request, DEADLINE, ANSWER_MAX).await?;
        let status = answer.status();
        let read = serde_json::from_slice::<Answer>(answer.body());
        if let Ok(Answer {
            error: Some(Wrong { code }),
            ..
        }) = read
        {
            let host = self.host();
            return Err(ChainError::Refused { host, method, code });
        }
        if status != StatusCode::OK {
            return Err(ChainError::Status {
                host: self.host(),
                method,
                status: status.as_u16(),
            });
        }
        let answer = read.map_err(|_| self.unreadable(method))?;
        if answer.jsonrpc != "2.0" || answer.id != 1 {
            return Err(self.unreadable(method));
        }
        serde_json::from_value(answer.result).map_err(|_| self.unreadable(method))
    }

    pub(super) fn unreadable(&self, method: &'static str) -> ChainError {
        ChainError::Unreadable {
            host: self.host(),
            method,
        }
    }
}

fn quantity(number: u64) -> String {
    format!("{number:#x}")
}
