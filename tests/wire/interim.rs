//! Interim answers (RFC 9110 section 15.2): what a merchant says before its answer reaches the agent before
//! it, at once, and nothing else does.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use tokio::sync::Semaphore;

use crate::expect::challenge;
use crate::support::message::Message;
use crate::support::origin::{Origin, answer};
use crate::support::proxy::Proxy;
use crate::support::soon;
use crate::support::wire::Wire;

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\n\
    Link: </a.css>; rel=preload\r\nLink: </b.js>; title=\"\u{fc}\"\r\nX-Kept: 1\r\n\
    Connection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nAlt-Svc: h3=\":443\"\r\n\
    Farepass-Payment: forged\r\nPAYMENT-RESPONSE: forged\r\nPAYMENT-REQUIRED: forged\r\nWWW-Authenticate: Payment id=\"x\"\r\nProxy-Status: farepass\r\n\r\n";

/// `/slow` and `/hints` wait between their words, `/402` wants money, `/flood` goes on and on, and `/endless` for ever, `/long` has a long answer;
/// each says its own path before it answers. `/body` says things around its 100.
async fn origin(go_on: Arc<Semaphore>) -> Origin {
    Origin::start(&["http/1.1"], move |mut wire, _| {
        let go_on = Arc::clone(&go_on);
        async move {
            while let Some(mut message) = wire.head().await {
                let path = message.path().trim_start_matches("http://free.wire.test");
                let path = path.to_owned();
                let paid = message.one("payment-signature").is_some();
                let hint = format!("HTTP/1.1 103 Early Hints\r\nX-Path: {path}\r\nX-Paid: {paid}\r\n\r\n");
                let last = match path.as_str() {
                    "/slow" => {
                        for word in ["HTTP/1.1 102 Processing\r\n\r\n", HINTS, "HTTP/1.1 199 Odd\r\nx: y\r\n\r\n"] {
                            wire.write(word.as_bytes()).await.unwrap();
                            go_on.acquire().await.unwrap().forget();
                        }
                        answer("200 OK", "done")
                    }
                    "/402" if !paid => {
                        wire.write(hint.as_bytes()).await.unwrap();
                        format!(
                            "HTTP/1.1 402 Payment Required\r\nPAYMENT-REQUIRED: {}\r\nContent-Length: 2\r\n\r\n$$",
                            challenge()
                        )
                        .into_bytes()
                    }
                    "/flood" => {
                        wire.write(hint.repeat(2000).as_bytes()).await.unwrap();
                        answer("200 OK", "done")
                    }
                    "/endless" => {
                        let piece = hint.repeat(1000);
                        while wire.write(piece.as_bytes()).await.is_ok() {}
                        return;
                    }
                    "/body" => {
                        for word in [hint.as_str(), "HTTP/1.1 100 Continue\r\n\r\n"] {
                            wire.write(word.as_bytes()).await.unwrap();
                        }
                        wire.body(&mut message, false).await;
                        wire.write(hint.as_bytes()).await.unwrap();
                        answer("200 OK", &message.text())
                    }
                    "/hints" => {
                        let hint = format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "x".repeat(1000));
                        for _ in 0..60 {
                            wire.write(hint.as_bytes()).await.unwrap();
                            go_on.acquire().await.unwrap().forget();
                        }
                        answer("200 OK", "done")
                    }
                    "/long" => {
                        wire.write(hint.as_bytes()).await.unwrap();
                        answer("200 OK", &"x".repeat(8 << 20))
                    }
                    _ => [hint.as_bytes(), &answer("200 OK", &path)].concat(),
                };
                if wire.write(&last).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

async fn open(proxy: &Proxy, host: &str, secure: bool) -> (Wire, &'static str) {
    match secure {
        true => (proxy.agent().tls(host, &["http/1.1"]).await, ""),
        false => (proxy.agent().plain().await, "http://free.wire.test"),
    }
}

async fn head(wire: &mut Wire) -> Message {
    soon("a head", wire.head()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_interim_answer_arrives_at_once_and_without_what_is_not_the_agents() {
    let go_on = Arc::new(Semaphore::new(0));
    let origin = origin(Arc::clone(&go_on)).await;
    let mut proxy = Proxy::start(&origin, |config| config["via"] = "hop".into()).await;
    for secure in [true, false] {
        let (mut wire, form) = open(&proxy, "free.wire.test", secure).await;
        let ask = format!("GET {form}/slow HTTP/1.1\r\nHost: free.wire.test\r\n\r\n");
        for _ in 0..2 {
            wire.write(ask.as_bytes()).await.unwrap();
            let said = head(&mut wire).await;
            assert_eq!(said.first, "HTTP/1.1 102 Processing");
            go_on.add_permits(1);
            let said = head(&mut wire).await;
            assert_eq!(said.first, "HTTP/1.1 103 Early Hints");
            let fields: Vec<_> = said
                .fields
                .iter()
                .map(|(n, v)| format!("{n}: {v}"))
                .collect();
            let kept = [
                "link: </a.css>; rel=preload",
                "link: </b.js>; title=\"\u{c3}\u{bc}\"",
                "x-kept: 1",
                "via: 1.1 hop",
            ];
            assert_eq!(fields, kept);
            go_on.add_permits(1);
            let said = head(&mut wire).await;
            assert_eq!((said.status(), said.one("x")), (199, Some("y")));
            go_on.add_permits(1);
            let mut said = head(&mut wire).await;
            assert_eq!(said.status(), 200);
            soon("a body", wire.body(&mut said, false)).await;
            assert_eq!(said.text(), "done");
        }
        assert!(wire.buffer.is_empty());
    }
    proxy.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_requests_at_once_has_its_own_before_its_answer() {
    let origin = origin(Arc::new(Semaphore::new(0))).await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    for secure in [true, false] {
        let (mut wire, form) = open(&proxy, "free.wire.test", secure).await;
        // The first answer is longer than all buffers: what follows it is said while it is still written.
        let paths = ["/long", "/1", "/2", "/long", "/3", "/4", "/5"];
        let asks = paths
            .map(|path| format!("GET {form}{path} HTTP/1.1\r\nHost: free.wire.test\r\n\r\n"))
            .concat();
        wire.write(asks.as_bytes()).await.unwrap();
        for path in paths {
            let said = head(&mut wire).await;
            assert_eq!((said.status(), said.one("x-path")), (103, Some(path)));
            let mut said = head(&mut wire).await;
            assert_eq!(said.status(), 200, "{path}");
            soon("a body", wire.body(&mut said, false)).await;
            match path {
                "/long" => assert_eq!(said.body, vec![b'x'; 8 << 20]),
                path => assert_eq!(said.text(), path),
            }
        }
        assert!(wire.buffer.is_empty());
    }
    proxy.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_http_1_0_hears_the_answer_only() {
    let origin = origin(Arc::new(Semaphore::new(0))).await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let mut wire = proxy.agent().tls("free.wire.test", &["http/1.1"]).await;
    wire.write(b"GET /1 HTTP/1.0\r\nHost: free.wire.test\r\n\r\n")
        .await
        .unwrap();
    let said = String::from_utf8(soon("all", wire.rest()).await).unwrap();
    assert!(said.starts_with("HTTP/1.0 200 OK\r\n"), "{said}");
    assert_eq!(said.matches("HTTP/").count(), 1, "{said}");
    proxy.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn they_stand_beside_100_and_beside_a_payment() {
    let origin = origin(Arc::new(Semaphore::new(0))).await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let mut wire = proxy.agent().tls("pay.wire.test", &["http/1.1"]).await;
    let ask = "POST /body HTTP/1.1\r\nHost: pay.wire.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    wire.write(ask.as_bytes()).await.unwrap();
    // Our own listener says 100, so which is first is nobody's promise.
    let mut said = [
        head(&mut wire).await.status(),
        head(&mut wire).await.status(),
    ];
    said.sort_unstable();
    assert_eq!(said, [100, 103]);
    wire.write(b"hello").await.unwrap();
    assert_eq!(head(&mut wire).await.status(), 103);
    let mut said = head(&mut wire).await;
    soon("a body", wire.body(&mut said, false)).await;
    assert_eq!((said.status(), said.text()), (200, "hello".to_owned()));
    // Before the demand, which the agent never sees, and before the answer that was paid for.
    wire.write(b"GET /402 HTTP/1.1\r\nHost: pay.wire.test\r\n\r\n")
        .await
        .unwrap();
    for paid in ["false", "true"] {
        let said = head(&mut wire).await;
        assert_eq!((said.status(), said.one("x-paid")), (103, Some(paid)));
    }
    let said = head(&mut wire).await;
    assert_eq!(said.status(), 200);
    assert!(said.one("farepass-payment").is_some(), "{said:?}");
    proxy.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_that_goes_on_and_on_is_cut_short() {
    let origin = origin(Arc::new(Semaphore::new(0))).await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let mut wire = proxy.agent().tls("free.wire.test", &["http/1.1"]).await;
    wire.write(b"GET /flood HTTP/1.1\r\nHost: free.wire.test\r\n\r\n")
        .await
        .unwrap();
    let mut heard = 0;
    loop {
        match head(&mut wire).await.status() {
            103 => heard += 1,
            status => break assert_eq!(status, 200),
        }
    }
    assert!((1..=128).contains(&heard), "{heard}");
    proxy.assert_well();
}

/// Nobody reads them until the time for an answer is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_that_never_ends_is_given_up() {
    let origin = origin(Arc::new(Semaphore::new(0))).await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    for (secure, version) in [(true, "1.1"), (true, "1.0"), (false, "1.1")] {
        for _ in 0..2 {
            let (mut wire, prefix) = open(&proxy, "free.wire.test", secure).await;
            let ask =
                format!("GET {prefix}/endless HTTP/{version}\r\nHost: free.wire.test\r\n\r\n");
            wire.write(ask.as_bytes()).await.unwrap();
            let mut last = head(&mut wire).await;
            while last.status() == 103 {
                last = head(&mut wire).await;
            }
            soon("a body", wire.body(&mut last, false)).await;
            let text = last.text();
            assert!(
                last.status() == 502
                    && text.contains("protocol_error")
                    && text.contains("interim responses came without end"),
                "{secure} {version}: {} {text}",
                last.status()
            );
        }
    }
    proxy.assert_well();
}

/// Also where no agent hears them.
#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_of_http_2_that_never_ends_is_given_up() {
    let origin = Origin::start(&["h2"], |wire, _| async move {
        let mut connection = h2::server::handshake(wire.io).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                loop {
                    let hint = Response::builder().status(103).body(()).unwrap();
                    if respond.send_informational(hint).is_err() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            });
        }
    })
    .await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let sender = open_h2(&proxy, "free.wire.test").await;
    let (said, answer) = ask_h2(&sender, ("free.wire.test", "/"), |_| {}).await;
    assert!((1..=128).contains(&said.len()), "{}", said.len());
    assert_eq!(answer.status(), 502, "{}", answer.body());
    let mut wire = proxy.agent().tls("free.wire.test", &["http/1.1"]).await;
    wire.write(b"GET / HTTP/1.0\r\nHost: free.wire.test\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(head(&mut wire).await.status(), 502);
    proxy.assert_well();
}

/// An agent of HTTP/2.
async fn open_h2(proxy: &Proxy, host: &str) -> h2::client::SendRequest<Bytes> {
    let wire = proxy.agent().tls(host, &["h2"]).await;
    let (sender, connection) = h2::client::handshake(wire.io).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// What it hears before the answer, each word as it comes; and the answer's status, fields and body.
async fn ask_h2(
    sender: &h2::client::SendRequest<Bytes>,
    (host, path): (&str, &str),
    mut heard: impl FnMut(u16),
) -> (Vec<Response<()>>, Response<String>) {
    let request = http::Request::get(format!("https://{host}{path}"));
    let mut sender = sender.clone().ready().await.unwrap();
    let (mut answer, _) = sender
        .send_request(request.body(()).unwrap(), true)
        .unwrap();
    let mut said = vec![];
    let answer = poll_fn(|cx| {
        while let Poll::Ready(Some(head)) = answer.poll_informational(cx) {
            let head = head.unwrap();
            heard(head.status().as_u16());
            said.push(head);
        }
        Pin::new(&mut answer).poll(cx)
    });
    let (head, mut body) = soon("an answer", answer).await.unwrap().into_parts();
    let mut text = vec![];
    while let Some(data) = soon("its body", body.data()).await {
        text.extend_from_slice(&data.unwrap());
    }
    let text = String::from_utf8(text).unwrap();
    (said, Response::from_parts(head, text))
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_of_http_2_hear_them_too() {
    let go_on = Arc::new(Semaphore::new(0));
    let origin = origin(Arc::clone(&go_on)).await;
    let mut proxy = Proxy::start(&origin, |config| config["via"] = "hop".into()).await;
    let sender = open_h2(&proxy, "free.wire.test").await;
    for _ in 0..2 {
        // The merchant goes on only when the agent has heard its word: none waits for the answer.
        let heard = |_| go_on.add_permits(1);
        let (said, answer) = ask_h2(&sender, ("free.wire.test", "/slow"), heard).await;
        let status: Vec<_> = said.iter().map(|head| head.status().as_u16()).collect();
        assert_eq!(status, [102, 103, 199]);
        let fields: Vec<_> = said[1].headers().iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(fields, ["link", "link", "x-kept", "via"]);
        assert_eq!(
            (answer.status().as_u16(), answer.body().as_str()),
            (200, "done")
        );
    }
    let all = ["/1", "/2", "/3", "/4"].map(|path| {
        let sender = sender.clone();
        async move {
            let (said, answer) = ask_h2(&sender, ("free.wire.test", path), |_| {}).await;
            let paths: Vec<_> = said
                .iter()
                .map(|head| head.headers()["x-path"].clone())
                .collect();
            assert_eq!(
                (paths, answer.body().as_str()),
                (vec![path.parse().unwrap()], path)
            );
        }
    });
    for one in all.map(tokio::spawn) {
        one.await.unwrap();
    }
    // Before the demand and before the answer that was paid for, as on HTTP/1.1.
    let paying = open_h2(&proxy, "pay.wire.test").await;
    let (said, answer) = ask_h2(&paying, ("pay.wire.test", "/402"), |_| {}).await;
    let paid: Vec<_> = said
        .iter()
        .map(|head| head.headers()["x-paid"].clone())
        .collect();
    assert_eq!(paid, ["false", "true"]);
    assert!(
        answer.headers().contains_key("farepass-payment"),
        "{answer:?}"
    );
    let heard = |_| go_on.add_permits(1);
    let (said, _) = ask_h2(&sender, ("free.wire.test", "/hints"), heard).await;
    assert_eq!(said.len(), 60, "large ones are no fewer");
    let (said, answer) = ask_h2(&sender, ("free.wire.test", "/flood"), |_| {}).await;
    assert!((1..=128).contains(&said.len()), "{}", said.len());
    assert_eq!(answer.status(), 200);
    proxy.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn merchants_of_http_2_are_heard_too() {
    let origin = Origin::start(&["h2"], |wire, _| async move {
        let mut connection = h2::server::handshake(wire.io).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                for word in ["one", "two"] {
                    let hint = Response::builder().status(103).header("x-word", word);
                    let hint = hint.header("payment-response", "forged");
                    let hint = hint.header("www-authenticate", "Payment id=\"x\"");
                    respond.send_informational(hint.body(()).unwrap()).unwrap();
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                let mut out = respond.send_response(Response::new(()), false).unwrap();
                let path = Bytes::copy_from_slice(request.uri().path().as_bytes());
                out.send_data(path, true).unwrap();
            });
        }
    })
    .await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let sender = open_h2(&proxy, "free.wire.test").await;
    let (said, answer) = ask_h2(&sender, ("free.wire.test", "/a"), |_| {}).await;
    let words: Vec<_> = said
        .iter()
        .map(|head| head.headers()["x-word"].clone())
        .collect();
    assert_eq!(words, ["one", "two"]);
    for money in ["payment-response", "www-authenticate"] {
        assert!(!said[0].headers().contains_key(money), "{money}");
    }
    assert_eq!(answer.body(), "/a");
    // An agent of HTTP/1.1 at a merchant that speaks nothing else.
    let mut wire = proxy.agent().tls("free.wire.test", &["http/1.1"]).await;
    wire.write(b"GET /b HTTP/1.1\r\nHost: free.wire.test\r\n\r\n")
        .await
        .unwrap();
    for word in ["one", "two"] {
        let said = head(&mut wire).await;
        assert_eq!((said.status(), said.one("x-word")), (103, Some(word)));
    }
    let mut said = head(&mut wire).await;
    soon("a body", wire.body(&mut said, false)).await;
    assert_eq!((said.status(), said.text().as_str()), (200, "/b"));
    proxy.assert_well();
}
