//! Wallets whose key is elsewhere: one question over HTTP, and no word of the answer believed before it
//! was checked against our own digest and the wallet's address.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::key::verified;
use super::typed_data::TypedData;
use super::{Opening, Wallet, WalletError};
use crate::evm::Address;
use crate::fetch::{Fetch, FetchError};
use crate::money::Network;
use crate::payment::{Instruction, Signature};
use crate::section::{Section, SectionError};

/// For one answer. A signature takes milliseconds; whoever takes longer is in trouble.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long a payment waits for its turn. Together with an answer it stays below the payer's patience.
const TURN: Duration = Duration::from_secs(3);

/// Questions at once to one signer, each with a connection of its own.
const AT_ONCE: usize = 16;

/// Most bytes of an answer. One with a signature has some hundred.
const ANSWER_MAX: usize = 64 * 1024;

/// What is known of one kind of signer.
pub(super) trait Signer: Send + Sync {
    /// The question for this signature.
    fn request(&self, data: &TypedData) -> Result<Request<Bytes>, Failure>;
    /// The signature in the body of a good answer, as hexadecimal text.
    fn signature(&self, answer: &[u8]) -> Result<String, Failure>;
}

/// Why there is no signature. Names the host and codes at most, never what was sent or answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Opened by a command that only looks.
    #[error("it was opened to be looked at")]
    Unasked,
    /// Nothing left this machine.
    #[error("the request cannot be made: {0}")]
    Unmade(String),
    /// Others wait for it already.
    #[error("{AT_ONCE} payments wait for it already")]
    Busy,
    /// Nobody was there.
    #[error(transparent)]
    Unreached(FetchError),
    /// The request left, and nothing usable came back.
    #[error(transparent)]
    Unanswered(FetchError),
    /// It refused before it signed.
    #[error("{why}, status {status}{code}")]
    Refused {
        /// What the status means.
        why: &'static str,
        /// The HTTP status.
        status: u16,
        /// The signer's own word for it, after a comma.
        code: String,
    },
    /// It refused with an error of JSON-RPC that comes before any signature.
    #[error("it refuses with error {0} of JSON-RPC")]
    Rpc(i64),
    /// A status that says nothing certain.
    #[error("it answers with status {status}{code}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// The signer's own word for it, after a comma.
        code: String,
    },
    /// Not what was asked for.
    #[error("its answer cannot be read: {0}")]
    Unreadable(&'static str),
    /// Of another key, over something else, or none at all.
    #[error("its signature is not that of {0} over this payment")]
    Foreign(Address),
}

impl Failure {
    /// What the payer is told: final only where it is certain that nothing was signed.
    fn told(&self) -> WalletError {
        match self {
            Self::Unasked
            | Self::Unmade(_)
            | Self::Busy
            | Self::Unreached(_)
            | Self::Refused { .. }
            | Self::Rpc(_) => WalletError::Declined(self.to_string()),
            Self::Unanswered(_) | Self::Status { .. } | Self::Unreadable(_) | Self::Foreign(_) => {
                WalletError::Unknown(self.to_string())
            }
        }
    }
}

/// A wallet that asks.
struct Remote<S> {
    kind: &'static str,
    name: String,
    networks: Vec<Network>,
    address: Address,
    signer: S,
    fetch: Option<Fetch>,
    turns: Semaphore,
}

/// What every remote wallet is made of, besides its signer.
pub(super) struct Place {
    name: String,
    networks: Vec<Network>,
    fetch: Option<Fetch>,
}

impl Place {
    /// What an opening says, without the section.
    ///
    /// # Errors
    /// When it lists a network that no EVM address pays on.
    pub(super) fn of(opening: &Opening) -> Result<Self, SectionError> {
        let mut networks = opening.networks.iter();
        if let Some(other) = networks.find(|n| n.chain_id().is_none()) {
            let problem = format!("`{other}` cannot be paid on with an EVM address");
            let error = opening.section.error(problem);
            return Err(error.hint("list `eip155:…` networks only"));
        }
        Ok(Self {
            name: opening.name.clone(),
            networks: opening.networks.clone(),
            fetch: opening.fetch.clone(),
        })
    }

    pub(super) fn wallet(
        self,
        kind: &'static str,
        address: Address,
        signer: impl Signer + 'static,
    ) -> Arc<dyn Wallet> {
        Arc::new(Remote {
            kind,
            name: self.name,
            networks: self.networks,
            address,
            signer,
            fetch: self.fetch,
            turns: Semaphore::new(AT_ONCE),
        })
    }
}

/// `address:` of a remote wallet: what pays, and what every signature is checked against.
pub(super) fn address(section: Section) -> Result<Address, SectionError> {
    section.parse()
}

/// `url:` of a remote wallet, without user and password: others may read the file it is in.
pub(super) fn url(section: Section) -> Result<Uri, SectionError> {
    let uri: Option<Uri> = section.clone().text()?.parse().ok();
    let fits = |uri: &Uri| {
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        let plain = |a: &http::uri::Authority| !a.host().is_empty() && !a.as_str().contains('@');
        scheme && uri.query().is_none() && uri.authority().is_some_and(plain)
    };
    let error = || {
        section.error("expected a URL that begins with https:// or http://, without user and query")
    };
    uri.filter(fits).ok_or_else(error)
}

/// A base `url:` that credentials are sent to: encrypted, or to this machine. Without its last `/`.
pub(super) fn secure_base(section: Section) -> Result<String, SectionError> {
    let url = url(section.clone())?;
    let here = matches!(url.host(), Some("127.0.0.1" | "[::1]" | "localhost"));
    if url.scheme_str() == Some("http") && !here {
        let error = section.error("credentials would be sent in the clear");
        return Err(error.hint("write https://"));
    }
    Ok(url.to_string().trim_end_matches('/').to_owned())
}

/// A header field that no log may show.
pub(super) fn secret_value(text: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(text).map_err(unmade)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Why a request could not be made.
pub(super) fn unmade(why: impl Display) -> Failure {
    Failure::Unmade(why.to_string())
}

impl<S: Signer> Remote<S> {
    async fn obtain(&self, instruction: &Instruction) -> Result<[u8; 65], Failure> {
        let fetch = self.fetch.as_ref().ok_or(Failure::Unasked)?;
        let turn = timeout(TURN, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(Failure::Busy);
        };
        let data = TypedData::of(instruction)
            .ok_or_else(|| Failure::Unmade("signers could read it in two ways".into()))?;
        let request = self.signer.request(&data)?;
        let answer = fetch.send(request, DEADLINE, ANSWER_MAX).await;
        let answer = answer.map_err(unanswered)?;
        if answer.status() != StatusCode::OK {
            return Err(refused(answer.status(), answer.body()));
        }
        let text = self.signer.signature(answer.body())?;
        let signature = bytes(&text).ok_or(Failure::Unreadable("no signature of 65 bytes"))?;
        let digest = instruction.digest();
        digest
            .and_then(|digest| verified(signature, digest, self.address))
            .ok_or(Failure::Foreign(self.address))
    }
}

/// Only what never left is certainly unsigned.
fn unanswered(error: FetchError) -> Failure {
    match error {
        FetchError::Url | FetchError::Crypto(_) | FetchError::Connection { .. } => {
            Failure::Unreached(error)
        }
        FetchError::Answer { .. } | FetchError::TooLong { .. } | FetchError::Late { .. } => {
            Failure::Unanswered(error)
        }
    }
}

/// What a status other than 200 says. A signer that is asked to pay for itself (402) is not paid.
fn refused(status: StatusCode, body: &[u8]) -> Failure {
    let code = code(body);
    let why = match status {
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => "it rejects the request",
        StatusCode::UNAUTHORIZED => "it does not accept the credentials, or the clocks differ",
        StatusCode::PAYMENT_REQUIRED => "its own bill is not paid",
        StatusCode::FORBIDDEN => "its policy or permissions forbid it",
        StatusCode::NOT_FOUND => "it does not know the wallet",
        StatusCode::TOO_MANY_REQUESTS => "it is asked too often",
        _ => {
            let status = status.as_u16();
            return Failure::Status { status, code };
        }
    };
    let status = status.as_u16();
    Failure::Refused { why, status, code }
}

/// The signer's own word, when it is one: an error message may quote what was sent.
fn code(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Told {
        #[serde(alias = "errorType")]
        code: String,
    }
    let told: Option<Told> = serde_json::from_slice(body).ok();
    let plain = |code: &String| {
        let fits = |b: u8| b.is_ascii_lowercase() || b == b'_';
        code.len() <= 40 && code.bytes().all(fits)
    };
    let code = told.map(|told| told.code).filter(plain);
    code.map(|code| format!(", {code}")).unwrap_or_default()
}

fn bytes(text: &str) -> Option<[u8; 65]> {
    let mut bytes = [0; 65];
    hex::decode_to_slice(text.strip_prefix("0x")?, &mut bytes).ok()?;
    Some(bytes)
}

#[async_trait]
impl<S: Signer> Wallet for Remote<S> {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn address(&self, network: &Network) -> Option<String> {
        let listed = self.networks.contains(network);
        listed.then(|| self.address.to_string())
    }

    fn networks(&self) -> &[Network] {
        &self.networks
    }

    /// Whoever holds the key is asked for EIP-712 typed data only.
    fn signs(&self, instruction: &Instruction) -> bool {
        match instruction {
            Instruction::Transfer(_) | Instruction::Permit(_) => true,
            Instruction::Tempo(_) | Instruction::Tokens { .. } | Instruction::Invoice { .. } => {
                false
            }
        }
    }

    async fn sign(&self, instruction: &Instruction) -> Result<Signature, WalletError> {
        let declined = |detail: &str| Err(WalletError::Declined(detail.into()));
        if instruction.from() != Some(self.address) {
            return declined("it is not the payer's wallet");
        }
        let chain = instruction.chain_id();
        if !self.networks.iter().any(|n| n.chain_id() == chain) {
            return declined("the network is not on its list");
        }
        let obtained = self.obtain(instruction).await;
        obtained.map(Signature::Evm).map_err(|failure| {
            // Agents are told only that there is no signature; the operator must know why.
            tracing::warn!(wallet = %self.name, kind = self.kind, "no signature: {failure}");
            failure.told()
        })
    }
}
