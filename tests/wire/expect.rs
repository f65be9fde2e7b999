//! `Expect: 100-continue`: the merchant decides, and the agent hears what it decided. And upgrades, where
//! the merchant decides as well.

use base64::Engine as _;
use serde_json::json;

use crate::support::message::Message;
use crate::support::origin::{Origin, Then, answer};
use crate::support::proxy::Proxy;
use crate::support::soon;
use crate::support::wire::Wire;

fn ask(host: &str, path: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    )
}

/// An x402 challenge for a cent, as a header.
pub(crate) fn challenge() -> String {
    let terms = json!({
        "x402Version": 2,
        "error": "payment required",
        "resource": { "url": "https://pay.wire.test/402" },
        "accepts": [{
            "scheme": "exact", "network": "eip155:84532", "amount": "10000",
            "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
            "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
            "maxTimeoutSeconds": 60, "extra": { "name": "USDC", "version": "2" },
        }],
    });
    base64::engine::general_purpose::STANDARD.encode(terms.to_string())
}

/// `/yes` wants the body, `/no` does not, `/mute` knows no expectations, `/402` wants money first. A body
/// that came before it was wanted is told on.
pub(crate) async fn origin() -> Origin {
    Origin::start(&["http/1.1"], |mut wire, _| async move {
        while let Some(mut message) = wire.head().await {
            let paid = message.one("payment-signature").is_some();
            let early = message.one("expect").is_some() && !wire.buffer.is_empty();
            let said = match message.path() {
                "/no" => answer("417 Expectation Failed", "no"),
                "/402" if !paid => format!(
                    "HTTP/1.1 402 Payment Required\r\nPAYMENT-REQUIRED: {}\r\nContent-Length: 2\r\n\r\n$$",
                    challenge()
                )
                .into_bytes(),
                path => {
                    if path == "/yes" {
                        wire.write(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
                    }
                    wire.body(&mut message, false).await;
                    let expect = message.one("expect").unwrap_or("none");
                    let text = format!("{} early {early} expect {expect}", message.text());
                    answer("200 OK", &text)
                }
            };
            wire.write(&said).await.unwrap();
            if message.path() == "/no" || message.path() == "/402" && !paid {
                // The body was not wanted: whatever comes now is no request.
                let rest = wire.rest().await;
                assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
                return;
            }
        }
    })
    .await
}

/// What the proxy says before the body: the status of its first answer.
async fn first_word(wire: &mut Wire) -> Message {
    soon("a word", wire.head()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_merchant_decides_about_the_body() {
    let origin = origin().await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    for host in ["free.wire.test", "pay.wire.test"] {
        let agent = proxy.agent();
        // Wanted: 100 comes, then the answer to the whole.
        let mut wire = agent.tls(host, &["http/1.1"]).await;
        wire.write(ask(host, "/yes").as_bytes()).await.unwrap();
        assert_eq!(first_word(&mut wire).await.status(), 100);
        wire.write(b"hello").await.unwrap();
        let answer = soon("an answer", wire.response("POST")).await.unwrap();
        assert_eq!(answer.text(), "hello early false expect 100-continue");
        // Not wanted: its answer comes instead of 100, and the body is never asked for.
        let mut wire = agent.tls(host, &["http/1.1"]).await;
        wire.write(ask(host, "/no").as_bytes()).await.unwrap();
        let mut answer = first_word(&mut wire).await;
        assert_eq!(answer.status(), 417);
        soon("its body", wire.body(&mut answer, false)).await;
        assert_eq!(answer.text(), "no");
        assert!(soon("the end", wire.rest()).await.is_empty());
        // A merchant that says nothing: the body goes after a moment, as clients do it.
        let mut wire = agent.tls(host, &["http/1.1"]).await;
        wire.write(ask(host, "/mute").as_bytes()).await.unwrap();
        assert_eq!(first_word(&mut wire).await.status(), 100);
        wire.write(b"hello").await.unwrap();
        let answer = soon("an answer", wire.response("POST")).await.unwrap();
        assert_eq!(answer.text(), "hello early false expect 100-continue");
    }
    proxy.assert_well();
}

/// A 402 comes first: no body was sent for it. Then the body is asked for, and sent with the payment.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_not_sent_before_its_price_is_known() {
    let origin = origin().await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let mut wire = proxy.agent().tls("pay.wire.test", &["http/1.1"]).await;
    wire.write(ask("pay.wire.test", "/402").as_bytes())
        .await
        .unwrap();
    assert_eq!(first_word(&mut wire).await.status(), 100);
    // Until now the merchant had no byte of it.
    let sent: Vec<u8> = origin.heard().concat();
    assert!(sent.ends_with(b"\r\n\r\n"), "{sent:?}");
    wire.write(b"hello").await.unwrap();
    let answer = soon("an answer", wire.response("POST")).await.unwrap();
    assert_eq!(answer.text(), "hello early false expect none");
    assert!(answer.one("farepass-payment").is_some(), "{answer:?}");
    proxy.assert_well();
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

/// `/ws` echoes after 101, `/402` wants money, `/plain` knows no upgrades; `/odd` says 101 late.
async fn sockets() -> Origin {
    Origin::start(&["http/1.1"], |mut wire, _| async move {
        while let Some(message) = wire.request().await {
            let paid = message.one("payment-signature").is_some();
            let wanted = message.one("upgrade") == Some("websocket");
            let switch = match message.path() {
                "/402" if !paid => format!(
                    "HTTP/1.1 402 Payment Required\r\nPAYMENT-REQUIRED: {}\r\nContent-Length: 2\r\n\r\n$$",
                    challenge()
                )
                .into_bytes(),
                "/ws" | "/402" if wanted => {
                    assert!(wire.buffer.is_empty(), "bytes before 101");
                    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nAlt-Svc: h3=\":443\"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
                    wire.write(head.as_bytes()).await.unwrap();
                    while wire.more().await {
                        let bytes = std::mem::take(&mut wire.buffer);
                        wire.write(&bytes).await.unwrap();
                    }
                    return;
                }
                _ => answer("200 OK", "no upgrade"),
            };
            wire.write(&switch).await.unwrap();
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrades_are_the_merchants_to_grant() {
    let origin = sockets().await;
    let mut proxy = Proxy::start(&origin, |config| {
        config["limits"] = json!({ "tunnels": 4, "idle_timeout": "2s" });
        config["via"] = "pass".into();
    })
    .await;
    let open = async |path: &str, early: &str| {
        let host = "pay.wire.test";
        let mut wire = proxy.agent().tls(host, &["http/1.1"]).await;
        let ask = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{UPGRADE}\r\n{early}");
        wire.write(ask.as_bytes()).await.unwrap();
        let answer = soon("an answer", wire.response("GET")).await.unwrap();
        (wire, answer)
    };
    // Bytes that follow the request at once are held back until 101 is there.
    let (mut first, answer) = open("/ws", "early").await;
    assert_eq!(answer.status(), 101, "{answer:?}");
    assert_eq!(answer.one("upgrade"), Some("websocket"));
    assert!(answer.one("sec-websocket-accept").is_some());
    assert_eq!(answer.all("via"), ["1.1 pass"]);
    assert!(answer.one("alt-svc").is_none(), "{answer:?}");
    assert_eq!(soon("an echo", first.exact(5)).await.unwrap(), b"early");
    first.write(&[0x82, 3, 1, 2, 3]).await.unwrap();
    assert_eq!(
        soon("an echo", first.exact(5)).await.unwrap(),
        [0x82, 3, 1, 2, 3]
    );
    // Without 101 it is a request like any other, and so is what follows it.
    let (mut plain, answer) = open("/plain", "").await;
    assert_eq!(answer.text(), "no upgrade");

    plain
        .write(b"GET /plain HTTP/1.1\r\nHost: pay.wire.test\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(
        soon("an answer", plain.response("GET"))
            .await
            .unwrap()
            .text(),
        "no upgrade"
    );
    // A 402 to the handshake is paid for as any other.
    let (mut second, answer) = open("/402", "").await;
    assert_eq!(answer.status(), 101, "{answer:?}");
    assert_eq!(answer.all("via"), ["1.1 pass"]);
    assert!(answer.one("alt-svc").is_none(), "{answer:?}");
    second.write(b"hello").await.unwrap();
    assert_eq!(soon("an echo", second.exact(5)).await.unwrap(), b"hello");
    // One session has half of them at most.
    let (_, answer) = open("/ws", "").await;
    assert_eq!(
        (answer.status(), answer.reason().as_str()),
        (503, "too_many_tunnels")
    );
    // What would have no place then is not bought.
    let paid = |log: &Vec<u8>| {
        log.windows(17)
            .filter(|w| w.eq_ignore_ascii_case(b"payment-signature"))
            .count()
    };
    let before: usize = origin.heard().iter().map(paid).sum();
    let (_, answer) = open("/402", "").await;
    assert_eq!(
        (answer.status(), answer.reason().as_str()),
        (503, "too_many_tunnels")
    );
    assert_eq!(origin.heard().iter().map(paid).sum::<usize>(), before);
    // Whoever says nothing for too long is cut, and leaves its place.
    assert!(
        soon("the end of a silent socket", first.rest())
            .await
            .is_empty()
    );
    assert!(
        soon("the end of a silent socket", second.rest())
            .await
            .is_empty()
    );
    let (_, answer) = open("/ws", "").await;
    assert_eq!(answer.status(), 101, "{answer:?}");
    proxy.assert_well();
}

/// An agent asks for `h2c`, which would lead around the policy; the merchant never hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn cleartext_http_2_is_not_upgraded_to() {
    let origin = Origin::scripted(|asked| {
        let asked = format!("{:?}", asked.all("upgrade"));
        (answer("200 OK", &asked), Then::Keep)
    })
    .await;
    let proxy = Proxy::start(&origin, |_| {}).await;
    let mut wire = proxy.agent().tunnel("free.wire.test:80").await;
    for upgrade in ["h2c", "H2C", "websocket, h2c"] {
        let ask = format!(
            "GET / HTTP/1.1\r\nHost: free.wire.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
        );
        wire.write(ask.as_bytes()).await.unwrap();
        let answer = soon("an answer", wire.response("GET")).await.unwrap();
        assert_eq!(answer.text(), "[]", "{upgrade}");
    }
}

/// A 402 that is not paid and breaks off: the agent must not take its part for all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_demand_that_breaks_off_breaks_off_for_the_agent() {
    let origin = Origin::scripted(|asked| {
        let length = match asked.path() {
            "/chunked" => "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            _ => "Content-Length: 9\r\n\r\nhello",
        };
        let terms = challenge();
        let head = "HTTP/1.1 402 Payment Required\r\nPAYMENT-REQUIRED";
        (
            format!("{head}: {terms}\r\n{length}").into_bytes(),
            Then::Close,
        )
    })
    .await;
    let mut proxy = Proxy::start(&origin, |config| {
        config["refusals"] = json!({ "body": "original" });
    })
    .await;
    for path in ["/chunked", "/length"] {
        let mut wire = proxy.agent().tls("free.wire.test", &["http/1.1"]).await;
        let ask = format!("GET {path} HTTP/1.1\r\nHost: free.wire.test\r\n\r\n");
        wire.write(ask.as_bytes()).await.unwrap();
        let mut said = first_word(&mut wire).await;
        assert_eq!(said.status(), 402);
        soon("an end", wire.body(&mut said, false)).await;
        assert!(!said.whole, "{path}: {said:?}");
    }
    proxy.assert_well();
}
