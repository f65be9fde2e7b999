//! Requests in which another one hides (threat H-01). The merchant sees one request or none, never the
//! hidden one; the connection is not used again.

use std::sync::Arc;

use crate::support::agent::Agent;
use crate::support::origin::{Origin, Then, answer};
use crate::support::proxy::Proxy;
use crate::support::{each, soon};

/// What the merchant may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sees {
    /// No whole request. The agent gets 400, or the connection ends without an answer.
    None,
    /// One request, whose end is not in doubt any more; what follows it is not looked at.
    One,
}

/// The request that must never be seen. Every case ends with it, or has it inside.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: free.wire.test\r\n\r\n";

/// Name, what is between `POST /first HTTP/1.1\r\nHost: …\r\n` and the hidden request, who may see it.
#[rustfmt::skip]
const HEADS: &[(&str, &str, Sees)] = &[
    ("length and chunked, length first", "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Sees::None),
    ("length and chunked, chunked first", "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n", Sees::None),
    ("length and chunked in other case", "content-length: 6\r\nTRANSFER-ENCODING: Chunked\r\n\r\n0\r\n\r\n", Sees::None),
    ("length and chunked far apart", "Content-Length:6\r\nX: y\r\nC: d\r\nT: u\r\ntransfer-encoding:\tchunked\r\n\r\n0\r\n\r\n", Sees::None),
    ("length and chunked with bare LF", "Content-Length: 6\nTransfer-Encoding: chunked\n\n0\r\n\r\n", Sees::None),
    ("a length of 0 and chunked", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Sees::None),
    ("two equal lengths and chunked", "Content-Length: 5\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Sees::None),
    ("chunked and a length that is none", "Transfer-Encoding: chunked\r\nContent-Length: x\r\n\r\n0\r\n\r\n", Sees::None),
    ("chunked and an empty length", "Transfer-Encoding: chunked\r\nContent-Length:\r\n\r\n0\r\n\r\n", Sees::None),
    ("a nominated length and chunked", "Connection: content-length\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Sees::None),
    ("two lengths that differ", "Content-Length: 0\r\nContent-Length: 44\r\n\r\n", Sees::None),
    ("two lengths in one field", "Content-Length: 0, 44\r\n\r\n", Sees::None),
    ("two equal lengths in one field", "Content-Length: 0, 0\r\n\r\n", Sees::None),
    ("a length with a sign", "Content-Length: +0\r\n\r\n", Sees::None),
    ("a negative length", "Content-Length: -1\r\n\r\n", Sees::None),
    ("a length in hexadecimal", "Content-Length: 0x2c\r\n\r\n", Sees::None),
    ("a length with an exponent", "Content-Length: 1e1\r\n\r\n", Sees::None),
    ("an empty length", "Content-Length:\r\n\r\n", Sees::None),
    ("a length beyond 64 bits", "Content-Length: 99999999999999999999\r\n\r\n", Sees::None),
    ("a length of 2^64 and a bit", "Content-Length: 18446744073709551660\r\n\r\n", Sees::None),
    ("a length with a space inside", "Content-Length: 4 4\r\n\r\n", Sees::None),
    ("chunked that is not last", "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", Sees::None),
    ("identity", "Transfer-Encoding: identity\r\n\r\n", Sees::None),
    ("xchunked", "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", Sees::None),
    ("chunked twice in one field", "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", Sees::None),
    ("chunked twice in two fields", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Sees::None),
    ("identity, then chunked", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Sees::None),
    ("chunked, then identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", Sees::None),
    ("gzip, then chunked", "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Sees::None),
    ("chunked in quotes", "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", Sees::None),
    ("chunked with a parameter", "Transfer-Encoding: chunked;x=1\r\n\r\n0\r\n\r\n", Sees::None),
    ("chunked behind a vertical tab", "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", Sees::None),
    ("an empty coding", "Transfer-Encoding:\r\n\r\n0\r\n\r\n", Sees::None),
    ("a coding with a trailing comma", "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", Sees::None),
    ("a folded coding", "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", Sees::None),
    ("a folded field", "X: a\r\n b\r\nContent-Length: 0\r\n\r\n", Sees::None),
    ("a fold before the first field", " X: a\r\nContent-Length: 0\r\n\r\n", Sees::None),
    ("a space before the colon", "Content-Length : 44\r\n\r\n", Sees::None),
    ("a tab before the colon", "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", Sees::None),
    ("a space before a name", "\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Sees::One),
    ("a field without a colon", "Content-Length\r\n\r\n", Sees::None),
    ("a field without a name", ": chunked\r\n\r\n", Sees::None),
    ("a bare CR in a value", "X: a\rContent-Length: 44\r\n\r\n", Sees::None),
    ("a bare CR before the end", "X: a\r\r\n\r\n", Sees::None),
    ("a NUL in a value", "X: a\0b\r\n\r\n", Sees::None),
    ("a NUL in a name", "Content\0-Length: 44\r\n\r\n", Sees::None),
    ("a name in Unicode", "Content-Length\u{e9}: 44\r\n\r\n", Sees::None),
    ("an underscore for a hyphen", "Content_Length: 44\r\nContent-Length: 0\r\n\r\n", Sees::One),
    ("a second Host", "Host: pay.wire.test\r\nContent-Length: 0\r\n\r\n", Sees::None),
    ("a bare LF between fields", "X: a\nContent-Length: 0\r\n\r\n", Sees::One),
    ("a bare LF at the end", "Content-Length: 0\r\n\n", Sees::One),
    ("a nominated length", "Connection: content-length\r\nContent-Length: 0\r\n\r\n", Sees::One),
    ("a nominated coding", "Connection: close, transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Sees::One),
    ("an upgrade with bytes behind it", "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", Sees::One),
    ("h2c with bytes behind it", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n", Sees::One),
];

/// Bodies in chunks that break off: their head may be seen, never a whole request.
#[rustfmt::skip]
const CHUNKS: &[(&str, &str, Sees)] = &[
    ("a negative size", "-1\r\nx\r\n0\r\n\r\n", Sees::None),
    ("a size with 0x", "0x1\r\nx\r\n0\r\n\r\n", Sees::None),
    ("a size beyond 64 bits", "fffffffffffffffff\r\nx\r\n0\r\n\r\n", Sees::None),
    ("a size that wraps around", "10000000000000001\r\nx\r\n0\r\n\r\n", Sees::None),
    ("no size", "\r\nx\r\n0\r\n\r\n", Sees::None),
    ("a size with a letter too much", "1g\r\nx\r\n0\r\n\r\n", Sees::None),
    ("a chunk longer than its size", "1\r\nxy\r\n0\r\n\r\n", Sees::None),
    ("a chunk that ends in LF", "1\r\nx\n0\r\n\r\n", Sees::None),
    ("a size that ends in LF", "1\nx\r\n0\r\n\r\n", Sees::None),
    ("a size that ends in CR", "1\rx\r\n0\r\n\r\n", Sees::None),
    ("a bare LF in an extension", "1;a\nb\r\nx\r\n0\r\n\r\n", Sees::None),
    ("an extension that ends in LF", "1;a=b\nx\r\n0\r\n\r\n", Sees::None),
    ("an extension", "1;a=\"b\"\r\nx\r\n0\r\n\r\n", Sees::One),
    ("a size with a space behind it", "1 \r\nx\r\n0\r\n\r\n", Sees::One),
    ("a size with many zeros", "0000000000000000000000000001\r\nx\r\n0\r\n\r\n", Sees::One),
    ("a trailer without a colon", "1\r\nx\r\n0\r\nbad\r\n\r\n", Sees::None),
    ("a trailer that frames", "1\r\nx\r\n0\r\nContent-Length: 44\r\n\r\n", Sees::One),
    ("a trailer that pays", "1\r\nx\r\n0\r\nX-Payment: forged\r\n\r\n", Sees::One),
];

/// Start lines.
#[rustfmt::skip]
const LINES: &[(&str, &str, Sees)] = &[
    ("no version", "GET /first\r\n\r\n", Sees::None),
    ("another version", "GET /first HTTP/3.0\r\nHost: free.wire.test\r\n\r\n", Sees::None),
    ("a version without a dot", "GET /first HTTP/11\r\nHost: free.wire.test\r\n\r\n", Sees::None),
    ("two spaces", "GET  /first HTTP/1.1\r\nHost: free.wire.test\r\n\r\n", Sees::None),
    ("a space in the path", "GET /first /second HTTP/1.1\r\nHost: free.wire.test\r\n\r\n", Sees::None),
    ("a tab after the method", "GET\t/first HTTP/1.1\r\nHost: free.wire.test\r\n\r\n", Sees::None),
    ("a bare CR in the path", "GET /first\rHTTP/1.1\r\nHost: free.wire.test\r\n\r\n", Sees::None),
    ("a NUL in the path", "GET /fi\0rst HTTP/1.1\r\nHost: free.wire.test\r\n\r\n", Sees::None),
    ("no method", " /first HTTP/1.1\r\nHost: free.wire.test\r\n\r\n", Sees::None),
    ("a method with a colon", "GET: /first HTTP/1.1\r\nHost: free.wire.test\r\n\r\n", Sees::None),
    ("no Host", "GET /first HTTP/1.1\r\n\r\n", Sees::None),
    ("another Host", "GET /first HTTP/1.1\r\nHost: pay.wire.test\r\n\r\n", Sees::None),
    ("authority form", "GET free.wire.test:443 HTTP/1.1\r\nHost: free.wire.test\r\n\r\n", Sees::None),
    ("asterisk form", "GET * HTTP/1.1\r\nHost: free.wire.test\r\n\r\n", Sees::None),
    ("absolute form of another host", "GET https://pay.wire.test/first HTTP/1.1\r\nHost: free.wire.test\r\n\r\n", Sees::None),
    ("absolute form of another scheme", "GET http://free.wire.test/first HTTP/1.1\r\nHost: free.wire.test\r\n\r\n", Sees::None),
    ("user information", "GET https://x@free.wire.test/first HTTP/1.1\r\nHost: free.wire.test\r\n\r\n", Sees::None),
    ("CONNECT", "CONNECT free.wire.test:443 HTTP/1.1\r\nHost: free.wire.test\r\n\r\n", Sees::None),
    ("TRACE", "TRACE /first HTTP/1.1\r\nHost: free.wire.test\r\n\r\n", Sees::None),
    ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Sees::None),
    ("HTTP/1.0 with chunks", "POST /first HTTP/1.0\r\nHost: free.wire.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Sees::None),
    ("empty lines first", "\r\n\r\nGET /first HTTP/1.1\r\nHost: free.wire.test\r\nConnection: close\r\n\r\n", Sees::One),
];

fn cases() -> Vec<(String, String, Sees)> {
    let post = "POST /first HTTP/1.1\r\nHost: free.wire.test\r\n";
    let mut cases = vec![];
    for (name, text, sees) in HEADS {
        cases.push((format!("head: {name}"), format!("{post}{text}"), *sees));
    }
    for (name, text, sees) in CHUNKS {
        let text = format!("{post}Transfer-Encoding: chunked\r\n\r\n{text}");
        cases.push((format!("chunks: {name}"), text, *sees));
    }
    for (name, text, sees) in LINES {
        cases.push((format!("line: {name}"), (*text).to_owned(), *sees));
    }
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_hides_in_a_request() {
    assert!(cases().len() >= 40);
    let origin = Origin::scripted(|_| (answer("200 OK", "fine"), Then::Keep)).await;
    let mut proxy = Proxy::start(&origin, |config| {
        config["limits"]["header_timeout"] = "3s".into();
        config["limits"]["idle_timeout"] = "3s".into();
    })
    .await;
    let (agent, origin) = (proxy.agent(), Arc::new(origin));
    let wrong = each(cases(), |(name, text, sees)| {
        let agent = agent.clone();
        async move {
            // What follows a good request, or one that only came to the wrong place (421), is the agent's
            // right to ask.
            let misplaced = name.to_lowercase().ends_with("another host");
            let hide = sees == Sees::None && !misplaced;
            let text = text + if hide { HIDDEN } else { "" };
            let result = soon(&name, attempt(&agent, &text, sees)).await;
            result.map_err(|why| format!("{name}: {why}"))
        }
    })
    .await;
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    let ones = cases()
        .iter()
        .filter(|(.., sees)| *sees == Sees::One)
        .count();
    let (mut whole, mut hidden) = (0, vec![]);
    for connection in origin.heard() {
        let text = String::from_utf8_lossy(&connection).into_owned();
        if text.contains("/hidden") || text.contains("forged") {
            hidden.push(text);
        }
        whole += requests(&connection).await;
    }
    assert!(hidden.is_empty(), "{hidden:#?}");
    assert_eq!(whole, ones);
    proxy.assert_well();
}

async fn attempt(agent: &Agent, text: &str, sees: Sees) -> Result<(), String> {
    let mut wire = agent.tls("free.wire.test", &["http/1.1"]).await;
    // Latin-1, so that every byte can be written down.
    let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(c).unwrap()).collect();
    let _ = wire.write(&bytes).await;
    let Some(answer) = wire.response("POST").await else {
        return match sees {
            Sees::None => Ok(()),
            Sees::One => Err("no answer".into()),
        };
    };
    let status = answer.status();
    match sees {
        Sees::None if !matches!(status, 400 | 405 | 408 | 421 | 501) => {
            return Err(format!("status {status}"));
        }
        Sees::One if status != 200 => return Err(format!("status {status}: {}", answer.text())),
        Sees::None | Sees::One => {}
    }
    if sees == Sees::None && status != 421 {
        let more = wire.rest().await;
        if !more.is_empty() {
            let more = String::from_utf8_lossy(&more).into_owned();
            return Err(format!("the connection went on: {more}"));
        }
    }
    Ok(())
}

/// How many whole requests these bytes are.
async fn requests(bytes: &[u8]) -> usize {
    let log = crate::support::wire::Log::default();
    let mut wire = crate::support::wire::Wire::new(std::io::Cursor::new(bytes.to_vec()), log);
    let mut count = 0;
    while wire.request().await.is_some() {
        count += 1;
    }
    count
}

/// Requests that are fine, as they may come before one that is not.
const FINE: &[&str] = &[
    "GET {at}/1 HTTP/1.1\r\nHost: free.wire.test\r\n\r\n",
    "POST {at}/2 HTTP/1.1\r\nHost: free.wire.test\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n",
    "POST {at}/3 HTTP/1.1\r\nHost: free.wire.test\r\nContent-Length: 4\r\n\r\n\r\n\r\n",
    "POST {at}/4 HTTP/1.1\r\nHost: free.wire.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
];

#[tokio::test(flavor = "multi_thread")]
async fn two_ends_are_seen_on_every_request_of_a_connection() {
    let origin = Origin::scripted(|_| (answer("200 OK", "fine"), Then::Keep)).await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let agent = proxy.agent();
    let mut ways = vec![];
    for over in ["tls", "tunnel", "plain"] {
        for piece in [1, 7, 4096] {
            ways.push((over, piece));
        }
    }
    let wrong = each(ways, |(over, piece)| {
        let agent = agent.clone();
        async move {
            let name = format!("{over} in pieces of {piece}");
            let result = soon(&name, one_too_many(&agent, over, piece)).await;
            result.map_err(|why| format!("{name}: {why}"))
        }
    })
    .await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let heard = origin.heard().concat();
    let heard = String::from_utf8_lossy(&heard);
    assert_eq!(heard.matches("/1 HTTP/1.1").count(), 9);
    assert_eq!(heard.matches("/4 HTTP/1.1").count(), 9);
    assert!(!heard.contains("/last") && !heard.contains("/hidden"));
    proxy.assert_well();
}

/// All of the good ones are answered, the doubtful one with 400, and nothing after it.
async fn one_too_many(agent: &Agent, over: &str, piece: usize) -> Result<(), String> {
    let (mut wire, at) = match over {
        "tls" => (agent.tls("free.wire.test", &["http/1.1"]).await, ""),
        "tunnel" => (agent.tunnel("free.wire.test:80").await, ""),
        _ => (agent.plain().await, "http://free.wire.test"),
    };
    let mut text: String = FINE.iter().map(|r| r.replace("{at}", at)).collect();
    text += &format!(
        "POST {at}/last HTTP/1.1\r\nHost: free.wire.test\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"
    );
    for piece in text.as_bytes().chunks(piece) {
        let _ = wire.write(piece).await;
    }
    for number in 0..FINE.len() {
        let answer = wire.response("POST").await;
        let answer = answer.ok_or_else(|| format!("no answer to number {number}"))?;
        if answer.status() != 200 {
            return Err(format!(
                "number {number}: {}: {}",
                answer.status(),
                answer.text()
            ));
        }
    }
    let last = wire.response("POST").await.ok_or("no answer to the last")?;
    if (last.status(), last.reason().as_str()) != (400, "framing_invalid") {
        return Err(format!("the last: {}: {}", last.status(), last.text()));
    }
    match wire.rest().await.is_empty() {
        true => Ok(()),
        false => Err("the connection went on".into()),
    }
}
