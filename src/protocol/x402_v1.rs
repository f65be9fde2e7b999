//! x402 version 1: the challenge is the JSON body of the 402, networks go by name, nothing is echoed.

use http::{HeaderMap, header, response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::encoding::{self, not_json};
use super::entry::{self, Dialect, Shared};
use super::x402_v2::{REQUIRED, carry, is_number};
use super::{Protocol, Terms, receipt, x402_v2};
use crate::money::{v1_name, v1_network};
use crate::payment::{
    Challenge, Instruction, Payload, PaymentId, Problem, Reason, Receipt, Requirement, Signature,
};
use crate::scheme::{self, Recipient};

/// Request header with the payload.
const PAYMENT: &str = "x-payment";

/// Response header with the receipt.
pub(super) const RESPONSE: &str = "x-payment-response";

/// Bytes of a challenge body that are looked at, whatever was read.
const BODY_MAX: usize = 1 << 20;

/// Seconds before now from which a payload is valid, as the official client signs (x402 v1 `exact`).
const TOLERANCE: u64 = 600;

pub(super) const DIALECT: Dialect = Dialect {
    protocol: "x402-v1",
    price: |entry| entry.max_amount_required,
    network: v1_network,
    schemes: &["exact"],
    permits: false,
    echoes: false,
};

/// x402 version 1.
pub(super) struct X402V1;

/// The challenge, its members still as written (x402 v1 section 5).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Required<'a> {
    #[serde(borrow)]
    x402_version: Option<&'a RawValue>,
    #[serde(borrow)]
    accepts: Option<&'a RawValue>,
}

/// The payload, and nothing else (x402 v1 section 5).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Paid<'a> {
    x402_version: u8,
    scheme: &'a str,
    network: &'a str,
    payload: &'a RawValue,
}

impl Protocol for X402V1 {
    fn name(&self) -> &'static str {
        DIALECT.protocol
    }

    fn schemes(&self) -> &'static [&'static str] {
        DIALECT.schemes
    }

    fn payment_headers(&self) -> &'static [&'static str] {
        &[PAYMENT]
    }

    fn receipt_headers(&self) -> &'static [&'static str] {
        &[RESPONSE]
    }

    /// A JSON body, and no version 2 header: with one, the body is the merchant's own affair.
    fn recognises(&self, head: &response::Parts) -> bool {
        let kind = head.headers.get(header::CONTENT_TYPE);
        !head.headers.contains_key(REQUIRED)
            && kind.is_none_or(|value| may_be_json(value.as_bytes()))
    }

    fn needs_body(&self) -> bool {
        true
    }

    fn read(&self, _head: &response::Parts, body: Option<&[u8]>, into: &mut Challenge) {
        if let Err(problem) = read(body, into) {
            into.problems.push(problem);
        }
    }

    fn instruct(&self, terms: &Terms<'_>) -> Result<Instruction, Problem> {
        super::instruct(terms, terms.now.secs().saturating_sub(TOLERANCE))
    }

    fn payload(
        &self,
        requirement: &Requirement,
        instruction: &Instruction,
        signature: &Signature,
        _id: PaymentId,
    ) -> Result<Payload, Problem> {
        let to = Recipient::AsOffered;
        let inner = scheme::payload(requirement, instruction, signature, to)?;
        let network = v1_name(&requirement.network).ok_or_else(|| {
            let detail = "the network has no name in x402 version 1";
            Problem::new(Reason::NetworkNotAllowed, detail)
        })?;
        let paid = Paid {
            x402_version: 1,
            scheme: &requirement.scheme,
            network,
            payload: &inner,
        };
        carry(PAYMENT, &paid)
    }

    fn stands(&self, requirement: &Requirement) -> bool {
        requirement.expires.is_none() && entry::stands(&requirement.offer.entry)
    }

    fn receipt(&self, headers: &HeaderMap) -> Receipt {
        receipt::read(headers, RESPONSE, x402_v2::RESPONSE)
    }
}

/// JSON by its media type, or a type that servers put on JSON when they do not care.
fn may_be_json(kind: &[u8]) -> bool {
    let kind = kind.split(|b| *b == b';').next().unwrap_or_default();
    let kind = kind.trim_ascii().to_ascii_lowercase();
    kind.ends_with(b"/json") || kind.ends_with(b"+json") || kind == b"text/plain"
}

/// Reads the terms, if these are some.
pub(super) fn read(body: Option<&[u8]>, into: &mut Challenge) -> Result<(), Problem> {
    let Some(body) = body.filter(|body| speaks_x402(body)) else {
        return Ok(());
    };
    if body.len() > BODY_MAX {
        let detail = format!("a challenge in a body is at most {BODY_MAX} bytes long");
        return Err(Problem::new(Reason::LimitsExceeded, detail));
    }
    let json = encoding::text(body)?;
    encoding::check(json)?;
    let required: Required<'_> = encoding::object(json)?;
    let Some(version) = required.x402_version else {
        return Ok(());
    };
    check_version(version)?;
    entry::read_all(&DIALECT, required.accepts, &Shared::default(), into)
}

/// A JSON object that mentions the version member: anything else is somebody else's 402.
pub(crate) fn speaks_x402(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'{')
        && memchr::memmem::find(body, b"\"x402Version\"").is_some()
}

fn check_version(raw: &RawValue) -> Result<(), Problem> {
    match raw.get() {
        "1" => Ok(()),
        "2" => Err(Problem {
            schemes: x402_v2::DIALECT.schemes,
            ..Problem::new(
                Reason::MalformedChallenge,
                "x402 version 2 terms stand in the body only; the PAYMENT-REQUIRED header is missing",
            )
        }),
        other if is_number(other) => Err(Problem::new(
            Reason::VersionUnsupported,
            "the body names a version of x402 other than 1",
        )),
        _ => Err(not_json()),
    }
}
