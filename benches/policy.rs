//! How long a 402 waits for the decision: a challenge parsed, and judged by a policy of fifty rules.

use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use criterion::Criterion;
use farepass::clock::Timestamp;
use farepass::money::{Usd, canonical_assets};
use farepass::payment::{Asked, Session, SessionId, Tool};
use farepass::policy::{Catalog, Facts, Policy, decide};
use farepass::protocol;
use farepass::section::{Problems, Section};
use http::{Method, Response, StatusCode, response};

const NOW: Timestamp = Timestamp(1_790_000_000_000);

/// Forty-nine rules in the way, with paths; the last one pays.
fn policy() -> Policy {
    let budgets = r#"
budgets:
  - { name: hourly, scope: agent, limit: "2.00 USD", window: 1h }
  - { name: monthly, scope: all, limit: "500 USD", window: month }
"#;
    let mut text = format!("{budgets}rules:\n");
    for n in 1..50 {
        text += &format!(
            "  - {{ name: r{n}, match: {{ hosts: [\"*.h{n}.test\", api.test], paths: [\"/v{n}/**\"] }}, pay: {{ max: \"0.01 USD\" }} }}\n"
        );
    }
    text += "  - { name: last, match: { hosts: [api.test] }, pay: { max: \"0.05 USD\", budgets: [hourly] } }\n";
    let catalog = Catalog {
        assets: canonical_assets(),
        validity: 300,
        requirements: 32,
        ..Catalog::default()
    };
    let mut problems = Problems::default();
    match Section::file("bench.yaml", &text) {
        Ok(mut file) => Policy::read(&mut file, catalog, &mut problems),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            std::process::exit(1);
        }
    }
}

/// Three ways to pay, the middle one the cheapest.
fn challenge() -> response::Parts {
    let entry = |amount: u32| {
        format!(
            r#"{{"scheme":"exact","network":"eip155:84532","amount":"{amount}","asset":"0x036CbD53842c5426634e7929541eC2318f3dCF7e","payTo":"0x5DD72898065Da3fEE015999Df31Cf3A9124FF470","maxTimeoutSeconds":60,"extra":{{"name":"USDC","version":"2"}}}}"#
        )
    };
    let accepts = [30_000, 20_000, 40_000].map(entry).join(",");
    let json = format!(
        r#"{{"x402Version":2,"error":"PAYMENT-SIGNATURE header is required","resource":{{"url":"https://api.test/v1/x","description":"Hourly forecast","mimeType":"application/json"}},"accepts":[{accepts}]}}"#
    );
    let mut parts = Response::new(()).into_parts().0;
    parts.status = StatusCode::PAYMENT_REQUIRED;
    if let Ok(value) = STANDARD.encode(json).parse() {
        parts.headers.insert("payment-required", value);
    }
    parts
}

fn main() {
    let policy = policy();
    let head = challenge();
    let asked = Asked {
        session: Arc::new(Session {
            id: SessionId("default".into()),
            agent: "bot".into(),
            budget: Usd(1_000_000_000),
            created: NOW,
            expires: NOW.after_secs(60),
        }),
        method: Method::GET,
        secure: true,
        host: "api.test".into(),
        port: 443,
        path: "/v100/x".into(),
        tool: Tool::None,
        request: None,
        trace: None,
    };
    let payer = "0x71b0cF3E855b6a3143206334BEBb5cAC3b9a83bf".to_owned();
    let facts = Facts {
        payers: "eip155:84532"
            .parse()
            .map(|n| (n, payer))
            .into_iter()
            .collect(),
        ..Facts::default()
    };
    let parsed = protocol::read(&protocol::recognise(&head), &head, None);
    assert!(decide(&policy, &asked, &parsed, &facts, NOW).is_ok());

    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("decide", |b| {
        b.iter(|| decide(black_box(&policy), &asked, &parsed, &facts, NOW));
    });
    criterion.bench_function("parse and decide", |b| {
        b.iter(|| {
            let parsed = protocol::read(&protocol::recognise(&head), black_box(&head), None);
            decide(&policy, &asked, &parsed, &facts, NOW)
        });
    });
    criterion.final_summary();
}
