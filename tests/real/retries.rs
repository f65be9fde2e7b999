//! What is sent a second time, and what never is (threats M-10, M-11, M-12, X-02, X-07, H-11).

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use serde_json::json;

use crate::support::agent::Ask;
use crate::support::http::Answer;
use crate::support::merchant::{After, Merchant};
use crate::support::proxy::Proxy;
use crate::support::shop;
use crate::support::until;

const PATIENCE: Duration = Duration::from_secs(20);

fn page(path: &str) -> String {
    format!("https://{}{path}", shop::HOST)
}

fn get(proxy: &Proxy, path: &str) -> Answer {
    let agent = proxy.agent(PATIENCE);
    agent.send(&Ask::get(&page(path))).unwrap()
}

fn free(out: &mut dyn Write) -> std::io::Result<After> {
    out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
    Ok(After::Keep)
}

/// A merchant whose kept connections turn out to be closed when they are used again: it reads the
/// request and hangs up without a byte.
#[test]
fn a_connection_that_was_closed_meanwhile_costs_a_harmless_request_nothing() {
    for (method, sent) in [
        ("GET", 3),
        ("HEAD", 3),
        ("OPTIONS", 3),
        ("DELETE", 3),
        ("PUT", 3),
        ("POST", 2),
    ] {
        let count = AtomicUsize::new(0);
        let merchant = Merchant::start(move |seen, out| {
            match (count.fetch_add(1, Ordering::SeqCst), seen.method.as_str()) {
                (1, _) => Ok(After::Close),
                (_, "HEAD") => {
                    out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")?;
                    Ok(After::Keep)
                }
                _ => free(out),
            }
        });
        let proxy = shop::setup(&merchant).start();
        let mut curl = proxy.curl(&page("/1"));
        curl.args([&page("/2"), "--http1.1", "--request", method]);
        if method == "HEAD" {
            curl.arg("--head");
        }
        let out = curl.output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        let (good, bad) = (said.matches(" 200 ").count(), said.matches(" 502 ").count());
        let seen: Vec<_> = merchant.seen().iter().map(|s| s.target.clone()).collect();
        assert_eq!(seen.len(), sent, "{method}: {seen:?}");
        assert_eq!(
            (good, bad),
            if sent == 3 { (2, 0) } else { (1, 1) },
            "{method}: {said}"
        );
    }
}

#[test]
fn a_body_that_was_sent_is_not_sent_again_to_a_closed_connection() {
    let count = AtomicUsize::new(0);
    let merchant = Merchant::start(move |_, out| match count.fetch_add(1, Ordering::SeqCst) {
        1 => Ok(After::Close),
        _ => free(out),
    });
    let proxy = shop::setup(&merchant).start();
    let mut curl = proxy.curl(&page("/1"));
    curl.args([
        &page("/2"),
        "--http1.1",
        "--request",
        "PUT",
        "--data",
        "x=1",
    ]);
    let out = curl.output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(merchant.seen().len(), 2, "{said}");
    assert!(said.contains(" 502 "), "{said}");
}

/// The same with a payload in it: whoever read it may charge it, so nothing is sent by itself.
#[test]
fn a_paid_request_is_never_sent_twice_by_the_connection() {
    let lost = AtomicUsize::new(0);
    let (merchant, setup) = shop::open(move |_, out| match lost.fetch_add(1, Ordering::SeqCst) {
        0 => Ok(After::Close),
        _ => shop::sell("premium", out),
    });
    let proxy = setup.start();
    let answer = get(&proxy, "/x");
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (502, Some("outcome_unknown"))
    );
    assert_eq!(shop::payments(&merchant).len(), 1);
    let books = proxy.ledger();
    assert_eq!((books.sum(&["unknown"]), books.rows.len()), (10_000, 1));
    // The agent's own retry sends the same payload, by the rules.
    assert_eq!(get(&proxy, "/x").text(), "premium");
    let sent = shop::payments(&merchant);
    assert_eq!((sent.len(), &sent[0]), (2, &sent[1]));
    assert_settled(&proxy, 10_000, 1);
}

/// Threat M-11: the merchant takes the money and the line goes dead, again and again.
#[test]
fn three_retries_of_an_agent_carry_one_payload_and_a_fifth_none() {
    let (merchant, setup) = shop::open(|_, _| Ok(After::Reset));
    let proxy = setup.start();
    let mut reasons = vec![];
    for _ in 0..6 {
        reasons.extend(get(&proxy, "/x").reason());
    }
    assert_eq!(reasons, ["outcome_unknown"; 6]);
    let sent = shop::payments(&merchant);
    assert_eq!(sent.len(), 4, "once, and three times again");
    assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), 1, "one payload");
    assert_eq!(proxy.ledger().counted(), 10_000);
}

/// What makes a request another one: its query, its method, its body, its key.
#[test]
fn another_request_is_another_purchase() {
    let (merchant, setup) = shop::open(|_, _| Ok(After::Reset));
    let proxy = setup.start();
    let agent = proxy.agent(PATIENCE);
    let mut ask = Ask::get(&page("/x"));
    let _ = agent.send(&ask);
    ask.url = Ask::get(&page("/x?a=1")).url;
    let _ = agent.send(&ask);
    ask.method = "POST".into();
    let _ = agent.send(&ask);
    ask.body = b"1".to_vec();
    let _ = agent.send(&ask);
    let sent = shop::payments(&merchant);
    assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), 4);
    // Of another path, because five failures in a row close a route.
    for key in ["a", "b", "a"] {
        let mut ask = Ask::get(&page("/y"));
        ask.fields.push(("Idempotency-Key".into(), key.into()));
        let _ = agent.send(&ask);
    }
    let sent = shop::payments(&merchant);
    assert_eq!(sent[4], sent[6], "the same key again");
    assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), 6);
}

/// Whoever asks the same in another session, or elsewhere, is nobody's retry.
#[test]
fn the_same_request_of_another_session_is_another_purchase() {
    let (merchant, setup) = shop::open(|_, _| Ok(After::Reset));
    let proxy = setup.start();
    let out = proxy.setup.run(&["session", "create", "--agent", "other"]);
    let other = String::from_utf8(out.stdout).unwrap();
    for url in [None, Some(other.trim()), None] {
        let mut curl = proxy.curl(&page("/x"));
        curl.args(url.map(|url| ["--proxy", url]).into_iter().flatten());
        curl.output().unwrap();
    }
    let sent = shop::payments(&merchant);
    assert_eq!(sent.len(), 3);
    assert_eq!(sent[0], sent[2], "its own retry");
    assert_ne!(sent[0], sent[1], "another's");
}

#[test]
fn hold_sends_a_payload_once() {
    let (merchant, mut setup) = shop::open(|_, _| Ok(After::Reset));
    setup.config["rules"][0]["pay"]["on_unknown"] = json!("hold");
    let mut proxy = setup.start();
    for _ in 0..3 {
        assert_eq!(
            get(&proxy, "/x").reason().as_deref(),
            Some("outcome_unknown")
        );
    }
    assert_eq!(shop::payments(&merchant).len(), 1);
    // A restart forgets the payload, and remembers that it was sent.
    proxy.stop();
    proxy.start_again();
    let answer = get(&proxy, "/x");
    assert_eq!(answer.reason().as_deref(), Some("outcome_unknown"));
    assert!(answer.json()["payment"].is_string(), "{}", answer.text());
    assert_eq!(shop::payments(&merchant).len(), 1);
    assert_eq!(proxy.ledger().counted(), 10_000);
}

/// Threat M-12: an agent with less patience than the merchant has work.
#[test]
fn an_agent_that_hangs_up_and_asks_again_buys_once() {
    for version in ["--http1.1", "--http2"] {
        hangs_up_and_asks_again(version);
    }
}

fn hangs_up_and_asks_again(version: &str) {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let count = AtomicUsize::new(0);
    let (merchant, setup) = shop::open(move |_, out| {
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            let _ = wait.lock().unwrap().recv_timeout(PATIENCE);
        }
        shop::sell("premium", out)
    });
    let proxy = setup.start();
    let mut curl = proxy.curl(&page("/slow"));
    let mut agent = curl.arg(version).stdout(Stdio::null()).spawn().unwrap();
    until("the payment to arrive", PATIENCE, || {
        (shop::payments(&merchant).len() == 1).then_some(())
    });
    agent.kill().unwrap();
    agent.wait().unwrap();
    // A hang-up that was not noticed yet would look like two agents that both wait.
    until("the hang-up to be noticed", PATIENCE, || {
        (clients(&proxy) == 0).then_some(())
    });
    // While the first is in flight: neither a second payment nor a second copy of it.
    let answer = get(&proxy, "/slow");
    assert_eq!(
        answer.reason().as_deref(),
        Some("outcome_unknown"),
        "{version}"
    );
    assert!(answer.json()["payment"].is_string(), "{}", answer.text());
    assert_eq!(shop::payments(&merchant).len(), 1, "{version}");
    go.send(()).unwrap();
    // The answer came to nobody; the same payload gets it.
    until("the goods", PATIENCE, || {
        (get(&proxy, "/slow").text() == "premium").then_some(())
    });
    let sent = shop::payments(&merchant);
    assert_eq!((sent.len(), &sent[0]), (2, &sent[1]), "{version}");
    assert_settled(&proxy, 10_000, 1);
}

/// Connections to the proxy that it has not closed yet (established, or closed by the client).
fn clients(proxy: &Proxy) -> usize {
    let port = format!(":{:04X}", proxy.address().port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let open = |line: &&str| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.len() > 3 && words[1].ends_with(&port) && ["01", "08"].contains(&words[3])
    };
    table.lines().filter(open).count()
}

/// Bookings follow the answer.
fn assert_settled(proxy: &Proxy, sum: u128, rows: usize) {
    let books = until("the settlement", PATIENCE, || {
        Some(proxy.ledger()).filter(|books| books.sum(&["settled"]) == sum)
    });
    assert_eq!(books.rows.len(), rows);
}

/// The receipt came, and then only half of the goods.
#[test]
fn half_an_answer_is_asked_for_again_with_the_same_payload() {
    let count = AtomicUsize::new(0);
    let (merchant, setup) = shop::open(move |_, out| {
        if count.fetch_add(1, Ordering::SeqCst) > 0 {
            return shop::sell("premium", out);
        }
        let receipt = shop::receipt();
        write!(
            out,
            "HTTP/1.1 200 OK\r\nPAYMENT-RESPONSE: {receipt}\r\nContent-Length: 7\r\n\r\npre"
        )?;
        Ok(After::Close)
    });
    let proxy = setup.start();
    let half = get(&proxy, "/x");
    assert!(!half.body.whole, "{half:?}");
    assert_eq!(get(&proxy, "/x").text(), "premium");
    let sent = shop::payments(&merchant);
    assert_eq!((sent.len(), &sent[0]), (2, &sent[1]));
    assert_settled(&proxy, 10_000, 1);
    // Delivered now, so the next one is a purchase.
    assert_eq!(get(&proxy, "/x").text(), "premium");
    assert_settled(&proxy, 20_000, 2);
}

/// Threat X-07: twenty at once are twenty purchases, each signed and booked on its own.
#[test]
fn twenty_identical_requests_at_once_are_twenty_payments() {
    let (merchant, setup) = shop::open(|_, out| shop::sell("premium", out));
    let proxy = Arc::new(setup.start());
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(get(&proxy, "/x").text(), "premium"));
        }
    });
    let sent = shop::payments(&merchant);
    assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), 20);
    let books = proxy.ledger();
    assert_eq!((books.rows.len(), books.counted()), (20, 200_000));
    assert_eq!(
        books.nonces().into_iter().collect::<BTreeSet<_>>().len(),
        20
    );
}
