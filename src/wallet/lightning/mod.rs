//! Wallets of kind `lightning`: a node or service of the operator that pays an invoice and tells the
//! preimage. Asked once for each payment; whatever comes back, only a preimage proves that it was made,
//! and only the node's own word that it failed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use secrecy::zeroize::Zeroizing;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use super::credentials::Credentials;
use super::{Opening, Standing, Wallet, WalletError, WalletKind};
use crate::fetch::{Fetch, FetchError};
use crate::lightning::Invoice;
use crate::money::Network;
use crate::payment::{Instruction, Nonce, Signature};
use crate::section::SectionError;

mod cln;
mod lnbits;
mod lnd;
mod phoenixd;
mod settings;

pub(super) use settings::assets;
use settings::secret;

/// The kind, as in the configuration.
pub(super) const KIND: WalletKind = WalletKind {
    kind: "lightning",
    remote: true,
    check: |section| settings::read(section, Path::new("")).map(drop),
    open,
};

/// Seconds that a node may look for a route. It is told so where that is possible.
const ROUTING: u64 = 30;

/// For the answer to a payment: longer than a node looks for a route.
const DEADLINE: Duration = Duration::from_secs(ROUTING + 10);

/// For everything: where the answer is lost, what is left of it goes to asking what became of it.
const PATIENCE: Duration = Duration::from_secs(ROUTING + 20);

/// For the answer to a question.
const LOOK: Duration = Duration::from_secs(5);

/// Between two questions.
const PAUSE: Duration = Duration::from_secs(1);

/// How often the outcome is asked for while the agent waits.
const LOOKS: u32 = 5;

/// How long a payment waits for its turn, and how many are made at once.
const TURN: Duration = Duration::from_secs(3);
const AT_ONCE: usize = 16;

/// Most bytes of an answer. LND's has a page for each attempt.
const ANSWER_MAX: usize = 1 << 20;

/// What is known of one kind of node.
trait Node: Send + Sync {
    /// The request that pays.
    fn pay(&self, base: &str, invoice: &Invoice, fee_most: u64) -> Question;
    /// What its answer says.
    fn paid(&self, status: StatusCode, body: &[u8]) -> Said;
    /// The request that asks for a payment.
    fn look(&self, base: &str, hash: &[u8; 32]) -> Question;
    /// What its answer says.
    fn looked(&self, status: StatusCode, body: &[u8]) -> Said;
    /// The field that carries the secret.
    fn secret(&self, text: &str) -> (HeaderName, Zeroizing<String>);
}

/// A request without its secret.
struct Question {
    method: Method,
    url: String,
    content_type: &'static str,
    body: String,
    /// Its answer is a stream of lines, of which the first is waited for.
    streams: bool,
}

impl Question {
    fn get(url: String) -> Self {
        let (method, body) = (Method::GET, String::new());
        Self {
            method,
            url,
            content_type: "",
            body,
            streams: false,
        }
    }

    fn post(url: String, body: &serde_json::Value) -> Self {
        Self {
            method: Method::POST,
            url,
            content_type: "application/json",
            body: body.to_string(),
            streams: false,
        }
    }

    fn streaming(self) -> Self {
        Self {
            streams: true,
            ..self
        }
    }
}

/// What an answer says, before it is believed.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// Made.
    Paid {
        /// Hexadecimal, as it came.
        preimage: String,
        fee_msat: Option<u64>,
    },
    /// Certainly not made, and never will be.
    Failed(&'static str),
    /// On its way.
    Pending,
    /// Not known.
    Missing,
    /// Nobody is there, or not in time.
    Silent,
    /// Nothing certain.
    Unclear(&'static str),
}

fn open(opening: Opening) -> Result<Arc<dyn Wallet>, SectionError> {
    if let Some(other) = opening.networks.iter().find(|n| !n.is_lightning()) {
        let error = opening
            .section
            .error(format!("`{other}` is not a Lightning network"));
        return Err(error.hint("list `lightning`, or `lightning:regtest`, `:signet`, `:testnet`"));
    }
    let settings = settings::read(opening.section, &opening.base)?;
    Ok(Arc::new(Lightning {
        name: opening.name,
        networks: opening.networks,
        backend: settings.backend,
        node: settings.node,
        url: settings.url,
        secret: Credentials::open(settings.files, secret)?,
        fetch: opening.fetch,
        turns: Semaphore::new(AT_ONCE),
    }))
}

struct Lightning {
    name: String,
    networks: Vec<Network>,
    backend: &'static str,
    node: &'static dyn Node,
    url: String,
    secret: Credentials<Zeroizing<String>, 1>,
    fetch: Option<Fetch>,
    turns: Semaphore,
}

/// Why nothing came of a question.
enum Unasked {
    /// Nothing left this machine.
    Unreached(String),
    /// It left.
    Unanswered(FetchError),
}

impl Lightning {
    async fn ask(
        &self,
        question: Question,
        time: Duration,
    ) -> Result<(StatusCode, Bytes), Unasked> {
        let unreached = |why: &str| Unasked::Unreached(why.into());
        let fetch = self.fetch.as_ref();
        let fetch = fetch.ok_or_else(|| unreached("it was opened to be looked at"))?;
        let (name, text) = self.node.secret(&self.secret.now());
        let value = HeaderValue::from_str(&text);
        let mut value = value.map_err(|_| unreached("the secret fits into no header field"))?;
        value.set_sensitive(true);
        let mut request = Request::builder().method(question.method).uri(question.url);
        request = request.header(name, value);
        if !question.content_type.is_empty() {
            request = request.header(CONTENT_TYPE, question.content_type);
        }
        let request = request.body(Bytes::from(question.body));
        let request = request.map_err(|_| unreached("the request cannot be made"))?;
        let answer = match question.streams {
            true => fetch.send_for_line(request, time, ANSWER_MAX).await,
            false => fetch.send(request, time, ANSWER_MAX).await,
        };
        match answer {
            Ok(answer) => Ok((answer.status(), answer.into_body())),
            Err(e @ (FetchError::Url | FetchError::Crypto(_) | FetchError::Connection { .. })) => {
                Err(Unasked::Unreached(e.to_string()))
            }
            Err(e) => Err(Unasked::Unanswered(e)),
        }
    }

    async fn look(&self, hash: &[u8; 32]) -> Said {
        let question = self.node.look(&self.url, hash);
        match self.ask(question, LOOK).await {
            Ok((status, body)) => self.node.looked(status, &body),
            Err(Unasked::Unanswered(e)) if !e.is_silence() => Said::Unclear("no answer"),
            Err(Unasked::Unreached(_) | Unasked::Unanswered(_)) => Said::Silent,
        }
    }

    async fn pay(&self, invoice: &Invoice, fee_most: u64) -> Result<Signature, WalletError> {
        let Ok(Ok(_turn)) = timeout(TURN, self.turns.acquire()).await else {
            return Err(WalletError::Declined(
                "too many payments wait for it".into(),
            ));
        };
        let end = Instant::now() + PATIENCE - TURN;
        let question = self.node.pay(&self.url, invoice, fee_most);
        let mut said = match self.ask(question, DEADLINE).await {
            Ok((status, body)) => self.node.paid(status, &body),
            Err(Unasked::Unreached(why)) => return Err(WalletError::Declined(why)),
            Err(Unasked::Unanswered(why)) => {
                tracing::warn!(wallet = %self.name, "a payment was not answered: {why}");
                Said::Unclear("no answer")
            }
        };
        // Asked once only; from here on it is a question of what became of it.
        for _ in 0..LOOKS {
            match &said {
                Said::Paid { .. } | Said::Failed(_) => break,
                Said::Pending | Said::Missing | Said::Silent | Said::Unclear(_) => {}
            }
            if Instant::now() + PAUSE + LOOK > end {
                break;
            }
            sleep(PAUSE).await;
            said = self.look(&invoice.hash).await;
        }
        match said {
            Said::Paid { preimage, fee_msat } => match proof(&preimage, &invoice.hash) {
                Some(preimage) => Ok(Signature::Preimage { preimage, fee_msat }),
                None => Err(WalletError::Unknown(
                    "its preimage is not that of the invoice".into(),
                )),
            },
            Said::Failed(why) => Err(WalletError::Declined(why.into())),
            Said::Silent => Err(WalletError::Unknown("no answer".into())),
            Said::Unclear(why) => Err(WalletError::Unknown(why.into())),
            Said::Pending => Err(WalletError::Unknown(
                "the payment is still on its way".into(),
            )),
            Said::Missing => Err(WalletError::Unknown("it does not know the payment".into())),
        }
    }
}

/// The preimage, if it is that of this hash.
fn proof(text: &str, hash: &[u8; 32]) -> Option<[u8; 32]> {
    let mut preimage = [0; 32];
    hex::decode_to_slice(text, &mut preimage).ok()?;
    (Sha256::digest(preimage)[..] == hash[..]).then_some(preimage)
}

#[async_trait]
impl Wallet for Lightning {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        KIND.kind
    }

    /// Nodes pay by invoice, so who pays is known by the wallet's name.
    fn address(&self, network: &Network) -> Option<String> {
        let listed = self.networks.contains(network);
        listed.then(|| format!("{} at {}", self.name, self.backend))
    }

    fn networks(&self) -> &[Network] {
        &self.networks
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }

    fn pays_itself(&self) -> bool {
        true
    }

    async fn sign(&self, instruction: &Instruction) -> Result<Signature, WalletError> {
        let (invoice, fee_most) = match instruction {
            Instruction::Invoice { invoice, fee_most } => (invoice, *fee_most),
            Instruction::Transfer(_)
            | Instruction::Permit(_)
            | Instruction::Tempo(_)
            | Instruction::Tokens { .. } => {
                return Err(WalletError::Unsupported);
            }
        };
        if !self.networks.contains(&invoice.network) {
            return Err(WalletError::Declined(
                "the network is not on its list".into(),
            ));
        }
        self.pay(invoice, fee_most).await.inspect_err(|error| {
            // Agents are told only that there is no payment; the operator must know why.
            tracing::warn!(wallet = %self.name, backend = self.backend, "no preimage: {error}");
        })
    }

    async fn standing(&self, hash: Nonce) -> Option<Standing> {
        let standing = match self.look(&hash.0).await {
            Said::Paid { preimage, fee_msat } => match proof(&preimage, &hash.0) {
                Some(_) => Standing::Made { fee_msat },
                None => Standing::Unanswered("its preimage is not that of the invoice".into()),
            },
            Said::Failed(_) => Standing::Failed,
            Said::Pending => Standing::Pending,
            Said::Missing => Standing::Missing,
            Said::Silent => Standing::Silent,
            Said::Unclear(why) => Standing::Unanswered(why.into()),
        };
        Some(standing)
    }
}

#[cfg(test)]
mod tests;
