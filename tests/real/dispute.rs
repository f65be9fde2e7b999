//! The evidence of one payment against what the merchant got and the chain of the ledger, read by
//! strangers to our code.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::Value;

use crate::support::chain::{Domain, Transfer};
use crate::support::proxy::Proxy;
use crate::support::stand::{Stand, stand};
use crate::support::until;

const LONG: Duration = Duration::from_secs(30);
const SHOP: &str = "https://merchant.stand.test";

/// The evidence of the only payment, in a file.
fn evidence(proxy: &Proxy) -> (Value, String) {
    let row = until("the receipt", LONG, || {
        let row = proxy.ledger().rows.first()?.clone();
        (row["state"] == "settled" && row["delivery"].is_object()).then_some(row)
    });
    let file = proxy.setup.dir.path().join("evidence.json");
    let (id, name) = (row["id"].as_str().unwrap(), file.to_str().unwrap());
    let out = proxy.setup.run(&["dispute", &id[..20], "--out", name]);
    assert!(out.status.success() && out.stdout.is_empty(), "{out:?}");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(&file).unwrap();
    (serde_json::from_str(&text).unwrap(), text)
}

/// The transfer as the evidence has it, with a signature that is not in it.
fn transfer(signed: &Value, signature: &str) -> (Transfer, Domain) {
    let (message, domain) = (&signed["message"], &signed["domain"]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let transfer = Transfer {
        from: text(&message["from"]),
        to: text(&message["to"]),
        value: text(&message["value"]).parse().unwrap(),
        valid_after: text(&message["validAfter"]).parse().unwrap(),
        valid_before: text(&message["validBefore"]).parse().unwrap(),
        nonce: text(&message["nonce"]),
        signature: signature.into(),
        permit: None,
    };
    let domain = Domain {
        name: text(&domain["name"]),
        version: text(&domain["version"]),
        chain: domain["chainId"].as_u64().unwrap(),
        token: text(&domain["verifyingContract"]),
    };
    (transfer, domain)
}

fn bought(stand: &Stand, path: &str) -> (Proxy, Value, String, Transfer) {
    let proxy = stand.setup().start();
    let url = format!("{SHOP}{path}?key=canary-query-4410");
    let answer = proxy.get(&url);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let (file, text) = evidence(&proxy);
    let [(_, seen)] = &stand.paid_by(&proxy.payer())[..] else {
        panic!("one payment")
    };
    (proxy, file, text, seen.clone())
}

#[test]
fn the_evidence_recovers_the_payer_from_the_signature_that_the_merchant_saw() {
    let Some(stand) = stand() else { return };
    for path in ["/v2/exact", "/v1/exact"] {
        let (proxy, file, text, seen) = bought(stand, path);
        let (told, domain) = transfer(&file["signed"], &seen.signature);
        let payer = proxy.payer().to_ascii_lowercase();
        assert_eq!(told.signer(&domain), Some(payer), "{path}: {text}");
        assert_eq!(file["claim"]["receipt"], "claimed");
        assert_eq!(file["offer"]["amount"], "10000");
        assert_eq!(file["offer"]["sha256"].as_str().unwrap().len(), 64);
        assert_eq!(file["delivery"]["status"], 200);

        let signature = seen.signature.trim_start_matches("0x");
        let secret = proxy.setup.secret();
        for canary in [signature, secret.trim(), "canary-query", "signature"] {
            assert!(!text.contains(canary), "{path}: {canary} in {text}");
        }
    }
}

#[test]
fn the_evidence_stands_where_the_export_and_the_chain_have_it() {
    let Some(stand) = stand() else { return };
    let (mut proxy, ..) = bought(stand, "/v2/exact");
    proxy.stop();
    let id = proxy.ledger().rows[0]["id"].clone();
    let run = |args: &[&str]| -> Value {
        let out = proxy.setup.run(args);
        assert!(out.status.success(), "{out:?}");
        serde_json::from_slice(&out.stdout).unwrap()
    };
    let file = run(&["dispute", id.as_str().unwrap()]);
    let row = run(&["ledger", "export"]);
    let states = file["states"].as_array().unwrap();
    let last = states.last().unwrap();
    for field in ["record_seq", "record_hash", "state", "time"] {
        assert_eq!(last[field], row[field], "{field}");
    }
    assert_eq!(states[0]["state"], "reserved");
    let history = run(&["ledger", "show", id.as_str().unwrap(), "--json"]);
    assert_eq!(states.len(), history.as_array().unwrap().len());
    let verified = run(&["ledger", "verify", "--json"]);
    assert_eq!(file["ledger"]["head_hash"], verified["head"]);
    assert_eq!(file["ledger"]["head_seq"], verified["records"]);
}
