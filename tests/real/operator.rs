//! The operator's hand on a running proxy: answers, freezes, what is remembered, and the service that is
//! told of it.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::api::ask;
use crate::support::curl::fetch;
use crate::support::http::{Body, read_body, read_head};
use crate::support::merchant::{Merchant, shop};
use crate::support::proxy::{Proxy, Setup};
use crate::support::stand::request;
use crate::support::until;

const PATIENCE: Duration = Duration::from_secs(30);
const PAGE: &str = "https://shop.stand.test/report";

/// A merchant that sells everything for a cent, and a proxy with these terms.
fn scene(pay: &Value) -> (Merchant, Setup) {
    let merchant = Merchant::start(shop);
    let mut setup = Setup::new();
    setup.root(&merchant.root);
    setup.resolve("shop.stand.test:443", merchant.tls.port().into());
    setup.config["rules"][0]["pay"] = pay.clone();
    (merchant, setup)
}

fn said(proxy: &Proxy, args: &[&str]) -> Value {
    let out = proxy.setup.run(args);
    assert!(out.status.success(), "{args:?}: {out:?}");
    serde_json::from_slice(&out.stdout).unwrap()
}

fn done(proxy: &Proxy, args: &[&str]) {
    let out = proxy.setup.run(args);
    assert!(out.status.success(), "{args:?}: {out:?}");
}

fn paid(merchant: &Merchant) -> usize {
    merchant
        .seen()
        .iter()
        .filter(|s| s.payment().is_some())
        .count()
}

/// The one question that waits.
fn question(proxy: &Proxy) -> Value {
    until("a question", PATIENCE, || {
        let open = said(proxy, &["approve", "--json"]);
        open.as_array().unwrap().first().cloned()
    })
}

/// A service that keeps what it is sent, and checks each signature.
fn service(secret: &'static [u8]) -> (u16, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let got = Arc::new(Mutex::new(vec![]));
    let kept = Arc::clone(&got);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let head = read_head(&mut reader).unwrap().unwrap();
            let Body { start: bytes, .. } = read_body(&head, &mut reader, false).unwrap();
            let field = |name| head.one(name).unwrap().to_owned();
            let signed = format!("{}.{}.", field("webhook-id"), field("webhook-timestamp"));
            let signed = [signed.as_bytes(), &bytes].concat();
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            let right = format!("v1,{}", STANDARD.encode(hmac::sign(&key, &signed)));
            assert_eq!(field("webhook-signature"), right);
            let notice: Value = serde_json::from_slice(&bytes).unwrap();
            kept.lock().unwrap().push(notice);
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .unwrap();
        }
    });
    (port, got)
}

/// Nothing would be signed, whatever the person says.
#[test]
fn a_request_that_waits_for_a_person_holds_up_no_end() {
    let terms = json!({ "approval": { "above": "0.005 USD", "wait": "2m" } });
    let (merchant, mut setup) = scene(&terms);
    setup.config["limits"] = json!({ "drain": "60s" });
    let mut proxy = setup.start();
    let child = proxy.curl(PAGE).stdout(Stdio::piped()).spawn().unwrap();
    question(&proxy);
    let began = Instant::now();
    assert!(proxy.stop().success());
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    let out = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&out.stdout);
    assert!(told.contains("\"reason\":\"draining\""), "{out:?}");
    assert!(told.contains("\"retryable\":true"), "{out:?}");
    assert_eq!(paid(&merchant), 0);
}

#[test]
fn a_person_approves_a_request_that_waits() {
    const SECRET: &[u8] = b"0123456789abcdef0123456789";
    let (port, told) = service(SECRET);
    let terms = json!({ "approval": { "above": "0.005 USD", "wait": "2m" } });
    let (merchant, mut setup) = scene(&terms);
    let secret = setup.dir.path().join("webhook.secret");
    let text = format!("whsec_{}\n", STANDARD.encode(SECRET));
    std::fs::write(&secret, text).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let url = format!("http://127.0.0.1:{port}/hook");
    setup.config["webhook"] = json!({ "url": url, "secret_file": secret });
    let mut proxy = setup.start();
    let child = proxy.curl(PAGE).stdout(Stdio::piped()).spawn().unwrap();
    let explained = proxy.setup.run(&["explain", PAGE, "--amount", "0.01 USD"]);
    let text = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(text.contains("a person is asked first (above)"), "{text}");
    let asking = question(&proxy);
    assert_eq!(
        (&asking["price"], &asking["host"], &asking["because"]),
        (
            &json!("0.01 USD"),
            &json!("shop.stand.test"),
            &json!(["above"])
        )
    );
    assert_eq!(paid(&merchant), 0, "nobody answered yet");
    assert_eq!(proxy.ledger().rows.len(), 0, "nothing is reserved yet");
    let id = asking["id"].as_str().unwrap();
    let listed = proxy.setup.run(&["approve"]).stdout;
    assert!(String::from_utf8_lossy(&listed).contains(id), "whole");
    // Whoever chooses what is asked for can make another that begins alike.
    for part in [&id[..12], &id[..35]] {
        let short = proxy.setup.run(&["approve", part]);
        assert_eq!(short.status.code(), Some(2), "{short:?}");
        let told = String::from_utf8_lossy(&short.stderr);
        assert!(told.contains("is not a whole id"), "{told}");
    }
    assert_eq!(question(&proxy)["stage"], "waiting");
    done(&proxy, &["approve", id]);
    let out = child.wait_with_output().unwrap();
    assert!(
        String::from_utf8_lossy(&out.stdout).contains("sold"),
        "{out:?}"
    );
    assert_eq!(paid(&merchant), 1);
    until("two notices", PATIENCE, || {
        (told.lock().unwrap().len() == 2).then_some(())
    });
    let told = told.lock().unwrap();
    assert_eq!(told[0]["event"], "approval_requested");
    assert_eq!(told[0]["approval"]["id"], *id);
    assert!(told[0]["approve_url"].as_str().unwrap().ends_with(id));
    assert_eq!(told[1]["event"], "approval_answered");
    drop(told);
    proxy.assert_verifies();
    assert!(proxy.stop().success(), "the webhook holds nobody up");
}

#[test]
fn a_denied_request_is_told_so_and_pays_nothing() {
    let terms = json!({ "approval": { "first_host": true, "wait": "2m" } });
    let (merchant, setup) = scene(&terms);
    let proxy = setup.start();
    let child = proxy.curl(PAGE).stdout(Stdio::piped()).spawn().unwrap();
    let id = question(&proxy)["id"].as_str().unwrap().to_owned();
    done(&proxy, &["deny", &id[..12]]);
    let out = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains("approval_denied"), "{text}");
    assert_eq!(paid(&merchant), 0);
    // Whoever asks again hears the same, and no second question.
    assert_eq!(proxy.get(PAGE).reason().as_deref(), Some("approval_denied"));
    let unknown = proxy.setup.run(&["deny", "apr_00"]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
}

/// What is paid meanwhile makes the host a known one, but this was asked and is denied.
#[test]
fn a_no_to_one_request_holds_though_another_was_approved() {
    const OTHER: &str = "https://shop.stand.test/other";
    let terms = json!({ "approval": { "first_host": true, "wait": "2m" } });
    let (merchant, setup) = scene(&terms);
    let proxy = setup.start();
    let asks = |url: &str, path: &str| {
        let child = proxy.curl(url).stdout(Stdio::piped()).spawn().unwrap();
        let id = until("a question", PATIENCE, || {
            let open = said(&proxy, &["approve", "--json"]);
            let mut open = open.as_array().unwrap().iter();
            let asking = open.find(|asking| asking["path"] == path)?;
            Some(asking["id"].as_str().unwrap().to_owned())
        });
        (child, id)
    };
    let (approved, yes) = asks(PAGE, "/report");
    let (denied, no) = asks(OTHER, "/other");
    done(&proxy, &["approve", &yes]);
    let out = approved.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains("sold"), "{text}");
    done(&proxy, &["deny", &no]);
    let out = denied.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains("approval_denied"), "{text}");
    let again = proxy.get(OTHER).reason();
    assert_eq!(again.as_deref(), Some("approval_denied"));
    assert_eq!(paid(&merchant), 1);
    proxy.assert_verifies();
}

/// Nothing more is paid in a session that is closed, so nobody need answer.
#[test]
fn an_id_that_names_no_question_and_a_session_that_is_closed_ask_nothing() {
    let terms = json!({ "approval": { "above": "0 USD" } });
    let (_merchant, setup) = scene(&terms);
    let proxy = setup.start();
    assert_eq!(
        proxy.get(PAGE).reason().as_deref(),
        Some("approval_required")
    );
    question(&proxy);
    for every in ["", "a", "apr", "apr_"] {
        let out = proxy.setup.run(&["approve", every]);
        assert_eq!(out.status.code(), Some(2), "{every:?}: {out:?}");
    }
    let waits = |proxy: &Proxy| {
        let top = said(proxy, &["top", "--json"]);
        (top["waiting"].clone(), said(proxy, &["approve", "--json"]))
    };
    let (top, listed) = waits(&proxy);
    assert_eq!(top[0]["stage"], "waiting");
    assert_eq!(top, listed);
    done(&proxy, &["session", "close", "default"]);
    assert_eq!(waits(&proxy), (json!([]), json!([])));
}

/// The agent knows the id: it is told where a person answers. It has no token, and that is all it lacks.
#[test]
fn an_agent_answers_no_question_about_itself() {
    let terms = json!({ "approval": { "above": "0 USD" } });
    let (merchant, mut setup) = scene(&terms);
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = free.local_addr().unwrap();
    drop(free);
    // The worst that a configuration can allow.
    setup.config["listen"]["admin"] = json!(admin.to_string());
    setup.config["egress"]["ports"] = json!([80, 443, admin.port()]);
    setup.config["egress"]["allow_private"] = json!(["127.0.0.0/8"]);
    let proxy = setup.start();
    let refused = proxy.get(PAGE).json();
    let url = refused["approve_url"].as_str().unwrap().to_owned();
    let id = url.rsplit('/').next().unwrap();
    let api = format!("/api/v1/approvals/{id}");
    for path in [
        format!("{api}/approve"),
        format!("{api}/deny"),
        format!("/approvals/{id}/approve"),
        format!("/approvals/{id}"),
        "/api/v1/freezes".into(),
        "/api/v1/reload".into(),
    ] {
        for (method, body) in [("POST", json!({})), ("DELETE", json!({ "scope": "all" }))] {
            let answer = request(admin.port(), method, &path, &body).unwrap();
            let no = [401, 404, 405].contains(&answer.status);
            assert!(no, "{method} {path}: {}", answer.status);
        }
        let mut curl = proxy.curl(&format!("http://{admin}{path}"));
        curl.args(["--noproxy", "", "--request", "POST", "--data", "{}"]);
        let through = fetch(curl).unwrap();
        assert!(through.status >= 400, "{path}: {}", through.status);
    }
    // Who follows the link reads a page, and has changed nothing.
    let page = format!("/approvals/{id}?approve=true&answer=approve");
    assert_eq!(proxy.ask_admin(&page).unwrap().status, 200);
    let waits = said(&proxy, &["approve", "--json"]);
    assert_eq!(waits[0]["id"], id, "{waits}");
    assert_eq!(waits[0]["stage"], "waiting", "{waits}");
    assert_eq!(
        proxy.get(PAGE).reason().as_deref(),
        Some("approval_required")
    );
    assert_eq!(paid(&merchant), 0);
}

#[test]
fn a_refusal_without_numbers_has_none() {
    for (numbers, body) in [(true, "problem"), (false, "problem"), (false, "original")] {
        let (_merchant, mut setup) = scene(&json!({ "max": "0.07654321 USD" }));
        setup.config["refusals"] = json!({ "numbers": numbers, "body": body });
        setup.config["sessions"] = json!({ "default": { "budget": "0.0123456 USD" } });
        let proxy = setup.start();
        let mut said = String::new();
        for (status, digits) in [(200, "0.0023456"), (402, "0.0123456")] {
            let answer = proxy.get(PAGE);
            assert_eq!(answer.status, status);
            let all = format!("{:?}{}", answer.fields, answer.text());
            assert_eq!(all.contains(digits), numbers, "{all}");
            said += &all;
        }
        assert!(said.contains("over_session_cap"), "{said}");
        assert_eq!(said.contains("0.0023456"), numbers, "{said}");
    }
}

/// A rolling restart is just when somebody presses it.
#[test]
fn a_freeze_by_signal_while_the_proxy_drains_holds_after_the_next_start() {
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    let (merchant, setup) = crate::support::shop::open(move |_, out| {
        until("the freeze", PATIENCE, || {
            told.load(Ordering::SeqCst).then_some(())
        });
        crate::support::shop::sell("sold", out)
    });
    let mut proxy = setup.start();
    let mut curl = proxy.curl(PAGE);
    let mut agent = curl.stdout(Stdio::null()).spawn().unwrap();
    until("a payment on its way", PATIENCE, || {
        (paid(&merchant) == 1).then_some(())
    });
    proxy.terminate();
    until("the drain", PATIENCE, || {
        proxy.stderr().contains("stopping").then_some(())
    });
    proxy.freeze();
    until("the freeze", PATIENCE, || {
        let frozen = said(&proxy, &["freeze", "--list", "--json"]);
        (!frozen.as_array()?.is_empty()).then_some(())
    });
    over.store(true, Ordering::SeqCst);
    let ended = until("the end", PATIENCE, || proxy.ended());
    assert!(ended.success(), "{ended:?}");
    assert!(agent.wait().unwrap().success());
    proxy.start_again();
    assert_eq!(proxy.get(PAGE).reason().as_deref(), Some("frozen"));
    assert_eq!(paid(&merchant), 1);
}

#[test]
fn an_approval_survives_a_restart_and_buys_once() {
    let terms = json!({ "approval": { "above": "0 USD" } });
    let (merchant, mut setup) = scene(&terms);
    setup.config["listen"]["admin"] = json!("0.0.0.0:0");
    let mut proxy = setup.start();
    let refused = proxy.get(PAGE);
    assert_eq!(
        (refused.status, refused.reason().as_deref()),
        (402, Some("approval_required"))
    );
    let url = refused.json()["approve_url"].as_str().unwrap().to_owned();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let (_, path) = url.split_once("//").unwrap().1.split_once('/').unwrap();
    let page = proxy.ask_admin(&format!("/{path}")).unwrap();
    assert_eq!(page.status, 200);
    assert!(page.text().contains("farepass approve"), "{}", page.text());
    proxy.kill();
    let id = url.rsplit('/').next().unwrap().to_owned();
    // Nobody runs: the command owns the ledger for a moment.
    done(&proxy, &["approve", &id]);
    proxy.start_again();
    let bought = proxy.get(PAGE);
    assert_eq!((bought.status, bought.text().as_str()), (200, "sold"));
    let again = proxy.get(PAGE);
    assert_eq!(again.reason().as_deref(), Some("approval_required"));
    assert_eq!(paid(&merchant), 1);
}

/// The file is a freeze as others are, for whoever only looks from elsewhere.
fn told_everywhere(proxy: &Proxy) {
    let why = "the file `freeze` in the state directory";
    let row = json!([{ "what": "all", "since": null, "why": why }]);
    let asked = ask(proxy, "GET", "/api/v1/freezes", None);
    assert_eq!(asked.json(), row);
    assert_eq!(said(proxy, &["freeze", "--list", "--json"]), row);
    assert_eq!(said(proxy, &["unfreeze", "--json"]), row, "it is there yet");
    let page = proxy.ask_admin("/metrics").unwrap().text();
    assert!(page.contains("\nfarepass_freezes 1\n"), "{page}");
}

#[test]
fn a_freeze_stops_payments_and_nothing_else() {
    let (merchant, setup) = scene(&json!({}));
    let mut proxy = setup.start();
    let frozen = |proxy: &Proxy| {
        let answer = proxy.get(PAGE);
        (answer.status == 402).then(|| answer.reason().unwrap())
    };
    assert_eq!(frozen(&proxy), None);
    done(
        &proxy,
        &["freeze", "host", "SHOP.stand.test", "--why", "odd"],
    );
    assert_eq!(frozen(&proxy).as_deref(), Some("frozen"));
    proxy.kill();
    proxy.start_again();
    assert_eq!(
        frozen(&proxy).as_deref(),
        Some("frozen"),
        "after a kill too"
    );
    let rows = said(&proxy, &["freeze", "--list", "--json"]);
    assert_eq!(rows[0]["what"], "host shop.stand.test");
    assert_eq!(rows[0]["why"], "odd");
    done(&proxy, &["unfreeze", "host", "shop.stand.test"]);
    assert_eq!(frozen(&proxy), None);

    proxy.freeze();
    until("the signal", PATIENCE, || frozen(&proxy));
    let before = paid(&merchant);
    assert_eq!(frozen(&proxy).as_deref(), Some("frozen"));
    assert_eq!(paid(&merchant), before);
    assert_eq!(said(&proxy, &["unfreeze", "--json"]), json!([]));
    assert_eq!(frozen(&proxy), None);

    let file = proxy.setup.state().join("freeze");
    std::fs::write(&file, "").unwrap();
    assert_eq!(frozen(&proxy).as_deref(), Some("frozen"));
    told_everywhere(&proxy);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(frozen(&proxy), None);
    assert_eq!(paid(&merchant), before + 2);
    let seen = merchant.seen().len();
    assert!(
        seen >= 12,
        "{seen}: what is frozen is forwarded all the same"
    );
    for wrong in [
        &["freeze", "host"][..],
        &["freeze", "all", "x"],
        &["freeze", "h"],
    ] {
        assert_eq!(proxy.setup.run(wrong).status.code(), Some(2), "{wrong:?}");
    }
    proxy.assert_verifies();
}

#[test]
fn what_is_remembered_of_a_merchant_can_be_seen_and_forgotten() {
    let terms = json!({ "pay_to": "first-seen", "max_price_increase": "0%" });
    let (_merchant, setup) = scene(&terms);
    let proxy = setup.start();
    assert_eq!(proxy.get(PAGE).status, 200);
    let rows = said(&proxy, &["merchant", "list", "--json"]);
    let all = rows.to_string();
    assert!(
        all.contains("0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc"),
        "{all}"
    );
    assert!(all.contains("\"lowest\":\"0.01 USD\""), "{all}");
    assert!(all.contains("\"path\":\"/report\""), "{all}");
    // What is remembered decides what `explain` says as well.
    let explain = |more: &[&str]| {
        let args = [&["explain", PAGE, "--json", "--amount"][..], more].concat();
        let out = proxy.setup.run(&args);
        let page: Value = serde_json::from_slice(&out.stdout).unwrap();
        (out.status.code(), page["reason"].clone())
    };
    assert_eq!(explain(&["0.01 USD"]), (Some(0), Value::Null));
    assert_eq!(explain(&["0.02 USD"]), (Some(3), json!("price_changed")));
    let other = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";
    let refused = explain(&["0.01 USD", "--pay-to", other]);
    assert_eq!(refused, (Some(3), json!("recipient_changed")));
    done(&proxy, &["freeze"]);
    assert_eq!(explain(&["0.01 USD"]), (Some(3), json!("frozen")));
    done(&proxy, &["unfreeze"]);
    let typo = proxy.setup.run(&["merchant", "forget", "shop.stand.tset"]);
    assert_eq!(typo.status.code(), Some(1), "{typo:?}");
    let told = String::from_utf8_lossy(&typo.stderr).into_owned();
    assert!(
        told.contains("nothing is remembered of shop.stand.tset"),
        "{told}"
    );
    done(&proxy, &["merchant", "forget", "shop.stand.test"]);
    assert_eq!(said(&proxy, &["merchant", "list", "--json"]), json!([]));
    assert_eq!(fetch(proxy.curl(PAGE)).unwrap().status, 200);
}

/// Nothing shows it again, so nobody could ever close that session by what is in the environment of an agent.
#[test]
fn a_session_whose_secret_nobody_was_told_is_closed() {
    let (_merchant, setup) = scene(&json!({ "max": "0.05 USD" }));
    setup.write();
    for json in [false, true] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let args = ["session", "create", "--agent", "bot", "--json"];
        let args = &args[..if json { 5 } else { 4 }];
        let out = setup.command(args).stdout(full).output().unwrap();
        let told = String::from_utf8_lossy(&out.stderr);
        assert!(
            out.status.code() == Some(1) && told.contains("it is closed"),
            "{out:?}"
        );
    }
    let rows = setup.run(&["session", "list", "--json"]).stdout;
    let rows: Value = serde_json::from_slice(&rows).unwrap();
    let rows = rows.as_array().unwrap();
    assert!(
        rows.len() == 2 && rows.iter().all(|row| row["closed"] == true),
        "{rows:?}"
    );
}
