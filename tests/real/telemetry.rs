//! Traces and logs, as a collector with the official definitions reads them: below the agent's own step,
//! with every step of the payment, over HTTP and gRPC; and a collector that is not there.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::curl::fetch;
use crate::support::http::Answer;
use crate::support::merchant::Merchant;
use crate::support::proxy::{Proxy, Setup};
use crate::support::shop::{self, HOST};
use crate::support::{python, until};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const STEP: &str = "00f067aa0ba902b7";
const PATIENCE: Duration = Duration::from_secs(30);

/// A collector. Dropping it ends it.
struct Collector {
    child: Child,
    ports: Value,
    took: Arc<Mutex<Vec<Value>>>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Collector {
    /// `None` after saying SKIPPED.
    fn start() -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/judges/otlp.py");
        let mut command = Command::new(python::collector()?);
        command.arg(script).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ports = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let took = Arc::new(Mutex::new(vec![]));
        let kept = Arc::clone(&took);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let request = serde_json::from_str(&line).unwrap();
                kept.lock().unwrap().push(request);
            }
        });
        Some(Self { child, ports, took })
    }

    fn url(&self, wire: &str) -> String {
        format!("http://127.0.0.1:{}", self.ports[wire])
    }

    /// Everything of one signal: `resource_spans` or `resource_logs`, and what is in there.
    fn all(&self, kind: &str) -> Vec<Value> {
        let took = self.took.lock().unwrap();
        let resources = took
            .iter()
            .filter_map(|r| r["message"][format!("resource_{kind}")].as_array())
            .flatten();
        let scopes = resources.filter_map(|r| r[format!("scope_{kind}")].as_array());
        let name = if kind == "spans" {
            "spans"
        } else {
            "log_records"
        };
        let items = scopes.flatten().filter_map(|s| s[name].as_array());
        items.flatten().cloned().collect()
    }
}

/// A shop, and one that is too dear.
fn scene() -> (Merchant, Setup) {
    let merchant = Merchant::start(|seen, out| {
        let mut challenge = shop::challenge();
        challenge["resource"]["url"] = json!(format!("https://{}/", seen.host));
        match seen.payment() {
            None => shop::ask(&challenge, out),
            Some(_) => shop::sell("goods", out),
        }
    });
    let mut setup = shop::setup(&merchant);
    let port = merchant.tls.port().into();
    setup.resolve("dear.stand.test:443", port);
    let rule = |host: &str, max: &str| json!({ "name": host, "match": { "hosts": [format!("{host}.stand.test")] }, "pay": { "max": max } });
    setup.config["rules"] = json!([rule("dear", "0.001 USD"), rule("shop", "0.1 USD")]);
    setup.config["budgets"] =
        json!([{ "name": "hourly", "scope": "agent", "limit": "1 USD", "window": "1h" }]);
    setup.config["rules"][1]["pay"]["budgets"] = json!(["hourly"]);
    (merchant, setup)
}

fn ask(proxy: &Proxy, url: &str, fields: &[&str]) -> Answer {
    let mut curl = proxy.curl(url);
    for field in fields {
        curl.args(["-H", field]);
    }
    fetch(curl).unwrap()
}

fn nanos(span: &Value, field: &str) -> u64 {
    span[field].as_str().unwrap().parse().unwrap()
}

/// What an agent that traces buys and is refused, and what one that does not buys.
fn journey(proxy: &Proxy) {
    let parent = format!("traceparent: 00-{TRACE}-{STEP}-01");
    let fields = [&*parent, "tracestate: vendor=x,other=y"];
    let bought = ask(proxy, &format!("https://{HOST}/report?q=hidden"), &fields);
    assert_eq!(bought.status, 200);
    let refused = ask(proxy, "https://dear.stand.test/", &fields);
    assert_eq!(refused.reason().as_deref(), Some("over_request_cap"));
    assert_eq!(
        ask(proxy, &format!("https://{HOST}/alone"), &[]).status,
        200
    );
}

/// The exchange's spans that say this of the path.
fn server<'a>(spans: &'a [Value], path: &str) -> &'a Value {
    let mut found = spans.iter().filter(|s| s["attributes"]["url.path"] == path);
    let span = found.next().unwrap_or_else(|| panic!("{path}: {spans:?}"));
    assert!(found.next().is_none(), "one span of {path}");
    assert_eq!(span["kind"], "SPAN_KIND_SERVER");
    assert_eq!(span["name"], "GET");
    span
}

/// The attributes that docs/operations.md names for those of AgentCore.
fn agentcores() -> Vec<String> {
    let text = include_str!("../../docs/operations.md");
    let (_, rest) = text.split_once("\n| there | here |\n|---|---|\n").unwrap();
    let rows = rest.lines().take_while(|line| line.starts_with('|'));
    let here = rows.filter_map(|row| row.split(" | ").nth(1));
    let named = here.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let named = named.filter(|n| n.starts_with("farepass.") || n.starts_with("http."));
    let named: Vec<_> = named.map(str::to_owned).collect();
    assert!(named.len() >= 12, "{named:?}");
    named
}

fn linked(spans: &[Value], proxy: &Proxy) {
    let books = proxy.ledger();
    let row = books.rows.iter().find(|r| r["path"] == "/report").unwrap();
    let span = server(spans, "/report");
    assert_eq!(span["trace_id"], TRACE);
    assert_eq!(span["parent_span_id"], STEP);
    assert_eq!(span["trace_state"], "vendor=x,other=y");
    let said = &span["attributes"];
    for (name, expected) in [
        ("farepass.outcome", json!("settled")),
        ("farepass.payment.id", row["id"].clone()),
        ("farepass.host", json!(HOST)),
        ("farepass.network", json!("eip155:84532")),
        ("farepass.asset", json!("USDC")),
        ("farepass.amount", json!("10000")),
        ("farepass.charged", json!("0.01 USD")),
        ("farepass.remaining", json!("0.99 USD")),
        ("farepass.rule", json!("shop")),
        (
            "farepass.budgets",
            json!({ "values": [{ "string_value": "hourly:default" }] }),
        ),
        ("farepass.wallet", json!("main")),
        ("farepass.transaction", row["transaction"].clone()),
        ("farepass.session", json!("default")),
        ("farepass.agent", json!("default")),
        ("http.request.method", json!("GET")),
        ("http.response.status_code", json!("200")),
        ("server.address", json!(HOST)),
        ("server.port", json!("443")),
    ] {
        assert_eq!(said[name], expected, "{name}: {span}");
    }
    for name in agentcores() {
        assert!(!said[&*name].is_null(), "{name}: {span}");
    }
    let below: Vec<&Value> = (spans.iter())
        .filter(|s| s["parent_span_id"] == span["span_id"])
        .collect();
    let names: Vec<&str> = below.iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["decide", "reserve", "sign", "pay", "settle"]);
    let (began, ended) = ("start_time_unix_nano", "end_time_unix_nano");
    let mut last = nanos(span, began);
    for step in &below {
        assert_eq!(step["trace_id"], TRACE);
        assert!(last <= nanos(step, began), "in their order: {below:?}");
        assert!(nanos(step, began) <= nanos(step, ended));
        last = nanos(step, ended);
    }
    assert!(last <= nanos(span, ended), "within their parent");
    assert_eq!(row["trace_id"], TRACE);
    assert_eq!(row["span_id"], span["span_id"]);
}

fn others(spans: &[Value]) {
    let refused = (spans.iter()).find(|s| s["attributes"]["farepass.host"] == "dear.stand.test");
    let refused = refused.unwrap();
    assert_eq!(refused["trace_id"], TRACE);
    assert_eq!(refused["attributes"]["farepass.outcome"], "denied");
    assert_eq!(refused["attributes"]["farepass.reason"], "over_request_cap");
    assert_eq!(refused["attributes"]["farepass.rule"], "dear");
    assert_eq!(refused["attributes"]["http.response.status_code"], "402");
    let alone = server(spans, "/alone");
    assert_ne!(alone["trace_id"], TRACE);
    assert_eq!(alone["parent_span_id"], Value::Null);
    assert_eq!(alone["attributes"]["farepass.outcome"], "settled");
}

fn logged(logs: &[Value], spans: &[Value]) {
    let span = server(spans, "/report");
    let ours = logs.iter().filter(|l| l["span_id"] == span["span_id"]);
    let ours: Vec<_> = ours
        .map(|l| {
            assert_eq!(l["trace_id"], TRACE);
            assert_eq!(l["event_name"], "farepass.payment");
            l["attributes"]["farepass.outcome"].as_str().unwrap()
        })
        .collect();
    assert_eq!(ours, ["reserved", "settled"]);
    let denied: Vec<_> = logs
        .iter()
        .filter(|l| l["event_name"] == "farepass.denied")
        .collect();
    assert_eq!(denied.len(), 1);
    assert_eq!(denied[0]["trace_id"], TRACE);
    assert_eq!(
        denied[0]["attributes"]["farepass.reason"],
        "over_request_cap"
    );
    assert_eq!(denied[0]["severity_text"], "INFO");
}

/// What the merchant got is what the agent sent, on both sendings.
fn untouched(merchant: &Merchant) {
    let seen = merchant.seen();
    let report: Vec<_> = seen.iter().filter(|s| s.path() == "/report").collect();
    assert_eq!(report.len(), 2);
    for seen in report {
        let parent = format!("00-{TRACE}-{STEP}-01");
        assert_eq!(seen.head.all("traceparent"), [parent]);
        assert_eq!(seen.head.all("tracestate"), ["vendor=x,other=y"]);
    }
    for seen in seen.iter().filter(|s| s.path() == "/alone") {
        assert!(seen.head.all("traceparent").is_empty(), "none is made up");
    }
}

fn told(wire: &str, set: impl FnOnce(&mut Setup, &Collector)) {
    let Some(collector) = Collector::start() else {
        return;
    };
    let (merchant, mut setup) = scene();
    set(&mut setup, &collector);
    let mut proxy = setup.start();
    journey(&proxy);
    until("three exchanges and their logs", PATIENCE, || {
        let (spans, logs) = (collector.all("spans"), collector.all("logs"));
        (spans.len() >= 14 && logs.len() >= 5).then_some(())
    });
    let page = proxy.ask_admin("/metrics").unwrap().text();
    for line in [
        "farepass_telemetry_exported_total{signal=\"traces\"} 14",
        "farepass_telemetry_exported_total{signal=\"logs\"} 5",
        "farepass_telemetry_dropped_total{signal=\"traces\",reason=\"queue\"} 0",
        "farepass_telemetry_dropped_total{signal=\"traces\",reason=\"export\"} 0",
    ] {
        until(line, PATIENCE, || {
            let page = proxy.ask_admin("/metrics").unwrap().text();
            page.lines().any(|l| l == line).then_some(())
        });
    }
    assert!(page.contains("# TYPE farepass_telemetry_dropped_total counter"));
    let (spans, logs) = (collector.all("spans"), collector.all("logs"));
    linked(&spans, &proxy);
    others(&spans);
    logged(&logs, &spans);
    untouched(&merchant);
    let took = collector.took.lock().unwrap().clone();
    for request in &took {
        assert_eq!(request["via"], wire);
        assert_eq!(request["fields"]["x-key"], "of the collector");
        let kinds = ["resource_spans", "resource_logs"];
        let resource = kinds.iter().find_map(|k| request["message"][k].as_array());
        let about = &resource.unwrap()[0]["resource"]["attributes"];
        assert_eq!(about["service.name"], "till");
        assert_eq!(about["team"], "a b");
    }
    let all = serde_json::to_string(&took).unwrap();
    let key = proxy.setup.secret();
    let payments = shop::payments(&merchant);
    let secrets = payments.iter().map(String::as_str);
    for secret in secrets.chain(["hidden", &key, &proxy.token()]) {
        assert!(!all.contains(secret), "{secret}");
    }
    assert!(proxy.stop().success());
}

#[test]
fn a_collector_reads_traces_and_logs_over_http() {
    told("http", |setup, collector| {
        let endpoint = collector.url("http");
        setup.env.extend([
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.into()),
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "x-key=of%20the%20collector".into(),
            ),
            ("OTEL_SERVICE_NAME", "till".into()),
            ("OTEL_RESOURCE_ATTRIBUTES", "team=a%20b".into()),
        ]);
    });
}

#[test]
fn a_collector_reads_traces_and_logs_over_grpc() {
    use std::os::unix::fs::PermissionsExt as _;
    told("grpc", |setup, collector| {
        let keys = setup.dir.path().join("otlp.headers");
        std::fs::write(&keys, "x-key=of the collector\n").unwrap();
        std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600)).unwrap();
        setup.config["telemetry"] = json!({
            "endpoint": collector.url("grpc"), "protocol": "grpc", "headers_file": keys,
            "service_name": "till", "resource": { "team": "a b" },
        });
    });
}

#[test]
fn an_agent_that_does_not_keep_a_trace_has_none_exported() {
    let Some(collector) = Collector::start() else {
        return;
    };
    let (_merchant, mut setup) = scene();
    setup.config["telemetry"] = json!({ "endpoint": collector.url("http") });
    let mut proxy = setup.start();
    let parent = format!("traceparent: 00-{TRACE}-{STEP}-00");
    let bought = ask(&proxy, &format!("https://{HOST}/report"), &[&parent]);
    assert_eq!(bought.status, 200);
    assert!(proxy.stop().success());
    // What waited at the end was sent.
    let logs = collector.all("logs");
    assert_eq!(logs.len(), 2, "{logs:?}");
    for log in logs {
        assert_eq!(log["trace_id"], TRACE);
        assert_eq!(
            log["span_id"], STEP,
            "the agent's step: there is no span of ours"
        );
    }
    assert!(collector.all("spans").is_empty());
}

#[test]
fn the_spend_log_names_the_agents_step_without_any_telemetry() {
    let (_merchant, mut setup) = scene();
    setup.config["events"] = json!({ "file": "events.jsonl" });
    let mut proxy = setup.start();
    journey(&proxy);
    let page = proxy.ask_admin("/metrics").unwrap().text();
    assert!(!page.contains("signal="), "nothing runs");
    let books = proxy.ledger();
    let lines = until("five events", PATIENCE, || {
        let events = proxy.events();
        (events.len() >= 5).then_some(events)
    });
    for line in lines.iter().chain(&books.rows) {
        match line["path"] == "/alone" {
            true => assert!(line.get("trace_id").is_none(), "{line}"),
            false => {
                assert_eq!(line["trace_id"], TRACE, "{line}");
                assert_eq!(line["span_id"], STEP);
            }
        }
    }
    assert!(proxy.stop().success());
    let file = proxy.setup.dir.path().join("events.jsonl");
    assert_eq!(std::fs::read_to_string(file).unwrap(), proxy.stdout());
}

/// Where nobody listens, and where somebody listens and says nothing.
#[test]
fn a_collector_that_is_down_or_silent_holds_nobody_up() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let down = closed.local_addr().unwrap();
    drop(closed);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for (name, at) in [("down", down), ("silent", silent.local_addr().unwrap())] {
        let (_merchant, mut setup) = scene();
        setup.env.extend([
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{at}").into()),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "60000".into()),
        ]);
        let mut proxy = setup.start();
        let began = Instant::now();
        for n in 0..20 {
            let answer = ask(&proxy, &format!("https://{HOST}/{n}"), &[]);
            assert_eq!(answer.status, 200, "{name}");
        }
        // A try that waits takes a minute.
        assert!(began.elapsed() < Duration::from_secs(30), "{name}");
        let books = proxy.ledger();
        assert!(books.rows.iter().all(|r| r["state"] == "settled"));
        assert_eq!(books.rows.len(), 20);
        let stopping = Instant::now();
        assert!(proxy.stop().success(), "{name}");
        assert!(stopping.elapsed() < Duration::from_secs(20), "{name}");
    }
}

/// The operator let agents reach this machine, and not what watches them.
#[test]
fn agents_do_not_reach_the_collector() {
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = collector.local_addr().unwrap();
    for (watched, status) in [(false, 200), (true, 403)] {
        let (_merchant, mut setup) = scene();
        setup.config["egress"]["allow_private"] = json!(["127.0.0.1/32"]);
        setup.config["egress"]["ports"] = json!([443, 80, at.port()]);
        if watched {
            let endpoint = format!("http://localhost:{}", at.port());
            setup.config["telemetry"] = json!({ "endpoint": endpoint, "traces": false });
        }
        let proxy = setup.start();
        let answering = (!watched).then(|| {
            let collector = collector.try_clone().unwrap();
            std::thread::spawn(move || {
                let (mut stream, _) = collector.accept().unwrap();
                let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                std::io::Write::write_all(&mut stream, answer).unwrap();
            })
        });
        let answer = ask(
            &proxy,
            &format!("http://127.0.0.1:{}/v1/logs", at.port()),
            &[],
        );
        assert_eq!(answer.status, status, "{}", answer.text());
        if let Some(answering) = answering {
            answering.join().unwrap();
        }
    }
}
