//! Payments asked for by agents of the A2A protocol (x402 transport `a2a`): a task waits for input, and the
//! metadata of its status says what for. The payment goes with the same message to that task.
//!
//! Every event of a stream answers the same call, so only what ends it, or tells what became of a payment, is
//! its answer here.

use std::ops::Range;

use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::jsonrpc::{object, text, within};
use super::mcp::{self, Answer};

/// Beginning of the keys of `metadata` that are about payments.
const KEYS: &str = "x402.payment.";

/// Characters of a task's name.
const TASK_MAX: usize = 256;

/// Where the parts of a message stand that a payment changes.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Just behind the message's opening brace.
    inside: usize,
    /// Just behind that of its `metadata`, and whether nothing is in there.
    metadata: Option<(usize, bool)>,
    /// The text of `messageId`.
    message: Range<usize>,
    /// The text of `taskId`.
    task: Option<Range<usize>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    #[serde(borrow)]
    message_id: Option<&'a RawValue>,
    #[serde(borrow)]
    task_id: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

/// A task, a message or an event of a stream, as far as they differ.
#[derive(Deserialize)]
struct Outcome<'a> {
    #[serde(borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow, rename = "taskId")]
    task_id: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Status<'a> {
    #[serde(borrow)]
    state: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, rename = "x402.payment.status")]
    status: Option<&'a RawValue>,
    #[serde(borrow, rename = "x402.payment.required")]
    required: Option<&'a RawValue>,
    #[serde(borrow, rename = "x402.payment.receipts")]
    receipts: Option<&'a RawValue>,
}

impl Place {
    /// Finds the parts in the request's `params`. `None`: a message without a name, or one that speaks of a
    /// payment itself.
    pub(super) fn of(json: &str, params: &RawValue) -> Option<Self> {
        let params: Params<'_> = object(params)?;
        let raw = params.message?;
        let message: Message<'_> = object(raw)?;
        let id = message.message_id?;
        text(id)?;
        if let Some(task) = message.task_id {
            text(task)?;
        }
        Some(Self {
            inside: within(json, raw).start + 1,
            metadata: match message.metadata {
                Some(raw) => Some(metadata(json, raw)?),
                None => None,
            },
            message: within(json, id),
            task: message.task_id.map(|task| within(json, task)),
        })
    }

    /// What differs between two sendings of one message.
    pub(super) fn passing(&self) -> Range<usize> {
        self.message.clone()
    }

    /// The request with its payment, for this task. A message that was sent before may be taken for that one,
    /// so it gets another name; the same one for the same payment.
    pub(super) fn with(&self, body: &[u8], task: &str, payment: &str) -> Option<Vec<u8>> {
        let named = |range: &Range<usize>| {
            let text: String = serde_json::from_slice(body.get(range.clone())?).ok()?;
            Some(text)
        };
        let renamed = format!("{}-paid", named(&self.message)?);
        let renamed = serde_json::to_string(&renamed).ok()?;
        let task = serde_json::to_string(task).ok()?;
        let members = format!("\"{KEYS}status\":\"payment-submitted\",\"{KEYS}payload\":{payment}");
        let mut edits = vec![(self.message.clone(), renamed)];
        match &self.task {
            Some(range) => edits.push((range.clone(), task)),
            None => edits.push((self.inside..self.inside, format!("\"taskId\":{task},"))),
        }
        match self.metadata {
            Some((at, true)) => edits.push((at..at, members)),
            Some((at, false)) => edits.push((at..at, format!("{members},"))),
            None => {
                let added = format!("\"metadata\":{{{members}}},");
                edits.push((self.inside..self.inside, added));
            }
        }
        edits.sort_by_key(|(range, _)| range.start);
        let (mut out, mut at) = (Vec::with_capacity(body.len() + 4096), 0);
        for (range, new) in edits {
            out.extend_from_slice(body.get(at..range.start)?);
            out.extend_from_slice(new.as_bytes());
            at = range.end;
        }
        out.extend_from_slice(body.get(at..)?);
        Some(out)
    }
}

/// Where members go in, if none there is about a payment.
fn metadata(json: &str, raw: &RawValue) -> Option<(usize, bool)> {
    let members: std::collections::BTreeMap<String, &RawValue> = object(raw)?;
    let about = |key: &String| key.starts_with(KEYS);
    let place = (within(json, raw).start + 1, members.is_empty());
    (!members.keys().any(about)).then_some(place)
}

/// Reads a result. `None`: the answer is still to come.
pub(super) fn answer(raw: &RawValue) -> Option<Answer> {
    let outcome: Outcome<'_> = object(raw)?;
    let task = match text(outcome.kind?)?.as_str() {
        "message" => {
            let said = outcome.metadata.and_then(object).unwrap_or_default();
            return Some(ended(&said, StatusCode::OK));
        }
        "task" => outcome.id?,
        "status-update" => outcome.task_id?,
        _ => return None,
    };
    let status: Status<'_> = outcome.status.and_then(object).unwrap_or_default();
    let said = status.message.and_then(object::<Carrier<'_>>);
    let said = said.and_then(|said| object(said.metadata?));
    let said: Metadata<'_> = said.unwrap_or_default();
    let state = text(status.state?)?;
    let word = said.status.and_then(text);
    match (state.as_str(), word.as_deref()) {
        ("input-required", Some("payment-required")) => {
            let task = text(task).filter(|task| task.len() <= TASK_MAX)?;
            let challenge = said.required.and_then(mcp::x402)?;
            Some(Answer {
                challenge: Some(challenge),
                status: StatusCode::PAYMENT_REQUIRED,
                receipts: receipts(&said),
                task: Some(task),
                ..Answer::default()
            })
        }
        (_, Some("payment-failed")) => Some(ended(&said, StatusCode::PAYMENT_REQUIRED)),
        ("completed" | "input-required" | "auth-required", _) => Some(ended(&said, StatusCode::OK)),
        ("failed" | "rejected" | "canceled", _) => {
            Some(ended(&said, StatusCode::INTERNAL_SERVER_ERROR))
        }
        // A task that was only begun, when nobody waits for its end.
        (_, Some("payment-completed")) => Some(ended(&said, StatusCode::OK)),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Carrier<'a> {
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

fn ended(said: &Metadata<'_>, status: StatusCode) -> Answer {
    Answer {
        status,
        receipts: receipts(said),
        ..Answer::default()
    }
}

/// The last receipt: those before it are of earlier payments for the task.
fn receipts(said: &Metadata<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let list: Option<Vec<&RawValue>> = said
        .receipts
        .and_then(|raw| serde_json::from_str(raw.get()).ok());
    mcp::x402_receipt(&mut headers, list.unwrap_or_default().last().copied());
    headers
}

#[cfg(test)]
mod tests;
