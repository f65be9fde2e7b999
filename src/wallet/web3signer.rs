//! Wallets of kind `web3signer`: an own signing service, asked by JSON-RPC.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Uri};
use serde::{Deserialize, Serialize};

use super::remote::{self, Account, Ask, Failure, Place, Signer, unmade};
use super::typed_data::TypedData;
use super::{Opening, Wallet, WalletKind, told};
use crate::evm::Address;
use crate::fetch::Fetch;
use crate::section::{Section, SectionError};

/// The kind, as in the configuration.
pub(super) const KIND: WalletKind = WalletKind {
    kind: "web3signer",
    remote: true,
    check: |section| settings(section).map(drop),
    open,
};

/// Errors of JSON-RPC that are found before anything is signed.
const BEFORE: [i64; 4] = [-32700, -32600, -32601, -32602];

/// What it says of an address without a key, under a code that stands for much else too.
const LOCKED: &str = "not an unlocked account";

/// Where it is, and which of its keys is meant.
struct Web3signer {
    url: Uri,
    address: Address,
}

/// `url` and `address`.
fn settings(mut section: Section) -> Result<Web3signer, SectionError> {
    let url = remote::url(section.need("url")?)?;
    let address = remote::address(section.need("address")?)?;
    section.finish()?;
    Ok(Web3signer { url, address })
}

fn open(opening: Opening) -> Result<Arc<dyn Wallet>, SectionError> {
    let signer = settings(opening.section.clone())?;
    let place = Place::of(&opening, Account::Evm(signer.address))?;
    Ok(place.wallet(KIND.kind, signer))
}

#[derive(Serialize)]
struct Question<'a> {
    jsonrpc: &'static str,
    id: u64,
    method: &'static str,
    params: &'a [String],
}

#[derive(Deserialize)]
struct Answer {
    id: u64,
    #[serde(default)]
    result: Option<String>,
    #[serde(default)]
    error: Option<Wrong>,
}

/// The message is compared and never shown.
#[derive(Deserialize)]
struct Wrong {
    code: i64,
    #[serde(default)]
    message: String,
}

/// A connection carries one question, so every question has the same number.
const ID: u64 = 1;

impl Web3signer {
    fn question(&self, data: &TypedData) -> Result<Request<Bytes>, Failure> {
        let params = [self.address.to_string().to_lowercase(), data.text()];
        self.call("eth_signTypedData", &params)
    }

    fn call(&self, method: &'static str, params: &[String]) -> Result<Request<Bytes>, Failure> {
        let question = Question {
            jsonrpc: "2.0",
            id: ID,
            method,
            params,
        };
        let body = serde_json::to_vec(&question).map_err(unmade)?;
        Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(body.into())
            .map_err(unmade)
    }
}

/// The accounts whose keys it has.
#[derive(Deserialize)]
struct Accounts {
    result: Vec<String>,
}

impl Web3signer {
    /// Our account, when its key is there; else another one that is.
    async fn keys(&self, fetch: &Fetch) -> Result<String, Failure> {
        let request = self.call("eth_accounts", &[])?;
        let Accounts { result } = told::answer(request, fetch).await?;
        let ours = self.address.to_string();
        let here = result
            .iter()
            .any(|account| account.eq_ignore_ascii_case(&ours));
        match (here, result.into_iter().next()) {
            (true, _) => Ok(ours),
            (false, Some(other)) => told::plain(other),
            (false, None) => Err(Failure::Unreadable("it has no keys")),
        }
    }
}

#[async_trait]
impl Signer for Web3signer {
    async fn request(&self, ask: &Ask, _: &Fetch) -> Result<Request<Bytes>, Failure> {
        self.question(ask.typed()?)
    }

    async fn owner(&self, fetch: &Fetch) -> Option<Result<String, Failure>> {
        Some(self.keys(fetch).await)
    }

    fn signatures(&self, answer: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        let answer: Answer =
            serde_json::from_slice(answer).map_err(|_| Failure::Unreadable("not JSON-RPC"))?;
        match answer.error {
            Some(wrong) if BEFORE.contains(&wrong.code) || wrong.message.contains(LOCKED) => {
                Err(Failure::Rpc(wrong.code))
            }
            Some(_) => Err(Failure::Unreadable("an error that says nothing certain")),
            None if answer.id != ID => Err(Failure::Unreadable("to another question")),
            None => {
                let result = answer.result.ok_or(Failure::Unreadable("no result"))?;
                remote::hex_signature(&result)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::evm::{Domain, TransferWithAuthorization};
    use crate::payment::Instruction;

    #[test]
    fn the_request_is_that_of_the_vector_byte_for_byte() {
        let text = include_str!("../../tests/vectors/wallets/web3signer.json");
        let vector: Value = serde_json::from_str(text).unwrap();
        let expected = &vector["request"];
        let at = |text: &str| Address::from_hex(text).unwrap();
        let transfer = TransferWithAuthorization {
            domain: Domain {
                name: "USDC".into(),
                version: "2".into(),
                chain_id: 84532,
                contract: at("0x036CbD53842c5426634e7929541eC2318f3dCF7e"),
            },
            from: at("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
            to: at("0x70997970C51812dc3A010C7d01b50e0d17dc79C8"),
            value: 10000,
            valid_after: 1_789_999_400,
            valid_before: 1_790_000_060,
            nonce: [1; 32],
        };
        let signer = Web3signer {
            url: "http://127.0.0.1:9000/".parse().unwrap(),
            address: transfer.from,
        };
        let data = TypedData::of(&Instruction::Transfer(transfer.clone())).unwrap();
        assert_eq!(data.text(), expected["params"][1].as_str().unwrap());
        let request = signer.question(&data).unwrap();
        let sent: Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(sent, *expected);
        let answer = vector["response"].to_string();
        let [signature] = &*signer.signatures(answer.as_bytes()).unwrap() else {
            panic!("one signature");
        };
        let bytes: [u8; 65] = signature.as_slice().try_into().unwrap();
        let checked = super::super::key::verified(bytes, transfer.digest(), transfer.from);
        assert_eq!(checked, Some(bytes));
        // What signers would read in more than one way is not sent.
        let mut odd = transfer.clone();
        odd.domain.chain_id = 1 << 53;
        assert!(TypedData::of(&Instruction::Transfer(odd)).is_none());
        let mut odd = transfer;
        odd.domain.name = "USDĊ".into();
        assert!(TypedData::of(&Instruction::Transfer(odd)).is_none());
    }
}
