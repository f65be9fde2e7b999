//! What wallets hold, by real nodes: listed, on the page of metrics, and told once when it gets low.

use std::time::Duration;

use serde_json::{Value, json};

use crate::solana::{Cluster, DEVNET};
use crate::support::proxy::{Proxy, Setup};
use crate::support::stand::{Stand, stand};
use crate::support::until;

const LONG: Duration = Duration::from_secs(60);
const SEPOLIA: &str = "eip155:84532";

/// `wallet list --json`, and what was said besides.
fn listed(setup: &Setup) -> (Value, String) {
    let out = setup.run(&["wallet", "list", "--json"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let rows = serde_json::from_slice(&out.stdout);
    (rows.unwrap_or_else(|e| panic!("{e}: {said}")), said)
}

/// What a wallet holds of USDC on its first network.
fn usdc(rows: &Value, wallet: &str) -> Value {
    let row = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["name"] == wallet);
    let held = row.unwrap()["networks"][0]["balances"].as_array().unwrap();
    held.iter().find(|h| h["asset"] == "USDC").unwrap().clone()
}

/// What the doctor finds by a check.
fn doctor(setup: &Setup, check: &str) -> Value {
    let out = setup.run(&["doctor", "--json"]);
    let all: Vec<Value> = serde_json::from_slice(&out.stdout).unwrap();
    all.into_iter().find(|f| f["check"] == check).unwrap()
}

fn told(proxy: &Proxy) -> Vec<Value> {
    let events = proxy.events();
    events
        .into_iter()
        .filter(|e| e["event"] == "low_balance")
        .collect()
}

#[test]
fn both_chains_say_what_is_there() {
    let Some(stand) = stand() else { return };
    let (mut setup, address) = Cluster(stand).setup();
    setup.config["rpc"][SEPOLIA] = json!(stand.node());
    setup.config["wallets"][0]["low_balance"] = json!({ "USDC": "1000.000001" });
    setup.config["wallets"][1]["low_balance"] = json!({ "USDC": "1000" });
    setup.write();
    let (rows, said) = listed(&setup);
    assert_eq!(said, "");
    let evm = usdc(&rows, "main");
    assert_eq!(
        (&evm["amount"], &evm["balance"]),
        (&json!("1000000000"), &json!("1000"))
    );
    assert_eq!(
        (&evm["low_balance"], &evm["low"]),
        (&json!("1000.000001"), &json!(true))
    );
    let sol = usdc(&rows, "sol");
    assert_eq!(
        (&sol["amount"], &sol["low"]),
        (&json!("1000000000"), &json!(false))
    );
    assert_eq!(rows[1]["networks"][0]["address"], address);
    let payer = rows[0]["networks"][0]["address"].as_str().unwrap();
    assert_eq!(payer.to_lowercase(), setup.payer());
    let table = setup.run(&["wallet", "list"]);
    let table = String::from_utf8(table.stdout).unwrap();
    for words in ["1000 USDC", "LOW (below 1000.000001)", &address, DEVNET] {
        assert!(table.contains(words), "{words}: {table}");
    }
    // The doctor says the same, and how to mend it.
    let found = doctor(&setup, "balance main");
    assert_eq!(found["state"], "wrong");
    let said = format!("1000 USDC on {SEPOLIA}, below its `low_balance` of 1000.000001");
    assert_eq!(found["finding"], said);
    let mend = found["mend"].as_str().unwrap().to_lowercase();
    assert_eq!(mend, format!("send usdc to {} on {SEPOLIA}", setup.payer()));
    let found = doctor(&setup, "balance sol");
    assert_eq!(
        (&found["state"], &found["finding"]),
        (&json!("ok"), &json!(format!("1000 USDC on {DEVNET}")))
    );
    // A token account that is not there holds nothing.
    let held = rows[1]["networks"][0]["balances"].as_array().unwrap();
    let none = held.iter().find(|h| h["asset"] == "PYUSD").unwrap();
    assert_eq!(
        (&none["amount"], &none["unknown"]),
        (&json!("0"), &Value::Null)
    );
    // Another chain's node says nothing.
    setup.config["rpc"][SEPOLIA] = json!(stand.node());
    setup.config["wallets"][0]["networks"] = json!(["eip155:8453"]);
    setup.config["wallets"][0]
        .as_object_mut()
        .unwrap()
        .remove("low_balance");
    setup.config["rpc"]["eip155:8453"] = json!(stand.node());
    setup.write();
    let (rows, said) = listed(&setup);
    let evm = usdc(&rows, "main");
    assert_eq!((&evm["amount"], &evm["low"]), (&Value::Null, &Value::Null));
    let why = evm["unknown"].as_str().unwrap();
    assert!(
        why.contains("is a node of eip155:84532, but was named for eip155:8453"),
        "{why}"
    );
    assert_eq!(said, "");
}

#[test]
fn without_a_node_nobody_knows() {
    let setup = Setup::new();
    setup.write();
    let (rows, said) = listed(&setup);
    let held = usdc(&rows, "main");
    assert_eq!(
        (&held["amount"], &held["balance"]),
        (&Value::Null, &Value::Null)
    );
    let why = "`rpc` has no node for eip155:84532";
    let found = doctor(&setup, "balance main");
    assert_eq!(
        (&found["state"], &found["finding"]),
        (&json!("unknown"), &json!(why))
    );
    assert_eq!((&held["unknown"], said.as_str()), (&json!(why), ""));
    let table = setup.run(&["wallet", "list"]);
    assert!(table.status.success(), "not knowing is no failure");
    let (out, said) = (table.stdout, table.stderr);
    assert!(String::from_utf8(out).unwrap().contains("  unknown"));
    assert_eq!(
        String::from_utf8(said).unwrap(),
        format!("farepass: wallet main: {why}\n")
    );
}

/// Paying goes on while it happens, and a node that dies tells nothing.
#[test]
fn a_wallet_that_runs_out_is_told_of_once() {
    let Some(stand) = Stand::own() else { return };
    let mut setup = stand.setup();
    setup.config["rpc"] = json!({ SEPOLIA: stand.node() });
    setup.config["wallets"][0]["low_balance"] = json!({ "USDC": "999.985" });
    setup.config["limits"] = json!({ "balance_interval": "100ms" });
    let proxy = setup.start();
    let payer = proxy.payer();
    let page = || proxy.ask_admin("/metrics").unwrap().text();
    let labels = format!("{{wallet=\"main\",network=\"{SEPOLIA}\",asset=\"USDC\"}}");
    let held = |usd: &str| page().contains(&format!("farepass_wallet_balance_usd{labels} {usd}"));
    until("the balance", LONG, || held("1000.000000000").then_some(()));
    assert!(page().contains(&format!(
        "farepass_wallet_low_balance_usd{labels} 999.985000000"
    )));
    assert!(page().contains(&format!("farepass_wallet_balance_known{labels} 1")));
    assert_eq!(told(&proxy), Vec::<Value>::new());
    for n in 1..=2 {
        let answer = proxy.get(&format!("https://merchant.stand.test/v2/exact?{n}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let first = until("a warning", LONG, || told(&proxy).pop());
    assert_eq!(
        (&first["wallet"], &first["asset"], &first["network"]),
        (&json!("main"), &json!("USDC"), &json!(SEPOLIA))
    );
    assert_eq!(first["balance"], "999.98");
    assert_eq!(first["low_balance"], "999.985");
    assert_eq!(first["address"].as_str().unwrap().to_lowercase(), payer);
    // Still low, more and more: told already.
    let answer = proxy.get("https://merchant.stand.test/v2/exact?3");
    assert_eq!(answer.status, 200, "{}", answer.text());
    until("the balance", LONG, || held("999.970000000").then_some(()));
    assert_eq!(told(&proxy).len(), 1);
    // Enough again, and low again.
    stand.fund(&payer, 1_000_000_000);
    until("more money", LONG, || {
        (!held("999.970000000")).then_some(())
    });
    stand.withdraw(&payer, 1_500_000_000);
    until("another warning", LONG, || {
        (told(&proxy).len() == 2).then_some(())
    });
    drop(stand);
    let unknown = format!("farepass_wallet_balance_known{labels} 0");
    until("a dead node", LONG, || {
        page().contains(&unknown).then_some(())
    });
    assert!(!page().contains("farepass_wallet_balance_usd{"));
    assert_eq!(told(&proxy).len(), 2, "silence is not emptiness");
}
