//! Signers elsewhere, as their vendors describe them: they check what they are sent, and sign with a
//! real key. Each can be told to fail in one way.

use std::cell::Cell;
use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair,
    KeyPair as _, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use farepass::solana::{Pubkey, split};
use serde_json::{Value, json};

use super::chain::{self, Domain, Transfer};
use super::http::{Body, Head, read_body, read_head};
use super::permit::PERMIT2;
use super::schema::{self, CDP_SOLANA, PRIVY_SOLANA};

/// How it fails.
#[derive(Clone, Debug, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// A status and a body of its own.
    Answer(u16, String),
    /// Reads the request and says nothing.
    Hang,
    /// Reads the request and hangs up.
    HangUp,
    /// Its clock is an hour ahead, so what it is shown has ended.
    Late,
    /// Signs with another key.
    OtherKey,
    /// Signs another digest.
    OtherDigest,
    /// The signature with the high s.
    HighS,
    /// v is 0 or 1.
    LowV,
    /// v is 29.
    OddV,
    /// 64 bytes.
    Short,
}

/// What is to be signed.
pub(crate) enum Asked {
    Typed(Value),
    Digest([u8; 32]),
    Message(Vec<u8>),
}

/// What a kind of signer asks of its callers, and how it answers.
pub(crate) trait Api: Send + Sync {
    /// What is to be signed, or a status and why.
    fn read(&self, head: &Head, body: &[u8]) -> Result<Asked, (u16, Value)>;
    /// What it tells of itself. Such a question is not counted, and no fault but silence touches it.
    fn told(&self, _head: &Head, _body: &[u8]) -> Option<Value> {
        None
    }
    /// The body that carries a signature.
    fn answer(&self, signature: String) -> Value;
}

/// One request: its head and its body.
pub(crate) type Request = (Head, Vec<u8>);

/// A signer that listens on loopback.
pub(crate) struct Signer {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Request>>>,
    fault: Arc<Mutex<Fault>>,
}

impl Signer {
    pub(crate) fn start(api: impl Api + 'static, key: [u8; 32]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(vec![]));
        let fault = Arc::new(Mutex::new(Fault::None));
        let (kept, chosen, api) = (Arc::clone(&seen), Arc::clone(&fault), Arc::new(api));
        std::thread::spawn(move || {
            // Connections that hang stay open as long as the signer.
            let mut open: Vec<TcpStream> = vec![];
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let Ok(Some(head)) = read_head(&mut reader) else {
                    continue;
                };
                let Body { start: body, .. } = read_body(&head, &mut reader, false).unwrap();
                let fault = chosen.lock().unwrap().clone();
                if let Some(told) = api.told(&head, &body) {
                    if !matches!(fault, Fault::Hang) {
                        reply(&mut stream, 200, &told.to_string());
                    }
                    open.push(stream);
                    continue;
                }
                kept.lock().unwrap().push((head.clone(), body.clone()));
                let ahead = if matches!(fault, Fault::Late) {
                    3600
                } else {
                    0
                };
                AHEAD.with(|by| by.set(ahead));
                let (status, answer) = match fault {
                    Fault::Hang => {
                        open.push(stream);
                        continue;
                    }
                    Fault::HangUp => continue,
                    Fault::Answer(status, text) => (status, text),
                    fault => match api.read(&head, &body) {
                        Ok(asked) => (200, api.answer(signed(asked, key, &fault)).to_string()),
                        Err((status, why)) => (status, why.to_string()),
                    },
                };
                reply(&mut stream, status, &answer);
            }
        });
        Self { port, seen, fault }
    }

    pub(crate) fn fail(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

thread_local! {
    /// How far the clock of the signer that this thread plays is ahead: seconds.
    static AHEAD: Cell<u64> = const { Cell::new(0) };
}

/// The time, as the signer that this thread plays sees it.
pub(crate) fn now() -> u64 {
    super::unix_now() + AHEAD.with(Cell::get)
}

fn reply(stream: &mut TcpStream, status: u16, answer: &str) {
    let length = answer.len();
    // A client that went away is its own affair.
    let _ = write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{answer}"
    );
}

/// The digest of typed data as these terms are understood by a token.
fn digest(typed: &Value, key: [u8; 32]) -> [u8; 32] {
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let permits = typed["primaryType"]
        .as_str()
        .or(typed["primary_type"].as_str());
    let permits = permits == Some("PermitWitnessTransferFrom");
    let fields = typed["types"]["EIP712Domain"].as_array().unwrap().len();
    assert_eq!(fields, if permits { 3 } else { 4 });
    let message = &typed["message"];
    let (form, token) = match permits {
        true => {
            assert_eq!(typed["domain"]["name"], "Permit2");
            let contract = text(&typed["domain"]["verifyingContract"]);
            assert!(contract.eq_ignore_ascii_case(PERMIT2));
            ("permit2Authorization", &message["permitted"]["token"])
        }
        false => ("authorization", &typed["domain"]["verifyingContract"]),
    };
    let domain = Domain {
        name: text(&typed["domain"]["name"]),
        version: typed["domain"]["version"]
            .as_str()
            .unwrap_or_default()
            .into(),
        chain: typed["domain"]["chainId"].as_u64().unwrap(),
        token: text(token),
    };
    let mut message = message.clone();
    if permits {
        // Who signs is in no member: the signature says it.
        message["from"] = json!(chain::payer(&key));
    }
    let payload = json!({ "payload": { form: message, "signature": "" } });
    Transfer::of(&payload).unwrap().digest(&domain).unwrap()
}

/// The signature, hexadecimal.
fn signed(asked: Asked, mut key: [u8; 32], fault: &Fault) -> String {
    let mut digest = match asked {
        Asked::Typed(typed) => digest(&typed, key),
        Asked::Digest(digest) => digest,
        Asked::Message(mut message) => {
            match fault {
                Fault::OtherKey => key[31] ^= 1,
                Fault::OtherDigest => message[0] ^= 1,
                _ => {}
            }
            let pair = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&key).unwrap();
            return format!("0x{}", hex::encode(pair.sign(&message)));
        }
    };
    match fault {
        Fault::OtherKey => key[31] ^= 1,
        Fault::OtherDigest => digest[0] ^= 1,
        _ => {}
    }
    let mut bytes = chain::sign(&key, digest).to_vec();
    match fault {
        Fault::HighS => mirror(&mut bytes),
        Fault::LowV => bytes[64] -= 27,
        Fault::OddV => bytes[64] = 29,
        Fault::Short => bytes.truncate(64),
        _ => {}
    }
    format!("0x{}", hex::encode(bytes))
}

/// The order of the curve minus s, with the other parity.
fn mirror(signature: &mut [u8]) {
    const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    let order = hex::decode(ORDER).unwrap();
    let mut borrow = 0;
    for at in (0..32).rev() {
        let left = i32::from(order[at]) - i32::from(signature[32 + at]) - borrow;
        borrow = i32::from(left < 0);
        signature[32 + at] = u8::try_from(left.rem_euclid(256)).unwrap();
    }
    signature[64] = 55 - signature[64];
}

/// A web3signer with one key.
pub(crate) struct Web3signer {
    pub(crate) address: String,
}

impl Api for Web3signer {
    fn read(&self, head: &Head, body: &[u8]) -> Result<Asked, (u16, Value)> {
        let asked: Value = serde_json::from_slice(body).unwrap();
        let wrong = |code: i64, message: &str| {
            let error = json!({ "code": code, "message": message });
            Err((
                200,
                json!({ "jsonrpc": "2.0", "id": asked["id"], "error": error }),
            ))
        };
        if head.first != "POST /sign HTTP/1.1"
            || head.one("content-type") != Some("application/json")
        {
            return Err((404, Value::Null));
        }
        if asked["jsonrpc"] != "2.0" || asked["method"] != "eth_signTypedData" {
            return wrong(-32601, "Method not found");
        }
        if asked["params"][0].as_str() != Some(&self.address.to_lowercase()) {
            return wrong(-32000, "Signing from is not an unlocked account");
        }
        let typed = asked["params"][1].as_str().unwrap();
        Ok(Asked::Typed(serde_json::from_str(typed).unwrap()))
    }

    fn told(&self, _: &Head, body: &[u8]) -> Option<Value> {
        let asked: Value = serde_json::from_slice(body).ok()?;
        let answer = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": [&self.address] });
        (asked["method"] == "eth_accounts").then_some(answer)
    }

    fn answer(&self, signature: String) -> Value {
        json!({ "jsonrpc": "2.0", "id": 1, "result": signature })
    }
}

/// A refusal of credentials.
fn no() -> Value {
    json!({ "error": "no", "code": "unauthorized" })
}

/// A transaction of Solana with the signature of this account in its place.
pub(crate) fn signed_by(transaction: &[u8], account: &str, signature: &str) -> String {
    let signature = hex::decode(signature.strip_prefix("0x").unwrap()).unwrap();
    let account = account.parse::<Pubkey>().unwrap().0;
    let mut whole = transaction.to_vec();
    let (signatures, message) = split(transaction).unwrap();
    let mut accounts = message[5..].chunks(32).take(signatures.len());
    // One that is not asked to sign puts it where the owner's should be.
    let place = accounts.position(|one| one == account).unwrap_or(1);
    let mut places = whole[1..].chunks_mut(64);
    places.nth(place).unwrap().copy_from_slice(&signature);
    STANDARD.encode(whole)
}

/// What is to be signed of a transaction that nobody has signed.
pub(crate) fn unsigned(transaction: &[u8]) -> Asked {
    let (signatures, message) = split(transaction).unwrap();
    assert!(signatures.iter().all(|signature| *signature == [0; 64]));
    Asked::Message(message.to_vec())
}

/// An account at Coinbase's platform. It verifies both tokens with the public keys.
pub(crate) struct Cdp {
    pub(crate) address: String,
    /// The newest transaction of Solana.
    pub(crate) transaction: Mutex<Vec<u8>>,
    pub(crate) id: String,
    /// P-256, uncompressed points.
    pub(crate) api: Vec<u8>,
    pub(crate) wallet: Vec<u8>,
}

impl Api for Cdp {
    fn read(&self, head: &Head, body: &[u8]) -> Result<Asked, (u16, Value)> {
        let wrong = |status: u16, kind: &str| {
            Err((status, json!({ "errorType": kind, "errorMessage": "no" })))
        };
        let evm = self.address.starts_with("0x");
        let (chain, what) = if evm {
            ("evm", "typed-data")
        } else {
            ("solana", "transaction")
        };
        let path = format!("/platform/v2/{chain}/accounts/{}/sign/{what}", self.address);
        if !head
            .first
            .eq_ignore_ascii_case(&format!("POST {path} HTTP/1.1"))
        {
            return wrong(404, "not_found");
        }
        let (_, path) = head.first.split_once(' ').unwrap();
        let path = path.split(' ').next().unwrap();
        let what = json!([format!("POST {}{path}", head.one("host").unwrap())]);
        let typed: Value = serde_json::from_slice(body).unwrap();
        let problems = match evm {
            true => schema::problems(schema::CDP, "EIP712Message", &typed),
            false => schema::problems(CDP_SOLANA, "SignSolanaTransactionRequest", &typed),
        };
        assert_eq!(problems, Vec::<String>::new());
        let bearer = head
            .one("authorization")
            .and_then(|v| v.strip_prefix("Bearer "));
        let auth = head.one("x-wallet-auth");
        let Some(((api_head, api), (_, wallet))) = bearer
            .and_then(|t| token(t, &self.api))
            .zip(auth.and_then(|t| token(t, &self.wallet)))
        else {
            return wrong(401, "unauthorized");
        };
        let now = now();
        let fresh = |from: &Value, to: u64| from.as_u64().is_some_and(|f| f <= now && now < to);
        let right = api["sub"] == *self.id
            && api_head["kid"] == *self.id
            && api["iss"] == "cdp"
            && api["uris"] == what
            && wallet["uris"] == what
            && api_head["nonce"].as_str().is_some_and(|n| n.len() == 32)
            && fresh(&api["nbf"], api["exp"].as_u64().unwrap())
            && api["exp"].as_u64().unwrap() <= now + 120
            && fresh(&wallet["nbf"], now + 1)
            && wallet["jti"].is_string()
            && wallet["exp"].is_null()
            && head
                .one("x-idempotency-key")
                .is_some_and(|key| key.len() == 64)
            && wallet["reqHash"] == hex::encode(super::sha256(typed.to_string().as_bytes()));
        match right {
            true if evm => Ok(Asked::Typed(typed)),
            true => {
                let transaction = STANDARD.decode(typed["transaction"].as_str().unwrap());
                let transaction = transaction.unwrap();
                self.transaction.lock().unwrap().clone_from(&transaction);
                Ok(unsigned(&transaction))
            }
            false => wrong(401, "unauthorized"),
        }
    }

    fn told(&self, head: &Head, _: &[u8]) -> Option<Value> {
        let chain = if self.address.starts_with("0x") {
            "evm"
        } else {
            "solana"
        };
        let path = format!("/platform/v2/{chain}/accounts/{}", self.address);
        let (_, asked) = head.first.strip_suffix(" HTTP/1.1")?.split_once("GET ")?;
        if !asked.eq_ignore_ascii_case(&path) {
            return Some(json!({ "errorType": "not_found", "errorMessage": "no" }));
        }
        let bearer = head.one("authorization")?.strip_prefix("Bearer ")?;
        let what = json!([format!("GET {}{asked}", head.one("host").unwrap())]);
        let right = token(bearer, &self.api)
            .is_some_and(|(_, api)| api["uris"] == what && api["sub"] == *self.id);
        let account = json!({ "address": self.address, "createdAt": "2026-11-01T00:00:00Z" });
        Some(if right { account } else { no() })
    }

    fn answer(&self, signature: String) -> Value {
        if self.address.starts_with("0x") {
            return json!({ "signature": signature });
        }
        let transaction = self.transaction.lock().unwrap().clone();
        let signed = signed_by(&transaction, &self.address, &signature);
        let answer = json!({ "signedTransaction": signed });
        let problems = schema::problems(CDP_SOLANA, "SignSolanaTransactionResponse", &answer);
        assert_eq!(problems, Vec::<String>::new());
        answer
    }
}

/// A server wallet at Privy. It verifies the app's secret and the signature of the wallet's owner.
pub(crate) struct Privy {
    pub(crate) wallet: String,
    pub(crate) address: String,
    /// The newest transaction of Solana.
    pub(crate) transaction: Mutex<Vec<u8>>,
    pub(crate) app: String,
    pub(crate) secret: String,
    /// P-256, an uncompressed point.
    pub(crate) owner: Vec<u8>,
}

impl Api for Privy {
    fn read(&self, head: &Head, body: &[u8]) -> Result<Asked, (u16, Value)> {
        let wrong = |status: u16, code: &str| Err((status, json!({ "error": "no", "code": code })));
        let path = format!("/v1/wallets/{}/rpc", self.wallet);
        if head.first != format!("POST {path} HTTP/1.1") {
            return wrong(404, "not_found");
        }
        let asked: Value = serde_json::from_slice(body).unwrap();
        let evm = self.address.starts_with("0x");
        let problems = match evm {
            true => schema::problems(schema::PRIVY, "EthereumSignTypedDataRpcInput", &asked),
            false => schema::problems(PRIVY_SOLANA, "SolanaSignTransactionRpcInput", &asked),
        };
        assert_eq!(problems, Vec::<String>::new());
        let basic = STANDARD.encode(format!("{}:{}", self.app, self.secret));
        let (app, expiry) = (head.one("privy-app-id"), head.one("privy-request-expiry"));
        // Its members are in the canonical order already.
        let key = head.one("privy-idempotency-key");
        let signed = json!({
            "body": asked,
            "headers": {
                "privy-app-id": app,
                "privy-idempotency-key": key,
                "privy-request-expiry": expiry,
            },
            "method": "POST",
            "url": format!("http://{}{path}", head.one("host").unwrap()),
            "version": 1,
        });
        let signature = head
            .one("privy-authorization-signature")
            .unwrap_or_default();
        let signature = STANDARD.decode(signature).unwrap_or_default();
        let now = now() * 1000;
        let expiry: u64 = expiry.and_then(|e| e.parse().ok()).unwrap_or_default();
        let right = app == Some(&self.app)
            && key.is_some_and(|key| key.len() == 64)
            && head.one("authorization") == Some(&format!("Basic {basic}"))
            && (now..now + 62_000).contains(&expiry)
            && UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.owner)
                .verify(signed.to_string().as_bytes(), &signature)
                .is_ok();
        if !right {
            return wrong(401, "unauthorized");
        }
        if !evm {
            let transaction = STANDARD.decode(asked["params"]["transaction"].as_str().unwrap());
            let transaction = transaction.unwrap();
            self.transaction.lock().unwrap().clone_from(&transaction);
            return Ok(unsigned(&transaction));
        }
        let mut typed = asked["params"]["typed_data"].clone();
        typed["primaryType"] = typed["primary_type"].take();
        Ok(Asked::Typed(typed))
    }

    fn told(&self, head: &Head, _: &[u8]) -> Option<Value> {
        let path = format!("GET /v1/wallets/{} HTTP/1.1", self.wallet);
        (head.first == path).then_some(())?;
        let basic = STANDARD.encode(format!("{}:{}", self.app, self.secret));
        let right = head.one("authorization") == Some(&format!("Basic {basic}"))
            && head.one("privy-app-id") == Some(&self.app);
        let wallet = json!({ "id": self.wallet, "address": self.address, "policy_ids": [] });
        Some(if right { wallet } else { no() })
    }

    fn answer(&self, signature: String) -> Value {
        if !self.address.starts_with("0x") {
            let transaction = self.transaction.lock().unwrap().clone();
            let signed = signed_by(&transaction, &self.address, &signature);
            let data = json!({ "signed_transaction": signed, "encoding": "base64" });
            let answer = json!({ "method": "signTransaction", "data": data });
            let problems =
                schema::problems(PRIVY_SOLANA, "SolanaSignTransactionRpcResponse", &answer);
            assert_eq!(problems, Vec::<String>::new());
            return answer;
        }
        let data = json!({ "signature": signature, "encoding": "hex" });
        let answer = json!({ "method": "eth_signTypedData_v4", "data": data });
        let problems = schema::problems(schema::PRIVY, "EthereumSignTypedDataRpcResponse", &answer);
        assert_eq!(problems, Vec::<String>::new());
        answer
    }
}

/// Header and claims of a token that this P-256 key signed.
fn token(text: &str, public: &[u8]) -> Option<(Value, Value)> {
    let (said, signature) = text.rsplit_once('.')?;
    let (header, claims) = said.split_once('.')?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    let read = |part: &str| serde_json::from_slice::<Value>(&decode(part)?).ok();
    let header = read(header)?;
    if header["alg"] != "ES256" || header["typ"] != "JWT" {
        return None;
    }
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public)
        .verify(said.as_bytes(), &decode(signature)?)
        .ok()?;
    Some((header, read(claims)?))
}

/// A new P-256 key: PKCS #8, and its public point.
pub(crate) fn p256() -> (Vec<u8>, Vec<u8>) {
    let made = EcdsaKeyPair::generate_pkcs8(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        &aws_lc_rs::rand::SystemRandom::new(),
    )
    .unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref()).unwrap();
    (made.as_ref().to_vec(), pair.public_key().as_ref().to_vec())
}
