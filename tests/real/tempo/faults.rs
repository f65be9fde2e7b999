//! Challenges that must not be paid, merchants that take without giving, and a proxy that is killed.

use serde_json::{Value, json};

use super::{
    LONG, NETWORK, PATH_USD, ask, assert_agreement, buy, moved, row, setup, setup_with_fee,
};
use crate::reconcile::{reconcile, reconciled};
use crate::support::agent::Ask;
use crate::support::mpp_stand::{SHOP, mpp_stand};
use crate::support::until;

#[test]
fn hostile_charges_are_refused_each_by_its_reason() {
    let Some(stand) = mpp_stand() else { return };
    let proxy = setup_with_fee(stand).start();
    let (payer, partner) = (proxy.payer(), stand.partner());
    let details = |more: Value| {
        let mut details = json!({ "chainId": 1337, "feePayer": true });
        details
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({ "methodDetails": details })
    };
    let split = |amount: &str, to: &str| json!([{ "amount": amount, "recipient": to }]);
    let call = json!([{ "to": PATH_USD, "data": "0x095ea7b3" }]);
    for (request, reason) in [
        (json!({ "methodDetails": {} }), "network_not_allowed"),
        (
            json!({ "methodDetails": { "chainId": 4217 } }),
            "network_not_allowed",
        ),
        (
            json!({ "currency": "0x20c0000000000000000000000000000000000009" }),
            "asset_not_allowed",
        ),
        (json!({ "amount": "900000000000" }), "over_request_cap"),
        (json!({ "amount": "0" }), "message_signing_refused"),
        (json!({ "amount": "1e4" }), "amount_invalid"),
        (json!({ "recipient": payer }), "recipient_invalid"),
        (json!({ "recipient": PATH_USD }), "recipient_invalid"),
        (
            json!({ "recipient": "0x20c0000000000000000000000000000000000009" }),
            "recipient_invalid",
        ),
        (details(json!({ "feePayer": payer })), "malformed_challenge"),
        (
            details(json!({ "supportedModes": ["push"] })),
            "transfer_method_unsupported",
        ),
        (
            details(json!({ "supportedModes": [] })),
            "transfer_method_unsupported",
        ),
        (
            details(json!({ "splits": split("10000", partner) })),
            "split_invalid",
        ),
        (
            details(json!({ "splits": split("10001", partner) })),
            "split_invalid",
        ),
        (
            details(json!({ "splits": split("0", partner) })),
            "split_invalid",
        ),
        (
            details(json!({ "splits": split("1", &payer) })),
            "recipient_invalid",
        ),
        (
            details(json!({ "splits": vec![split("1", partner)[0].clone(); 11] })),
            "split_invalid",
        ),
        (
            details(json!({ "memo": format!("0x{}", "ab".repeat(32)) })),
            "extension_refused",
        ),
        (details(json!({ "calls": call })), "extension_refused"),
        (
            details(json!({ "feeToken": PATH_USD })),
            "extension_refused",
        ),
        (
            details(json!({ "keyAuthorization": {} })),
            "extension_refused",
        ),
        (json!({ "data": "0xa9059cbb" }), "extension_refused"),
    ] {
        let answer = ask(&proxy, &request);
        let found = (answer.status, answer.reason());
        assert_eq!(
            found,
            (402, Some(reason.into())),
            "{request}: {}",
            answer.text()
        );
    }
    for (path, reason) in [
        ("/tempo/push", "transfer_method_unsupported"),
        ("/tempo/proof", "message_signing_refused"),
    ] {
        assert_eq!(
            buy(&proxy, path).reason().as_deref(),
            Some(reason),
            "{path}"
        );
    }
    assert_eq!(assert_agreement(stand, &proxy), 0);
    // The same merchant is paid where it asks for what may be paid.
    assert_eq!(ask(&proxy, &json!({ "unknown": 1 })).status, 200);
    row(&proxy, "settled");
    assert_eq!(assert_agreement(stand, &proxy), 10_000);
}

#[test]
fn a_merchant_that_takes_without_giving_gets_the_same_transaction_again() {
    let Some(stand) = mpp_stand() else { return };
    for (path, status, reason, flag) in [
        (
            "/tempo/always-402",
            402,
            Some("already_paid"),
            "paid_but_denied",
        ),
        ("/tempo/paid-500", 500, None, "paid_not_delivered"),
    ] {
        let proxy = setup(stand, &["tempo/charge"]).start();
        let answer = buy(&proxy, path);
        let found = (answer.status, answer.reason());
        assert_eq!(
            found,
            (status, reason.map(Into::into)),
            "{path}: {}",
            answer.text()
        );
        assert_eq!(row(&proxy, "unknown")["flags"], json!([flag]), "{path}");
        assert_eq!(assert_agreement(stand, &proxy), 10_000, "{path}");
        buy(&proxy, path);
        let sent = stand.credentials_by(&proxy.payer());
        assert!(sent.len() > 1, "{path}");
        assert!(sent.iter().all(|s| *s == sent[0]), "{path}");
        assert_eq!(assert_agreement(stand, &proxy), 10_000, "{path}");
    }
}

#[test]
fn the_chain_confirms_a_tempo_charge_by_its_memo() {
    let Some(stand) = mpp_stand() else { return };
    let mut asking = setup(stand, &["tempo/charge"]);
    asking.config["rpc"] = json!({ NETWORK: stand.tempo_node() });
    let proxy = asking.start();
    // A merchant whose answer has no receipt: only the chain tells that it took the money.
    assert_eq!(buy(&proxy, "/tempo/paid-500").status, 500);
    row(&proxy, "unknown");
    stand.tempo("mine", "8");
    let found = reconciled(&proxy.setup, "confirmed");
    let (paid, _) = moved(stand, &proxy.payer());
    assert_eq!(found["transaction"], paid[0].tx);
    let row = row(&proxy, "settled");
    assert_eq!(
        [&row["confirmed"], &row["transaction"]],
        [&json!(true), &json!(paid[0].tx)]
    );
    assert_eq!(assert_agreement(stand, &proxy), 10_000);
    let out = proxy.setup.run(&["dispute", row["id"].as_str().unwrap()]);
    let file: Value = serde_json::from_slice(&out.stdout).unwrap();
    let signed = &file["signed"];
    assert_eq!(signed["calls"][0]["memo"], row["nonce"], "{file}");
    assert_eq!(
        [&signed["calls"][0]["value"], &signed["feePayer"]],
        [&json!("10000"), &json!(true)]
    );
    let (all, code, said) = reconcile(&proxy.setup);
    assert!(code == Some(0) && all.is_empty(), "{all:?} {said}");
}

/// Signed, and never sent: no log will ever tell of it, and none proves that nothing was taken.
#[test]
fn what_the_chain_never_shows_is_closed_and_counts() {
    let Some(stand) = mpp_stand() else { return };
    let mut asking = setup(stand, &["tempo/charge"]);
    asking.config["rpc"] = json!({ NETWORK: stand.tempo_node() });
    asking.config["unproven"] = json!("release");
    let mut proxy = asking.start();
    assert!(proxy.stop().success());
    assert!(proxy.start_to_die("before-send:1"));
    let ask = Ask::get(&format!("{SHOP}/tempo/sponsored"));
    assert!(proxy.agent(LONG).send(&ask).is_err());
    until("the end", LONG, || proxy.ended());
    proxy.start_again();
    // It lives for a while, and is looked for a while longer: two minutes in all.
    let closed = until("the last word", 5 * LONG, || {
        stand.tempo("mine", "8");
        let row = proxy.ledger().rows[0].clone();
        (row["state"] == "settled").then_some(row)
    });
    assert_eq!(closed["reason"], "unseen_on_chain");
    assert_eq!(closed["charged"], "0.01 USD");
    assert!(moved(stand, &proxy.payer()).0.is_empty());
    proxy.assert_verifies();
}

#[test]
fn killed_around_the_signature_and_the_request_it_pays_at_most_once() {
    let Some(stand) = mpp_stand() else { return };
    for point in ["before-sign", "after-sign", "before-send", "after-send"] {
        let mut proxy = setup_with_fee(stand).start();
        assert!(proxy.stop().success());
        assert!(proxy.start_to_die(&format!("{point}:1")));
        let agent = proxy.agent(LONG);
        let url = format!("{SHOP}/tempo/own");
        assert!(agent.send(&Ask::get(&url)).is_err(), "{point}");
        until("the end", LONG, || proxy.ended());
        proxy.start_again();
        let row = proxy.ledger().rows[0].clone();
        assert_eq!(row["charged"], "0.03 USD", "{point}: {row}");
        // The same request is owed until the transaction is dead.
        let answer = buy(&proxy, "/tempo/own");
        assert_eq!(
            answer.reason().as_deref(),
            Some("outcome_unknown"),
            "{point}: {}",
            answer.text()
        );
        let (paid, _) = moved(stand, &proxy.payer());
        assert!(paid.len() <= 1, "{point}");
        assert!(
            paid.iter()
                .all(|m| m.memo.as_deref() == row["nonce"].as_str()),
            "{point}"
        );
        assert_eq!(proxy.ledger().rows.len(), 1, "{point}");
        proxy.assert_verifies();
    }
}
