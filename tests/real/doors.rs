//! The ways in, besides plain TCP on loopback: a Unix socket, TLS to the proxy itself, and who is turned
//! away at each (threat S-05).

use std::fs::{self, Permissions};
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::certs::{Signer, authority};
use crate::support::curl;
use crate::support::http::{self, Answer};
use crate::support::proxy::{Proxy, Setup};
use crate::support::{needs, shop, tls, until};

const PATIENCE: Duration = Duration::from_secs(20);

/// A shop, and a proxy that listens at a socket besides.
fn with_socket(change: impl FnOnce(&mut Setup)) -> (crate::support::merchant::Merchant, Setup) {
    let (merchant, mut setup) = shop::open(|_, out| shop::sell("premium", out));
    setup.config["listen"]["proxy"] = json!(["unix:run/proxy.sock", "127.0.0.1:0"]);
    let run = setup.dir.path().join("run");
    fs::create_dir(&run).unwrap();
    fs::set_permissions(&run, Permissions::from_mode(0o755)).unwrap();
    change(&mut setup);
    (merchant, setup)
}

fn socket(setup: &Setup) -> PathBuf {
    setup.dir.path().join("run/proxy.sock")
}

/// One GET to the shop through the socket, by hand: CONNECT, TLS, the question.
fn get(proxy: &Proxy, credentials: Option<&str>) -> io::Result<Answer> {
    let stream = UnixStream::connect(socket(&proxy.setup))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let fields: Vec<(String, String)> = credentials
        .map(|c| ("Proxy-Authorization".to_owned(), format!("Basic {c}")))
        .into_iter()
        .collect();
    let config = tls::trusting(&proxy.ca(), &[]);
    let mut tls = match tls::tunnel(stream, (shop::HOST, &fields), config)? {
        Ok(tls) => tls,
        Err(answer) => return Ok(answer),
    };
    let host = [("Host".into(), shop::HOST.into())];
    http::write_head(&mut tls, "GET /x HTTP/1.1", &host)?;
    http::read_answer(&mut BufReader::new(tls), "GET")
}

/// curl cannot reach a proxy through a socket, so it is led there from a port of its own.
fn lead(path: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (tcp, _) = listener.accept().unwrap();
        let unix = UnixStream::connect(path).unwrap();
        let (mut back, mut forth) = (unix.try_clone().unwrap(), tcp.try_clone().unwrap());
        let way = std::thread::spawn(move || {
            let _ = io::copy(&mut forth, &mut back);
            let _ = back.shutdown(Shutdown::Write);
        });
        let _ = io::copy(&mut &unix, &mut &tcp);
        let _ = tcp.shutdown(Shutdown::Both);
        way.join().unwrap();
    });
    format!("http://{at}")
}

#[test]
fn a_socket_carries_paid_requests_and_is_the_users_alone() {
    let (merchant, setup) = with_socket(|_| {});
    let mut proxy = setup.start();
    let path = socket(&proxy.setup);
    let about = fs::symlink_metadata(&path).unwrap();
    assert!(about.file_type().is_socket());
    assert_eq!(about.mode() & 0o7777, 0o600);
    until("the word of it", Duration::from_secs(10), || {
        proxy.stderr().contains("run/proxy.sock").then_some(())
    });
    // Without credentials, as on loopback, the default session pays.
    let answer = get(&proxy, None).unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "premium"));
    // curl, a stranger.
    let mut command = curl::curl(&lead(path.clone()), &proxy.ca());
    command.arg(format!("https://{}/curl", shop::HOST));
    assert_eq!(curl::fetch(command).unwrap().text(), "premium");
    assert_eq!(shop::payments(&merchant).len(), 2);
    assert_eq!(proxy.ask_admin("/readyz").unwrap().status, 200);
    // Once somebody listens there, nobody takes the place.
    let (_other, mut second) = shop::open(|_, out| shop::sell("premium", out));
    second.config["listen"]["proxy"] = json!(format!("unix:{}", path.display()));
    second.write();
    let out = second.run(&["serve"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        !out.status.success() && said.contains("cannot listen on unix:"),
        "{said}"
    );
    assert!(proxy.stop().success());
    assert!(!path.exists());
    assert_eq!(proxy.ledger().sum(&["settled"]), 20_000);
}

#[test]
fn a_session_has_its_own_url_for_a_socket_and_run_says_what_it_needs() {
    let (_merchant, setup) = with_socket(|setup| {
        setup.config["listen"]["proxy"] = json!("unix:run/proxy.sock");
        setup.config["sessions"]["default"] = json!("none");
    });
    let proxy = setup.start();
    let path = socket(&proxy.setup);
    assert_eq!(proxy.entrance(), format!("unix:{}", path.display()));
    let made = proxy
        .setup
        .run(&["session", "create", "--agent", "bot", "--json"]);
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let url = made["proxy"].as_str().unwrap();
    let rest = url.strip_prefix("http+unix://bot:").unwrap();
    let (secret, place) = rest.split_once('@').unwrap();
    assert_eq!(place, path.to_str().unwrap().replace('/', "%2F"));
    let refused = get(&proxy, None).unwrap();
    assert_eq!(refused.status, 407);
    let other = base64(&format!("other:{secret}"));
    assert_eq!(
        get(&proxy, Some(&other)).unwrap().status,
        407,
        "not its agent"
    );
    let bot = base64(&format!("bot:{secret}"));
    assert_eq!(get(&proxy, Some(&bot)).unwrap().text(), "premium");
    // Nobody's browser comes in here.
    assert_eq!(proxy.ask_admin("/proxy.pac").unwrap().status, 404);
    let out = proxy
        .setup
        .command(&["run"])
        .args(["--", "true"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(
        said.contains("add a loopback address to `listen.proxy`"),
        "{said}"
    );
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn a_killed_proxy_leaves_a_socket_that_the_next_one_replaces() {
    let (_merchant, setup) = with_socket(|_| {});
    let mut proxy = setup.start();
    proxy.kill();
    assert!(socket(&proxy.setup).exists());
    proxy.start_again();
    assert_eq!(get(&proxy, None).unwrap().text(), "premium");
}

#[test]
fn a_socket_in_a_folder_that_everybody_may_change_is_not_opened() {
    let (_merchant, setup) = with_socket(|_| {});
    let run = setup.dir.path().join("run");
    fs::set_permissions(&run, Permissions::from_mode(0o777)).unwrap();
    setup.write();
    let out = setup.run(&["serve"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(
        said.contains("may be changed by others (mode 0777)"),
        "{said}"
    );
}

/// curl as this user, straight to the socket: what it gets tells whether it was served.
fn knock(user: u32, path: &Path) -> Output {
    Command::new("setpriv")
        .args(["--reuid", &user.to_string(), "--clear-groups"])
        .args(["curl", "--silent", "--show-error", "--max-time", "10"])
        .args(["--write-out", "%{http_code}", "--unix-socket"])
        .arg(path)
        .arg("http://shop.stand.test/")
        .output()
        .unwrap()
}

#[test]
fn a_socket_knows_its_users() {
    let root = rustix::process::geteuid().is_root();
    if needs(
        root.then_some(())
            .ok_or_else(|| "only root can be somebody else".to_owned()),
    )
    .is_none()
    {
        return;
    }
    let (merchant, setup) = with_socket(|setup| {
        setup.config["listen"]["allow_users"] = json!([4242]);
        let dir = setup.dir.path();
        fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
        setup.log = "info";
    });
    let mut proxy = setup.start();
    let path = socket(&proxy.setup);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o666);
    // Served, and told that this is no request to a proxy.
    let named = knock(4242, &path);
    let said = String::from_utf8_lossy(&named.stdout).into_owned();
    assert!(
        said.contains("not_a_proxy_request") && said.ends_with("400"),
        "{said}"
    );
    let stranger = knock(65534, &path);
    assert_eq!(String::from_utf8_lossy(&stranger.stdout), "000");
    until("a word about the stranger", Duration::from_secs(10), || {
        let log = proxy.stderr();
        (log.contains("65534") && log.contains("listen.allow_users")).then_some(())
    });
    assert_eq!(get(&proxy, None).unwrap().text(), "premium");
    assert_eq!(merchant.seen().len(), 2);
    proxy.stop();
    // Without the list the kernel turns them away already.
    proxy.setup.config["listen"]
        .as_object_mut()
        .unwrap()
        .remove("allow_users");
    proxy.setup.write();
    proxy.start_again();
    let stranger = knock(4242, &path);
    assert_eq!(stranger.status.code(), Some(7), "{stranger:?}");
}

/// A proxy that speaks TLS, and the authorities of both sides.
struct Secure {
    proxy: Proxy,
    _merchant: crate::support::merchant::Merchant,
    clients: Signer,
}

impl Secure {
    fn start(demand: bool) -> Self {
        let (merchant, mut setup) = shop::open(|_, out| shop::sell("premium", out));
        let (servers, clients) = (
            authority("servers", None, |_| {}),
            authority("clients", None, |_| {}),
        );
        let dir = setup.dir.path().to_owned();
        let (cert, key) = servers.server("127.0.0.1");
        for (name, text) in [
            ("servers.pem", &servers.pem),
            ("clients.pem", &clients.pem),
            ("door.pem", &cert),
            ("door-key.pem", &key),
        ] {
            fs::write(dir.join(name), text).unwrap();
            fs::set_permissions(dir.join(name), Permissions::from_mode(0o600)).unwrap();
        }
        let mut tls = json!({ "cert_file": "door.pem", "key_file": "door-key.pem" });
        if demand {
            tls["client_ca"] = json!("clients.pem");
            // All addresses, and no credentials: the certificate stands for them.
            setup.config["listen"]["proxy"] = json!("0.0.0.0:0");
        }
        setup.config["listen"]["tls"] = tls;
        setup.log = "info";
        Self {
            proxy: setup.start(),
            _merchant: merchant,
            clients,
        }
    }

    fn curl(&self, shown: Option<(String, String)>) -> Command {
        let mut curl = self.bare(shown);
        curl.arg(format!("https://{}/x", shop::HOST));
        curl
    }

    /// It asks for nothing yet.
    fn bare(&self, shown: Option<(String, String)>) -> Command {
        let at = self.proxy.entrance().replace("0.0.0.0", "127.0.0.1");
        let dir = self.proxy.setup.dir.path();
        let mut curl = curl::curl(&at, &self.proxy.ca());
        curl.arg("--proxy-cacert").arg(dir.join("servers.pem"));
        if let Some((cert, key)) = shown {
            fs::write(dir.join("agent.pem"), cert).unwrap();
            fs::write(dir.join("agent-key.pem"), key).unwrap();
            curl.arg("--proxy-cert").arg(dir.join("agent.pem"));
            curl.arg("--proxy-key").arg(dir.join("agent-key.pem"));
        }
        curl
    }

    /// Not served, and the log says why.
    #[track_caller]
    fn refuses(&self, shown: Option<(String, String)>, why: &str) {
        let refused = curl::fetch(self.curl(shown)).unwrap_err();
        until(&format!("{why:?} in the log"), PATIENCE, || {
            self.proxy.stderr().contains(why).then_some(())
        });
        assert!(refused.starts_with("curl: "), "{refused}");
    }
}

#[test]
fn a_proxy_behind_tls_lets_in_who_shows_a_good_certificate() {
    let secure = Secure::start(true);
    assert!(secure.proxy.entrance().starts_with("https://0.0.0.0:"));
    let good = secure.clients.client("agent");
    let answer = curl::fetch(secure.curl(Some(good.clone()))).unwrap();
    assert_eq!(answer.text(), "premium");
    assert_eq!(secure.proxy.ledger().sum(&["settled"]), 10_000);
    // As axios asks, which leaves the TLS to merchants to the proxy.
    let mut absolute = secure.bare(Some(good.clone()));
    absolute.args(["--request-target", &format!("https://{}/y", shop::HOST)]);
    absolute.arg(format!("http://{}/y", shop::HOST));
    assert_eq!(curl::fetch(absolute).unwrap().text(), "premium");
    secure.refuses(None, "peer sent no certificates");
    let stranger = authority("strangers", None, |_| {}).client("agent");
    secure.refuses(Some(stranger), "UnknownIssuer");
    let expired = secure.clients.expired_client("agent");
    secure.refuses(Some(expired), "certificate expired");
    let server = secure.clients.server("127.0.0.1");
    secure.refuses(Some(server), "does not allow extended key usage");
    // Words in the clear are no way in either.
    let port = secure
        .proxy
        .entrance()
        .rsplit_once(':')
        .unwrap()
        .1
        .to_owned();
    let mut clear = curl::curl(&format!("http://127.0.0.1:{port}"), &secure.proxy.ca());
    clear.arg(format!("https://{}/x", shop::HOST));
    curl::fetch(clear).unwrap_err();
    // Proxy credentials still name the session, certificate or not.
    let mut guess = secure.curl(Some(good));
    guess.args(["--proxy-user", "bot:wrong"]);
    assert!(curl::fetch(guess).unwrap_err().contains("407"));
    assert_eq!(secure.proxy.ledger().counted(), 20_000);
    let pac = secure.proxy.ask_admin("/proxy.pac").unwrap().text();
    assert!(
        pac.contains(&format!("\"HTTPS 127.0.0.1:{port}\"")),
        "{pac}"
    );
}

#[test]
fn tls_without_client_certificates_is_the_proxys_word_only() {
    let secure = Secure::start(false);
    assert_eq!(curl::fetch(secure.curl(None)).unwrap().text(), "premium");
    let made = secure
        .proxy
        .setup
        .run(&["session", "create", "--agent", "bot", "--json"]);
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let url = made["proxy"].as_str().unwrap();
    assert!(
        url.starts_with("https://bot:")
            && url.ends_with(&secure.proxy.entrance()["https://".len()..])
    );
    // Of h2 and http/1.1 the latter is spoken; h2 alone is not understood.
    let dir = secure.proxy.setup.dir.path();
    let alpn = |offer: &str| {
        let at = &secure.proxy.entrance()["https://".len()..];
        let out = Command::new("openssl")
            .args(["s_client", "-connect", at, "-alpn", offer, "-CAfile"])
            .arg(dir.join("servers.pem"))
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
    };
    assert!(alpn("h2,http/1.1").contains("ALPN protocol: http/1.1"));
    assert!(alpn("h2").contains("no application protocol"));
}

#[test]
fn a_door_with_the_wrong_papers_does_not_open() {
    let servers = authority("servers", None, |_| {});
    let (cert, key) = servers.server("127.0.0.1");
    let (_, other) = servers.server("127.0.0.1");
    let said = |cert: &str, key: &str, ca: &str, mode: u32| {
        let (_merchant, mut setup) = shop::open(|_, out| shop::sell("premium", out));
        let dir = setup.dir.path();
        for (name, text) in [("door.pem", cert), ("door-key.pem", key), ("ca.pem", ca)] {
            fs::write(dir.join(name), text).unwrap();
        }
        fs::set_permissions(dir.join("door-key.pem"), Permissions::from_mode(mode)).unwrap();
        setup.config["listen"]["tls"] = json!({
            "cert_file": "door.pem", "key_file": "door-key.pem", "client_ca": "ca.pem",
        });
        setup.write();
        let out = setup.run(&["serve"]);
        assert_eq!(out.status.code(), Some(2), "{out:?}");
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    let ca = &servers.pem;
    for (text, words) in [
        (said(&cert, &other, ca, 0o600), "does not belong to"),
        (
            said(&cert, &key, ca, 0o644),
            "door-key.pem is open to others",
        ),
        (
            said("nothing", &key, ca, 0o600),
            "door.pem: no PEM certificate",
        ),
        (
            said(&cert, "nothing", ca, 0o600),
            "door-key.pem: no PEM private key",
        ),
        (
            said(&cert, &key, "nothing", 0o600),
            "ca.pem: no PEM certificate",
        ),
    ] {
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn who_comes_from_elsewhere_is_not_served() {
    let (merchant, mut setup) = shop::open(|_, out| shop::sell("premium", out));
    setup.config["listen"]["allow_from"] = json!(["127.0.0.2/31"]);
    let proxy = setup.start();
    let from = |address: &str| {
        let mut curl = proxy.curl(&format!("https://{}/x", shop::HOST));
        curl.args(["--interface", address]);
        curl::fetch(curl)
    };
    for allowed in ["127.0.0.2", "127.0.0.3"] {
        assert_eq!(from(allowed).unwrap().text(), "premium", "{allowed}");
    }
    let seen = merchant.seen().len();
    for other in ["127.0.0.1", "127.0.0.4"] {
        from(other).unwrap_err();
        // Not a byte in answer.
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let here: std::net::SocketAddr = format!("{other}:0").parse().unwrap();
        socket.bind(&here.into()).unwrap();
        socket.connect(&proxy.address().into()).unwrap();
        let mut stream = std::net::TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream
            .write_all(b"GET http://shop.stand.test/ HTTP/1.1\r\nHost: shop.stand.test\r\n\r\n");
        let mut said = vec![];
        let _ = stream.read_to_end(&mut said);
        assert_eq!(said, b"", "{other}");
    }
    assert_eq!(merchant.seen().len(), seen);
}
