//! Payments asked for inside JSON-RPC answers, above all of MCP servers (x402 transport `mcp`: the tool-result and the
//! `org.x402/payment` binding; draft-payment-transport-mcp-00 of MPP). What such an answer says is put in
//! the words of HTTP: a challenge, a status, receipt headers. So one payment path serves both.
//!
//! Text is never read for terms: a tool may quote whatever it has read somewhere.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::jsonrpc::{Call, Id, Method, object, text};
use super::{Protocol, a2a, about, encoding};
use super::{mpp, mpp_native, x402_v1, x402_v2};
use crate::payment::{Challenge, Payload};

/// `params._meta`: the payment (x402 transport `mcp`).
const X402_PAYMENT: &[&str] = &["x402/payment"];

/// The same, with its name in earlier releases of `x402-mcp`.
const X402_PAYMENTS: &[&str] = &["x402/payment", "x402.payment"];

/// `params._meta`: the credential (draft-payment-transport-mcp-00).
const MPP_CREDENTIAL: &[&str] = &["org.paymentauth/credential"];

/// Codes of an error whose `data` are terms: x402's for MCP, MPP's two (payment needed, payment not taken).
const X402_CODE: i64 = 402;
const MPP_CODES: [i64; 2] = [-32042, -32043];

/// How a payment of x402 is written into `params._meta`. Whoever reads one form takes the other for no payment,
/// and where the terms stand tells which it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// An object, as the transport has it.
    #[default]
    Object,
    /// The text of its header, as Cloudflare's kit reads it.
    Text,
    /// The same under either of its names, as `x402-mcp` reads it.
    NamedText,
}

/// An answer to one call.
#[derive(Default)]
pub struct Answer {
    /// What it asks for. `None`: no money.
    pub challenge: Option<Challenge>,
    /// In which form the payment is read there.
    pub form: Form,
    /// As HTTP would have said it: 402, 500 for an error, 200 for a result.
    pub status: StatusCode,
    /// Its receipts, as HTTP would have carried them.
    pub receipts: HeaderMap,
    /// The task of A2A that waits for what it asks for.
    pub task: Option<String>,
}

/// A message that can be read in two ways, or in none: it may be the answer.
struct Unread;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outcome<'a> {
    #[serde(borrow)]
    is_error: Option<&'a RawValue>,
    #[serde(borrow)]
    result_type: Option<&'a RawValue>,
    #[serde(borrow)]
    payment_required: Option<&'a RawValue>,
    #[serde(borrow)]
    structured_content: Option<&'a RawValue>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Meta<'a> {
    #[serde(borrow, rename = "x402/payment-response")]
    x402_response: Option<&'a RawValue>,
    #[serde(borrow, rename = "x402.payment-response")]
    x402_older_response: Option<&'a RawValue>,
    #[serde(borrow, rename = "x402/error")]
    x402_error: Option<&'a RawValue>,
    #[serde(borrow, rename = "org.paymentauth/receipt")]
    mpp_receipt: Option<&'a RawValue>,
    #[serde(borrow, rename = "org.paymentauth/payment-required")]
    mpp_required: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Failure<'a> {
    code: i64,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// Terms of x402, as far as they tell that they are.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Terms<'a> {
    #[serde(borrow)]
    x402_version: Option<&'a RawValue>,
    #[serde(borrow)]
    accepts: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct MppTerms<'a> {
    #[serde(borrow)]
    challenges: Option<Vec<&'a RawValue>>,
}

impl Answer {
    /// Reads a message, if it is the answer to `call`. One that can be read in two ways is nobody's.
    #[must_use]
    pub fn read(call: &Call, body: &[u8]) -> Option<Self> {
        let json = std::str::from_utf8(body).ok()?;
        encoding::check(json).ok()?;
        Self::of(call, body).ok()?
    }

    /// Reads a message that was paid for, if it may be the answer to `call`. Nothing is paid on its word, so it may be
    /// as deep and have as many parts as it likes: what is not looked for is passed over, without recursion.
    #[must_use]
    pub fn bought(call: &Call, body: &[u8]) -> Option<Self> {
        Self::of(call, body).unwrap_or_else(|Unread| Some(Self::unread()))
    }

    /// What cannot be read here, and by the agent perhaps: something was delivered, and no receipt was seen.
    #[must_use]
    pub fn unread() -> Self {
        Self {
            status: StatusCode::OK,
            ..Self::default()
        }
    }

    fn of(call: &Call, body: &[u8]) -> Result<Option<Self>, Unread> {
        let json = std::str::from_utf8(body).map_err(|_| Unread)?;
        if !json.trim_ascii_start().starts_with('{') {
            return Ok(None);
        }
        let message: Message<'_> = match serde_json::from_str(json) {
            Ok(message) => message,
            Err(e) if e.is_data() => return Err(Unread),
            Err(_) => return Ok(None),
        };
        let version = message.jsonrpc.and_then(text);
        let id = message.id.and_then(Id::read);
        if version.as_deref() != Some("2.0") || id.as_ref() != Some(&call.id) {
            return Ok(None);
        }
        Ok(match (message.result, message.error) {
            (Some(result), None) if call.method == Method::Message => a2a::answer(result),
            (Some(result), None) => match object(result) {
                Some(outcome) => Some(Self::of_result(call, outcome)),
                None if result.get().starts_with('{') => return Err(Unread),
                None => None,
            },
            (None, Some(error)) => object(error).map(|error| Self::of_error(call, &error)),
            (Some(_), Some(_)) | (None, None) => None,
        })
    }

    fn of_result(call: &Call, outcome: Outcome<'_>) -> Self {
        let is = |raw: Option<&RawValue>, word: &str| raw.is_some_and(|raw| raw.get() == word);
        let failed = call.method == Method::Tool && is(outcome.is_error, "true");
        let meta: Meta<'_> = outcome.meta.and_then(object).unwrap_or_default();
        let waits = outcome.result_type.and_then(text).as_deref() == Some("payment_required");
        let plain = |challenge| (challenge, Form::Object);
        let asks = if waits {
            outcome.payment_required.and_then(x402).map(plain)
        } else if failed {
            let x402 = outcome.structured_content.and_then(x402_content);
            let x402 = x402.or_else(|| meta.x402_error.and_then(x402_error));
            both(x402, meta.mpp_required.and_then(mpp))
        } else {
            None
        };
        let (challenge, form) = asks.unzip();
        let mut receipts = HeaderMap::new();
        x402_receipt(
            &mut receipts,
            meta.x402_response.or(meta.x402_older_response),
        );
        mpp_receipt(&mut receipts, meta.mpp_receipt);
        let status = match (&challenge, failed) {
            (Some(_), _) => StatusCode::PAYMENT_REQUIRED,
            // What a tool says of its input, for money.
            (None, true) if !receipts.is_empty() => StatusCode::BAD_REQUEST,
            (None, true) => StatusCode::INTERNAL_SERVER_ERROR,
            (None, false) => StatusCode::OK,
        };
        Self {
            challenge,
            form: form.unwrap_or_default(),
            status,
            receipts,
            task: None,
        }
    }

    fn of_error(call: &Call, failure: &Failure<'_>) -> Self {
        let challenge = match failure.code {
            // A2A has no errors that ask for money.
            _ if call.method == Method::Message => None,
            X402_CODE => {
                let x402 = failure.data.and_then(x402).map(|c| (c, Form::Object));
                both(x402, failure.data.and_then(mpp)).map(|(challenge, _)| challenge)
            }
            code if MPP_CODES.contains(&code) => failure.data.and_then(mpp),
            _ => None,
        };
        let status = match challenge {
            Some(_) => StatusCode::PAYMENT_REQUIRED,
            None => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut receipts = HeaderMap::new();
        let data: Meta<'_> = failure.data.and_then(object).unwrap_or_default();
        x402_receipt(&mut receipts, data.x402_response);
        Self {
            challenge,
            status,
            receipts,
            ..Self::default()
        }
    }
}

/// Terms of either version of x402.
pub(super) fn x402(raw: &RawValue) -> Option<Challenge> {
    let terms: Terms<'_> = object(raw)?;
    let version = terms.x402_version?;
    terms.accepts?;
    let mut challenge = Challenge::default();
    let (protocol, read): (&dyn Protocol, _) = match version.get() {
        "1" => {
            let read = x402_v1::read(Some(raw.get().as_bytes()), &mut challenge);
            (&x402_v1::X402V1, read)
        }
        _ => {
            let read = x402_v2::read_terms(raw.get(), &mut challenge);
            (&x402_v2::X402V2, read)
        }
    };
    challenge.problems.extend(read.err());
    about(protocol, &mut challenge.problems);
    Some(challenge)
}

/// All that is asked for: one of it is paid. The form is that of x402; MPP has one only.
fn both(x402: Option<(Challenge, Form)>, mpp: Option<Challenge>) -> Option<(Challenge, Form)> {
    let Some((mut challenge, form)) = x402 else {
        return mpp.map(|challenge| (challenge, Form::Object));
    };
    if let Some(mpp) = mpp {
        challenge.requirements.extend(mpp.requirements);
        challenge.problems.extend(mpp.problems);
    }
    Some((challenge, form))
}

/// The terms as a tool's content. The transport has those of version 2 there and puts those of version 1 into an
/// error: whoever has them here is `x402-mcp`, or made after it.
fn x402_content(raw: &RawValue) -> Option<(Challenge, Form)> {
    let challenge = x402(raw)?;
    let first = challenge.requirements.first().map(|r| r.protocol);
    let form = match first == Some(x402_v1::DIALECT.protocol) {
        true => Form::NamedText,
        false => Form::Object,
    };
    Some((challenge, form))
}

/// The older place: the terms, as Cloudflare's kit has them, or an error with the terms in its `data`.
fn x402_error(raw: &RawValue) -> Option<(Challenge, Form)> {
    let nested = || {
        object::<Failure<'_>>(raw)
            .filter(|f| f.code == X402_CODE)?
            .data
    };
    match x402(raw) {
        Some(challenge) => Some((challenge, Form::Text)),
        None => Some((x402(nested()?)?, Form::Object)),
    }
}

/// Challenges of MPP: one is enough.
fn mpp(raw: &RawValue) -> Option<Challenge> {
    let terms: MppTerms<'_> = object(raw)?;
    let challenges = terms.challenges.filter(|list| !list.is_empty())?;
    let mut challenge = Challenge::default();
    mpp_native::read(&challenges, &mut challenge);
    about(&mpp::Mpp, &mut challenge.problems);
    Some(challenge)
}

pub(super) fn x402_receipt(receipts: &mut HeaderMap, raw: Option<&RawValue>) {
    let value = raw.map(|raw| HeaderValue::try_from(STANDARD.encode(raw.get())));
    if let Some(Ok(value)) = value {
        for name in [x402_v1::RESPONSE, x402_v2::RESPONSE] {
            receipts.insert(HeaderName::from_static(name), value.clone());
        }
    }
}

fn mpp_receipt(receipts: &mut HeaderMap, raw: Option<&RawValue>) {
    let value = raw.map(|raw| HeaderValue::try_from(URL_SAFE_NO_PAD.encode(raw.get())));
    if let Some(Ok(value)) = value {
        receipts.insert(HeaderName::from_static(mpp::RECEIPT), value);
    }
}

/// A payment header as a member of `params._meta` for this call: its names, and its JSON text. `None`: it has no
/// such form.
#[must_use]
pub fn member(payload: &Payload, call: &Call) -> Option<(&'static [&'static str], String)> {
    let value = payload.value.as_bytes();
    let mpp = payload.name == header::AUTHORIZATION || payload.name == mpp::BESIDE;
    if mpp {
        let token = value.strip_prefix(b"Payment ")?;
        let json = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        return Some((MPP_CREDENTIAL, mpp_native::credential(&json)?));
    }
    let json = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    let text = || Some(format!("\"{}\"", payload.value.to_str().ok()?));
    match call.form {
        Form::Object => Some((X402_PAYMENT, json)),
        Form::Text => Some((X402_PAYMENT, text()?)),
        Form::NamedText => Some((X402_PAYMENTS, text()?)),
    }
}

#[cfg(test)]
mod tests;
