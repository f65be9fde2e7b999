//! What is fuzzed: every reader of outside bytes, and what must hold of whatever it makes of them.
//! Each function is a fuzz target of its own name; `tests/fuzz.rs` runs them over the seeds.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use farepass::clock::Timestamp;
use farepass::money;
use farepass::payment::{Challenge, Nonce, PaymentId, Receipt, Signature};
use farepass::protocol::{self, PROTOCOLS, Terms};
use farepass::section::Section;
use http::{HeaderMap, HeaderValue, StatusCode, response};

/// A version 2 challenge: the header as it is, and the JSON inside it.
pub(crate) fn x402_v2_read(data: &[u8]) {
    for value in headers(data) {
        let head = head("payment-required", value);
        check(&protocol::read(&protocol::recognise(&head), &head, None));
    }
}

/// A version 1 challenge: the body.
pub(crate) fn x402_v1_read(data: &[u8]) {
    let head = head("content-type", HeaderValue::from_static("application/json"));
    check(&protocol::read(
        &protocol::recognise(&head),
        &head,
        Some(data),
    ));
}

/// A receipt of either version.
pub(crate) fn receipt(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for value in self::headers(data) {
        for name in protocol::RECEIPT_HEADERS {
            headers.insert(*name, value.clone());
        }
        for protocol in PROTOCOLS {
            if let Receipt::Denied { why, .. } = protocol.receipt(&headers) {
                assert!(why.len() <= 64 && !why.contains(char::is_whitespace));
            }
        }
    }
}

/// A configuration file.
pub(crate) fn section(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Section::file("farepass.yaml", text) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(mut section) => {
            let _ = section.place();
            for key in ["version", "wallets", "rules"] {
                let _ = section.take(key).map(Section::items);
            }
            let _ = section.finish();
        }
    }
}

/// The bytes as a header line, where they can be one, and base64 of them.
fn headers(data: &[u8]) -> impl Iterator<Item = HeaderValue> {
    let encoded = STANDARD.encode(data);
    let values = [
        HeaderValue::from_bytes(data),
        HeaderValue::from_str(&encoded),
    ];
    values.into_iter().flatten()
}

fn head(name: &'static str, value: HeaderValue) -> response::Parts {
    let (mut head, ()) = http::Response::new(()).into_parts();
    head.status = StatusCode::PAYMENT_REQUIRED;
    head.headers.insert(name, value);
    head
}

/// Nothing of the merchant's text in ours, and whatever can be paid can be paid to the end.
fn check(challenge: &Challenge) {
    for problem in &challenge.problems {
        assert!(problem.detail.is_ascii() && problem.detail.len() < 200);
    }
    for requirement in &challenge.requirements {
        let Some(protocol) = protocol::by_name(requirement.protocol) else {
            continue;
        };
        for asset in money::canonical_assets() {
            let terms = Terms {
                requirement,
                asset: &asset,
                payer: "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
                id: PaymentId(1),
                nonce: Nonce([7; 32]),
                now: Timestamp::from_secs(1_800_000_000),
                valid_for: requirement.valid_for,
            };
            if let Ok(instruction) = protocol.instruct(&terms) {
                let signature = Signature::Evm([1; 65]);
                let paid = protocol.payload(requirement, &instruction, &signature, terms.id);
                assert!(paid.is_ok_and(|p| p.value.is_sensitive() && p.value.len() < 32 << 10));
            }
        }
    }
}
