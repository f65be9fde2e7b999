//! Wallets of kind `kms`: a key in Amazon's Key Management Service, which signs digests and says nothing of
//! what they are. So all rules are here: there, only who may use the key can be said.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::aws::credentials::Source;
use super::aws::{self, Call};
use super::credentials::Overlap;
use super::failure::Why;
use super::remote::{self, ANSWER_MAX, Account, Ask, DEADLINE, Failure, Place, Signer, unmade};
use super::{Opening, Wallet, WalletKind, failure};
use crate::clock;
use crate::evm::Address;
use crate::fetch::Fetch;
use crate::section::{Section, SectionError};
use crate::solana::Pubkey;

pub mod der;

/// The kind, as in the configuration.
pub(super) const KIND: WalletKind = WalletKind {
    kind: "kms",
    remote: true,
    check: |section| settings(section, Path::new("")).map(drop),
    open,
};

/// The longest name of a key, an ARN.
const KEY_MAX: usize = 2048;

struct Settings {
    key: String,
    region: String,
    url: String,
    account: Account,
    place: aws::Where,
}

struct Kms {
    key: String,
    region: String,
    url: String,
    account: Account,
    source: Source,
}

fn settings(mut section: Section, base: &Path) -> Result<Settings, SectionError> {
    let key = key_id(section.need("key_id")?)?;
    let region = aws::region(section.need("region")?)?;
    let account = remote::account(section.need("address")?)?;
    let url = aws::url(section.take("url"), "kms", &region)?;
    let place = aws::place(&mut section, base)?;
    section.finish()?;
    Ok(Settings {
        key,
        region,
        url: url + "/",
        account,
        place,
    })
}

/// An id, an alias, or the ARN of either.
fn key_id(section: Section) -> Result<String, SectionError> {
    let text = section.clone().text()?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_/:".contains(&b);
    match !text.is_empty() && text.len() <= KEY_MAX && text.bytes().all(fits) {
        true => Ok(text),
        false => Err(section.expected("the id, the alias or the ARN of a key")),
    }
}

fn open(opening: Opening) -> Result<Arc<dyn Wallet>, SectionError> {
    let settings = settings(opening.section.clone(), &opening.base)?;
    let place = Place::of(&opening, settings.account)?;
    let source = Source::here(&opening.section, settings.place, &settings.region)?;
    let signer = Kms {
        key: settings.key,
        region: settings.region,
        url: settings.url,
        account: settings.account,
        source,
    };
    Ok(place.wallet(KIND.kind, signer))
}

impl Kms {
    async fn call(
        &self,
        target: &str,
        body: &Value,
        fetch: &Fetch,
    ) -> Result<Request<Bytes>, Failure> {
        let keys = self.source.now(fetch).await?;
        let call = Call {
            service: "kms",
            region: &self.region,
            url: &self.url,
            content_type: "application/x-amz-json-1.1",
            headers: vec![("x-amz-target", format!("TrentService.{target}"))],
            body: serde_json::to_vec(body).map_err(unmade)?,
        };
        call.signed(&keys, clock::wall())
    }
}

/// What is to be signed, as the service takes it. A digest is signed as it is, whatever hash made it.
fn question(key: &str, ask: &Ask) -> Value {
    let (message, kind, algorithm) = match ask {
        Ask::Typed { digest, .. } => (digest.as_slice(), "DIGEST", "ECDSA_SHA_256"),
        // Not the variant that hashes first: Solana would verify something else.
        Ask::Message { message, .. } => (message.as_slice(), "RAW", "ED25519_SHA_512"),
    };
    json!({
        "KeyId": key,
        "Message": STANDARD.encode(message),
        "MessageType": kind,
        "SigningAlgorithm": algorithm,
    })
}

/// No `Debug`: it can take the money.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Signed {
    signature: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Public {
    public_key: String,
}

#[async_trait]
impl Signer for Kms {
    async fn request(&self, ask: &Ask, fetch: &Fetch) -> Result<Request<Bytes>, Failure> {
        self.call("Sign", &question(&self.key, ask), fetch).await
    }

    fn credentials(&self) -> Option<&dyn Overlap> {
        self.source.overlap()
    }

    fn signatures(&self, answer: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        let unreadable = || Failure::Unreadable("no `Signature` in it");
        let answer: Signed = serde_json::from_slice(answer).map_err(|_| unreadable())?;
        let bytes = STANDARD.decode(answer.signature);
        let bytes = bytes.map_err(|_| unreadable())?;
        match self.account {
            Account::Solana(_) => Ok(vec![bytes]),
            Account::Evm(_) => {
                let rs = der::signature(&bytes);
                let rs = rs.ok_or(Failure::Unreadable("its signature is not in DER"))?;
                // It does not say which of the two points; the address decides.
                Ok([27, 28].map(|v| [&rs[..], &[v]].concat()).to_vec())
            }
        }
    }

    fn refused(&self, answer: &Response<Bytes>) -> Failure {
        refused(answer.status(), answer.body())
    }

    async fn owner(&self, fetch: &Fetch) -> Option<Result<String, Failure>> {
        Some(self.public_key(fetch).await)
    }
}

impl Kms {
    async fn public_key(&self, fetch: &Fetch) -> Result<String, Failure> {
        let asked = json!({ "KeyId": self.key });
        let request = self.call("GetPublicKey", &asked, fetch).await?;
        let answer = fetch.send(request, DEADLINE, ANSWER_MAX).await;
        let answer = answer.map_err(failure::unanswered)?;
        if answer.status() != StatusCode::OK {
            return Err(refused(answer.status(), answer.body()));
        }
        let told: Option<Public> = serde_json::from_slice(answer.body()).ok();
        let spki = told.and_then(|told| STANDARD.decode(told.public_key).ok());
        let key = spki.and_then(|spki| match der::public_key(&spki)? {
            der::Key::Secp256k1(point) => Some(Address::of_public_key(&point).to_string()),
            der::Key::Ed25519(key) => Some(Pubkey(key).to_string()),
        });
        key.ok_or(Failure::Unreadable(
            "no key of secp256k1 (ECC_SECG_P256K1) or Ed25519",
        ))
    }
}

/// The service's own words for why it does not sign. What it answers with is always found before a signature is
/// made, unless it says that something broke inside.
const WORDS: &[(&str, Why)] = &[
    ("AccessDeniedException", Why::Forbidden),
    ("DisabledException", Why::NoWallet),
    ("ExpiredTokenException", Why::Credentials),
    ("IncompleteSignatureException", Why::Credentials),
    ("InvalidGrantTokenException", Why::Rejected),
    ("InvalidKeyUsageException", Why::NoWallet),
    ("InvalidSignatureException", Why::Credentials),
    ("KMSInvalidStateException", Why::NoWallet),
    ("LimitExceededException", Why::TooOften),
    ("MissingAuthenticationTokenException", Why::Credentials),
    ("NotFoundException", Why::NoWallet),
    ("ThrottlingException", Why::TooOften),
    ("UnrecognizedClientException", Why::Credentials),
    ("ValidationException", Why::Rejected),
];

fn refused(status: StatusCode, body: &[u8]) -> Failure {
    #[derive(Deserialize)]
    struct Told {
        #[serde(rename = "__type")]
        kind: String,
    }
    let told: Option<Told> = serde_json::from_slice(body).ok();
    let kind = told.map(|told| told.kind).unwrap_or_default();
    let kind = kind.rsplit('#').next().unwrap_or_default();
    let known = WORDS.iter().find(|(word, _)| *word == kind);
    match known.filter(|_| status.is_client_error()) {
        Some((word, why)) => Failure::Refused {
            why: *why,
            status: status.as_u16(),
            code: format!(", {word}"),
        },
        None => failure::refused(status, body),
    }
}

#[cfg(test)]
mod tests;
