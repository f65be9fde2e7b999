//! Bodies that take their time or have no length, and merchants that are old, forge or count.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::h2::*;
use crate::support::message::Message;
use crate::support::origin::{Origin, Then, answer};
use crate::support::proxy::Proxy;
use crate::support::soon;
use crate::support::wire::Wire;

fn head(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: free.wire.test\r\nTransfer-Encoding: chunked\r\n\r\n")
}

async fn hear(wire: &mut Wire) -> Message {
    soon("an answer", wire.response("POST"))
        .await
        .expect("an answer")
}

/// HTTP/1.0 has no way to say that a body goes on: one that it would lose must not be sent to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_a_length_reaches_a_merchant_of_http_1_0() {
    let origin = Origin::scripted(|asked| {
        let told = String::from_utf8_lossy(&asked.body).into_owned();
        let length = told.len();
        let old = "HTTP/1.0 200 OK\r\nConnection: keep-alive";
        let answer = format!("{old}\r\nContent-Length: {length}\r\n\r\n{told}");
        (answer.into_bytes(), Then::Keep)
    })
    .await;
    let proxy = Proxy::start(&origin, |_| {}).await;
    let mut wire = proxy.agent().tls("free.wire.test", &["http/1.1"]).await;
    for n in 0..3 {
        let text = format!("{}5\r\nhell{n}\r\n0\r\n\r\n", head("/"));
        wire.write(text.as_bytes()).await.unwrap();
        assert_eq!(hear(&mut wire).await.text(), format!("hell{n}"));
    }
}

/// It may pause as long as any body; the time to the answer begins when it is over.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_may_pause_and_an_answer_may_not() {
    let origin = Origin::scripted(|asked| match asked.path() {
        "/mute" => (vec![], Then::Hang),
        _ => (answer("200 OK", "thanks"), Then::Keep),
    })
    .await;
    let proxy = Proxy::start(&origin, |config| {
        config["limits"] = json!({ "upstream_total": "1s", "idle_timeout": "5s" });
    })
    .await;
    let agent = proxy.agent();
    let mut wire = agent.tls("free.wire.test", &["http/1.1"]).await;
    let begun = format!("{}5\r\nhello\r\n", head("/"));
    wire.write(begun.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    wire.write(b"0\r\n\r\n").await.unwrap();
    assert_eq!(hear(&mut wire).await.text(), "thanks");

    let mut wire = agent.tls("free.wire.test", &["http/1.1"]).await;
    let begun = Instant::now();
    let whole = format!("{}5\r\nhello\r\n0\r\n\r\n", head("/mute"));
    wire.write(whole.as_bytes()).await.unwrap();
    assert_eq!(hear(&mut wire).await.status(), 504);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    // And a body that goes on for ever without moving is not waited for.
    let mut wire = agent.tls("free.wire.test", &["http/1.1"]).await;
    let begun = format!("{}5\r\nhello\r\n", head("/mute"));
    wire.write(begun.as_bytes()).await.unwrap();
    assert!(hear(&mut wire).await.status() >= 400);
}

/// One byte of a next request more, and nothing is read: the connection ends all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_has_begun_keeps_no_silent_connection() {
    let origin = Origin::scripted(|_| (answer("200 OK", &"b".repeat(32 << 20)), Then::Keep)).await;
    let proxy = Proxy::start(&origin, |config| {
        config["limits"] = json!({ "connection_idle": "8s", "header_timeout": "700ms" });
    })
    .await;
    let before = proxy.files();
    let mut wire = proxy.agent().plain().await;
    let ask = "GET http://free.wire.test/ HTTP/1.1\r\nHost: free.wire.test\r\n\r\nG";
    wire.write(ask.as_bytes()).await.unwrap();
    soon("the answer's beginning", wire.until(b"\r\n\r\n")).await;
    let begun = Instant::now();
    while proxy.files() > before {
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(25), "{waited:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Threat H-10: nobody speaks in our name, at the end of a message no more than at its beginning.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_status_in_trailers_is_removed() {
    let origin = Origin::scripted(|asked| {
        let whose = asked.path().trim_start_matches('/');
        let head = "HTTP/1.1 200 OK\r\nTrailer: Proxy-Status\r\nTransfer-Encoding: chunked";
        let text = format!("{head}\r\n\r\n2\r\nok\r\n0\r\nProxy-Status: {whose}; error=x\r\n\r\n");
        (text.into_bytes(), Then::Keep)
    })
    .await;
    let proxy = Proxy::start(&origin, |_| {}).await;
    let mut wire = proxy.agent().tls("free.wire.test", &["http/1.1"]).await;
    for (whose, passes) in [("other", true), ("Farepass", false)] {
        let ask = format!("GET /{whose} HTTP/1.1\r\nHost: free.wire.test\r\nTE: trailers\r\n\r\n");
        wire.write(ask.as_bytes()).await.unwrap();
        let answer = soon("an answer", wire.response("GET")).await.unwrap();
        let status = |(name, _): &(String, String)| name.eq_ignore_ascii_case("proxy-status");
        assert_eq!(answer.trailers.iter().any(status), passes, "{answer:?}");
    }
}

/// What was opened to learn that a host speaks HTTP/1.1 only carries the request.
#[tokio::test(flavor = "multi_thread")]
async fn one_connection_is_enough_to_learn_the_version() {
    let origin = Origin::scripted(|_| (answer("200 OK", "fine"), Then::Keep)).await;
    let proxy = Proxy::start(&origin, |_| {}).await;
    let agent = proxy.agent();
    let mut h2 = H2::connect(&agent, "free.wire.test").await;
    let ask = frame(HEADERS, WHOLE, 1, &request("GET", "/", &[]));
    h2.send(&ask).await;
    let outcome = h2.outcome(1).await;
    assert!(matches!(outcome, Outcome::Status(200)), "{outcome:?}");
    assert_eq!(origin.heard().len(), 1, "one handshake");
}
