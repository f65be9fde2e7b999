//! Wallets of kind `agentcore`: a payment instrument at Amazon's Bedrock AgentCore, asked by ProcessPayment.
//! It signs for an embedded wallet, within the limits of its own payment session, and chooses nonce and
//! validity itself: so its authorization is compared with our terms, member by member, before it is used.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::ask::Paying;
use super::aws::credentials::Source;
use super::aws::{self, Call};
use super::credentials::{self, Credentials, Named, Overlap, is_visible};
use super::failure;
use super::remote::{self, ANSWER_MAX, Account, Ask, DEADLINE, Failure, Place, Signer, unmade};
use super::{Opening, Wallet, WalletKind};
use crate::clock::{self, Timestamp};
use crate::fetch::Fetch;
use crate::payment::{Instruction, PaymentId, Signature};
use crate::section::{Section, SectionError};

pub mod answer;
mod refusal;

/// The kind, as in the configuration.
pub(super) const KIND: WalletKind = WalletKind {
    kind: "agentcore",
    remote: true,
    check: |section| settings(section, Path::new("")).map(drop),
    open,
};

/// Its name in a signature, and in its host.
const SERVICE: &str = "bedrock-agentcore";

/// Seconds by which its authorization ends before our hold could: it counts from when it is asked, by its clock.
const MARGIN: u64 = 10;

/// What a payment on Solana says of its time. It is dead with its block.
const SOLANA_SECONDS: u64 = 60;

/// The call that signs, and the one that tells of an instrument.
const PROCESS: &str = "/payments/processPayment";
const INSTRUMENT: &str = "/payments/getPaymentInstrument";

/// The field that says whose instrument it is.
const USER: &str = "x-amzn-bedrock-agentcore-payments-user-id";

/// How the ids of sessions begin.
const SESSION: &str = "payment-session-";

/// What its API takes at most: of a challenge, of an ARN, of a user's name, of an id.
const CHALLENGE_MAX: usize = 16_384;
const ARN_MAX: usize = 2048;
const USER_MAX: usize = 120;
const ID_MAX: usize = 64;

struct Settings {
    region: String,
    url: String,
    account: Account,
    names: Names,
    session: Chosen,
    place: aws::Where,
}

/// Whose instrument pays.
struct Names {
    manager: String,
    user: String,
    instrument: String,
}

/// Where the session's id is. Sessions end after hours, and the next one has another.
enum Chosen {
    Id(String),
    File(Named),
}

/// The session that limits what it signs.
enum Session {
    Id(String),
    /// Read again when it changes.
    File(Box<Credentials<Zeroizing<String>, 1>>),
}

impl Session {
    fn open(chosen: Chosen) -> Result<Self, SectionError> {
        Ok(match chosen {
            Chosen::Id(id) => Self::Id(id),
            Chosen::File(file) => Self::File(Box::new(Credentials::open([file], |[id]| {
                let fits = id.len() <= ID_MAX && id.starts_with(SESSION) && is_visible(id);
                let why = "expected the id of a payment session: payment-session-…";
                fits.then(|| id.clone()).ok_or((0, why))
            })?)),
        })
    }

    fn now(&self) -> Zeroizing<String> {
        match self {
            Self::Id(id) => Zeroizing::new(id.clone()),
            Self::File(file) => (*file.now()).clone(),
        }
    }
}

struct AgentCore {
    region: String,
    url: String,
    account: Account,
    names: Names,
    session: Session,
    source: Source,
}

fn settings(mut section: Section, base: &Path) -> Result<Settings, SectionError> {
    let region = aws::region(section.need("region")?)?;
    let names = Names {
        manager: name(section.need("payment_manager_arn")?, "arn:", ARN_MAX)?,
        user: name(section.need("user_id")?, "", USER_MAX)?,
        instrument: name(
            section.need("instrument_id")?,
            "payment-instrument-",
            ID_MAX,
        )?,
    };
    let session = match (section.take("session_id"), section.take("session_id_file")) {
        (Some(id), None) => Chosen::Id(name(id, SESSION, ID_MAX)?),
        (None, Some(file)) => Chosen::File(credentials::named(file, base)?),
        (Some(_), Some(file)) => return Err(file.error("it has a `session_id` already")),
        (None, None) => return Err(section.error("`session_id` or `session_id_file` is missing")),
    };
    let account = remote::account(section.need("address")?)?;
    let url = aws::url(section.take("url"), SERVICE, &region)?;
    let place = aws::place(&mut section, base)?;
    section.finish()?;
    Ok(Settings {
        url,
        region,
        account,
        names,
        session,
        place,
    })
}

/// A name of its own. Each begins in its way, so that they are not mixed up. It may be in a header field.
fn name(section: Section, begins: &str, most: usize) -> Result<String, SectionError> {
    let text = section.clone().text()?;
    let fits = text.len() <= most && is_visible(&text);
    match fits && text.starts_with(begins) {
        true => Ok(text),
        false if begins.is_empty() => Err(section.expected("a name without spaces")),
        false => Err(section.expected(&format!("a name that begins with {begins}"))),
    }
}

fn open(opening: Opening) -> Result<Arc<dyn Wallet>, SectionError> {
    let settings = settings(opening.section.clone(), &opening.base)?;
    let place = Place::of(&opening, settings.account)?;
    let source = Source::here(&opening.section, settings.place, &settings.region)?;
    let signer = AgentCore {
        region: settings.region,
        url: settings.url,
        account: settings.account,
        names: settings.names,
        session: Session::open(settings.session)?,
        source,
    };
    Ok(place.wallet(KIND.kind, signer))
}

/// ProcessPayment for this payment. Asked twice with one token, it signs once.
fn question(
    names: &Names,
    session: &str,
    paying: &Paying,
    now: Timestamp,
) -> Result<Value, Failure> {
    let (kind, input) = match &paying.challenge {
        Some(challenge) if challenge.len() > CHALLENGE_MAX => {
            return Err(unmade("the challenge is longer than it takes"));
        }
        Some(challenge) => (
            "MPP",
            json!({ "mpp": { "version": "1", "wwwAuthenticateHeaders": [challenge] } }),
        ),
        None => (
            "CRYPTO_X402",
            json!({ "cryptoX402": { "version": "2", "payload": terms(&paying.instruction, now)? } }),
        ),
    };
    Ok(json!({
        "clientToken": token(paying.id),
        "paymentManagerArn": names.manager,
        "paymentSessionId": session,
        "paymentInstrumentId": names.instrument,
        "paymentType": kind,
        "paymentInput": input,
    }))
}

/// The terms as a merchant would offer them.
fn terms(instruction: &Instruction, now: Timestamp) -> Result<Value, Failure> {
    match instruction {
        Instruction::Transfer(transfer) => {
            let left = transfer.valid_before.saturating_sub(now.secs());
            let seconds = left.checked_sub(MARGIN).filter(|seconds| *seconds > 0);
            let seconds = seconds.ok_or_else(|| unmade("the authorization would end too soon"))?;
            let domain = &transfer.domain;
            Ok(json!({
                "scheme": "exact",
                "network": format!("eip155:{}", domain.chain_id),
                "amount": transfer.value.to_string(),
                "asset": domain.contract.to_string(),
                "payTo": transfer.to.to_string(),
                "maxTimeoutSeconds": seconds,
                "extra": { "name": domain.name, "version": domain.version },
            }))
        }
        Instruction::Tokens { network, transfer } => {
            let terms = transfer.terms();
            Ok(json!({
                "scheme": "exact",
                "network": network.to_string(),
                "amount": terms.amount.to_string(),
                "asset": terms.mint.to_string(),
                "payTo": terms.payee.to_string(),
                "maxTimeoutSeconds": SOLANA_SECONDS,
                "extra": { "feePayer": terms.fee_payer.to_string(), "memo": terms.memo },
            }))
        }
        Instruction::Permit(_) | Instruction::Tempo(_) | Instruction::Invoice { .. } => {
            Err(unmade("it makes no such payments"))
        }
    }
}

/// One payment has one, whatever happens to it here.
fn token(id: PaymentId) -> String {
    let text = format!("farepass payment 1 {id}");
    hex::encode(Sha256::digest(text))
}

/// What it tells of an instrument.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    payment_instrument: Instrument,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Instrument {
    payment_instrument_details: Details,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    embedded_crypto_wallet: Embedded,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Embedded {
    wallet_address: String,
}

impl AgentCore {
    async fn call(
        &self,
        path: &str,
        asked: &Value,
        fetch: &Fetch,
    ) -> Result<Request<Bytes>, Failure> {
        let keys = self.source.now(fetch).await?;
        let url = format!("{}{path}", self.url);
        let call = Call {
            service: SERVICE,
            region: &self.region,
            url: &url,
            content_type: "application/json",
            headers: vec![(USER, self.names.user.clone())],
            body: serde_json::to_vec(asked).map_err(unmade)?,
        };
        call.signed(&keys, clock::wall())
    }

    /// The address of the instrument.
    async fn instrument(&self, fetch: &Fetch) -> Result<String, Failure> {
        let asked = json!({
            "paymentManagerArn": self.names.manager,
            "paymentInstrumentId": self.names.instrument,
        });
        let request = self.call(INSTRUMENT, &asked, fetch).await?;
        let answer = fetch.send(request, DEADLINE, ANSWER_MAX).await;
        let answer = answer.map_err(failure::unanswered)?;
        if answer.status() != StatusCode::OK {
            return Err(refusal::refused(&answer));
        }
        let told: Option<Told> = serde_json::from_slice(answer.body()).ok();
        let told = told.map(|told| told.payment_instrument.payment_instrument_details);
        let told = told.map(|details| details.embedded_crypto_wallet.wallet_address);
        let plain =
            |text: &String| text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric());
        told.filter(plain)
            .ok_or(Failure::Unreadable("no `walletAddress` in it"))
    }
}

#[async_trait]
impl Signer for AgentCore {
    async fn request(&self, ask: &Ask, fetch: &Fetch) -> Result<Request<Bytes>, Failure> {
        let session = self.session.now();
        let asked = question(&self.names, &session, ask.paying()?, clock::wall())?;
        self.call(PROCESS, &asked, fetch).await
    }

    fn read(&self, ask: &Ask, _: Account, answer: &[u8]) -> Result<Option<Signature>, Failure> {
        answer::read(ask.paying()?, self.account, answer)
    }

    fn credentials(&self) -> Option<&dyn Overlap> {
        self.source.overlap()
    }

    fn signatures(&self, _: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        // It answers with more than a signature; see `read`.
        Ok(vec![])
    }

    fn refused(&self, answer: &Response<Bytes>) -> Failure {
        refusal::refused(answer)
    }

    fn chooses_nonce(&self) -> bool {
        true
    }

    async fn owner(&self, fetch: &Fetch) -> Option<Result<String, Failure>> {
        Some(self.instrument(fetch).await)
    }
}

#[cfg(test)]
mod tests;
