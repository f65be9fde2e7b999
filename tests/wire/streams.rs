//! Streams of HTTP/2 that break off: none is taken for a whole one, whatever its reset says. And streams that nobody
//! reads: they end, and the others of their connection do not wait for them.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc;

use crate::support::agent::Agent;
use crate::support::fed::Fed;
use crate::support::h2::*;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::soon;

const HOST: &str = "free.wire.test";

fn head(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &field(":status", "200"))
}

fn part(stream: u32) -> Vec<u8> {
    frame(DATA, 0, stream, b"part")
}

fn last(stream: u32) -> Vec<u8> {
    frame(DATA, END_STREAM, stream, b"last")
}

/// With NO_ERROR.
fn reset(stream: u32) -> Vec<u8> {
    frame(RESET, 0, stream, &[0; 4])
}

/// NO_ERROR, and no stream was looked at.
fn farewell() -> Vec<u8> {
    frame(AWAY, 0, 0, &[0; 8])
}

type Script = fn(u32) -> Vec<u8>;

/// Is the answer to this request, whose body may be cut, a whole one?
async fn whole(agent: &Agent, version: &str, upload: bool) -> bool {
    let method = if upload { "POST" } else { "GET" };
    if version == "h2" {
        let mut h2 = H2::connect(agent, HOST).await;
        let flags = if upload { END_HEADERS } else { WHOLE };
        h2.send(&frame(HEADERS, flags, 1, &request(method, "/", &[])))
            .await;
        if upload {
            h2.send(&part(1)).await;
        }
        return h2.outcome(1).await == Outcome::Status(200);
    }
    let mut wire = agent.tls(HOST, &["http/1.1"]).await;
    let length = if upload {
        "Content-Length: 9\r\n\r\npart"
    } else {
        "\r\n"
    };
    let ask = format!("{method} / HTTP/1.1\r\nHost: {HOST}\r\n{length}");
    wire.write(ask.as_bytes()).await.unwrap();
    let answer = wire.response(method).await;
    answer.is_some_and(|answer| answer.status() == 200 && answer.whole)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_answer_is_no_whole_one_though_its_reset_names_no_error() {
    let cuts: [(&str, Script); 3] = [
        ("a reset", |s| [head(s), part(s), reset(s)].concat()),
        ("a reset before DATA", |s| [head(s), reset(s)].concat()),
        ("a farewell", |s| [head(s), part(s), farewell()].concat()),
    ];
    let mut wrong = vec![];
    for (name, cut) in cuts {
        let (origin, _) = merchant(cut).await;
        let mut proxy = Proxy::start(&origin, |_| {}).await;
        for version in ["h2", "http/1.1"] {
            if soon(name, whole(&proxy.agent(), version, false)).await {
                wrong.push((name, version));
            }
        }
        proxy.assert_well();
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// RFC 9113 section 8.1: a merchant that needs no more of a request says so after the whole answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_answer_stays_whole_when_a_reset_without_error_follows() {
    let (origin, _) = merchant(|s| [head(s), part(s), last(s), reset(s)].concat()).await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    for version in ["h2", "http/1.1"] {
        for upload in [false, true] {
            let whole = soon(version, whole(&proxy.agent(), version, upload)).await;
            assert!(whole, "{version}, with a body: {upload}");
        }
    }
    proxy.assert_well();
}

/// Begins an upload, and takes it back with NO_ERROR once the head of its answer is there.
async fn take_back(agent: &Agent) -> H2 {
    let mut h2 = H2::connect(agent, HOST).await;
    let head = request("POST", "/", &[]);
    h2.send(&frame(HEADERS, END_HEADERS, 1, &head)).await;
    h2.send(&part(1)).await;
    while h2.next().await.unwrap().kind != HEADERS {}
    h2.send(&reset(1)).await;
    h2
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_upload_is_no_whole_one_though_its_reset_names_no_error() {
    let (origin, mut frames) = merchant(head).await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let _agent = soon("the head of an answer", take_back(&proxy.agent())).await;
    loop {
        let frame = soon("the end of an upload", frames.recv()).await.unwrap();
        let end = frame.kind == DATA && frame.flags & END_STREAM != 0;
        assert!(!end, "the merchant takes it for whole: {frame:?}");
        if frame.kind == RESET {
            break;
        }
    }
    proxy.assert_well();
}

/// Agents that read both at once lose the answer.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_and_the_reset_of_its_upload_do_not_come_together() {
    let (origin, _) = merchant(head).await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let many: Vec<_> = (0..200).map(|n| (format!("x-{n}"), "1")).collect();
    let many: Vec<_> = many.iter().map(|(name, value)| (&**name, *value)).collect();
    let mut h2 = H2::connect(&proxy.agent(), HOST).await;
    let head = request("POST", "/", &many);
    h2.send(&frame(HEADERS, END_HEADERS, 1, &head)).await;
    let mut answered = None;
    loop {
        let frame = soon("a frame", h2.next()).await.unwrap();
        match frame.kind {
            HEADERS => answered = Some(Instant::now()),
            RESET => break,
            _ => {}
        }
    }
    let apart = answered.unwrap().elapsed();
    assert!(apart >= Duration::from_millis(8), "{apart:?}");
    proxy.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_upload_has_no_last_chunk_over_http_1() {
    let (heard, mut uploads) = mpsc::unbounded_channel();
    let origin = Origin::start(&["http/1.1"], move |mut wire, _| {
        let heard = heard.clone();
        async move {
            wire.until(b"part").await;
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = wire.write(head).await;
            let _ = heard.send(wire.rest().await);
        }
    })
    .await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let _agent = soon("the head of an answer", take_back(&proxy.agent())).await;
    let upload = soon("the end of an upload", uploads.recv()).await.unwrap();
    let upload = String::from_utf8_lossy(&upload).into_owned();
    assert!(!upload.ends_with("0\r\n\r\n"), "{upload:?}");
    proxy.assert_well();
}

/// A window of so many bytes for every stream (RFC 9113 section 6.5.2).
fn window(bytes: u8) -> [u8; 6] {
    [0, 4, 0, 0, 0, bytes]
}

const IDLE: Duration = Duration::from_secs(2);

async fn impatient(origin: &Origin) -> Proxy {
    Proxy::start(origin, |config| {
        config["limits"]["idle_timeout"] = format!("{}s", IDLE.as_secs()).into();
    })
    .await
}

async fn until_reset(frames: &mut mpsc::UnboundedReceiver<crate::support::h2::Frame>) {
    let what = "a reset at the merchant";
    while soon(what, frames.recv()).await.unwrap().kind != RESET {}
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_reads_ends() {
    let answers: [Script; 2] = [
        |s| [head(s), part(s)].concat(),
        // The last bytes of a body are no others.
        |s| [head(s), last(s)].concat(),
    ];
    for (n, answer) in answers.into_iter().enumerate() {
        let (origin, mut frames) = merchant(answer).await;
        let mut proxy = impatient(&origin).await;
        for taken in [0, 1] {
            let agent = proxy.agent();
            let mut h2 = H2::with_settings(&agent, HOST, &window(taken)).await;
            let begun = Instant::now();
            h2.send(&get(1)).await;
            let outcome = soon("the end of a stream", h2.outcome(1)).await;
            assert_eq!(outcome, Outcome::Reset(8), "answer {n}, {taken} bytes");
            assert!(begun.elapsed() >= IDLE);
            // Its connection lives.
            assert!(soon("a PING", h2.lives()).await);
            if n == 0 {
                until_reset(&mut frames).await;
            }
        }
        proxy.assert_well();
    }
}

/// As it is with silence: an exchange lives while either of its bodies moves.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_waits_for_its_reader_while_the_upload_moves() {
    let (origin, _frames) = merchant(|s| [head(s), part(s)].concat()).await;
    let mut proxy = impatient(&origin).await;
    let mut h2 = H2::with_settings(&proxy.agent(), HOST, &window(0)).await;
    let post = request("POST", "/", &[]);
    h2.send(&frame(HEADERS, END_HEADERS, 1, &post)).await;
    let begun = Instant::now();
    while begun.elapsed() < 3 * IDLE {
        h2.send(&part(1)).await;
        tokio::time::sleep(IDLE / 20).await;
    }
    h2.send(&frame(WINDOW, 0, 1, &[0, 0, 0, 9])).await;
    let data = loop {
        let frame = soon("the answer", h2.next()).await.unwrap();
        match frame.kind {
            DATA => break frame.payload,
            kind => assert!(kind != RESET, "{frame:?}"),
        }
    };
    assert_eq!(data, b"part");
    proxy.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_nobody_reads_ends() {
    let (origin, mut frames) = merchant(head).await;
    let mut proxy = impatient(&origin).await;
    let mut h2 = H2::connect(&proxy.agent(), HOST).await;
    let post = request("POST", "/", &[]);
    h2.send(&frame(HEADERS, END_HEADERS, 1, &post)).await;
    // The proxy says that it takes as much.
    while h2.next().await.unwrap().kind != WINDOW {}
    // More than the merchant has a window for.
    h2.send(&frame(DATA, 0, 1, &[b'x'; 1 << 14]).repeat(8))
        .await;
    until_reset(&mut frames).await;
    assert!(soon("a PING", h2.lives()).await);
    proxy.assert_well();
}

/// Bytes of an answer to `/big`.
const BIG: usize = 4 << 20;

/// `/big` has `BIG` bytes, which are counted as they go out; `/mute` reads nothing, and its answer never ends; the others read
/// all and say how much it was.
async fn busy(sent: Arc<AtomicUsize>) -> Origin {
    let answer = move |request: Request<Incoming>| {
        let sent = Arc::clone(&sent);
        async move {
            let (feed, body) = mpsc::channel(1);
            let piece = match request.uri().path() {
                "/big" => Bytes::from(vec![b'b'; 1 << 14]),
                "/mute" => {
                    tokio::spawn(async move {
                        let _held = (request, feed);
                        std::future::pending::<()>().await;
                    });
                    return Ok(Response::new(Fed(body)));
                }
                _ => {
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    Bytes::from(body.len().to_string())
                }
            };
            tokio::spawn(async move {
                let times = if piece.len() < 1 << 14 { 1 } else { BIG >> 14 };
                for _ in 0..times {
                    let _ = feed.send(Frame::data(piece.clone())).await;
                    sent.fetch_add(piece.len(), Ordering::Relaxed);
                }
            });
            Ok::<_, Infallible>(Response::new(Fed(body)))
        }
    };
    Origin::start(&["h2"], move |wire, _| {
        let answer = answer.clone();
        async move {
            let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let server = server
                .initial_stream_window_size(1 << 16)
                .initial_connection_window_size(8 << 20);
            let io = TokioIo::new(wire.io);
            let _ = server.serve_connection(io, service_fn(answer)).await;
        }
    })
    .await
}

/// Waits until so much has gone out, and no more does.
async fn settled(sent: &AtomicUsize, least: usize) {
    let mut before = 0;
    soon("bytes to go out", async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = sent.load(Ordering::Relaxed);
            if now >= least && now == before {
                return;
            }
            before = now;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_pause_stop_nobody_else() {
    let sent = Arc::<AtomicUsize>::default();
    let origin = busy(Arc::clone(&sent)).await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let agent = proxy.agent();
    let mut paused = H2::with_settings(&agent, HOST, &window(0)).await;
    for stream in [1, 3, 5, 7] {
        let ask = request("GET", "/big", &[]);
        paused.send(&frame(HEADERS, WHOLE, stream, &ask)).await;
    }
    settled(&sent, 4 << 20).await;
    // What they do not read is not read for them.
    assert!(sent.load(Ordering::Relaxed) < 4 * BIG);
    let mut other = H2::connect(&agent, HOST).await;
    other.send(&get(1)).await;
    let outcome = soon("an answer beside them", other.outcome(1)).await;
    assert_eq!(outcome, Outcome::Status(200));
    assert!(soon("a PING", paused.lives()).await);
    proxy.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_nobody_reads_stops_no_other() {
    let origin = busy(Arc::default()).await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let wire = proxy.agent().tls(HOST, &["h2"]).await;
    let io = TokioIo::new(wire.io);
    let made = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
    let (sender, connection) = made.unwrap();
    tokio::spawn(connection);
    let send = |path: &str| {
        let request = Request::post(format!("https://{HOST}{path}"));
        let body = Full::new(Bytes::from(vec![b'u'; BIG]));
        sender.clone().send_request(request.body(body).unwrap())
    };
    let _mute = tokio::spawn(send("/mute"));
    // Until all that it may have on its way is.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let answer = soon("an answer beside it", send("/")).await.unwrap();
    let said = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(said, BIG.to_string());
    proxy.assert_well();
}
