//! An agent whose answer was lost asks again, and another proxy of the fleet gets the request (threats M-10,
//! M-11, M-12): nothing is paid twice, and what is no retry is sold as always.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::postgres::{fleet, taken, url};
use crate::support::agent::Ask;
use crate::support::http::Answer;
use crate::support::merchant::{After, Merchant};
use crate::support::postgres::Server;
use crate::support::proxy::{Books, Proxy};
use crate::support::shop;
use crate::support::{needs, until};

const LONG: Duration = Duration::from_secs(60);

/// Serves the first paid request for each path like this, and sells to the others.
fn once(
    first: impl Fn(&mut dyn Write) -> std::io::Result<After> + Send + Sync + 'static,
) -> Merchant {
    let seen = Mutex::new(BTreeMap::new());
    let (merchant, _) = shop::open(move |asked, out| {
        let nth = {
            let mut seen = seen.lock().unwrap();
            let count = seen.entry(asked.target.clone()).or_insert(0);
            *count += 1;
            *count
        };
        match nth {
            1 => first(out),
            _ => shop::sell("goods", out),
        }
    });
    merchant
}

fn different(merchant: &Merchant) -> usize {
    taken(merchant).into_iter().collect::<BTreeSet<_>>().len()
}

/// Refused as a retry of a payment, which it names.
fn refused(answer: &Answer) -> String {
    let reason = answer.reason();
    assert_eq!(reason.as_deref(), Some("outcome_unknown"), "{answer:?}");
    let body = answer.json();
    assert_eq!(body["retryable"], true, "{body}");
    body["payment"].as_str().unwrap().to_owned()
}

fn assert_whole(proxy: &Proxy, rows: usize) {
    let books = until("the receipts in the books", LONG, || {
        let books = Books::of(&proxy.setup);
        (books.sum(&["settled"]) == 10_000 * rows as u128).then_some(books)
    });
    let paid = books.rows.iter().filter(|row| row["state"] != "denied");
    assert_eq!(paid.count(), rows);
    proxy.assert_verifies();
}

/// The money was taken, and the line went dead. At once, because a client library does not wait.
#[test]
fn what_one_proxy_paid_for_nothing_another_does_not_pay_again() {
    const PAGES: usize = 8;
    let Some(server) = needs(Server::start(&[])) else {
        return;
    };
    let merchant = once(|_| Ok(After::Close));
    let proxies = fleet(&merchant, &server.place("lost"), 2, "1 USD");
    for n in 0..PAGES {
        let lost = proxies[0].get(&url(n));
        assert_eq!(lost.status, 502, "{lost:?}");
        let payment = lost.json()["payment"].as_str().unwrap().to_owned();
        assert_eq!(refused(&proxies[1].get(&url(n))), payment);
        assert_eq!(different(&merchant), n + 1, "one signature for each");
    }
    assert_eq!(shop::payments(&merchant).len(), PAGES);
    // Whoever paid sends the same payload; and what is answered is bought anew, wherever.
    for n in 0..PAGES {
        assert_eq!(proxies[0].get(&url(n)).text(), "goods");
    }
    assert_eq!(different(&merchant), PAGES);
    assert_eq!(proxies[1].get(&url(0)).text(), "goods");
    assert_eq!(different(&merchant), PAGES + 1);
    assert_whole(&proxies[1], PAGES + 1);
}

/// Whoever is told that its answer was lost may ask another proxy at once: by then that one knows.
#[test]
fn an_agent_is_told_of_a_lost_answer_when_the_fleet_knows() {
    // The lock under which everything is written, taken by somebody who is slow.
    const HELD: &str = "SELECT pg_advisory_lock(1717662311, hashtext('slow')), pg_sleep(1.5)";
    const WAITS: &str = "SELECT count(*) FROM pg_locks
        WHERE locktype = 'advisory' AND classid = 1717662311 AND granted AND pid IN
        (SELECT pid FROM pg_stat_activity WHERE application_name = 'psql')";
    let Some(server) = needs(Server::start(&[])) else {
        return;
    };
    let server = Arc::new(server);
    let database = Arc::clone(&server);
    let broken = AtomicUsize::new(0);
    let merchant = once(move |out| {
        // The second time half of the answer comes before.
        if broken.fetch_add(1, Ordering::Relaxed) == 1 {
            half(out)?;
            out.flush()?;
        }
        let slow = Arc::clone(&database);
        std::thread::spawn(move || slow.sql("postgres", HELD));
        until("the lock", LONG, || {
            (database.sql("postgres", WAITS).1 == "1").then_some(())
        });
        Ok(After::Close)
    });
    let proxies = fleet(&merchant, &server.place("slow"), 2, "1 USD");
    for (n, status) in [(1, 502), (2, 200)] {
        let lost = proxies[0].agent(LONG).send(&Ask::get(&url(n))).unwrap();
        let owed = format!(
            "SELECT count(*) > 0 FROM slow.farepass_record
             WHERE event LIKE '%\"path\":\"/{n}\"%' AND event LIKE '%\"owed\":true%'"
        );
        assert_eq!(server.sql("postgres", &owed).1, "t", "{lost:?}");
        assert_eq!(lost.status, status, "{lost:?}");
        assert!(status == 502 || !lost.body.whole, "{lost:?}");
        refused(&proxies[1].get(&url(n)));
        assert_eq!(different(&merchant), n);
    }
}

/// The receipt came, and then only a part of the goods.
fn half(out: &mut dyn Write) -> std::io::Result<()> {
    let receipt = shop::receipt();
    write!(
        out,
        "HTTP/1.1 200 OK\r\nPAYMENT-RESPONSE: {receipt}\r\nContent-Length: 7\r\n\r\npre"
    )
}

#[test]
fn half_an_answer_of_one_proxy_is_not_paid_for_by_another() {
    const PAGES: usize = 8;
    let Some(server) = needs(Server::start(&[])) else {
        return;
    };
    let merchant = once(|out| {
        half(out)?;
        Ok(After::Close)
    });
    let proxies = fleet(&merchant, &server.place("half"), 2, "1 USD");
    for n in 0..PAGES {
        let half = proxies[0].agent(LONG).send(&Ask::get(&url(n))).unwrap();
        assert!(!half.body.whole, "{half:?}");
        let again = proxies[1].get(&url(n));
        let payment = refused(&again);
        let header = half.one("farepass-payment").unwrap();
        assert!(header.starts_with(&payment), "{header}: {payment}");
        let said = again.text();
        assert!(said.contains("did not arrive whole"), "{said}");
    }
    assert_eq!(different(&merchant), PAGES);
    assert_eq!(proxies[0].get(&url(0)).text(), "goods");
    assert_eq!(proxies[1].get(&url(0)).text(), "goods");
    assert_eq!(different(&merchant), PAGES + 1);
}

/// An agent with less patience than the merchant has work.
#[test]
fn an_agent_that_hangs_up_on_one_proxy_buys_nothing_at_another() {
    let Some(server) = needs(Server::start(&[])) else {
        return;
    };
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let merchant = once(move |out| {
        let _ = wait.lock().unwrap().recv_timeout(LONG);
        shop::sell("goods", out)
    });
    let proxies = fleet(&merchant, &server.place("hangs"), 2, "1 USD");
    let mut curl = proxies[0].curl(&url(1));
    let mut agent = curl.stdout(Stdio::null()).spawn().unwrap();
    until("the payment to arrive", LONG, || {
        (different(&merchant) == 1).then_some(())
    });
    agent.kill().unwrap();
    agent.wait().unwrap();
    until("the hang-up to be in the books", LONG, || {
        let books = Books::of(&proxies[1].setup);
        let owed = |row: &serde_json::Value| row["owed"] == true && row["state"] == "reserved";
        books.rows.iter().any(owed).then_some(())
    });
    let payment = refused(&proxies[1].get(&url(1)));
    go.send(()).unwrap();
    until("the answer that nobody has", LONG, || {
        let books = Books::of(&proxies[1].setup);
        (books.sum(&["settled"]) == 10_000).then_some(())
    });
    assert_eq!(refused(&proxies[1].get(&url(1))), payment);
    assert_eq!(proxies[0].get(&url(1)).text(), "goods");
    assert_eq!(different(&merchant), 1);
    assert_eq!(proxies[1].get(&url(1)).text(), "goods");
    assert_whole(&proxies[1], 2);
}

/// Threat X-07 of a fleet: two that both wait are two purchases, wherever they ask.
#[test]
fn identical_requests_at_once_are_payments_of_their_own_at_every_proxy() {
    let Some(server) = needs(Server::start(&[])) else {
        return;
    };
    let (merchant, _) = shop::open(|_, out| shop::sell("goods", out));
    let proxies = fleet(&merchant, &server.place("alike"), 2, "1 USD");
    let sold = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for proxy in proxies.iter().cycle().take(20) {
            scope.spawn(|| {
                let answer = proxy.agent(LONG).send(&Ask::get(&url(1))).unwrap();
                assert_eq!(answer.text(), "goods", "{answer:?}");
                sold.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!((sold.into_inner(), different(&merchant)), (20, 20));
    assert_whole(&proxies[0], 20);
}
