//! The outermost layer of every x402 message: one header line, base64, strict JSON. All limits on
//! outside bytes are here.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, HeaderValue};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::payment::{Problem, Reason};

/// Decoded bytes of one header. Real ones stay below 4 KiB.
const HEADER_MAX: usize = 64 << 10;

/// Nested arrays and objects. Real challenges stay below 10; schemas inside extensions nest most.
const DEPTH_MAX: usize = 32;

/// Members and list items of one message: keeps the work on a 1 MiB body below a few milliseconds.
const PARTS_MAX: usize = 10_000;

/// The standard alphabet, with or without padding, no stray bits: never the URL-safe one (x402
/// decoders treat it as no payment at all).
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Base64 as it is sent: standard alphabet, padded.
pub(super) fn encode(text: &[u8]) -> String {
    BASE64.encode(text)
}

/// Base64url without padding (RFC 4648 section 5), as MPP sends it.
pub(super) fn encode_url(text: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// Text in base64url. Padding is not sent and, when it is, stands for nothing.
pub(super) fn decode_url(text: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
    String::from_utf8(bytes).ok()
}

/// The one line of this header, if there is one. Two lines are unusable even when they are equal:
/// every hop may join or drop them in its own way.
pub(super) fn only<'a>(
    headers: &'a HeaderMap,
    name: &str,
) -> Result<Option<&'a HeaderValue>, Problem> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next();
    match lines.next() {
        None => Ok(first),
        Some(_) => Err(Problem::new(
            Reason::AmbiguousChallenge,
            "the payment header is there more than once",
        )),
    }
}

/// Base64 of JSON text in a header, bounded before it is decoded.
pub(super) fn decode(value: &HeaderValue) -> Result<String, Problem> {
    if value.len() > HEADER_MAX.div_ceil(3) * 4 {
        return Err(too_large());
    }
    let bytes = BASE64.decode(value.as_bytes()).map_err(|_| {
        Problem::new(
            Reason::MalformedChallenge,
            "the payment header is not standard base64",
        )
    })?;
    String::from_utf8(bytes).map_err(|_| not_utf8())
}

/// JSON text of a body. Its length was bounded by whoever read it.
pub(super) fn text(body: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(body).map_err(|_| not_utf8())
}

/// Refuses what JSON readers understand differently or what costs too much to read: repeated
/// members, deep nesting, very many parts. Does not check the grammar; the reader that follows does.
pub(super) fn check(json: &str) -> Result<(), Problem> {
    let bytes = json.as_bytes();
    let mut open: Vec<BTreeSet<Cow<'_, str>>> = Vec::new();
    let (mut at, mut parts) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' if open.len() == DEPTH_MAX => return Err(too_large()),
            b'{' | b'[' => open.push(BTreeSet::new()),
            b'}' | b']' => {
                open.pop();
            }
            b',' if parts == PARTS_MAX => return Err(too_large()),
            b',' => parts += 1,
            b'"' => {
                let end = string_end(bytes, at + 1).ok_or_else(not_json)?;
                let key = json.get(at..=end).filter(|_| is_key(bytes, end + 1));
                if let (Some(key), Some(seen)) = (key, open.last_mut())
                    && !seen.insert(unescape(key)?)
                {
                    return Err(repeated());
                }
                at = end;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// Where the string that starts at `from` ends: the place of its closing quote.
pub(super) fn string_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Is the next thing after a string a colon?
pub(super) fn is_key(bytes: &[u8], after: usize) -> bool {
    let rest = bytes.get(after..).unwrap_or_default();
    let next = rest.iter().find(|b| !b.is_ascii_whitespace());
    next == Some(&b':')
}

/// The characters that a quoted key stands for, so that an escape cannot hide a repetition.
fn unescape(quoted: &str) -> Result<Cow<'_, str>, Problem> {
    if quoted.contains('\\') {
        let key: String = serde_json::from_str(quoted).map_err(|_| not_json())?;
        return Ok(Cow::Owned(key));
    }
    Ok(Cow::Borrowed(quoted.trim_matches('"')))
}

/// An object's members, each borrowed as it is written; serde would take a list for them as well.
pub(super) fn object<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, Problem> {
    match json.trim_ascii_start().starts_with('{') {
        true => serde_json::from_str(json).map_err(|_| not_json()),
        false => Err(not_json()),
    }
}

/// An object's members by their names as readers without case have them ([`folded`]). A name that is there
/// twice then is an error: which of them counts depends on the reader. What they hold is stepped over, however
/// much or deep it is.
pub(super) fn members(json: &str) -> Result<BTreeMap<String, &RawValue>, Problem> {
    let Members(written) = object(json)?;
    let count = written.len();
    let alike = written.into_iter().map(|(key, raw)| (folded(&key), raw));
    let alike: BTreeMap<_, _> = alike.collect();
    match alike.len() == count {
        true => Ok(alike),
        false => Err(repeated()),
    }
}

/// An object's members in order, values verbatim, repeated ones as well, and no more of them than are read.
#[derive(Default)]
pub(super) struct Members<'a>(pub(super) Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reading)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Members<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = vec![];
        while let Some(member) = map.next_entry()? {
            if members.len() > PARTS_MAX {
                return Err(Error::custom("too many members"));
            }
            members.push(member);
        }
        Ok(Members(members))
    }
}

/// A name without case, as Go's `encoding/json` compares it: ASCII, and the two letters beyond it that fold into it.
pub(super) fn folded(name: &str) -> String {
    let fold = |c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    name.chars().map(fold).collect()
}

/// The message is no JSON of the shape that it must have.
pub(super) fn not_json() -> Problem {
    Problem::new(
        Reason::MalformedChallenge,
        "the challenge is not the JSON that it should be",
    )
}

fn repeated() -> Problem {
    Problem::new(
        Reason::AmbiguousChallenge,
        "a member is there more than once",
    )
}

fn not_utf8() -> Problem {
    Problem::new(Reason::MalformedChallenge, "the challenge is not UTF-8")
}

fn too_large() -> Problem {
    Problem::new(
        Reason::LimitsExceeded,
        "the challenge is longer, deeper or has more parts than is read",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(json: &str) -> Option<Reason> {
        check(json).err().map(|p| p.reason)
    }

    #[test]
    fn repeated_members_are_found_however_they_are_written() {
        let twice = Some(Reason::AmbiguousChallenge);
        assert_eq!(reason(r#"{"a":1,"a":2}"#), twice);
        assert_eq!(reason(r#"{"x":[{"a":1},{"b":{"c":1,"c" : 1}}]}"#), twice);
        assert_eq!(reason(r#"{"amount":"1","\u0061mount":"2"}"#), twice);
        assert_eq!(reason(r#"{"a\"":1,"a\"":1}"#), twice);
        assert_eq!(reason(r#"{"a":1,"b":{"a":1},"c":[{"a":1},{"a":1}]}"#), None);
        assert_eq!(
            reason(r#"{"a":"a","b":"b","c":["a","a"],"d":"{\"a\":1,\"a\":2}"}"#),
            None
        );
    }

    #[test]
    fn names_that_differ_by_case_are_one_name() {
        for alike in [
            r#"{"name":1,"Name":2}"#,
            r#"{"params":1,"param\u017f":2}"#,
            "{\"params\":1,\"PARAM\u{17f}\":2}",
            "{\"key\":1,\"\u{212a}ey\":2}",
        ] {
            let problem = members(alike).unwrap_err();
            assert_eq!(problem.reason, Reason::AmbiguousChallenge, "{alike}");
        }
        let apart = members(r#"{"Name":1,"names":{"a":1,"A":2}}"#).unwrap();
        assert_eq!(apart.keys().collect::<Vec<_>>(), ["name", "names"]);
    }

    #[test]
    fn depth_and_parts_are_bounded() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(reason(&nested(DEPTH_MAX)), None);
        assert_eq!(reason(&nested(DEPTH_MAX + 1)), Some(Reason::LimitsExceeded));
        assert_eq!(reason(&format!("[0{}]", ",0".repeat(PARTS_MAX))), None);
        let many = format!("[0{}]", ",0".repeat(PARTS_MAX + 1));
        assert_eq!(reason(&many), Some(Reason::LimitsExceeded));
    }

    #[test]
    fn headers_are_bounded_before_they_are_decoded() {
        let long = |n: usize| HeaderValue::from_str(&encode(&vec![b'x'; n])).unwrap();
        assert!(decode(&long(HEADER_MAX)).is_ok());
        let over = decode(&long(HEADER_MAX + 3)).unwrap_err();
        assert_eq!(over.reason, Reason::LimitsExceeded);
    }

    #[test]
    fn base64_is_the_standard_alphabet_with_or_without_padding() {
        let read = |s: &str| decode(&HeaderValue::from_str(s).unwrap()).ok();
        assert_eq!(read("Pz8/Pj4+YQ==").as_deref(), Some("???>>>a"));
        assert_eq!(read("Pz8/Pj4+YQ").as_deref(), Some("???>>>a"));
        for bad in [
            "Pz8_Pj4-YQ==",
            "Pz8/Pj4+YR==",
            "YQ==YQ==",
            "YQ= =",
            "!!!",
            "e30=,e30=",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
