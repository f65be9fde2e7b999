//! Merchants of every kind, and the chain that knows what was really taken.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use farepass::payment::{Challenge, Payload};
use farepass::protocol;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

pub(crate) const NETWORK: &str = "eip155:84532";
const USDC: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const PAY_TO: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";

/// What a merchant does with a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Honest,
    /// Delivers, and sends no receipt.
    NoReceipt,
    /// Delivers now and takes the money later.
    Late,
    /// Takes it and asks for more, with a receipt.
    ClaimsAndAsksAgain,
    /// Takes it and asks for more.
    TakesAndAsksAgain,
    /// Says that settlement failed; it did not.
    LiesAboutFailure,
    /// Says that settlement failed; it may take it later all the same.
    Denies,
    /// Takes it and hangs up.
    TakesAndDrops,
    /// Hangs up; perhaps it takes it later.
    Drops,
    /// Takes it and breaks.
    Breaks,
    /// A receipt over another amount, another network, or nothing.
    WrongReceipt,
    /// A receipt that is none.
    Garbage,
    /// Delivers for nothing.
    Free,
}

use Kind::{
    Breaks, ClaimsAndAsksAgain, Denies, Drops, Free, Garbage, Honest, Late, LiesAboutFailure,
    NoReceipt, TakesAndAsksAgain, TakesAndDrops, WrongReceipt,
};

pub(crate) const KINDS: &[Kind] = &[
    Honest,
    Honest,
    Honest,
    Honest,
    NoReceipt,
    Late,
    ClaimsAndAsksAgain,
    TakesAndAsksAgain,
    LiesAboutFailure,
    Denies,
    TakesAndDrops,
    Drops,
    Breaks,
    WrongReceipt,
    Garbage,
    Free,
];

/// A payment as a merchant holds it.
#[derive(Clone, Debug)]
pub(crate) struct Slip {
    pub(crate) nonce: String,
    pub(crate) value: u64,
    /// Unix seconds.
    pub(crate) valid_before: u64,
}

/// The chain: each nonce moves money once, and only while it is valid.
#[derive(Default)]
pub(crate) struct Chain {
    pub(crate) taken: BTreeMap<String, u64>,
    /// In the hands of merchants that may yet take it.
    pub(crate) later: Vec<Slip>,
}

impl Chain {
    /// `now`: the true time, in seconds.
    pub(crate) fn take(&mut self, slip: &Slip, now: u64) {
        if now < slip.valid_before {
            self.taken.entry(slip.nonce.clone()).or_insert(slip.value);
        }
    }
}

pub(crate) fn slip(payload: &Payload) -> Slip {
    let value: Value =
        serde_json::from_slice(&STANDARD.decode(payload.value.as_bytes()).unwrap()).unwrap();
    let authorization = &value["payload"]["authorization"];
    let number = |key: &str| authorization[key].as_str().unwrap().parse().unwrap();
    Slip {
        nonce: authorization["nonce"]
            .as_str()
            .unwrap()
            .to_ascii_lowercase(),
        value: number("value"),
        valid_before: number("validBefore"),
    }
}

fn header(name: &'static str, value: &Value) -> HeaderMap {
    let value = HeaderValue::try_from(STANDARD.encode(value.to_string())).unwrap();
    HeaderMap::from_iter([(HeaderName::from_static(name), value)])
}

pub(crate) fn challenge(host: &str, amount: u64, valid_for: u64) -> Challenge {
    let required = json!({
        "x402Version": 2,
        "resource": { "url": format!("https://{host}/") },
        "accepts": [{
            "scheme": "exact", "network": NETWORK, "amount": amount.to_string(), "asset": USDC,
            "payTo": PAY_TO, "maxTimeoutSeconds": valid_for, "extra": { "name": "USDC", "version": "2" }
        }]
    });
    let mut response = http::Response::new(());
    *response.status_mut() = StatusCode::PAYMENT_REQUIRED;
    *response.headers_mut() = header("payment-required", &required);
    let (head, ()) = response.into_parts();
    protocol::read(&protocol::recognise(&head), &head, None)
}

impl Kind {
    /// Is the money taken before the answer?
    pub(crate) fn takes_at_once(self) -> bool {
        match self {
            Honest | NoReceipt | ClaimsAndAsksAgain | TakesAndAsksAgain | LiesAboutFailure
            | TakesAndDrops | Breaks | WrongReceipt | Garbage => true,
            Late | Denies | Drops | Free => false,
        }
    }

    /// Does it send a receipt that says *paid*?
    pub(crate) fn claims(self) -> bool {
        matches!(self, Honest | ClaimsAndAsksAgain | WrongReceipt)
    }

    /// May it be taken after the answer?
    pub(crate) fn takes_later(self) -> bool {
        matches!(self, Late | Denies | Drops)
    }

    pub(crate) fn answer(self, slip: &Slip, lie: u64) -> Option<(StatusCode, HeaderMap)> {
        let receipt = |content: Value| header("payment-response", &content);
        let paid = json!({ "success": true, "transaction": slip.nonce, "network": NETWORK });
        let failed = json!({ "success": false, "errorReason": "settle_failed", "transaction": "" });
        let wrong = match lie {
            0 => {
                json!({ "success": true, "transaction": slip.nonce, "network": NETWORK, "amount": "1" })
            }
            1 => json!({ "success": true, "transaction": slip.nonce, "network": "eip155:1" }),
            2 => {
                json!({ "success": true, "transaction": slip.nonce, "network": NETWORK, "amount": "99999999999" })
            }
            _ => json!({ "success": true, "transaction": "", "network": NETWORK }),
        };
        Some(match self {
            Honest => (StatusCode::OK, receipt(paid)),
            NoReceipt | Late | Free => (StatusCode::OK, HeaderMap::new()),
            ClaimsAndAsksAgain => (StatusCode::PAYMENT_REQUIRED, receipt(paid)),
            TakesAndAsksAgain => (StatusCode::PAYMENT_REQUIRED, HeaderMap::new()),
            LiesAboutFailure | Denies => (StatusCode::PAYMENT_REQUIRED, receipt(failed)),
            TakesAndDrops | Drops => return None,
            Breaks => (StatusCode::BAD_GATEWAY, HeaderMap::new()),
            WrongReceipt => (StatusCode::OK, receipt(wrong)),
            Garbage => (StatusCode::OK, receipt(json!(["success", true]))),
        })
    }
}
