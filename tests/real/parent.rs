//! Through a parent proxy: what it hears, what it may answer, and what never goes to it.

use std::fs;
use std::io::{self, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::support::curl::fetch;
use crate::support::http::{self, Head};
use crate::support::merchant::{Merchant, shop};
use crate::support::proxy::{Proxy, Setup};

/// A parent proxy: remembers what it was asked, then answers as told or opens the tunnel.
struct Parent {
    at: SocketAddr,
    heard: Arc<Mutex<Vec<Head>>>,
}

impl Parent {
    /// `answer`: its whole answer to CONNECT; without one it connects port 443 and 80 to the merchant.
    fn start(merchant: &Merchant, answer: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(vec![]));
        let (log, tls, plain) = (Arc::clone(&heard), merchant.tls, merchant.plain);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let log = Arc::clone(&log);
                std::thread::spawn(move || {
                    let _ = serve(socket, &log, answer, tls, plain);
                });
            }
        });
        Self { at, heard }
    }

    fn heard(&self) -> Vec<Head> {
        self.heard.lock().unwrap().clone()
    }

    fn url(&self) -> String {
        format!("http://{}", self.at)
    }
}

fn serve(
    mut client: TcpStream,
    log: &Mutex<Vec<Head>>,
    answer: Option<&str>,
    tls: SocketAddr,
    plain: SocketAddr,
) -> io::Result<()> {
    // One byte at a time: what follows the head is for the merchant.
    let head = http::read_head(&mut BufReader::with_capacity(1, &mut client))?;
    let head = head.unwrap_or_default();
    let first = head.first.clone();
    log.lock().unwrap().push(head);
    if let Some(answer) = answer {
        return client.write_all(answer.as_bytes());
    }
    let to = if first.contains(":80 ") { plain } else { tls };
    let mut far = TcpStream::connect(to)?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 parent\r\n\r\n")?;
    let (mut back, mut forth) = (far.try_clone()?, client.try_clone()?);
    let copy = std::thread::spawn(move || {
        let _ = io::copy(&mut back, &mut forth);
        let _ = forth.shutdown(Shutdown::Both);
    });
    let _ = io::copy(&mut client, &mut far);
    let _ = far.shutdown(Shutdown::Both);
    let _ = copy.join();
    Ok(())
}

fn setup(merchant: &Merchant, parent: serde_json::Value) -> Setup {
    let mut setup = Setup::new();
    setup.root(&merchant.root);
    setup.config["egress"]["upstream_proxy"] = parent;
    setup.config["rules"][0]["pay"]["insecure_http"] = json!(true);
    setup
}

fn get(proxy: &Proxy, url: &str) -> (u16, Option<String>) {
    let answer = fetch(proxy.curl(url)).unwrap();
    (answer.status, answer.reason())
}

#[test]
fn a_parent_hears_names_and_credentials_and_nothing_else() {
    let merchant = Merchant::start(shop);
    let parent = Parent::start(&merchant, None);
    let mut setup = setup(&merchant, json!(null));
    let secret = setup.dir.path().join("parent.secret");
    fs::write(&secret, "agent:correct horse\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    setup.config["egress"]["upstream_proxy"] =
        json!({ "url": parent.url(), "credentials_file": secret });
    setup.log = "trace";
    let proxy = setup.start();
    for version in ["--http1.1", "--http2"] {
        let mut curl = proxy.curl(&format!("https://shop.stand.test/{version}"));
        curl.arg(version);
        assert_eq!(fetch(curl).unwrap().status, 200);
    }
    // Plain http goes through a tunnel as well: what pays is not shown to the parent as a header.
    assert_eq!(get(&proxy, "http://plain.stand.test/x"), (200, None));
    assert_eq!(
        merchant
            .seen()
            .iter()
            .filter(|s| s.payment().is_some())
            .count(),
        3
    );
    let heard = parent.heard();
    let first: Vec<_> = heard.iter().map(|h| h.first.as_str()).collect();
    assert!(
        first.contains(&"CONNECT shop.stand.test:443 HTTP/1.1"),
        "{first:?}"
    );
    assert!(
        first.contains(&"CONNECT plain.stand.test:80 HTTP/1.1"),
        "{first:?}"
    );
    for head in &heard {
        let names: Vec<_> = head.fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["Host", "Via", "Proxy-Authorization"], "{head:?}");
        let via = head.one("via").unwrap();
        assert!(via.starts_with("1.1 farepass-") && via.len() == 29, "{via}");
        assert_eq!(
            head.one("proxy-authorization"),
            Some("Basic YWdlbnQ6Y29ycmVjdCBob3JzZQ==")
        );
    }
    let logs = proxy.stderr() + &proxy.stdout();
    assert!(
        !logs.contains("correct horse") && !logs.contains("YWdlbnQ6Y29"),
        "{logs}"
    );
}

#[test]
fn what_a_parent_answers_is_told_apart_and_never_paid() {
    const X402: &str = "HTTP/1.1 402 Payment Required\r\nPAYMENT-REQUIRED: eyJ4NDAyVmVyc2lvbiI6Mn0=\r\nContent-Length: 0\r\n\r\n";
    let merchant = Merchant::start(shop);
    for (answer, status, reason) in [
        (X402, 502, "parent_refused"),
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
            502,
            "parent_credentials",
        ),
        ("HTTP/1.0 403 Forbidden\r\n\r\n", 502, "parent_refused"),
        (
            "HTTP/1.1 302 Found\r\nLocation: https://login.test/\r\n\r\n",
            502,
            "parent_refused",
        ),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", 502, "parent_gateway"),
        (
            "HTTP/1.1 503 Service Unavailable\r\n\r\n",
            502,
            "parent_gateway",
        ),
        (
            "HTTP/1.1 504 Gateway Timeout\r\n\r\n",
            504,
            "parent_gateway",
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", 502, "parent_protocol_error"),
        ("", 502, "parent_protocol_error"),
    ] {
        let parent = Parent::start(&merchant, Some(answer));
        let proxy = setup(&merchant, json!(parent.url())).start();
        for url in ["https://shop.stand.test/x", "http://shop.stand.test/x"] {
            let told = get(&proxy, url);
            assert_eq!(told, (status, Some(reason.into())), "{url}: {answer}");
        }
        assert!(proxy.ledger().rows.is_empty(), "{answer}");
        assert_eq!(parent.heard().len(), 2, "asked once for each: {answer}");
    }
    assert!(merchant.seen().is_empty());
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let proxy = setup(&merchant, json!(url)).start();
    let told = get(&proxy, "https://shop.stand.test/x");
    assert_eq!(told, (502, Some("parent_unreachable".into())));
}

#[test]
fn some_hosts_go_around_the_parent_and_some_nowhere() {
    let merchant = Merchant::start(shop);
    let parent = Parent::start(&merchant, None);
    let mut setup = setup(
        &merchant,
        json!({ "url": parent.url(), "no_proxy": ["127.0.0.1", "direct.stand.test"] }),
    );
    setup.resolve("pinned.stand.test:443", merchant.tls.port().into());
    let proxy = setup.start();
    // A pin says where the host is, so nobody else is asked.
    assert_eq!(get(&proxy, "https://pinned.stand.test/x"), (200, None));
    // Directly means by the rules for that: no such name, no such address.
    let dns = Some("dns_error".into());
    assert_eq!(get(&proxy, "https://direct.stand.test/x"), (502, dns));
    let forbidden = (403, Some("address_not_allowed".to_owned()));
    assert_eq!(get(&proxy, "https://127.0.0.1/x"), forbidden);
    // What only means something near the parent is not asked of it.
    for near in [
        "10.1.2.3",
        "[::1]",
        "169.254.169.254",
        "printer",
        "db.internal",
        "x.localhost",
    ] {
        let mut curl = proxy.curl(&format!("https://{near}/x"));
        curl.args(["--noproxy", ""]);
        let answer = fetch(curl).unwrap();
        assert_eq!((answer.status, answer.reason()), forbidden, "{near}");
    }
    let port = Some("port_not_allowed".into());
    assert_eq!(get(&proxy, "https://shop.stand.test:8443/x"), (403, port));
    assert!(parent.heard().is_empty(), "{:?}", parent.heard());
    assert_eq!(get(&proxy, "https://shop.stand.test/x"), (200, None));
    assert!(!parent.heard().is_empty());
}

#[test]
fn the_environment_names_no_parent_unless_it_may() {
    let merchant = Merchant::start(shop);
    let parent = Parent::start(&merchant, None);
    for (allowed, heard) in [(json!(null), false), (json!("environment"), true)] {
        let mut setup = setup(&merchant, allowed);
        // Everything that names one, for the proxy itself.
        for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY"] {
            setup.env.push((name, parent.url().into()));
        }
        let proxy = setup.start();
        let told = get(&proxy, "https://shop.stand.test/x");
        let expected = match heard {
            true => (200, None),
            false => (502, Some("dns_error".to_owned())),
        };
        assert_eq!(told, expected);
        assert_eq!(!parent.heard().is_empty(), heard);
    }
}

#[test]
fn a_parents_password_is_in_a_file_of_its_own() {
    let merchant = Merchant::start(shop);
    for url in [
        "http://agent:hunter2@proxy.test:3128",
        "socks5://proxy.test:1080",
        "http://proxy.test",
    ] {
        let setup = setup(&merchant, json!(url));
        setup.write();
        let out = setup.run(&["check"]);
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert_eq!(out.status.code(), Some(2), "{said}");
        assert!(
            said.contains("egress.upstream_proxy") && !said.contains("hunter2"),
            "{said}"
        );
    }
    let mut setup = setup(&merchant, json!(null));
    let secret = setup.dir.path().join("parent.secret");
    fs::write(&secret, "agent:hunter2").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
    setup.config["egress"]["upstream_proxy"] =
        json!({ "url": "http://127.0.0.1:9", "credentials_file": secret });
    setup.write();
    let out = setup.run(&["serve"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(
        said.contains("chmod 600") && !said.contains("hunter2"),
        "{said}"
    );
}
