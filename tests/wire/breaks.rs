//! Answers whose merchants leave before their end, or say nothing at it.

use tokio::time::Duration;

use crate::expect::challenge;
use crate::support::agent::Agent;
use crate::support::h2::*;
use crate::support::message::Message;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::soon;
use crate::support::wire::Wire;

const HOST: &str = "free.wire.test";

/// Bytes that come before a break.
const PART: usize = 3000;

/// What an agent of HTTP/2 sees of one stream: a head, so many bytes of its body, and the code of its reset.
async fn seen(h2: &mut H2, stream: u32) -> (bool, usize, Option<u32>) {
    let (mut head, mut length) = (false, 0);
    h2.send(&get(stream)).await;
    while let Some(frame) = h2.next().await {
        match frame.kind {
            HEADERS if frame.stream == stream => head = true,
            DATA if frame.stream == stream => length += frame.payload.len(),
            RESET if frame.stream == stream => {
                let code = <[u8; 4]>::try_from(&*frame.payload).unwrap();
                return (head, length, Some(u32::from_be_bytes(code)));
            }
            _ => {}
        }
    }
    (head, length, None)
}

/// Says all that it says at once, and leaves.
async fn leaves(part: usize) -> Origin {
    Origin::start(&["http/1.1"], move |mut wire, _| async move {
        if wire.request().await.is_some() {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n";
            let _ = wire.write(&[&head[..], &vec![b'x'; part]].concat()).await;
            wire.finish().await;
        }
    })
    .await
}

/// The same in HTTP/2.
async fn resets() -> Origin {
    let (origin, mut frames) = merchant(|stream| {
        let head = field(":status", "200");
        [
            frame(HEADERS, END_HEADERS, stream, &head),
            frame(DATA, 0, stream, &[b'x'; PART]),
            frame(RESET, 0, stream, &[0, 0, 0, 8]),
        ]
        .concat()
    })
    .await;
    tokio::spawn(async move { while frames.recv().await.is_some() {} });
    origin
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_a_break_reaches_an_agent_of_http_2() {
    for origin in [leaves(PART).await, resets().await] {
        let mut proxy = Proxy::start(&origin, |_| {}).await;
        let mut h2 = H2::connect(&proxy.agent(), HOST).await;
        for n in 0..20 {
            let seen = soon("a reset", seen(&mut h2, 2 * n + 1)).await;
            assert_eq!(seen, (true, PART, Some(2)), "{n}");
        }
        assert!(soon("a PING", h2.lives()).await);
        proxy.assert_well();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_a_break_reaches_an_agent_of_http_1() {
    for (part, tries) in [(0, 20), (PART, 20), (20_000, 20), (3_000_000, 2)] {
        let origin = leaves(part).await;
        let mut proxy = Proxy::start(&origin, |_| {}).await;
        let agent = proxy.agent();
        for n in 0..tries {
            let mut wire = agent.tls(HOST, &["http/1.1"]).await;
            let ask = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
            wire.write(ask.as_bytes()).await.unwrap();
            if part > 1_000_000 {
                // It begins to read when everything stands still.
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
            let head = soon("a head", wire.head()).await;
            let head = head.unwrap_or_else(|| panic!("no head: {part} {n}"));
            let body = soon("what came", wire.rest()).await;
            assert_eq!((head.status(), body.len()), (200, part), "{n}");
        }
        proxy.assert_well();
    }
}

/// An event that says what went wrong, and the end of the connection.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_event_before_a_break_reaches_its_agent() {
    let origin = Origin::start(&["http/1.1"], |mut wire, _| async move {
        if wire.request().await.is_some() {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = wire.write(head.as_bytes()).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            for event in ["9\r\ndata: 1\n\n\r\n", "e\r\nevent: error\n\n\r\n"] {
                let _ = wire.write(event.as_bytes()).await;
            }
            wire.finish().await;
        }
    })
    .await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    for n in 0..20 {
        let answer = ask(&proxy.agent(), HOST, "/").await;
        assert_eq!(answer.text(), "data: 1\n\nevent: error\n\n", "{n}");
        assert!(!answer.whole);
    }
    proxy.assert_well();
}

/// Answers by the path, and ends each connection without a word: neither `close_notify` nor anything else.
async fn mute() -> Origin {
    Origin::start(&["http/1.1"], |mut wire, _| async move {
        let Some(asked) = wire.request().await else {
            return;
        };
        let paid = asked.one("payment-signature").is_some();
        let said = match asked.path() {
            "/old" => "HTTP/1.0 200 OK\r\n\r\nall of it".to_owned(),
            "/new" => "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it".to_owned(),
            "/length" => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nall of it".to_owned(),
            "/chunked" => {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nall of it\r\n".to_owned()
            }
            "/head" => "HTTP/1.1 200 OK\r\nContent-".to_owned(),
            _ if paid => "HTTP/1.0 200 OK\r\n\r\nall of it".to_owned(),
            _ => format!(
                "HTTP/1.1 402 Payment Required\r\nPAYMENT-REQUIRED: {}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
                challenge()
            ),
        };
        let _ = wire.write(said.as_bytes()).await;
    })
    .await
}

async fn ask(agent: &Agent, host: &str, path: &str) -> Message {
    let mut wire: Wire = agent.tls(host, &["http/1.1"]).await;
    let ask = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    wire.write(ask.as_bytes()).await.unwrap();
    soon("an answer", wire.response("GET")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_connection_ends_an_answer_though_nobody_said_so() {
    let origin = mute().await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let agent = proxy.agent();
    for path in ["/old", "/new"] {
        let answer = ask(&agent, HOST, path).await;
        assert_eq!((answer.status(), answer.whole), (200, true), "{answer:?}");
        assert_eq!(answer.text(), "all of it");
        let mut h2 = H2::connect(&agent, HOST).await;
        let asked = request("GET", path, &[]);
        h2.send(&frame(HEADERS, WHOLE, 1, &asked)).await;
        let outcome = soon("an answer", h2.outcome(1)).await;
        assert_eq!(outcome, Outcome::Status(200), "{path}");
    }
    // Where something else says where they end, it must come.
    for path in ["/length", "/chunked"] {
        let answer = ask(&agent, HOST, path).await;
        assert_eq!((answer.status(), answer.whole), (200, false), "{answer:?}");
    }
    let answer = ask(&agent, HOST, "/head").await;
    assert_eq!(answer.reason(), "connection_terminated");
    proxy.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paid_answer_that_ends_with_its_connection_is_delivered() {
    let origin = mute().await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let agent = proxy.agent();
    let mut payments = vec![];
    for _ in 0..2 {
        let answer = ask(&agent, "pay.wire.test", "/paid").await;
        assert_eq!((answer.status(), answer.whole), (200, true), "{answer:?}");
        assert_eq!(answer.text(), "all of it");
        let paid = answer.one("farepass-payment").unwrap_or_default();
        payments.push(paid.split(';').next().unwrap_or_default().to_owned());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Whoever has it and asks once more buys once more.
    assert_ne!(payments[0], payments[1]);
    proxy.assert_well();
}
