//! Wallets of kind `cdp`: an account at Coinbase's Developer Platform, asked with two tokens of our own,
//! one by the API key and one by the wallet secret over the very body.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, Uri};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::credentials::{self, Credentials, Files, Overlap, Texts, is_visible};
use super::remote::{self, Account, Ask, Failure, Place, Signer, secret_value, unmade};
use super::{Opening, Wallet, WalletKind, canonical, told};
use crate::clock;
use crate::fetch::Fetch;
use crate::payment::Signature;
use crate::section::{Section, SectionError};

/// The kind, as in the configuration.
pub(super) const KIND: WalletKind = WalletKind {
    kind: "cdp",
    remote: true,
    check: |section| settings(section, Path::new("")).map(drop),
    open,
};

/// Seconds that a token of the API key is good for.
const LIFE: u64 = 120;

/// The field that carries the token of the wallet secret.
const WALLET_AUTH: &str = "x-wallet-auth";

/// The field that makes a request that arrives twice one request.
const IDEMPOTENCY: &str = "x-idempotency-key";

struct Settings {
    base: String,
    account: Account,
    files: Files,
}

/// Who asks, and the two keys that say so. They have no `Debug`.
struct Keys {
    id: Zeroizing<String>,
    api: ApiKey,
    wallet: EcdsaKeyPair,
}

enum ApiKey {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

struct Cdp {
    base: String,
    account: Account,
    keys: Credentials<Keys>,
}

fn settings(mut section: Section, base: &Path) -> Result<Settings, SectionError> {
    let url = remote::secure_base(section.need("url")?)?;
    let account = remote::account(section.need("address")?)?;
    let files = [
        credentials::named(section.need("api_key_id_file")?, base)?,
        credentials::named(section.need("api_key_secret_file")?, base)?,
        credentials::named(section.need("wallet_secret_file")?, base)?,
    ];
    section.finish()?;
    Ok(Settings {
        base: url,
        account,
        files,
    })
}

fn open(opening: Opening) -> Result<Arc<dyn Wallet>, SectionError> {
    let settings = settings(opening.section.clone(), &opening.base)?;
    let place = Place::of(&opening, settings.account)?;
    let signer = Cdp {
        base: settings.base,
        account: settings.account,
        keys: Credentials::open(settings.files, keys)?,
    };
    Ok(place.wallet(KIND.kind, signer))
}

fn keys([id, api, wallet]: &Texts) -> Result<Keys, (usize, &'static str)> {
    if !is_visible(id) {
        return Err((0, "expected the id of an API key"));
    }
    let api = api_key(api).ok_or((
        1,
        "expected the secret of an API key: 64 bytes in base64 (Ed25519), or a P-256 key in PEM",
    ))?;
    let der = credentials::base64(wallet);
    let wallet = der.and_then(|der| p256(&der));
    let wallet = wallet.ok_or((
        2,
        "expected a wallet secret: a P-256 key (PKCS #8) in base64",
    ))?;
    Ok(Keys {
        id: id.clone(),
        api,
        wallet,
    })
}

/// The lines of a PEM file may have been joined by a literal `\n` on the way through a variable.
fn api_key(text: &str) -> Option<ApiKey> {
    if text.starts_with("-----BEGIN") {
        let lines = Zeroizing::new(text.replace("\\n", "\n"));
        let key = PrivateKeyDer::from_pem_slice(lines.as_bytes()).ok()?;
        return p256(key.secret_der()).map(ApiKey::P256);
    }
    let bytes = credentials::base64(text).filter(|b| b.len() == 64)?;
    let (seed, public) = bytes.split_at(32);
    let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public).ok()?;
    Some(ApiKey::Ed25519(pair))
}

fn p256(der: &[u8]) -> Option<EcdsaKeyPair> {
    EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der).ok()
}

#[derive(Serialize)]
struct BearerHeader<'a> {
    alg: &'static str,
    kid: &'a str,
    typ: &'static str,
    nonce: &'a str,
}

#[derive(Serialize)]
struct BearerClaims<'a> {
    sub: &'a str,
    iss: &'static str,
    uris: [&'a str; 1],
    iat: u64,
    nbf: u64,
    exp: u64,
}

#[derive(Serialize)]
struct WalletHeader {
    alg: &'static str,
    typ: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WalletClaims<'a> {
    uris: [&'a str; 1],
    req_hash: String,
    iat: u64,
    nbf: u64,
    jti: &'a str,
}

impl Keys {
    /// Says for two minutes that the API key's owner makes this request.
    fn bearer(&self, what: &str, now: u64, nonce: &str) -> Result<Zeroizing<String>, Failure> {
        let header = BearerHeader {
            alg: match self.api {
                ApiKey::Ed25519(_) => "EdDSA",
                ApiKey::P256(_) => "ES256",
            },
            kid: &self.id,
            typ: "JWT",
            nonce,
        };
        let claims = BearerClaims {
            sub: &self.id,
            iss: "cdp",
            uris: [what],
            iat: now,
            nbf: now,
            exp: now.saturating_add(LIFE),
        };
        let said = unsigned(&header, &claims)?;
        match &self.api {
            ApiKey::Ed25519(pair) => {
                let signature = pair.sign(said.as_bytes());
                Ok(joined(said, signature.as_ref()))
            }
            ApiKey::P256(pair) => es256(said, pair),
        }
    }

    /// Says that the wallet's owner wants this request with this body.
    fn wallet(
        &self,
        what: &str,
        body: &str,
        now: u64,
        jti: &str,
    ) -> Result<Zeroizing<String>, Failure> {
        let header = WalletHeader {
            alg: "ES256",
            typ: "JWT",
        };
        let claims = WalletClaims {
            uris: [what],
            req_hash: hex::encode(Sha256::digest(body)),
            iat: now,
            nbf: now,
            jti,
        };
        es256(unsigned(&header, &claims)?, &self.wallet)
    }
}

/// The first two parts of a token (RFC 7515, section 3.1).
fn unsigned(header: &impl Serialize, claims: &impl Serialize) -> Result<String, Failure> {
    let header = serde_json::to_vec(header).map_err(unmade)?;
    let claims = serde_json::to_vec(claims).map_err(unmade)?;
    let encode = |bytes: Vec<u8>| URL_SAFE_NO_PAD.encode(bytes);
    Ok(format!("{}.{}", encode(header), encode(claims)))
}

fn es256(said: String, pair: &EcdsaKeyPair) -> Result<Zeroizing<String>, Failure> {
    let signature = pair.sign(&SystemRandom::new(), said.as_bytes());
    let signature = signature.map_err(|_| unmade("the key does not sign"))?;
    Ok(joined(said, signature.as_ref()))
}

fn joined(said: String, signature: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(said + "." + &URL_SAFE_NO_PAD.encode(signature))
}

fn random() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(unmade)?;
    Ok(hex::encode(bytes))
}

/// Where it is asked, and what: the platform sees all that it signs.
fn question(account: Account, ask: &Ask) -> (String, String) {
    let (chain, what, body) = match ask {
        Ask::Typed { data, .. } => ("evm", "typed-data", data.value()),
        Ask::Message { transaction, .. } => {
            let transaction = STANDARD.encode(transaction);
            let body = json!({ "transaction": transaction });
            ("solana", "transaction", body)
        }
    };
    let path = format!("/v2/{chain}/accounts/{account}/sign/{what}");
    (path, canonical::text(&body))
}

impl Cdp {
    /// The account's page: the API key alone may see it.
    fn page(&self) -> Result<Request<Bytes>, Failure> {
        let (account, base) = (self.account, &self.base);
        let chain = match account {
            Account::Evm(_) => "evm",
            Account::Solana(_) => "solana",
        };
        let url = format!("{base}/v2/{chain}/accounts/{account}");
        let uri: Uri = url.parse().map_err(unmade)?;
        let host = uri.authority().map_or("", |a| a.as_str());
        let what = format!("GET {host}{}", uri.path());
        let keys = self.keys.now();
        let bearer = keys.bearer(&what, clock::wall().secs(), &random()?)?;
        let bearer = Zeroizing::new(format!("Bearer {}", *bearer));
        let request = Request::get(uri).header(AUTHORIZATION, secret_value(&bearer)?);
        request.body(Bytes::new()).map_err(unmade)
    }
}

#[derive(Deserialize)]
struct Answer {
    signature: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Transaction {
    signed_transaction: String,
}

#[async_trait]
impl Signer for Cdp {
    async fn request(&self, ask: &Ask, _: &Fetch) -> Result<Request<Bytes>, Failure> {
        let (path, body) = question(self.account, ask);
        let url = format!("{}{path}", self.base);
        let uri: Uri = url.parse().map_err(unmade)?;
        let host = uri.authority().map_or("", |a| a.as_str());
        let what = format!("POST {host}{}", uri.path());
        let (keys, now) = (self.keys.now(), clock::wall().secs());
        let bearer = keys.bearer(&what, now, &random()?)?;
        let bearer = Zeroizing::new(format!("Bearer {}", *bearer));
        let wallet = keys.wallet(&what, &body, now, &random()?)?;
        Request::post(uri)
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, secret_value(&bearer)?)
            .header(WALLET_AUTH, secret_value(&wallet)?)
            .header(IDEMPOTENCY, ask.idempotency_key())
            .extension(keys.used())
            .body(body.into())
            .map_err(unmade)
    }

    async fn owner(&self, fetch: &Fetch) -> Option<Result<String, Failure>> {
        Some(told::account(self.page(), fetch).await)
    }

    fn credentials(&self) -> Option<&dyn Overlap> {
        Some(&self.keys)
    }

    fn signatures(&self, answer: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        let answer: Result<Answer, _> = serde_json::from_slice(answer);
        let answer = answer.map_err(|_| Failure::Unreadable("no `signature` in it"))?;
        remote::hex_signature(&answer.signature)
    }

    fn read(&self, ask: &Ask, of: Account, answer: &[u8]) -> Result<Option<Signature>, Failure> {
        match ask {
            Ask::Typed { .. } => Ok(ask.find(of, &self.signatures(answer)?)),
            Ask::Message { .. } => {
                let answer: Result<Transaction, _> = serde_json::from_slice(answer);
                let answer = answer.map_err(|_| Failure::Unreadable("no transaction in base64"))?;
                ask.find_in(of, &answer.signed_transaction)
            }
        }
    }
}

#[cfg(test)]
mod tests;
