//! Answers in which another one hides, or whose end is in doubt (threats H-01, H-08). The agent gets a
//! 502, or an answer that visibly breaks off; never a second answer that it did not ask for.

use crate::support::agent::Agent;
use crate::support::origin::{Origin, Then, answer};
use crate::support::proxy::Proxy;
use crate::support::{each, soon};

/// What the agent gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gets {
    /// 502 in our words.
    Bad,
    /// An answer that does not end as its framing says.
    Broken,
    /// This status and this body, whole.
    Whole(u16, &'static str),
}

use Gets::{Bad, Broken, Whole};

/// An answer that nobody asked for.
const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";

/// Name, method, the answer's bytes. The poison follows each of them.
#[rustfmt::skip]
const CASES: &[(&str, &str, &str, Gets)] = &[
    ("length and chunked", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Bad),
    ("chunked and length", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Bad),
    ("two lengths that differ", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", Bad),
    ("two lengths in one field", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello", Bad),
    ("two equal lengths", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", Whole(200, "hello")),
    ("two equal lengths in one field", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", Whole(200, "hello")),
    ("two lengths that differ, for HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", Bad),
    ("a length with a sign", "GET", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", Bad),
    ("a negative length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello", Bad),
    ("a length beyond 64 bits", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello", Bad),
    ("xchunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Bad),
    ("chunked, then identity", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Bad),
    ("gzip, then chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Bad),
    ("chunked twice", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Bad),
    ("HTTP/1.0 with chunks", "GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Bad),
    ("a folded field", "GET", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 5\r\n\r\nhello", Bad),
    ("a space before the colon", "GET", "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello", Bad),
    ("a field without a colon", "GET", "HTTP/1.1 200 OK\r\nContent-Length 5\r\n\r\nhello", Bad),
    ("a field without a name", "GET", "HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 5\r\n\r\nhello", Bad),
    ("a bare CR in a value", "GET", "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b=1\r\nContent-Length: 5\r\n\r\nhello", Bad),
    ("a NUL in a value", "GET", "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 5\r\n\r\nhello", Bad),
    ("no status", "GET", "HTTP/1.1 OK\r\nContent-Length: 5\r\n\r\nhello", Bad),
    ("a status of two digits", "GET", "HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello", Bad),
    ("a status of four digits", "GET", "HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello", Bad),
    ("status 000", "GET", "HTTP/1.1 000 No\r\nContent-Length: 5\r\n\r\nhello", Bad),
    ("no version", "GET", "200 OK\r\nContent-Length: 5\r\n\r\nhello", Bad),
    ("HTTP/0.9", "GET", "hello\r\n\r\n", Bad),
    ("another protocol", "GET", "SSH-2.0-OpenSSH_9.9\r\n\r\n", Bad),
    ("101 that nobody asked for", "GET", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", Bad),
    ("a chunk without a size", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n", Broken),
    ("a chunk with a negative size", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n", Broken),
    ("a chunk with a huge size", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n", Broken),
    ("a chunk longer than its size", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n", Broken),
    ("a chunk size that ends in LF", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", Broken),
    ("a bare LF in an extension", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n", Broken),
    ("a trailer without a colon", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nbad\r\n\r\n", Broken),
    ("bytes after the end", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Whole(200, "hello")),
    ("bytes after the last chunk", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Whole(200, "hello")),
    ("204 with a body", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", Whole(204, "")),
    ("204 with chunks", "GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Whole(204, "")),
    ("304 with a body", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello", Whole(304, "")),
    ("a body for HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Whole(200, "")),
    ("interim answers first", "GET", "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Whole(200, "hello")),
    ("an interim answer with a length", "GET", "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Bad),
    ("a trailer that is a receipt", "GET", "HTTP/1.1 200 OK\r\nTrailer: payment-response\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nPayment-Response: forged\r\n\r\n", Whole(200, "hello")),
    ("our own fields", "GET", "HTTP/1.1 200 OK\r\nFarepass-Payment: forged\r\nFarepass-Decision: forged\r\nContent-Length: 5\r\n\r\nhello", Whole(200, "hello")),
    ("a nominated length", "GET", "HTTP/1.1 200 OK\r\nConnection: content-length, x-gone\r\nX-Gone: forged\r\nContent-Length: 5\r\n\r\nhello", Whole(200, "hello")),
];

async fn origin() -> Origin {
    Origin::scripted(|asked| {
        let path = asked.path().trim_start_matches("/case/");
        match path.parse::<usize>() {
            Ok(n) => (format!("{}{POISON}", CASES[n].2).into_bytes(), Then::Hang),
            Err(_) => (answer("200 OK", "asked for"), Then::Keep),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_hides_in_an_answer() {
    assert!(CASES.len() >= 40);
    let origin = origin().await;
    let mut proxy = Proxy::start(&origin, |config| {
        config["limits"]["upstream_total"] = "10s".into();
        config["limits"]["idle_timeout"] = "10s".into();
    })
    .await;
    let agent = proxy.agent();
    let mut cases = vec![];
    for host in ["free.wire.test", "pay.wire.test"] {
        cases.extend((0..CASES.len()).map(|n| (host, n)));
    }
    let wrong = each(cases, |(host, n)| {
        let agent = agent.clone();
        async move {
            let name = CASES[n].0;
            let result = soon(name, attempt(&agent, host, n)).await;
            result.map_err(|why| format!("{host}: {name}: {why}"))
        }
    })
    .await;
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    proxy.assert_well();
}

async fn attempt(agent: &Agent, host: &str, n: usize) -> Result<(), String> {
    let (_, method, _, gets) = CASES[n];
    let mut wire = agent.tls(host, &["http/1.1"]).await;
    let ask = |method: &str, path: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nTE: trailers\r\n\r\n")
    };
    wire.write(ask(method, &format!("/case/{n}")).as_bytes())
        .await
        .unwrap();
    let got = wire.response(method).await;
    let heard = String::from_utf8_lossy(&wire.heard()).into_owned();
    if heard.contains("forged") {
        return Err(format!("handed over: {heard}"));
    }
    match (gets, &got) {
        (Bad, Some(got))
            if got.status() == 502 && (got.reason() == "protocol_error" || method == "HEAD") => {}
        (Broken, None) => {}
        (Broken, Some(got)) if !got.whole || got.status() == 502 => {}
        (Whole(status, body), Some(got))
            if got.whole && got.status() == status && got.text() == body => {}
        _ => return Err(format!("expected {gets:?}, got {got:?}")),
    }
    // Whatever it was: the next answer is the one that was asked for, or there is none.
    let _ = wire.write(ask("GET", "/second").as_bytes()).await;
    match wire.response("GET").await {
        None => Ok(()),
        Some(next) if next.text() == "asked for" => Ok(()),
        Some(next) => Err(format!("the next answer: {next:?}")),
    }
}
