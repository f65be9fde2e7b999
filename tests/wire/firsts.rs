//! What may come before a request, and a CONNECT that does not come first.

use serde_json::json;

use crate::support::origin::{Origin, Then, answer};
use crate::support::proxy::Proxy;
use crate::support::soon;
use crate::support::wire::{Log, Wire};

async fn fine() -> Origin {
    Origin::scripted(|asked| (answer("200 OK", asked.path()), Then::Keep)).await
}

/// The status of the answer to this text, which is sent in two pieces, parted at `at`.
async fn status(wire: &mut Wire, text: &str, at: usize) -> u16 {
    let (first, rest) = text.as_bytes().split_at(at);
    wire.write(first).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    wire.write(rest).await.unwrap();
    let answer = soon("an answer", wire.response("GET")).await.unwrap();
    answer.status()
}

/// RFC 9112 section 2.2.
#[tokio::test(flavor = "multi_thread")]
async fn empty_lines_before_the_first_request_are_passed_over() {
    let origin = fine().await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let agent = proxy.agent();
    for empty in ["\r\n", "\r\n\r\n\r\n"] {
        for at in 0..=empty.len() + 1 {
            let ask = format!("{empty}GET /x HTTP/1.1\r\nHost: free.wire.test\r\n\r\n");
            let mut wire = agent.tunnel("free.wire.test:80").await;
            assert_eq!(status(&mut wire, &ask, at).await, 200, "{empty:?} {at}");

            let mut wire = agent.plain().await;
            let ask = ask.replace("/x", "http://free.wire.test/x");
            assert_eq!(status(&mut wire, &ask, at).await, 200, "{empty:?} {at}");

            let mut wire = agent.plain().await;
            let connect = format!("{empty}CONNECT free.wire.test:443 HTTP/1.1\r\n\r\n");
            let (first, rest) = connect.as_bytes().split_at(at);
            wire.write(first).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            wire.write(rest).await.unwrap();
            let said = soon("an answer to CONNECT", wire.head()).await.unwrap();
            assert_eq!(said.status(), 200, "{empty:?} {at}: {said:?}");
            let tls = agent.handshake(wire, "free.wire.test", &[]).await;
            let mut wire = Wire::new(tls.unwrap(), Log::default());
            let ask = "GET /x HTTP/1.1\r\nHost: free.wire.test\r\n\r\n";
            assert_eq!(status(&mut wire, ask, 0).await, 200, "{empty:?} {at}");
        }
    }
    proxy.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_empty_lines_there_is_a_request_or_nothing() {
    let origin = fine().await;
    let mut proxy = Proxy::start(&origin, |config| {
        config["limits"] = json!({ "first_byte_timeout": "1s" });
    })
    .await;
    for text in [
        "\r\n\u{16}\u{3}\u{1}".to_owned(),
        "\r\nhello\r\n".into(),
        "\n\nGET / HTTP/1.1\r\nHost: free.wire.test\r\n\r\n".into(),
        "\r\r\nGET / HTTP/1.1\r\nHost: free.wire.test\r\n\r\n".into(),
        "\r\n".into(),
        "\r".into(),
        "\r\n".repeat(5000),
    ] {
        let mut wire = proxy.agent().tunnel("free.wire.test:80").await;
        let _ = wire.write(text.as_bytes()).await;
        let rest = soon("the end of a tunnel", wire.rest()).await;
        assert!(rest.is_empty(), "{text:?}");
    }
    assert!(origin.heard().concat().is_empty());
    proxy.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_has_a_connection_of_its_own() {
    let origin = fine().await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let connect = "CONNECT free.wire.test:443 HTTP/1.1\r\nHost: free.wire.test:443\r\n\r\n";
    let ask = "GET http://free.wire.test/x HTTP/1.1\r\nHost: free.wire.test\r\n\r\n";
    let mut wire = proxy.agent().plain().await;
    assert_eq!(status(&mut wire, ask, 0).await, 200);
    wire.write(connect.as_bytes()).await.unwrap();
    let answer = soon("an answer", wire.response("CONNECT")).await.unwrap();
    assert_eq!(
        (answer.status(), answer.reason().as_str()),
        (405, "method_not_forwarded")
    );
    assert_eq!(answer.all("connection"), ["close"], "{answer:?}");
    let said = answer.text();
    assert!(said.contains("connection of its own"), "{said}");
    assert!(soon("the end", wire.rest()).await.is_empty());
    // In a tunnel there is no other one, and nothing is traced anywhere.
    for (to, ask) in [
        ("free.wire.test:80", connect),
        (
            "",
            "TRACE http://free.wire.test/ HTTP/1.1\r\nHost: free.wire.test\r\n\r\n",
        ),
    ] {
        let mut wire = match to {
            "" => proxy.agent().plain().await,
            to => proxy.agent().tunnel(to).await,
        };
        wire.write(ask.as_bytes()).await.unwrap();
        let answer = soon("an answer", wire.response("GET")).await.unwrap();
        assert_eq!(answer.status(), 405, "{answer:?}");
        assert!(!answer.text().contains("of its own"), "{answer:?}");
    }
    proxy.assert_well();
}

/// A client of HTTP/1.0 that asks to keep its connection.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_a_connection_is_said_once() {
    let origin = fine().await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let mut wire = proxy.agent().plain().await;
    for (target, status, said) in [
        ("http://free.wire.test/x", 200, "keep-alive"),
        ("/x", 400, "close"),
    ] {
        let ask = format!("GET {target} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        wire.write(ask.as_bytes()).await.unwrap();
        let answer = soon("an answer", wire.response("GET")).await.unwrap();
        assert_eq!(answer.status(), status, "{answer:?}");
        assert_eq!(answer.all("connection"), [said], "{answer:?}");
    }
    assert!(soon("the end", wire.rest()).await.is_empty());
    proxy.assert_well();
}

/// RFC 3986 section 3.2.3.
#[tokio::test(flavor = "multi_thread")]
async fn a_colon_without_a_port_means_the_usual_one() {
    let origin = fine().await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let agent = proxy.agent();
    let host = "Host: free.wire.test:\r\n\r\n";
    for target in ["http://free.wire.test:/x", "https://free.wire.test:/x"] {
        let mut wire = agent.plain().await;
        let ask = format!("GET {target} HTTP/1.1\r\n{host}");
        assert_eq!(status(&mut wire, &ask, 0).await, 200, "{target}");
    }
    let ask = format!("GET /x HTTP/1.1\r\n{host}");
    let mut wire = agent.tls("free.wire.test", &[]).await;
    assert_eq!(status(&mut wire, &ask, 0).await, 200);
    // The usual port of another scheme is another place.
    let mut wire = agent.tunnel("free.wire.test:443").await;
    wire.write(ask.as_bytes()).await.unwrap();
    let answer = soon("an answer", wire.response("GET")).await.unwrap();
    assert_eq!(answer.status(), 421, "{answer:?}");
    proxy.assert_well();
}

/// The length of what is not sent (RFC 9110 section 8.6).
#[tokio::test(flavor = "multi_thread")]
async fn a_304_says_how_long_the_answer_would_be() {
    let origin = Origin::scripted(|asked| {
        let length = asked.path().trim_start_matches('/');
        let head = format!("HTTP/1.1 304 Not Modified\r\nContent-Length: {length}\r\n\r\n");
        (head.into_bytes(), Then::Keep)
    })
    .await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let mut wire = proxy.agent().tls("free.wire.test", &[]).await;
    for (method, length, kept) in [
        ("GET", "1234", Some("1234")),
        ("HEAD", "1234", Some("1234")),
        ("GET", "0", Some("0")),
        ("GET", "99999999999999999999", None),
        ("GET", "5", Some("5")),
    ] {
        let ask = format!("{method} /{length} HTTP/1.1\r\nHost: free.wire.test\r\n\r\n");
        wire.write(ask.as_bytes()).await.unwrap();
        let answer = soon("an answer", wire.response(method)).await.unwrap();
        assert_eq!(answer.status(), 304, "{answer:?}");
        assert_eq!(answer.one("content-length"), kept, "{answer:?}");
    }
    proxy.assert_well();
}
