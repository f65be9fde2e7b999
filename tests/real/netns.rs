//! Agents that were told of no proxy, on hosts of their own: the network leads them to it.

use std::process::Output;
use std::sync::atomic::Ordering;

use serde_json::json;

use crate::support::curl::fetch;
use crate::support::http::Answer;
use crate::support::lab::{Lab, users};
use crate::support::proxy::Proxy;
use crate::support::stand::{self, Stand};

const SHOP: &str = "https://merchant.stand.test";

/// What TPROXY takes, and REDIRECT does without.
const TPROXY: &str = "-all,+net_admin,+net_raw";
const NONE: &str = "-all";

fn bought(lab: &Lab, proxy: &Proxy, family: &str) -> Answer {
    let mut curl = lab.curl(proxy, &format!("{SHOP}/v2/exact"));
    curl.arg(family);
    let answer = fetch(curl).unwrap();
    assert_eq!(answer.status, 200, "{family}: {}", answer.text());
    assert!(answer.text().contains("premium"), "{}", answer.text());
    assert!(answer.one("farepass-payment").is_some());
    answer
}

/// Buys over both families, and reads a free page in the clear.
fn leads_to_the_merchant(stand: &Stand, lab: &mut Lab, set: &str, host: &str, caps: &str) {
    lab.rules(set);
    let proxy = lab.setup(stand, host, caps).start();
    bought(lab, &proxy, "--ipv4");
    bought(lab, &proxy, "--ipv6");
    let free = fetch(lab.curl(&proxy, "http://merchant.stand.test/free")).unwrap();
    assert_eq!(free.status, 200, "{set}: {}", free.text());
    // The same page asked for by a name that nobody has.
    let mut curl = lab.curl(&proxy, "http://merchant.stand.test/free");
    curl.args(["--header", "Host: nowhere.stand.test"]);
    let lost = fetch(curl).unwrap();
    assert_eq!(lost.status, 502, "{set}: {}", lost.text());
    assert_eq!(lost.json()["reason"], "dns_error", "{set}");
    assert_eq!(stand.transfers(&proxy.payer()).len(), 2, "{set}");
    let books = proxy.ledger();
    assert!(
        books.rows.iter().all(|row| row["session"] == "default"),
        "{books:?}"
    );
}

fn told(out: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&out.stdout) + &text(&out.stderr)
}

#[test]
fn every_rule_set_beside_the_agent_leads_to_the_merchant() {
    let Some(stand) = stand::stand() else { return };
    let Some(mut lab) = Lab::up(stand) else {
        return;
    };
    let Some(()) = users() else { return };
    for (set, caps) in [
        ("sidecar-nft", NONE),
        ("sidecar-iptables", NONE),
        ("sidecar-lockdown", NONE),
        ("sidecar-deployed", NONE),
        ("sidecar-tproxy", TPROXY),
    ] {
        leads_to_the_merchant(stand, &mut lab, set, "agent", caps);
    }
}

#[test]
fn every_rule_set_on_a_gateway_leads_to_the_merchant() {
    let Some(stand) = stand::stand() else { return };
    let Some(mut lab) = Lab::up(stand) else {
        return;
    };
    for (set, caps) in [("gateway-redirect", NONE), ("gateway-tproxy", TPROXY)] {
        leads_to_the_merchant(stand, &mut lab, set, "proxy", caps);
    }
}

#[test]
fn clients_that_ignore_proxy_variables_pay() {
    let Some(stand) = stand::stand() else { return };
    let Some(mut lab) = Lab::up(stand) else {
        return;
    };
    let Some(python) = crate::support::python::python() else {
        return;
    };
    let Some(()) = users() else { return };
    lab.rules("sidecar-lockdown");
    let proxy = lab.setup(stand, "agent", NONE).start();
    let script = format!(
        r#"
(async () => {{
  const answer = await fetch("{SHOP}/v2/exact");
  console.log(answer.status, await answer.text());
}})();
"#
    );
    let mut node = lab.on("agent", "node");
    node.env("NODE_EXTRA_CA_CERTS", proxy.ca())
        .args(["-e", &script]);
    let script = format!(
        r#"
import asyncio, aiohttp, http.client, ssl
async def main():
    async with aiohttp.ClientSession() as session, session.get("{SHOP}/v2/exact") as answer:
        print(answer.status, await answer.text())
asyncio.run(main())
plain = http.client.HTTPSConnection("merchant.stand.test", context=ssl.create_default_context())
plain.request("GET", "/v1/exact")
print(plain.getresponse().read())
"#
    );
    let mut aiohttp = lab.on("agent", python.to_str().unwrap());
    aiohttp
        .env("SSL_CERT_FILE", proxy.ca())
        .args(["-c", &script]);
    for (mut client, pages) in [(node, 1), (aiohttp, 2)] {
        let out = client.output().unwrap();
        let said = told(&out);
        assert!(out.status.success(), "{said}");
        assert_eq!(said.matches("premium").count(), pages, "{said}");
    }
    assert_eq!(stand.transfers(&proxy.payer()).len(), 3);
    // What is not redirected does not leave at all.
    let mut curl = lab.curl(&proxy, "http://198.51.100.20:8443/");
    curl.args(["--max-time", "3"]);
    assert!(fetch(curl).is_err());
}

#[test]
fn a_name_and_a_chosen_address_lead_to_the_name() {
    let Some(stand) = stand::stand() else { return };
    let Some(mut lab) = Lab::up(stand) else {
        return;
    };
    lab.rules("gateway-redirect");
    let proxy = lab.setup(stand, "proxy", NONE).start();
    // The agent says whom it wants, and dials somebody else: it would be paid for, and go there.
    for family in [("198.51.100.21", "--ipv4"), ("[2001:db8:b::21]", "--ipv6")] {
        let mut curl = lab.curl(&proxy, &format!("{SHOP}/v2/exact"));
        curl.args([
            "--resolve",
            &format!("merchant.stand.test:443:{}", family.0),
        ]);
        let answer = fetch(curl).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains("premium"));
    }
    let mut curl = lab.curl(&proxy, "http://merchant.stand.test/free");
    curl.args(["--resolve", "merchant.stand.test:80:198.51.100.21"]);
    assert_eq!(fetch(curl).unwrap().status, 200);
    assert_eq!(
        lab.other.load(Ordering::SeqCst),
        0,
        "the chosen address was dialled"
    );
    assert!(lab.merchant.load(Ordering::SeqCst) > 0);
    // A `Host` or `:authority` that differs from the name in the ClientHello goes nowhere.
    for version in ["--http1.1", "--http2"] {
        let mut curl = lab.curl(&proxy, &format!("{SHOP}/free"));
        curl.args([version, "--header", "Host: other.stand.test"]);
        assert_eq!(fetch(curl).unwrap().status, 421, "{version}");
    }
    assert_eq!(lab.other.load(Ordering::SeqCst), 0);
}

/// HTTP/1.0 may name nobody. Then the address is whom it is for, to the policy too.
#[test]
fn without_a_name_in_the_clear_the_address_decides() {
    let Some(stand) = stand::stand() else { return };
    let Some(mut lab) = Lab::up(stand) else {
        return;
    };
    lab.rules("gateway-redirect");
    let proxy = lab.setup(stand, "proxy", NONE).start();
    let ask = |path: &str, version: &str| {
        let mut curl = lab.curl(&proxy, &format!("http://198.51.100.20{path}"));
        curl.args([version, "--header", "Host:"]);
        fetch(curl).unwrap()
    };
    let free = ask("/free", "--http1.0");
    assert_eq!(free.status, 200, "{}", free.text());
    // No rule pays the address, though one pays the name that is there.
    let paid = ask("/v2/exact", "--http1.0");
    assert_eq!(paid.status, 402, "{}", paid.text());
    assert_eq!(stand.transfers(&proxy.payer()).len(), 0);
    let nameless = ask("/free", "--http1.1");
    assert_eq!(nameless.status, 400, "{}", nameless.text());
    assert_eq!(nameless.json()["reason"], "host_field_invalid");
    // Empty lines first, in pieces.
    let script = r#"
import socket, time
wire = socket.create_connection(("198.51.100.20", 80), 10)
for piece in [b"\r", b"\n\r\n", b"GET /free HTTP/1.1\r\nHost: merchant.stand.test\r\nConnection: close\r\n\r\n"]:
    wire.sendall(piece)
    time.sleep(0.05)
print(wire.makefile("rb").readline())
"#;
    let mut python = lab.on("agent", "python3");
    let said = told(&python.args(["-c", script]).output().unwrap());
    assert!(said.contains("200 OK"), "{said}");
}

#[test]
fn a_name_that_changes_its_address_leads_to_no_other() {
    let Some(stand) = stand::stand() else { return };
    let Some(mut lab) = Lab::up(stand) else {
        return;
    };
    lab.rules("gateway-redirect");
    let mut setup = lab.setup(stand, "proxy", NONE);
    // No connection is kept, or it would hide the second answer.
    setup.config["limits"] = json!({ "pool_idle_timeout": "1ms" });
    let proxy = setup.start();
    // A resolver that says the merchant's address first, then the proxy's own loopback, and so on; and
    // what an agent would want to reach there.
    let mut resolver = lab.on("proxy", "python3");
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/netns/turncoat.py");
    let mut resolver = resolver
        .arg(script)
        .args(["198.51.100.20", "127.0.0.1"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = std::io::BufReader::new(resolver.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    assert_eq!(line, "ready\n");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..6 {
        let mut curl = lab.curl(&proxy, "http://turncoat.test/free");
        curl.args(["--resolve", "turncoat.test:80:198.51.100.20"]);
        let answer = fetch(curl).unwrap();
        assert!(!answer.text().contains("secret"), "{}", answer.text());
        seen.insert((
            answer.status,
            answer.json()["reason"].as_str().map(str::to_owned),
        ));
    }
    drop(resolver.stdin.take());
    assert!(resolver.wait().unwrap().success());
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut said, &mut rest).unwrap();
    assert!(!rest.contains("reached"), "{rest}");
    assert!(
        rest.contains("127.0.0.1"),
        "the second answer was never given: {rest}"
    );
    let refused = (403, Some("address_not_allowed".to_owned()));
    assert!(
        seen.contains(&refused) && seen.contains(&(200, None)),
        "{seen:?}"
    );
}

#[test]
fn nothing_inside_selects_a_session() {
    let Some(stand) = stand::stand() else { return };
    let Some(mut lab) = Lab::up(stand) else {
        return;
    };
    lab.rules("gateway-redirect");
    let proxy = lab.setup(stand, "proxy", NONE).start();
    let made = proxy
        .setup
        .run(&["session", "create", "--agent", "rich", "--json"]);
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let url = made["proxy"].as_str().unwrap();
    let credentials = url.trim_start_matches("http://").split('@').next().unwrap();
    let basic = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(credentials)
    };
    for url in [
        format!("{SHOP}/v2/exact"),
        "http://merchant.stand.test/free".into(),
    ] {
        let mut curl = lab.curl(&proxy, &url);
        curl.args(["--header", &format!("Proxy-Authorization: Basic {basic}")]);
        assert_eq!(fetch(curl).unwrap().status, 200, "{url}");
    }
    let books = proxy.ledger();
    assert_eq!(books.rows.len(), 1);
    assert_eq!(books.rows[0]["session"], "default");
}

#[test]
fn without_a_name_the_address_decides() {
    let Some(stand) = stand::stand() else { return };
    let Some(mut lab) = Lab::up(stand) else {
        return;
    };
    lab.rules("gateway-redirect");
    let mut setup = lab.setup(stand, "proxy", NONE);
    setup.config["tls"]["passthrough"] =
        json!(["other.stand.test", "198.51.100.22", "[2001:db8:b::22]"]);
    let proxy = setup.start();
    // TLS without a name: opened with a certificate for the address, and dialled by it. The merchant's
    // certificate is for a name, so that is where it ends.
    let answer = fetch(lab.curl(&proxy, "https://198.51.100.20/free")).unwrap();
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(answer.json()["reason"], "certificate_name");
    // On the list by name: the merchant's own certificate, unopened.
    let mut curl = lab.curl(&proxy, "https://other.stand.test/");
    curl.args(["--cacert"]).arg(stand.root());
    fetch(curl).unwrap();
    // On the list by address: a server that speaks first.
    for far in ["198.51.100.22", "2001:db8:b::22"] {
        assert!(say(&lab, far, b"EHLO\r\n").contains("220 "), "{far}");
    }
    // Neither TLS nor HTTP, and on no list.
    let before = lab.merchant.load(Ordering::SeqCst);
    for bytes in [
        &b"\0\0\0\0"[..],
        b"\x16\x03\x01\0\0",
        b"\x15\x03\x03\0\x02\x01\0",
    ] {
        assert_eq!(say(&lab, "198.51.100.20", bytes), "", "{bytes:?}");
    }
    // What begins as HTTP is answered as HTTP, by us.
    assert!(say(&lab, "198.51.100.20", b"SSH-2.0-x\r\n").starts_with("HTTP/1.1 400 "));
    let nobody = say(&lab, "198.51.100.20", b"GET / HTTP/1.1\r\n\r\n");
    assert!(nobody.contains("host_field_invalid"), "{nobody}");
    assert_eq!(lab.merchant.load(Ordering::SeqCst), before);
    // A hidden name passes no list of names: the visible one is opened, with our certificate.
    let hello = hello("other.stand.test", true);
    let opened = say(&lab, "198.51.100.21", &hello);
    assert!(opened.contains("Farepass"), "{opened:?}");
    assert!(
        !say(
            &lab,
            "198.51.100.21",
            &self::hello("other.stand.test", false)
        )
        .contains("Farepass")
    );
}

#[test]
fn connections_that_lead_back_end() {
    let Some(stand) = stand::stand() else { return };
    let Some(mut lab) = Lab::up(stand) else {
        return;
    };
    let Some(()) = users() else { return };
    lab.rules("sidecar-nft");
    let mut setup = lab.setup(stand, "agent", NONE);
    setup.config["tls"]["passthrough"] = json!(["198.51.100.22"]);
    setup.config["egress"]["allow_private"] = json!(["0.0.0.0/0", "::/0"]);
    setup.config["egress"]["ports"] = json!([443, 80, 4020, 4021, 4022]);
    // Whoever the redirect does not exempt: the proxy's own connections come back to it.
    setup.user = Some(4711);
    for word in setup.program.iter_mut().filter(|w| **w == "1337") {
        *word = "4711".into();
    }
    let proxy = setup.start();
    // Dialled without a redirect: a probe, or an agent that looks for a way in.
    for own in ["127.0.0.1", "::1"] {
        let told = say_to(
            &lab,
            own,
            4021,
            b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:4022\r\n\r\n",
        );
        assert_eq!(told, "", "{own}");
    }
    assert_eq!(say(&lab, "198.51.100.22", b"x\r\n"), "");
    assert!(
        proxy.stderr().contains("exempt its user"),
        "{}",
        proxy.stderr()
    );
    // TLS ends at the first turn: nobody believes our own authority.
    let answer = fetch(lab.curl(&proxy, &format!("{SHOP}/free"))).unwrap();
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(answer.json()["reason"], "certificate_unknown_root");
    // Plain HTTP at the second: the merchant never hears of it.
    let before = lab.merchant.load(Ordering::SeqCst);
    for _ in 0..3 {
        let answer = fetch(lab.curl(&proxy, "http://merchant.stand.test/free")).unwrap();
        assert_eq!(answer.status, 508, "{}", answer.text());
        assert_eq!(answer.json()["reason"], "loop_detected");
    }
    assert_eq!(lab.merchant.load(Ordering::SeqCst), before);
}

#[test]
fn own_listeners_are_no_destination_by_any_interface() {
    let Some(stand) = stand::stand() else { return };
    let Some(mut lab) = Lab::up(stand) else {
        return;
    };
    lab.rules("gateway-only");
    let mut setup = lab.setup(stand, "proxy", NONE);
    setup.config["listen"]["admin"] = json!("0.0.0.0:4022");
    setup.config["listen"]["proxy"] = json!("0.0.0.0:4020");
    setup.config["listen"]
        .as_object_mut()
        .unwrap()
        .remove("transparent");
    setup.config["sessions"]["default"] = json!("none");
    setup.config["egress"]["allow_private"] = json!(["0.0.0.0/0", "::/0"]);
    setup.config["egress"]["ports"] = json!([443, 80, 4020, 4022]);
    setup.config["egress"]["resolve"] = json!({ "pinned.stand.test:4022": "198.51.100.1:4022" });
    let proxy = setup.start();
    let made = proxy.setup.run(&["session", "create", "--json"]);
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let through = made["proxy"]
        .as_str()
        .unwrap()
        .replace("127.0.0.1", "192.0.2.1");
    let ask = |url: &str| {
        let mut curl = lab.curl(&proxy, url);
        curl.args(["--proxy", &through]);
        fetch(curl)
    };
    for own in [
        "192.0.2.1",
        "198.51.100.1",
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "[2001:db8:a::1]",
        "[::1]",
    ] {
        for port in [4020, 4022] {
            let answer = ask(&format!("http://{own}:{port}/healthz")).unwrap();
            assert_eq!(answer.status, 403, "{own}:{port}: {}", answer.text());
            assert_eq!(
                answer.json()["reason"],
                "address_not_allowed",
                "{own}:{port}"
            );
        }
    }
    let pinned = ask("http://pinned.stand.test:4022/healthz").unwrap();
    assert_eq!(pinned.status, 403, "{}", pinned.text());
    // The explicit proxy is the only way out, and it is one.
    assert_eq!(ask(&format!("{SHOP}/free")).unwrap().status, 200);
    assert!(fetch(lab.curl(&proxy, &format!("{SHOP}/free"))).is_err());
}

/// What a far host answers to these bytes, until it closes or falls silent.
fn say(lab: &Lab, host: &str, bytes: &[u8]) -> String {
    say_to(lab, host, 443, bytes)
}

fn say_to(lab: &Lab, host: &str, port: u16, bytes: &[u8]) -> String {
    let script = r"
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
s.settimeout(1)
heard = b''
try:
    s.sendall(bytes.fromhex(sys.argv[3]))
    while data := s.recv(65536): heard += data
except OSError: pass
sys.stdout.buffer.write(heard)
";
    let mut python = lab.on("agent", "python3");
    let out = python
        .args(["-c", script, host, &port.to_string(), &hex::encode(bytes)])
        .output()
        .unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A ClientHello that TLS 1.2 servers answer in the clear, certificate first.
fn hello(name: &str, encrypted: bool) -> Vec<u8> {
    let vector = |bytes: &[u8]| {
        [
            &u16::try_from(bytes.len()).unwrap().to_be_bytes()[..],
            bytes,
        ]
        .concat()
    };
    let extension = |kind: u16, data: &[u8]| [&kind.to_be_bytes()[..], &vector(data)].concat();
    let entry = [&[0][..], &vector(name.as_bytes())].concat();
    let mut extensions = vec![
        extension(0, &vector(&entry)),
        extension(10, &vector(&[0, 23])),
        extension(11, &[1, 0]),
        extension(13, &vector(&[4, 3, 8, 4, 4, 1])),
        extension(23, &[]),
    ];
    if encrypted {
        // The outer kind, one cipher suite, an id, a key and a payload.
        let parts = [
            &[0, 0, 1, 0, 1, 5][..],
            &vector(&[7; 32]),
            &vector(&[7; 96]),
        ];
        extensions.push(extension(0xfe0d, &parts.concat()));
    }
    let mut body = vec![3, 3];
    body.extend([9; 32]);
    body.push(0);
    body.extend(vector(&[0xc0, 0x2b, 0xc0, 0x2f]));
    body.extend([1, 0]);
    body.extend(vector(&extensions.concat()));
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1], &length[1..], &body].concat();
    [&[0x16, 3, 1][..], &vector(&message)].concat()
}
