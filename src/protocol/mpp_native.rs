//! MPP challenges and credentials as JSON-RPC messages carry them: as objects, `request` one among them, and
//! not as encoded text (draft-payment-transport-mcp-00).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::authenticate::{CHALLENGES_MAX, Says, beyond};
use super::encoding;
use super::jsonrpc::{object, text};
use super::mpp::{Echo, malformed, requirement};
use crate::payment::{Challenge, Problem, Reason};

/// Members that are text. `request` is an object, `header` counts for nothing here but is echoed, and of the others
/// none counts.
const TEXTS: &[&str] = &[
    "id",
    "realm",
    "method",
    "intent",
    "expires",
    "description",
    "opaque",
];

/// The members of a challenge by their names.
type Members<'a> = BTreeMap<String, &'a RawValue>;

/// A challenge as its credential echoes it.
#[derive(Serialize)]
struct Native<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<&'a str>,
    id: &'a str,
    intent: &'a str,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    opaque: Option<&'a str>,
    realm: &'a str,
    request: Box<RawValue>,
}

/// A credential as HTTP carries it.
#[derive(Deserialize)]
struct Encoded<'a> {
    challenge: Echo,
    #[serde(borrow)]
    payload: &'a RawValue,
    source: &'a str,
}

#[derive(Serialize)]
struct Credential<'a> {
    challenge: Native<'a>,
    payload: &'a RawValue,
    source: &'a str,
}

/// Reads the challenges, which were [`encoding::check`]ed.
pub(super) fn read(challenges: &[&RawValue], into: &mut Challenge) {
    into.problems.extend(beyond(challenges.len()));
    for raw in challenges.iter().take(CHALLENGES_MAX) {
        match read_one(raw).and_then(|echo| requirement(&echo)) {
            Ok(requirement) => into.requirements.push(requirement),
            Err(problem) => into.problems.push(problem),
        }
    }
}

fn read_one(raw: &RawValue) -> Result<Echo, Problem> {
    let members: Option<Members<'_>> = object(raw);
    let mut members = members.ok_or_else(|| malformed("the challenge is not a JSON object"))?;
    // As absent.
    members.retain(|_, raw| raw.get() != "null");
    let echo = Echo::read(&says(&members)?)?;
    // Of a payment in a body no header is asked, but the server's own check may cover what it wrote.
    let header = members.get("header").map(|raw| member(raw));
    let header = header.transpose()?;
    Ok(Echo { header, ..echo })
}

fn member(raw: &RawValue) -> Result<String, Problem> {
    text(raw).ok_or_else(|| malformed("a member of the challenge is not text"))
}

/// The challenge in the form that it has in a header.
fn says(members: &Members<'_>) -> Result<Says, Problem> {
    if members.contains_key("digest") {
        let detail = "the challenge is bound to a body, and no payment can go into a body without changing it";
        return Err(Problem::new(Reason::DigestMismatch, detail));
    }
    let mut params = BTreeMap::new();
    for name in TEXTS {
        if let Some(raw) = members.get(*name) {
            params.insert((*name).to_owned(), member(raw)?);
        }
    }
    if let Some(raw) = members.get("request") {
        let json = Some(raw.get()).filter(|json| json.starts_with('{'));
        let json = json.ok_or_else(|| malformed("the request of the challenge is no object"))?;
        params.insert("request".to_owned(), encoding::encode_url(json.as_bytes()));
    }
    Ok(Says::Params(params))
}

/// The JSON text of a credential, its challenge as it came.
pub(super) fn credential(encoded: &str) -> Option<String> {
    let Encoded {
        challenge: echo,
        payload,
        source,
    } = serde_json::from_str(encoded).ok()?;
    let request = RawValue::from_string(encoding::decode_url(&echo.request)?).ok()?;
    let challenge = Native {
        description: echo.description.as_deref(),
        expires: echo.expires.as_deref(),
        header: echo.header.as_deref(),
        id: &echo.id,
        intent: &echo.intent,
        method: &echo.method,
        opaque: echo.opaque.as_deref(),
        realm: &echo.realm,
        request,
    };
    let credential = Credential {
        challenge,
        payload,
        source,
    };
    serde_json::to_string(&credential).ok()
}
