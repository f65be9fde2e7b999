//! phoenixd: `payinvoice`, and its list of outgoing payments. It takes a fee of its own tariff and no limit
//! for it; the limit of the configuration must leave room for that.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderName, Method, StatusCode};
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;

use super::{Node, Question, Said};
use crate::lightning::Invoice;

pub(super) struct Phoenixd;

/// How it says that it knows of no such payment. Of a question that it does not know it says something else.
const MISSING: &[u8] = b"not found";

/// An answer of `payinvoice`: a failure is status 200 too, with a reason.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Paid {
    payment_preimage: Option<String>,
    routing_fee_sat: Option<u64>,
    reason: Option<String>,
}

/// An outgoing payment.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outgoing {
    #[serde(default)]
    is_paid: bool,
    preimage: Option<String>,
    /// Millisatoshi.
    fees: Option<u64>,
    completed_at: Option<u64>,
}

impl Node for Phoenixd {
    fn pay(&self, base: &str, invoice: &Invoice, _fee_most: u64) -> Question {
        Question {
            method: Method::POST,
            url: format!("{base}/payinvoice"),
            content_type: "application/x-www-form-urlencoded",
            // An invoice is letters and digits only.
            body: format!("invoice={}", invoice.text),
            streams: false,
        }
    }

    fn paid(&self, status: StatusCode, body: &[u8]) -> Said {
        match status.as_u16() {
            200 => {}
            400 | 401 | 403 | 404 => return Said::Failed("it refuses the request"),
            _ => return Said::Unclear("a status that says nothing certain"),
        }
        let paid: Option<Paid> = serde_json::from_slice(body).ok();
        match paid {
            Some(Paid {
                payment_preimage: Some(preimage),
                routing_fee_sat,
                ..
            }) => Said::Paid {
                preimage,
                fee_msat: routing_fee_sat.and_then(|sat| sat.checked_mul(1000)),
            },
            Some(Paid {
                reason: Some(_), ..
            }) => Said::Failed("the payment failed"),
            Some(Paid { reason: None, .. }) | None => Said::Unclear("an answer without a payment"),
        }
    }

    fn look(&self, base: &str, hash: &[u8; 32]) -> Question {
        let hash = hex::encode(hash);
        Question::get(format!("{base}/payments/outgoingbyhash/{hash}"))
    }

    fn looked(&self, status: StatusCode, body: &[u8]) -> Said {
        // Its own says so in two words; that of whatever stands before it says something else, or nothing.
        if status == StatusCode::NOT_FOUND {
            return match body.trim_ascii().eq_ignore_ascii_case(MISSING) {
                true => Said::Missing,
                false => Said::Unclear("a 404 that is not the node's"),
            };
        }
        let outgoing: Option<Outgoing> = serde_json::from_slice(body).ok();
        let Some(outgoing) = outgoing.filter(|_| status.is_success()) else {
            return Said::Unclear("an answer without a payment");
        };
        match outgoing {
            Outgoing {
                is_paid: true,
                preimage: Some(preimage),
                fees,
                ..
            } => Said::Paid {
                preimage,
                fee_msat: fees,
            },
            Outgoing { is_paid: true, .. } => Said::Unclear("a payment without a preimage"),
            Outgoing {
                completed_at: Some(_),
                ..
            } => Said::Failed("the payment failed"),
            Outgoing {
                completed_at: None, ..
            } => Said::Pending,
        }
    }

    fn secret(&self, text: &str) -> (HeaderName, Zeroizing<String>) {
        let pair = Zeroizing::new(format!(":{text}"));
        let basic = format!("Basic {}", STANDARD.encode(&*pair));
        (AUTHORIZATION, Zeroizing::new(basic))
    }
}
