//! TLS as scanners see it, on both sides: versions, suites, renegotiation, early data, hidden names
//! (threats T-08, T-11, T-15). The other side is openssl, or bytes of our own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::certs::authority;
use crate::support::proxy::{Proxy, Setup};

const HOST: &str = "tls.stand.test";

/// A host that no connection is ever made to: these handshakes end before.
fn proxy() -> Proxy {
    let mut setup = Setup::new();
    setup.resolve(&format!("{HOST}:443"), 9);
    setup.start()
}

/// What `openssl s_client` says about a handshake through the proxy with these options.
fn s_client(proxy: &Proxy, options: &[&str], input: &str) -> String {
    let mut child = Command::new("openssl")
        .args([
            "s_client",
            "-connect",
            &format!("{HOST}:443"),
            "-servername",
            HOST,
        ])
        .args(["-proxy", &proxy.address().to_string(), "-CAfile"])
        .arg(proxy.ca())
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let out = child.wait_with_output().unwrap();
    let both = [out.stdout, out.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn agreed(said: &str) -> bool {
    said.contains("Verify return code: 0 (ok)") && !said.contains("Cipher is (NONE)")
}

#[test]
fn agents_get_good_versions_and_suites_or_nothing() {
    let proxy = proxy();
    for good in [
        &["-tls1_3"][..],
        &["-tls1_2"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"],
    ] {
        let said = s_client(&proxy, good, "");
        assert!(agreed(&said), "{good:?}: {said}");
        assert!(said.contains("Compression: NONE"), "{said}");
    }
    for bad in [
        "-tls1_1 -cipher ALL:@SECLEVEL=0",
        "-tls1 -cipher ALL:@SECLEVEL=0",
        // No forward secrecy, no authenticated encryption, no authentication.
        "-tls1_2 -cipher AES128-GCM-SHA256:@SECLEVEL=0",
        "-tls1_2 -cipher AES256-SHA:@SECLEVEL=0",
        "-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0",
        "-tls1_2 -cipher ECDHE-ECDSA-AES256-SHA384:@SECLEVEL=0",
        "-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0",
        "-tls1_2 -cipher DHE-RSA-AES256-GCM-SHA384:@SECLEVEL=0",
        "-tls1_2 -cipher aNULL:@SECLEVEL=0",
        "-tls1_2 -cipher PSK:@SECLEVEL=0 -psk 00",
    ] {
        let options: Vec<_> = bad.split(' ').collect();
        let said = s_client(&proxy, &options, "");
        assert!(!agreed(&said), "{bad}: {said}");
        assert!(
            said.contains("alert"),
            "told why, not only cut: {bad}: {said}"
        );
    }
}

#[test]
fn nothing_is_renegotiated_and_nothing_comes_early() {
    let proxy = proxy();
    // `R` on a line of its own asks for a renegotiation.
    let said = s_client(&proxy, &["-tls1_2"], "R\n");
    assert!(said.contains("RENEGOTIATING"), "{said}");
    assert!(
        ["no renegotiation", "alert", "unexpected", "closed", "error"]
            .iter()
            .any(|w| said.contains(w)),
        "{said}"
    );
    assert_eq!(
        said.matches("depth=0").count(),
        1,
        "one handshake only: {said}"
    );
    let said = s_client(&proxy, &["-tls1_3"], "");
    assert!(said.contains("Early data was not sent"), "{said}");
    let ticket = s_client(&proxy, &["-tls1_3", "-ign_eof"], "GET / HTTP/1.0\r\n\r\n");
    assert!(ticket.contains("Max Early Data: 0"), "{ticket}");
}

/// The answer to these bytes as the first ones inside a tunnel, until the other side closes.
fn hello(proxy: &Proxy, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    write!(
        stream,
        "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n"
    )
    .unwrap();
    let mut from = BufReader::with_capacity(1, stream.try_clone().unwrap());
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert!(from.read_line(&mut line).unwrap() > 0);
    }
    stream.write_all(bytes).unwrap();
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// A ClientHello of TLS 1.2 and 1.3 for this name, with more extensions.
fn client_hello(name: &str, more: &[u8], versions: &[u16]) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let extension = |kind: u16, body: &[u8]| [&kind.to_be_bytes()[..], &sized(body)].concat();
    let entry = [&[0][..], &sized(name.as_bytes())].concat();
    let versions: Vec<u8> = versions.iter().flat_map(|v| v.to_be_bytes()).collect();
    let versions = [&[u8::try_from(versions.len()).unwrap()][..], &versions].concat();
    let extensions = [
        extension(0, &sized(&entry)),
        extension(10, &sized(&[0, 0x17])),
        extension(13, &sized(&[4, 3, 8, 4])),
        extension(43, &versions),
        extension(51, &sized(&[])),
        more.to_vec(),
    ]
    .concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &sized(&[0x13, 1, 0xc0, 0x2b]),
        &[1, 0],
        &sized(&extensions),
    ]
    .concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let handshake = [&[1][..], &length[1..], &body].concat();
    [&[0x16, 3, 1][..], &sized(&handshake)].concat()
}

/// A fatal alert, and which.
fn alert(answer: &[u8]) -> Option<u8> {
    match answer {
        [0x15, 3, _, 0, 2, 2, which] => Some(*which),
        _ => None,
    }
}

#[test]
fn bytes_that_are_no_good_hello_get_an_alert_or_nothing() {
    const PROTOCOL_VERSION: u8 = 70;
    const UNRECOGNISED_NAME: u8 = 112;
    let proxy = proxy();
    // The base is right: a server's handshake comes back (a retry request, or its hello).
    let good = hello_answered(&proxy);
    assert_eq!(good, 0x16);
    for (versions, expected) in [
        (&[0x0302_u16, 0x0301][..], PROTOCOL_VERSION),
        (&[0x0300], PROTOCOL_VERSION),
    ] {
        let answer = hello(&proxy, &client_hello(HOST, &[], versions));
        assert_eq!(alert(&answer), Some(expected), "{versions:?}: {answer:?}");
    }
    // Encrypted ClientHello: the outer name is another's, and says so.
    // Outer; HKDF-SHA256 with AES-128-GCM; a configuration's number, no key, one byte of payload.
    let ech = [&[0xfe, 0x0d, 0, 11][..], &[0, 0, 1, 0, 1, 7, 0, 0, 0, 1, 9]].concat();
    let answer = hello(
        &proxy,
        &client_hello("public.example", &ech, &[0x0304, 0x0303]),
    );
    assert_eq!(alert(&answer), Some(UNRECOGNISED_NAME), "{answer:?}");
    // SSL 2.0, and a record that claims what it is not.
    for junk in [
        &[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10][..],
        &[0x16, 3, 1, 0, 5, 9, 9, 9, 9, 9],
    ] {
        let answer = hello(&proxy, junk);
        assert!(
            answer.is_empty() || alert(&answer).is_some(),
            "{junk:?}: {answer:?}"
        );
    }
}

/// The first byte of the answer to a hello that is as it should be.
fn hello_answered(proxy: &Proxy) -> u8 {
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    write!(
        stream,
        "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n"
    )
    .unwrap();
    let mut from = BufReader::with_capacity(1, stream.try_clone().unwrap());
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        from.read_line(&mut line).unwrap();
    }
    stream
        .write_all(&client_hello(HOST, &[], &[0x0304, 0x0303]))
        .unwrap();
    let mut first = [0];
    stream.read_exact(&mut first).unwrap();
    first[0]
}

/// `openssl s_server` with these options. Dropping it ends it.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(dir: &std::path::Path, options: &str) -> Self {
        let mut child = Command::new("openssl")
            .args([
                "s_server",
                "-accept",
                "127.0.0.1:0",
                "-www",
                "-cert",
                "leaf.pem",
                "-key",
                "leaf.key",
            ])
            .args(options.split(' '))
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let port = loop {
            let mut line = String::new();
            assert!(
                said.read_line(&mut line).unwrap() > 0,
                "s_server does not start: {options}"
            );
            if let Some(at) = line.trim().strip_prefix("ACCEPT ") {
                break at.rsplit_once(':').unwrap().1.parse().unwrap();
            }
        };
        // Read on, so that it is never blocked on a full pipe.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { child, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn upstreams_offer_good_versions_and_suites_or_are_not_used() {
    let mut setup = Setup::new();
    let root = authority("root", None, |_| {});
    let (leaf, key) = root.server(HOST);
    std::fs::write(setup.dir.path().join("leaf.pem"), leaf).unwrap();
    std::fs::write(setup.dir.path().join("leaf.key"), key).unwrap();
    let ca = setup.dir.path().join("root.pem");
    std::fs::write(&ca, &root.pem).unwrap();
    setup.root(&ca);
    let all = [
        ("-tls1_3", true),
        ("-tls1_2", true),
        ("-tls1_2 -cipher ECDHE-ECDSA-AES256-GCM-SHA384", true),
        ("-tls1_1 -cipher ALL:@SECLEVEL=0", false),
        ("-tls1 -cipher ALL:@SECLEVEL=0", false),
        ("-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0", false),
        (
            "-tls1_2 -cipher ECDHE-ECDSA-AES256-SHA384:@SECLEVEL=0",
            false,
        ),
        ("-tls1_2 -cipher aNULL:@SECLEVEL=0", false),
    ];
    let servers: Vec<_> = all
        .iter()
        .map(|(options, good)| (Server::start(setup.dir.path(), options), options, good))
        .collect();
    for (number, (server, ..)) in servers.iter().enumerate() {
        setup.resolve(&format!("{HOST}:{}", 8000 + number), server.port.into());
    }
    let proxy = setup.start();
    for (number, (_, options, good)) in servers.iter().enumerate() {
        let answer = proxy.get(&format!("https://{HOST}:{}/", 8000 + number));
        let told = (answer.status, answer.reason());
        let expected = match good {
            true => (200, None),
            false => (502, Some("tls_error".to_owned())),
        };
        assert_eq!(told, expected, "{options}");
    }
}

/// Threat T-04: refused before any key is touched.
#[test]
fn no_certificate_is_made_for_a_name_that_is_none() {
    let proxy = proxy();
    let long = format!("{}.test", "a.".repeat(125));
    let names = [
        "a\0b.test",
        "a\u{1}.test",
        "a b.test",
        "-a.test",
        "a-.test",
        "a..test",
        "*.test",
        "a/b.test",
        "b\u{fc}cher.test",
        "0x7f.1",
        "2130706433",
        "a%00.test",
        &"a".repeat(64),
        &long,
    ];
    for name in names {
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        write!(stream, "CONNECT {name}:443 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = vec![];
        let _ = stream.read_to_end(&mut answer);
        let said = String::from_utf8_lossy(&answer).into_owned();
        assert!(said.starts_with("HTTP/1.1 400 "), "{name:?}: {said}");
    }
    let metrics = proxy.ask_admin("/metrics").unwrap().text();
    assert!(
        metrics.contains("\nfarepass_leaf_certificates_cached 0\n"),
        "{metrics}"
    );
    s_client(&proxy, &[], "");
    let metrics = proxy.ask_admin("/metrics").unwrap().text();
    assert!(
        metrics.contains("\nfarepass_leaf_certificates_cached 1\n"),
        "{metrics}"
    );
}
