//! What a rule denies, asked for in another spelling: some server would sell it all the same, and it is not paid.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agent::Ask;
use crate::support::http::Answer;
use crate::support::merchant::{After, Merchant};
use crate::support::proxy::{Proxy, Setup};
use crate::support::{shop, until};

const LONG: Duration = Duration::from_secs(20);

/// A shop that sells by 402, and a policy that denies `what` there and pays the rest.
fn denying(what: &Value) -> (Merchant, Setup) {
    let (merchant, mut setup) = shop::open(|_, out| shop::sell("premium", out));
    let mut about = what.clone();
    about["hosts"] = json!([shop::HOST]);
    let rest = setup.config["rules"][0].clone();
    setup.config["rules"] = json!([{ "name": "no", "match": about, "deny": true }, rest]);
    (merchant, setup)
}

fn post(proxy: &Proxy, fields: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut ask = Ask::get(&format!("https://{}/mcp", shop::HOST));
    ask.method = "POST".into();
    ask.body = body.to_vec();
    let fields = fields.iter().map(|(n, v)| ((*n).into(), (*v).into()));
    ask.fields.extend(fields);
    proxy.agent(LONG).send(&ask).unwrap()
}

fn reason(answer: &Answer) -> String {
    let said: Value = serde_json::from_slice(&answer.body.start).unwrap_or_default();
    said["reason"].as_str().unwrap_or_default().to_owned()
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// The denied call.
const CALL: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"admin-delete"}}"#;

fn packed() -> io::Result<Vec<u8>> {
    let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    packed.write_all(CALL.as_bytes())?;
    packed.finish()
}

/// What is changed, the fields and the body.
type Spelling = (&'static str, Vec<(&'static str, &'static str)>, Vec<u8>);

/// The denied call as it is, and as only some servers take it.
fn spellings() -> Vec<Spelling> {
    let changed = |from: &str, to: &str| {
        let body = CALL.replacen(from, to, 1);
        assert_ne!(body, CALL);
        body.into_bytes()
    };
    let deep = format!(
        r#""name":"admin-delete","x":{}{}"#,
        "[".repeat(40),
        "]".repeat(40)
    );
    let named = r#""name":"admin-delete""#;
    vec![
        ("plain", vec![JSON], CALL.into()),
        ("batch", vec![JSON], format!("[{CALL}]").into()),
        (
            "two names",
            vec![JSON],
            changed(named, r#""name":"x","name":"admin-delete""#),
        ),
        (
            "another case",
            vec![JSON],
            changed(named, r#""name":"x","Name":"admin-delete""#),
        ),
        (
            "the other alone",
            vec![JSON],
            changed(named, r#""NAME":"admin-delete""#),
        ),
        (
            "params twice",
            vec![JSON],
            changed(r#""params":"#, r#""params":{"name":"x"},"Params":"#),
        ),
        ("text", vec![("Content-Type", "text/plain")], CALL.into()),
        ("no type", vec![], CALL.into()),
        (
            "rpc",
            vec![("Content-Type", "application/json-rpc")],
            CALL.into(),
        ),
        (
            "gzip",
            vec![JSON, ("Content-Encoding", "gzip")],
            packed().unwrap(),
        ),
        (
            "digest",
            vec![JSON, ("Content-Digest", "sha-256=:AAAA:")],
            CALL.into(),
        ),
        ("no version", vec![JSON], changed(r#""jsonrpc":"2.0","#, "")),
        ("no id", vec![JSON], changed(r#""id":1,"#, "")),
        ("id null", vec![JSON], changed(r#""id":1"#, r#""id":null"#)),
        ("id 1.5", vec![JSON], changed(r#""id":1"#, r#""id":1.5"#)),
        ("mark", vec![JSON], format!("\u{feff}{CALL}").into()),
        ("deep", vec![JSON], changed(named, &deep)),
    ]
}

#[test]
fn a_denied_tool_is_bought_in_no_spelling() {
    for mcp in [false, true] {
        let (merchant, mut setup) = denying(&json!({ "tools": ["admin-*"] }));
        setup.config["rules"][1]["pay"]["mcp"] = json!(mcp);
        let proxy = setup.start();
        for (what, fields, body) in &spellings() {
            let answer = post(&proxy, fields, body);
            let said = answer.text();
            assert_eq!(answer.status, 402, "{what}: {said}");
            let expected = match *what {
                "plain" | "deep" => "denied_by_rule",
                _ => "host_not_allowed",
            };
            assert_eq!(reason(&answer), expected, "{what}: {said}");
        }
        assert!(shop::payments(&merchant).is_empty(), "mcp: {mcp}");
        // Other tools and other methods are paid, as is what has no body.
        let other = CALL.replace("admin-delete", "search");
        let list = CALL.replace("tools/call", "tools/list");
        let many = format!(r#"{{"q":[{}0],"method":{{}}}}"#, "0,".repeat(20_000));
        for body in [&*other, &*list, &*many, ""] {
            let answer = post(&proxy, &[JSON], body.as_bytes());
            assert_eq!(answer.status, 200, "{body}: {}", answer.text());
        }
        assert_eq!(shop::payments(&merchant).len(), 4, "mcp: {mcp}");
    }
}

#[test]
fn where_no_rule_names_tools_bodies_pass_as_they_are() {
    let (merchant, setup) = denying(&json!({ "paths": ["/other"], "tools": ["admin-*"] }));
    let proxy = setup.start();
    let batch = format!("[{CALL}]");
    let answer = post(&proxy, &[JSON], batch.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(shop::payments(&merchant).len(), 1);
}

/// Servers look resources up by what their URL library makes of the URI.
#[test]
fn a_denied_resource_is_bought_in_no_spelling() {
    let read = |uri: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{{"uri":"{uri}"}}}}"#
        )
    };
    let about = json!({ "tools": ["docs://vault/*", "https://data.example/premium/*"] });
    let (merchant, mut setup) = denying(&about);
    setup.config["rules"][1]["pay"]["mcp"] = json!(true);
    let proxy = setup.start();
    for (uri, expected) in [
        ("docs://vault/keys", "denied_by_rule"),
        ("DOCS://vault/keys", "host_not_allowed"),
        ("docs://open/../vault/keys", "host_not_allowed"),
        ("https://data.example/premium/x", "denied_by_rule"),
        ("https://data.example:443/premium/x", "host_not_allowed"),
        ("https://DATA.example/premium/x", "host_not_allowed"),
    ] {
        let answer = post(&proxy, &[JSON], read(uri).as_bytes());
        assert_eq!(reason(&answer), expected, "{uri}: {}", answer.text());
    }
    assert!(shop::payments(&merchant).is_empty());
    let answer = post(&proxy, &[JSON], read("docs://open/keys").as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Nor is one that is not on the list, by a way through what is.
#[test]
fn a_list_of_resources_is_not_left_by_dots() {
    let (merchant, mut setup) = shop::open(|_, out| shop::sell("premium", out));
    setup.config["rules"][0]["match"]["tools"] =
        json!(["https://data.example/cheap/*", "docs://a b"]);
    setup.config["rules"][0]["pay"]["mcp"] = json!(true);
    let proxy = setup.start();
    let read = |uri: &str| {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{{"uri":"{uri}"}}}}"#
        );
        post(&proxy, &[JSON], body.as_bytes())
    };
    let answer = read("https://data.example/cheap/../premium/x");
    assert_eq!(reason(&answer), "host_not_allowed", "{}", answer.text());
    assert!(shop::payments(&merchant).is_empty());
    for uri in ["https://data.example/cheap/x", "docs://a b"] {
        assert_eq!(read(uri).status, 200, "{uri}");
    }
    assert_eq!(reason(&read("docs://c d")), "host_not_allowed");
}

/// What was paid and never came is not paid again where a new rule has the request read (threat M-12).
#[test]
fn a_call_stays_the_same_when_the_policy_changes() {
    let (merchant, mut setup) = shop::open(|_, _| Ok(After::Reset));
    setup.log = "info";
    let mut proxy = setup.start();
    let call = CALL.replace("admin-delete", "search");
    let ask = |proxy: &Proxy| reason(&post(proxy, &[JSON], call.as_bytes()));
    assert_eq!(ask(&proxy), "outcome_unknown");
    let rest = proxy.setup.config["rules"][0].clone();
    let no =
        json!({ "name": "no", "match": { "hosts": [shop::HOST], "tools": ["x-*"] }, "deny": true });
    proxy.setup.config["rules"] = json!([no, rest]);
    proxy.setup.write();
    let before = proxy.stderr().len();
    proxy.reload();
    until("the reload", LONG, || {
        let read = proxy.stderr()[before..].contains("read again");
        read.then_some(())
    });
    ask(&proxy);
    assert!(proxy.stop().success());
    proxy.start_again();
    ask(&proxy);
    let payments: BTreeSet<String> = shop::payments(&merchant).into_iter().collect();
    assert_eq!(payments.len(), 1, "one payload, whoever reads the call");
}

#[test]
fn a_denied_path_or_method_is_bought_in_no_spelling() {
    let about = json!({ "paths": ["/v2/exact", "/v2/price/**"], "methods": ["GET"] });
    let (merchant, setup) = denying(&about);
    let proxy = setup.start();
    let ask = |method: &str, path: &str| {
        let mut ask = Ask::get(&format!("https://{}{path}", shop::HOST));
        ask.method = method.into();
        proxy.agent(LONG).send(&ask).unwrap()
    };
    for (method, path, expected) in [
        ("GET", "/v2/exact", "denied_by_rule"),
        ("GET", "/V2/exact", "host_not_allowed"),
        ("GET", "/v2/exact/", "host_not_allowed"),
        ("GET", "/v2;x/PRICE/5", "host_not_allowed"),
        ("get", "/v2/exact", "host_not_allowed"),
        ("Get", "/v2/Exact", "host_not_allowed"),
    ] {
        let answer = ask(method, path);
        let said = answer.text();
        assert_eq!(
            (answer.status, &*reason(&answer)),
            (402, expected),
            "{method} {path}: {said}"
        );
    }
    assert!(shop::payments(&merchant).is_empty());
    for (method, path) in [
        ("GET", "/v2/price"),
        ("POST", "/v2/exact"),
        ("GET", "/V1/x;a=b/"),
    ] {
        assert_eq!(ask(method, path).status, 200, "{method} {path}");
    }
    assert_eq!(shop::payments(&merchant).len(), 3);
}
