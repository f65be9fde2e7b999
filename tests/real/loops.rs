//! A plain request that leads back to the proxy, by redirect or by its own words: answered once, and
//! nothing paid (threats S-07, H-11).

use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::http::{self, Answer};
use crate::support::merchant::{After, Merchant};
use crate::support::proxy::Proxy;
use crate::support::{curl, shop};

/// Names of this machine, and what somebody might take for one. `loop.stand.test` is pinned to it.
const SPELLINGS: &[&str] = &[
    "127.0.0.1",
    "127.0.0.1.",
    "127.9.9.9",
    "127.1",
    "0",
    "0.0.0.0",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "127.0.0.1%00",
    "127%2e0.0.1",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:0:0:1]",
    "[::127.0.0.1]",
    "loop.stand.test",
];

/// What the proxy says to a request in origin form: one that it has sent to itself.
const ARRIVED: &str = "not_a_proxy_request";

/// A proxy that may go everywhere on this machine, but to itself; its address is known beforehand.
fn open(merchant: &Merchant) -> Proxy {
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let mut setup = shop::setup(merchant);
    setup.resolve(&format!("loop.stand.test:{port}"), port.into());
    setup.resolve("loop.stand.test:80", port.into());
    setup.config["listen"]["proxy"] = json!([format!("127.0.0.1:{port}"), format!("[::1]:{port}")]);
    setup.config["egress"]["allow_private"] = json!(["0.0.0.0/0", "::/0"]);
    setup.config["egress"]["ports"] = json!([80, 443, port]);
    setup.start()
}

fn ask(proxy: &Proxy, start: &str, host: &str) -> Answer {
    let mut socket = TcpStream::connect(proxy.address()).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    write!(socket, "{start} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    let method = start.split(' ').next().unwrap();
    http::read_answer(&mut BufReader::new(socket), method).unwrap()
}

#[test]
fn a_plain_request_for_the_proxy_itself_ends_at_once() {
    let merchant = Merchant::start(|_, out| shop::sell("premium", out));
    let mut proxy = open(&merchant);
    let port = proxy.address().port();
    let begun = Instant::now();
    for name in SPELLINGS {
        let host = format!("{name}:{port}");
        for start in [
            format!("GET http://{host}/"),
            format!("GET http://{host}/http://{host}/"),
            format!("CONNECT {host}"),
        ] {
            let mut answer = ask(&proxy, &start, &host);
            if start.starts_with("CONNECT") && answer.status == 200 {
                // Refused inside the tunnel, where a program sees it.
                answer = inside(&proxy, &host);
            }
            let (status, said) = (answer.status, answer.text());
            assert!(
                matches!(status, 400 | 403 | 502),
                "{start}: {status} {said}"
            );
            assert!(!said.contains(ARRIVED), "{start}: {said}");
        }
    }
    let answer = ask(&proxy, "GET http://loop.stand.test/", "loop.stand.test");
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert_eq!(merchant.seen().len(), 0);
    assert_eq!(proxy.ledger().counted(), 0);
    assert!(proxy.alive());
}

/// Plain HTTP in a tunnel to this place.
fn inside(proxy: &Proxy, host: &str) -> Answer {
    let mut socket = TcpStream::connect(proxy.address()).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    write!(socket, "CONNECT {host} HTTP/1.1\r\n\r\n").unwrap();
    let opened = http::read_answer(&mut BufReader::with_capacity(1, &mut socket), "CONNECT");
    assert_eq!(opened.unwrap().status, 200);
    write!(socket, "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    http::read_answer(&mut BufReader::new(socket), "GET").unwrap()
}

#[test]
fn a_redirect_is_the_agents_to_follow_and_leads_nowhere_that_it_may_not_go() {
    let port = std::sync::Arc::new(std::sync::OnceLock::<u16>::new());
    let told = std::sync::Arc::clone(&port);
    let merchant = Merchant::start(move |seen, out| {
        let number = seen.path().trim_start_matches('/');
        let port = told.get().unwrap();
        let to = match number.parse::<usize>().ok().and_then(|n| SPELLINGS.get(n)) {
            Some(name) => format!("http://{name}:{port}/"),
            // To itself, for ever.
            None => format!("http://{}/again", shop::HOST),
        };
        write!(
            out,
            "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"
        )?;
        Ok(After::Keep)
    });
    let proxy = open(&merchant);
    port.set(proxy.address().port()).unwrap();
    // The proxy follows nothing: one request, and its answer as it is.
    let answer = curl::fetch(proxy.curl(&format!("http://{}/0", shop::HOST))).unwrap();
    assert_eq!(answer.status, 302);
    assert_eq!(merchant.seen().len(), 1);
    let follow = |path: &str| {
        let mut curl = proxy.curl(&format!("http://{}/{path}", shop::HOST));
        curl.args(["--location", "--max-redirs", "5"]);
        curl.args(["--write-out", "%{http_code} %{num_redirects}"]);
        let out = curl.output().unwrap();
        String::from_utf8_lossy(&[out.stderr, out.stdout].concat()).into_owned()
    };
    for (number, name) in SPELLINGS.iter().enumerate() {
        let before = merchant.seen().len();
        let said = follow(&number.to_string());
        // Refused by the proxy, or not a URL to curl.
        let refused = ["400 1", "403 1", "502 1"];
        let bad_url = said.contains("curl: (3)") || said.contains("curl: (6)");
        assert!(
            bad_url || refused.iter().any(|end| said.ends_with(end)),
            "{}: {said}",
            name
        );
        assert!(!said.contains(ARRIVED), "{name}: {said}");
        assert_eq!(merchant.seen().len(), before + 1, "{name}");
    }
    let before = merchant.seen().len();
    assert!(follow("again").contains("curl: (47)"));
    assert_eq!(merchant.seen().len(), before + 6);
    assert_eq!(proxy.ledger().counted(), 0);
}
