//! The admin API is what its description says: every route, every answer, and nothing besides.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http::{self, Answer};
use crate::support::merchant::Merchant;
use crate::support::proxy::{Proxy, Setup};
use crate::support::{python, shop, until};

const PATIENCE: Duration = Duration::from_secs(20);

/// One request to the admin listener, with the token.
pub(crate) fn ask(proxy: &Proxy, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let mut socket = begin(proxy, method, path, body, &[]);
    http::read_answer(&mut socket, method).unwrap()
}

fn begin(
    proxy: &Proxy,
    method: &str,
    path: &str,
    body: Option<&Value>,
    more: &[(&str, &str)],
) -> BufReader<TcpStream> {
    let mut socket = TcpStream::connect(proxy.admin()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = body.map(Value::to_string).unwrap_or_default();
    let bearer = format!("Bearer {}", proxy.token());
    let length = body.len().to_string();
    let mut fields = vec![
        ("Host", "127.0.0.1"),
        ("Authorization", &*bearer),
        ("Content-Length", &*length),
        ("Connection", "close"),
    ];
    fields.extend(more);
    let fields: Vec<_> = (fields.iter())
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect();
    http::write_head(&mut socket, &format!("{method} {path} HTTP/1.1"), &fields).unwrap();
    socket.write_all(body.as_bytes()).unwrap();
    BufReader::new(socket)
}

/// A proxy that has paid, refused and asked.
pub(crate) fn lively() -> (Merchant, Proxy) {
    let merchant = Merchant::start(|seen, out| {
        let mut challenge = shop::challenge();
        challenge["resource"]["url"] = json!(format!("https://{}/", seen.host));
        match seen.payment() {
            None => shop::ask(&challenge, out),
            Some(_) => shop::sell("sold", out),
        }
    });
    let mut setup = shop::setup(&merchant);
    for name in ["dear", "never", "ask"] {
        setup.resolve(
            &format!("{name}.stand.test:443"),
            merchant.tls.port().into(),
        );
    }
    setup.config["budgets"] = json!([
        { "name": "hourly", "scope": "agent", "limit": "0.05 USD", "window": "1h" },
        { "name": "per-host", "scope": "host", "limit": "0.5 USD", "window": "day", "payments": 9, "warn_at": "80%" },
        { "name": "many", "scope": "all", "payments": 100, "window": "month" },
    ]);
    let rule = |name: &str, says: Value| {
        let mut rule = says;
        rule["name"] = json!(name);
        rule["match"] = json!({ "hosts": [format!("{name}.stand.test")] });
        rule
    };
    setup.config["rules"] = json!([
        rule("dear", json!({ "pay": { "max": "0.001 USD" } })),
        rule("never", json!({ "deny": true })),
        rule(
            "ask",
            json!({ "pay": { "max": "1 USD", "approval": { "above": "0 USD" } } })
        ),
        rule(
            "shop",
            json!({ "pay": { "max": "0.1 USD", "pay_to": "first-seen", "max_price_increase": "20%" } })
        ),
    ]);
    let proxy = setup.start();
    for (name, status) in [
        ("shop", 200),
        ("shop", 200),
        ("dear", 402),
        ("never", 402),
        ("ask", 402),
    ] {
        let answer = proxy.get(&format!("https://{name}.stand.test/report"));
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
    }
    until("the books", PATIENCE, || {
        let rows = ask(&proxy, "GET", "/api/v1/payments?state=settled", None).json();
        let all = ask(&proxy, "GET", "/api/v1/payments?denied=true", None).json();
        let count = |rows: &Value| rows.as_array().unwrap().len();
        (count(&rows) == 2 && count(&all) == 5).then_some(())
    });
    (merchant, proxy)
}

/// What the paths of the description stand for here.
fn path(template: &str, named: &Value) -> String {
    let mut path = template.to_owned();
    for (name, value) in named.as_object().unwrap() {
        path = path.replace(&format!("{{{name}}}"), value.as_str().unwrap());
    }
    assert!(!path.contains('{'), "{path}: what stands in braces?");
    path
}

#[test]
fn every_route_is_described_and_answers_as_described() {
    let (_merchant, proxy) = lively();
    // The description needs no token.
    let description = proxy.ask_admin("/api/v1/openapi.json").unwrap();
    assert_eq!(description.status, 200, "{}", description.text());
    let description = description.json();
    assert_eq!(documented(), routes(&description));
    let list = |path: &str| ask(&proxy, "GET", path, None).json();
    let payments = list("/api/v1/payments?state=settled");
    let named = json!({
        "payment": payments[0]["id"], "session": "default", "host": "shop.stand.test",
        "approval": list("/api/v1/approvals")[0]["id"],
    });
    let frozen = json!({ "scope": "host", "name": "shop.stand.test", "why": "odd" });
    let mut bodies = json!({
        "POST /api/v1/sessions": { "agent": "bot", "budget": "0.2 USD" },
        "POST /api/v1/reconcile": { "payments": [payments[0]["id"]] },
        "POST /api/v1/freezes": frozen,
        "POST /api/v1/approvals": {
            "session": "default", "url": "https://ask.stand.test/other", "amount": "0.02 USD",
            "pay_to": "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045",
        },
    });
    let mut answers = vec![];
    let mut seen = BTreeSet::new();
    for (template, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            // Reads and writes first, what takes away last: DELETE before GET would leave nothing.
            seen.insert((method == "delete", method.to_uppercase(), template.clone()));
        }
    }
    assert!(seen.len() >= 22, "{seen:?}");
    bodies["DELETE /api/v1/freezes"] = json!({ "scope": "host", "name": "shop.stand.test" });
    for (_, method, template) in &seen {
        if template.ends_with("/events") {
            continue;
        }
        let body = bodies.get(format!("{method} {template}"));
        let answer = ask(&proxy, method, &path(template, &named), body);
        let twice = template.contains("{approval}") && answer.status == 409;
        let fine = answer.status < 300 || twice;
        assert!(fine, "{method} {template}: {}", answer.text());
        answers.push(told(method, template, &answer));
    }
    // What goes wrong is described too.
    for (method, template, path) in [
        ("GET", "/api/v1/payments", "/api/v1/payments?limt=1"),
        (
            "GET",
            "/api/v1/payments/{payment}",
            "/api/v1/payments/pay_0",
        ),
        (
            "GET",
            "/api/v1/payments/{payment}/trail",
            "/api/v1/payments/x/trail",
        ),
        ("POST", "/api/v1/freezes", "/api/v1/freezes"),
    ] {
        let answer = ask(&proxy, method, path, None);
        assert!((400..500).contains(&answer.status), "{method} {path}");
        answers.push(told(method, template, &answer));
    }
    // An id that is well formed and names nothing.
    let payment = format!("pay_{}", "0".repeat(32));
    let payments = json!({ "payments": [payment] });
    let approve = "/api/v1/approvals/{approval}/approve";
    let none = approve.replace("{approval}", &format!("apr_{}", "0".repeat(32)));
    for (template, path, body, detail) in [
        (approve, &*none, None, "no such approval"),
        (
            "/api/v1/reconcile",
            "/api/v1/reconcile",
            Some(&payments),
            "no such payment",
        ),
    ] {
        let answer = ask(&proxy, "POST", path, body);
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        assert_eq!(answer.json()["detail"], detail);
        let missing = &description["paths"][template]["post"]["responses"]["404"];
        assert!(missing.is_object(), "{template}: {missing}");
        answers.push(told("POST", template, &answer));
    }
    // What is not described is not there.
    for (template, methods) in description["paths"].as_object().unwrap() {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            if methods.get(method.to_lowercase()).is_none() {
                let answer = ask(&proxy, method, &path(template, &named), None);
                assert_eq!(answer.status, 405, "{method} {template}");
                let allowed = answer.one("allow").unwrap().to_lowercase();
                let allowed: BTreeSet<_> = allowed.split(", ").collect();
                let described = methods.as_object().unwrap().keys().map(String::as_str);
                assert_eq!(allowed, described.collect(), "{method} {template}");
            }
        }
    }
    for nothing in [
        "/api/v1/",
        "/api/v1/session",
        "/api/v1/payments/x/y",
        "/api/v1/sessions//",
    ] {
        assert_eq!(ask(&proxy, "GET", nothing, None).status, 404, "{nothing}");
    }
    let document = json!({ "description": description, "answers": answers });
    if let Some(wrong) = python::judged("openapi.py", &document) {
        assert_eq!(wrong, json!([]));
    }
}

/// The rows of the table of routes in docs/operations.md.
fn documented() -> BTreeSet<String> {
    let text = include_str!("../../docs/operations.md");
    let (_, rest) = text
        .split_once("\n| route | what it does |\n|---|---|\n")
        .unwrap();
    let rows = rest.lines().take_while(|line| line.starts_with('|'));
    rows.map(str::to_owned).collect()
}

/// What those rows should be.
fn routes(description: &Value) -> BTreeSet<String> {
    let mut rows = BTreeSet::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let doc = operation["summary"].as_str().unwrap();
            rows.insert(format!("| `{} {path}` | {doc} |", method.to_uppercase()));
        }
    }
    rows
}

fn told(method: &str, template: &str, answer: &Answer) -> Value {
    json!({
        "method": method, "path": template, "status": answer.status,
        "type": answer.one("content-type").unwrap(), "body": answer.json(),
    })
}

/// Requests made up from the description: whatever they hold, the answer is one that it describes.
#[test]
fn made_up_requests_are_answered_as_described() {
    let (_merchant, proxy) = lively();
    let Some(python) = python::judges() else {
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    let mut command = Command::new(python);
    command
        .args(["-m", "schemathesis.cli", "run", "--max-examples=12", "--seed=1"])
        .args(["--checks=not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,unsupported_method,ignored_auth"])
        .args(["--exclude-path=/api/v1/events", "--phases=examples,coverage,fuzzing", "--no-color"])
        .args(["--request-timeout=10", "--generation-database=none"])
        .arg(format!("--header=Authorization: Bearer {}", proxy.token()))
        .arg(format!("http://{}/api/v1/openapi.json", proxy.admin()))
        .current_dir(scratch.path())
        .stdin(Stdio::null());
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}\n{out:?}");
    assert!(said.contains("Tested: 23"), "{said}");
    proxy.assert_verifies();
}

#[test]
fn what_is_there_can_be_filtered_and_followed() {
    let (_merchant, proxy) = lively();
    let get = |path: &str| ask(&proxy, "GET", &format!("/api/v1/{path}"), None).json();
    let count = |path: &str| get(path).as_array().unwrap().len();
    assert_eq!(count("payments"), 2);
    assert_eq!(count("payments?denied=true"), 5);
    assert_eq!(count("payments?denied=true&limit=3"), 3);
    assert_eq!(count("payments?rule=shop"), 2);
    assert_eq!(count("payments?rule=dear"), 0);
    assert_eq!(count("payments?agent=nobody"), 0);
    assert_eq!(count("payments?host=shop%2Estand.test"), 2);
    assert_eq!(count("refusals"), 3);
    let refused = get("refusals?reason=over_request_cap");
    assert_eq!(refused.as_array().unwrap().len(), 1);
    assert_eq!(refused[0]["rule"], "dear");
    assert_eq!(get("refusals?rule=never")[0]["reason"], "denied_by_rule");

    let payment = get("payments?limit=1")[0].clone();
    let trail = get(&format!(
        "payments/{}/trail",
        payment["id"].as_str().unwrap()
    ));
    let records = trail["records"].as_array().unwrap();
    assert_eq!(records[0]["state"], "reserved");
    assert_eq!(records.last().unwrap()["state"], "settled");
    assert!(trail["head_seq"].as_u64() >= records.last().unwrap()["record_seq"].as_u64());

    let budgets = get("budgets");
    let hourly = &budgets[0];
    assert_eq!(
        (&hourly["limit"], &hourly["window"]),
        (&json!("0.05 USD"), &json!("1h"))
    );
    let account = &hourly["accounts"][0];
    assert_eq!(account["spent"], "0.02 USD");
    assert_eq!(account["remaining"], "0.03 USD");
    assert_eq!(budgets[1]["accounts"][0]["whose"], "shop.stand.test");
    assert_eq!(budgets[1]["accounts"][0]["payments_remaining"], 7);
    assert_eq!(budgets[2]["limit"], Value::Null);
    assert_eq!(budgets[2]["accounts"][0]["payments_remaining"], 98);

    let policy = get("policy");
    assert_eq!(policy["hash"], payment["policy"]);
    assert_eq!(policy["rules"][1]["deny"], true);
    assert_eq!(policy["rules"].as_array().unwrap().len(), 4);
    let health = get("health");
    assert_eq!(
        (&health["ready"], &health["policy"]),
        (&json!(true), &policy["hash"])
    );
    let frozen = json!({ "scope": "all", "why": "a test" });
    let frozen = ask(&proxy, "POST", "/api/v1/freezes", Some(&frozen)).json();
    assert_eq!(frozen[0]["what"], "all");
}

/// The next event of a stream: its id and its data.
fn next(stream: &mut BufReader<TcpStream>, kind: &str) -> (u64, Value) {
    let (mut id, mut event, mut line) = (0, String::new(), String::new());
    loop {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream ended");
        let text = line.trim_end();
        if let Some(number) = text.strip_prefix("id: ") {
            id = number.parse().unwrap();
        } else if let Some(name) = text.strip_prefix("event: ") {
            event = name.to_owned();
        } else if let Some(data) = text.strip_prefix("data: ")
            && event == kind
        {
            return (id, serde_json::from_str(data).unwrap());
        }
    }
}

#[test]
fn events_come_as_they_happen_and_none_is_missed() {
    let (_merchant, mut proxy) = lively();
    let mut stream = begin(&proxy, "GET", "/api/v1/events", None, &[]);
    let head = http::read_head(&mut stream).unwrap().unwrap();
    assert!(head.first.contains("200"), "{}", head.first);
    assert_eq!(head.one("content-type"), Some("text/event-stream"));
    assert_eq!(proxy.get("https://shop.stand.test/report").status, 200);
    // What was there before it began is not told.
    let (first, reserved) = next(&mut stream, "spend");
    assert_eq!(reserved["state"], "reserved");
    let (second, settled) = next(&mut stream, "spend");
    assert_eq!(
        (&settled["id"], &settled["state"]),
        (&reserved["id"], &json!("settled"))
    );
    assert!(second > first);
    let frozen = json!({ "scope": "all" });
    ask(&proxy, "POST", "/api/v1/freezes", Some(&frozen));
    assert_eq!(next(&mut stream, "notice").1["event"], "frozen");
    ask(&proxy, "DELETE", "/api/v1/freezes", Some(&frozen));
    drop(stream);

    // Missed, and taken up again, over a restart too.
    assert_eq!(proxy.get("https://shop.stand.test/report").status, 200);
    proxy.ledger();
    assert!(proxy.stop().success());
    proxy.start_again();
    let after = first.to_string();
    let mut stream = begin(
        &proxy,
        "GET",
        "/api/v1/events",
        None,
        &[("Last-Event-ID", &after)],
    );
    let (seq, again) = next(&mut stream, "spend");
    assert_eq!((seq, &again["state"]), (second, &json!("settled")));
    let (_, missed) = std::iter::repeat_with(|| next(&mut stream, "spend"))
        .find(|(_, event)| event["id"] != settled["id"])
        .unwrap();
    assert_eq!(missed["state"], "reserved");
    assert_eq!(next(&mut stream, "spend").1["state"], "settled");
    let wrong = begin(
        &proxy,
        "GET",
        "/api/v1/events",
        None,
        &[("Last-Event-ID", "x")],
    );
    let wrong = http::read_answer(&mut { wrong }, "GET").unwrap();
    assert_eq!(wrong.status, 400);
    // A number that this ledger has not reached was another one's, as after a loss of records.
    for ahead in ["1000", "9223372036854775808", "18446744073709551615"] {
        let fields = [("Last-Event-ID", ahead)];
        let mut stream = begin(&proxy, "GET", "/api/v1/events", None, &fields);
        let (end, missed) = next(&mut stream, "notice");
        assert_eq!(missed["event"], "missed", "{ahead}");
        // Paid or refused, it is a record.
        proxy.get("https://shop.stand.test/report");
        assert_eq!(next(&mut stream, "spend").0, end + 1, "{ahead}");
    }
    // An open stream does not hold up the end.
    let began = std::time::Instant::now();
    assert!(proxy.stop().success());
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn there_are_so_many_streams_and_no_more() {
    let proxy = Setup::new().start();
    let open = || {
        let mut stream = begin(&proxy, "GET", "/api/v1/events", None, &[]);
        let head = http::read_head(&mut stream).unwrap().unwrap();
        (head.first.contains(" 200 "), stream)
    };
    let streams: Vec<_> = (0..16).map(|_| open()).collect();
    assert!(streams.iter().all(|(open, _)| *open));
    assert!(!open().0, "one too many");
    drop(streams);
    until("a place", PATIENCE, || open().0.then_some(()));
}

/// Threats D-01 and K-01: whoever has not shown yet what it wants holds no operator up, however many there are.
#[test]
fn unfinished_questions_give_way() {
    let (_merchant, proxy) = lively();
    let begin = || {
        let mut stream = TcpStream::connect(proxy.admin()).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
        stream
    };
    let held: Vec<_> = (0..300).map(|_| begin()).collect();
    let asked = Instant::now();
    let frozen = proxy.setup.run(&["freeze", "all"]);
    assert!(frozen.status.success(), "{frozen:?}");
    assert_eq!(ask(&proxy, "GET", "/healthz", None).status, 200);
    assert!(asked.elapsed() < Duration::from_secs(5), "{asked:?}");
    drop(held);
}

/// Threats D-01 and K-01: whoever asks and never reads keeps its place for a moment only.
#[test]
fn clients_that_never_read_make_room() {
    let (_merchant, proxy) = lively();
    let question = "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".repeat(2000);
    let held: Vec<_> = (0..64)
        .map(|_| {
            let socket = socket2::Socket::new(
                socket2::Domain::for_address(proxy.admin()),
                socket2::Type::STREAM,
                None,
            );
            let socket = socket.unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            socket.connect(&proxy.admin().into()).unwrap();
            socket.set_nonblocking(true).unwrap();
            let mut stream = TcpStream::from(socket);
            // As much as it takes: the rest is the proxy's to read, and it does not.
            let _ = stream.write_all(question.as_bytes());
            stream
        })
        .collect();
    until("room for others", Duration::from_secs(60), || {
        let mut socket = TcpStream::connect(proxy.admin()).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        http::write_head(
            &mut socket,
            "GET /healthz HTTP/1.1",
            &[("Host".into(), "127.0.0.1".into())],
        )
        .ok()?;
        let answer = http::read_answer(&mut BufReader::new(socket), "GET").ok()?;
        (answer.status == 200).then_some(())
    });
    drop(held);
}
