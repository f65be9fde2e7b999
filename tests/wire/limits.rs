//! Slow, greedy and hostile clients: what they hold is bounded, and the others do not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::expect::challenge;
use crate::support::agent::Agent;
use crate::support::h2::*;
use crate::support::message::Message;
use crate::support::origin::{Origin, Then, answer};
use crate::support::proxy::Proxy;
use crate::support::soon;
use crate::support::wire::Wire;

/// `/big` has a mebibyte, `/head` a head of 200 KiB, `/slow` never ends; `blind.wire.test` echoes.
async fn origin() -> Origin {
    Origin::scripted(|asked| match asked.path() {
        "/big" => (answer("200 OK", &"b".repeat(1 << 20)), Then::Keep),
        "/head" => {
            let head = format!(
                "HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n",
                "h".repeat(200 << 10)
            );
            (head.into_bytes(), Then::Close)
        }
        "/fields" => {
            let fields = "X: 1\r\n".repeat(150);
            let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n");
            (head.into_bytes(), Then::Close)
        }
        "/slow" => (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nslow".to_vec(),
            Then::Hang,
        ),
        "/mute" => (vec![], Then::Hang),
        _ => (answer("200 OK", "fine"), Then::Keep),
    })
    .await
}

async fn get(wire: &mut Wire, path: &str, more: &str) -> Option<Message> {
    let ask = format!("GET {path} HTTP/1.1\r\nHost: free.wire.test\r\n{more}\r\n");
    let _ = wire.write(ask.as_bytes()).await;
    soon("an answer", wire.response("GET")).await
}

/// An honest agent: a tunnel, a handshake and a request; how long it took.
async fn honest(agent: &Agent) -> Duration {
    let begun = Instant::now();
    let mut wire = agent.tls("free.wire.test", &["http/1.1"]).await;
    let answer = get(&mut wire, "/", "").await.unwrap();
    assert_eq!(answer.text(), "fine");
    begun.elapsed()
}

/// The slowest of a hundred, but one.
async fn nearly_slowest(agent: &Agent) -> Duration {
    let mut times = vec![];
    for _ in 0..100 {
        times.push(soon("an honest request", honest(agent)).await);
    }
    times.sort_unstable();
    times[98]
}

/// Waits until no more than so many files are open.
async fn closed(proxy: &Proxy, most: usize) {
    let mut look = tokio::time::interval(Duration::from_millis(50));
    soon("files to be closed", async {
        while proxy.files() > most {
            look.tick().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_slow_nobody_else() {
    let origin = origin().await;
    let mut proxy = Proxy::start(&origin, |config| {
        config["limits"] = json!({
            "header_timeout": "8s", "handshake_timeout": "8s", "first_byte_timeout": "8s",
            "idle_timeout": "8s", "upstream_total": "8s", "connection_idle": "12s",
            "pool_idle_timeout": "1s",
        });
    })
    .await;
    let agent = proxy.agent();
    // The second round, so that everything that stays has been opened once.
    nearly_slowest(&agent).await;
    let alone = nearly_slowest(&agent).await;
    let before = proxy.files();
    let mut slow = JoinSet::new();
    for n in 0..500 {
        let agent = agent.clone();
        slow.spawn(async move { soon("a slow client", loris(&agent, n)).await });
    }
    let slow: Vec<Wire> = slow.join_all().await;
    assert!(proxy.files() > before + 400, "{} files", proxy.files());
    let beside = nearly_slowest(&agent).await;
    println!("99 of 100 within {alone:?} alone, {beside:?} beside 500 slow clients");
    // Where a millisecond is the whole, the machine's own noise is more than the factor.
    let most = alone.max(Duration::from_millis(40)) * 2;
    assert!(beside <= most, "{beside:?} instead of {alone:?}");
    // None of them leaves by itself.
    closed(&proxy, before + 8).await;
    drop(slow);
    proxy.assert_well();
}

/// Five ways to take one's time.
async fn loris(agent: &Agent, n: usize) -> Wire {
    match n % 5 {
        0 => agent.plain().await,
        1 => {
            let mut wire = agent.plain().await;
            wire.write(b"CONNECT free.wire.test:443 HTTP/1.1\r\nX: ")
                .await
                .unwrap();
            wire
        }
        2 => {
            let mut wire = agent.tunnel("free.wire.test:443").await;
            wire.write(b"\x16\x03\x01\x02\x00\x01\x00").await.unwrap();
            wire
        }
        3 => {
            let mut wire = agent.tls("free.wire.test", &["http/1.1"]).await;
            wire.write(
                b"POST /slow HTTP/1.1\r\nHost: free.wire.test\r\nContent-Length: 99\r\n\r\nx",
            )
            .await
            .unwrap();
            wire
        }
        _ => {
            let mut wire = agent.tls("free.wire.test", &["http/1.1"]).await;
            wire.write(b"GET / HTTP/1.1\r\nHost: fr").await.unwrap();
            wire
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_tunnels_cost_little() {
    const TUNNELS: usize = 2000;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = rustix::process::Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, most).unwrap();
    let origin = origin().await;
    let mut proxy = Proxy::start(&origin, |config| {
        config["limits"] = json!({ "header_timeout": "5m", "handshake_timeout": "1m" });
    })
    .await;
    let agent = proxy.agent();
    soon("a first request", honest(&agent)).await;
    let (before, files) = (proxy.memory(), proxy.files());
    let mut held = vec![];
    let mut opening = JoinSet::new();
    for _ in 0..TUNNELS {
        if opening.len() >= 64 {
            held.push(opening.join_next().await.unwrap().unwrap());
        }
        let agent = agent.clone();
        opening.spawn(
            async move { soon("a tunnel", agent.tls("free.wire.test", &["http/1.1"])).await },
        );
    }
    held.extend(opening.join_all().await);
    assert!(proxy.files() + 8 >= files + TUNNELS);
    let each = proxy.memory().saturating_sub(before) / TUNNELS as u64;
    println!("{TUNNELS} idle tunnels: {each} KiB each");
    assert!(each < 100, "{each} KiB each");
    soon("an honest request", honest(&agent)).await;
    drop(held);
    closed(&proxy, files + 8).await;
    proxy.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_does_not_take_every_connection() {
    let origin = origin().await;
    let proxy = Proxy::start(&origin, |config| {
        config["limits"]["connections_per_client"] = 3.into();
    })
    .await;
    let agent = proxy.agent();
    let mut held = vec![];
    for _ in 0..3 {
        held.push(agent.tunnel("free.wire.test:443").await);
    }
    let mut fourth = agent.plain().await;
    let answer = soon("an answer", fourth.response("GET")).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(soon("the end", fourth.rest()).await.is_empty());
    held.pop();
    soon("a free place", async {
        loop {
            let mut wire = agent.plain().await;
            let _ = wire
                .write(b"CONNECT free.wire.test:443 HTTP/1.1\r\n\r\n")
                .await;
            if wire
                .head()
                .await
                .is_some_and(|answer| answer.status() == 200)
            {
                return;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blind_tunnels_have_bounds() {
    let origin = origin().await;
    let proxy = Proxy::start(&origin, |config| {
        config["limits"] =
            json!({ "tunnels": 1, "idle_timeout": "2s", "connection_lifetime": "45s" });
    })
    .await;
    let agent = Agent::new(proxy.address, &origin.root);
    let begun = Instant::now();
    let mut wire = agent.tls("blind.wire.test", &["http/1.1"]).await;
    assert!(get(&mut wire, "/", "").await.is_some());
    // One is all there may be.
    let mut second = agent.plain().await;
    second
        .write(b"CONNECT blind.wire.test:443 HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let answer = soon("an answer", second.response("GET")).await.unwrap();
    assert_eq!(
        (answer.status(), answer.reason().as_str()),
        (503, "too_many_tunnels")
    );
    // Silence ends it.
    soon("the end of a silent tunnel", wire.rest()).await;
    let silent = begun.elapsed();
    assert!(
        (Duration::from_secs(2)..Duration::from_secs(45)).contains(&silent),
        "{silent:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn blind_tunnels_grow_only_so_old() {
    let origin = origin().await;
    let proxy = Proxy::start(&origin, |config| {
        config["limits"]["connection_lifetime"] = "4s".into();
    })
    .await;
    let agent = Agent::new(proxy.address, &origin.root);
    let begun = Instant::now();
    let mut wire = agent.tls("blind.wire.test", &["http/1.1"]).await;
    while get(&mut wire, "/", "").await.is_some() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let age = begun.elapsed();
    assert!(age >= Duration::from_secs(4), "{age:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_and_silent_connections_end() {
    let origin = origin().await;
    let mut proxy = Proxy::start(&origin, |config| {
        config["limits"] = json!({ "connection_idle": "2s", "connection_lifetime": "5s" });
    })
    .await;
    let agent = proxy.agent();
    // Nobody says anything: HTTP/2 has no timeout of its own for that.
    let mut h2 = H2::connect(&agent, "free.wire.test").await;
    soon("the end of a silent connection", async {
        while h2.next().await.is_some() {}
    })
    .await;
    // An agent that asks and never reads: its windows are shut.
    let mut h2 = H2::with_settings(&agent, "free.wire.test", &[0, 4, 0, 0, 0, 0]).await;
    for stream in [1, 3, 5] {
        h2.send(&frame(HEADERS, WHOLE, stream, &request("GET", "/big", &[])))
            .await;
    }
    soon("the end of a shut connection", async {
        while h2.next().await.is_some() {}
    })
    .await;
    // An old one is told to go, and its last request is answered.
    let mut h2 = H2::connect(&agent, "free.wire.test").await;
    let mut stream = 1;
    let away = soon("GOAWAY", async {
        loop {
            h2.send(&get_on(stream)).await;
            match h2.outcome(stream).await {
                Outcome::Status(200) => stream += 2,
                other => return other,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert!(
        matches!(away, Outcome::Away(0) | Outcome::Closed),
        "{away:?}"
    );
    assert!(stream > 3);
    proxy.assert_well();
}

/// Its bounds are others: a merchant's time, and that of a person who is asked.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_an_answer_is_not_idle() {
    let origin = Origin::start(&["http/1.1"], |mut wire, _| async move {
        while let Some(asked) = wire.request().await {
            let paid = asked.one("payment-signature").is_some();
            let text = match asked.path() {
                "/402" if !paid => {
                    let head = "HTTP/1.1 402 Payment Required\r\nContent-Length: 0";
                    format!("{head}\r\nPAYMENT-REQUIRED: {}\r\n\r\n", challenge()).into_bytes()
                }
                _ => {
                    tokio::time::sleep(Duration::from_secs(6)).await;
                    answer("200 OK", "late")
                }
            };
            wire.write(&text).await.unwrap();
        }
    })
    .await;
    let mut proxy = Proxy::start(&origin, |config| {
        config["limits"] = json!({ "connection_idle": "2s", "upstream_total": "20s" });
    })
    .await;
    let agent = proxy.agent();
    let over_h1 = async |host: &str, path: &str| {
        let mut wire = agent.tls(host, &["http/1.1"]).await;
        let ask = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        wire.write(ask.as_bytes()).await.unwrap();
        let answer = soon("an answer", wire.response("GET")).await;
        // And from then on it is.
        assert!(soon("the end", wire.rest()).await.is_empty());
        answer.unwrap_or_default().text()
    };
    let over_h2 = async {
        let mut h2 = H2::connect(&agent, "free.wire.test").await;
        h2.send(&get_on(1)).await;
        let outcome = soon("an answer", h2.outcome(1)).await;
        soon("the end", async { while h2.next().await.is_some() {} }).await;
        outcome
    };
    let free = over_h1("free.wire.test", "/");
    let paid = over_h1("pay.wire.test", "/402");
    let (free, paid, over_h2) = tokio::join!(free, paid, over_h2);
    assert_eq!((free.as_str(), paid.as_str()), ("late", "late"));
    assert_eq!(over_h2, Outcome::Status(200));
    proxy.assert_well();
}

fn get_on(stream: u32) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &request("GET", "/", &[]))
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_bounded_both_ways() {
    let origin = origin().await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let agent = proxy.agent();
    for (path, more, status) in [
        ("/", format!("X-Long: {}\r\n", "x".repeat(90 << 10)), 200),
        ("/", format!("X-Long: {}\r\n", "x".repeat(100 << 10)), 431),
        ("/", "X: 1\r\n".repeat(90), 200),
        ("/", "X: 1\r\n".repeat(110), 431),
        ("/head", String::new(), 502),
        ("/fields", String::new(), 502),
    ] {
        let mut wire = agent.tls("free.wire.test", &["http/1.1"]).await;
        let answer = get(&mut wire, path, &more).await.unwrap_or_default();
        assert_eq!(answer.status(), status, "{path} {} bytes", more.len());
    }
    let long = format!("/{}", "p".repeat(70_000));
    let mut wire = agent.tls("free.wire.test", &["http/1.1"]).await;
    assert_eq!(get(&mut wire, &long, "").await.unwrap().status(), 414);
    let mut wire = agent.plain().await;
    let head = format!(
        "CONNECT free.wire.test:443 HTTP/1.1\r\nX: {}\r\n\r\n",
        "x".repeat(20_000)
    );
    wire.write(head.as_bytes()).await.unwrap();
    assert_eq!(soon("an answer", wire.head()).await.unwrap().status(), 400);
    proxy.assert_well();
}

/// Small fields cost most of what they take beside their bytes, and HTTP/2 counts only those.
#[tokio::test(flavor = "multi_thread")]
async fn fields_are_counted_over_http_2_too() {
    let (origin, _) = merchant(|stream| {
        // As many as the stream's number says, in tens.
        let count = usize::try_from(stream).unwrap() * 10;
        let block = [field(":status", "200"), field("x", "1").repeat(count)].concat();
        frame(HEADERS, WHOLE, stream, &block)
    })
    .await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let agent = proxy.agent();
    for (fields, status) in [
        (field("x", "1").repeat(90), 200),
        (field("x", "1").repeat(101), 431),
        (field("x", "1").repeat(2500), 431),
        // These are one line.
        (field("cookie", "a=1").repeat(150), 200),
    ] {
        let mut h2 = H2::connect(&agent, "free.wire.test").await;
        let block = [request("GET", "/", &[]), fields].concat();
        h2.send(&frame(HEADERS, WHOLE, 1, &block)).await;
        let outcome = soon("an answer", h2.outcome(1)).await;
        assert_eq!(outcome, Outcome::Status(status), "{} bytes", block.len());
        assert!(soon("a PING", h2.lives()).await);
    }
    // The streams before took the first numbers of the connection to the merchant.
    let (mut first, mut last) = (Message::default(), Message::default());
    while first.status() != 502 {
        last = std::mem::take(&mut first);
        let mut wire = agent.tls("free.wire.test", &["http/1.1"]).await;
        first = get(&mut wire, "/", "").await.unwrap();
    }
    assert_eq!(last.all("x").len(), 90);
    assert_eq!(first.reason(), "protocol_error");
    let mut h2 = H2::connect(&agent, "free.wire.test").await;
    h2.send(&get_on(1)).await;
    let outcome = soon("an answer", h2.outcome(1)).await;
    assert_eq!(outcome, Outcome::Status(502));
    proxy.assert_well();
}

/// What each of them sends, on a connection of its own, and how often. Whether it reads is its affair.
fn floods() -> Vec<(&'static str, Vec<u8>, usize)> {
    let window = frame(WINDOW, 0, 1, &[0, 0, 0, 1]);
    let head = frame(HEADERS, END_STREAM, 1, &request("GET", "/", &[]));
    let continuation = frame(CONTINUATION, 0, 1, &field("x", &"y".repeat(10_000)));
    let empty = frame(CONTINUATION, 0, 1, &[]);
    vec![
        ("PING", frame(PING, 0, 0, b"12345678"), 200_000),
        (
            "SETTINGS",
            frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]),
            200_000,
        ),
        ("WINDOW_UPDATE", window, 200_000),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1]), 200_000),
        (
            "CONTINUATION",
            [head.clone(), continuation.repeat(2000)].concat(),
            1,
        ),
        (
            "empty CONTINUATION",
            [head, empty.repeat(200_000)].concat(),
            1,
        ),
        ("unknown frames", frame(0xbb, 0, 0, &[0; 100]), 50_000),
    ]
}

/// Opens streams and takes each back at once; or makes each of them end in an error.
fn resets(count: u32, taken_back: bool) -> Vec<u8> {
    let mut bytes = vec![];
    for stream in (0..count).map(|n| n * 2 + 1) {
        let fields: &[(&str, &str)] = if taken_back { &[] } else { &[("X-Upper", "1")] };
        bytes.extend(frame(
            HEADERS,
            WHOLE,
            stream,
            &request("GET", "/mute", fields),
        ));
        if taken_back {
            bytes.extend(frame(RESET, 0, stream, &[0, 0, 0, 8]));
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_frames_drown_their_own_connection() {
    let origin = origin().await;
    let mut proxy = Proxy::start(&origin, |config| {
        config["limits"]["connection_idle"] = "5s".into();
    })
    .await;
    let agent = proxy.agent();
    soon("a first request", honest(&agent)).await;
    let before = proxy.memory();
    for (name, frame, times) in floods() {
        let mut h2 = H2::connect(&agent, "free.wire.test").await;
        h2.send(&get_on(1)).await;
        let bytes = frame.repeat(times);
        // It never reads, so writing ends when the proxy has had enough, or waits for room.
        let writing = async {
            for piece in bytes.chunks(1 << 16) {
                if h2.wire.write(piece).await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(3), writing).await;
        let grown = proxy.memory().saturating_sub(before);
        assert!(grown < 64 << 10, "{name}: memory grew by {grown} KiB");
        soon(name, honest(&agent)).await;
    }
    for (name, taken_back) in [("rapid reset", true), ("made you reset", false)] {
        let mut h2 = H2::connect(&agent, "free.wire.test").await;
        h2.send(&resets(5_000, taken_back)).await;
        let end = soon(name, h2.outcome(u32::MAX)).await;
        assert!(
            matches!(end, Outcome::Away(1 | 11) | Outcome::Closed),
            "{name}: {end:?}"
        );
        soon(name, honest(&agent)).await;
    }
    // One stream too many is refused, and the others live.
    let mut h2 = H2::connect(&agent, "free.wire.test").await;
    for stream in (0..129).map(|n| n * 2 + 1) {
        h2.send(&frame(
            HEADERS,
            WHOLE,
            stream,
            &request("GET", "/mute", &[]),
        ))
        .await;
    }
    assert_eq!(soon("a refusal", h2.outcome(257)).await, Outcome::Reset(7));
    assert!(soon("a PING", h2.lives()).await);
    // A list of fields that is too long is refused as one.
    let mut h2 = H2::connect(&agent, "free.wire.test").await;
    let long: Vec<u8> = (0..12)
        .flat_map(|_| field("x", &"y".repeat(10_000)))
        .collect();
    let block = [request("GET", "/", &[]), long].concat();
    let mut pieces = block.chunks(16_000);
    h2.send(&frame(HEADERS, END_STREAM, 1, pieces.next().unwrap()))
        .await;
    let rest: Vec<_> = pieces.collect();
    for (n, piece) in rest.iter().enumerate() {
        let flags = if n + 1 == rest.len() { END_HEADERS } else { 0 };
        h2.send(&frame(CONTINUATION, flags, 1, piece)).await;
    }
    let end = soon("a refusal", h2.outcome(1)).await;
    assert!(
        matches!(
            end,
            Outcome::Status(431) | Outcome::Reset(_) | Outcome::Away(_)
        ),
        "{end:?}"
    );
    proxy.assert_well();
}

/// A session that asks for certificates without end waits for itself; another does not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn handshakes_are_rationed_by_session() {
    let origin = origin().await;
    let proxy = Proxy::start(&origin, |config| {
        config["limits"]["leaves_per_session"] = 5.into();
    })
    .await;
    let agent = proxy.agent();
    let url = proxy.run(&["session", "create", "--agent", "bot", "--budget", "1 USD"]);
    let secret = url.trim().split(['/', '@']).nth(2).unwrap();
    let basic = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(secret)
    };
    let (done, begun) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let mut flood = JoinSet::new();
    for _ in 0..30 {
        let (agent, done) = (agent.clone(), Arc::clone(&done));
        flood.spawn(async move {
            let _wire = agent.tls("free.wire.test", &[]).await;
            done.fetch_add(1, Ordering::Relaxed);
        });
    }
    let mut wire = agent.plain().await;
    let head = format!(
        "CONNECT free.wire.test:443 HTTP/1.1\r\nProxy-Authorization: Basic {basic}\r\n\r\n"
    );
    wire.write(head.as_bytes()).await.unwrap();
    assert_eq!(soon("a tunnel", wire.head()).await.unwrap().status(), 200);
    soon("a handshake", agent.handshake(wire, "free.wire.test", &[]))
        .await
        .unwrap();
    let others = done.load(Ordering::Relaxed);
    assert!(others < 30, "the flood was through before");
    soon("the flood", flood.join_all()).await;
    // Five at once, and five a second.
    assert!(begun.elapsed() >= Duration::from_secs(4));
}
