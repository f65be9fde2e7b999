//! HTTP/1.1 and HTTP/2 in every pairing of agent and merchant: bodies both ways at once, trailers, and
//! what only one of the two knows.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc;

use crate::support::agent::Agent;
use crate::support::fed::Fed;
use crate::support::h2;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::soon;
use crate::support::wire::Wire;

/// Sends every frame back as it comes, trailers too, and says how it was asked.
async fn echo(request: Request<Incoming>) -> Result<Response<Incoming>, Infallible> {
    let (head, body) = request.into_parts();
    let mut response = Response::new(body);
    if head.uri.path() == "/204" {
        *response.status_mut() = StatusCode::NO_CONTENT;
    }
    let headers = response.headers_mut();
    let version = format!("{:?}", head.version);
    headers.insert("x-version", HeaderValue::try_from(version).unwrap());
    headers.insert("trailer", HeaderValue::from_static("x-sum"));
    for name in ["cookie", "x-twice", "te"] {
        for value in head.headers.get_all(name) {
            headers.append(
                format!("x-{name}").parse::<http::HeaderName>().unwrap(),
                value.clone(),
            );
        }
    }
    if head.method == Method::HEAD {
        headers.insert("content-length", HeaderValue::from_static("99"));
    }
    Ok(response)
}

async fn origin(alpn: &[&str]) -> Origin {
    Origin::start(alpn, |wire, _| async move {
        let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        let _ = server
            .serve_connection(TokioIo::new(wire.io), service_fn(echo))
            .await;
    })
    .await
}

/// The sender of either version.
enum Sender<B> {
    H1(hyper::client::conn::http1::SendRequest<B>),
    H2(hyper::client::conn::http2::SendRequest<B>),
}

impl<B> Sender<B>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    async fn open(agent: &Agent, host: &str, version: &str) -> Self {
        let wire = agent.tls(host, &[version]).await;
        let io = TokioIo::new(wire.io);
        if version == "h2" {
            let made = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
            let (sender, connection) = made.unwrap();
            tokio::spawn(connection);
            return Self::H2(sender);
        }
        let made = hyper::client::conn::http1::handshake(io).await;
        let (sender, connection) = made.unwrap();
        tokio::spawn(connection);
        Self::H1(sender)
    }

    async fn send(&mut self, request: Request<B>) -> Response<Incoming> {
        let answer = match self {
            Self::H1(sender) => {
                soon("a free connection", sender.ready()).await.unwrap();
                soon("an answer", sender.send_request(request)).await
            }
            Self::H2(sender) => soon("an answer", sender.send_request(request)).await,
        };
        answer.unwrap()
    }
}

fn request<B>(method: Method, host: &str, path: &str, version: &str, body: B) -> Request<B> {
    let uri = match version {
        "h2" => format!("https://{host}{path}"),
        _ => path.to_owned(),
    };
    let mut request = Request::builder()
        .method(method)
        .uri(uri)
        .body(body)
        .unwrap();
    if version != "h2" {
        let host = HeaderValue::try_from(host).unwrap();
        request.headers_mut().insert("host", host);
    }
    request
}

/// Agent, merchant's offer, the version that the merchant is asked in.
const PAIRS: &[(&str, &[&str], &str)] = &[
    ("http/1.1", &["http/1.1"], "HTTP/1.1"),
    ("http/1.1", &["h2", "http/1.1"], "HTTP/1.1"),
    ("http/1.1", &["h2"], "HTTP/2.0"),
    ("h2", &["http/1.1"], "HTTP/1.1"),
    ("h2", &["h2", "http/1.1"], "HTTP/2.0"),
    ("h2", &["h2"], "HTTP/2.0"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_pairing_carries_everything() {
    for (version, alpn, asked) in PAIRS {
        let origin = origin(alpn).await;
        let mut proxy = Proxy::start(&origin, |_| {}).await;
        for host in ["free.wire.test", "pay.wire.test"] {
            println!("{version} to {alpn:?}, {host}");
            both_ways(&proxy.agent(), host, version, asked).await;
            without_bodies(&proxy.agent(), host, version).await;
        }
        proxy.assert_well();
    }
}

/// As gRPC does it: each side waits for the other's next message.
async fn both_ways(agent: &Agent, host: &str, version: &str, asked: &str) {
    let mut sender = Sender::open(agent, host, version).await;
    for _ in 0..2 {
        let (feed, body) = mpsc::channel(1);
        let mut request = request(Method::POST, host, "/echo", version, Fed(body));
        let headers = request.headers_mut();
        headers.insert("te", HeaderValue::from_static("trailers"));
        headers.insert("trailer", HeaderValue::from_static("x-sum"));
        headers.append("x-twice", HeaderValue::from_static("1"));
        headers.append("x-twice", HeaderValue::from_static("2"));
        headers.append("cookie", HeaderValue::from_static("a=1"));
        if version == "h2" {
            headers.append("cookie", HeaderValue::from_static("b=2"));
        }
        let answer = sender.send(request).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert_eq!(answer.headers()["x-version"], *asked);
        let twice: Vec<_> = answer.headers().get_all("x-x-twice").iter().collect();
        assert_eq!(twice, ["1", "2"]);
        if version == "h2" && asked == "HTTP/1.1" {
            assert_eq!(answer.headers()["x-cookie"], "a=1; b=2");
        }
        let mut body = answer.into_body();
        for n in 0..3 {
            let sent = Bytes::from(format!("message {n}"));
            feed.send(Frame::data(sent.clone())).await.unwrap();
            let mut got = vec![];
            while got.len() < sent.len() {
                let frame = soon("an echo", body.frame()).await.unwrap().unwrap();
                got.extend_from_slice(frame.data_ref().unwrap());
            }
            assert_eq!(got, sent);
        }
        let mut sum = HeaderMap::new();
        sum.insert("x-sum", HeaderValue::from_static("3"));
        feed.send(Frame::trailers(sum)).await.unwrap();
        drop(feed);
        let last = soon("trailers", body.frame()).await.unwrap().unwrap();
        assert_eq!(last.trailers_ref().unwrap()["x-sum"], "3");
        assert!(soon("the end", body.frame()).await.is_none());
    }
}

async fn without_bodies(agent: &Agent, host: &str, version: &str) {
    let mut sender = Sender::open(agent, host, version).await;
    for (method, path, status) in [
        (Method::GET, "/", 200),
        (Method::HEAD, "/", 200),
        (Method::GET, "/204", 204),
        (Method::OPTIONS, "/", 200),
        (Method::DELETE, "/", 200),
    ] {
        let head = method == Method::HEAD;
        let request = request(method, host, path, version, Empty::<Bytes>::new());
        let answer = sender.send(request).await;
        assert_eq!(answer.status(), status, "{path}");
        if head {
            assert_eq!(answer.headers()["content-length"], "99");
        }
        if version != "h2" {
            assert_eq!(answer.version(), Version::HTTP_11);
        }
        let body = soon("a body", answer.into_body().collect()).await.unwrap();
        assert!(body.to_bytes().is_empty());
    }
}

/// What a merchant's HTTP/2 may say wrong. (A pseudo field of requests in an answer is dropped by the
/// library, not refused.)
fn wrong_answers(stream: u32) -> Vec<(&'static str, Vec<u8>)> {
    let head = |flags: u8, lines: &[(&str, &str)]| {
        h2::frame(h2::HEADERS, flags, stream, &h2::fields(lines))
    };
    let data = |text: &str| h2::frame(h2::DATA, h2::END_STREAM, stream, text.as_bytes());
    let ok = |more: (&str, &str)| head(h2::END_HEADERS, &[(":status", "200"), more]);
    vec![
        (
            "no status",
            [head(h2::END_HEADERS, &[("x", "1")]), data("x")].concat(),
        ),
        (
            "a status that is none",
            [head(h2::END_HEADERS, &[(":status", "abc")]), data("x")].concat(),
        ),
        (
            "a name in upper case",
            [ok(("X-Upper", "1")), data("x")].concat(),
        ),
        (
            "a value with CR LF",
            [ok(("x", "1\r\nset-cookie: forged=1")), data("x")].concat(),
        ),
        (
            "a field of one hop",
            [ok(("transfer-encoding", "chunked")), data("x")].concat(),
        ),
        (
            "a length above the body's",
            [ok(("content-length", "5")), data("x")].concat(),
        ),
        (
            "a length below the body's",
            [ok(("content-length", "1")), data("xyz")].concat(),
        ),
        (
            "101, which HTTP/2 does not know",
            head(h2::WHOLE, &[(":status", "101")]),
        ),
        (
            "a pushed answer",
            h2::frame(
                h2::PUSH,
                h2::END_HEADERS,
                stream,
                &[&[0, 0, 0, 2][..], &h2::request("GET", "/pushed", &[])].concat(),
            ),
        ),
        ("DATA before HEADERS", data("x")),
        (
            "an answer on another stream",
            h2::frame(
                h2::HEADERS,
                h2::WHOLE,
                stream + 2,
                &h2::fields(&[(":status", "200")]),
            ),
        ),
        ("a reset", h2::frame(h2::RESET, 0, stream, &[0, 0, 0, 2])),
        ("a farewell", h2::frame(h2::AWAY, 0, 0, &[0; 8])),
        (
            "HPACK that is none",
            h2::frame(h2::HEADERS, h2::WHOLE, stream, &[0x80]),
        ),
        (
            "a frame that is too long",
            h2::frame(h2::DATA, 0, stream, &vec![0; 20_000]),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_answers_over_http_2_are_not_handed_on() {
    let origin = Origin::start(&["h2"], |mut wire, _| async move {
        let _ = wire.exact(h2::PREFACE.len()).await;
        wire.write(&h2::frame(h2::SETTINGS, 0, 0, &[]))
            .await
            .unwrap();
        let mut merchant = h2::H2 { wire };
        while let Some(frame) = merchant.next().await {
            if frame.kind != h2::HEADERS {
                continue;
            }
            // The path is compressed; the length of the body says which case it is.
            let body = soon("a body", merchant.next()).await.unwrap();
            let (_, bytes) = &wrong_answers(frame.stream)[body.payload.len()];
            merchant.send(bytes).await;
        }
    })
    .await;
    let mut proxy = Proxy::start(&origin, |config| {
        config["limits"]["upstream_total"] = "3s".into();
        config["limits"]["idle_timeout"] = "3s".into();
    })
    .await;
    let mut wrong = vec![];
    for (n, (name, _)) in wrong_answers(1).iter().enumerate() {
        let mut agent = h2::H2::connect(&proxy.agent(), "free.wire.test").await;
        let head = h2::request("POST", "/", &[]);
        agent
            .send(&h2::frame(h2::HEADERS, h2::END_HEADERS, 1, &head))
            .await;
        agent
            .send(&h2::frame(h2::DATA, h2::END_STREAM, 1, &vec![b'x'; n]))
            .await;
        let outcome = soon(name, agent.outcome(1)).await;
        let heard = String::from_utf8_lossy(&agent.wire.heard()).into_owned();
        if heard.contains("forged") || matches!(outcome, h2::Outcome::Status(s) if s < 500) {
            wrong.push(format!("{name}: {outcome:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    proxy.assert_well();
}

/// Neither HTTP/1.1 nor HTTP/2: there is nothing to try.
#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_without_a_common_protocol_is_told_apart() {
    let origin = Origin::start(&["acme-tls/1"], |_: Wire, _| async {}).await;
    let proxy = Proxy::start(&origin, |_| {}).await;
    let mut wire = proxy.agent().tls("free.wire.test", &["http/1.1"]).await;
    let ask = b"GET / HTTP/1.1\r\nHost: free.wire.test\r\n\r\n";
    wire.write(ask).await.unwrap();
    let answer = soon("an answer", wire.response("GET")).await.unwrap();
    assert_eq!(
        (answer.status(), answer.reason().as_str()),
        (502, "tls_error")
    );
}

/// A stream in one direction is as alive as one in both: silence is when nothing moves either way.
#[tokio::test(flavor = "multi_thread")]
async fn one_silent_side_ends_nothing() {
    const TICKS: u32 = 15;
    let tick = std::time::Duration::from_millis(200);
    let ticking = move |request: Request<Incoming>| async move {
        let (feed, body) = mpsc::channel(1);
        tokio::spawn(async move {
            // Kept: the agent's side stays open.
            let _asked = request;
            for n in 0..TICKS {
                let _ = feed.send(Frame::data(Bytes::from(format!("{n},")))).await;
                tokio::time::sleep(tick).await;
            }
            tokio::time::sleep(20 * tick).await;
        });
        Ok::<_, Infallible>(Response::new(Fed(body)))
    };
    let origin = Origin::start(&["h2", "http/1.1"], move |wire, _| async move {
        let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        let _ = server
            .serve_connection(TokioIo::new(wire.io), service_fn(ticking))
            .await;
    })
    .await;
    let proxy = Proxy::start(&origin, |config| {
        config["limits"] = serde_json::json!({ "idle_timeout": "1s" });
    })
    .await;
    let agent = proxy.agent();
    for version in ["h2", "http/1.1"] {
        let mut sender = Sender::open(&agent, "free.wire.test", version).await;
        let (feed, body) = mpsc::channel(1);
        let request = request(Method::POST, "free.wire.test", "/", version, Fed(body));
        feed.send(Frame::data(Bytes::from("once"))).await.unwrap();
        let mut body = sender.send(request).await.into_body();
        let mut got = String::new();
        let expected: String = (0..TICKS).map(|n| format!("{n},")).collect();
        while got.len() < expected.len() {
            let frame = soon("a tick", body.frame()).await;
            let frame = frame.unwrap_or_else(|| panic!("{version}: it ended: {got}"));
            let frame = frame.unwrap_or_else(|e| panic!("{version}: {e} after {got}"));
            got += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
        }
        assert_eq!(got, expected, "{version}");
        // Now neither side moves.
        let began = std::time::Instant::now();
        let end = soon("the end of the silence", body.frame()).await;
        assert!(!matches!(end, Some(Ok(_))), "{version}: {end:?}");
        assert!(
            began.elapsed() < 18 * tick,
            "{version}: {:?}",
            began.elapsed()
        );
        drop(feed);
    }
}
