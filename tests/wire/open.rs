//! `https` in absolute form, as axios sent it for years: the client leaves the TLS to the proxy. All that holds in a
//! tunnel holds here.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use serde_json::json;
use tokio::net::UnixStream;

use crate::expect::challenge;
use crate::support::agent::Agent;
use crate::support::message::Message;
use crate::support::origin::{Origin, Then, answer};
use crate::support::proxy::Proxy;
use crate::support::soon;
use crate::support::wire::{Log, Wire};

/// Answers with the lines of the head that it was asked by, and says what else it got. `/402` wants money, `/lost`
/// takes it and hangs up, `/101` speaks something else from then on.
fn said(asked: &Message) -> (Vec<u8>, Then) {
    let paid = asked.one("payment-signature").is_some();
    let path = asked.path();
    if path.starts_with("/402") && !paid {
        let head = "HTTP/1.1 402 Payment Required\r\nContent-Length: 0\r\nPAYMENT-REQUIRED:";
        return (
            format!("{head} {}\r\n\r\n", challenge()).into_bytes(),
            Then::Keep,
        );
    }
    if path == "/402/lost" {
        return (vec![], Then::Close);
    }
    if path == "/101" {
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        return (format!("{head}hello").into_bytes(), Then::Hang);
    }
    let mut text = format!("{}\n", asked.first);
    for (name, value) in asked.fields.iter().chain(&asked.trailers) {
        text += &format!("{}: {value}\n", name.to_ascii_lowercase());
    }
    text += &asked.text();
    (answer("200 OK", &text), Then::Keep)
}

async fn shop() -> Origin {
    Origin::scripted(said).await
}

/// Sends this on a connection to the proxy; `HTTP/1.1` is added to the first line.
async fn ask(wire: &mut Wire, first: &str, rest: &str) -> Message {
    let text = format!("{first} HTTP/1.1\r\n{rest}");
    wire.write(text.as_bytes()).await.unwrap();
    let method = first.split(' ').next().unwrap();
    soon("an answer", wire.response(method)).await.unwrap()
}

/// One on a connection of its own.
async fn once(agent: &Agent, first: &str, rest: &str) -> Message {
    ask(&mut agent.plain().await, first, rest).await
}

fn requests(origin: &Origin) -> usize {
    let heard = origin.heard().concat();
    heard.windows(9).filter(|w| w == b" HTTP/1.1").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_https_request_in_absolute_form_goes_on_by_tls() {
    let origin = shop().await;
    let mut proxy = Proxy::start(&origin, |config| {
        // Whoever goes on in the clear arrives nowhere.
        config["egress"]["resolve"]["free.wire.test:80"] = json!("127.0.0.1:1");
        config["egress"]["resolve"]["free.wire.test:443"] = json!(origin.tls);
    })
    .await;
    let sent = "Proxy-Connection: keep-alive\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nX-Kept: 1\r\n\r\n";
    let mut wire = proxy.agent().plain().await;
    for (uri, host) in [
        ("https://free.wire.test/x?a=b", "free.wire.test"),
        ("https://free.wire.test:443/x?a=b", "free.wire.test"),
        ("HTTPS://FREE.wire.test./x?a=b", "free.wire.test:443"),
    ] {
        let head = format!("Host: {host}\r\n{sent}");
        let answer = ask(&mut wire, &format!("GET {uri}"), &head).await;
        assert_eq!(
            answer.text(),
            format!("GET /x?a=b HTTP/1.1\nhost: {host}\nx-kept: 1\n"),
            "{uri}"
        );
    }
    // Another place on the same connection, an address, and HTTP/1.0, which knows no Host.
    let answer = ask(
        &mut wire,
        "GET http://pay.wire.test/",
        "Host: pay.wire.test\r\n\r\n",
    )
    .await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let answer = ask(
        &mut wire,
        "GET https://[2001:db8::1]/",
        "Host: [2001:db8::1]\r\n\r\n",
    )
    .await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let mut old = proxy.agent().plain().await;
    old.write(b"GET https://free.wire.test/old HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    let answer = soon("an answer", old.response("GET")).await.unwrap();
    assert!(answer.text().contains("host: free.wire.test"), "{answer:?}");
    proxy.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_trailers_and_upgrades_cross_in_absolute_form() {
    let origin = shop().await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let agent = proxy.agent();
    let rest = "Host: pay.wire.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\nTE: trailers\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n";
    let answer = once(&agent, "POST https://pay.wire.test/x", rest).await;
    assert!(answer.text().ends_with("x-sum: 1\nhello"), "{answer:?}");
    let rest = "Host: pay.wire.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let mut wire = agent.plain().await;
    let head = format!("POST https://pay.wire.test/402 HTTP/1.1\r\n{rest}");
    wire.write(head.as_bytes()).await.unwrap();
    let word = soon("a word", wire.head()).await.unwrap();
    assert_eq!(word.status(), 100);
    wire.write(b"hello").await.unwrap();
    let answer = soon("an answer", wire.response("POST")).await.unwrap();
    assert!(answer.text().ends_with("hello"), "{answer:?}");
    assert!(answer.one("farepass-payment").is_some(), "{answer:?}");
    let rest = "Host: free.wire.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut wire = agent.plain().await;
    let answer = ask(&mut wire, "GET https://free.wire.test/101", rest).await;
    assert_eq!(answer.status(), 101, "{answer:?}");
    let greeting = soon("a greeting", wire.exact(5)).await.unwrap();
    assert_eq!(greeting, b"hello");
    proxy.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_in_absolute_form_is_that_of_a_tunnel() {
    let origin = shop().await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let agent = proxy.agent();
    let host = "Host: pay.wire.test\r\n\r\n";
    let answer = once(&agent, "GET https://pay.wire.test/402/x", host).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let payments: Vec<_> = answer
        .text()
        .lines()
        .filter_map(|l| l.strip_prefix("payment-signature: "))
        .map(str::to_owned)
        .collect();
    assert_eq!(payments.len(), 1, "{answer:?}");
    assert!(answer.one("farepass-payment").is_some(), "{answer:?}");
    // One whose answer is lost: what is sent again, in whichever form, is the same payload.
    let answer = once(&agent, "GET https://pay.wire.test/402/lost", host).await;
    assert_eq!(answer.reason(), "outcome_unknown");
    let mut tunnel = agent.tls("pay.wire.test", &["http/1.1"]).await;
    ask(&mut tunnel, "GET /402/lost", host).await;
    let heard = String::from_utf8(origin.heard().concat()).unwrap();
    let lost = heard.split("GET ").filter(|r| r.starts_with("/402/lost "));
    let payloads = lost.filter_map(|r| {
        let at = r.to_ascii_lowercase().find("payment-signature: ")?;
        r[at..].lines().next()
    });
    let payloads: Vec<_> = payloads.collect();
    assert!(payloads.len() >= 2, "{heard}");
    assert!(payloads.iter().all(|p| *p == payloads[0]), "{payloads:?}");
    proxy.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_in_absolute_form_too() {
    let origin = shop().await;
    let mut proxy = Proxy::start(&origin, |config| config["via"] = "pass".into()).await;
    let agent = proxy.agent();
    let free = "Host: free.wire.test\r\n\r\n";
    let other = "Host: pay.wire.test\r\n\r\n";
    let forged = "Host: free.wire.test\r\nX-Payment: forged\r\n\r\n";
    let again = "Host: free.wire.test\r\nVia: 1.1 pass\r\n\r\n";
    let twice = "Host: free.wire.test\r\nHost: free.wire.test\r\n\r\n";
    #[rustfmt::skip]
    let cases = [
        ("GET https://free.wire.test/", other, 400, "host_field_invalid"),
        ("GET https://free.wire.test/", "Host: free.wire.test:80\r\n\r\n", 400, "host_field_invalid"),
        ("GET https://free.wire.test/", "\r\n", 400, "host_field_invalid"),
        ("GET https://free.wire.test/", twice, 400, "host_field_invalid"),
        ("GET https://x:y@free.wire.test/", free, 400, "user_information"),
        ("GET https://free.wire.test:0/", free, 400, "destination_invalid"),
        ("GET https://0x7f.1/", "Host: 0x7f.1\r\n\r\n", 400, "destination_invalid"),
        ("GET wss://free.wire.test/", free, 400, "not_a_proxy_request"),
        ("GET ftp://free.wire.test/", free, 400, "not_a_proxy_request"),
        ("GET /", free, 400, "not_a_proxy_request"),
        ("TRACE https://free.wire.test/", free, 405, "method_not_forwarded"),
        ("GET https://free.wire.test/", again, 508, "loop_detected"),
        ("GET https://blind.wire.test/", "Host: blind.wire.test\r\n\r\n", 400, "connect_required"),
        ("GET https://free.wire.test/", forged, 402, "agent_payment_header"),
        ("GET https://free.wire.test:8443/", "Host: free.wire.test:8443\r\n\r\n", 403, "port_not_allowed"),
    ];
    for (first, rest, status, reason) in cases {
        let answer = once(&agent, first, rest).await;
        assert_eq!(
            (answer.status(), answer.reason().as_str()),
            (status, reason),
            "{first} {rest:?}"
        );
    }
    assert_eq!(requests(&origin), 0);
    // Plain http to a host that passes unopened was never opened.
    let answer = once(
        &agent,
        "GET http://blind.wire.test/",
        "Host: blind.wire.test\r\n\r\n",
    )
    .await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    proxy.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_answers_is_verified_and_else_nothing_is_paid() {
    let origin = shop().await;
    let host = "Host: pay.wire.test\r\n\r\n";
    let mut strict = Proxy::start(&origin, |config| config["tls"]["extra_roots"] = json!([])).await;
    let answer = once(&strict.agent(), "GET https://pay.wire.test/x", host).await;
    assert_eq!(answer.status(), 502, "{answer:?}");
    assert_eq!(requests(&origin), 0);
    strict.assert_well();
    let mut lax = Proxy::start(&origin, |config| {
        config["tls"]["extra_roots"] = json!([]);
        config["tls"]["insecure_hosts"] = json!(["pay.wire.test"]);
    })
    .await;
    let answer = once(&lax.agent(), "GET https://pay.wire.test/x", host).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let answer = once(&lax.agent(), "GET https://pay.wire.test/402", host).await;
    assert_eq!(answer.reason(), "insecure_transport", "{answer:?}");
    lax.assert_well();
    // Opened already: what no rule could pay goes on, and is not paid.
    let mut sparing = Proxy::start(&origin, |config| {
        config["tls"]["intercept"] = json!("payable");
    })
    .await;
    let host = "Host: free.wire.test\r\n\r\n";
    let answer = once(&sparing.agent(), "GET https://free.wire.test/x", host).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let answer = once(&sparing.agent(), "GET https://free.wire.test/402", host).await;
    assert_eq!(answer.reason(), "host_not_allowed", "{answer:?}");
    sparing.assert_well();
}

/// An address of this machine by which others reach it.
fn address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_network_https_takes_a_tunnel() {
    let origin = shop().await;
    let mut proxy = Proxy::start(&origin, |config| {
        config["listen"]["proxy"] = json!(["0.0.0.0:0", "unix:proxy.sock"]);
        config["sessions"] = json!({ "default": "none" });
    })
    .await;
    let url = proxy.run(&[
        "session", "create", "--agent", "bot", "--budget", "1 USD", "--json",
    ]);
    let url: serde_json::Value = serde_json::from_str(&url).unwrap();
    let url = url["proxy"].as_str().unwrap();
    let secret = url.split(['/', '@']).nth(2).unwrap();
    let basic = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(secret)
    };
    let first = "GET https://pay.wire.test/402";
    let named = format!("Host: pay.wire.test\r\nProxy-Authorization: Basic {basic}\r\n\r\n");
    let port = proxy.address.port();
    let near = Agent::new(SocketAddr::from(([127, 0, 0, 1], port)), &proxy.ca());
    let answer = once(&near, first, "Host: pay.wire.test\r\n\r\n").await;
    assert_eq!(answer.status(), 407, "{answer:?}");
    let answer = once(&near, first, &named).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert!(!answer.text().contains("proxy-"), "{answer:?}");
    let socket = UnixStream::connect(proxy.dir.path().join("proxy.sock")).await;
    let mut socket = Wire::new(socket.unwrap(), Log::default());
    let answer = ask(&mut socket, first, &named).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let asked = requests(&origin);
    let Some(address) = address() else {
        println!("this machine has no address but loopback");
        return;
    };
    let far = Agent::new(SocketAddr::new(address, port), &proxy.ca());
    let answer = once(&far, first, &named).await;
    assert_eq!(
        (answer.status(), answer.reason().as_str()),
        (400, "connect_required")
    );
    assert!(answer.text().contains("use CONNECT"), "{answer:?}");
    assert_eq!(requests(&origin), asked);
    let answer = once(&far, "GET http://pay.wire.test/", &named).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    proxy.assert_well();
}
