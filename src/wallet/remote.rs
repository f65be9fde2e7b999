//! Wallets whose key is elsewhere: one question over HTTP, and no word of the answer believed before it
//! was checked against our own digest and the wallet's address.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

pub(super) use super::ask::{Account, Ask};
use super::breaker::{Breaker, Health};
use super::credentials::{Overlap, Used};
use super::failure::{self, Why, unanswered};
pub(super) use super::failure::{Failure, unmade};
use super::{Opening, Probe, Purpose, Wallet, WalletError};
use crate::clock;
use crate::evm::Address;
use crate::fetch::Fetch;
use crate::money::Network;
use crate::payment::{Instruction, Signature};
use crate::section::{Section, SectionError};
use crate::settings::port;

/// For one answer. A signature takes milliseconds; whoever takes longer is in trouble.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);

/// How long a payment waits for its turn. Together with an answer it stays below the payer's patience.
const TURN: Duration = Duration::from_secs(3);

/// Seconds in which most chains have a block, with some to spare. The official client waits as long.
const BLOCK: u64 = 3;

/// Seconds that anybody waits for an authorization to begin. With its turn and the answer it stays below the
/// payer's patience.
const UNRIPE_MAX: u64 = 5;

/// Questions at once to one signer, each with a connection of its own.
const AT_ONCE: usize = 16;

/// Credentials that are tried for one signature: the new, the old, and those that came meanwhile.
const TRIES: usize = 5;

/// How long after the first question others are begun with: who refuses takes no longer than who signs.
const TRYING: Duration = Duration::from_secs(3);

/// For all answers to one payment, those that refuse among them. With its turn and an authorization's wait it
/// stays below the payer's patience.
const TRYING_ALL: Duration = Duration::from_secs(6);

/// Most bytes of an answer. One with a signature has some hundred.
pub(super) const ANSWER_MAX: usize = 64 * 1024;

/// What is known of one kind of signer.
#[async_trait]
pub(super) trait Signer: Send + Sync {
    /// The question for this signature.
    async fn request(&self, ask: &Ask, fetch: &Fetch) -> Result<Request<Bytes>, Failure>;
    /// What may be the signature, in the body of a good answer. Each is tried.
    fn signatures(&self, answer: &[u8]) -> Result<Vec<Vec<u8>>, Failure>;
    /// What an answer with another status than 200 means.
    fn refused(&self, answer: &Response<Bytes>) -> Failure {
        failure::refused(answer.status(), answer.body())
    }
    /// The signature in the body of a good answer, checked. `None`: it is another's, or over something else.
    fn read(&self, ask: &Ask, of: Account, answer: &[u8]) -> Result<Option<Signature>, Failure> {
        Ok(ask.find(of, &self.signatures(answer)?))
    }
    /// What its requests are made with, when that can change. A request names the set that it was made with
    /// in an extension ([`Used`]).
    fn credentials(&self) -> Option<&dyn Overlap> {
        None
    }
    /// Does it choose nonce and validity itself?
    fn chooses_nonce(&self) -> bool {
        false
    }
    /// Asks whose key it has, without signing anything. `None`: it cannot be asked that.
    async fn owner(&self, _fetch: &Fetch) -> Option<Result<String, Failure>> {
        None
    }
}

/// A wallet that asks.
struct Remote<S> {
    kind: &'static str,
    name: String,
    networks: Vec<Network>,
    account: Account,
    signer: S,
    fetch: Option<Fetch>,
    turns: Semaphore,
    breaker: Breaker,
}

/// What every remote wallet is made of, besides its signer.
pub(super) struct Place {
    account: Account,
    name: String,
    networks: Vec<Network>,
    fetch: Option<Fetch>,
}

impl Place {
    /// What an opening says, without the section.
    ///
    /// # Errors
    /// When it lists a network that this account does not pay on.
    pub(super) fn of(opening: &Opening, account: Account) -> Result<Self, SectionError> {
        let (pays, of, only): (fn(&Network) -> bool, _, _) = match account {
            Account::Evm(_) => (|n| n.chain_id().is_some(), "an EVM", "eip155"),
            Account::Solana(_) => (Network::is_solana, "a Solana", "solana"),
        };
        if let Some(other) = opening.networks.iter().find(|n| !pays(n)) {
            let problem = format!("`{other}` cannot be paid on with {of} address");
            let error = opening.section.error(problem);
            return Err(error.hint(format!("list `{only}:…` networks only")));
        }
        Ok(Self {
            account,
            name: opening.name.clone(),
            networks: opening.networks.clone(),
            fetch: opening.fetch.clone(),
        })
    }

    pub(super) fn wallet(
        self,
        kind: &'static str,
        signer: impl Signer + 'static,
    ) -> Arc<dyn Wallet> {
        Arc::new(Remote {
            kind,
            name: self.name,
            networks: self.networks,
            account: self.account,
            signer,
            fetch: self.fetch,
            turns: Semaphore::new(AT_ONCE),
            breaker: Breaker::default(),
        })
    }
}

/// `address:` of a remote wallet: what pays, and what every signature is checked against.
pub(super) fn address(section: Section) -> Result<Address, SectionError> {
    section.parse()
}

/// `address:` of a wallet that pays on either kind of chain.
pub(super) fn account(section: Section) -> Result<Account, SectionError> {
    match section.clone().text()?.starts_with("0x") {
        true => section.parse().map(Account::Evm),
        false => section.parse().map(Account::Solana),
    }
}

/// `url:` of a remote wallet, without user and password: others may read the file it is in.
pub(super) fn url(section: Section) -> Result<Uri, SectionError> {
    let uri: Option<Uri> = section.clone().text()?.parse().ok();
    let fits = |uri: &Uri| {
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        let plain = |a: &http::uri::Authority| {
            let ported = port(a, 443).is_some();
            ported && !a.host().is_empty() && !a.as_str().contains('@')
        };
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

impl<S: Signer> Remote<S> {
    async fn obtain(&self, ask: Result<Ask, Failure>) -> Result<Signature, Failure> {
        let fetch = self.fetch.as_ref().ok_or(Failure::Unasked)?;
        let resting = |secs| Failure::Resting { secs };
        let turn = timeout(TURN, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(Failure::Busy(AT_ONCE));
        };
        let leave = self.breaker.enter(Instant::now()).map_err(resting)?;
        let obtained = match ask {
            Ok(ask) => self.ask(&ask, fetch).await,
            Err(failure) => Err(failure),
        };
        leave.done(match &obtained {
            Ok(_) => Health::Well,
            Err(Failure::Unmade(_)) => Health::Unseen,
            Err(failure) if failure.is_of_signer() => Health::Ill,
            Err(_) => Health::Well,
        });
        obtained
    }

    /// Once; and again with other credentials, as long as it is only those that are not accepted: then nothing
    /// was signed.
    async fn ask(&self, ask: &Ask, fetch: &Fetch) -> Result<Signature, Failure> {
        let (mut first, mut tried) = (None, vec![]);
        loop {
            let request = self.signer.request(ask, fetch).await?;
            let used = request.extensions().get::<Used>().copied();
            let began: Instant = *first.get_or_insert_with(Instant::now);
            let left = TRYING_ALL.saturating_sub(began.elapsed());
            let obtained = self.exchange(request, ask, fetch, left).await;
            let Some((credentials, used)) = self.signer.credentials().zip(used) else {
                return obtained;
            };
            match &obtained {
                Ok(_) => credentials.accepted(used),
                Err(Failure::Refused { why, .. }) if *why == Why::Credentials => {
                    tried.push(used);
                    let more = began.elapsed() < TRYING && tried.len() < TRIES;
                    if credentials.refused(used, &tried) && more {
                        continue;
                    }
                }
                Err(_) => {}
            }
            return obtained;
        }
    }

    async fn exchange(
        &self,
        request: Request<Bytes>,
        ask: &Ask,
        fetch: &Fetch,
        left: Duration,
    ) -> Result<Signature, Failure> {
        let answer = fetch.send(request, DEADLINE.min(left), ANSWER_MAX).await;
        let answer = answer.map_err(unanswered)?;
        if answer.status() != StatusCode::OK {
            return Err(self.signer.refused(&answer));
        }
        let found = self.signer.read(ask, self.account, answer.body())?;
        found.ok_or_else(|| Failure::Foreign(self.account.to_string()))
    }

    async fn signed(
        &self,
        instruction: &Instruction,
        purpose: Option<&Purpose>,
    ) -> Result<Signature, WalletError> {
        let ours = self.is_ours(instruction);
        ours.map_err(|detail| WalletError::Declined(detail.into()))?;
        let obtained = self.obtain(Ask::of(instruction, purpose)).await;
        let signature = obtained.map_err(|failure| {
            // Agents are told only that there is no signature; the operator must know why.
            tracing::warn!(wallet = %self.name, kind = self.kind, "no signature: {failure}");
            failure.told()
        })?;
        if let Signature::Authorization { transfer, .. } = &signature {
            sleep(unripe(transfer.valid_after, clock::wall().secs())).await;
        }
        Ok(signature)
    }

    /// Was it decided for this wallet, on a network of its list?
    fn is_ours(&self, instruction: &Instruction) -> Result<(), &'static str> {
        let (ours, listed) = match (instruction, self.account) {
            (Instruction::Tokens { network, transfer }, Account::Solana(address)) => (
                transfer.terms().owner == address,
                self.networks.contains(network),
            ),
            (_, Account::Evm(address)) => {
                let chain = instruction.chain_id();
                let listed = chain.is_some() && self.networks.iter().any(|n| n.chain_id() == chain);
                (instruction.from() == Some(address), listed)
            }
            (_, Account::Solana(_)) => (false, false),
        };
        match (ours, listed) {
            (false, _) => Err("it is not the payer's wallet"),
            (true, false) => Err("the network is not on its list"),
            (true, true) => Ok(()),
        }
    }
}

/// How long an authorization that only now begins is kept back: tokens take it in a block after its beginning.
fn unripe(valid_after: u64, now: u64) -> Duration {
    let ripe = valid_after.saturating_add(BLOCK);
    Duration::from_secs(ripe.saturating_sub(now).min(UNRIPE_MAX))
}

/// A signature of an EVM account, as most signers write it.
pub(super) fn hex_signature(text: &str) -> Result<Vec<Vec<u8>>, Failure> {
    let bytes = bytes(text).ok_or(Failure::Unreadable("no signature of 65 bytes"))?;
    Ok(vec![bytes.to_vec()])
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
        listed.then(|| self.account.to_string())
    }

    fn networks(&self) -> &[Network] {
        &self.networks
    }

    /// Whoever holds the key is asked for EIP-712 typed data, or for the message of a Solana transaction.
    fn signs(&self, instruction: &Instruction) -> bool {
        match instruction {
            Instruction::Transfer(_) => matches!(self.account, Account::Evm(_)),
            Instruction::Permit(_) => {
                matches!(self.account, Account::Evm(_)) && !self.signer.chooses_nonce()
            }
            Instruction::Tokens { .. } => matches!(self.account, Account::Solana(_)),
            Instruction::Tempo(_) | Instruction::Invoice { .. } => false,
        }
    }

    async fn sign(&self, instruction: &Instruction) -> Result<Signature, WalletError> {
        self.signed(instruction, None).await
    }

    async fn sign_for(
        &self,
        instruction: &Instruction,
        purpose: &Purpose,
    ) -> Result<Signature, WalletError> {
        self.signed(instruction, Some(purpose)).await
    }

    fn chooses_nonce(&self) -> bool {
        self.signer.chooses_nonce()
    }

    async fn probe(&self) -> Probe {
        let Some(fetch) = &self.fetch else {
            return Probe::Untold;
        };
        match self.signer.owner(fetch).await {
            None => Probe::Untold,
            Some(Ok(owner)) if owner.eq_ignore_ascii_case(&self.account.to_string()) => {
                Probe::Right
            }
            Some(Ok(owner)) => Probe::Wrong(format!(
                "its key is that of {owner}, and `address` says {}",
                self.account
            )),
            Some(Err(failure)) => Probe::Unanswered(failure.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
