//! The page of metrics: as others read it, as docs/operations.md tells it, and as the files in `deploy` use it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::api::{ask, lively};
use crate::support::{python, shop};

use farepass::event::metrics::{Family, Kind};

fn families() -> Vec<Family> {
    let mut all = farepass::event::metrics::FAMILIES.to_vec();
    all.extend(farepass::proxy::FAMILIES);
    all.extend(farepass::event::otel::FAMILIES);
    all.extend(farepass::admin::FAMILIES);
    all
}

/// By name and labels.
fn value(page: &Value, name: &str, labels: &Value) -> Option<f64> {
    let samples = page.as_array().unwrap().iter();
    let mut samples = samples.flat_map(|f| f["samples"].as_array().unwrap());
    let fits = |sample: &&Value| {
        sample["name"] == name
            && (labels.as_object().unwrap().iter()).all(|(k, v)| sample["labels"][k] == *v)
    };
    samples.find(fits)?["value"].as_f64()
}

#[test]
fn the_page_is_read_by_others_and_tells_what_happened() {
    let (_merchant, proxy) = lively();
    ask(
        &proxy,
        "POST",
        "/api/v1/freezes",
        Some(&json!({ "scope": "host", "name": "x.test" })),
    );
    let page = proxy.ask_admin("/metrics").unwrap();
    assert_eq!(
        page.one("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let text = page.text();
    let Some(page) = python::judged("metrics.py", &json!({ "text": text })) else {
        return;
    };
    let shop = json!({
        "outcome": "settled", "host": "shop.stand.test", "scheme": "exact",
        "network": "eip155:84532", "agent": "default",
    });
    let hourly = json!({ "budget": "hourly", "scope": "agent" });
    for (name, labels, expected) in [
        ("farepass_payments_total", shop.clone(), 2.0),
        ("farepass_amount_usd_total", shop, 0.02),
        ("farepass_spent_usd_total", json!({}), 0.02),
        (
            "farepass_refusals_total",
            json!({ "reason": "over_request_cap", "rule": "dear" }),
            1.0,
        ),
        (
            "farepass_refusals_total",
            json!({ "reason": "denied_by_rule", "rule": "never" }),
            1.0,
        ),
        (
            "farepass_refusals_total",
            json!({ "reason": "approval_required", "rule": "ask" }),
            1.0,
        ),
        ("farepass_approvals_waiting", json!({}), 1.0),
        ("farepass_freezes", json!({}), 1.0),
        ("farepass_ready", json!({}), 1.0),
        ("farepass_ledger_up", json!({}), 1.0),
        ("farepass_open_payments", json!({ "state": "unknown" }), 0.0),
        ("farepass_sessions", json!({ "state": "open" }), 1.0),
        ("farepass_budget_limit_usd", hourly.clone(), 0.05),
        ("farepass_budget_spent_usd", hourly.clone(), 0.02),
        ("farepass_budget_remaining_usd", hourly.clone(), 0.03),
        ("farepass_budget_used_ratio", hourly, 0.4),
        (
            "farepass_budget_used_ratio",
            json!({ "budget": "many" }),
            0.02,
        ),
        (
            "farepass_step_seconds_count",
            json!({ "step": "reserve" }),
            2.0,
        ),
        (
            "farepass_step_seconds_count",
            json!({ "step": "sign" }),
            2.0,
        ),
        (
            "farepass_step_seconds_count",
            json!({ "step": "settle" }),
            2.0,
        ),
        (
            "farepass_step_seconds_count",
            json!({ "step": "decide" }),
            5.0,
        ),
        ("farepass_purchase_seconds_count", json!({}), 2.0),
        (
            "farepass_handshakes_total",
            json!({ "side": "agent", "result": "ok" }),
            5.0,
        ),
        (
            "farepass_handshakes_total",
            json!({ "side": "agent", "result": "failed" }),
            0.0,
        ),
        (
            "farepass_connections_total",
            json!({ "result": "served" }),
            5.0,
        ),
        ("farepass_leaf_certificates_cached", json!({}), 4.0),
        (
            "farepass_leaf_certificates_total",
            json!({ "result": "made" }),
            4.0,
        ),
    ] {
        let found = value(&page, name, &labels);
        assert_eq!(found, Some(expected), "{name} {labels}\n{text}");
    }
    assert!(value(&page, "farepass_purchase_seconds_sum", &json!({})) > Some(0.0));
    assert!(
        value(
            &page,
            "farepass_handshakes_total",
            &json!({ "side": "merchant", "result": "ok" })
        ) > Some(0.0)
    );
    assert!(
        value(
            &page,
            "farepass_upstream_connections_total",
            &json!({ "result": "dialled" })
        ) > Some(0.0)
    );
    let shown: BTreeMap<_, _> = (page.as_array().unwrap().iter())
        .map(|family| {
            (
                family["name"].as_str().unwrap(),
                family["type"].as_str().unwrap(),
            )
        })
        .collect();
    for family in families() {
        let (name, kind) = match family.kind {
            // The library takes the ending of counters off.
            Kind::Counter => (family.name.trim_end_matches("_total"), "counter"),
            Kind::Gauge => (family.name, "gauge"),
            Kind::Histogram => (family.name, "histogram"),
        };
        assert_eq!(shown.get(name), Some(&kind), "{name}");
    }
    assert_eq!(shown.len(), families().len(), "{shown:?}");
    for text in [proxy.token(), "0xd8dA".into(), "/report".into()] {
        assert!(!page.to_string().contains(&text), "{text}");
    }
}

#[test]
fn limits_that_agents_must_not_know_are_for_the_token() {
    let mut setup = crate::support::proxy::Setup::new();
    setup.config["refusals"] = json!({ "numbers": false });
    setup.config["budgets"] =
        json!([{ "name": "secret", "scope": "all", "limit": "1 USD", "window": "day" }]);
    let proxy = setup.start();
    let open = proxy.ask_admin("/metrics").unwrap().text();
    assert!(
        open.contains("farepass_ready 1") && !open.contains("farepass_budget"),
        "{open}"
    );
    let told = ask(&proxy, "GET", "/metrics", None).text();
    assert!(
        told.contains("farepass_budget_limit_usd{budget=\"secret\",scope=\"all\"} 1.0"),
        "{told}"
    );
}

#[test]
fn the_documents_list_every_metric() {
    let text = include_str!("../../docs/operations.md");
    let (_, rest) = text
        .split_once("\n| metric | kind | labels | what it is |\n|---|---|---|---|\n")
        .unwrap();
    let rows: Vec<_> = rest
        .lines()
        .take_while(|line| line.starts_with('|'))
        .collect();
    let row = |family: &Family| {
        let kind = format!("{:?}", family.kind).to_lowercase();
        let labels: Vec<_> = family.labels.iter().map(|l| format!("`{l}`")).collect();
        format!(
            "| `{}` | {kind} | {} | {} |",
            family.name,
            labels.join(" "),
            family.help
        )
    };
    let expected: Vec<_> = families().iter().map(row).collect();
    assert_eq!(rows, expected, "{}", expected.join("\n"));
}

/// Every `farepass_…` in an expression is on the page, and so is every label it is asked for.
#[test]
fn dashboards_and_alerts_use_what_is_there() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/observability");
    let read = |name: &str| std::fs::read_to_string(home.join(name)).unwrap();
    let mut expressions = vec![];
    let dashboard: Value = serde_json::from_str(&read("grafana.json")).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            expressions.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    let alerts = serde_yaml::Deserializer::from_str(&read("alerts.yaml"))
        .map(|document| Value::deserialize(document).unwrap())
        .next()
        .unwrap();
    for rule in alerts["groups"][0]["rules"].as_array().unwrap() {
        assert!(rule["annotations"]["summary"].is_string(), "{rule}");
        expressions.push(rule["expr"].as_str().unwrap().to_owned());
    }
    assert!(expressions.len() > 30, "{}", expressions.len());
    let mut used = BTreeSet::new();
    for expression in &expressions {
        for (at, _) in expression.match_indices("farepass_") {
            let rest = &expression[at..];
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            let (name, rest) = rest.split_at(end.unwrap_or(rest.len()));
            let all = families();
            let family = all.iter().find(|f| match f.kind {
                Kind::Histogram => {
                    let part = name.strip_prefix(f.name);
                    part.is_some_and(|p| ["_bucket", "_count", "_sum"].contains(&p))
                }
                Kind::Counter | Kind::Gauge => name == f.name,
            });
            let family = family.unwrap_or_else(|| panic!("{name} in {expression}"));
            used.insert(family.name);
            let selector = rest.strip_prefix('{').and_then(|r| r.split_once('}'));
            for label in selector.iter().flat_map(|(inside, _)| inside.split(',')) {
                let (label, _) = label.split_once(['=', '!']).unwrap();
                let known = family.labels.contains(&label) || label == "job";
                assert!(known, "{label} in {expression}");
            }
        }
    }
    assert!(used.len() >= 24, "{used:?}");
}

/// What is told to who comes from AgentCore is on the page: families, and the values of labels.
#[test]
fn what_stands_for_agentcores_metrics_is_on_the_page() {
    let text = include_str!("../../docs/operations.md");
    let (_, rest) = text.split_once("\n| there | here |\n|---|---|\n").unwrap();
    let rows = rest.lines().take_while(|line| line.starts_with('|'));
    let here = rows.filter_map(|row| row.split(" | ").nth(1));
    let named = here.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned));
    let named: Vec<_> = named.filter(|n| n.starts_with("farepass_")).collect();
    assert!(named.len() >= 15, "{named:?}");
    let (_merchant, setup) = shop::open(|_, out| shop::sell("goods", out));
    let proxy = setup.start();
    assert_eq!(proxy.get(&format!("https://{}/x", shop::HOST)).status, 200);
    let _ = proxy.ledger();
    assert_eq!(ask(&proxy, "GET", "/api/v1/sessions", None).status, 200);
    assert_eq!(ask(&proxy, "GET", "/api/v1/none", None).status, 404);
    let page = ask(&proxy, "GET", "/metrics", None).text();
    for name in named {
        let (name, labels) = name.split_once('{').unwrap_or((&name, "}"));
        let base = name.trim_end_matches("_count");
        let family = families().into_iter().find(|f| f.name == base);
        assert!(family.is_some(), "there is no {base}");
        // What did not happen here has no sample: refusals, unknown and released payments; and balances.
        let label = labels.trim_end_matches('}');
        let always = ["sessions", "step", "api", "purchase", "build", "spent"];
        let expected = label.contains("settled") || always.iter().any(|a| name.contains(a));
        let mut lines = page
            .lines()
            .filter(|l| l.starts_with(name) && l.contains(label));
        assert!(
            !expected || lines.next().is_some(),
            "{name}{labels}\n{page}"
        );
    }
    let sample = page
        .lines()
        .find(|l| l.starts_with("farepass_payments_total"));
    assert!(sample.unwrap().contains("wallet=\"main\""), "{page}");
    for (result, count) in [("ok", 1), ("refused", 1), ("failed", 0)] {
        let line = format!("farepass_api_seconds_count{{result=\"{result}\"}} {count}");
        assert!(page.contains(&line), "{line}\n{page}");
    }
}
