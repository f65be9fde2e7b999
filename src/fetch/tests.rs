//! One client against servers that are slow, long, lost or liars.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{Fetch, FetchError};
use crate::demo::merchant::Merchant;
use crate::tls::{Authority, Serving};

const LONG: Duration = Duration::from_secs(20);

fn plain() -> Fetch {
    Fetch::new(Arc::new(RootCertStore::empty())).unwrap()
}

fn post(url: &str, body: &'static str) -> Request<Bytes> {
    Request::post(url).body(Bytes::from(body)).unwrap()
}

/// A server that reads one head, answers these bytes, and keeps the connection for `stay`. Gives its
/// port and what it read.
async fn server(answer: &'static str, stay: Duration) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = vec![];
        while !seen.windows(4).any(|w| w == b"\r\n\r\n") || !seen.ends_with(b"}") {
            let mut more = [0; 4096];
            let read = stream.read(&mut more).await.unwrap();
            if read == 0 {
                break;
            }
            seen.extend_from_slice(&more[..read]);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut nothing = [0; 1];
        let _ = tokio::time::timeout(stay, stream.read(&mut nothing)).await;
        String::from_utf8(seen).unwrap()
    });
    (port, seen)
}

#[tokio::test]
async fn a_request_arrives_whole_and_is_answered() {
    let (port, seen) = server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", LONG).await;
    let url = format!("http://user:p%40ss@127.0.0.1:{port}/v1/key?token=t");
    let answer = plain()
        .send(post(&url, "{\"a\":1}"), LONG, 100)
        .await
        .unwrap();
    assert_eq!(
        (answer.status(), &answer.body()[..]),
        (StatusCode::OK, &b"ok"[..])
    );
    let seen = seen.await.unwrap();
    let lower = seen.to_lowercase();
    assert!(
        seen.starts_with("POST /v1/key?token=t HTTP/1.1\r\n"),
        "{seen}"
    );
    assert!(
        lower.contains(&format!("host: 127.0.0.1:{port}\r\n")),
        "{seen}"
    );
    assert!(seen.contains("Basic dXNlcjpwQHNz"), "user:p@ss: {seen}");
    assert!(lower.contains("content-length: 7\r\n"), "{seen}");
    assert!(seen.ends_with("{\"a\":1}"), "{seen}");
    assert!(
        !lower.contains("cookie") && !lower.contains("accept-encoding"),
        "{seen}"
    );
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (port, _) = server(
        "HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        LONG,
    )
    .await;
    let url = format!("http://127.0.0.1:{port}/");
    let answer = plain().send(post(&url, "{}"), LONG, 100).await.unwrap();
    assert_eq!(answer.status(), StatusCode::TEMPORARY_REDIRECT);
}

#[tokio::test]
async fn what_is_too_long_too_late_or_broken_is_no_answer() {
    let long = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde";
    let endless = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n";
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab";
    let short = Duration::from_millis(200);
    for (answer, stay, deadline, want) in [
        (long, LONG, LONG, "longer than 4 bytes"),
        (endless, LONG, LONG, "longer than 4 bytes"),
        (cut, Duration::ZERO, LONG, "no answer from"),
        ("", LONG, short, "in time"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na",
            LONG,
            short,
            "in time",
        ),
        ("SSH-2.0-x\r\n", LONG, LONG, "no answer from"),
        ("", Duration::ZERO, LONG, "no answer from"),
    ] {
        let (port, _) = server(answer, stay).await;
        let url = format!("http://me:canary@127.0.0.1:{port}/canary?canary");
        let error = plain()
            .send(post(&url, "{}"), deadline, 4)
            .await
            .unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(said.contains(want), "{answer:?}: {said}");
        assert!(!said.contains("canary"), "{said}");
    }
}

/// A stream of lines that stays open: one line is enough, within the same bounds.
#[tokio::test]
async fn an_answer_without_end_is_read_for_its_first_line() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let short = Duration::from_millis(200);
    for (body, deadline, want) in [
        ("3\r\nab\n\r\n", LONG, Ok("ab\n")),
        ("1\r\n\n\r\n1\r\na\r\n2\r\nb\n\r\n", LONG, Ok("\nab\n")),
        // It came to its end.
        ("2\r\nab\r\n0\r\n\r\n", LONG, Ok("ab")),
        ("2\r\nab\r\n", short, Err("in time")),
        ("1\r\n\n\r\n", short, Err("in time")),
        ("6\r\nabcde\n\r\n", LONG, Err("longer than 4 bytes")),
    ] {
        let answer: &'static str = format!("{HEAD}{body}").leak();
        let (port, _) = server(answer, LONG).await;
        let url = format!("http://127.0.0.1:{port}/");
        let answer = plain()
            .send_for_line(post(&url, "{}"), deadline, 4)
            .await
            .map(|answer| String::from_utf8(answer.into_body().into()).unwrap());
        match (answer, want) {
            (Ok(body), Ok(want)) => assert_eq!(body, want),
            (Err(error), Err(want)) => assert!(error.to_string().contains(want), "{error}"),
            (answer, want) => panic!("{body:?}: {answer:?}, not {want:?}"),
        }
    }
}

/// A deadline that passes before the request began to leave is as if nobody were there.
#[tokio::test]
async fn who_is_late_before_it_was_asked_was_not_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("https://localhost:{port}/");
    let short = Duration::from_millis(200);
    let error = plain().send(post(&url, "{}"), short, 4).await.unwrap_err();
    assert!(matches!(error, FetchError::Connection { .. }), "{error}");
    let error = plain().call(post(&url, "{}"), short, 4).await.unwrap_err();
    assert!(matches!(error, FetchError::Connection { .. }), "{error}");
    drop(listener);
}

#[tokio::test]
async fn nobody_there_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("http://canary@127.0.0.1:{port}/canary");
    let error = plain().send(post(&url, "{}"), LONG, 4).await.unwrap_err();
    assert!(matches!(error, FetchError::Connection { .. }), "{error}");
    assert!(!error.to_string().contains("canary"), "{error}");
    for url in ["/path", "ftp://host/", "http://a%zz@host/", "unix://x"] {
        let error = plain().send(post(url, "{}"), LONG, 4).await.unwrap_err();
        assert_eq!(error, FetchError::Url, "{url}");
    }
}

#[tokio::test]
async fn only_a_verified_server_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let merchant = Merchant::start(dir.path(), &["localhost"]).await.unwrap();
    let port = merchant.address().port();
    let url = format!("https://localhost:{port}/forecast");
    let error = plain().send(post(&url, "{}"), LONG, 9).await.unwrap_err();
    assert!(matches!(error, FetchError::Connection { .. }), "{error}");
    let mut roots = RootCertStore::empty();
    let pem = merchant.ca_pem().as_bytes();
    roots
        .add(CertificateDer::from_pem_slice(pem).unwrap())
        .unwrap();
    let fetch = Fetch::new(Arc::new(roots)).unwrap();
    let get = Request::get(&url).body(Bytes::new()).unwrap();
    let answer = fetch.send(get, LONG, 1 << 20).await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYMENT_REQUIRED);
    // Another name of the same server.
    let other = format!("https://127.0.0.1:{port}/forecast");
    let error = fetch.send(post(&other, "{}"), LONG, 9).await.unwrap_err();
    assert!(matches!(error, FetchError::Connection { .. }), "{error}");
}

#[tokio::test]
async fn what_is_no_port_is_not_the_usual_one() {
    let asked = plain()
        .send(post("http://127.0.0.1:99999/", "{}"), LONG, 100)
        .await;
    assert_eq!(asked.err(), Some(FetchError::Url));
}

/// A server that answers over TLS and then resets the connection, so that no farewell can be sent to it.
/// Gives its URL, and who believes it.
async fn rude(answer: &'static str) -> (String, Fetch) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(dir.path()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate_der().clone()).unwrap();
    let serving = Serving::signed_by(Arc::new(authority), vec!["localhost".into()]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}/",
        listener.local_addr().unwrap().port()
    );
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(serving.config());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A reset throws away what was not sent yet.
            stream.set_nodelay(true).unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut seen = vec![];
            while !seen.ends_with(b"{}") {
                stream.read_buf(&mut seen).await.unwrap();
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            let (socket, _) = stream.into_inner();
            let socket = socket.into_std().unwrap();
            socket2::SockRef::from(&socket)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
    });
    (url, Fetch::new(Arc::new(roots)).unwrap())
}

/// Which of the two ends is seen first is left to chance, so it is tried more than once.
#[tokio::test]
async fn an_answer_that_came_whole_is_one_however_the_connection_ends() {
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    let (url, fetch) = rude(whole).await;
    for _ in 0..20 {
        let answer = fetch.send(post(&url, "{}"), LONG, 100).await.unwrap();
        assert_eq!(&answer.body()[..], b"ok");
    }
    for cut in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        "HTTP/1.1 200",
    ] {
        let (url, fetch) = rude(cut).await;
        for _ in 0..20 {
            let asked = fetch.send(post(&url, "{}"), LONG, 100).await;
            assert!(
                matches!(asked, Err(FetchError::Answer { .. })),
                "{cut:?}: {asked:?}"
            );
        }
    }
}
