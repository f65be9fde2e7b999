//! Answers of an agent of the official A2A SDK, bought by its unmodified client from a seller that waits for
//! x402 payments in task metadata, with real money on a chain.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::mcp_stand::mcp_stand;
use crate::support::until;

fn artifact(task: &Value) -> &str {
    task["artifacts"][0]["parts"][0]["text"]
        .as_str()
        .unwrap_or_else(|| panic!("{task}"))
}

#[test]
fn an_official_client_buys_from_an_official_agent() {
    let Some(stand) = mcp_stand() else { return };
    let proxy = stand.setup().start();
    let said = stand.a2a(
        &proxy,
        &[
            json!({ "say": "free" }),
            json!({ "say": "Zürich \u{1f980}" }),
            json!({ "say": "a stream", "stream": true }),
            json!({ "say": "with metadata", "metadata": { "trace": "x" } }),
        ],
    );
    assert_eq!(said[0]["result"]["status"]["state"], "completed");
    for (at, words) in [(1, "Zürich \u{1f980}"), (3, "with metadata")] {
        let task = &said[at]["result"];
        assert_eq!(artifact(task), format!("an answer to {words}"));
        assert_eq!(task["status"]["state"], "completed", "{task}");
        let receipts = &task["status"]["message"]["metadata"]["x402.payment.receipts"];
        assert_eq!(receipts[0]["success"], true, "{receipts}");
    }
    let events = said[2]["events"].as_array().unwrap();
    let last = events.last().unwrap();
    assert_eq!(last["status"]["state"], "completed", "{last}");
    let answered = |event: &Value| event["artifact"]["parts"][0]["text"] == "an answer to a stream";
    assert!(events.iter().any(answered), "{events:?}");
    until("the receipts", Duration::from_secs(20), || {
        (proxy.ledger().sum(&["settled"]) == 30_000).then_some(())
    });
    assert_eq!(stand.assert_agreement(&proxy), 30_000);
}

#[test]
fn a_refusal_is_an_error_that_the_official_client_reads() {
    let Some(stand) = mcp_stand() else { return };
    let mut setup = stand.setup();
    setup.config["rules"][0]["pay"]["max"] = json!("0.001 USD");
    let proxy = setup.start();
    let said = stand.a2a(
        &proxy,
        &[
            json!({ "say": "x" }),
            json!({ "say": "x", "stream": true }),
            json!({ "say": "x", "metadata": { "x402.payment.payload": {} } }),
        ],
    );
    for (said, reason) in said.iter().zip([
        "over_request_cap",
        "over_request_cap",
        "agent_payment_header",
    ]) {
        let told = said["error"].to_string();
        assert!(told.contains(reason), "{said}");
        // What brings its own payment is no call that could be answered.
        let answered = reason == "over_request_cap";
        assert_eq!(told.contains("-32090"), answered, "{said}");
    }
    assert_eq!(stand.assert_agreement(&proxy), 0);
}

#[test]
fn without_the_key_an_official_client_sees_what_the_agent_waits_for() {
    let Some(stand) = mcp_stand() else { return };
    let mut setup = stand.setup();
    setup.config["rules"][0]["pay"]["mcp"] = json!(false);
    let proxy = setup.start();
    let said = stand.a2a(&proxy, &[json!({ "say": "x" })]);
    let status = &said[0]["result"]["status"];
    assert_eq!(status["state"], "input-required", "{said:?}");
    let asked = &status["message"]["metadata"]["x402.payment.required"];
    assert_eq!(asked["x402Version"], 2, "{said:?}");
    assert_eq!(stand.assert_agreement(&proxy), 0);
    assert!(proxy.ledger().rows.is_empty());
}
