//! Priced tools bought by an unmodified official MCP client from the official server, over TLS, with real
//! money on a chain.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::mcp_stand::mcp_stand;
use crate::support::proxy::Proxy;
use crate::support::until;

fn text(said: &Value) -> &str {
    said["result"]["content"][0]["text"]
        .as_str()
        .unwrap_or_else(|| panic!("{said}"))
}

fn settled(proxy: &Proxy, units: u128) {
    until("the receipts", Duration::from_secs(20), || {
        (proxy.ledger().sum(&["settled"]) == units).then_some(())
    });
}

#[test]
fn an_official_client_buys_tools_from_an_official_server() {
    let Some(stand) = mcp_stand() else { return };
    for path in ["/json", "/events"] {
        let mut setup = stand.setup();
        setup.config["rules"][0]["pay"]["schemes"] = json!(["exact", "evm/charge"]);
        let proxy = setup.start();
        let said = stand.client(
            &proxy,
            path,
            &[
                json!({ "tool": "free" }),
                json!({ "tool": "search", "args": { "query": "Zürich \u{1f980}", "n": 0.1 } }),
                json!({ "tool": "slow", "args": { "query": "x" } }),
                json!({ "prompt": "mpp" }),
                json!({ "resource": "docs://paid" }),
                json!({ "prompt": "paid" }),
            ],
        );
        assert_eq!(text(&said[0]), "free");
        assert_eq!(text(&said[1]), "found Zürich \u{1f980}");
        let receipt = &said[1]["result"]["_meta"]["x402/payment-response"];
        assert_eq!(receipt["success"], true, "{path}: {receipt}");
        assert_eq!(text(&said[2]), "slowly x");
        if path == "/events" {
            let progress = json!(["unpaid", "unpaid", "unpaid", "paid", "paid", "paid"]);
            assert_eq!(said[2]["progress"], progress);
        }
        let messages = &said[3]["result"]["messages"];
        assert_eq!(messages[0]["content"]["text"], "by mpp", "{}", said[3]);
        assert_eq!(said[4]["result"]["contents"][0]["text"], "a paid document");
        assert_eq!(
            said[5]["result"]["messages"][0]["content"]["text"],
            "a paid prompt"
        );
        settled(&proxy, 50_000);
        assert_eq!(stand.assert_agreement(&proxy), 50_000);
        let rows = proxy.ledger().rows;
        let by = |protocol: &str| {
            rows.iter()
                .filter(|row| row["protocol"] == protocol)
                .count()
        };
        assert_eq!((by("x402-v2"), by("mpp")), (4, 1), "{rows:?}");
    }
}

#[test]
fn a_refusal_is_read_by_the_official_client() {
    let Some(stand) = mcp_stand() else { return };
    for path in ["/json", "/events"] {
        let mut setup = stand.setup();
        setup.config["rules"][0]["pay"]["max"] = json!("0.001 USD");
        let proxy = setup.start();
        let calls = [
            json!({ "tool": "search" }),
            json!({ "tool": "slow" }),
            json!({ "resource": "docs://paid" }),
        ];
        for said in stand.client(&proxy, path, &calls) {
            let error = &said["error"];
            assert_eq!(
                (&error["name"], &error["code"]),
                (&json!("McpError"), &json!(-32090)),
                "{said}"
            );
            assert_eq!(error["data"]["reason"], "over_request_cap", "{said}");
            assert_eq!(error["data"]["price"], "0.01 USD", "{said}");
        }
        assert_eq!(stand.assert_agreement(&proxy), 0);
    }
}

#[test]
fn without_the_key_an_official_client_sees_the_demand() {
    let Some(stand) = mcp_stand() else { return };
    let mut setup = stand.setup();
    setup.config["rules"][0]["pay"]["mcp"] = json!(false);
    let proxy = setup.start();
    for path in ["/json", "/events"] {
        let said = stand.client(&proxy, path, &[json!({ "tool": "search" })]);
        assert_eq!(
            said[0]["result"]["structuredContent"]["x402Version"], 2,
            "{said:?}"
        );
    }
    assert_eq!(stand.assert_agreement(&proxy), 0);
    assert!(proxy.ledger().rows.is_empty());
}
