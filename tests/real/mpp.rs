//! MPP against the official server package and a chain: paid where a rule says so, once, and never with
//! more than the challenge asked for.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::reconcile::reconciled;
use crate::support::agent::Ask;
use crate::support::http::Answer;
use crate::support::mpp_stand::{SHOP, mpp_stand};
use crate::support::node::{Face, Node};
use crate::support::proxy::Proxy;
use crate::support::toll::{HOST as TOLL, Toll, Ways};
use crate::support::until;

const LONG: Duration = Duration::from_secs(20);

fn buy(proxy: &Proxy, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
    let mut ask = Ask::get(&format!("{SHOP}{path}"));
    if !body.is_empty() {
        ask.method = "POST".into();
        ask.body = body.as_bytes().to_vec();
    }
    let fields = fields.iter().map(|(n, v)| ((*n).into(), (*v).into()));
    ask.fields.extend(fields);
    proxy.agent(LONG).send(&ask).unwrap()
}

/// The only row of the ledger, once its answer is on the books.
fn row(proxy: &Proxy, state: &str) -> Value {
    until("the answer", LONG, || {
        let row = proxy.ledger().rows.first()?.clone();
        (row["state"] == state).then_some(row)
    })
}

#[test]
fn a_charge_is_paid_once_and_the_books_agree_with_the_chain() {
    let Some(stand) = mpp_stand() else { return };
    let proxy = stand.setup(&["evm/charge"]).start();
    let answer = buy(&proxy, "/charge", &[], "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["path"], "/charge");
    let row = row(&proxy, "settled");
    assert_eq!(stand.assert_agreement(&proxy), 10_000);
    let [(_, _, transaction)] = &stand.transfers(&proxy.payer())[..] else {
        panic!("one transfer")
    };
    let said = (
        &row["protocol"],
        &row["scheme"],
        &row["transaction"],
        &row["flags"],
    );
    assert_eq!(
        said,
        (
            &json!("mpp"),
            &json!("evm/charge"),
            &json!(transaction),
            &json!([])
        )
    );
    let header = answer.one("farepass-payment").unwrap();
    assert!(
        header.contains(transaction) && header.contains("; amount=\"10000\""),
        "{header}"
    );
    assert!(answer.one("payment-receipt").is_some());
    // The nonce is the challenge's; the payload lives no longer than it.
    let [(hit, transfer)] = &stand.paid_by(&proxy.payer())[..] else {
        panic!("one payment")
    };
    assert_eq!(row["valid_before"], transfer.valid_before);
    assert!(
        hit["authorization"]
            .as_str()
            .unwrap()
            .starts_with("Payment ")
    );
    // The same again is another purchase.
    assert_eq!(buy(&proxy, "/charge", &[], "").status, 200);
    until("both receipts", LONG, || {
        (proxy.ledger().sum(&["settled"]) == 20_000).then_some(())
    });
    assert_eq!(stand.assert_agreement(&proxy), 20_000);
}

#[test]
fn one_402_with_both_protocols_is_paid_in_the_order_of_the_rule() {
    let Some(stand) = mpp_stand() else { return };
    for (schemes, protocol, scheme) in [
        (&["exact"][..], "x402-v2", "exact"),
        (&["exact", "evm/charge"], "x402-v2", "exact"),
        (&["evm/charge", "exact"], "mpp", "evm/charge"),
    ] {
        let proxy = stand.setup(schemes).start();
        let answer = buy(&proxy, "/charge", &[], "");
        assert_eq!(answer.status, 200, "{schemes:?}: {}", answer.text());
        let row = row(&proxy, "settled");
        assert_eq!(
            (&row["protocol"], &row["scheme"]),
            (&json!(protocol), &json!(scheme))
        );
        assert_eq!(stand.assert_agreement(&proxy), 10_000);
    }
}

#[test]
fn one_budget_holds_over_both_protocols() {
    let Some(stand) = mpp_stand() else { return };
    let mut setup = stand.setup(&["exact", "evm/charge"]);
    setup.budget("0.025 USD");
    let proxy = setup.start();
    // By x402 where both are offered, by MPP where only that is.
    for path in ["/charge", "/merged"] {
        let answer = buy(&proxy, path, &[], "");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    for path in ["/charge", "/merged"] {
        let answer = buy(&proxy, path, &[], "");
        assert_eq!(
            answer.reason().as_deref(),
            Some("over_session_cap"),
            "{path}"
        );
    }
    until("both receipts", LONG, || {
        (proxy.ledger().sum(&["settled"]) == 20_000).then_some(())
    });
    let books = proxy.ledger();
    let paid = books.rows.iter().filter(|r| r["state"] == "settled");
    let mut protocols: Vec<_> = paid.map(|r| r["protocol"].as_str().unwrap()).collect();
    protocols.sort_unstable();
    assert_eq!(protocols, ["mpp", "x402-v2"]);
    assert_eq!(stand.assert_agreement(&proxy), 20_000);
}

#[test]
fn one_budget_holds_over_three_protocols() {
    let Some(stand) = mpp_stand() else { return };
    let node = Arc::new(Node::start(Face::Lnd));
    // A token of one path opens no other, so each is paid.
    let ways = Ways {
        bound: true,
        ..Ways::of(10_000)
    };
    let toll = Toll::open(&node, ways);
    let mut setup = stand.setup(&["exact", "evm/charge", "l402"]);
    setup.budget("0.035 USD").root(&toll.merchant.root);
    setup.resolve(&format!("{TOLL}:443"), toll.merchant.tls.port().into());
    let lightning = node.wallet(setup.dir.path());
    setup.config["wallets"]
        .as_array_mut()
        .unwrap()
        .push(lightning);
    let proxy = setup.start();
    let toll_at = |path: &str| proxy.get(&format!("https://{TOLL}{path}"));
    // 0.01 USD by x402, 0.01 by MPP, and ten satoshi with their fee: 0.0072 of 0.012 that are held.
    assert_eq!(buy(&proxy, "/charge", &[], "").status, 200);
    assert_eq!(buy(&proxy, "/merged", &[], "").status, 200);
    assert_eq!(toll_at("/a").status, 200);
    let refused = [
        buy(&proxy, "/charge", &[], ""),
        buy(&proxy, "/merged", &[], ""),
        toll_at("/b"),
    ];
    for answer in refused {
        assert_eq!(answer.reason().as_deref(), Some("over_session_cap"));
    }
    let settled = until("every receipt", LONG, || {
        let rows = proxy.ledger().rows.into_iter();
        let rows: Vec<_> = rows.filter(|r| r["state"] == "settled").collect();
        (rows.len() == 3).then_some(rows)
    });
    let mut by: Vec<_> = settled
        .iter()
        .map(|r| {
            (
                r["protocol"].as_str().unwrap(),
                r["charged"].as_str().unwrap(),
            )
        })
        .collect();
    by.sort_unstable();
    let expected = [
        ("l402", "0.0072 USD"),
        ("mpp", "0.01 USD"),
        ("x402-v2", "0.01 USD"),
    ];
    assert_eq!(by, expected);
    // What the chain and the node say was taken, and no more.
    let taken: u128 = stand.transfers(&proxy.payer()).iter().map(|t| t.1).sum();
    assert_eq!((taken, node.paid()), (20_000, (1, 10_000)));
    proxy.assert_verifies();
}

#[test]
fn the_chain_confirms_a_charge() {
    let Some(stand) = mpp_stand() else { return };
    let mut setup = stand.setup(&["evm/charge"]);
    setup.config["rpc"] = json!({ "eip155:84532": stand.node() });
    let proxy = setup.start();
    // A merchant whose answer has no receipt: only the chain tells that it took the money.
    assert_eq!(buy(&proxy, "/paid-500", &[], "").status, 500);
    row(&proxy, "unknown");
    let transfers = stand.transfers(&proxy.payer());
    stand.mine(8);
    let found = reconciled(&proxy.setup, "confirmed");
    assert_eq!(found["transaction"], transfers[0].2);
    let row = row(&proxy, "settled");
    let said = (&row["protocol"], &row["confirmed"], &row["transaction"]);
    assert_eq!(said, (&json!("mpp"), &json!(true), &json!(transfers[0].2)));
    assert_eq!(stand.assert_agreement(&proxy), 10_000);
    // What was agreed on is there for a dispute, and its typed data is what was signed.
    let out = proxy.setup.run(&["dispute", row["id"].as_str().unwrap()]);
    let file: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(file["offer"]["scheme"], "evm/charge");
    assert!(file["offer"]["expires"].is_string(), "{file}");
    let [(_, transfer), ..] = &stand.paid_by(&proxy.payer())[..] else {
        panic!("no payment")
    };
    assert_eq!(file["signed"]["message"]["nonce"], transfer.nonce);
    assert_eq!(
        file["signed"]["message"]["validBefore"],
        transfer.valid_before.to_string()
    );
}

#[test]
fn an_agents_own_credentials_are_never_dropped() {
    let Some(stand) = mpp_stand() else { return };
    let proxy = stand.setup(&["evm/charge"]).start();
    let key = [("Authorization", "Bearer key")];
    let answer = buy(&proxy, "/merged", &key, "");
    let reason = answer.reason();
    assert_eq!(
        (answer.status, reason.as_deref()),
        (402, Some("authorization_conflict"))
    );
    assert!(stand.paid_by(&proxy.payer()).is_empty());
    let answer = buy(&proxy, "/auth", &key, "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let [(hit, _)] = &stand.paid_by(&proxy.payer())[..] else {
        panic!("one payment")
    };
    assert_eq!(hit["authorization"], "Bearer key");
    row(&proxy, "settled");
    assert_eq!(stand.assert_agreement(&proxy), 10_000);
    // Where x402 is offered as well, it has a header of its own.
    let proxy = stand.setup(&["evm/charge", "exact"]).start();
    let answer = buy(&proxy, "/charge", &key, "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(row(&proxy, "settled")["protocol"], "x402-v2");
    let [(hit, _)] = &stand.paid_by(&proxy.payer())[..] else {
        panic!("one payment")
    };
    assert_eq!(hit["authorization"], "Bearer key");
    assert_eq!(stand.assert_agreement(&proxy), 10_000);
}

#[test]
fn a_challenge_for_a_body_is_paid_with_that_body_only() {
    let Some(stand) = mpp_stand() else { return };
    let proxy = stand.setup(&["evm/charge"]).start();
    let answer = buy(&proxy, "/other-body", &[], "{\"prompt\":\"hi\"}");
    assert_eq!(answer.reason().as_deref(), Some("digest_mismatch"));
    let answer = buy(&proxy, "/digest", &[], "{\"prompt\":\"hi\"}");
    assert_eq!(
        (answer.status, answer.json()["bytes"].as_u64()),
        (200, Some(15))
    );
    row(&proxy, "settled");
    assert_eq!(stand.assert_agreement(&proxy), 10_000);
    // Joined lines with a session before the charge, and a trap within quotes.
    assert_eq!(buy(&proxy, "/merged", &[], "").status, 200);
    until("both receipts", LONG, || {
        (proxy.ledger().sum(&["settled"]) == 20_000).then_some(())
    });
    assert_eq!(stand.assert_agreement(&proxy), 20_000);
}

#[test]
fn what_must_not_be_paid_is_refused_by_name() {
    let Some(stand) = mpp_stand() else { return };
    let proxy = stand.setup(&["evm/charge"]).start();
    for (path, fields, reason) in [
        ("/expired", &[][..], "challenge_expired"),
        ("/foreign", &[], "resource_mismatch"),
        ("/other-body", &[], "digest_mismatch"),
        ("/price?amount=0.11", &[], "over_request_cap"),
        (
            "/merged",
            &[("Accept-Payment", "evm/charge;q=0")],
            "scheme_unsupported",
        ),
    ] {
        let answer = buy(&proxy, path, fields, "");
        let found = (answer.status, answer.reason());
        assert_eq!(
            found,
            (402, Some(reason.into())),
            "{path}: {}",
            answer.text()
        );
    }
    // A challenge on anything but a 402 asks for nothing.
    let answer = buy(&proxy, "/402-on-500", &[], "");
    assert_eq!((answer.status, answer.text().as_str()), (500, "broken\n"));
    assert!(stand.paid_by(&proxy.payer()).is_empty());
    assert!(stand.transfers(&proxy.payer()).is_empty());
    // Nor is anything paid where no rule has the scheme.
    let proxy = stand.setup(&["exact"]).start();
    let answer = buy(&proxy, "/merged", &[], "");
    assert_eq!(answer.reason().as_deref(), Some("scheme_unsupported"));
    assert!(stand.paid_by(&proxy.payer()).is_empty());
}

#[test]
fn a_merchant_that_takes_without_giving_is_paid_once() {
    let Some(stand) = mpp_stand() else { return };
    for (path, status, reason, flag) in [
        ("/always-402", 402, Some("already_paid"), "paid_but_denied"),
        ("/paid-500", 500, None, "paid_not_delivered"),
    ] {
        let proxy = stand.setup(&["evm/charge"]).start();
        let answer = buy(&proxy, path, &[], "");
        assert_eq!(
            (answer.status, answer.reason().as_deref()),
            (status, reason),
            "{path}"
        );
        let row = row(&proxy, "unknown");
        assert_eq!(row["flags"], json!([flag]), "{path}");
        assert_eq!(stand.assert_agreement(&proxy), 10_000, "{path}");
        // The agent's retry brings the same payload, not another.
        buy(&proxy, path, &[], "");
        let paid = stand.paid_by(&proxy.payer());
        assert!(paid.len() > 1, "{path}");
        assert!(
            paid.iter().all(|(_, t)| t.nonce == paid[0].1.nonce),
            "{path}"
        );
        assert_eq!(stand.assert_agreement(&proxy), 10_000, "{path}");
        // Not even in the place of credentials that it brings now.
        let answer = buy(&proxy, path, &[("Authorization", "Bearer key")], "");
        assert_eq!(
            answer.reason().as_deref(),
            Some("authorization_conflict"),
            "{path}"
        );
        assert_eq!(stand.paid_by(&proxy.payer()).len(), paid.len(), "{path}");
    }
}
