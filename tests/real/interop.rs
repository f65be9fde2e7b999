//! Official x402 servers, an official facilitator, a real chain, and curl that knows only a proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::curl::fetch;
use crate::support::http::Answer;
use crate::support::merchant::{After, Merchant};
use crate::support::proxy::{Proxy, Setup};
use crate::support::sha256;
use crate::support::stand::{Stand, request, stand};

const SHOP: &str = "https://merchant.stand.test";
const LIAR: &str = "https://hostile.stand.test";

/// Ledger, merchant and chain tell the same story, to the unit and to the nonce.
pub(crate) fn assert_agreement(stand: &Stand, proxy: &Proxy) -> u128 {
    let books = proxy.ledger();
    let taken: u128 = stand
        .transfers(&proxy.payer())
        .iter()
        .map(|(_, value)| value)
        .sum();
    assert_eq!(
        books.sum(&["settled"]),
        taken,
        "settled in the ledger, moved on the chain: {books:?}"
    );
    assert_eq!(stand.balance(&proxy.payer()), 1_000_000_000 - taken);
    let seen: BTreeSet<String> = stand
        .paid_by(&proxy.payer())
        .iter()
        .map(|(_, t)| t.nonce.to_ascii_lowercase())
        .collect();
    assert_eq!(
        seen,
        books.nonces().into_iter().collect(),
        "nonces at the merchant, in the ledger"
    );
    proxy.assert_verifies();
    taken
}

fn payment_header(answer: &Answer) -> String {
    answer
        .one("farepass-payment")
        .unwrap_or_else(|| panic!("no Farepass-Payment: {answer:?}"))
        .to_owned()
}

#[test]
fn curl_buys_from_both_versions() {
    let Some(stand) = stand() else { return };
    let proxy = stand.setup().start();
    let before = stand.balance(&stand.address("merchant"));
    for (path, amount, receipt) in [
        ("/v1/exact", "10000", "x-payment-response"),
        ("/v2/exact", "10000", "payment-response"),
    ] {
        let answer = proxy.get(&format!("{SHOP}{path}"));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(answer.json()["data"], "premium", "{path}");
        assert!(
            answer.one(receipt).is_some(),
            "{path}: the merchant's receipt is untouched"
        );
        let header = payment_header(&answer);
        for part in [
            format!("; amount=\"{amount}\""),
            "; asset=\"USDC\"".into(),
            "; network=\"eip155:84532\"".into(),
            "; charged=\"0.01 USD\"".into(),
            "; transaction=\"0x".into(),
        ] {
            assert!(header.contains(&part), "{path}: {part} is not in {header}");
        }
    }
    let mut post = proxy.curl(&format!("{SHOP}/v2/echo"));
    post.args([
        "--data",
        r#"{"city":"Zürich"}"#,
        "--header",
        "Content-Type: application/json",
    ]);
    let answer = fetch(post).unwrap();
    assert_eq!(
        (answer.status, answer.json()["method"].clone()),
        (200, json!("POST"))
    );
    assert_eq!(answer.json()["body"], r#"{"city":"Zürich"}"#);
    assert!(
        payment_header(&answer).contains("; remaining=\"0.96 USD\""),
        "{answer:?}"
    );

    assert_eq!(assert_agreement(stand, &proxy), 40_000);
    assert!(stand.balance(&stand.address("merchant")) >= before + 40_000);
    let rows = proxy.ledger().rows;
    assert_eq!(rows.len(), 3);
    for row in rows {
        for (key, want) in [
            ("state", json!("settled")),
            ("host", json!("merchant.stand.test")),
            ("scheme", json!("exact")),
            ("network", json!("eip155:84532")),
            ("rule", json!("stand")),
            ("wallet", json!("main")),
            ("receipt", json!("claimed")),
            ("confirmed", json!(false)),
        ] {
            assert_eq!(row[key], want, "{key} of {row}");
        }
        assert!(
            row["transaction"]
                .as_str()
                .is_some_and(|t| t.starts_with("0x")),
            "{row}"
        );
    }
}

#[test]
fn a_paid_stream_arrives_as_it_is_sent() {
    let Some(stand) = stand() else { return };
    let proxy = stand.setup().start();
    let mut curl = proxy.curl(&format!("{SHOP}/v2/sse-live?n=6&ms=150"));
    let mut child = curl.stdout(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    let mut at = vec![];
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        if line.unwrap().starts_with("data: {") {
            at.push(begun.elapsed());
        }
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(at.len(), 6);
    let spread = at[5] - at[0];
    assert!(
        spread > Duration::from_millis(500),
        "six events in {spread:?}: they were held back"
    );
    assert_eq!(assert_agreement(stand, &proxy), 10_000);
}

#[test]
fn what_is_free_leaves_no_trace() {
    let Some(stand) = stand() else { return };
    let proxy = stand.setup().start();
    let state = || -> Vec<(String, u64, [u8; 32])> {
        let entries = std::fs::read_dir(proxy.setup.state())
            .unwrap()
            .map(|e| e.unwrap());
        let mut files: Vec<_> = entries
            .filter(|e| e.path().is_file())
            .map(|e| {
                let bytes = std::fs::read(e.path()).unwrap();
                (
                    e.file_name().to_string_lossy().into_owned(),
                    bytes.len() as u64,
                    sha256(&bytes),
                )
            })
            .collect();
        files.sort();
        files
    };
    proxy.get(&format!("{SHOP}/free"));
    let before = state();
    let free = proxy.get(&format!("{SHOP}/free"));
    assert_eq!(
        (free.status, free.text().as_str()),
        (200, r#"{"ok":true,"free":true}"#)
    );
    assert_eq!(free.one("farepass-payment"), None);
    assert_eq!(proxy.get(&format!("{SHOP}/plain-401")).status, 401);
    assert_eq!(state(), before, "a free request wrote something");
    assert!(proxy.ledger().rows.is_empty());
}

#[test]
fn two_hundred_at_once_under_a_cap_for_37() {
    let Some(stand) = stand() else { return };
    let mut setup = stand.setup();
    setup.budget("0.37 USD");
    // 200 handshakes at once keep one small machine busy: let nothing time out.
    setup.config["limits"] =
        json!({ "handshake_timeout": "2m", "connect_timeout": "2m", "upstream_total": "2m" });
    let proxy = setup.start();
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let one = || {
            let mut curl = proxy.curl(&format!("{SHOP}/v2/exact"));
            curl.args(["--max-time", "180"]);
            fetch(curl).unwrap()
        };
        let sent: Vec<_> = (0..200).map(|_| scope.spawn(one)).collect();
        sent.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let paid = answers.iter().filter(|a| a.status == 200).count();
    let refused: Vec<_> = answers.iter().filter(|a| a.status == 402).collect();
    let mut kinds: BTreeMap<(u16, Option<String>), usize> = BTreeMap::new();
    for answer in &answers {
        *kinds.entry((answer.status, answer.reason())).or_default() += 1;
    }
    let paid_or_refused = [(200, None), (402, Some("over_session_cap".to_owned()))];
    assert!(kinds.keys().eq(paid_or_refused.iter()), "{kinds:?}");
    assert_eq!((paid, refused.len()), (37, 163));
    for answer in refused {
        let body = answer.json();
        for (key, want) in [
            ("type", json!("urn:farepass:denied:over-session-cap")),
            ("status", json!(402)),
            ("reason", json!("over_session_cap")),
            ("rule", json!("stand")),
            ("price", json!("0.01 USD")),
            ("limit", json!("0.37 USD")),
            ("retryable", json!(false)),
        ] {
            assert_eq!(body[key], want, "{key} of {body}");
        }
        for key in ["title", "detail", "remaining"] {
            assert!(
                body[key].as_str().is_some_and(|t| !t.is_empty()),
                "{key} of {body}"
            );
        }
        assert_eq!(answer.one("content-type"), Some("application/problem+json"));
        let decision = answer.one("farepass-decision").unwrap_or_default();
        assert!(
            decision.starts_with("denied; reason=\"over_session_cap\""),
            "{decision}"
        );
        let status = answer.one("proxy-status").unwrap_or_default();
        assert!(
            status.starts_with("farepass; error=http_request_denied"),
            "{status}"
        );
    }
    assert_eq!(assert_agreement(stand, &proxy), 370_000);
    let denied = proxy
        .events()
        .iter()
        .filter(|e| e["event"] == "denied")
        .count();
    assert_eq!(denied, 163, "one event per refusal");
}

#[test]
fn the_cheapest_allowed_way_is_paid() {
    let Some(stand) = stand() else { return };
    let proxy = stand.setup().start();
    assert_eq!(proxy.get(&format!("{SHOP}/v2/multi")).status, 200);
    assert_eq!(
        assert_agreement(stand, &proxy),
        10_000,
        "not 0.03 by Permit2, not 0.02"
    );
}

#[test]
fn a_big_paid_answer_is_byte_for_byte() {
    let Some(stand) = stand() else { return };
    let proxy = stand.setup().start();
    let answer = proxy.get(&format!("{SHOP}/v2/big?kb=3000"));
    assert_eq!((answer.status, answer.body.length), (200, 3000 * 1024));
    assert_eq!(
        answer.body.sha256,
        hex::encode(sha256(&vec![0x61; 3000 * 1024]))
    );
}

#[test]
fn http2_on_both_sides() {
    let Some(stand) = stand() else { return };
    let proxy = stand.setup().start();
    let mut curl = proxy.curl(&format!("{LIAR}/honest?id=h2"));
    curl.args(["--http2", "--write-out", "\n%{stderr}%{http_version}"]);
    let answer = fetch(curl).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let hits = stand.paid_by(&proxy.payer());
    assert_eq!(hits.len(), 1);
    assert_eq!(hits[0].0["http"], "2.0", "the merchant speaks HTTP/2");
    let mut old = proxy.curl(&format!("{LIAR}/honest?id=h1"));
    old.arg("--http1.1");
    assert_eq!(fetch(old).unwrap().status, 200);
    assert_eq!(assert_agreement(stand, &proxy), 20_000);
}

#[test]
fn some_hosts_are_passed_through_some_refused() {
    let Some(stand) = stand() else { return };
    let mut setup = stand.setup();
    setup.config["tls"]["passthrough"] = json!(["other.stand.test"]);
    setup.config["rules"] = json!([
        { "name": "never", "match": { "hosts": ["hostile.stand.test"], "paths": ["/always-402"] }, "deny": true },
        { "name": "reports", "match": { "hosts": ["merchant.stand.test"], "paths": ["/v2/**"], "methods": ["GET"] }, "pay": { "max": "0.05 USD" } },
    ]);
    let proxy = setup.start();

    // Blind: the merchant's own certificate, its own 402, nothing of ours.
    let mut blind = proxy.curl("https://other.stand.test/honest?id=blind");
    blind.env("CURL_CA_BUNDLE", stand.root());
    let answer = fetch(blind).unwrap();
    assert_eq!(answer.status, 402);
    assert!(answer.one("payment-required").is_some());
    assert!(
        !answer
            .fields
            .iter()
            .any(|(n, _)| n.to_ascii_lowercase().starts_with("farepass"))
    );

    let refused = |url: String, method: &str, reason: &str| {
        let mut curl = proxy.curl(&url);
        curl.args(["--request", method]);
        let answer = fetch(curl).unwrap();
        assert_eq!(
            (answer.status, answer.reason().as_deref()),
            (402, Some(reason)),
            "{url}"
        );
    };
    refused(
        format!("{LIAR}/always-402?id=denied"),
        "GET",
        "denied_by_rule",
    );
    refused(
        format!("{LIAR}/honest?id=unlisted"),
        "GET",
        "host_not_allowed",
    );
    refused(format!("{SHOP}/v1/exact"), "GET", "host_not_allowed");
    refused(format!("{SHOP}/v2/echo"), "POST", "host_not_allowed");
    refused(format!("{SHOP}/v2/price/6"), "GET", "over_request_cap");
    assert_eq!(proxy.get(&format!("{SHOP}/v2/price/5")).status, 200);
    assert_eq!(assert_agreement(stand, &proxy), 50_000);
}

#[test]
fn a_failure_after_payment_is_counted_once() {
    let Some(stand) = stand() else { return };
    let proxy = stand.setup().start();
    let answer = proxy.get(&format!("{SHOP}/v2/upfront-500"));
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (500, r#"{"error":"after payment"}"#)
    );
    assert_eq!(assert_agreement(stand, &proxy), 10_000);

    // Verified, never settled: the merchant still holds a good signature.
    let answer = proxy.get(&format!("{SHOP}/v2/handler-500"));
    assert_eq!(answer.status, 500);
    let books = proxy.ledger();
    assert_eq!(
        (books.sum(&["settled"]), books.sum(&["unknown"])),
        (10_000, 10_000)
    );
}

#[test]
fn a_settlement_that_goes_wrong_is_signed_once_and_counted() {
    let Some(stand) = stand() else { return };
    for kind in ["settle-then-500", "http500", "hang", "pending", "fail"] {
        let mut setup = stand.setup();
        setup.budget("0.015 USD");
        setup.config["limits"] = json!({ "upstream_total": "2s" });
        let proxy = setup.start();
        stand.fault(kind, &proxy.payer());
        let answer = proxy.get(&format!("{SHOP}/v2/exact"));
        let reason = answer
            .reason()
            .unwrap_or_else(|| panic!("{kind}: {answer:?}"));
        let ours = ["already_paid", "outcome_unknown"].contains(&reason.as_str());
        assert!(
            ours || answer.status == 504,
            "{kind}: {} {reason}",
            answer.status
        );

        let nonces: BTreeSet<_> = stand
            .paid_by(&proxy.payer())
            .into_iter()
            .map(|(_, t)| t.nonce)
            .collect();
        assert_eq!(nonces.len(), 1, "{kind}: signed more than once");
        let books = proxy.ledger();
        assert_eq!(books.sum(&["unknown"]), 10_000, "{kind}: {books:?}");
        let taken: u128 = stand
            .transfers(&proxy.payer())
            .iter()
            .map(|(_, value)| value)
            .sum();
        assert!(books.counted() >= taken, "{kind}: {taken} taken");

        // It counts: another page no longer fits into the session.
        let next = proxy.get(&format!("{SHOP}/v2/multi"));
        assert_eq!(
            (next.status, next.reason().as_deref()),
            (402, Some("over_session_cap")),
            "{kind}"
        );
        proxy.assert_verifies();
    }
}

#[test]
fn a_named_session_has_its_own_budget() {
    let Some(stand) = stand() else { return };
    let setup = stand.setup();
    setup.write();
    let out = setup.run(&[
        "session",
        "create",
        "--agent",
        "scout",
        "--budget",
        "0.02 USD",
        "--expires",
        "10m",
        "--json",
    ]);
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let made: Value = serde_json::from_slice(&out.stdout).unwrap();
    let url = made["proxy"]
        .as_str()
        .or(made["url"].as_str())
        .unwrap_or_else(|| panic!("{made}"));
    let credentials = url
        .split_once("://")
        .unwrap()
        .1
        .rsplit_once('@')
        .unwrap()
        .0
        .to_owned();
    let proxy = setup.start();
    let get = |credentials: &str| {
        let mut curl = proxy.curl(&format!("{SHOP}/v2/exact"));
        let with = format!("http://{credentials}@{}", proxy.address());
        curl.env("HTTPS_PROXY", &with);
        fetch(curl)
    };
    assert_eq!(get(&credentials).unwrap().status, 200);
    assert_eq!(get(&credentials).unwrap().status, 200);
    let third = get(&credentials).unwrap();
    assert_eq!(
        (third.status, third.reason().as_deref()),
        (402, Some("over_session_cap"))
    );
    // A wrong secret opens no tunnel, and the default session is untouched by all this.
    assert!(get("scout:wrong").unwrap_err().contains("407"));
    assert!(
        payment_header(&proxy.get(&format!("{SHOP}/v2/exact"))).contains("remaining=\"0.99 USD\"")
    );
    let scouts = proxy
        .ledger()
        .rows
        .iter()
        .filter(|r| r["agent"] == "scout")
        .count();
    assert_eq!(scouts, 2);
    assert_eq!(assert_agreement(stand, &proxy), 30_000);
}

#[test]
fn a_tunnel_has_one_name() {
    let Some(stand) = stand() else { return };
    let proxy = stand.setup().start();
    for version in ["--http1.1", "--http2"] {
        let mut curl = proxy.curl(&format!("{LIAR}/honest?id=name"));
        curl.args([version, "--header", "Host: merchant.stand.test"]);
        let answer = fetch(curl).unwrap();
        assert_eq!(answer.status, 421, "{version}: {}", answer.text());
    }
    assert!(stand.paid_by(&proxy.payer()).is_empty());
}

#[test]
fn plain_http_is_carried_but_not_paid() {
    let Some(stand) = stand() else { return };
    let proxy = stand.setup().start();
    let free = proxy.get("http://merchant.stand.test/free");
    assert_eq!(
        (free.status, free.json()["free"].clone()),
        (200, json!(true))
    );
    let asked = proxy.get("http://merchant.stand.test/v2/exact");
    assert_eq!(
        (asked.status, asked.reason().as_deref()),
        (402, Some("insecure_transport"))
    );
    assert_eq!(assert_agreement(stand, &proxy), 0);
}

#[test]
fn one_connection_carries_many_requests() {
    let Some(stand) = stand() else { return };
    let proxy = stand.setup().start();
    for version in ["--http1.1", "--http2"] {
        let url = |n: usize| format!("{SHOP}/v2/cheap?n={n}");
        let mut curl = proxy.curl(&url(0));
        curl.args((1..10).map(url))
            .arg(version)
            .args(["--write-out", "%{stderr}%{num_connects} "]);
        let out = curl.output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert_eq!(said.matches("premium").count(), 10, "{version}: {said}");
        let connects = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(
            connects.trim().replace(' ', ""),
            "1000000000",
            "{version}: new connections"
        );
    }
    assert_eq!(assert_agreement(stand, &proxy), 20);
}

#[test]
fn nobody_reaches_the_admin_surface_through_the_proxy() {
    let mut setup = Setup::new();
    // The worst configuration: this machine and the very port are allowed.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    setup.config["listen"]["admin"] = json!(free.to_string());
    setup.config["egress"]["ports"] = json!([80, 443, free.port()]);
    setup.config["egress"]["allow_private"] = json!(["127.0.0.0/8", "::1/128"]);
    setup.resolve("inside.stand.test:80", free.port().into());
    let proxy = setup.start();
    assert_eq!(proxy.ask_admin("/healthz").unwrap().status, 200);
    for host in [
        "127.0.0.1",
        "127.0.0.2",
        "localhost",
        "[::ffff:127.0.0.1]",
        "127.1",
        "2130706433",
    ] {
        let url = format!("http://{host}:{}/healthz", free.port());
        for tunnel in [false, true] {
            let mut curl = proxy.curl(&url);
            curl.args(["--globoff", "--noproxy", ""]);
            if tunnel {
                curl.arg("--proxytunnel");
            }
            if let Ok(answer) = fetch(curl) {
                assert!(
                    !(200..400).contains(&answer.status),
                    "{url}: {}",
                    answer.status
                );
                // An unusual spelling is refused before anybody asks where it leads.
                let refused = answer.reason().is_some() || answer.status == 400;
                assert!(refused, "{url}: {}", answer.text());
            }
        }
    }
    let answer = proxy.get("http://inside.stand.test/healthz");
    assert!(
        !(200..400).contains(&answer.status),
        "by a pinned name: {}",
        answer.status
    );
}

#[test]
fn certificate_and_auto_configuration_are_public_on_the_admin_listener_alone() {
    let proxy = Setup::new().start();
    let certificate = proxy.ask_admin("/ca.pem").unwrap();
    let file = std::fs::read_to_string(proxy.ca()).unwrap();
    assert_eq!((certificate.status, certificate.text()), (200, file));
    let pac = proxy.ask_admin("/proxy.pac").unwrap();
    assert_eq!(pac.status, 200);
    assert_eq!(
        pac.one("content-type"),
        Some("application/x-ns-proxy-autoconfig")
    );
    let at = proxy.address();
    let expected = format!("function FindProxyForURL(url, host) {{ return \"PROXY {at}\"; }}\n");
    assert_eq!(pac.text(), expected);
    let stolen = proxy.ask_admin("/ca-key.pem").unwrap();
    assert_eq!(stolen.status, 404);
    for path in ["/ca.pem", "/proxy.pac"] {
        let port = proxy.address().port();
        let plane = request(port, "GET", path, &serde_json::Value::Null).unwrap();
        assert_eq!(plane.status, 400, "{path}: {}", plane.text());
    }
}

#[test]
fn bad_certificates_are_told_apart_and_never_paid() {
    let merchant = Merchant::start(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        Ok(After::Keep)
    });
    let mut setup = Setup::new();
    setup.root(&merchant.root);
    for name in ["good", "expired", "wrong-name", "unknown-root"] {
        setup.resolve(
            &format!("{name}.stand.test:443"),
            merchant.tls.port().into(),
        );
    }
    let proxy = setup.start();
    assert_eq!(proxy.get("https://good.stand.test/").text(), "ok");
    let mut reasons = BTreeSet::new();
    for name in ["expired", "wrong-name", "unknown-root"] {
        let answer = proxy.get(&format!("https://{name}.stand.test/"));
        assert_eq!(answer.status, 502, "{name}: {}", answer.text());
        let reason = answer
            .reason()
            .unwrap_or_else(|| panic!("{name}: {answer:?}"));
        assert!(
            reasons.insert(reason.clone()),
            "{name}: {reason} was another one's reason"
        );
    }
    assert_eq!(
        merchant.seen().len(),
        1,
        "a request went to somebody unknown"
    );
}

#[test]
fn the_official_client_and_ours_pay_the_same() {
    let Some(stand) = stand() else { return };
    let proxy = stand.setup().start();
    assert_eq!(proxy.get(&format!("{SHOP}/v2/exact")).status, 200);
    let ours = stand.paid_by(&proxy.payer()).remove(0).0["payment"].clone();
    let theirs = stand
        .official("/v2/exact")
        .expect("the official client pays");
    for pointer in ["/x402Version", "/accepted"] {
        assert_eq!(ours.pointer(pointer), theirs.pointer(pointer), "{pointer}");
    }
    let keys = |v: &Value| {
        v.pointer("/payload/authorization")
            .and_then(Value::as_object)
            .map(|o| o.keys().cloned().collect::<BTreeSet<_>>())
    };
    assert_eq!(keys(&ours), keys(&theirs));
}
