//! The same requests to the same merchant, once through the proxy and once without it. Nothing differs
//! but what a proxy must change (threat H-14, RFC 9110 section 7.6).

use crate::support::agent::Agent;
use crate::support::message::Message;
use crate::support::origin::{Origin, Then};
use crate::support::proxy::Proxy;
use crate::support::{each, soon};

/// Fields that belong to one hop.
const HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
];

/// Name, request, answer. `{host}` is the host's name; each request and answer is written as it stands.
#[rustfmt::skip]
const CORPUS: &[(&str, &str, &[u8])] = &[
    ("fields in their order and case",
        "GET /a HTTP/1.1\r\nHost: {host}\r\nuser-AGENT: x\r\nACCEPT: */*\r\nX-One: 1\r\nx-one: 2\r\nX-oNe: 3\r\nZ: z\r\nConnection: keep-alive\r\nB: b\r\nA: a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-B: b\r\nx-a: a\r\nCONTENT-length: 2\r\nSet-Cookie: a=1\r\nset-COOKIE: b=2\r\nServer: s\r\n\r\nok"),
    ("a target with everything in it",
        "GET /a%2Fb/../c//d;p=1/%e2%82%ac?q={a:[1|2]}&x=%20+&y=~!$'()*,;:@/?^`\\ HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("values with odd bytes",
        "GET / HTTP/1.1\r\nHost: {host}\r\nX-Latin: caf\u{e9}\r\nX-Utf8: \u{c3}\u{a9}\r\nX-Tab: a\tb\r\nX-Empty:\r\nX-Quoted: \"a, \\\"b\\\"\"\r\nX-Spaces:   a  b  \r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Latin: caf\xe9\r\nX-Utf8: \xc3\xa9\r\nX-Empty:\r\nContent-Length: 0\r\n\r\n"),
    ("a long head",
        "GET / HTTP/1.1\r\nHost: {host}\r\nX-Long: {long}\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("credentials and cookies of the agent's own",
        "GET / HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer t0ken\r\nCookie: a=1; b=2\r\nCookie: c=3\r\n\r\n",
        b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a\"\r\nWWW-Authenticate: Bearer\r\nContent-Length: 2\r\n\r\nno"),
    ("a body with a length",
        "POST /p HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 201 Created\r\nLocation: /p/1\r\nContent-Length: 5\r\n\r\nworld"),
    ("a body in chunks, with trailers",
        "POST /p HTTP/1.1\r\nHost: {host}\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 11\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("an answer in chunks, with trailers",
        "GET / HTTP/1.1\r\nHost: {host}\r\nTE: trailers\r\nConnection: TE\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n"),
    ("an empty body with a length",
        "PUT / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nETag: \"a\"\r\n\r\n"),
    ("an empty body in chunks",
        "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("a POST without a body",
        "POST / HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a GET with a body",
        "GET / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a GET with a body in chunks",
        "GET / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a DELETE with a body",
        "DELETE / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"),
    ("a method that nobody knows",
        "BREW /pot-1 HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n"),
    ("OPTIONS for the whole server",
        "OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nAllow: GET\r\nContent-Length: 0\r\n\r\n"),
    ("HEAD with a length",
        "HEAD / HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nETag: \"a\"\r\n\r\n"),
    ("HEAD without a length",
        "HEAD / HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nETag: \"a\"\r\n\r\n"),
    ("not modified",
        "GET / HTTP/1.1\r\nHost: {host}\r\nIf-None-Match: \"a\"\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nVary: Accept\r\n\r\n"),
    ("a part",
        "GET / HTTP/1.1\r\nHost: {host}\r\nRange: bytes=0-1\r\n\r\n",
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/5\r\nContent-Length: 2\r\n\r\nhe"),
    ("a redirection, which is not followed",
        "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: https://pay.wire.test/elsewhere\r\nContent-Length: 0\r\n\r\n"),
    ("a content coding",
        "GET / HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: gzip, br;q=0.5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 6\r\n\r\n\x1f\x8b\x08\x00\xff\x00"),
    ("another reason phrase",
        "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"HTTP/1.1 200 Quite All Right\r\nContent-Length: 0\r\n\r\n"),
    ("a status that nobody knows",
        "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"HTTP/1.1 599 Odd\r\nContent-Length: 1\r\n\r\nx"),
    ("an error with a body",
        "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"HTTP/1.1 500 Internal Server Error\r\nRetry-After: 5\r\nContent-Length: 4\r\n\r\noops"),
    ("a 402 without terms",
        "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"HTTP/1.1 402 Payment Required\r\nContent-Type: text/html\r\nContent-Length: 11\r\n\r\n<p>Pay!</p>"),
    ("fields of other proxies",
        "GET / HTTP/1.1\r\nHost: {host}\r\nVia: 1.1 before\r\nX-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\nMax-Forwards: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nVia: 1.1 cache\r\nAge: 5\r\nWarning: 110 - \"stale\"\r\nProxy-Status: cdn.test\r\nContent-Length: 0\r\n\r\n"),
    ("security fields",
        "GET / HTTP/1.1\r\nHost: {host}\r\nOrigin: https://a.test\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1\r\nContent-Security-Policy: default-src 'self'\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 0\r\n\r\n"),
    ("a body that ends with the connection",
        "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nall of it"),
    ("an old server",
        "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold"),
];

/// What was asked, as the merchant saw it, and what was answered, as the agent saw it.
async fn run(agent: &Agent, host: &'static str, through: bool, n: usize) -> (String, String) {
    let (_, request, _) = CORPUS[n];
    let request = request
        .replace("{host}", host)
        .replace("{long}", &"l".repeat(30_000))
        .replacen("HTTP/1.1\r\n", &format!("HTTP/1.1\r\nX-Case: {n}\r\n"), 1);
    let bytes: Vec<u8> = request.chars().map(|c| u8::try_from(c).unwrap()).collect();
    let mut wire = match through {
        true => agent.tls(host, &["http/1.1"]).await,
        false => agent.direct(host).await,
    };
    wire.write(&bytes).await.unwrap();
    let method = request.split(' ').next().unwrap();
    let answer = wire.response(method).await;
    let answer = answer.unwrap_or_default();
    // The merchant says what it saw in a field of its own.
    let seen = answer.one("x-seen").unwrap_or_default().to_owned();
    (seen, shown(&answer))
}

/// A message without what belongs to a hop. Fields stand in the order in which their names appear.
fn shown(message: &Message) -> String {
    let mut first = message.first.clone();
    if first.starts_with("HTTP/1.0") {
        // Each sender writes its own version (RFC 9110 section 6.2).
        first.replace_range(..8, "HTTP/1.1");
    }
    let mut groups: Vec<(String, Vec<String>)> = vec![];
    for (name, value) in &message.fields {
        let key = name.to_ascii_lowercase();
        if HOP.contains(&key.as_str()) || key == "x-seen" {
            continue;
        }
        let line = format!("{name}: {value}");
        match groups.iter_mut().find(|(k, _)| *k == key) {
            Some((_, lines)) => lines.push(line),
            None => groups.push((key, vec![line])),
        }
    }
    let lines: Vec<_> = groups.into_iter().flat_map(|(_, lines)| lines).collect();
    let (body, whole) = (hex::encode(&message.body), message.whole);
    // The names of trailers lose their case on the way.
    let lower = |(name, value): &(String, String)| (name.to_ascii_lowercase(), value.clone());
    let trailers: Vec<_> = message.trailers.iter().map(lower).collect();
    format!(
        "{first}\n{}\nbody {body} whole {whole} trailers {trailers:?}",
        lines.join("\n")
    )
}

async fn origin() -> Origin {
    Origin::scripted(|asked| {
        let n: usize = asked.one("x-case").unwrap().parse().unwrap();
        let answer = CORPUS[n].2;
        let end = answer.windows(2).position(|w| w == b"\r\n").unwrap();
        let seen = format!("\r\nX-Seen: {}", hex::encode(shown(asked)));
        let bytes = [&answer[..end], seen.as_bytes(), &answer[end..]].concat();
        let framed = asked.method() == "HEAD"
            || answer.starts_with(b"HTTP/1.1 304")
            || answer.starts_with(b"HTTP/1.1 204")
            || shows(answer, b"ength: ")
            || shows(answer, b"chunked");
        (bytes, if framed { Then::Keep } else { Then::Close })
    })
    .await
}

fn shows(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|w| w == needle)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_differs_but_what_must() {
    let origin = origin().await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let (through, direct) = (proxy.agent(), Agent::new(origin.tls, &origin.root));
    let mut cases = vec![];
    for host in ["free.wire.test", "pay.wire.test"] {
        cases.extend((0..CORPUS.len()).map(|n| (host, n)));
    }
    let wrong = each(cases, |(host, n)| {
        let (through, direct) = (through.clone(), direct.clone());
        async move {
            let name = CORPUS[n].0;
            let without = soon(name, run(&direct, host, false, n)).await;
            let with = soon(name, run(&through, host, true, n)).await;
            let text = |hex: &str| String::from_utf8(hex::decode(hex).unwrap()).unwrap();
            if without.0.is_empty() {
                return Err(format!("{name}: the merchant itself answers {}", without.1));
            }
            if with.0 != without.0 {
                let (with, without) = (text(&with.0), text(&without.0));
                return Err(format!(
                    "{host}: {name}: asked\n{with}\ninstead of\n{without}"
                ));
            }
            if with.1 != without.1 {
                return Err(format!(
                    "{host}: {name}: answered\n{}\ninstead of\n{}",
                    with.1, without.1
                ));
            }
            Ok(())
        }
    })
    .await;
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n\n"));
    proxy.assert_well();
}
