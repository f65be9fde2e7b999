//! The dashboard in a real browser, and what a browser is not given.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::api::{ask, lively};
use crate::support::http::Answer;
use crate::support::merchant::{After, Merchant, Seen};
use crate::support::proxy::{Proxy, Setup};
use crate::support::{needs, shop, stand, until};

/// What a merchant may call things.
const HOSTILE: &str =
    "\u{202e}<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>";

/// Chromium and Node, or why not. No machine is asked to have a browser: without one this is skipped, with
/// `FAREPASS_REQUIRE_INTEROP` too.
fn browser() -> Option<PathBuf> {
    let works = |name: &str| {
        let out = Command::new(name)
            .arg("--version")
            .stderr(Stdio::null())
            .output();
        out.is_ok_and(|o| o.status.success())
    };
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = names
        .into_iter()
        .find(|name| works(name))
        .filter(|_| works("node"));
    if found.is_none() {
        let line = b"\n*** SKIPPED: the dashboard needs Chromium and Node to be tried\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line);
    }
    found.map(PathBuf::from)
}

fn sells(seen: &Seen, out: &mut dyn std::io::Write) -> std::io::Result<After> {
    let mut challenge = shop::challenge();
    challenge["resource"]["url"] = json!(format!("https://{}/", seen.host));
    if seen.host.starts_with("bad") {
        challenge["accepts"][0]["scheme"] = json!(HOSTILE);
        challenge["accepts"][0]["payTo"] = json!(HOSTILE);
    }
    match seen.payment() {
        None => shop::ask(&challenge, out),
        Some(_) => shop::sell("sold", out),
    }
}

fn scene() -> (Merchant, Setup) {
    let merchant = Merchant::start(sells);
    let mut setup = shop::setup(&merchant);
    for name in ["bad", "ask", "data", "never"] {
        setup.resolve(
            &format!("{name}.stand.test:443"),
            merchant.tls.port().into(),
        );
    }
    setup.config["budgets"] = json!([
        { "name": "hourly", "scope": "agent", "limit": "0.12 USD", "window": "1h" },
        { "name": "per-host", "scope": "host", "limit": "0.05 USD", "window": "day", "payments": 50 },
    ]);
    let rule = |name: &str, host: &str, says: Value| {
        let mut rule = says;
        rule["name"] = json!(name);
        rule["match"] = json!({ "hosts": [host] });
        rule
    };
    setup.config["rules"] = json!([
        rule(
            "ask-first",
            "ask.stand.test",
            json!({ "pay": { "max": "1 USD", "approval": { "above": "0 USD", "wait": "2m" } } })
        ),
        rule("casino", "never.stand.test", json!({ "deny": true })),
        rule(
            "market-data",
            "*.stand.test",
            json!({ "pay": { "max": "0.10 USD" } })
        ),
    ]);
    (merchant, setup)
}

fn pages(proxy: &Proxy, browser: &Path) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/browser/dashboard.mjs");
    let mut node = Command::new("node");
    node.arg(script)
        .arg(browser)
        .arg(format!("http://{}", proxy.admin()))
        .arg(proxy.token());
    // For a person who wants to look.
    node.args(std::env::var_os("FAREPASS_PICTURES"));
    let out = node.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn a_person_approves_by_a_click_and_sees_it_paid() {
    let Some(browser) = browser() else { return };
    let (merchant, setup) = scene();
    let proxy = setup.start();
    let long = format!("{}.elsewhere.test", ["x"; 60].concat());
    let elsewhere = json!({ "scope": "host", "name": long, "why": HOSTILE });
    let frozen = ask(&proxy, "POST", "/api/v1/freezes", Some(&elsewhere));
    assert_eq!(frozen.status, 200);
    for (host, times) in [("shop", 4), ("data", 2), ("never", 1), ("bad", 1)] {
        for n in 0..times {
            proxy.get(&format!("https://{host}.stand.test/report/{n}"));
        }
    }
    let waits = proxy
        .curl("https://ask.stand.test/waits")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    until("a question", std::time::Duration::from_secs(20), || {
        let asked = ask(&proxy, "GET", "/api/v1/approvals", None).json();
        (!asked.as_array().unwrap().is_empty()).then_some(())
    });
    let seen = pages(&proxy, &browser);

    // The agent has its answer.
    let out = waits.wait_with_output().unwrap();
    assert!(
        String::from_utf8_lossy(&out.stdout).contains("sold"),
        "{out:?}"
    );
    let paid = merchant.seen();
    let paid = paid
        .iter()
        .filter(|s| s.payment().is_some() && s.host == "ask.stand.test");
    assert_eq!(paid.count(), 1);

    let text = |name: &str| {
        seen[name]
            .as_str()
            .unwrap_or_else(|| panic!("{name}: {seen}"))
    };
    assert!(
        !text("stranger").contains("stand.test"),
        "{}",
        text("stranger")
    );
    assert_eq!(
        text("address"),
        format!("http://{}/", proxy.admin()),
        "no token stays there"
    );
    assert_eq!(text("cookieSeen"), "", "no script reads the cookie");
    assert!(text("question").contains("/waits"), "{}", text("question"));
    for step in [
        "Agent to Farepass: GET ask.stand.test/waits",
        "402, 0.01 USD",
        "rule ask-first",
        "reserve",
        "sign 10000 units of USDC",
        "200, receipt claims it",
    ] {
        assert!(
            text("sequence").contains(step),
            "{step}: {}",
            text("sequence")
        );
    }
    assert_eq!(text("focus"), "more", "the keyboard is where it was");
    assert!(text("refusals").contains("denied_by_rule") && text("refusals").contains("casino"));
    assert!(
        text("refusalSaid").contains("\\u{202e}<img src=x"),
        "{}",
        text("refusalSaid")
    );
    assert!(
        text("frozen").contains("<script>document.title"),
        "{}",
        text("frozen")
    );
    assert!(text("limits").contains("per-host"), "{}", text("limits"));
    assert!(seen["chart"].as_u64() >= Some(2), "{seen}");
    assert!(
        text("frozen").contains("all payments"),
        "{}",
        text("frozen")
    );
    assert_eq!(text("title"), "Farepass");
    assert_eq!(
        (&seen["intruders"], &seen["misleading"]),
        (&json!(0), &json!(false))
    );
    for (width, page) in seen["widths"].as_object().unwrap() {
        let (most, wide) = (width.parse::<u64>().unwrap(), page["page"].as_u64());
        assert!(wide <= Some(most), "at {width} the page has {wide:?} px");
        assert_eq!(page["clipped"], json!([]), "at {width}");
        let host = page["host"].as_u64().unwrap();
        assert!(host >= 80, "at {width} a host has {host} px");
    }
    let chain = text("chain");
    assert!(chain.contains("sign 1 unit of USDC"), "{chain}");
    let last = "; Farepass to Ledger: settled, seen on chain in block 32 (record 3)";
    assert!(chain.ends_with(last), "{chain}");
    assert_eq!(text("money"), "$0.56 $4.44 $0.010000001 $12.50 $0.00");
    assert_eq!(text("lost"), "not known whether it pays");
    assert_eq!(seen["parted"], json!(true), "the keyboard is where it was");
    assert_eq!(seen["byFile"], json!(["all payments (the file)", 0]));
    assert_eq!(seen["many"][0], json!("$50.00+"));
    assert_eq!(seen["many"][1], json!("5000+"));
    assert_eq!(text("manyDrawn"), "Spend over time, at least $50.00 in all");
    assert_eq!(text("trouble"), "The proxy says: no ledger");
    assert_eq!(
        seen["errors"],
        json!([]),
        "no errors, and nothing that the page's policy forbids"
    );
    assert_eq!(
        seen["halfs"],
        json!([401, 401]),
        "the cookie alone is nothing"
    );
    let home = format!("http://{}/", proxy.admin());
    for url in seen["asked"].as_array().unwrap() {
        let url = url.as_str().unwrap();
        assert!(
            url.starts_with(&home),
            "{url}: nothing comes from elsewhere"
        );
    }
    proxy.assert_verifies();
}

/// What its scripts do with a proxy that is made up, where Node is and no browser need be.
fn scripts(path: &str) -> Option<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut node = Command::new("node");
    node.arg(root.join("tests/real/browser/scripts.mjs"));
    node.arg(root.join("src/admin/dashboard")).arg(path);
    let out = node.stdin(Stdio::null()).output();
    let out = needs(out.map_err(|e| format!("the page's scripts need Node: {e}")))?;
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    let seen: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(seen["trouble"], "", "{seen}");
    Some(seen)
}

/// Every `farepass run` leaves a closed one.
#[test]
fn sessions_that_spend_are_shown_before_those_that_are_over() {
    let Some(seen) = scripts("/") else { return };
    let sessions = seen["sessions"].as_str().unwrap();
    let first = "Sessionsdefault$99.00 left of $100.00";
    assert!(sessions.starts_with(first), "{sessions}");
    assert!(sessions.ends_with("and 14 more"), "{sessions}");
}

/// What is read aloud when it is written is written when it changes; every fifteen seconds all is read again.
#[test]
fn nothing_is_read_aloud_twice_and_every_button_has_a_name_of_its_own() {
    let Some(seen) = scripts("/") else { return };
    let silent = json!({ "approvals-list": 0, "ready": 0 });
    assert_eq!(seen["spoken"], silent);
    assert_eq!(seen["left"], 1, "one question was answered");
    assert_eq!(seen["focus"], "approvals-title");
    let names = seen["names"].as_array().unwrap();
    let begins = |name: &Value, with: &str| name.as_str().unwrap().starts_with(with);
    for (name, with) in names.iter().zip([
        "Unfreeze host one.test",
        "Unfreeze agent two",
        "Show the exchange: one.test, ",
        "Show the exchange: two.test, ",
    ]) {
        assert!(begins(name, with), "{names:?}");
    }
}

#[test]
fn a_link_to_a_question_that_is_over_says_so() {
    let link = |digit: &str| format!("/approvals/apr_{}", digit.repeat(32));
    let Some(over) = scripts(&link("c")) else {
        return;
    };
    let told = over["gone"].as_str().unwrap_or_default();
    assert!(told.contains("waits no more"), "{over}");
    assert_eq!(over["action"], Value::Null, "the form stays at its page");
    let waits = scripts(&link("a")).unwrap();
    assert_eq!(waits["gone"], false, "{waits}");
}

/// With these fields, and no token.
fn with(proxy: &Proxy, line: &str, fields: &[(&str, &str)], body: &str) -> Answer {
    use std::io::Write as _;
    let mut socket = std::net::TcpStream::connect(proxy.admin()).unwrap();
    let mut head = format!(
        "{line} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n",
        proxy.admin(),
        body.len()
    );
    for (name, value) in fields {
        head += &format!("{name}: {value}\r\n");
    }
    write!(socket, "{head}\r\n{body}").unwrap();
    let method = line.split(' ').next().unwrap();
    crate::support::http::read_answer(&mut std::io::BufReader::new(socket), method).unwrap()
}

#[test]
fn a_browser_needs_both_halves_and_a_page_of_ours() {
    let (_merchant, proxy) = lively();
    let token = proxy.token();
    let opened = with(&proxy, &format!("GET /?token={token}"), &[], "");
    assert_eq!(opened.status, 303);
    let cookie = opened.one("set-cookie").unwrap();
    for wanted in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(wanted), "{cookie}");
    }
    let cookie = cookie.split(';').next().unwrap();
    let page = opened
        .one("location")
        .unwrap()
        .strip_prefix("/#page=")
        .unwrap();
    assert!(!cookie.contains(&token) && page != token && !cookie.contains(page));
    let (own, other) = (
        format!("http://{}", proxy.admin()),
        format!("http://127.0.0.1:{}", 1),
    );
    let (cookie, page) = (("Cookie", cookie), ("Farepass-Page", page));
    let tossed = format!("farepass_admin=x; a=b; {}", cookie.1);
    for (fields, status) in [
        (vec![cookie, page], 200),
        (vec![("Cookie", &*tossed), page], 200),
        (
            vec![
                cookie,
                page,
                ("Origin", &*own),
                ("Sec-Fetch-Site", "same-origin"),
            ],
            200,
        ),
        (vec![cookie], 401),
        (vec![page], 401),
        (vec![cookie, ("Farepass-Page", "x")], 401),
        (vec![("Cookie", "farepass_admin=x"), page], 401),
        (vec![cookie, page, ("Origin", &*other)], 401),
        (vec![cookie, page, ("Origin", "null")], 401),
        (vec![cookie, page, ("Sec-Fetch-Site", "same-site")], 401),
        (vec![cookie, page, ("Sec-Fetch-Site", "cross-site")], 401),
    ] {
        let read = with(&proxy, "GET /api/v1/sessions", &fields, "");
        assert_eq!(read.status, status, "{fields:?}");
        assert!(read.one("access-control-allow-origin").is_none());
        let write = with(
            &proxy,
            "POST /api/v1/freezes",
            &fields,
            "{\"scope\":\"all\"}",
        );
        assert_eq!(write.status, status, "{fields:?}");
    }
    for wrong in ["x", "", &token[..63], &format!("{token}0")] {
        let answer = with(&proxy, &format!("GET /?token={wrong}"), &[], "");
        assert_eq!(
            (answer.status, answer.one("location")),
            (303, Some("/#wrong"))
        );
        assert!(answer.one("set-cookie").is_none(), "{wrong}");
    }
    // Who signs in at the link to a question comes back to it.
    let question = format!("/approvals/apr_{}", "0".repeat(32));
    let at = |path: &str, token: &str| {
        let answer = with(&proxy, &format!("GET {path}?token={token}"), &[], "");
        (answer.status, answer.one("location").map(str::to_owned))
    };
    let back = format!("{question}#page={}", page.1);
    assert_eq!(at(&question, &token), (303, Some(back)));
    let wrong = format!("{question}#wrong");
    assert_eq!(at(&question, "x"), (303, Some(wrong)));
    assert_eq!(at("/approvals/x", &token), (200, None), "no question");
    assert!(!proxy.stderr().contains(&token));
}

#[test]
fn pages_hold_no_data_and_forbid_what_they_do_not_need() {
    let (_merchant, proxy) = lively();
    for path in [
        "/",
        "/app.js",
        "/api.js",
        "/dom.js",
        "/chart.js",
        "/sequence.js",
        "/limits.js",
        "/tables.js",
        "/style.css",
        "/icon.svg",
    ] {
        let answer = proxy.ask_admin(path).unwrap();
        assert_eq!(answer.status, 200, "{path}");
        let policy = answer.one("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';"),
            "{policy}"
        );
        assert!(
            !policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        let text = answer.text();
        assert!(
            !text.contains("://") || path.ends_with(".js") || path.ends_with(".svg"),
            "{path}: nothing from elsewhere"
        );
        assert!(
            !text.contains("stand.test") && !text.contains("innerHTML"),
            "{path}"
        );
    }
    let html = proxy.ask_admin("/").unwrap().text();
    assert!(
        !html.contains(" on") || !html.contains("onclick="),
        "no script in the page"
    );
    assert!(!html.contains("style=\""));
    let asked = ask(&proxy, "GET", "/api/v1/approvals", None).json();
    let path = format!("/approvals/{}", asked[0]["id"].as_str().unwrap());
    let page = with(
        &proxy,
        &format!("GET {path}"),
        &[("Accept", "text/html,*/*")],
        "",
    );
    assert!(page.text().contains("<title>Farepass</title>"));
    assert!(
        proxy
            .ask_admin(&path)
            .unwrap()
            .text()
            .contains("farepass approve")
    );
    assert_eq!(
        stand::request(proxy.admin().port(), "POST", "/", &json!({}))
            .unwrap()
            .status,
        404
    );
}
