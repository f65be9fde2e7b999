//! What is said over HTTP/2 before a body and instead of one: the word that an agent waits for, answers to HEAD, and
//! merchants that want no more of an upload.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc;

use crate::expect::{challenge, origin};
use crate::support::h2::*;
use crate::support::origin::{Origin, Then};
use crate::support::proxy::Proxy;
use crate::support::soon;

/// The head of a POST whose five bytes wait for a word.
fn ask(host: &str, path: &str) -> Vec<u8> {
    let block = fields(&[
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", host),
        (":path", path),
        ("expect", "100-continue"),
        ("content-length", "5"),
    ]);
    frame(HEADERS, END_HEADERS, 1, &block)
}

/// The status of the next head.
async fn word(h2: &mut H2) -> u16 {
    loop {
        let frame = soon("a word", h2.next()).await.expect("a frame");
        if frame.kind == HEADERS {
            return status_of(&frame.payload);
        }
    }
}

fn hello() -> Vec<u8> {
    frame(DATA, END_STREAM, 1, b"hello")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_http_2_hears_when_its_body_is_wanted() {
    let origin = origin().await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    for (path, first) in [("/yes", 100), ("/no", 417), ("/mute", 100), ("/402", 100)] {
        let host = "pay.wire.test";
        let mut h2 = H2::connect(&proxy.agent(), host).await;
        h2.send(&ask(host, path)).await;
        assert_eq!(word(&mut h2).await, first, "{path}");
        if first != 100 {
            continue;
        }
        // Until now the merchant had no byte of it.
        let sent = origin.heard().concat();
        assert!(!sent.ends_with(b"hello"), "{path}");
        h2.send(&hello()).await;
        let outcome = soon("an answer", h2.outcome(1)).await;
        assert_eq!(outcome, Outcome::Status(200), "{path}: 100 is said once");
        assert!(origin.heard().concat().ends_with(b"hello"), "{path}");
    }
    proxy.assert_well();
}

/// Frames that a merchant was sent until now.
fn sent(frames: &mut mpsc::UnboundedReceiver<Frame>) -> Vec<Frame> {
    std::iter::from_fn(|| frames.try_recv().ok()).collect()
}

fn data(frames: &[Frame]) -> Vec<u8> {
    let data = frames.iter().filter(|f| f.kind == DATA);
    data.flat_map(|f| f.payload.clone()).collect()
}

/// A merchant that sells for a cent what is asked on any stream but the first, and has its answer at once.
async fn seller() -> (Origin, mpsc::UnboundedReceiver<Frame>) {
    merchant(|stream| {
        let terms = challenge();
        let said = match stream {
            1 => fields(&[(":status", "402"), ("payment-required", &terms)]),
            _ => fields(&[(":status", "200")]),
        };
        frame(HEADERS, WHOLE, stream, &said)
    })
    .await
}

/// Threat H-12: a merchant of HTTP/2 decides about the body as others do.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_not_sent_to_a_merchant_of_http_2_before_its_price_is_known() {
    let (origin, mut frames) = seller().await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let host = "pay.wire.test";
    let mut h2 = H2::connect(&proxy.agent(), host).await;
    h2.send(&ask(host, "/")).await;
    assert_eq!(word(&mut h2).await, 100);
    assert_eq!(data(&sent(&mut frames)), b"");
    h2.send(&hello()).await;
    let outcome = soon("an answer", h2.outcome(1)).await;
    assert_eq!(outcome, Outcome::Status(200));
    soon("the body", async {
        let mut all = vec![];
        while data(&all) != b"hello" {
            all.extend(frames.recv().await);
        }
    })
    .await;
    proxy.assert_well();
}

/// It takes one window of the upload, says that it wants money, and opens no other.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_lies_after_a_402_does_not_hold_up_the_payment() {
    let (origin, _frames) = seller().await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let mut wire = proxy.agent().tls("pay.wire.test", &["http/1.1"]).await;
    let body = "x".repeat(900_000);
    let length = body.len();
    let host = "pay.wire.test";
    let head = format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n");
    let begun = Instant::now();
    wire.write(head.as_bytes()).await.unwrap();
    wire.write(body.as_bytes()).await.unwrap();
    let answer = soon("an answer", wire.response("POST")).await.unwrap();
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert!(answer.one("farepass-payment").is_some(), "{answer:?}");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    proxy.assert_well();
}

/// RFC 9110 section 9.3.2: what we say ourselves has no body there either.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_a_head_request_is_a_head() {
    let origin = Origin::scripted(|_| (vec![], Then::Close)).await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let mut h2 = H2::connect(&proxy.agent(), "free.wire.test").await;
    let forged = request("HEAD", "/", &[("payment-signature", "abc")]);
    for (stream, ask, status) in [(1, forged, 402), (3, request("HEAD", "/", &[]), 502)] {
        h2.send(&frame(HEADERS, WHOLE, stream, &ask)).await;
        let answer = loop {
            let frame = soon("an answer", h2.next()).await.expect("a frame");
            if frame.stream == stream {
                break frame;
            }
        };
        assert_eq!(
            (answer.kind, answer.flags & END_STREAM),
            (HEADERS, END_STREAM)
        );
        assert_eq!(status_of(&answer.payload), status);
    }
    proxy.assert_well();
}

/// RFC 9110 section 8.6: it has no length, whatever an old merchant says.
#[tokio::test(flavor = "multi_thread")]
async fn a_204_with_a_length_reaches_an_agent_of_http_2() {
    let origin = Origin::scripted(|_| {
        let said = b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n";
        (said.to_vec(), Then::Close)
    })
    .await;
    let proxy = Proxy::start(&origin, |_| {}).await;
    let wire = proxy.agent().tls("free.wire.test", &["h2"]).await;
    let made = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(wire.io));
    let (mut sender, connection) = made.await.unwrap();
    tokio::spawn(connection);
    let ask = Request::get("https://free.wire.test/").body(Empty::<Bytes>::new());
    let answer = soon("an answer", sender.send_request(ask.unwrap()))
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert!(!answer.headers().contains_key("content-length"));
}

/// The agent's mistake is told as such, whichever version the merchant speaks.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_is_not_the_merchants_fault() {
    let (origin, _frames) = merchant(|_| vec![]).await;
    let proxy = Proxy::start(&origin, |_| {}).await;
    let mut wire = proxy.agent().tls("free.wire.test", &["http/1.1"]).await;
    let head = "POST / HTTP/1.1\r\nHost: free.wire.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    wire.write(head.as_bytes()).await.unwrap();
    wire.write(b"5\r\nhello\r\nzz\r\n").await.unwrap();
    let answer = soon("an answer", wire.response("POST")).await.unwrap();
    assert_eq!(
        (answer.status(), answer.reason().as_str()),
        (400, "request_body_broken")
    );
}
