//! Looking for things to buy, and a policy from what was seen.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Home, SHOP, Street, there_is};

const USDC: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const PAYEE: &str = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";

/// A catalogue that answers by the path of the request, and forgets nobody's connection.
fn catalogue(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            let mut head = vec![];
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).is_ok_and(|n| n > 0) {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let (status, body) = answer(head.split(' ').nth(1).unwrap_or_default());
            let _ = write!(
                socket,
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    url
}

fn item(resource: &str, amount: &str, description: &str) -> Value {
    json!({
        "resource": resource, "type": "http", "x402Version": 2, "lastUpdated": "2026-11-01T00:00:00Z",
        "description": description,
        "accepts": [{ "scheme": "exact", "network": "eip155:84532", "amount": amount, "asset": USDC,
            "payTo": PAYEE, "maxTimeoutSeconds": 60, "extra": { "name": "USDC", "version": "2" } }],
    })
}

/// A home whose policy pays one host, and which looks in these catalogues.
fn home(catalogues: &[&str]) -> Home {
    let home = Home::new();
    let key = home.at("wallet.key");
    std::fs::write(&key, format!("0x{}\n", "11".repeat(32))).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let urls: Vec<_> = catalogues.iter().map(|url| json!({ "url": url })).collect();
    let file = json!({
        "version": 1,
        "state_dir": home.at("state"), "tls": { "ca_dir": home.at("certs") },
        "wallets": [{ "name": "main", "kind": "local", "key_file": key, "networks": ["eip155:84532"] }],
        "discovery": urls,
        "rules": [{ "name": "weather", "match": { "hosts": ["api.example.com"] }, "pay": { "max": "0.05 USD" } }],
    });
    std::fs::write(home.at("farepass.yaml"), file.to_string()).unwrap();
    home
}

#[test]
fn what_is_found_is_judged_by_the_policy() {
    let found = catalogue(|path| {
        match path.starts_with("/discovery/search?query=rain%20%26%20snow&limit=") {
            true => {
                let all = [
                    item("https://api.example.com/v1/x", "10000", "rain"),
                    item("https://api.example.com/v1/dear", "60000", "snow"),
                    item(
                        "https://else.example/",
                        "10000",
                        "Best!\u{1b}[2J\u{202e}\r\nFREE",
                    ),
                    item("mcp://tool/rain", "10000", "a tool"),
                ];
                (
                    200,
                    json!({ "x402Version": 2, "resources": all }).to_string(),
                )
            }
            false => (500, String::new()),
        }
    });
    let home = home(&[&found]);
    let rows = home
        .farepass(["discover", "rain & snow", "--json"])
        .ok()
        .json();
    let said: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap_or("-").to_owned();
            (text("verdict"), text("price"), text("rule"), text("reason"))
        })
        .collect();
    let said: Vec<_> = said.iter().map(|(a, b, c, d)| [&**a, b, c, d]).collect();
    assert_eq!(
        said,
        [
            ["pay", "0.01 USD", "weather", "-"],
            ["refuse", "0.06 USD", "weather", "over_request_cap"],
            ["refuse", "0.01 USD", "-", "host_not_allowed"],
            ["unknown", "-", "-", "-"],
        ]
    );
    let ended = home.farepass(["discover", "rain & snow"]).ok();
    for text in [&ended.out, &rows.to_string()] {
        assert!(text.contains("FREE"), "{text}");
        assert!(!text.contains(['\u{1b}', '\u{202e}', '\r']), "{text:?}");
    }
    // What is frozen is not paid, however it is listed.
    home.farepass(["freeze", "all"]).ok();
    let rows = home
        .farepass(["discover", "rain & snow", "--json"])
        .ok()
        .json();
    assert_eq!(rows[0]["reason"], "frozen");
}

/// With the file that stops all payments, and with a closed session, a running proxy pays nothing.
#[test]
fn what_the_operator_stopped_is_told_by_whoever_foretells() {
    let found = catalogue(|_| {
        let all = [item("https://api.example.com/v1/x", "10000", "rain")];
        (200, json!({ "resources": all }).to_string())
    });
    let home = home(&[&found]);
    let discovered = || {
        let row = home.farepass(["discover", "rain", "--json"]).ok().json();
        (row[0]["verdict"].clone(), row[0]["reason"].clone())
    };
    let explained = || {
        let ended = home.farepass(["explain", "https://api.example.com/v1/x", "--json"]);
        (ended.code, ended.json()["reason"].clone())
    };
    assert_eq!(discovered(), (json!("pay"), Value::Null));
    let file = home.at("state/freeze");
    std::fs::create_dir_all(home.at("state")).unwrap();
    std::fs::write(&file, "").unwrap();
    for ledger in [false, true] {
        if ledger {
            home.farepass(["session", "create", "--default"]).ok();
        }
        assert_eq!(discovered(), (json!("refuse"), json!("frozen")), "{ledger}");
        assert_eq!(explained(), (Some(3), json!("frozen")), "{ledger}");
        let top = home.farepass(["top"]).ok().out;
        assert!(top.contains("frozen: all  the file `freeze`"), "{top}");
    }
    let listed = home.farepass(["freeze", "--list"]).ok();
    assert!(listed.err.contains("state/freeze is there"), "{listed:?}");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(discovered(), (json!("pay"), Value::Null));
    home.farepass(["session", "close", "default"]).ok();
    assert_eq!(discovered(), (json!("refuse"), json!("session_closed")));
}

/// Tools are asked for by POST, and what they cost is said in bodies.
#[test]
fn a_listed_tool_is_judged_by_the_rule_for_it() {
    let found = catalogue(|_| {
        let tool = |path: &str, name: &str| {
            let mut item = item(&format!("https://api.example.com/{path}"), "10000", "rain");
            item["type"] = "mcp".into();
            let input = json!({ "type": "mcp", "toolName": name, "inputSchema": {} });
            item["extensions"] = json!({ "bazaar": { "info": { "input": input } } });
            item
        };
        let mut page = item("https://api.example.com/mcp", "10000", "rain");
        page["serviceName"] = "Skies".into();
        let all = [
            tool("mcp", "search"),
            tool("mcp", "erase"),
            tool("rest", "search"),
            page,
        ];
        (200, json!({ "resources": all }).to_string())
    });
    let home = home(&[&found]);
    let text = home.read("farepass.yaml");
    let mut file: Value = serde_json::from_str(&text).unwrap();
    file["rules"] = json!([
        { "name": "tools", "match": { "hosts": ["api.example.com"], "paths": ["/mcp"], "methods": ["POST"], "tools": ["search"] },
          "pay": { "max": "0.05 USD", "mcp": true } },
        { "name": "rest", "match": { "hosts": ["api.example.com"], "paths": ["/rest"] }, "pay": { "max": "0.05 USD" } },
    ]);
    std::fs::write(home.at("farepass.yaml"), file.to_string()).unwrap();
    let rows = home.farepass(["discover", "rain", "--json"]).ok().json();
    let said = rows.as_array().unwrap().iter().map(|row| {
        let text = |key: &str| row[key].as_str().unwrap_or("-").to_owned();
        [text("verdict"), text("method"), text("tool"), text("rule")]
    });
    assert_eq!(
        said.collect::<Vec<_>>(),
        [
            ["pay", "POST", "search", "tools"],
            ["refuse", "POST", "erase", "-"],
            // No body is read there, so nothing that it asks for would be seen.
            ["refuse", "POST", "search", "rest"],
            ["refuse", "GET", "-", "-"],
        ]
    );
    let explain = |args: &[&str]| {
        let url = "https://api.example.com/rest";
        home.farepass(["explain", url].iter().chain(args))
    };
    explain(&["--method", "POST"]).ok();
    let refused = explain(&["--tool", "search"]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(
        refused.out.contains("host_not_allowed") && refused.out.contains("mcp: true"),
        "{refused:?}"
    );
    let table = home.farepass(["discover", "rain"]).ok().out;
    assert!(table.contains("/mcp#search"), "{table}");
    assert!(!table.contains("\\u{"), "{table}");
    assert_eq!(rows[3]["description"], "Skies – rain");
}

/// A facilitator refuses to be asked for more.
#[test]
fn a_search_asks_for_no_more_than_searches_give() {
    let found = catalogue(|path| {
        let limit = path.rsplit("limit=").next().and_then(|n| n.parse().ok());
        match limit {
            Some(1..=20) => (200, json!({ "resources": [] }).to_string()),
            _ => (400, String::new()),
        }
    });
    let home = home(&[&found]);
    for limit in ["1", "20", "21", "200"] {
        home.farepass(["discover", "rain", "--limit", limit]).ok();
    }
}

/// Not even where it does not say how long it is, or has pages of its own size.
#[test]
fn a_listing_that_cannot_be_read_hides_no_page() {
    let list = |size: usize, total: Option<usize>| {
        catalogue(move |path| {
            let offset = path.split("offset=").nth(1).and_then(|n| n.parse().ok());
            let Some(offset): Option<usize> = offset else {
                return (404, String::new());
            };
            let one = |n: usize| match n {
                3 => json!({ "resource": 7 }),
                150 => item("https://api.example.com/150", "1", "the Needle"),
                n => item(&format!("https://api.example.com/{n}"), "1", "hay"),
            };
            let page: Vec<_> = (offset..(offset + size).min(160)).map(one).collect();
            let mut body = json!({ "items": page });
            if let Some(total) = total {
                body["pagination"] = json!({ "total": total });
            }
            (200, body.to_string())
        })
    };
    let all = [
        list(100, Some(160)),
        list(100, None),
        list(50, Some(160)),
        list(50, None),
    ];
    let home = home(&all.each_ref().map(|url| &**url));
    let rows = home.farepass(["discover", "needle", "--json"]).ok().json();
    assert_eq!(rows.as_array().unwrap().len(), all.len(), "{rows}");
    // One that has no pages says the same again, and is not told twice.
    let same = catalogue(|path| match path.contains("offset=") {
        true => {
            let all = [item("https://api.example.com/1", "1", "the Needle")];
            (200, json!({ "items": all }).to_string())
        }
        false => (404, String::new()),
    });
    let home = crate::market::home(&[&same]);
    let rows = home.farepass(["discover", "needle", "--json"]).ok().json();
    assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
}

#[test]
fn a_list_without_a_search_is_looked_through_page_by_page() {
    let found = catalogue(|path| {
        let offset = path
            .split("offset=")
            .nth(1)
            .and_then(|n| n.parse::<usize>().ok());
        let Some(offset) = offset.filter(|_| path.starts_with("/discovery/resources?")) else {
            return (404, String::new());
        };
        let name = |n: usize| if n == 150 { "the Needle" } else { "hay" };
        let page = (offset..(offset + 100).min(220))
            .map(|n| item(&format!("https://api.example.com/{n}"), "1", name(n)));
        (
            200,
            json!({ "items": page.collect::<Vec<_>>(), "pagination": { "total": 220 } })
                .to_string(),
        )
    });
    let silent = catalogue(|_| (503, String::new()));
    let home = home(&[&found, &silent]);
    let ended = home.farepass(["discover", "needle", "--json"]).ok();
    let rows = ended.json();
    assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
    assert_eq!(rows[0]["resource"], "https://api.example.com/150");
    assert!(ended.err.contains("503"), "{}", ended.err);
    let rows = home
        .farepass(["discover", "hay", "--limit", "7", "--json"])
        .ok()
        .json();
    assert_eq!(rows.as_array().unwrap().len(), 7);
}

#[test]
fn a_host_says_itself_what_it_sells() {
    let host = catalogue(|path| match path {
        "/.well-known/x402" => (
            200,
            json!({ "version": 1, "resources": ["https://api.example.com/v1/x"] }).to_string(),
        ),
        _ => (404, String::new()),
    });
    let home = home(&[]);
    let rows = home.farepass(["discover", &host, "--json"]).ok().json();
    assert_eq!(
        (&rows[0]["resource"], &rows[0]["verdict"]),
        (&json!("https://api.example.com/v1/x"), &json!("unknown"))
    );
    home.farepass(["discover", "rain"])
        .failed(2, &["discovery:"]);
    let empty = catalogue(|_| (200, "<html>".into()));
    home.farepass(["discover", &empty])
        .failed(1, &["no catalogue"]);
}

#[test]
fn a_policy_is_learned_from_what_was_asked_for() {
    let home = Home::new();
    let event = |host: &str, path: &str, amount: &str, pay_to: &str, reason: &str| {
        json!({ "event": "denied", "state": "denied", "method": "GET", "host": host, "path": path, "amount": amount,
            "network": "eip155:84532", "asset": USDC, "pay_to": pay_to, "scheme": "exact", "reason": reason })
        .to_string()
    };
    let other = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    let mut lines = vec![
        event(
            "api.example.com",
            "/v1/x",
            "10000",
            PAYEE,
            "host_not_allowed",
        ),
        event("api.example.com", "/v1/y", "30000", other, "observe_mode"),
        event("api.example.com:8443", "/", "1", PAYEE, "observe_mode"),
        event("casino.example", "/", "1", PAYEE, "denied_by_rule"),
        event(
            "evil.example",
            "/\"], pay_to: any",
            "1",
            PAYEE,
            "host_not_allowed",
        ),
        event("wild.example", "/**", "1", PAYEE, "host_not_allowed"),
        "no event".into(),
    ];
    lines.push(lines[0].replace(USDC, PAYEE));
    std::fs::write(home.at("events.jsonl"), lines.join("\n")).unwrap();
    let file = home.at("events.jsonl");
    let ended = home.farepass(["learn", file.to_str().unwrap()]).ok();
    assert!(
        ended.err.contains("1 lines") && ended.err.contains("3 events"),
        "{}",
        ended.err
    );
    for word in ["casino", "evil", "wild"] {
        assert!(!ended.out.contains(word), "{}", ended.out);
    }
    let rules = home.at("learned.yaml");
    std::fs::write(&rules, &ended.out).unwrap();
    home.farepass(["check", rules.to_str().unwrap()]).ok();
    let text = &ended.out;
    assert!(
        text.contains(
            "hosts: [\"api.example.com\"]\n      methods: [\"GET\"]\n      paths: [\"/v1/x\"]"
        ),
        "{text}"
    );
    assert!(
        text.contains("max: \"0.03 USD\"") && text.contains("hosts: [\"api.example.com:8443\"]"),
        "{text}"
    );
    assert!(text.contains(&format!("pay_to: [\"{other}\"]")), "{text}");
    std::fs::write(home.at("events.jsonl"), "").unwrap();
    home.farepass(["learn", file.to_str().unwrap()])
        .failed(1, &["nothing was seen"]);
}

/// One ask by a merchant gives no other path its price or its payee, and what was refused for itself is no wish.
#[test]
fn what_was_refused_is_not_learned_as_permission() {
    let home = Home::new();
    let event = |path: &str, state: &str, amount: &str, pay_to: &str, reason: &str| {
        json!({ "event": state, "state": state, "method": "GET", "host": "api.example.com", "path": path, "amount": amount,
            "network": "eip155:84532", "asset": USDC, "pay_to": pay_to, "scheme": "exact", "reason": reason })
        .to_string()
    };
    let other = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    let lines = [
        event("/v1/x", "settled", "10000", PAYEE, ""),
        event("/v1/x", "denied", "900000000", other, "recipient_changed"),
        event("/v1/ask/tip", "denied", "4000000", PAYEE, "approval_denied"),
        event("/v1/same", "settled", "10000", PAYEE, ""),
        event("/v1/noreceipt", "unknown", "10000", PAYEE, ""),
        event("/v1/other", "denied", "20000", other, "observe_mode"),
        event("/v1/x", "denied", "70000", PAYEE, "over_request_cap"),
        event("/v1/dear", "denied", "80000", PAYEE, "over_request_cap"),
    ];
    let file = home.at("events.jsonl");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let ended = home.farepass(["learn", file.to_str().unwrap()]).ok();
    let told = "2 events are left out: a person, a rule or a safeguard refused";
    assert!(ended.err.contains(told), "{}", ended.err);
    let text = &ended.out;
    assert!(!text.contains("900.00") && !text.contains("tip"), "{text}");
    let together = r#"paths: ["/v1/noreceipt", "/v1/same"]"#;
    assert!(text.contains(together), "{text}");
    assert!(text.contains("# and for 0.07 USD, over the cap"), "{text}");
    assert!(text.contains(r#"#       paths: ["/v1/dear"]"#), "{text}");
    for most in [
        r#"    pay:
      max: "0.01 USD""#,
        r#"#       max: "0.08 USD""#,
    ] {
        assert!(text.contains(most), "{most}: {text}");
    }
    assert_eq!(text.matches(other).count(), 1, "{text}");
    let rules = home.at("learned.yaml");
    std::fs::write(&rules, text).unwrap();
    home.farepass(["check", rules.to_str().unwrap()]).ok();
    std::fs::write(&file, &lines[7]).unwrap();
    let only = home.farepass(["learn", file.to_str().unwrap()]).ok();
    std::fs::write(&rules, &only.out).unwrap();
    home.farepass(["check", rules.to_str().unwrap()]).ok();
}

/// Merchants and agents wrote what is in events, and rules do not take all of it.
#[test]
fn what_is_learned_loads() {
    let home = Home::new();
    let event = json!({ "event": "denied", "state": "denied", "method": "GET", "host": "api.example.com", "path": "/v1/x",
        "amount": "10000", "network": "eip155:84532", "asset": USDC, "pay_to": PAYEE, "scheme": "exact",
        "reason": "host_not_allowed" });
    let with = |key: &str, value: &str| {
        let mut event = event.clone();
        event[key] = value.into();
        event.to_string()
    };
    let flipped = PAYEE.replace('F', "f");
    let lines = [
        event.to_string(),
        with("scheme", "upto"),
        with("path", "/v1//prices"),
        with("path", "/a%2Fb"),
        with("method", "get"),
        with("pay_to", &flipped),
        with("scheme", "barter"),
        with("host", "a_host.example:99999"),
    ];
    std::fs::write(home.at("events.jsonl"), lines.join("\n")).unwrap();
    let file = home.at("events.jsonl");
    let ended = home.farepass(["learn", file.to_str().unwrap()]).ok();
    let text = &ended.out;
    assert!(ended.err.contains("6 events are left out"), "{}", ended.err);
    let rules = home.at("learned.yaml");
    std::fs::write(&rules, text).unwrap();
    home.farepass(["check", rules.to_str().unwrap()]).ok();
    assert!(text.contains("# asked for 2 times"), "{text}");
    assert!(
        text.contains(
            "schemes: [\"exact\", \"upto\"]\n      transfer_methods: [eip3009, permit2]\n"
        ),
        "{text}"
    );
}

/// However much was seen: a file has at most 1 MiB, and is what a person should read.
#[test]
fn what_is_learned_has_a_bound() {
    let home = Home::new();
    let long = "x".repeat(900);
    let mut lines = String::new();
    for n in 0..2500_u32 {
        let payee = format!("0x{:040x}", u64::from(n) + 0x0012_3456_7890);
        let host = format!("h{}.example.com", n % 20);
        let event = json!({ "event": "denied", "state": "denied", "method": "GET", "host": host, "path": format!("/{long}/{n}"),
            "amount": "10000", "network": "eip155:84532", "asset": USDC, "pay_to": payee, "scheme": "exact",
            "reason": "host_not_allowed" });
        lines += &format!("{event}\n");
    }
    std::fs::write(home.at("events.jsonl"), lines).unwrap();
    let file = home.at("events.jsonl");
    let ended = home.farepass(["learn", file.to_str().unwrap()]).ok();
    assert!(ended.err.contains("no room for more"), "{}", ended.err);
    let payees = ended.out.matches("0x").count();
    assert!(
        ended.out.len() > 700_000,
        "{}: it is filled",
        ended.out.len()
    );
    assert!(payees <= 20 * 100, "{payees}");
    let rules = home.at("learned.yaml");
    std::fs::write(&rules, &ended.out).unwrap();
    home.farepass(["check", rules.to_str().unwrap()]).ok();
}

/// From a merchant that asks to a policy that pays it.
#[test]
fn what_the_ledger_refused_can_be_learned_from() {
    let street = Street::new();
    if !there_is("curl") {
        return;
    }
    let home = &street.home;
    home.run(&[], &format!("curl -sS {SHOP}/luxury")).ok();
    let export = home.farepass(["ledger", "export", "--denied"]).ok().out;
    let mut learn = home.command(["learn"]);
    let mut child = learn
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(export.as_bytes())
        .unwrap();
    let out = child.wait_with_output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(
        out.status.success() && text.contains("/luxury"),
        "{text}\n{export}"
    );
}
