//! Core Lightning over `clnrest`: `pay` and `listpays`. The rune needs no more than these two.

use http::{HeaderName, StatusCode};
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use serde_json::json;

use super::{Node, Question, ROUTING, Said};
use crate::lightning::Invoice;

pub(super) struct Cln;

/// Errors of `pay` after which nothing is on its way: permanent failure, no route, too expensive, invoice
/// expired, retried until the end; and a rune or a request that was refused.
const FINAL: [i64; 7] = [203, 205, 206, 207, 210, 1501, 1502];

/// An answer of `pay`, and an entry of `listpays`.
#[derive(Deserialize)]
struct Payment {
    #[serde(default)]
    status: String,
    #[serde(alias = "preimage", default)]
    payment_preimage: String,
    amount_msat: Option<u64>,
    amount_sent_msat: Option<u64>,
}

#[derive(Deserialize)]
struct List {
    pays: Vec<Payment>,
}

/// An error as it is, or within `error`.
#[derive(Deserialize)]
struct Refused {
    code: Option<i64>,
    error: Option<Code>,
}

#[derive(Deserialize)]
struct Code {
    code: i64,
}

impl Node for Cln {
    fn pay(&self, base: &str, invoice: &Invoice, fee_most: u64) -> Question {
        let body = json!({
            "bolt11": &*invoice.text,
            "maxfee": fee_most,
            "retry_for": ROUTING,
        });
        Question::post(format!("{base}/v1/pay"), &body)
    }

    fn paid(&self, status: StatusCode, body: &[u8]) -> Said {
        if status.is_success() {
            let payment: Result<Payment, _> = serde_json::from_slice(body);
            return payment.map_or(Said::Unclear("an answer without a payment"), said);
        }
        let refused: Option<Refused> = serde_json::from_slice(body).ok();
        let code = refused.and_then(|r| r.code.or(r.error.map(|e| e.code)));
        match (code, status.as_u16()) {
            (Some(code), _) if FINAL.contains(&code) => Said::Failed("the payment failed"),
            (_, 401 | 403 | 404) => Said::Failed("it refuses the request"),
            _ => Said::Unclear("an error that says nothing certain"),
        }
    }

    fn look(&self, base: &str, hash: &[u8; 32]) -> Question {
        let body = json!({ "payment_hash": hex::encode(hash) });
        Question::post(format!("{base}/v1/listpays"), &body)
    }

    /// One that was made counts, then one that may be. `failed` says no more than that none is under way at
    /// this moment: between two attempts of one `pay` the list says the same (Core Lightning issue 9036), and the
    /// payment may be made yet. So it is final only as the answer of `pay`.
    fn looked(&self, status: StatusCode, body: &[u8]) -> Said {
        let list: Option<List> = serde_json::from_slice(body).ok();
        let Some(list) = list.filter(|_| status.is_success()) else {
            return Said::Unclear("an answer without payments");
        };
        let mut left = Said::Missing;
        for said in list.pays.into_iter().map(said) {
            match said {
                Said::Paid { .. } => return said,
                Said::Pending | Said::Silent | Said::Unclear(_) => left = said,
                Said::Failed(_) | Said::Missing => {}
            }
        }
        left
    }

    fn secret(&self, text: &str) -> (HeaderName, Zeroizing<String>) {
        let name = HeaderName::from_static("rune");
        (name, Zeroizing::new(text.to_owned()))
    }
}

fn said(payment: Payment) -> Said {
    let fee = payment.amount_sent_msat.zip(payment.amount_msat);
    match &*payment.status {
        "complete" => Said::Paid {
            preimage: payment.payment_preimage,
            fee_msat: fee.and_then(|(sent, amount)| sent.checked_sub(amount)),
        },
        "failed" => Said::Failed("the payment failed"),
        "pending" => Said::Pending,
        _ => Said::Unclear("a status that is not known"),
    }
}
