//! Bodies that take their time or have no length, and merchants that are old, forge or count.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::expect::challenge;
use crate::support::agent::Agent;
use crate::support::h2::*;
use crate::support::message::Message;
use crate::support::origin::{Origin, Then, answer};
use crate::support::proxy::Proxy;
use crate::support::soon;
use crate::support::wire::{Log, Wire};

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

/// Reads the head of what is paid for or goes to `/413`, answers and leaves: what is unread by then resets the
/// connection. Of what goes to `/gone` it leaves without a word. Anything else it reads, and wants money for it.
async fn hasty() -> Origin {
    Origin::start(&["http/1.1"], |mut wire, _| async move {
        while let Some(mut asked) = wire.head().await {
            let paid = asked.one("payment-signature").is_some();
            if asked.path() == "/gone" && (paid || asked.one("x-free").is_some()) {
                return;
            }
            if asked.path() == "/ws" {
                let head =
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket";
                wire.write(format!("{head}\r\n\r\n").as_bytes())
                    .await
                    .unwrap();
                wire.exact(100_000).await.unwrap();
                wire.write(&[b'y'; 50_000]).await.unwrap();
                return;
            }
            if paid || asked.path() == "/413" {
                let status = if paid { "200 OK" } else { "413 Too Large" };
                let text = answer(&format!("{status}\r\nConnection: close"), "heard");
                wire.write(&text).await.unwrap();
                return;
            }
            wire.body(&mut asked, false).await;
            let head = "HTTP/1.1 402 Payment Required\r\nContent-Length: 0\r\nPAYMENT-REQUIRED:";
            let text = format!("{head} {}\r\n\r\n", challenge());
            wire.write(text.as_bytes()).await.unwrap();
        }
    })
    .await
}

/// Writes all of it, as far as the other side takes it, while what comes is read.
fn pour(wire: Wire, bytes: Vec<u8>) -> Wire {
    let (reader, mut writer) = tokio::io::split(wire.io);
    tokio::spawn(async move {
        // Whoever has answered may be gone before all of it is out.
        let _ = writer.write_all(&bytes).await;
    });
    let io = tokio::io::join(reader, tokio::io::sink());
    let mut rest = Wire::new(io, Log::default());
    rest.buffer = wire.buffer;
    rest
}

/// Uploads so many bytes and reads meanwhile.
async fn upload(wire: Wire, first: &str, host: &str, length: usize) -> Message {
    let free = match host {
        "free.wire.test" => "X-Free: 1\r\n",
        _ => "",
    };
    let head =
        format!("POST {first} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n{free}\r\n");
    let whole = [head.into_bytes(), vec![b'x'; length]].concat();
    hear(&mut pour(wire, whole)).await
}

/// Writing to it fails when its answer may not have been read yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_that_answers_and_leaves_before_the_upload_is_over_is_heard() {
    let origin = hasty().await;
    let mut proxy = Proxy::start(&origin, |config| {
        config["sessions"]["default"]["budget"] = "100 USD".into();
    })
    .await;
    let agent = proxy.agent();
    let mut lost = vec![];
    for n in 0..25 {
        let free = "free.wire.test";
        let plain = upload(
            agent.plain().await,
            "http://free.wire.test/413",
            free,
            8 << 20,
        )
        .await;
        let tls = agent.tls(free, &["http/1.1"]).await;
        let secret = upload(tls, "/413", free, 8 << 20).await;
        let tls = agent.tls("pay.wire.test", &["http/1.1"]).await;
        let paid = upload(tls, &format!("/{n}"), "pay.wire.test", 900_000).await;
        for (what, answer, status) in [
            ("plain", plain, 413),
            ("tls", secret, 413),
            ("paid", paid, 200),
        ] {
            if (answer.status(), answer.text().as_str()) != (status, "heard") {
                lost.push((what, answer.status(), answer.reason()));
            }
        }
    }
    assert!(lost.is_empty(), "{} of 75: {lost:?}", lost.len());
    proxy.assert_well();
}

/// As many agents do: nothing is read before everything is written, and what cannot be written is an error.
#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_reaches_agents_that_write_everything_first() {
    let origin = hasty().await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let agent = proxy.agent();
    let mut lost = vec![];
    for n in 0..20 {
        let (mut wire, first) = match n % 2 {
            0 => (agent.plain().await, "http://free.wire.test/413"),
            _ => (agent.tls("free.wire.test", &["http/1.1"]).await, "/413"),
        };
        let head = format!(
            "POST {first} HTTP/1.1\r\nHost: free.wire.test\r\nContent-Length: {}\r\nX-Free: 1\r\n\r\n",
            8 << 20
        );
        let mut written = wire.write(head.as_bytes()).await;
        for _ in 0..128 {
            if written.is_ok() {
                written = wire.write(&[b'x'; 1 << 16]).await;
            }
        }
        if written.is_err() {
            lost.push((n, written));
            continue;
        }
        let answer = hear(&mut wire).await;
        assert_eq!((answer.status(), answer.text().as_str()), (413, "heard"));
    }
    assert!(lost.is_empty(), "{} of 20: {lost:?}", lost.len());
    proxy.assert_well();
}

/// The same where the bytes are none of our business.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_merchant_says_before_it_leaves_a_tunnel_arrives() {
    let origin = hasty().await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let (agent, blind) = (proxy.agent(), Agent::new(proxy.address, &origin.root));
    let mut lost = vec![];
    for _ in 0..25 {
        let host = "blind.wire.test";
        let wire = blind.tls(host, &["http/1.1"]).await;
        let answer = upload(wire, "/413", host, 8 << 20).await;
        if answer.text() != "heard" {
            lost.push(("tunnel", answer.body.len()));
        }
        for host in ["free.wire.test", "pay.wire.test"] {
            let mut wire = agent.tls(host, &["http/1.1"]).await;
            let ask = "Connection: Upgrade\r\nUpgrade: websocket";
            let ask = format!("GET /ws HTTP/1.1\r\nHost: {host}\r\n{ask}\r\n\r\n");
            wire.write(ask.as_bytes()).await.unwrap();
            assert_eq!(hear(&mut wire).await.status(), 101);
            let mut wire = pour(wire, vec![b'x'; 8 << 20]);
            let said = soon("the end", wire.rest()).await;
            if said.len() != 50_000 {
                lost.push(("upgrade", said.len()));
            }
        }
    }
    assert!(lost.is_empty(), "{} of 75: {lost:?}", lost.len());
    proxy.assert_well();
}

/// And one that says nothing is not waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_that_leaves_before_the_upload_is_over_is_gone_at_once() {
    let origin = hasty().await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let agent = proxy.agent();
    let begun = Instant::now();
    let free = "free.wire.test";
    let plain = upload(
        agent.plain().await,
        "http://free.wire.test/gone",
        free,
        8 << 20,
    )
    .await;
    assert_eq!(plain.reason(), "connection_terminated");
    let tls = agent.tls(free, &["http/1.1"]).await;
    assert_eq!(
        upload(tls, "/gone", free, 8 << 20).await.reason(),
        "connection_terminated"
    );
    let tls = agent.tls("pay.wire.test", &["http/1.1"]).await;
    let paid = upload(tls, "/gone", "pay.wire.test", 900_000).await;
    assert_eq!(paid.reason(), "outcome_unknown");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    proxy.assert_well();
}
