//! Wallets of kind `privy`: a server wallet at Privy, asked with the app's secret and a signature by the
//! authorization key that owns the wallet.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use serde_json::{Value, json};

use super::credentials::{self, Credentials, Files, Overlap, Texts, is_visible};
use super::remote::{self, Account, Ask, Failure, Place, Signer, secret_value, unmade};
use super::{Opening, Wallet, WalletKind, canonical, told};
use crate::clock;
use crate::fetch::Fetch;
use crate::payment::Signature;
use crate::section::{Section, SectionError};

/// The kind, as in the configuration.
pub(super) const KIND: WalletKind = WalletKind {
    kind: "privy",
    remote: true,
    check: |section| settings(section, Path::new("")).map(drop),
    open,
};

/// Seconds after which a request is no longer taken: nobody waits so long for its answer.
const LIFE: u64 = 60;

/// What a key may begin with, as the dashboard shows it.
const PREFIXES: [&str; 2] = ["wallet-auth:", "wallet-api:"];

/// Where a wallet's calls go, below its page.
const CALLS: &str = "/rpc";

const APP_ID: &str = "privy-app-id";
const IDEMPOTENCY: &str = "privy-idempotency-key";
const EXPIRY: &str = "privy-request-expiry";
const AUTHORIZED: &str = "privy-authorization-signature";

struct Settings {
    url: String,
    account: Account,
    files: Files,
}

/// Which app asks, and what shows it. They have no `Debug`.
struct Keys {
    app: Zeroizing<String>,
    secret: Zeroizing<String>,
    authorization: EcdsaKeyPair,
}

struct Privy {
    /// Of the wallet's calls, in full: it is signed too.
    url: String,
    keys: Credentials<Keys>,
}

fn settings(mut section: Section, base: &Path) -> Result<Settings, SectionError> {
    let url = remote::secure_base(section.need("url")?)?;
    let id = wallet_id(section.need("wallet_id")?)?;
    let account = remote::account(section.need("address")?)?;
    let files = [
        credentials::named(section.need("app_id_file")?, base)?,
        credentials::named(section.need("app_secret_file")?, base)?,
        credentials::named(section.need("authorization_key_file")?, base)?,
    ];
    section.finish()?;
    Ok(Settings {
        url: format!("{url}/v1/wallets/{id}{CALLS}"),
        account,
        files,
    })
}

/// It becomes a part of a path.
fn wallet_id(section: Section) -> Result<String, SectionError> {
    let id = section.clone().text()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    match !id.is_empty() && id.len() <= 64 && id.bytes().all(plain) {
        true => Ok(id),
        false => Err(section.expected("the id of a wallet: letters and digits")),
    }
}

fn open(opening: Opening) -> Result<Arc<dyn Wallet>, SectionError> {
    let settings = settings(opening.section.clone(), &opening.base)?;
    let place = Place::of(&opening, settings.account)?;
    let signer = Privy {
        url: settings.url,
        keys: Credentials::open(settings.files, keys)?,
    };
    Ok(place.wallet(KIND.kind, signer))
}

fn keys([app, secret, authorization]: &Texts) -> Result<Keys, (usize, &'static str)> {
    if !is_visible(app) || app.contains(':') {
        return Err((0, "expected the id of an app"));
    }
    if !is_visible(secret) {
        return Err((1, "expected the secret of an app"));
    }
    let bare = PREFIXES.iter().find_map(|p| authorization.strip_prefix(p));
    let der = credentials::base64(bare.unwrap_or(authorization));
    let pair = |der: Zeroizing<Vec<u8>>| {
        EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, &der).ok()
    };
    let authorization = der.and_then(pair).ok_or((
        2,
        "expected an authorization key: a P-256 key (PKCS #8) in base64",
    ))?;
    Ok(Keys {
        app: app.clone(),
        secret: secret.clone(),
        authorization,
    })
}

/// The call that asks for a signature: Privy sees all that it signs.
fn call(ask: &Ask) -> Value {
    match ask {
        Ask::Typed { data, .. } => json!({
            "method": "eth_signTypedData_v4",
            "chain_type": "ethereum",
            "params": {
                "typed_data": {
                    "domain": data.domain,
                    "types": data.types,
                    "message": data.message,
                    "primary_type": data.primary_type,
                },
            },
        }),
        Ask::Message { transaction, .. } => json!({
            "method": "signTransaction",
            "chain_type": "solana",
            "params": { "transaction": STANDARD.encode(transaction), "encoding": "base64" },
        }),
    }
}

/// What the authorization key signs: the request, and those of its fields that Privy looks at.
fn payload(url: &str, body: &Value, headers: &[(&str, &str)]) -> String {
    let headers: BTreeMap<_, _> = headers.iter().copied().collect();
    canonical::text(&json!({
        "version": 1,
        "method": "POST",
        "url": url,
        "body": body,
        "headers": headers,
    }))
}

impl Keys {
    fn authorize(&self, payload: &str) -> Result<Zeroizing<String>, Failure> {
        let signature = self
            .authorization
            .sign(&SystemRandom::new(), payload.as_bytes());
        let signature = signature.map_err(|_| unmade("the key does not sign"))?;
        Ok(Zeroizing::new(STANDARD.encode(signature)))
    }

    /// RFC 7617.
    fn basic(&self) -> Zeroizing<String> {
        let plain = Zeroizing::new(format!("{}:{}", *self.app, *self.secret));
        Zeroizing::new(format!("Basic {}", STANDARD.encode(plain.as_bytes())))
    }
}

impl Privy {
    /// The wallet's page: the app's secret alone may see it.
    fn page(&self) -> Result<Request<Bytes>, Failure> {
        let keys = self.keys.now();
        let url = self.url.strip_suffix(CALLS).unwrap_or(&self.url);
        Request::get(url)
            .header(AUTHORIZATION, secret_value(&keys.basic())?)
            .header(APP_ID, keys.app.as_str())
            .body(Bytes::new())
            .map_err(unmade)
    }
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Transaction {
    signed_transaction: String,
    encoding: String,
}

#[derive(Deserialize)]
struct Signed {
    signature: String,
    encoding: String,
}

#[async_trait]
impl Signer for Privy {
    async fn request(&self, ask: &Ask, _: &Fetch) -> Result<Request<Bytes>, Failure> {
        let keys = self.keys.now();
        let body = call(ask);
        let expiry = clock::wall().after_secs(LIFE).0.to_string();
        let key = ask.idempotency_key();
        let headers = [
            (APP_ID, keys.app.as_str()),
            (IDEMPOTENCY, key.as_str()),
            (EXPIRY, expiry.as_str()),
        ];
        let signature = keys.authorize(&payload(&self.url, &body, &headers))?;
        Request::post(&self.url)
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, secret_value(&keys.basic())?)
            .header(APP_ID, keys.app.as_str())
            .header(IDEMPOTENCY, &key)
            .header(EXPIRY, &expiry)
            .header(AUTHORIZED, secret_value(&signature)?)
            .extension(keys.used())
            .body(canonical::text(&body).into())
            .map_err(unmade)
    }

    async fn owner(&self, fetch: &Fetch) -> Option<Result<String, Failure>> {
        Some(told::account(self.page(), fetch).await)
    }

    fn credentials(&self) -> Option<&dyn Overlap> {
        Some(&self.keys)
    }

    fn signatures(&self, answer: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        let answer: Result<Answer<Signed>, _> = serde_json::from_slice(answer);
        match answer {
            Ok(Answer { data }) if data.encoding == "hex" => remote::hex_signature(&data.signature),
            Ok(_) | Err(_) => Err(Failure::Unreadable("no `signature` in hex in it")),
        }
    }

    fn read(&self, ask: &Ask, of: Account, answer: &[u8]) -> Result<Option<Signature>, Failure> {
        match ask {
            Ask::Typed { .. } => Ok(ask.find(of, &self.signatures(answer)?)),
            Ask::Message { .. } => {
                let answer: Result<Answer<Transaction>, _> = serde_json::from_slice(answer);
                match answer {
                    Ok(Answer { data }) if data.encoding == "base64" => {
                        ask.find_in(of, &data.signed_transaction)
                    }
                    Ok(_) | Err(_) => Err(Failure::Unreadable("no transaction in base64")),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
