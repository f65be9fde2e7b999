//! Which request rides which upstream connection, and under which name (threats T-03, T-14, T-15).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::certs::{self, ByName, authority};
use crate::support::curl::fetch;
use crate::support::merchant::{After, Merchant};
use crate::support::proxy::{Proxy, Setup};
use crate::support::until;
use crate::support::wire::{self, Names, Way};

const PATIENCE: Duration = Duration::from_secs(30);

const A: &str = "a.stand.test";
const B: &str = "b.stand.test";

/// A merchant of both names, one certificate for both, and fields that tell of other ways to it.
fn both() -> wire::Merchant {
    let root = authority("root", None, |_| {});
    let certificate = root.leaf(A, |params| {
        let names = [A, B].map(|n| rcgen::SanType::DnsName(n.try_into().unwrap()));
        params.subject_alt_names = names.to_vec();
    });
    let mut certificates = ByName::default();
    for name in [A, B] {
        let one =
            rustls::sign::CertifiedKey::new(certificate.cert.clone(), certificate.key.clone());
        certificates.add(name, one);
    }
    wire::Merchant::start(
        certs::server(certificates),
        &root.pem,
        &[
            ("alt-svc", "h3=\":443\"; ma=86400"),
            ("alt-svc", "h2=\"elsewhere.test:443\""),
            ("strict-transport-security", "max-age=31536000"),
        ],
    )
}

fn proxy_to(root: &std::path::Path, port: u16) -> Proxy {
    let mut setup = Setup::new();
    setup.root(root);
    for name in [A, B] {
        setup.resolve(&format!("{name}:443"), port.into());
        setup.resolve(&format!("{name}:8443"), port.into());
    }
    setup.start()
}

/// The proxy as the agent of a new session reaches it.
fn session(proxy: &Proxy, agent: &str) -> (String, Way) {
    let out = proxy.setup.run(&["session", "create", "--agent", agent]);
    assert!(out.status.success(), "{out:?}");
    let url = String::from_utf8(out.stdout).unwrap().trim().to_owned();
    let way = Way::of(&url, &proxy.ca());
    (url, way)
}

fn names(name: &str) -> Names<'_> {
    Names {
        connect: name,
        sni: name,
        host: name,
    }
}

#[test]
fn every_name_of_a_request_is_one_name() {
    let merchant = both();
    let proxy = proxy_to(&merchant.root, merchant.at.port());
    let (_, way) = session(&proxy, "liar");
    for h2 in [false, true] {
        for n in 0..8 {
            let pick = |bit: usize| if n >> bit & 1 == 0 { A } else { B };
            let names = Names {
                connect: pick(0),
                sni: pick(1),
                host: pick(2),
            };
            let before = merchant.got().len();
            let answer = way.get(names, h2);
            let forwarded = merchant.got().len() - before;
            let told = answer.as_ref().map(|a| a.status().as_u16());
            let right = match names {
                n if n.connect != n.sni => answer
                    .as_ref()
                    .is_err_and(|e| e.contains("handshake") && e.contains("UnrecognisedName")),
                n if n.connect != n.host => told == Ok(421),
                _ => told == Ok(200) && forwarded == 1,
            };
            let honest = names.connect == names.sni && names.connect == names.host;
            assert!(right, "{names:?}, h2 {h2}: {told:?}");
            assert_eq!(forwarded, usize::from(honest), "{names:?}, h2 {h2}");
        }
    }
}

#[test]
fn no_session_and_no_name_rides_on_anothers_connection() {
    let merchant = both();
    let proxy = proxy_to(&merchant.root, merchant.at.port());
    let (_, one) = session(&proxy, "one");
    let (_, two) = session(&proxy, "two");
    for h2 in [false, true] {
        let mut used: Vec<BTreeSet<usize>> = vec![];
        for (way, name) in [(&one, A), (&one, B), (&two, A), (&two, B)] {
            let mut own = BTreeSet::new();
            // Handed back once the proxy has seen that the agent is gone, which it need not at once.
            until("a connection to be used again", PATIENCE, || {
                assert_eq!(way.get(names(name), h2).unwrap().status(), 200);
                let got = merchant.got().pop().unwrap();
                assert_eq!(got.h2, h2, "the agent's version, also upstream");
                (!own.insert(got.connection)).then_some(())
            });
            for others in &used {
                assert!(
                    own.is_disjoint(others),
                    "{name}, h2 {h2}: {own:?}, {used:?}"
                );
            }
            used.push(own);
        }
    }
}

#[test]
fn tickets_are_not_shared_either() {
    // Closes after each answer: the next one needs a handshake.
    let merchant = Merchant::start(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")?;
        Ok(After::Close)
    });
    let proxy = proxy_to(&merchant.root, merchant.tls.port());
    let (one, _) = session(&proxy, "one");
    let (two, _) = session(&proxy, "two");
    let resumed = |url: &str, target: &str| {
        let mut curl = crate::support::curl::curl(url, &proxy.ca());
        curl.args(["--http1.1", target]);
        assert_eq!(fetch(curl).unwrap().status, 200);
        merchant.seen().last().unwrap().shaken.resumed
    };
    let (a, a8443, b) = (
        format!("https://{A}/"),
        format!("https://{A}:8443/"),
        format!("https://{B}/"),
    );
    assert!(!resumed(&one, &a), "the first time");
    assert!(resumed(&one, &a), "the same session and host");
    assert!(!resumed(&two, &a), "another session");
    assert!(resumed(&two, &a));
    assert!(!resumed(&one, &a8443), "another port");
    assert!(!resumed(&one, &b), "another name");
    assert!(resumed(&one, &a), "still");
}

#[test]
fn no_answer_shows_a_way_around_the_proxy() {
    let merchant = both();
    let proxy = proxy_to(&merchant.root, merchant.at.port());
    let (_, way) = session(&proxy, "one");
    for h2 in [false, true] {
        let answer = way.get(names(A), h2).unwrap();
        assert!(answer.headers().get("alt-svc").is_none(), "{answer:?}");
        assert_eq!(
            answer.headers()["strict-transport-security"],
            "max-age=31536000"
        );
    }
}

/// With Nagle's algorithm a second small write waits for the acknowledgement of the first, which the
/// other side delays by 40 ms.
#[test]
fn no_small_write_waits_for_an_acknowledgement() {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    const ROUNDS: usize = 60;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Answers in two small pieces, to requests that come in two small pieces.
    let pause = || crate::support::linger(Duration::from_millis(1));
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_nodelay(true).unwrap();
        let mut from = BufReader::new(socket.try_clone().unwrap());
        loop {
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                if from.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
            }
            from.read_exact(&mut [0; 4]).unwrap();
            socket
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
                .unwrap();
            pause();
            socket.write_all(b"ab").unwrap();
            pause();
            socket.write_all(b"cd").unwrap();
        }
    });
    let mut setup = Setup::new();
    setup.resolve(&format!("{A}:80"), port.into());
    let proxy = setup.start();
    let mut socket = TcpStream::connect(proxy.address()).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut from = BufReader::new(socket.try_clone().unwrap());
    let mut took = vec![];
    for _ in 0..ROUNDS {
        let begun = std::time::Instant::now();
        write!(
            socket,
            "POST http://{A}/ HTTP/1.1\r\nHost: {A}\r\nContent-Length: 4\r\n\r\n"
        )
        .unwrap();
        pause();
        socket.write_all(b"ab").unwrap();
        pause();
        socket.write_all(b"cd").unwrap();
        let answer = crate::support::http::read_answer(&mut from, "POST").unwrap();
        assert_eq!(answer.text(), "abcd");
        took.push(begun.elapsed());
    }
    // A connection is acknowledged eagerly when it is young; and a busy machine slows some rounds.
    let mut later = took.split_off(ROUNDS / 2);
    later.sort();
    let quarter = later[later.len() / 4];
    assert!(quarter < Duration::from_millis(30), "{later:?}");
}
