//! LND over REST: `routerrpc.SendPaymentV2` and `TrackPaymentV2`. The macaroon needs no more than these two.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use http::{HeaderName, StatusCode};
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Node, Question, ROUTING, Said};
use crate::lightning::Invoice;

pub(super) struct Lnd;

/// One line of a stream.
#[derive(Deserialize)]
struct Line {
    result: Option<Payment>,
}

#[derive(Deserialize)]
struct Payment {
    #[serde(default)]
    status: String,
    #[serde(default)]
    payment_preimage: String,
    /// A number in a string.
    #[serde(default)]
    fee_msat: String,
}

impl Node for Lnd {
    fn pay(&self, base: &str, invoice: &Invoice, fee_most: u64) -> Question {
        let body = json!({
            "payment_request": &*invoice.text,
            "timeout_seconds": ROUTING,
            "fee_limit_msat": fee_most.to_string(),
            "no_inflight_updates": true,
        });
        Question::post(format!("{base}/v2/router/send"), &body)
    }

    fn paid(&self, status: StatusCode, body: &[u8]) -> Said {
        if let Some(said) = newest(body) {
            return said;
        }
        match refused(status, body) {
            true => Said::Failed("it refuses the request"),
            false => Said::Unclear("an answer without a payment"),
        }
    }

    /// With updates, so that a payment which is on its way is answered at once, and not when it ended. The
    /// stream stays open until then; its first line is how the payment stands now.
    fn look(&self, base: &str, hash: &[u8; 32]) -> Question {
        let url = format!("{base}/v2/router/track/{}", URL_SAFE.encode(hash));
        Question::get(url).streaming()
    }

    fn looked(&self, status: StatusCode, body: &[u8]) -> Said {
        match (newest(body), status) {
            (Some(said), _) => said,
            (None, StatusCode::NOT_FOUND) if is_missing(body) => Said::Missing,
            (None, _) => Said::Unclear("an answer without a payment"),
        }
    }

    fn secret(&self, text: &str) -> (HeaderName, Zeroizing<String>) {
        let name = HeaderName::from_static("grpc-metadata-macaroon");
        (name, Zeroizing::new(text.to_owned()))
    }
}

/// Did it refuse before anything was paid? Macaroons are refused under a code that stands for much else,
/// so the message is looked at, and never shown.
fn refused(status: StatusCode, body: &[u8]) -> bool {
    let error = error(body);
    let message = error.get("message").and_then(Value::as_str);
    let macaroon = |message: &str| {
        let words = ["verification failed", "macaroon", "permission denied"];
        words.iter().any(|word| message.contains(word))
    };
    matches!(status.as_u16(), 400 | 401 | 403 | 404)
        || !status.is_success() && message.is_some_and(macaroon)
}

/// An error of its gateway: a stream has it one level deeper than an answer has.
fn error(body: &[u8]) -> Value {
    let mut told: Value = serde_json::from_slice(body).unwrap_or_default();
    match told.get_mut("error") {
        Some(error) if error.is_object() => error.take(),
        Some(_) | None => told,
    }
}

/// gRPC's code for what is not there.
const NOT_FOUND: u64 = 5;

/// Is it the node that knows of no such payment? A 404 of whatever stands before it says nothing about one.
fn is_missing(body: &[u8]) -> bool {
    let error = error(body);
    let mut codes = [error.get("code"), error.get("grpc_code")]
        .into_iter()
        .flatten();
    codes.any(|code| code.as_u64() == Some(NOT_FOUND))
}

/// What the last line says that holds a payment.
fn newest(body: &[u8]) -> Option<Said> {
    let lines = body.rsplit(|b| *b == b'\n');
    let mut payments = lines.filter_map(|l| serde_json::from_slice::<Line>(l).ok()?.result);
    let payment = payments.next()?;
    Some(match &*payment.status {
        "SUCCEEDED" => Said::Paid {
            preimage: payment.payment_preimage,
            fee_msat: payment.fee_msat.parse().ok(),
        },
        "FAILED" => Said::Failed("the payment failed"),
        "IN_FLIGHT" | "INITIATED" => Said::Pending,
        _ => Said::Unclear("a status that is not known"),
    })
}
