//! AgentCore Payments as Amazon describes it: it verifies who asks and what, keeps a payment session's limit, makes
//! authorizations with nonce and validity of its own, and really signs them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use farepass::solana::{Blockhash, Pubkey, TokenProgram, TokenTransfer, Transfer};
use serde_json::{Value, json};

use super::aws::Account;
use super::chain::keccak;
use super::http::Head;
use super::schema::{self, AGENTCORE};
use super::signer::{Api, Asked, signed_by, unsigned};
use super::stand::request;

/// What its callers must name.
pub(crate) const MANAGER: &str =
    "arn:aws:bedrock-agentcore:eu-central-1:123456789012:payment-manager/pay-0123456789";
pub(crate) const INSTRUMENT: &str = "payment-instrument-0123456789abcde";
pub(crate) const SESSION: &str = "payment-session-0123456789abcde";
pub(crate) const USER: &str = "user-1";

const FIELD: &str = "x-amzn-bedrock-agentcore-payments-user-id";

/// What it signs instead of what was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Twist {
    #[default]
    None,
    Payee,
    Amount,
    Validity,
    Payer,
    Asset,
    Network,
    /// Of a challenge, another nonce than it decides.
    Nonce,
    /// Good from the next second on.
    Unripe,
}

/// How it stands.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) twist: Twist,
    /// Atomic units that its session has left; without end if there is none.
    pub(crate) left: Option<u128>,
    /// What each token made, with the request that it came with.
    made: BTreeMap<String, Vec<u8>>,
    /// The form of the newest.
    newest: Value,
    /// Where it asks for a block, by its URL; a made-up one if nobody says.
    pub(crate) node: Option<String>,
}

/// A payment instrument.
pub(crate) struct AgentCore {
    pub(crate) account: Account,
    pub(crate) address: String,
    pub(crate) state: Arc<Mutex<State>>,
}

type Wrong = (u16, Value);

/// One of the errors that the API has, with the status that it has there.
fn wrong(call: &str, kind: &str, message: &str) -> Wrong {
    let status = schema::error(AGENTCORE, call, kind);
    let mut body = json!({ "message": message });
    if kind == "ValidationException" {
        body["reason"] = json!("FieldValidationFailed");
    }
    assert_eq!(schema::problems(AGENTCORE, kind, &body), [""; 0]);
    body["__type"] = json!(format!("com.amazonaws.bedrockagentcore#{kind}"));
    (status, body)
}

impl AgentCore {
    /// Who asks, and is what they ask as the API has it?
    fn checked(&self, head: &Head, body: &[u8], call: &str, shape: &str) -> Result<Value, Wrong> {
        let signed = head.one("authorization").unwrap_or_default();
        if let Err(why) = self.account.verify(head, body, "bedrock-agentcore") {
            return Err((
                403,
                json!({ "__type": "InvalidSignatureException", "message": why }),
            ));
        }
        assert!(signed.contains(FIELD), "{signed}");
        let asked: Value = serde_json::from_slice(body).unwrap();
        let problems = schema::problems(AGENTCORE, shape, &asked);
        assert_eq!(problems, Vec::<String>::new(), "{asked}");
        let known = head.one(FIELD) == Some(USER)
            && asked["paymentManagerArn"] == MANAGER
            && asked["paymentInstrumentId"] == INSTRUMENT;
        match known {
            true => Ok(asked),
            false => Err(wrong(
                call,
                "ResourceNotFoundException",
                "no such instrument",
            )),
        }
    }

    fn process(&self, head: &Head, body: &[u8]) -> Result<Asked, Wrong> {
        let asked = self.checked(head, body, PROCESS, "ProcessPaymentRequest")?;
        let invalid = |message: &str| wrong(PROCESS, "ValidationException", message);
        if asked["paymentSessionId"] != SESSION {
            return Err(invalid("PaymentSession not found"));
        }
        let token = asked["clientToken"].as_str().unwrap().to_owned();
        let mut state = self.state.lock().unwrap();
        if state.made.contains_key(&token) {
            // Nobody here asks twice, so it need not remember what it said.
            return Err(invalid("this token was used"));
        }
        let input = &asked["paymentInput"];
        let crypto = &input["cryptoX402"];
        if let Some(tokens) = tokens(crypto, &self.address, &state) {
            state.made.insert(token, body.to_vec());
            state.newest = json!({ "transaction": STANDARD.encode(&tokens) });
            return Ok(unsigned(&tokens));
        }
        let terms = match asked["paymentType"].as_str().unwrap() {
            "CRYPTO_X402" => Terms::x402(crypto),
            "MPP" => Terms::mpp(&input["mpp"]),
            other => panic!("{other}"),
        };
        let terms = terms.ok_or_else(|| invalid("the payload cannot be paid"))?;
        if let Some(left) = state.left {
            let rest = left.checked_sub(terms.amount.parse().unwrap());
            state.left = Some(rest.ok_or_else(|| invalid("Payment exceeds the session budget"))?);
        }
        let (typed, newest) = terms.authorization(&self.address, &token, state.twist);
        state.newest = newest;
        state.made.insert(token, body.to_vec());
        Ok(Asked::Typed(typed))
    }
}

/// A transaction on Solana, not yet signed: with a block and bounds of its own choice.
fn tokens(input: &Value, owner: &str, state: &State) -> Option<Vec<u8>> {
    let payload = &input["payload"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    text(&payload["network"])?
        .starts_with("solana:")
        .then_some(())?;
    let key = |value: &Value| text(value).and_then(|text| text.parse::<Pubkey>().ok());
    let stranger: Pubkey = "mBKqcnGotbsSb5vNrdyhzZ5EhqZdids9QYiTRckvi7v"
        .parse()
        .unwrap();
    let twisted = |which: Twist, usual: Option<Pubkey>| match state.twist == which {
        true => Some(stranger),
        false => usual,
    };
    let amount: u64 = text(&payload["amount"])?.parse().ok()?;
    let blockhash = match &state.node {
        Some(node) => recent(node),
        None => Blockhash(super::sha256(&super::unix_now().to_le_bytes())),
    };
    let transfer = TokenTransfer::new(Transfer {
        fee_payer: twisted(Twist::Payer, key(&payload["extra"]["feePayer"]))?,
        owner: owner.parse().ok()?,
        payee: twisted(Twist::Payee, key(&payload["payTo"]))?,
        mint: twisted(Twist::Asset, key(&payload["asset"]))?,
        program: TokenProgram::Token,
        amount: amount + u64::from(state.twist == Twist::Amount),
        decimals: 6,
        memo: text(&payload["extra"]["memo"])?,
        blockhash,
    });
    let mut whole = transfer.ok()?.transaction(&[0; 64]);
    // It may compute twice as much as ours.
    let limit = [&[2][..], &20_000_u32.to_le_bytes()].concat();
    let at = whole.windows(5).position(|bytes| bytes == limit).unwrap();
    whole[at + 1..at + 5].copy_from_slice(&40_000_u32.to_le_bytes());
    Some(whole)
}

/// A recent block of this cluster.
fn recent(node: &str) -> Blockhash {
    let port = node.rsplit(':').next().unwrap().parse().unwrap();
    let question = json!({ "jsonrpc": "2.0", "id": 1, "method": "getLatestBlockhash" });
    let answer = request(port, "POST", "/", &question).unwrap().json();
    answer["result"]["value"]["blockhash"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

/// What somebody wants to be paid.
struct Terms {
    chain: u64,
    asset: String,
    to: String,
    amount: String,
    name: String,
    version: String,
    until: u64,
    /// Nonce and parameters of the challenge that decides it.
    challenge: Option<([u8; 32], Value)>,
}

impl Terms {
    fn x402(input: &Value) -> Option<Self> {
        let payload = &input["payload"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let fits = input["version"] == "2" && payload["scheme"] == "exact";
        fits.then_some(())?;
        Some(Self {
            chain: text(&payload["network"])?
                .strip_prefix("eip155:")?
                .parse()
                .ok()?,
            asset: text(&payload["asset"])?,
            to: text(&payload["payTo"])?,
            amount: text(&payload["amount"])?,
            name: text(&payload["extra"]["name"])?,
            version: text(&payload["extra"]["version"])?,
            until: super::unix_now() + payload["maxTimeoutSeconds"].as_u64()?,
            challenge: None,
        })
    }

    /// Of one raw challenge, as the official client splits it.
    fn mpp(input: &Value) -> Option<Self> {
        let raw = input["wwwAuthenticateHeaders"][0]
            .as_str()?
            .strip_prefix("Payment ")?;
        let mut challenge = json!({});
        for part in raw.split(", ") {
            let (name, value) = part.split_once('=')?;
            challenge[name] = json!(value.strip_prefix('"')?.strip_suffix('"')?);
        }
        let text = |name: &str| challenge[name].as_str();
        let kind = (text("method")?, text("intent")?);
        (input["version"] == "1" && kind == ("evm", "charge")).then_some(())?;
        let request = URL_SAFE_NO_PAD.decode(text("request")?).ok()?;
        let request: Value = serde_json::from_slice(&request).ok()?;
        let nonce = keccak(&[text("id")?.as_bytes(), text("realm")?.as_bytes()]);
        let until: farepass::clock::Timestamp = text("expires")?.parse().ok()?;
        let of = |value: &Value| value.as_str().map(str::to_owned);
        Some(Self {
            chain: request["methodDetails"]["chainId"].as_u64()?,
            asset: of(&request["currency"])?,
            to: of(&request["recipient"])?,
            amount: of(&request["amount"])?,
            // It knows the tokens that it pays with.
            name: "USDC".into(),
            version: "2".into(),
            until: until.secs(),
            challenge: Some((nonce, challenge)),
        })
    }

    /// Typed data to be signed, and the answer without the signature.
    fn authorization(&self, from: &str, token: &str, twist: Twist) -> (Value, Value) {
        let stranger = json!(format!("0x{}", "09".repeat(20)));
        let other = |which: Twist, other: Value, usual: Value| match twist == which {
            true => other,
            false => usual,
        };
        let now = super::unix_now();
        let after = match (twist, &self.challenge) {
            (Twist::Unripe, _) => now + 1,
            (_, Some(_)) => 0,
            (_, None) => now - 600,
        };
        let until = self.until + if twist == Twist::Validity { 3600 } else { 0 };
        let mut nonce = super::sha256(token.as_bytes());
        if let Some((bound, _)) = &self.challenge {
            nonce = *bound;
            nonce[0] ^= u8::from(twist == Twist::Nonce);
        }
        let message = json!({
            "from": other(Twist::Payer, stranger.clone(), json!(from)),
            "to": other(Twist::Payee, stranger.clone(), json!(self.to)),
            "value": other(Twist::Amount, json!("10001"), json!(self.amount)),
            "validAfter": after.to_string(),
            "validBefore": until.to_string(),
            "nonce": format!("0x{}", hex::encode(nonce)),
        });
        let fields = ["name", "version", "chainId", "verifyingContract"];
        let typed = json!({
            "types": { "EIP712Domain": fields },
            "primaryType": "TransferWithAuthorization",
            "domain": {
                "name": self.name,
                "version": self.version,
                "chainId": other(Twist::Network, json!(8453), json!(self.chain)),
                "verifyingContract": other(Twist::Asset, stranger, json!(self.asset)),
            },
            "message": message,
        });
        let newest = match &self.challenge {
            None => json!({ "authorization": message }),
            Some((_, challenge)) => json!({ "challenge": challenge, "charge": message }),
        };
        (typed, newest)
    }
}

const PROCESS: &str = "/payments/processPayment";
const TELL: &str = "/payments/getPaymentInstrument";

impl Api for AgentCore {
    fn read(&self, head: &Head, body: &[u8]) -> Result<Asked, Wrong> {
        match head.first == format!("POST {PROCESS} HTTP/1.1") {
            true => self.process(head, body),
            false => Err((404, json!({ "__type": "UnknownOperationException" }))),
        }
    }

    fn told(&self, head: &Head, body: &[u8]) -> Option<Value> {
        (head.first == format!("POST {TELL} HTTP/1.1")).then_some(())?;
        if let Err((_, why)) = self.checked(head, body, TELL, "GetPaymentInstrumentRequest") {
            return Some(why);
        }
        let network = match self.address.starts_with("0x") {
            true => "ETHEREUM",
            false => "SOLANA",
        };
        let answer = json!({ "paymentInstrument": {
            "paymentInstrumentId": INSTRUMENT,
            "paymentManagerArn": MANAGER,
            "paymentConnectorId": "connector-0123456789",
            "userId": USER,
            "paymentInstrumentType": "EMBEDDED_CRYPTO_WALLET",
            "paymentInstrumentDetails": { "embeddedCryptoWallet": {
                "network": network, "linkedAccounts": [], "walletAddress": self.address,
            } },
            "createdAt": "2026-11-01T00:00:00Z",
            "updatedAt": "2026-11-01T00:00:00Z",
            "status": "ACTIVE",
        } });
        assert_eq!(
            schema::problems(AGENTCORE, "GetPaymentInstrumentResponse", &answer),
            [""; 0]
        );
        Some(answer)
    }

    fn answer(&self, signature: String) -> Value {
        let newest = self.state.lock().unwrap().newest.clone();
        if let Some(transaction) = newest["transaction"].as_str() {
            let transaction = STANDARD.decode(transaction).unwrap();
            let signed = signed_by(&transaction, &self.address, &signature);
            let payload = json!({ "transaction": signed });
            return said(
                "CRYPTO_X402",
                &json!({ "cryptoX402": { "version": "2", "payload": payload } }),
            );
        }
        let (kind, output) = match newest.get("challenge") {
            None => {
                let payload =
                    json!({ "signature": signature, "authorization": newest["authorization"] });
                let output = json!({ "cryptoX402": { "version": "2", "payload": payload } });
                ("CRYPTO_X402", output)
            }
            Some(challenge) => {
                let mut payload = newest["charge"].clone();
                payload["type"] = json!("authorization");
                payload["signature"] = json!(signature);
                let credential = json!({ "challenge": challenge, "payload": payload });
                let credential = URL_SAFE_NO_PAD.encode(credential.to_string());
                let output = json!({ "mpp": {
                    "version": "1",
                    "selectedPaymentId": challenge["id"],
                    "paymentCredential": format!("Payment {credential}"),
                } });
                ("MPP", output)
            }
        };
        said(kind, &output)
    }
}

/// The whole answer.
fn said(kind: &str, output: &Value) -> Value {
    let answer = json!({
        "processPaymentId": "12345678-1234-1234-1234-123456789012",
        "paymentManagerArn": MANAGER,
        "paymentSessionId": SESSION,
        "paymentInstrumentId": INSTRUMENT,
        "paymentType": kind,
        "status": "PROOF_GENERATED",
        "paymentOutput": output,
        "createdAt": "2026-11-26T00:00:00Z",
        "updatedAt": "2026-11-26T00:00:00Z",
    });
    assert_eq!(
        schema::problems(AGENTCORE, "ProcessPaymentResponse", &answer),
        [""; 0]
    );
    answer
}
