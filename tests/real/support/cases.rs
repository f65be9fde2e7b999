//! `adv402/1` files: scripted 402 exchanges, and the merchant's half of them.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::agent::{Ask, Url};
use super::http::Answer;
use super::json::{Json, Style};
use super::merchant::{After, Seen};
use super::{linger, sha256};

/// One file, the defaults folded into each case.
pub(crate) struct File {
    pub(crate) cases: Vec<Case>,
    pub(crate) deadline_s: i64,
    pub(crate) key: [u8; 32],
}

#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) requires: Vec<String>,
    pub(crate) setup: bool,
    pub(crate) policy: Json,
    pub(crate) requests: Vec<Request>,
    pub(crate) steps: Vec<Json>,
    pub(crate) expect: Json,
    pub(crate) unsupported: Option<Json>,
    no_step: Json,
}

/// Requests that are sent `count` times, `concurrency` at once.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) ask: Ask,
    pub(crate) count: usize,
    pub(crate) concurrency: usize,
    pub(crate) delay: std::time::Duration,
}

impl File {
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let doc = Json::parse(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        let version = doc
            .get("format")
            .and_then(|f| f.get("version"))
            .and_then(Json::text);
        if version.is_some_and(|v| v != "adv402/1") {
            return Err(format!("{}: not an adv402/1 file", path.display()));
        }
        let key = sha256(b"adv402 test wallet");
        let defaults = doc.get("defaults").cloned().unwrap_or(Json::Null);
        let payer = super::chain::payer(&key);
        let cases = doc.get("cases").map(Json::items).unwrap_or_default();
        Ok(Self {
            cases: cases
                .iter()
                .map(|case| Case::read(case, &defaults, &payer))
                .collect(),
            deadline_s: defaults
                .get("agent_deadline_s")
                .and_then(Json::int)
                .unwrap_or(10),
            key,
        })
    }
}

impl Case {
    fn read(case: &Json, defaults: &Json, payer: &str) -> Self {
        let text = |key: &str| case.get(key).and_then(Json::text).unwrap_or_default();
        let mut policy = defaults
            .get("policy")
            .map(Json::members)
            .unwrap_or_default()
            .to_vec();
        policy.extend(
            case.get("policy")
                .map(Json::members)
                .unwrap_or_default()
                .iter()
                .cloned(),
        );
        let list = |key: &str| case.get(key).map(Json::items).unwrap_or_default().to_vec();
        Self {
            id: text("id"),
            title: text("title"),
            requires: list("requires").iter().filter_map(Json::text).collect(),
            setup: case.get("setup").is_some(),
            policy: Json::Object(policy),
            requests: list("requests")
                .iter()
                .map(|r| Request::read(r, payer))
                .collect(),
            steps: list("steps"),
            expect: case.get("expect").cloned().unwrap_or(Json::Null),
            unsupported: case.get("unsupported_expect").cloned(),
            no_step: defaults
                .get("paid_response_if_no_step")
                .cloned()
                .unwrap_or(Json::Null),
        }
    }

    /// Every host and port that the case speaks of: all of them lead to the scripted merchant.
    pub(crate) fn origins(&self) -> Vec<(String, u16)> {
        let mut hosts: Vec<(String, u16)> = vec![];
        for request in &self.requests {
            let url = &request.ask.url;
            hosts.push((
                url.host.trim_end_matches('.').to_ascii_lowercase(),
                url.port,
            ));
        }
        let named = self
            .policy
            .get("hosts")
            .map(Json::items)
            .unwrap_or_default()
            .iter();
        let upstream = self.expect.get("upstream");
        let never = upstream
            .and_then(|u| u.get("never_contacted"))
            .map(Json::items)
            .unwrap_or_default();
        let steps = self.steps.iter().filter_map(|s| s.get("host"));
        for host in named.chain(never).chain(steps).filter_map(Json::text) {
            let url = Url::parse(&format!("https://{host}"));
            hosts.push((
                url.host.trim_end_matches('.').to_ascii_lowercase(),
                url.port,
            ));
        }
        // A pattern is no host, and an address is never pinned: pinning would allow it.
        let number = |host: &str| {
            host.rsplit('.')
                .next()
                .is_some_and(|l| l.starts_with(|c: char| c.is_ascii_digit()))
        };
        hosts.retain(|(host, _)| !host.is_empty() && !host.contains(['*', ':']) && !number(host));
        let plain: Vec<_> = hosts
            .iter()
            .filter(|h| h.1 == 443)
            .map(|h| (h.0.clone(), 80))
            .collect();
        hosts.extend(plain);
        hosts.sort();
        hosts.dedup();
        hosts
    }
}

impl Request {
    fn read(request: &Json, payer: &str) -> Self {
        let place = Place { payer, n: 1 };
        let url = request.get("url").and_then(Json::text).unwrap_or_default();
        let fields = request.get("headers").map(Json::items).unwrap_or_default();
        let field = |f: &Json| {
            let name = f.items().first().and_then(Json::text).unwrap_or_default();
            let value = f
                .items()
                .get(1)
                .map(|v| place.header(v))
                .unwrap_or_default();
            (name, String::from_utf8_lossy(&value).into_owned())
        };
        let number = |key: &str| {
            let n = request
                .get(key)
                .and_then(Json::int)
                .and_then(|n| usize::try_from(n).ok());
            n.unwrap_or(1).max(1)
        };
        Self {
            ask: Ask {
                method: request
                    .get("method")
                    .and_then(Json::text)
                    .unwrap_or("GET".into()),
                url: Url::parse(&url),
                fields: fields.iter().map(field).collect(),
                body: request
                    .get("body")
                    .map(|b| place.body(b))
                    .unwrap_or_default(),
            },
            count: number("count"),
            concurrency: number("concurrency"),
            delay: request
                .get("delay_before_s")
                .and_then(Json::duration)
                .unwrap_or_default(),
        }
    }
}

/// What the merchant sent, to compare with what the agent got.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) bytes: Vec<u8>,
}

impl Sent {
    /// Did the agent get this, unchanged?
    pub(crate) fn is(&self, answer: &Answer) -> bool {
        let mut from = self.bytes.as_slice();
        let Ok(sent) = super::http::read_answer(&mut from, "GET") else {
            return true;
        };
        let body = sent.body.sha256 == answer.body.sha256
            || (!answer.body.whole && sent.body.start.starts_with(&answer.body.start));
        sent.status == answer.status && body
    }
}

/// The merchant's side of one case: the first step that matches answers.
pub(crate) struct Play {
    case: Case,
    payer: String,
    used: Mutex<Vec<i64>>,
    pub(crate) sent: Mutex<Vec<Sent>>,
}

impl Play {
    pub(crate) fn new(case: &Case, payer: &str) -> Self {
        Self {
            case: case.clone(),
            payer: payer.to_owned(),
            used: Mutex::new(vec![0; case.steps.len()]),
            sent: Mutex::default(),
        }
    }

    fn pick(&self, seen: &Seen) -> (Json, i64) {
        let mut used = self.used.lock().unwrap();
        let paid = if seen.payment().is_some() {
            "paid"
        } else {
            "unpaid"
        };
        for (step, used) in self.case.steps.iter().zip(used.iter_mut()) {
            let says = |key: &str, value: &str| {
                step.get(key)
                    .and_then(Json::text)
                    .is_none_or(|want| want == value || (key == "host" && want == "*"))
            };
            let when = step
                .get("when")
                .and_then(Json::text)
                .unwrap_or("any".into());
            let times = step.get("times").and_then(Json::int).unwrap_or(i64::MAX);
            let here = says("host", &seen.host)
                && says("method", &seen.method)
                && says("path", seen.path());
            if here && (when == "any" || when == paid) && *used < times {
                *used += 1;
                return (step.get("respond").cloned().unwrap_or(Json::Null), *used);
            }
        }
        match (paid, self.case.no_step.get("status")) {
            ("paid", Some(_)) => (self.case.no_step.clone(), 1),
            _ => (
                Json::parse(r#"{"status": 404, "body": "no step"}"#).unwrap(),
                1,
            ),
        }
    }

    pub(crate) fn answer(&self, seen: &Seen, out: &mut dyn Write) -> io::Result<After> {
        let (respond, n) = self.pick(seen);
        let fault = respond.get("fault").cloned().unwrap_or(Json::Null);
        let time = |key: &str| fault.get(key).and_then(Json::duration);
        if fault.get("reset") == Some(&Json::Bool(true)) {
            return Ok(After::Reset);
        }
        if let Some(time) = time("hang_s") {
            linger(time);
            return Ok(After::Close);
        }
        linger(time("delay_s").unwrap_or_default());
        let mut bytes = Place {
            payer: &self.payer,
            n,
        }
        .render(&respond);
        let cut = fault.get("close_after_bytes").and_then(Json::int);
        if let Some(cut) = cut.and_then(|c| usize::try_from(c).ok()) {
            bytes.truncate(cut);
        }
        self.sent.lock().unwrap().push(Sent {
            bytes: bytes.clone(),
        });
        match fault.get("drip_bytes_per_s").and_then(Json::int) {
            Some(rate) => drip(&bytes, u32::try_from(rate).unwrap_or(1).max(1), out)?,
            None => out.write_all(&bytes)?,
        }
        out.flush()?;
        let raw = respond.get("raw").is_some() || respond.get("raw_parts").is_some();
        Ok(if raw || cut.is_some() {
            After::Close
        } else {
            After::Keep
        })
    }
}

fn drip(bytes: &[u8], rate: u32, out: &mut dyn Write) -> io::Result<()> {
    let head = bytes
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .map_or(0, |at| at + 4);
    out.write_all(&bytes[..head])?;
    for byte in &bytes[head..] {
        out.write_all(&[*byte])?;
        out.flush()?;
        linger(std::time::Duration::from_secs(1) / rate);
    }
    Ok(())
}

/// Where templates are filled in.
struct Place<'a> {
    payer: &'a str,
    n: i64,
}

impl Place<'_> {
    fn template(&self, name: &str) -> Option<String> {
        let (kind, rest) = name.split_once(':').unwrap_or((name, ""));
        let unix = || {
            let plus: i64 = rest.trim_start_matches('+').parse().unwrap_or(0);
            i64::try_from(super::unix_now()).unwrap() + plus
        };
        match kind {
            "origin" => Some(format!("https://{rest}")),
            "hostport" => Some(rest.to_owned()),
            "unix" => Some(unix().to_string()),
            "rfc3339" => {
                let time = time::OffsetDateTime::from_unix_timestamp(unix()).ok()?;
                time.format(&time::format_description::well_known::Rfc3339)
                    .ok()
            }
            "payer" => Some(self.payer.to_owned()),
            "n" => Some(self.n.to_string()),
            _ => None,
        }
    }

    fn fill(&self, text: &[u8]) -> Vec<u8> {
        let find = |in_: &[u8], what: &[u8]| in_.windows(2).position(|w| w == what);
        let mut out = vec![];
        let mut rest = text;
        while let Some(open) = find(rest, b"{{") {
            let close = find(&rest[open..], b"}}").map(|at| open + at);
            let name =
                close.map(|close| String::from_utf8_lossy(&rest[open + 2..close]).into_owned());
            match (close, name.and_then(|n| self.template(&n))) {
                (Some(close), Some(value)) => {
                    out.extend_from_slice(&rest[..open]);
                    out.extend_from_slice(value.as_bytes());
                    rest = &rest[close + 2..];
                }
                _ => {
                    out.extend_from_slice(&rest[..open + 1]);
                    rest = &rest[open + 1..];
                }
            }
        }
        out.extend_from_slice(rest);
        out
    }

    fn json(&self, value: &Json, style: Style) -> Vec<u8> {
        value.map(&|s| self.fill(s)).write(style).into_bytes()
    }

    fn body(&self, body: &Json) -> Vec<u8> {
        if let Json::String(text) = body {
            return self.fill(text);
        }
        let Some((kind, value)) = body.members().first() else {
            return vec![];
        };
        let count = |v: &Json| v.int().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        match kind.as_slice() {
            b"json" => self.json(value, Style::Spaced),
            b"text" => self.body(value),
            b"repeat" => repeat(value),
            b"hex" => hex::decode(value.text().unwrap_or_default()).unwrap_or_default(),
            b"deep_json" => ["[".repeat(count(value)), "]".repeat(count(value))]
                .concat()
                .into_bytes(),
            b"concat" => value.items().iter().flat_map(|b| self.body(b)).collect(),
            b"size" => vec![b'x'; count(value)],
            b"gzip_of" => gzip(&value.get("repeat").map(repeat).unwrap_or_default()),
            _ => self.header(body),
        }
    }

    fn header(&self, value: &Json) -> Vec<u8> {
        if let Json::String(text) = value {
            return self.fill(text);
        }
        let Some((kind, inner)) = value.members().first() else {
            return vec![];
        };
        match kind.as_slice() {
            b"b64_json" => STANDARD
                .encode(self.json(inner, Style::Compact))
                .into_bytes(),
            b"b64url_json" => URL_SAFE_NO_PAD
                .encode(self.json(inner, Style::CompactSorted))
                .into_bytes(),
            b"b64_text" => STANDARD.encode(self.header(inner)).into_bytes(),
            b"b64_body" => STANDARD.encode(self.body(inner)).into_bytes(),
            b"repeat" => repeat(inner),
            b"join" => inner.items().iter().flat_map(|v| self.header(v)).collect(),
            b"challenge" => {
                let scheme = inner.get("scheme").and_then(Json::text).unwrap_or_default();
                let params = inner
                    .get("params")
                    .map(Json::members)
                    .unwrap_or_default()
                    .iter();
                let params = params
                    .map(|(name, v)| [name, b"=\"".as_slice(), &self.header(v), b"\""].concat());
                let params: Vec<_> = params.collect();
                [scheme.as_bytes(), b" ", &params.join(b", ".as_slice())].concat()
            }
            _ => vec![],
        }
    }

    fn render(&self, respond: &Json) -> Vec<u8> {
        if let Some(Json::String(raw)) = respond.get("raw") {
            let text = String::from_utf8_lossy(&self.fill(raw)).into_owned();
            return text
                .chars()
                .map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?'))
                .collect();
        }
        let parts = respond
            .get("raw_parts")
            .or_else(|| respond.get("raw").and_then(|r| r.get("raw_parts")));
        if let Some(parts) = parts {
            return parts
                .items()
                .iter()
                .flat_map(|part| self.body(part))
                .collect();
        }
        let Some(status) = respond.get("status").and_then(Json::text) else {
            return vec![];
        };
        let body = respond
            .get("body")
            .map(|b| self.body(b))
            .unwrap_or_default();
        let mut out = format!("HTTP/1.1 {status} Status\r\n").into_bytes();
        let mut counted = false;
        for field in respond.get("headers").map(Json::items).unwrap_or_default() {
            let [Json::String(name), value] = field.items() else {
                continue;
            };
            counted |= name.eq_ignore_ascii_case(b"content-length");
            out.extend([name, b": ".as_slice(), &self.header(value), b"\r\n"].concat());
        }
        if !counted {
            out.extend(format!("Content-Length: {}\r\n", body.len()).into_bytes());
        }
        out.extend(b"\r\n");
        out.extend(body);
        out
    }
}

fn repeat(pair: &Json) -> Vec<u8> {
    let [Json::String(text), times] = pair.items() else {
        return vec![];
    };
    text.repeat(
        times
            .int()
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(0),
    )
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[test]
fn responses_are_rendered_to_the_byte() {
    let place = Place {
        payer: "0xabc",
        n: 3,
    };
    let render = |text: &str| String::from_utf8(place.render(&Json::parse(text).unwrap())).unwrap();
    assert_eq!(
        render(
            r#"{"status": 402, "headers": [["A", {"b64_json": {"b": "{{payer}}", "a": 1}}], ["A", {"repeat": ["x", 3]}]], "body": {"concat": ["{{n}}", {"deep_json": 2}]}}"#
        ),
        "HTTP/1.1 402 Status\r\nA: eyJiIjoiMHhhYmMiLCJhIjoxfQ==\r\nA: xxx\r\nContent-Length: 5\r\n\r\n3[[]]"
    );
    assert_eq!(
        render(
            r#"{"status": 200, "headers": [["W", {"challenge": {"scheme": "Payment", "params": {"id": "x", "request": {"b64url_json": {"b": 1, "a": "{{hostport:h}}"}}}}}]], "body": {"json": {"a": [1, "\u00e9"]}}}"#
        ),
        "HTTP/1.1 200 Status\r\nW: Payment id=\"x\", request=\"eyJhIjoiaCIsImIiOjF9\"\r\nContent-Length: 20\r\n\r\n{\"a\": [1, \"\\u00e9\"]}"
    );
    assert_eq!(
        place.render(&Json::parse(r#"{"raw": "HTTP/1.1 402 X\r\n\u00e9{{"}"#).unwrap()),
        b"HTTP/1.1 402 X\r\n\xe9{{"
    );
    assert_eq!(
        place.body(&Json::parse(r#"{"gzip_of": {"repeat": ["a", 100000]}}"#).unwrap())[..2],
        [0x1f, 0x8b]
    );
}
