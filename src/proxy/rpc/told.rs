//! What the proxy has to say, as an MCP client reads it: the error of a JSON-RPC answer, with the problem
//! document as its `data`.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::protocol::jsonrpc::Call;
use crate::proxy::body::Body;

/// Of the range that JSON-RPC leaves to implementations (section 5.1). Not -32042: clients take that for a
/// question to their user (MCP) or for terms (MPP).
const CODE: i32 = -32090;

const DECISION: &str = "farepass-decision";

/// Fields that nobody sees once a stream has begun; they are said in comments of the stream.
const NOTED: [&str; 2] = ["farepass-payment", DECISION];

#[derive(Serialize)]
struct Failed<'a> {
    jsonrpc: &'static str,
    id: &'a RawValue,
    error: Failure<'a>,
}

#[derive(Serialize)]
struct Failure<'a> {
    code: i32,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

/// A refusal of ours as the answer to the call. Everything else is left as it is.
pub(super) fn as_answer(response: Response<Body>, call: &Call) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    let kind = head.headers.get(header::CONTENT_TYPE);
    let ours = head.headers.contains_key(DECISION)
        && kind.is_some_and(|kind| kind.as_bytes() == b"application/problem+json");
    let Body::Full(Some(document)) = &body else {
        return Response::from_parts(head, body);
    };
    let Some(text) = ours.then(|| answer(document, call)).flatten() else {
        return Response::from_parts(head, body);
    };
    head.status = StatusCode::OK;
    let json = HeaderValue::from_static("application/json");
    head.headers.insert(header::CONTENT_TYPE, json);
    Response::from_parts(head, Body::full(text))
}

fn answer(document: &[u8], call: &Call) -> Option<String> {
    let problem: Value = serde_json::from_slice(document).ok()?;
    let data: &RawValue = serde_json::from_slice(document).ok()?;
    let (title, detail) = (problem["title"].as_str()?, problem["detail"].as_str()?);
    let message = match title == detail {
        true => title.to_owned(),
        false => format!("{title}: {detail}"),
    };
    written(call, message, Some(data))
}

/// The merchant's answer to the paid request has no place in a stream of events.
pub(super) fn no_answer(call: &Call, status: StatusCode) -> String {
    let message = format!(
        "the server answered the paid request with HTTP {}",
        status.as_u16()
    );
    written(call, message, None).unwrap_or_default()
}

fn written(call: &Call, message: String, data: Option<&RawValue>) -> Option<String> {
    let failed = Failed {
        jsonrpc: "2.0",
        id: serde_json::from_str(&call.id_text).ok()?,
        error: Failure {
            code: CODE,
            message,
            data,
        },
    };
    serde_json::to_string(&failed).ok()
}

/// Our header fields as comments of a stream.
pub(super) fn note(headers: &HeaderMap) -> String {
    let line = |name: &&str| {
        let value = headers.get(*name)?.to_str().ok()?;
        Some(format!(": {name}: {value}\n"))
    };
    NOTED.iter().filter_map(line).collect()
}
