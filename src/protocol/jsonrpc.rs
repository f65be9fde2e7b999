//! JSON-RPC 2.0 requests of MCP (streamable HTTP transport) and of A2A, and what a payment changes of them: bytes are
//! put in at one place, and nothing else is written anew.
//!
//! What cannot be read in one way only (a batch, a repeated member, an `id` that is none) is no call, and
//! nobody pays for it. Some servers know members in any case (CVE-2026-27896), so two that differ by it are one
//! that is repeated.

use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::mcp::Form;
use super::{a2a, encoding};
use crate::payment::Tool;

/// Characters of a name or URI that rules are asked about.
const NAME_MAX: usize = 1024;

/// Characters of an `id` that is text.
const ID_MAX: usize = 256;

/// Nested arrays and objects of a message that is only searched.
const DEPTH_MAX: usize = 512;

/// Keys of `_meta` that carry a payment or a proof of one (x402 transport `mcp`, the package `x402-mcp`,
/// draft-payment-transport-mcp-00).
const META: &[&str] = &["x402/payment", "x402.payment", "org.paymentauth/credential"];

/// The same of a message's `metadata` (x402 transport `a2a`).
const METADATA: &[&str] = &["x402.payment.payload"];

/// What is asked of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `tools/call`: only its results can say that they are errors.
    Tool,
    /// `resources/read`.
    Resource,
    /// `prompts/get`.
    Prompt,
    /// `message/send` and `message/stream` of A2A, which name nothing: their own name stands for one.
    Message,
}

const METHODS: &[(&str, Method)] = &[
    ("tools/call", Method::Tool),
    ("resources/read", Method::Resource),
    ("prompts/get", Method::Prompt),
    ("message/send", Method::Message),
    ("message/stream", Method::Message),
];

/// What answers a request (JSON-RPC section 4). Fractions and `null` are nobody's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Id {
    Number(i64),
    Text(String),
}

/// One request that may be paid for.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is asked for.
    pub method: Method,
    /// The tool's or prompt's name, or the resource's URI; of A2A the method.
    pub name: String,
    /// The `id` as it is written.
    pub id_text: String,
    pub(super) id: Id,
    /// Where the payment goes in, and what stands around it there.
    place: Place,
    /// What differs between two sendings of one question: `id`, `messageId`, and of `_meta` the
    /// `progressToken` and the trace (W3C Trace Context and Baggage).
    passing: Vec<Range<usize>>,
    /// The task of A2A that waits for the payment.
    task: Option<String>,
    /// How whoever asks for the payment reads it.
    pub(super) form: Form,
}

#[derive(Clone, Debug)]
enum Place {
    Meta(Meant),
    Message(a2a::Place),
}

#[derive(Clone, Copy, Debug)]
struct Meant {
    at: usize,
    /// Is there a `_meta`? Else it is made.
    meta: bool,
    /// Is the object that it goes into empty?
    empty: bool,
}

#[derive(Deserialize)]
struct Message<'a> {
    jsonrpc: Option<&'a str>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    uri: Option<&'a RawValue>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta<'a> {
    #[serde(borrow)]
    progress_token: Option<&'a RawValue>,
    #[serde(borrow)]
    traceparent: Option<&'a RawValue>,
    #[serde(borrow)]
    tracestate: Option<&'a RawValue>,
    #[serde(borrow)]
    baggage: Option<&'a RawValue>,
}

impl<'a> Meta<'a> {
    /// What every sending has anew.
    fn passing(&self) -> impl Iterator<Item = &'a RawValue> {
        let trace = [self.traceparent, self.tracestate, self.baggage];
        std::iter::once(self.progress_token).chain(trace).flatten()
    }
}

impl Call {
    /// Reads a request. `None`: nothing that is paid for, and it passes as it is.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let json = std::str::from_utf8(body).ok()?;
        encoding::members(json).ok()?;
        let message: Message<'_> = serde_json::from_str(json).ok()?;
        message.jsonrpc.filter(|version| *version == "2.0")?;
        let id_raw = message.id?;
        let method = text(message.method?)?;
        let (named, method) = METHODS.iter().find(|(name, _)| *name == method)?;
        let params_raw = message.params.filter(|raw| raw.get().starts_with('{'))?;
        let members = encoding::members(params_raw.get()).ok()?;
        let params: Params<'_> = serde_json::from_str(params_raw.get()).ok()?;
        let name = match method {
            Method::Tool | Method::Prompt => text(params.name?)?,
            Method::Resource => text(params.uri?)?,
            Method::Message => (*named).to_owned(),
        };
        let name = Some(name).filter(|name| name.len() <= NAME_MAX)?;
        let mut passing = vec![within(json, id_raw)];
        let place = match (method, params.meta) {
            (Method::Message, _) => {
                let place = a2a::Place::of(json, params_raw)?;
                passing.push(place.passing());
                Place::Message(place)
            }
            (_, Some(raw)) => {
                let meta: Meta<'_> = object(raw)?;
                passing.extend(meta.passing().map(|part| within(json, part)));
                Place::Meta(Meant::of(json, raw, true))
            }
            // `_meta: null` reads like none and is one.
            (_, None) if members.contains_key("_meta") => return None,
            (_, None) => Place::Meta(Meant::of(json, params_raw, false)),
        };
        passing.sort_by_key(|range| range.start);
        Some(Self {
            method: *method,
            name,
            id_text: id_raw.get().to_owned(),
            id: Id::read(id_raw)?,
            place,
            passing,
            task: None,
            form: Form::default(),
        })
    }

    /// What rules are asked about.
    #[must_use]
    pub fn tool(&self) -> Tool {
        match self.method {
            Method::Resource => Tool::resource(&self.name),
            Method::Tool | Method::Prompt | Method::Message => Tool::Named((&*self.name).into()),
        }
    }

    /// The same request, to be paid in this form, and for the task that waits for it.
    #[must_use]
    pub fn asked_for(&self, task: Option<String>, form: Form) -> Self {
        let call = self.clone();
        Self { task, form, ..call }
    }

    /// The same request with more members of `params._meta`: one for each key, and `value`, which is JSON
    /// text, in all of them. `body` is what was read. A message of A2A has a place of its own for it,
    /// whatever the keys.
    #[must_use]
    pub fn with(&self, body: &[u8], keys: &[&str], value: &str) -> Option<Vec<u8>> {
        let place = match &self.place {
            Place::Meta(place) => place,
            Place::Message(place) => return place.with(body, self.task.as_deref()?, value),
        };
        let (before, after) = body.split_at_checked(place.at)?;
        let comma = if place.empty { "" } else { "," };
        let member: Vec<_> = keys.iter().map(|k| format!("\"{k}\":{value}")).collect();
        let member = member.join(",");
        let added = match place.meta {
            true => format!("{member}{comma}"),
            false => format!("\"_meta\":{{{member}}}{comma}"),
        };
        Some([before, added.as_bytes(), after].concat())
    }

    /// The parts of `body` that make it this question: a client that asks again counts its `id` and its
    /// `progressToken` on, and has another span.
    pub fn question<'a>(&'a self, body: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let starts = std::iter::once(0).chain(self.passing.iter().map(|range| range.end));
        let ends = self.passing.iter().map(|range| range.start);
        let parts = starts.zip(ends.chain(std::iter::once(body.len())));
        parts.filter_map(|(start, end)| body.get(start..end))
    }
}

impl Id {
    pub(super) fn read(raw: &RawValue) -> Option<Self> {
        match raw.get().starts_with('"') {
            true => text(raw).filter(|t| t.len() <= ID_MAX).map(Self::Text),
            false => raw.get().parse().ok().map(Self::Number),
        }
    }
}

impl Meant {
    fn of(json: &str, object: &RawValue, meta: bool) -> Self {
        let inside = object.get().get(1..).unwrap_or_default();
        Self {
            at: within(json, object).start + 1,
            meta,
            empty: inside.trim_start().starts_with('}'),
        }
    }
}

/// A JSON string's characters.
pub(super) fn text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// An object's members; serde would take a list for them as well.
pub(super) fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    encoding::object(raw.get()).ok()
}

/// Where a part that was borrowed from `json` stands in it.
pub(super) fn within(json: &str, part: &RawValue) -> Range<usize> {
    let start = (part.get().as_ptr().addr()).saturating_sub(json.as_ptr().addr());
    start..start.saturating_add(part.get().len())
}

/// May a server take this body, which is no [`Call`] here, for one all the same? Not where it is empty, or an object
/// that names another method or none.
#[must_use]
pub fn may_call(body: &[u8]) -> bool {
    let other = || {
        let json = std::str::from_utf8(body).ok()?;
        let members = encoding::members(json).ok()?;
        // A list of one text is that text to some.
        let named = |raw: &&&RawValue| raw.get().starts_with(['"', '[']);
        let Some(method) = members.get("method").filter(named) else {
            return Some(true);
        };
        let method = text(method)?;
        let known = |(name, _): &(&str, Method)| name.eq_ignore_ascii_case(&method);
        Some(!METHODS.iter().any(known))
    };
    !body.is_empty() && other() != Some(true)
}

/// Does this body bring a payment of its own, wherever messages keep one: in a call, in one of a batch,
/// in one that is only nearly a message?
#[must_use]
pub fn carries_payment(body: &[u8]) -> bool {
    // An escape may hide either word, and capitals the second.
    let has = |word: &[u8]| memchr::memmem::find(body, word).is_some();
    let has_alike = |word: &[u8]| {
        let found = |at| body.get(at..)?.get(..word.len());
        let mut starts = memchr::memchr2_iter(b'p', b'P', body).filter_map(found);
        starts.any(|found| found.eq_ignore_ascii_case(word))
    };
    if !has(b"402") && !has_alike(b"paymentauth") && !has(b"\\u") {
        return false;
    }
    let mut open: Vec<&[&str]> = vec![];
    let mut next: &[&str] = &[];
    let mut at = 0;
    while let Some(byte) = body.get(at) {
        match byte {
            // Deeper than any server reads.
            b'{' | b'[' if open.len() == DEPTH_MAX => return false,
            b'{' => open.push(std::mem::take(&mut next)),
            b'[' => {
                open.push(&[]);
                next = &[];
            }
            b'}' | b']' => {
                open.pop();
            }
            b',' => next = &[],
            b'"' => {
                let Some(end) = encoding::string_end(body, at + 1) else {
                    return false;
                };
                let quoted = body.get(at..=end).unwrap_or_default();
                if encoding::is_key(body, end + 1) {
                    let key = serde_json::from_slice::<String>(quoted).unwrap_or_default();
                    let key = encoding::folded(&key);
                    if open.last().is_some_and(|keys| keys.contains(&&*key)) {
                        return true;
                    }
                    next = match key.as_str() {
                        "_meta" => META,
                        "metadata" => METADATA,
                        _ => &[],
                    };
                }
                at = end;
            }
            _ => {}
        }
        at += 1;
    }
    false
}

#[cfg(test)]
mod tests;
