//! Answers that are lost after the money moved, at an official merchant on a real chain (threats M-10,
//! M-11): the same payload fetches them, and nothing is paid twice.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::proxy::{Books, Proxy};
use crate::support::stand::{Stand, stand};
use crate::support::until;

const SHOP: &str = "https://merchant.stand.test";

/// What the merchant was sent by this payer: each payment header as it decoded.
fn sent(stand: &Stand, proxy: &Proxy) -> Vec<Value> {
    let hits = stand.paid_by(&proxy.payer()).into_iter();
    hits.map(|(hit, _)| hit["payment"].clone()).collect()
}

fn identifier(payment: &Value) -> &str {
    let id = payment.pointer("/extensions/payment-identifier/info/id");
    id.and_then(Value::as_str).unwrap()
}

fn moved(stand: &Stand, proxy: &Proxy) -> Vec<u128> {
    let transfers = stand.transfers(&proxy.payer());
    transfers.into_iter().map(|(_, value)| value).collect()
}

/// Bookings follow the answer.
fn booked(proxy: &Proxy, state: &str, sum: u128) -> Books {
    until("the books", Duration::from_secs(10), || {
        Some(proxy.ledger()).filter(|books| books.sum(&[state]) == sum)
    })
}

#[test]
fn a_lost_answer_is_fetched_with_the_same_payment_identifier() {
    let Some(stand) = stand() else { return };
    let proxy = stand.setup().start();
    let url = format!("{SHOP}/v2/idempotent?drop=1&id=fetched");
    let lost = proxy.get(&url);
    assert_eq!(
        lost.reason().as_deref(),
        Some("outcome_unknown"),
        "{lost:?}"
    );
    assert_eq!(moved(stand, &proxy), [10_000], "the money moved");
    booked(&proxy, "unknown", 10_000);

    let answer = proxy.get(&url);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["data"], "premium");
    let header = answer.one("farepass-payment").unwrap();
    let payment = lost.json()["payment"].as_str().unwrap().to_owned();
    assert!(header.starts_with(&payment), "{header}: one payment");
    let payments = sent(stand, &proxy);
    assert_eq!(payments.len(), 2);
    assert_eq!(payments[0], payments[1], "the very same payload");
    assert_eq!(moved(stand, &proxy), [10_000], "and it moved once");
    let books = booked(&proxy, "settled", 10_000);
    assert_eq!((books.rows.len(), books.counted()), (1, 10_000));
    let receipt = STANDARD.decode(answer.one("payment-response").unwrap());
    let receipt: Value = serde_json::from_slice(&receipt.unwrap()).unwrap();
    assert_eq!(books.rows[0]["transaction"], receipt["transaction"]);

    // It has its answer now: the next one is a purchase with an identifier of its own, lost and found again.
    assert_eq!(proxy.get(&url).reason().as_deref(), Some("outcome_unknown"));
    assert_eq!(proxy.get(&url).status, 200);
    let payments = sent(stand, &proxy);
    let ids: BTreeSet<_> = payments.iter().map(identifier).collect();
    assert_eq!((payments.len(), ids.len()), (4, 2));
    assert_eq!(moved(stand, &proxy), [10_000; 2]);
    let books = booked(&proxy, "settled", 20_000);
    assert_eq!((books.rows.len(), books.counted()), (2, 20_000));
    proxy.assert_verifies();
}

/// Without stored answers the same payload buys nothing more: neither goods nor a second payment.
#[test]
fn an_answer_that_nobody_kept_is_not_paid_for_again() {
    let Some(stand) = stand() else { return };
    let mut proxy = stand.setup().start();
    let url = format!("{SHOP}/v2/drop-once?id=kept");
    let lost = proxy.get(&url);
    assert_eq!(
        lost.reason().as_deref(),
        Some("outcome_unknown"),
        "{lost:?}"
    );
    for _ in 0..3 {
        let again = proxy.get(&url);
        assert_eq!(again.reason().as_deref(), Some("already_paid"), "{again:?}");
        assert_eq!(again.json()["payment"], lost.json()["payment"]);
    }
    let spent = proxy.get(&url);
    assert_eq!(
        spent.reason().as_deref(),
        Some("outcome_unknown"),
        "{spent:?}"
    );
    assert_eq!(spent.json()["payment"], lost.json()["payment"]);
    proxy.stop();
    proxy.start_again();
    let after = proxy.get(&url);
    assert_eq!(
        after.reason().as_deref(),
        Some("outcome_unknown"),
        "{after:?}"
    );
    assert_eq!(after.json()["payment"], lost.json()["payment"]);

    let nonces: BTreeSet<_> = stand
        .paid_by(&proxy.payer())
        .into_iter()
        .map(|(_, transfer)| transfer.nonce)
        .collect();
    assert_eq!(nonces.len(), 1, "one payload");
    assert_eq!(moved(stand, &proxy), [10_000]);
    let books = proxy.ledger();
    assert_eq!((books.rows.len(), books.counted()), (1, 10_000));
    proxy.assert_verifies();
}

/// The agent hung up on an answer that a receipt claims, and asks again of another process.
#[test]
fn a_restart_between_buys_nothing_twice() {
    let Some(stand) = stand() else { return };
    let mut proxy = stand.setup().start();
    let url = format!("{SHOP}/v2/slow-handler?ms=1500");
    let mut curl = proxy.curl(&url);
    let mut agent = curl.stdout(std::process::Stdio::null()).spawn().unwrap();
    until("the payment to arrive", Duration::from_secs(10), || {
        (sent(stand, &proxy).len() == 1).then_some(())
    });
    agent.kill().unwrap();
    agent.wait().unwrap();
    let books = booked(&proxy, "settled", 10_000);
    assert_eq!(books.rows[0]["owed"], json!(true), "{books:?}");
    proxy.stop();
    proxy.start_again();
    let again = proxy.get(&url);
    assert_eq!(
        again.reason().as_deref(),
        Some("outcome_unknown"),
        "{again:?}"
    );
    assert_eq!(again.json()["payment"], books.rows[0]["id"]);
    assert_eq!(sent(stand, &proxy).len(), 1);
    assert_eq!(moved(stand, &proxy), [10_000]);
    assert_eq!(proxy.ledger().counted(), 10_000);
    // Another request is another purchase.
    assert_eq!(proxy.get(&format!("{url}&other")).status, 200);
    assert_eq!(moved(stand, &proxy), [10_000; 2]);
}
