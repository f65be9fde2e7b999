//! LNbits: an account of a wallet service, paid from with its admin key. It keeps its own limit for fees
//! (one percent, two satoshi at least, if its operator did not change that).

use http::{HeaderName, StatusCode};
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use serde_json::json;

use super::{Node, Question, Said};
use crate::lightning::Invoice;

pub(super) struct Lnbits;

/// An answer to a payment, and what a payment's details are.
#[derive(Default, Deserialize)]
struct Payment {
    #[serde(default)]
    status: String,
    preimage: Option<String>,
    /// Millisatoshi, zero or negative.
    fee: Option<i64>,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    paid: bool,
    preimage: Option<String>,
    #[serde(default)]
    status: String,
    details: Option<Payment>,
}

/// `Payment does not exist.`
#[derive(Default, Deserialize)]
struct Missing {
    #[serde(default)]
    detail: String,
}

impl Node for Lnbits {
    fn pay(&self, base: &str, invoice: &Invoice, _fee_most: u64) -> Question {
        let body = json!({ "out": true, "bolt11": &*invoice.text });
        Question::post(format!("{base}/api/v1/payments"), &body)
    }

    fn paid(&self, status: StatusCode, body: &[u8]) -> Said {
        let payment: Payment = serde_json::from_slice(body).unwrap_or_default();
        match (&*payment.status, payment.preimage) {
            ("success", Some(preimage)) if status.is_success() => Said::Paid {
                preimage,
                fee_msat: payment.fee.map(i64::unsigned_abs),
            },
            ("pending", _) => Said::Pending,
            ("failed", _) if !status.is_success() => Said::Failed("the payment failed"),
            _ if matches!(status.as_u16(), 400 | 401 | 403 | 404) => {
                Said::Failed("it refuses the request")
            }
            _ => Said::Unclear("an answer without a payment"),
        }
    }

    fn look(&self, base: &str, hash: &[u8; 32]) -> Question {
        Question::get(format!("{base}/api/v1/payments/{}", hex::encode(hash)))
    }

    fn looked(&self, status: StatusCode, body: &[u8]) -> Said {
        // Its own word: an unknown key, or whatever stands before it, is answered with 404 too.
        if status == StatusCode::NOT_FOUND {
            let told: Missing = serde_json::from_slice(body).unwrap_or_default();
            return match told.detail.to_ascii_lowercase().contains("payment") {
                true => Said::Missing,
                false => Said::Unclear("a 404 that is about no payment"),
            };
        }
        let found: Option<Status> = serde_json::from_slice(body).ok();
        let Some(found) = found.filter(|_| status.is_success()) else {
            return Said::Unclear("an answer without a payment");
        };
        let details = found.details.unwrap_or_default();
        let word = match found.status.is_empty() {
            true => &details.status,
            false => &found.status,
        };
        match (found.paid, found.preimage.or(details.preimage)) {
            (true, Some(preimage)) => Said::Paid {
                preimage,
                fee_msat: details.fee.map(i64::unsigned_abs),
            },
            (true, None) => Said::Unclear("a payment without a preimage"),
            (false, _) if word == "failed" => Said::Failed("the payment failed"),
            (false, _) => Said::Pending,
        }
    }

    fn secret(&self, text: &str) -> (HeaderName, Zeroizing<String>) {
        let name = HeaderName::from_static("x-api-key");
        (name, Zeroizing::new(text.to_owned()))
    }
}
