//! Requests that bring their payment along: fewer round trips, and everything else as ever.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::interop::assert_agreement;
use crate::support::agent::Ask;
use crate::support::http::Answer;
use crate::support::merchant::{After, Merchant};
use crate::support::proxy::{Proxy, Setup};
use crate::support::shop;
use crate::support::stand::stand;
use crate::support::until;

const PATIENCE: Duration = Duration::from_secs(20);
const SHOP: &str = "https://merchant.stand.test";

fn get(proxy: &Proxy, path: &str) -> Answer {
    let url = format!("https://{}{path}", shop::HOST);
    proxy.agent(PATIENCE).send(&Ask::get(&url)).unwrap()
}

fn decoded(payment: &str) -> Value {
    let json = base64::engine::general_purpose::STANDARD
        .decode(payment)
        .unwrap();
    serde_json::from_slice(&json).unwrap()
}

fn in_advance(mut setup: Setup) -> Setup {
    setup.config["rules"][0]["pay"]["prepay"] = json!(true);
    setup
}

/// A shop whose terms the test may change, and which serves whoever pays these.
struct Fickle {
    merchant: Merchant,
    terms: Arc<Mutex<Value>>,
}

impl Fickle {
    fn open() -> (Self, Setup) {
        let terms = Arc::new(Mutex::new(shop::challenge()));
        let known = Arc::clone(&terms);
        let merchant = Merchant::start(move |seen, out| {
            let terms = known.lock().unwrap().clone();
            let accepted = seen.payment().map(|p| decoded(p)["accepted"].clone());
            match accepted {
                Some(accepted) if accepted == terms["accepts"][0] => shop::sell("premium", out),
                Some(_) | None => shop::ask(&terms, out),
            }
        });
        let setup = in_advance(shop::setup(&merchant));
        (Self { merchant, terms }, setup)
    }

    fn change(&self, pointer: &str, value: Value) {
        *self.terms.lock().unwrap().pointer_mut(pointer).unwrap() = value;
    }

    fn asked(&self) -> usize {
        self.merchant.seen().len()
    }
}

/// Against the official server, facilitator and chain: counted where they arrive.
#[test]
fn what_was_paid_once_takes_one_round_trip_and_one_upload() {
    let Some(stand) = stand() else { return };
    let proxy = in_advance(stand.setup()).start();
    let arrived = |id: &str| stand.arrived(id).len();
    for (version, path) in [("2", "/v2/exact"), ("1", "/v1/exact")] {
        let id = format!("prepay-{}-{version}", &proxy.payer()[2..10]);
        let url = format!("{SHOP}{path}?id={id}");
        for round in 0..4 {
            assert_eq!(proxy.get(&url).status, 200, "{}", stand.last_settlement());
            assert_eq!(arrived(&id), 2 + round, "{path}, round {round}");
        }
        // Another query is another price, as far as anybody knows.
        let other = format!("{id}-other");
        assert_eq!(proxy.get(&format!("{SHOP}{path}?id={other}")).status, 200);
        assert_eq!(arrived(&other), 2);
    }
    let id = format!("prepay-{}-post", &proxy.payer()[2..10]);
    let url = format!("{SHOP}/v2/echo?id={id}");
    let body = "x".repeat(300_000);
    for round in 0..3 {
        let mut ask = Ask::get(&url);
        ask.method = "POST".into();
        ask.body = format!("{round}{body}").into_bytes();
        let answer = proxy.agent(PATIENCE).send(&ask).unwrap();
        assert_eq!(answer.json()["bytes"], body.len() + 1, "{}", answer.text());
        assert_eq!(arrived(&id), 2 + round);
    }
    assert_eq!(assert_agreement(stand, &proxy), 10 * 10_000 + 3 * 20_000);
    let books = proxy.ledger();
    assert_eq!((books.rows.len(), books.sum(&["settled"])), (13, 160_000));
    assert!(books.flags().is_empty(), "{:?}", books.flags());
    proxy.assert_verifies();
}

#[test]
fn without_the_key_nothing_goes_in_advance() {
    let (merchant, setup) = shop::open(|_, out| shop::sell("premium", out));
    let proxy = setup.start();
    for _ in 0..3 {
        assert_eq!(get(&proxy, "/x").text(), "premium");
    }
    assert_eq!(merchant.seen().len(), 6);
}

/// A shop that wants the number of an order with every payment, each its own.
fn numbered(place: impl Fn(&mut Value, usize) + Send + Sync + 'static) -> (Merchant, Setup) {
    let (orders, paid) = (AtomicUsize::new(0), Mutex::new(vec![]));
    let merchant = Merchant::start(move |seen, out| {
        let accepted = seen.payment().map(|p| decoded(p)["accepted"].clone());
        let mut open = paid.lock().unwrap();
        if let Some(at) = open
            .iter()
            .position(|order| Some(order) == accepted.as_ref())
        {
            open.remove(at);
            return shop::sell("premium", out);
        }
        let mut terms = shop::challenge();
        place(
            &mut terms["accepts"][0],
            orders.fetch_add(1, Ordering::Relaxed),
        );
        open.push(terms["accepts"][0].clone());
        shop::ask(&terms, out)
    });
    let setup = in_advance(shop::setup(&merchant));
    (merchant, setup)
}

#[test]
fn an_order_that_is_good_for_one_request_is_never_paid_for_in_advance() {
    let (merchant, setup) = numbered(|terms, n| terms["extra"]["orderId"] = json!(n.to_string()));
    let proxy = setup.start();
    for _ in 0..3 {
        assert_eq!(get(&proxy, "/x").text(), "premium");
    }
    assert_eq!(merchant.seen().len(), 6);
    assert_eq!(proxy.ledger().sum(&["unknown"]), 0);
}

/// Where nothing in the terms says so, one payment is what it takes to find out.
#[test]
fn where_it_was_in_vain_nothing_more_goes_in_advance() {
    let (merchant, setup) = numbered(|terms, n| terms["orderId"] = json!(n));
    let proxy = setup.start();
    assert_eq!(get(&proxy, "/x").text(), "premium");
    assert_eq!(get(&proxy, "/y").text(), "premium");
    let answer = get(&proxy, "/x");
    assert_eq!(
        answer.reason().as_deref(),
        Some("already_paid"),
        "{}",
        answer.text()
    );
    for path in ["/y", "/y", "/z", "/z", "/z"] {
        assert_eq!(get(&proxy, path).text(), "premium", "{path}");
    }
    assert_eq!(merchant.seen().len(), 2 * 7 + 1);
    assert_eq!(proxy.ledger().sum(&["unknown"]), 10_000);
    proxy.assert_verifies();
}

#[test]
fn another_price_is_told_and_never_paid_for_the_same_request() {
    let (shop, setup) = Fickle::open();
    let proxy = setup.start();
    assert_eq!(get(&proxy, "/x").text(), "premium");
    assert_eq!(get(&proxy, "/x").text(), "premium");
    assert_eq!(shop.asked(), 3);
    shop.change("/accepts/0/amount", json!("20000"));
    let answer = get(&proxy, "/x");
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (402, Some("price_changed")),
        "{}",
        answer.text()
    );
    let told = answer.json();
    assert!(
        told["payment"].is_string() && told["resets_at"].is_string(),
        "{told}"
    );
    assert_eq!(shop.asked(), 4, "nothing was sent a second time");
    // Flags are stored beside the answer.
    let books = until("the flags", PATIENCE, || {
        let books = proxy.ledger();
        (books.flags() == ["paid_but_denied", "price_changed"]).then_some(books)
    });
    assert_eq!((books.rows.len(), books.sum(&["unknown"])), (3, 10_000));

    // What is asked anew learns the new price; only the very same request waits for the old payload.
    assert_eq!(get(&proxy, "/x?again").text(), "premium");
    assert_eq!(shop.asked(), 6);
    let again = get(&proxy, "/x");
    assert_eq!(
        again.reason().as_deref(),
        Some("already_paid"),
        "{}",
        again.text()
    );
    let sent = shop::payments(&shop.merchant);
    assert_eq!(
        sent.last(),
        sent.get(2),
        "the same payload, never a new one"
    );
    let books = proxy.ledger();
    assert_eq!(
        (books.rows.len(), books.counted()),
        (4, 3 * 10_000 + 20_000)
    );
    assert!(
        books.flags().contains(&"price_changed".into()),
        "it stays with the payment whose payload was sent again: {books:?}"
    );
    assert_eq!(get(&proxy, "/x?again").text(), "premium");
    let sent = shop::payments(&shop.merchant);
    assert_eq!(
        shop.asked(),
        9,
        "two for what was held, one in advance at the new price: {sent:?}"
    );
}

#[test]
fn another_recipient_is_told_and_nothing_more_is_signed() {
    for (body, status) in [("problem", 402), ("original", 402)] {
        let (shop, mut setup) = Fickle::open();
        setup.config["refusals"] = json!({ "body": body });
        let proxy = setup.start();
        assert_eq!(get(&proxy, "/x").text(), "premium");
        shop.change(
            "/accepts/0/payTo",
            json!("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"),
        );
        let answer = get(&proxy, "/x");
        let decision = answer.one("farepass-decision").unwrap_or_default();
        assert_eq!(answer.status, status);
        assert!(decision.contains("recipient_changed"), "{decision}");
        let theirs = answer.one("payment-required").is_some();
        assert_eq!(theirs, body == "original");
        assert_eq!(shop.asked(), 3);
        let flags = until("the flag in the books", PATIENCE, || {
            let flags = proxy.ledger().flags();
            flags
                .contains(&"recipient_changed".to_owned())
                .then_some(flags)
        });
        assert_eq!(flags, ["paid_but_denied", "recipient_changed"]);
        assert_eq!(proxy.ledger().sum(&["unknown"]), 10_000);
    }
}

#[test]
fn a_first_recipient_that_is_pinned_stays_pinned() {
    let (shop, mut setup) = Fickle::open();
    setup.config["rules"][0]["pay"]["pay_to"] = json!("first-seen");
    let proxy = setup.start();
    for round in 0..3 {
        assert_eq!(get(&proxy, "/x").text(), "premium");
        assert_eq!(shop.asked(), 2 + round);
    }
    shop.change(
        "/accepts/0/payTo",
        json!("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"),
    );
    assert_eq!(
        get(&proxy, "/x").reason().as_deref(),
        Some("recipient_changed")
    );
    // Learned from a 402, decided on like any other.
    assert_eq!(
        get(&proxy, "/y").reason().as_deref(),
        Some("recipient_changed")
    );
    assert_eq!(shop::payments(&shop.merchant).len(), 4);
}

#[test]
fn what_is_free_now_is_handed_over_and_its_payment_counts() {
    let free = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&free);
    let (merchant, setup) = shop::open(move |_, out| match seen.load(Ordering::SeqCst) {
        0 => shop::sell("premium", out),
        _ => {
            out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfree")?;
            Ok(After::Keep)
        }
    });
    let proxy = in_advance(setup).start();
    assert_eq!(get(&proxy, "/x").text(), "premium");
    free.store(1, Ordering::SeqCst);
    assert_eq!(get(&proxy, "/x").text(), "free");
    let books = proxy.ledger();
    assert_eq!(
        (books.sum(&["settled"]), books.sum(&["unknown"])),
        (10_000, 10_000)
    );
    // It was not confirmed, so it is asked for again.
    assert_eq!(get(&proxy, "/x").text(), "free");
    assert_eq!(merchant.seen().len(), 5);
}

#[test]
fn what_is_frozen_spent_or_reloaded_meanwhile_goes_without_a_payment() {
    let (shop, mut setup) = Fickle::open();
    // One purchase after the other, until the new policy is there, which takes a loaded machine a while.
    setup.budget("1000 USD");
    setup.config["limits"]["identical_payments"] = json!("off");
    let proxy = setup.start();
    let unpaid = |reason: &str, path: &str| {
        let (asked, paid) = (shop.asked(), shop::payments(&shop.merchant).len());
        let answer = get(&proxy, path);
        assert_eq!(
            answer.reason().as_deref(),
            Some(reason),
            "{}",
            answer.text()
        );
        assert_eq!(
            (shop.asked(), shop::payments(&shop.merchant).len()),
            (asked + 1, paid)
        );
    };
    assert_eq!(get(&proxy, "/x").text(), "premium");
    assert!(proxy.setup.run(&["freeze", "all"]).status.success());
    unpaid("frozen", "/x");
    assert!(proxy.setup.run(&["unfreeze", "all"]).status.success());
    assert_eq!(get(&proxy, "/x").text(), "premium");
    assert_eq!(shop.asked(), 4, "what was known stays known");
    // A new policy has paid nothing yet.
    let mut proxy = proxy;
    proxy.setup.config["rules"][0]["pay"]["max"] = json!("0.09 USD");
    proxy.setup.write();
    proxy.reload();
    until("the new policy", PATIENCE, || {
        let asked = shop.asked();
        assert_eq!(get(&proxy, "/x").text(), "premium");
        (shop.asked() == asked + 2).then_some(())
    });
    let asked = shop.asked();
    assert_eq!(get(&proxy, "/x").text(), "premium");
    assert_eq!(shop.asked(), asked + 1);

    let (shop, mut setup) = Fickle::open();
    setup.budget("0.02 USD");
    let proxy = setup.start();
    for _ in 0..2 {
        assert_eq!(get(&proxy, "/x").text(), "premium");
    }
    let answer = get(&proxy, "/x");
    assert_eq!(answer.reason().as_deref(), Some("over_session_cap"));
    assert_eq!((shop.asked(), shop::payments(&shop.merchant).len()), (4, 2));
    // A refusal of the payment in advance would have been told before.
    let told = until("the refusal's event", PATIENCE, || {
        let denied = |e: &&Value| e["event"] == "denied";
        let count = proxy.events().iter().filter(denied).count();
        (count > 0).then_some(count)
    });
    assert_eq!(told, 1);
}

#[test]
fn what_one_session_learned_is_no_others() {
    let (shop, setup) = Fickle::open();
    let proxy = setup.start();
    assert_eq!(get(&proxy, "/x").text(), "premium");
    let out = proxy.setup.run(&["session", "create", "--agent", "other"]);
    let other = String::from_utf8(out.stdout).unwrap();
    for asked in [4, 5] {
        let mut curl = proxy.curl(&format!("https://{}/x", shop::HOST));
        let out = curl.args(["--proxy", other.trim()]).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(said.ends_with("premium"), "{said}");
        assert_eq!(shop.asked(), asked);
    }
}

/// The proof went out and nothing came back: the agent's own retry is no second purchase.
#[test]
fn a_lost_answer_is_resent_and_not_bought_again() {
    let count = Arc::new(AtomicUsize::new(0));
    let (merchant, setup) = shop::open({
        let count = Arc::clone(&count);
        move |_, out| match count.fetch_add(1, Ordering::SeqCst) {
            1 => Ok(After::Close),
            _ => shop::sell("premium", out),
        }
    });
    let proxy = in_advance(setup).start();
    assert_eq!(get(&proxy, "/x").text(), "premium");
    let lost = get(&proxy, "/x");
    assert_eq!(
        (lost.status, lost.reason().as_deref()),
        (502, Some("outcome_unknown"))
    );
    assert_eq!(get(&proxy, "/x").text(), "premium");
    let sent = shop::payments(&merchant);
    assert_eq!((sent.len(), &sent[1]), (3, &sent[2]));
    let books = proxy.ledger();
    assert_eq!((books.rows.len(), books.counted()), (2, 20_000));
}
