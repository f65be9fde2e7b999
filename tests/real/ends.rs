//! How payments end that come to no answer: the process ends, or what comes is none.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agent::Ask;
use crate::support::merchant::{After, Merchant};
use crate::support::proxy::{Proxy, Setup};
use crate::support::{linger, shop, until};

const PATIENCE: Duration = Duration::from_secs(20);
const PAGE: &str = "https://shop.stand.test/x";

/// States of all spend events so far, without those of refusals.
fn states(proxy: &Proxy) -> Vec<Value> {
    let events = proxy.events().into_iter();
    let paid = events.filter(|event| event["event"] == "payment");
    paid.map(|event| event["state"].clone()).collect()
}

/// A merchant that takes payments and says nothing for a long time.
fn mute() -> (Merchant, Setup) {
    shop::open(|_, _| {
        linger(Duration::from_secs(8));
        Ok(After::Close)
    })
}

/// One request that the merchant has, with its payment.
fn under_way(merchant: &Merchant, proxy: &Proxy) -> std::process::Child {
    let child = proxy.curl(PAGE).stdout(Stdio::null()).spawn().unwrap();
    until("the payment to reach the merchant", PATIENCE, || {
        (!shop::payments(merchant).is_empty()).then_some(())
    });
    child
}

#[test]
fn what_is_open_when_the_time_to_drain_is_over_is_unknown() {
    let (merchant, mut setup) = mute();
    setup.config["limits"]["drain"] = json!("1s");
    let mut proxy = setup.start();
    let mut child = under_way(&merchant, &proxy);
    assert!(proxy.stop().success());
    child.wait().unwrap();
    let books = proxy.ledger();
    assert_eq!((books.sum(&["unknown"]), books.rows.len()), (10_000, 1));
    assert_eq!(states(&proxy), ["reserved", "unknown"]);
    proxy.assert_verifies();
}

#[test]
fn what_a_crash_left_open_is_unknown_from_the_next_start_on() {
    let (merchant, setup) = mute();
    let mut proxy = setup.start();
    let mut child = under_way(&merchant, &proxy);
    proxy.kill();
    child.wait().unwrap();
    assert_eq!(proxy.ledger().sum(&["reserved"]), 10_000);
    proxy.start_again();
    until("the word of it", PATIENCE, || {
        (proxy.ledger().sum(&["unknown"]) == 10_000).then_some(())
    });
    let metrics = proxy.ask_admin("/metrics").unwrap().text();
    let open = "farepass_open_payments{state=\"unknown\"} 1";
    assert!(metrics.contains(open), "{metrics}");
    let again = proxy.get(PAGE);
    assert_eq!(again.reason().as_deref(), Some("outcome_unknown"));
    assert_eq!(shop::payments(&merchant).len(), 1);
    proxy.assert_verifies();
}

/// Nobody asked for another protocol, and nobody said "as you have it" to whom has nothing (threats M-11, X-14).
#[test]
fn an_answer_that_fits_no_request_is_none_and_is_not_paid_for_twice() {
    for head in [
        "101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade",
        "304 Not Modified",
    ] {
        let (merchant, setup) = shop::open(move |_, out| {
            write!(out, "HTTP/1.1 {head}\r\n\r\n")?;
            Ok(After::Close)
        });
        let proxy = setup.start();
        for _ in 0..3 {
            let answer = proxy.get(PAGE);
            let reason = answer.reason();
            assert_eq!(reason.as_deref(), Some("outcome_unknown"), "{head}");
            assert!(answer.json()["payment"].is_string(), "{head}");
        }
        let sent = shop::payments(&merchant);
        assert_eq!(sent.len(), 3, "{head}");
        assert!(sent.iter().all(|payload| *payload == sent[0]), "{head}");
        let books = proxy.ledger();
        assert_eq!((books.sum(&["unknown"]), books.rows.len()), (10_000, 1));
        assert!(books.flags().contains(&"paid_not_delivered".into()));
    }
}

/// The merchant takes the money, and its answers end before anything is complete, or at once (threat X-13).
#[test]
fn a_merchant_whose_paid_answers_never_arrive_is_left_alone() {
    for (confirms, head, body) in [
        (true, "Content-Length: 12", "premium"),
        (true, "Transfer-Encoding: chunked", "7\r\npremium\r\n"),
        (false, "Content-Length: 0", ""),
    ] {
        let (merchant, setup) = shop::open(move |_, out| {
            let receipt = match confirms {
                true => format!("PAYMENT-RESPONSE: {}\r\n", shop::receipt()),
                false => String::new(),
            };
            write!(
                out,
                "HTTP/1.1 200 OK\r\n{receipt}Connection: close\r\n{head}\r\n\r\n{body}"
            )?;
            Ok(After::Close)
        });
        let mut proxy = setup.start();
        let ask = |proxy: &Proxy, n: u32| {
            let out = proxy.curl(&format!("{PAGE}?n={n}")).output().unwrap();
            String::from_utf8_lossy(&out.stdout).into_owned()
        };
        for n in 0..5 {
            assert!(!ask(&proxy, n).contains("reason"), "{head}");
        }
        assert!(ask(&proxy, 5).contains("circuit_open"), "{head}");
        assert!(proxy.stop().success());
        proxy.start_again();
        assert!(ask(&proxy, 6).contains("circuit_open"), "{head}: again");
        assert_eq!(shop::payments(&merchant).len(), 5, "{head}");
    }
}

/// To whom has something, 304 is an answer.
#[test]
fn a_condition_may_be_answered_by_304() {
    let (merchant, setup) = shop::open(|_, out| {
        out.write_all(b"HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n")?;
        Ok(After::Keep)
    });
    let proxy = setup.start();
    let mut ask = Ask::get(PAGE);
    ask.fields.push(("If-None-Match".into(), "\"1\"".into()));
    let answer = proxy.agent(PATIENCE).send(&ask).unwrap();
    assert_eq!(answer.status, 304);
    assert_eq!(shop::payments(&merchant).len(), 1);
    assert_eq!(proxy.ledger().flags(), Vec::<String>::new());
}

/// All of it came: there is nothing after trailers.
#[test]
fn an_answer_with_trailers_is_whole() {
    let receipt = AtomicBool::new(true);
    let (_merchant, setup) = shop::open(move |_, out| {
        let proof = match receipt.fetch_xor(true, Ordering::SeqCst) {
            true => format!("PAYMENT-RESPONSE: {}\r\n", shop::receipt()),
            false => String::new(),
        };
        let head = format!("HTTP/1.1 200 OK\r\n{proof}Transfer-Encoding: chunked");
        let body = "7\r\npremium\r\n0\r\nServer-Timing: total;dur=12\r\n\r\n";
        write!(out, "{head}\r\n\r\n{body}")?;
        Ok(After::Keep)
    });
    let proxy = setup.start();
    for page in [PAGE, "https://shop.stand.test/y"] {
        assert!(proxy.get(page).text().starts_with("premium"));
    }
    let books = until("what was received", PATIENCE, || {
        let books = proxy.ledger();
        let whole = books
            .rows
            .iter()
            .filter(|r| r["delivery"]["digest"].is_string());
        (whole.count() == 2).then_some(books)
    });
    assert_eq!(books.flags(), Vec::<String>::new());
}
