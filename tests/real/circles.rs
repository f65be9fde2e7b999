//! Ways that lead back to where they came from (threats S-07, X-13): proxies behind each other, and
//! requests that are paid for again and again.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::curl::fetch;
use crate::support::http::Answer;
use crate::support::merchant::{After, Merchant, Seen};
use crate::support::proxy::{Proxy, Setup};
use crate::support::{shop, until};

const PATIENCE: Duration = Duration::from_secs(20);

/// What stands between two proxies where neither sees the other's address: a load balancer, a port that
/// is published elsewhere.
struct Relay {
    at: SocketAddr,
    to: Arc<OnceLock<SocketAddr>>,
    count: Arc<AtomicUsize>,
}

impl Relay {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let (to, count) = (Arc::new(OnceLock::new()), Arc::new(AtomicUsize::new(0)));
        let (far, seen) = (Arc::clone(&to), Arc::clone(&count));
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                seen.fetch_add(1, Ordering::SeqCst);
                let far = *far.get().unwrap();
                std::thread::spawn(move || copy(near, far));
            }
        });
        Self { at, to, count }
    }

    fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    fn leads_to(&self, proxy: &Proxy) {
        self.to.set(proxy.address()).unwrap();
    }

    /// Connections since the last time.
    fn seen(&self) -> usize {
        self.count.swap(0, Ordering::SeqCst)
    }
}

fn copy(mut near: TcpStream, far: SocketAddr) -> io::Result<()> {
    let mut far = TcpStream::connect(far)?;
    let (mut back, mut forth) = (far.try_clone()?, near.try_clone()?);
    std::thread::spawn(move || {
        let _ = io::copy(&mut back, &mut forth);
        let _ = forth.shutdown(Shutdown::Both);
    });
    let _ = io::copy(&mut near, &mut far);
    far.shutdown(Shutdown::Both)
}

fn setup(parent: &str, roots: &[PathBuf]) -> Setup {
    let mut setup = Setup::new();
    setup.config["egress"]["upstream_proxy"] = json!(parent);
    setup.config["tls"]["passthrough"] = json!(["blind.example.test"]);
    for root in roots {
        setup.root(root);
    }
    setup
}

fn told(proxy: &Proxy, url: &str, args: &[&str]) -> Result<(u16, Option<String>), String> {
    let mut curl = proxy.curl(url);
    curl.args(args);
    // From the document: what one proxy says in its own fields another one takes away.
    let reason = |document: Value| document["reason"].as_str().map(str::to_owned);
    let document = |answer: &Answer| serde_json::from_str(&answer.text()).ok();
    fetch(curl).map(|answer| (answer.status, document(&answer).and_then(reason)))
}

fn looped() -> Result<(u16, Option<String>), String> {
    Ok((508, Some("loop_detected".into())))
}

const URLS: [&str; 2] = ["https://shop.stand.test/x", "http://shop.stand.test/x"];

#[test]
fn a_parent_that_is_the_proxy_itself_ends_at_once() {
    // Its own address is seen before it is dialled.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let own = port.unwrap().to_string();
    let mut itself = setup(&format!("http://{own}"), &[]);
    itself.config["listen"]["proxy"] = json!(own);
    let itself = itself.start();
    // Behind something else, its mark comes back to it.
    let relay = Relay::start();
    let behind = setup(&relay.url(), &[]).start();
    relay.leads_to(&behind);
    for url in URLS {
        assert_eq!(told(&itself, url, &[]), looped());
        assert_eq!(told(&behind, url, &[]), looped());
        assert_eq!(relay.seen(), 1, "{url}");
    }
}

#[test]
fn two_proxies_behind_each_other_end_what_comes_back() {
    let relay = Relay::start();
    let second = setup(&relay.url(), &[]).start();
    let first = setup(&second.url(), &[second.ca()]).start();
    relay.leads_to(&first);
    for url in URLS {
        for version in ["--http1.1", "--http2"] {
            // Seen by the first when the second asks it: told inside of both tunnels.
            assert_eq!(told(&first, url, &[version]), looped(), "{url} {version}");
            assert_eq!(relay.seen(), 1, "{url}");
        }
    }
    // The other way the second does not know the first's authority, and trusts nobody it does not know.
    assert_eq!(told(&second, URLS[1], &[]), looped());
    assert_eq!(relay.seen(), 1);
    // Unopened, there is no tunnel to tell it in: CONNECT fails.
    let blind = told(&first, "https://blind.example.test/", &[]);
    assert!(
        blind.as_ref().is_err_and(|e| e.contains("508")),
        "{blind:?}"
    );
    assert_eq!(relay.seen(), 1);
    assert!(first.ledger().rows.is_empty() && second.ledger().rows.is_empty());
    assert!(
        first.stderr().contains("came through this proxy before"),
        "{}",
        first.stderr()
    );
}

/// Proxies behind each other that lead somewhere are none.
#[test]
fn three_proxies_in_a_row_are_no_circle() {
    let merchant = Merchant::start(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        Ok(After::Keep)
    });
    let mut third = setup("", std::slice::from_ref(&merchant.root));
    third.config["egress"]["upstream_proxy"] = json!(null);
    third.resolve("shop.stand.test:443", merchant.tls.port().into());
    let third = third.start();
    let second = setup(&third.url(), &[third.ca()]).start();
    let first = setup(&second.url(), &[second.ca()]).start();
    for _ in 0..2 {
        assert_eq!(told(&first, URLS[0], &[]), Ok((200, None)));
    }
    assert_eq!(merchant.seen().len(), 2);
    let unmarked = |seen: &Seen| seen.head.one("via").is_none();
    assert!(
        merchant.seen().iter().all(unmarked),
        "a merchant hears no mark"
    );
}

/// A merchant that takes the money and sends its client in a circle: `/a` to `/b` to `/a`.
#[test]
fn a_circle_of_paid_redirects_is_paid_ten_times_each() {
    let (merchant, mut setup) = shop::open(|seen, out| {
        let next = if seen.target == "/a" { "/b" } else { "/a" };
        let receipt = shop::receipt();
        write!(
            out,
            "HTTP/1.1 302 Found\r\nLocation: {next}\r\nPAYMENT-RESPONSE: {receipt}\r\nContent-Length: 0\r\n\r\n"
        )?;
        Ok(After::Keep)
    });
    setup.budget("1000 USD");
    let mut proxy = setup.start();
    let url = format!("https://{}/a", shop::HOST);
    let follow = |proxy: &Proxy| {
        let mut curl = proxy.curl(&url);
        let out = curl
            .args(["--location", "--max-redirs", "50"])
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let said = follow(&proxy);
    assert!(said.contains("\"reason\":\"payment_loop\""), "{said}");
    assert_eq!(shop::payments(&merchant).len(), 20);
    // Neither a second try nor a restart begins anew.
    for _ in 0..2 {
        let said = follow(&proxy);
        assert!(said.contains("\"reason\":\"payment_loop\""), "{said}");
        assert!(said.contains("\"retryable\":true"), "{said}");
        proxy.stop();
        proxy.start_again();
    }
    assert_eq!(shop::payments(&merchant).len(), 20);
    assert_eq!(proxy.ledger().rows.len(), 20);
}

/// What is delivered is bought as often as it is asked for, up to the limit.
#[test]
fn the_limit_on_identical_payments_is_the_operators() {
    let (merchant, mut setup) = shop::open(|_, out| shop::sell("premium", out));
    setup.config["limits"] = json!({ "identical_payments": "3/h" });
    let proxy = setup.start();
    let url = |n: u32| format!("https://{}/{n}", shop::HOST);
    let get = |n: u32| told(&proxy, &url(n), &[]).unwrap();
    for _ in 0..3 {
        assert_eq!(get(1), (200, None));
    }
    assert_eq!(get(1), (402, Some("payment_loop".into())));
    assert_eq!(get(2), (200, None));
    assert_eq!(shop::payments(&merchant).len(), 4);
    // Another limit is no fresh start.
    let text = std::fs::read_to_string(proxy.setup.file()).unwrap();
    let more = text.replace("3/h", "4/h");
    assert_ne!(more, text);
    std::fs::write(proxy.setup.file(), more).unwrap();
    proxy.reload();
    // Refused until then.
    until("the new limit", PATIENCE, || {
        (get(1) == (200, None)).then_some(())
    });
    assert_eq!(get(1), (402, Some("payment_loop".into())));
}
