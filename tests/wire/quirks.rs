//! What real clients do that a proxy must live with, and what they must not be able to do.

use std::time::Duration;

use serde_json::json;
use tokio::sync::{Mutex, mpsc};

use crate::expect::challenge;
use crate::support::agent::Agent;
use crate::support::h2::{DATA, END_HEADERS, END_STREAM, H2, HEADERS, WHOLE, frame, request};
use crate::support::message::Message;
use crate::support::origin::{Origin, Then, answer};
use crate::support::proxy::Proxy;
use crate::support::soon;
use crate::support::wire::{Log, Wire};

/// Answers with what it was asked, one field a line.
async fn mirror() -> Origin {
    Origin::scripted(|asked| (answer("200 OK", &lines(asked)), Then::Keep)).await
}

fn lines(message: &Message) -> String {
    let mut text = format!("{}\n", message.first);
    for (name, value) in &message.fields {
        text += &format!("{name}: {value}\n");
    }
    text
}

async fn get(wire: &mut Wire, host: &str, more: &str) -> Message {
    let ask = format!("GET /x HTTP/1.1\r\nHost: {host}\r\n{more}\r\n");
    wire.write(ask.as_bytes()).await.unwrap();
    soon("an answer", wire.response("GET")).await.unwrap()
}

/// Sends a CONNECT head as it stands; what the proxy says.
async fn connect(agent: &Agent, head: &str) -> (Wire, Message) {
    let mut wire = agent.plain().await;
    wire.write(head.as_bytes()).await.unwrap();
    let answer = soon("an answer to CONNECT", wire.head()).await.unwrap();
    (wire, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_is_understood_as_clients_write_it() {
    let origin = mirror().await;
    let proxy = Proxy::start(&origin, |_| {}).await;
    let agent = proxy.agent();
    for head in [
        // Python's http.client up to 3.11.
        "CONNECT free.wire.test:443 HTTP/1.0\r\n\r\n",
        "CONNECT free.wire.test:443 HTTP/1.0\r\nConnection: close\r\n\r\n",
        // curl, wget, Node.
        "CONNECT free.wire.test:443 HTTP/1.1\r\nHost: free.wire.test:443\r\nUser-Agent: curl/7\r\nProxy-Connection: Keep-Alive\r\n\r\n",
        "CONNECT free.wire.test:443 HTTP/1.1\r\nhost: free.wire.test\r\nconnection: close\r\n\r\n",
        "CONNECT free.wire.test:443 HTTP/1.1\r\nHost: free.wire.test:443\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n",
        "CONNECT FREE.Wire.Test:443 HTTP/1.1\r\nHost: other.test\r\n\r\n",
        "CONNECT free.wire.test.:443 HTTP/1.1\r\n\r\n",
    ] {
        let (wire, said) = connect(&agent, head).await;
        assert_eq!(said.status(), 200, "{head:?}: {said:?}");
        let tls = agent.handshake(wire, "free.wire.test", &["http/1.1"]).await;
        let mut wire = Wire::new(tls.unwrap(), Log::default());
        let answer = get(&mut wire, "free.wire.test", "").await;
        assert_eq!(answer.status(), 200, "{head:?}: {answer:?}");
        // It stays a tunnel, whatever `Connection` said.
        assert_eq!(get(&mut wire, "free.wire.test", "").await.status(), 200);
    }
    for authority in [
        "[2001:db8::1]:443",
        "2001:db8::1:443",
        "[2001:DB8:0::1]:443",
    ] {
        let head = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        let (wire, said) = connect(&agent, &head).await;
        assert_eq!(said.status(), 200, "{authority}: {said:?}");
        let tls = agent.handshake(wire, "2001:db8::1", &[]).await;
        let mut wire = Wire::new(tls.unwrap(), Log::default());
        let answer = get(&mut wire, "[2001:db8::1]", "").await;
        assert_eq!(answer.status(), 200, "{authority}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_to_nowhere_is_refused() {
    let origin = mirror().await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let agent = proxy.agent();
    for (target, status) in [
        ("free.wire.test", 400),
        ("free.wire.test:", 400),
        ("free.wire.test:0", 400),
        ("free.wire.test:65536", 400),
        ("free.wire.test:+443", 400),
        ("free%2ewire.test:443", 400),
        ("user@free.wire.test:443", 400),
        ("/free.wire.test:443", 400),
        ("free.wire.test:443/x", 400),
        ("https://free.wire.test:443", 400),
        ("*", 400),
        ("[free.wire.test]:443", 400),
        ("[::1%25lo]:443", 400),
        ("0x7f.1:443", 400),
        ("free..wire.test:443", 400),
    ] {
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: free.wire.test\r\n\r\n");
        let (mut wire, mut said) = connect(&agent, &head).await;
        assert_eq!(said.status(), status, "{target}: {said:?}");
        wire.body(&mut said, true).await;
        assert!(!said.reason().is_empty(), "{target}: {said:?}");
        assert!(wire.rest().await.is_empty());
    }
    proxy.assert_well();
}

/// Node's fetch, and curl with `-p`, send plain HTTP through CONNECT; on whichever port.
#[tokio::test(flavor = "multi_thread")]
async fn plain_http_in_a_tunnel_is_governed() {
    let origin = mirror().await;
    let proxy = Proxy::start(&origin, |_| {}).await;
    let mut wire = proxy.agent().tunnel("free.wire.test:80").await;
    let answer = get(&mut wire, "free.wire.test", "").await;
    assert!(
        answer
            .text()
            .starts_with("GET /x HTTP/1.1\nHost: free.wire.test\n")
    );
    let answer = get(&mut wire, "pay.wire.test", "").await;
    assert_eq!(
        (answer.status(), answer.reason().as_str()),
        (421, "misdirected_request")
    );
    let answer = get(&mut wire, "free.wire.test", "X-Payment: forged\r\n").await;
    assert_eq!(answer.reason(), "agent_payment_header");
}

/// The port says nothing about what comes: the first byte does.
#[tokio::test(flavor = "multi_thread")]
async fn any_port_carries_either() {
    let origin = mirror().await;
    let proxy = Proxy::start(&origin, |config| {
        config["egress"]["ports"] = serde_json::json!([80, 443, 8080]);
        let pins = &mut config["egress"]["resolve"];
        pins["free.wire.test:80"] = origin.tls.to_string().into();
        pins["free.wire.test:443"] = origin.plain.to_string().into();
        pins["free.wire.test:8080"] = origin.tls.to_string().into();
    })
    .await;
    let agent = proxy.agent();
    for port in [80, 8080] {
        let tunnel = agent.tunnel(&format!("free.wire.test:{port}")).await;
        let tls = agent.handshake(tunnel, "free.wire.test", &["http/1.1"]);
        let mut wire = Wire::new(tls.await.unwrap(), Log::default());
        let host = format!("free.wire.test:{port}");
        assert_eq!(get(&mut wire, &host, "").await.status(), 200, "{port}");
    }
    let mut wire = agent.tunnel("free.wire.test:443").await;
    let answer = get(&mut wire, "free.wire.test:443", "").await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    // Governed there as anywhere.
    let answer = get(&mut wire, "free.wire.test:443", "X-Payment: forged\r\n").await;
    assert_eq!(answer.reason(), "agent_payment_header");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_protocols_in_a_tunnel_are_closed() {
    let origin = mirror().await;
    let mut proxy = Proxy::start(&origin, |config| {
        config["limits"] = json!({ "first_byte_timeout": "1s", "header_timeout": "1s", "handshake_timeout": "2s" });
    })
    .await;
    let hello = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03";
    let cases: [&[u8]; 8] = [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"EHLO agent.test\r\n",
        b"\x00\x01\x02\x03",
        b"\x05\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        // TLS, but no more than a piece of it; and a version that nobody speaks.
        hello,
        b"\x16\x03\x00\x00\x04\x01\x00\x00\x00",
        // The client of a protocol in which the server speaks first.
        b"",
    ];
    for bytes in cases {
        let mut wire = proxy.agent().tunnel("free.wire.test:443").await;
        wire.write(bytes).await.unwrap();
        let said = soon("the end of the tunnel", wire.rest()).await;
        let text = String::from_utf8_lossy(&said).into_owned();
        assert!(!text.contains(" 200 "), "{bytes:?}: {text}");
    }
    assert!(origin.heard().iter().all(Vec::is_empty));
    proxy.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn alpn_is_answered_as_it_is_offered() {
    let origin = mirror().await;
    let proxy = Proxy::start(&origin, |_| {}).await;
    let agent = proxy.agent();
    for (offered, chosen) in [
        (&[][..], None),
        (&["http/1.1"], Some("http/1.1")),
        (&["http/1.0"], Some("http/1.0")),
        (&["h2"], Some("h2")),
        (&["h2", "http/1.1"], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["acme-tls/1", "http/1.1"], Some("http/1.1")),
    ] {
        let tunnel = agent.tunnel("free.wire.test:443").await;
        let tls = agent
            .handshake(tunnel, "free.wire.test", offered)
            .await
            .unwrap();
        let got = tls.get_ref().1.alpn_protocol();
        assert_eq!(got, chosen.map(str::as_bytes), "{offered:?}");
        if chosen != Some("h2") {
            let mut wire = Wire::new(tls, Log::default());
            assert_eq!(get(&mut wire, "free.wire.test", "").await.status(), 200);
        }
    }
}

/// Deno repeats the proxy's credentials inside the tunnel, wget `Proxy-Connection`.
#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_a_hop_stays_on_it() {
    let origin = Origin::scripted(|asked| {
        let extra = "Connection: x-gone, close\r\nX-Gone: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nProxy-Connection: close\r\nAlt-Svc: h3=\":443\"\r\n";
        let text = lines(asked);
        let head = format!("HTTP/1.1 200 OK\r\n{extra}Content-Length: {}\r\n\r\n{text}", text.len());
        (head.into_bytes(), Then::Keep)
    })
    .await;
    let proxy = Proxy::start(&origin, |_| {}).await;
    let sent = "Proxy-Authorization: Basic eDp5\r\nProxy-Connection: Keep-Alive\r\nKeep-Alive: timeout=9\r\nConnection: keep-alive, X-Mine, TE\r\nX-Mine: 1\r\nTE: trailers, gzip\r\nUpgrade: h2c\r\nFarepass-Session: other\r\nX-Kept: 1\r\n";
    let mut secure = proxy.agent().tls("free.wire.test", &["http/1.1"]).await;
    let inside = get(&mut secure, "free.wire.test", sent).await;
    let mut plain = proxy.agent().tunnel("free.wire.test:80").await;
    let clear = get(&mut plain, "free.wire.test", sent).await;
    let mut open = proxy.agent().plain().await;
    let sent_open = sent.replace("Proxy-Authorization: Basic eDp5\r\n", "");
    let ask =
        format!("GET http://free.wire.test/x HTTP/1.1\r\nHost: free.wire.test\r\n{sent_open}\r\n");
    open.write(ask.as_bytes()).await.unwrap();
    let absolute = soon("an answer", open.response("GET")).await.unwrap();
    for answer in [inside, clear, absolute] {
        assert_eq!(
            answer.text().replace("Connection", "connection"),
            "GET /x HTTP/1.1\nHost: free.wire.test\nTE: trailers\nX-Kept: 1\nconnection: te\n"
        );
        let names: Vec<_> = answer
            .fields
            .iter()
            .map(|(n, _)| n.to_ascii_lowercase())
            .collect();
        assert_eq!(names, ["content-length"], "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_asked_for_and_then_taken() {
    let origin = mirror().await;
    let proxy = Proxy::start(&origin, |config| {
        config["sessions"] = json!({ "default": "none" });
    })
    .await;
    let agent = proxy.agent();
    let url = proxy.run(&["session", "create", "--agent", "bot", "--budget", "1 USD"]);
    let secret = url.trim().split(['/', '@']).nth(2).unwrap();
    let basic = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(secret)
    };
    // .NET, Java and Chromium send none before they are asked, and then on the same connection.
    let (mut wire, mut said) = connect(&agent, "CONNECT free.wire.test:443 HTTP/1.1\r\n\r\n").await;
    assert_eq!(said.status(), 407);
    assert!(
        said.one("proxy-authenticate")
            .unwrap()
            .starts_with("Basic realm=")
    );
    wire.body(&mut said, false).await;
    let head = format!(
        "CONNECT free.wire.test:443 HTTP/1.1\r\nProxy-Authorization: Basic {basic}\r\n\r\n"
    );
    wire.write(head.as_bytes()).await.unwrap();
    assert_eq!(soon("a tunnel", wire.head()).await.unwrap().status(), 200);
    let tls = agent.handshake(wire, "free.wire.test", &[]).await.unwrap();
    let mut wire = Wire::new(tls, Log::default());
    let answer = get(
        &mut wire,
        "free.wire.test",
        &format!("Proxy-Authorization: Basic {basic}\r\n"),
    )
    .await;
    assert!(!answer.text().contains("roxy"), "{}", answer.text());
    // Nothing inside a tunnel asks for credentials, and wrong ones outside do not pass.
    for wrong in ["Basic eDp5", "Bearer x", "Basic", "Basic %"] {
        let head =
            format!("CONNECT free.wire.test:443 HTTP/1.1\r\nProxy-Authorization: {wrong}\r\n\r\n");
        let (_, said) = connect(&agent, &head).await;
        assert_eq!(said.status(), 407, "{wrong}");
    }
    let mut plain = agent.plain().await;
    plain
        .write(b"GET http://free.wire.test/ HTTP/1.1\r\nHost: free.wire.test\r\n\r\n")
        .await
        .unwrap();
    let said = soon("an answer", plain.response("GET")).await.unwrap();
    assert_eq!(said.status(), 407);
    assert!(said.one("proxy-authenticate").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_is_spoken_to_who_speaks_it() {
    let origin = Origin::scripted(|asked| {
        let text = lines(asked);
        let chunk = format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len());
        (
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}").into_bytes(),
            Then::Keep,
        )
    })
    .await;
    let proxy = Proxy::start(&origin, |_| {}).await;
    for host in ["", "Host: free.wire.test\r\n"] {
        let mut wire = proxy.agent().tls("free.wire.test", &["http/1.0"]).await;
        wire.write(format!("GET /x HTTP/1.0\r\n{host}\r\n").as_bytes())
            .await
            .unwrap();
        let answer = soon("an answer", wire.response("GET")).await.unwrap();
        assert!(answer.first.starts_with("HTTP/1.0 200"), "{answer:?}");
        assert!(answer.one("transfer-encoding").is_none(), "{answer:?}");
        let asked = answer.text();
        assert!(asked.starts_with("GET /x HTTP/1.1\n"), "{asked}");
        assert!(
            asked.to_lowercase().contains("host: free.wire.test\n"),
            "{asked}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn via_is_said_when_the_operator_wants_it() {
    let origin = Origin::scripted(|asked| {
        let text = lines(asked);
        let head = format!(
            "HTTP/1.1 200 OK\r\nVia: 1.1 cache\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        );
        (head.into_bytes(), Then::Keep)
    })
    .await;
    let proxy = Proxy::start(&origin, |config| config["via"] = "pass".into()).await;
    let mut wire = proxy.agent().tls("free.wire.test", &["http/1.1"]).await;
    let answer = get(&mut wire, "free.wire.test", "Via: 1.0 before\r\n").await;
    assert!(
        answer.text().contains("Via: 1.0 before\nvia: 1.1 pass\n"),
        "{}",
        answer.text()
    );
    assert_eq!(answer.all("via"), ["1.1 cache", "1.1 pass"]);
}

/// Threat S-07: a request that brings our own name came through here before.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_our_own_name_in_via_goes_no_further() {
    let origin = mirror().await;
    for (name, via, status) in [
        (Some("pass"), "1.1 before, 1.1 PASS (x)", 508),
        (Some("pass"), "1.1 passage, 1.1 other", 200),
        (None, "1.1 pass", 200),
    ] {
        let proxy = Proxy::start(&origin, |config| {
            if let Some(name) = name {
                config["via"] = name.into();
            }
        })
        .await;
        let mut wire = proxy.agent().tls("free.wire.test", &["http/1.1"]).await;
        let answer = get(&mut wire, "free.wire.test", &format!("Via: {via}\r\n")).await;
        let said = answer.text();
        assert!(
            answer.first.starts_with(&format!("HTTP/1.1 {status} ")),
            "{via}: {answer:?}"
        );
        assert_eq!(
            said.contains("\"reason\":\"loop_detected\""),
            status == 508,
            "{said}"
        );
    }
}

/// Events leave as they come: the merchant sends the next one only after the agent has the one before.
#[tokio::test(flavor = "multi_thread")]
async fn events_are_not_held_back() {
    let (next, turns) = mpsc::channel::<()>(1);
    let turns = std::sync::Arc::new(Mutex::new(turns));
    let origin = Origin::start(&["http/1.1"], move |mut wire, _| {
        let turns = std::sync::Arc::clone(&turns);
        async move {
            let _ = wire.request().await;
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            wire.write(head.as_bytes()).await.unwrap();
            let mut turns = turns.lock().await;
            for n in 0..5 {
                wire.write(format!("9\r\ndata: {n}\n\n\r\n").as_bytes()).await.unwrap();
                turns.recv().await;
            }
            drop(turns);
            wire.write(b"0\r\n\r\n").await.unwrap();
            wire.rest().await;
        }
    })
    .await;
    let proxy = Proxy::start(&origin, |_| {}).await;
    for host in ["free.wire.test", "pay.wire.test"] {
        let mut wire = proxy.agent().tls(host, &["http/1.1"]).await;
        let ask =
            format!("GET /events HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n");
        wire.write(ask.as_bytes()).await.unwrap();
        let head = soon("a head", wire.head()).await.unwrap();
        assert_eq!(head.one("content-type"), Some("text/event-stream"));
        for n in 0..5 {
            let event = soon(
                "an event",
                wire.until(format!("data: {n}\n\n\r\n").as_bytes()),
            )
            .await;
            assert!(event.is_some());
            next.send(()).await.unwrap();
        }
        assert!(soon("the end", wire.until(b"0\r\n\r\n")).await.is_some());
    }
}

/// A request whose answer takes its time, on a connection that is silent meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_waits() {
    let origin = Origin::start(&["http/1.1"], |mut wire, _| async move {
        while wire.request().await.is_some() {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            let _ = wire.write(&answer("200 OK", "late")).await;
        }
    })
    .await;
    // All other bounds are shorter than the wait.
    let proxy = Proxy::start(&origin, |config| {
        config["limits"] = json!({ "header_timeout": "1s", "first_byte_timeout": "1s", "idle_timeout": "1s", "upstream_total": "30s" });
    })
    .await;
    let mut wire = proxy.agent().tls("free.wire.test", &["http/1.1"]).await;
    assert_eq!(get(&mut wire, "free.wire.test", "").await.text(), "late");
}

/// Agents think between their requests. Only a head that has begun has to come soon.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_may_wait_for_its_next_request() {
    let origin = mirror().await;
    let proxy = Proxy::start(&origin, |config| {
        config["limits"] = json!({ "header_timeout": "1s" });
    })
    .await;
    let mut wire = proxy.agent().tunnel("free.wire.test:80").await;
    for _ in 0..2 {
        let answer = get(&mut wire, "free.wire.test", "").await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(2500)).await;
    }
    wire.write(b"GET /x HTT").await.unwrap();
    let begun = tokio::time::Instant::now();
    soon("the end of a head that does not end", wire.rest()).await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_answers_for_itself() {
    let origin = mirror().await;
    let proxy = Proxy::start(&origin, |_| {}).await;
    let agent = proxy.agent();
    let ask = async |head: &str| {
        let mut wire = agent.plain().await;
        wire.write(head.as_bytes()).await.unwrap();
        soon("an answer", wire.response("OPTIONS")).await.unwrap()
    };
    // RFC 9110 section 7.6.2: each that sends it on counts, the last that may answers.
    let count = |n: &str| {
        let field = format!("Max-Forwards: {n}\r\n");
        format!("OPTIONS http://free.wire.test/ HTTP/1.1\r\nHost: free.wire.test\r\n{field}\r\n")
    };
    let answer = ask(&count("3")).await;
    assert!(
        answer.text().contains("max-forwards: 2\n") || answer.text().contains("Max-Forwards: 2\n"),
        "{answer:?}"
    );
    let answer = ask(&count("0")).await;
    assert_eq!(
        (answer.status(), answer.text().as_str()),
        (204, ""),
        "{answer:?}"
    );
    // RFC 9110 section 15.5.20: a proxy never says 421 of itself.
    let answer =
        ask("OPTIONS http://free.wire.test/ HTTP/1.1\r\nHost: pay.wire.test\r\n\r\n").await;
    assert_eq!(
        (answer.status(), answer.reason().as_str()),
        (400, "host_field_invalid")
    );
}

/// Threat H-07: it is about the server, and a server is not for sale.
#[tokio::test(flavor = "multi_thread")]
async fn options_for_the_whole_server_is_not_paid_for() {
    let origin = Origin::scripted(|asked| {
        let paid = asked.one("payment-signature").is_some();
        let head = match paid {
            true => "HTTP/1.1 200 OK".to_owned(),
            false => format!(
                "HTTP/1.1 402 Payment Required\r\nPAYMENT-REQUIRED: {}",
                challenge()
            ),
        };
        (
            format!("{head}\r\nContent-Length: 0\r\n\r\n").into_bytes(),
            Then::Keep,
        )
    })
    .await;
    let proxy = Proxy::start(&origin, |_| {}).await;
    let mut wire = proxy.agent().tls("pay.wire.test", &["http/1.1"]).await;
    for (target, status) in [("*", 402), ("/", 200)] {
        let ask = format!("OPTIONS {target} HTTP/1.1\r\nHost: pay.wire.test\r\n\r\n");
        wire.write(ask.as_bytes()).await.unwrap();
        let answer = soon("an answer", wire.response("OPTIONS")).await.unwrap();
        assert_eq!(answer.status(), status, "{target}: {answer:?}");
        if status == 402 {
            assert_eq!(answer.reason(), "host_not_allowed");
        }
    }
}

/// RFC 9110 section 8.6: lengths that agree are sent on as one.
#[tokio::test(flavor = "multi_thread")]
async fn equal_lengths_of_http_2_become_one() {
    let origin = mirror().await;
    let proxy = Proxy::start(&origin, |_| {}).await;
    let mut h2 = H2::connect(&proxy.agent(), "free.wire.test").await;
    let lengths = [("content-length", "4"), ("content-length", "04")];
    let head = frame(HEADERS, END_HEADERS, 1, &request("POST", "/x", &lengths));
    h2.send(&[head, frame(DATA, END_STREAM, 1, b"body")].concat())
        .await;
    let mut text = String::new();
    soon("an answer", async {
        while let Some(frame) = h2.next().await {
            if frame.kind == DATA {
                text += &String::from_utf8_lossy(&frame.payload);
            }
            if frame.stream == 1 && frame.flags & END_STREAM != 0 {
                return;
            }
        }
    })
    .await;
    let lengths: Vec<_> = text
        .lines()
        .filter(|l| l.to_lowercase().starts_with("content-length"))
        .collect();
    assert_eq!(lengths.len(), 1, "{text}");
    assert!(lengths[0].ends_with(": 4"), "{text}");
}

/// RFC 9110 section 8.6: HTTP/2 says by a flag that a POST has no body; where HTTP/1.1 says nothing some servers answer
/// 411.
#[tokio::test(flavor = "multi_thread")]
async fn no_body_from_http_2_has_a_length_where_one_was_to_be_expected() {
    let origin = mirror().await;
    let proxy = Proxy::start(&origin, |_| {}).await;
    for (method, length) in [
        ("POST", true),
        ("PUT", true),
        ("PATCH", true),
        ("GET", false),
    ] {
        let mut h2 = H2::connect(&proxy.agent(), "free.wire.test").await;
        h2.send(&frame(HEADERS, WHOLE, 1, &request(method, "/x", &[])))
            .await;
        let mut text = String::new();
        soon("an answer", async {
            while let Some(frame) = h2.next().await {
                if frame.kind == DATA {
                    text += &String::from_utf8_lossy(&frame.payload);
                    if frame.flags & END_STREAM != 0 {
                        break;
                    }
                }
            }
        })
        .await;
        let said = text.to_lowercase().contains("content-length: 0\n");
        assert_eq!(said, length, "{method}: {text}");
    }
}
