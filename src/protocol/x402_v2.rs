//! x402 version 2: challenge, payload and receipt travel in headers, networks are CAIP-2.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::encoding::{self, not_json};
use super::entry::{self, Dialect, Shared};
use super::extensions::Extensions;
use super::{Protocol, Repeat, Terms, receipt, x402_v1};
use crate::money::Network;
use crate::payment::{
    Challenge, Instruction, Payload, PaymentId, Problem, Reason, Receipt, Requirement, Signature,
};
use crate::scheme::{self, Recipient};

/// Response header with the challenge.
pub(super) const REQUIRED: &str = "payment-required";

/// Request header with the payload.
const SIGNATURE: &str = "payment-signature";

/// Response header with the receipt.
pub(super) const RESPONSE: &str = "payment-response";

pub(super) const DIALECT: Dialect = Dialect {
    protocol: "x402-v2",
    price: |entry| entry.amount,
    network,
    schemes: &["exact", "upto"],
    permits: true,
    echoes: true,
};

/// x402 version 2.
pub(super) struct X402V2;

/// The challenge, its members still as written (x402 v2 section 5.1).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Required<'a> {
    #[serde(borrow)]
    x402_version: Option<&'a RawValue>,
    #[serde(borrow)]
    accepts: Option<&'a RawValue>,
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    #[serde(borrow)]
    extensions: Option<&'a RawValue>,
}

/// `resource` of a challenge, as far as it is compared.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource<'a> {
    #[serde(borrow)]
    url: Option<&'a RawValue>,
    #[serde(borrow)]
    mime_type: Option<&'a RawValue>,
}

/// The payload, members in the order of the official client (x402 v2 section 5.2).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Paid<'a> {
    x402_version: u8,
    payload: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    extensions: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'a RawValue>,
    accepted: &'a RawValue,
}

impl Protocol for X402V2 {
    fn name(&self) -> &'static str {
        DIALECT.protocol
    }

    fn schemes(&self) -> &'static [&'static str] {
        DIALECT.schemes
    }

    fn payment_headers(&self) -> &'static [&'static str] {
        &[SIGNATURE]
    }

    fn receipt_headers(&self) -> &'static [&'static str] {
        &[RESPONSE]
    }

    fn recognises(&self, head: &response::Parts) -> bool {
        head.headers.contains_key(REQUIRED)
    }

    fn needs_body(&self) -> bool {
        false
    }

    fn read(&self, head: &response::Parts, _body: Option<&[u8]>, into: &mut Challenge) {
        if let Err(problem) = read(&head.headers, into) {
            into.problems.push(problem);
        }
    }

    fn instruct(&self, terms: &Terms<'_>) -> Result<Instruction, Problem> {
        // Zero, as the official client signs: a merchant's slow clock cannot make it early.
        super::instruct(terms, 0)
    }

    fn payload(
        &self,
        requirement: &Requirement,
        instruction: &Instruction,
        signature: &Signature,
        id: PaymentId,
    ) -> Result<Payload, Problem> {
        let offer = &requirement.offer;
        let inner = scheme::payload(requirement, instruction, signature, Recipient::Checksummed)?;
        let raw = |text: &str| RawValue::from_string(text.into()).map_err(|_| not_json());
        let extensions = match &offer.extensions {
            Some(text) => Some(raw(&Extensions::echo(text, id)?)?),
            None => None,
        };
        let resource = offer.resource.as_deref().map(raw).transpose()?;
        let accepted = raw(&offer.entry)?;
        let paid = Paid {
            x402_version: 2,
            payload: &inner,
            extensions: extensions.as_deref(),
            resource: resource.as_deref(),
            accepted: &accepted,
        };
        carry(SIGNATURE, &paid)
    }

    fn fits(&self, requirement: &Requirement, repeat: &Repeat<'_>) -> Result<(), Problem> {
        match requirement
            .offer
            .extensions
            .as_deref()
            .map(Extensions::read)
        {
            Some(Ok(extensions)) => extensions.login_of(repeat.host),
            Some(Err(_)) | None => Ok(()),
        }
    }

    fn stands(&self, requirement: &Requirement) -> bool {
        let extensions = requirement.offer.extensions.as_deref();
        requirement.expires.is_none()
            && extensions.is_none_or(Extensions::stand)
            && entry::stands(&requirement.offer.entry)
    }

    fn receipt(&self, headers: &HeaderMap) -> Receipt {
        receipt::read(headers, RESPONSE, x402_v1::RESPONSE)
    }
}

/// One payload as a header that no log prints.
pub(super) fn carry(name: &'static str, paid: &impl Serialize) -> Result<Payload, Problem> {
    let json = serde_json::to_vec(paid).map_err(|_| not_json())?;
    let mut value = HeaderValue::from_str(&encoding::encode(&json)).map_err(|_| not_json())?;
    value.set_sensitive(true);
    Ok(Payload {
        name: HeaderName::from_static(name),
        value,
    })
}

fn read(headers: &HeaderMap, into: &mut Challenge) -> Result<(), Problem> {
    let Some(value) = encoding::only(headers, REQUIRED)? else {
        return Ok(());
    };
    let json = encoding::decode(value)?;
    encoding::check(&json)?;
    read_terms(&json, into)
}

/// Reads the terms, which were [`encoding::check`]ed.
pub(super) fn read_terms(json: &str, into: &mut Challenge) -> Result<(), Problem> {
    let required: Required<'_> = encoding::object(json)?;
    version(required.x402_version)?;
    let extensions = required.extensions.map(|raw| Extensions::read(raw.get()));
    let extensions = extensions.transpose()?.unwrap_or_default();
    let shared = shared(&required, &extensions)?;
    extensions.login(shared.url.as_deref())?;
    let read = entry::read_all(&DIALECT, required.accepts, &shared, into);
    if extensions.has_login() && into.requirements.is_empty() {
        let detail = "the challenge asks for a login signature, and nothing else in it is payable";
        into.problems
            .push(Problem::new(Reason::MessageSigningRefused, detail));
    }
    read
}

/// What all entries have in common.
fn shared(required: &Required<'_>, extensions: &Extensions<'_>) -> Result<Shared, Problem> {
    let mut shared = Shared {
        resource: required.resource.map(|raw| raw.get().into()),
        extensions: required.extensions.map(|raw| Arc::from(raw.get())),
        approvals: extensions.takes_approvals(),
        signed: extensions.signed_offers(),
        ..Shared::default()
    };
    if let Some(raw) = required.resource {
        let unreadable = || {
            let detail = "the resource of the challenge cannot be read";
            Problem::new(Reason::MalformedChallenge, detail)
        };
        let resource: Resource<'_> = encoding::object(raw.get()).map_err(|_| unreadable())?;
        shared.mime_type = entry::media_type(resource.mime_type);
        shared.url = match resource.url {
            Some(url) => Some(entry::text(url).ok_or_else(unreadable)?),
            None => None,
        };
    }
    Ok(shared)
}

fn version(raw: Option<&RawValue>) -> Result<(), Problem> {
    match raw.map(RawValue::get) {
        Some("2") => Ok(()),
        Some(other) if is_number(other) => Err(Problem::new(
            Reason::VersionUnsupported,
            "the challenge names a version of x402 other than 2",
        )),
        Some(_) | None => Err(not_json()),
    }
}

/// Is this JSON a number? Some are longer than any that Rust has, and a version all the same.
pub(super) fn is_number(json: &str) -> bool {
    json.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

/// CAIP-2 only: the names of version 1 mean nothing here, and Lightning has a protocol of its own.
pub(super) fn network(name: &str) -> Option<Network> {
    name.contains(':').then(|| name.parse().ok()).flatten()
}
