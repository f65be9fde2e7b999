//! Fleets: several proxies, one PostgreSQL ledger. One budget, exact to the payment; no payment without a
//! durable record, whatever becomes of a proxy or of the database.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::agent::Ask;
use crate::support::merchant::{After, Merchant};
use crate::support::postgres::Server;
use crate::support::proxy::{Books, Proxy, Setup};
use crate::support::shop::{self, HOST};
use crate::support::{certs, linger, needs, until};

const LONG: Duration = Duration::from_secs(60);

/// A set-up with its ledger at this URL.
pub(crate) fn at(mut setup: Setup, url: &str) -> Setup {
    let file = setup.dir.path().join("db.url");
    fs::write(&file, url).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    setup.config["ledger"] = json!({ "postgres": { "url_file": file } });
    setup
}

/// Proxies that share a ledger, started at once.
pub(crate) fn fleet(merchant: &Merchant, url: &str, size: usize, budget: &str) -> Vec<Proxy> {
    std::thread::scope(|scope| {
        let one = |_| {
            scope.spawn(|| {
                let mut setup = at(shop::setup(merchant), url);
                setup.budget(budget);
                setup.start()
            })
        };
        let all: Vec<_> = (0..size).map(one).collect();
        all.into_iter().map(|p| p.join().unwrap()).collect()
    })
}

/// The nonces of what a merchant was paid.
pub(crate) fn taken(merchant: &Merchant) -> Vec<String> {
    let nonce = |header: String| {
        let payload: Value = serde_json::from_slice(&STANDARD.decode(header).unwrap()).unwrap();
        let nonce = payload.pointer("/payload/authorization/nonce").unwrap();
        nonce.as_str().unwrap().to_ascii_lowercase()
    };
    shop::payments(merchant).into_iter().map(nonce).collect()
}

/// The books know everything that the merchant knows.
pub(crate) fn assert_nothing_lost(merchant: &Merchant, setup: &Setup) -> usize {
    let known: BTreeSet<String> = Books::of(setup).nonces().into_iter().collect();
    let taken: BTreeSet<String> = taken(merchant).into_iter().collect();
    for nonce in &taken {
        assert!(
            known.contains(nonce),
            "the merchant saw {nonce}, the ledger did not"
        );
    }
    taken.len()
}

pub(crate) fn url(n: usize) -> String {
    format!("https://{HOST}/{n}")
}

#[test]
fn four_proxies_of_64_payers_pay_what_one_budget_holds() {
    const HELD: usize = 200;
    let Some(server) = needs(Server::start(&[])) else {
        return;
    };
    let (merchant, _) = shop::open(|_, out| shop::sell("goods", out));
    let proxies = fleet(&merchant, &server.place("fleet"), 4, "2.00 USD");
    let (next, paid, refused) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let began = Instant::now();
    std::thread::scope(|scope| {
        for proxy in &proxies {
            for _ in 0..64 {
                scope.spawn(|| {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let answer = proxy.agent(LONG).send(&Ask::get(&url(n))).unwrap();
                    match (answer.status, answer.reason().as_deref()) {
                        (200, _) => paid.fetch_add(1, Ordering::Relaxed),
                        (402, Some("over_session_cap")) => refused.fetch_add(1, Ordering::Relaxed),
                        other => panic!("{other:?}: {}", answer.text()),
                    };
                });
            }
        }
    });
    println!("256 requests in {:?}", began.elapsed());
    assert_eq!(
        (paid.into_inner(), refused.into_inner()),
        (HELD, 4 * 64 - HELD),
        "exact to the payment"
    );
    let all = taken(&merchant);
    let different: BTreeSet<_> = all.iter().collect();
    assert_eq!((all.len(), different.len()), (HELD, HELD), "and each once");
    assert_nothing_lost(&merchant, &proxies[0].setup);
    // Whichever proxy, or none, is asked: the books are the same.
    let books = until("the receipts in the books", LONG, || {
        let books = Books::of(&proxies[3].setup);
        (books.sum(&["settled"]) == 2_000_000).then_some(books)
    });
    assert_eq!(books.rows.len(), HELD);
    let spend = proxies[1]
        .setup
        .run(&["spend", "--by", "day,agent", "--json"]);
    let spend: Value = serde_json::from_slice(&spend.stdout).unwrap();
    assert_eq!(spend["total"]["spent"], "2.00 USD");
    assert_eq!(spend["total"]["assets"][0]["spent"], "2000000");
    assert_eq!(spend["total"]["refused"], 4 * 64 - HELD);
    proxies[1].assert_verifies();
    // Each chain of records is one, and a session is everybody's.
    let out = proxies[2]
        .setup
        .run(&["session", "create", "--agent", "late", "--json"]);
    let made: Value = serde_json::from_slice(&out.stdout).unwrap();
    let made = made["proxy"].as_str().unwrap();
    let secret = made.split('@').next().unwrap();
    for proxy in &proxies {
        let mut curl =
            crate::support::curl::curl(&format!("{secret}@{}", proxy.address()), &proxy.ca());
        curl.arg(url(9000));
        assert_eq!(crate::support::curl::fetch(curl).unwrap().status, 200);
    }
    let frozen = proxies[0].setup.run(&["freeze", "--why", "a test"]);
    assert!(frozen.status.success(), "{frozen:?}");
    for proxy in &proxies {
        let answer = proxy.get(&url(9001));
        assert_eq!(answer.reason().as_deref(), Some("frozen"), "{answer:?}");
    }
}

#[test]
fn what_a_killed_proxy_reserved_stays_held_and_is_closed_once() {
    let Some(server) = needs(Server::start(&[])) else {
        return;
    };
    let place = server.place("killed");
    let holding = std::sync::Arc::new(AtomicBool::new(true));
    let hold = std::sync::Arc::clone(&holding);
    let (merchant, _) = shop::open(move |_, out| {
        until("the end of the wait", LONG, || {
            (!hold.load(Ordering::Relaxed)).then_some(())
        });
        shop::sell("goods", out)
    });
    let mut proxies = fleet(&merchant, &place, 3, "0.10 USD");
    std::thread::scope(|scope| {
        for n in 0..6 {
            let (at, ca) = (proxies[0].url(), proxies[0].ca());
            scope.spawn(move || {
                let mut curl = crate::support::curl::curl(&at, &ca);
                curl.arg(url(n));
                let _ = crate::support::curl::fetch(curl);
            });
        }
        until("six payments at the merchant", LONG, || {
            (shop::payments(&merchant).len() == 6).then_some(())
        });
        proxies[0].kill();
    });
    holding.store(false, Ordering::Relaxed);
    assert_eq!(assert_nothing_lost(&merchant, &proxies[1].setup), 6);
    let held = Books::of(&proxies[1].setup).sum(&["reserved"]);
    assert_eq!(held, 60_000, "they count for everybody");
    let answers: Vec<_> = (10..16).map(|n| proxies[1].get(&url(n)).status).collect();
    assert_eq!(answers, [200, 200, 200, 200, 402, 402]);
    // Nobody has what it was about to be answered, and nobody else pays for it.
    let retry = proxies[1].get(&url(1));
    let reason = retry.reason();
    assert_eq!(reason.as_deref(), Some("outcome_unknown"), "{retry:?}");
    assert!(retry.json()["payment"].is_string(), "{}", retry.text());
    // The one that was killed comes back, and pays for nothing a second time.
    proxies[0].start_again();
    let again = proxies[0].get(&url(0));
    assert_eq!(
        again.reason().as_deref(),
        Some("outcome_unknown"),
        "{again:?}"
    );
    assert_eq!(shop::payments(&merchant).len(), 10);
    // Long after: their payloads are dead. Three sweepers look, and one of them closes each, once.
    let aged = "UPDATE killed.farepass_payment SET until = 5 WHERE stage = 0";
    assert!(server.sql("postgres", aged).0);
    let books = until("the sweeper", LONG, || {
        let books = Books::of(&proxies[2].setup);
        (books.sum(&["reserved"]) == 0).then_some(books)
    });
    assert_eq!(books.sum(&["settled"]), 100_000, "no proof, no refund");
    linger(Duration::from_secs(1));
    let (_, events) = server.sql(
        "postgres",
        "SELECT count(*) FROM killed.farepass_record WHERE event LIKE '%expired_unproven%'",
    );
    assert_eq!(events, "6", "each is closed once");
}

/// For requests that were on their way.
pub(crate) const SETTLED: Duration = Duration::from_millis(500);

pub(crate) fn ready(proxy: &Proxy) -> bool {
    proxy
        .ask_admin("/readyz")
        .is_ok_and(|answer| answer.status == 200)
}

/// Waits until the merchant was paid more often than so many times from now on.
pub(crate) fn more(merchant: &Merchant, least: usize) {
    let paid = || shop::payments(merchant).len();
    let before = paid();
    until("more payments", LONG, || {
        (paid() > before + least).then_some(())
    });
}

/// Sets it when this is dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Eight agents of each proxy buy one thing after the other, until the rest was done, or failed.
pub(crate) fn while_agents_buy(proxies: &[Proxy], rest: impl FnOnce()) {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for proxy in proxies {
            for _ in 0..8 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        let answer = proxy.agent(LONG).send(&Ask::get(&url(n))).unwrap();
                        let known = matches!(answer.status, 200 | 402 | 503);
                        assert!(known, "{}: {}", answer.status, answer.text());
                    }
                });
            }
        }
        let _ends = Ends(&stop);
        rest();
    });
}

#[test]
fn a_database_that_restarts_under_load_loses_no_payment() {
    let Some(server) = needs(Server::start(&[])) else {
        return;
    };
    let (merchant, _) = shop::open(|_, out| shop::sell("goods", out));
    let free = Merchant::start(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfree")?;
        Ok(After::Keep)
    });
    let place = server.place("restart");
    let one = || {
        let mut setup = at(shop::setup(&merchant), &place);
        setup.budget("100 USD").root(&free.root);
        setup.resolve("free.stand.test:443", free.tls.port().into());
        setup.start()
    };
    let proxies = [one(), one()];
    while_agents_buy(&proxies, || {
        let more = |least| more(&merchant, least);
        for _ in 0..2 {
            more(20);
            server.crash();
            until("readiness to be told", LONG, || {
                (!proxies.iter().any(ready)).then_some(())
            });
            for proxy in &proxies {
                assert_eq!(proxy.ask_admin("/healthz").unwrap().status, 200, "alive");
                assert_eq!(
                    proxy.get("https://free.stand.test/").status,
                    200,
                    "forwarded"
                );
            }
            // What was stored before it went away has been paid by now.
            linger(SETTLED);
            let before = shop::payments(&merchant).len();
            linger(SETTLED);
            let paid = shop::payments(&merchant).len() - before;
            assert_eq!(paid, 0, "while it was away nothing was paid");
            server.run();
        }
        more(20);
    });
    assert!(assert_nothing_lost(&merchant, &proxies[0].setup) > 60);
    for proxy in &proxies {
        until("readiness", LONG, || ready(proxy).then_some(()));
    }
    proxies[1].assert_verifies();
}

#[test]
fn the_database_is_spoken_to_over_verified_tls() {
    let Some(server) = needs(Server::start(&[])) else {
        return;
    };
    let place = server.place("secured");
    let signer = certs::authority("database CA", None, |_| {});
    let (chain, key) = signer.server("localhost");
    let (chain, key) = (
        server.file("server.crt", chain.as_bytes()),
        server.file("server.key", key.as_bytes()),
    );
    for set in [
        format!("ALTER SYSTEM SET ssl_cert_file = '{}'", chain.display()),
        format!("ALTER SYSTEM SET ssl_key_file = '{}'", key.display()),
        "ALTER SYSTEM SET ssl = on".into(),
        "SELECT pg_reload_conf()".into(),
    ] {
        assert!(server.sql("postgres", &set).0, "{set}");
    }
    let (merchant, _) = shop::open(|_, out| shop::sell("goods", out));
    let setup = |host: &str, trusted: bool| {
        let url = place.replace("@127.0.0.1:", &format!("@{host}:"));
        let mut setup = at(
            shop::setup(&merchant),
            &format!("{url}&sslmode=verify-full"),
        );
        if trusted {
            let file = setup.dir.path().join("db-ca.pem");
            fs::write(&file, &signer.pem).unwrap();
            setup.config["ledger"]["postgres"]["ca_file"] = json!(file);
        }
        setup.write();
        setup
    };
    let proxy = until("the server's certificate", LONG, || {
        let setup = setup("localhost", true);
        let listed = setup.run(&["session", "create", "--agent", "first"]);
        listed.status.success().then(|| setup.start())
    });
    assert_eq!(proxy.get(&url(1)).status, 200);
    let (_, plain) = server.sql(
        "postgres",
        "SELECT count(*) || ' ' || count(*) FILTER (WHERE s.ssl) FROM pg_stat_ssl s
         JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'farepass'",
    );
    assert_eq!(plain, "2 2", "all of its connections");
    for (host, trusted, word) in [
        ("127.0.0.1", true, "not valid for"),
        ("localhost", false, "UnknownIssuer"),
    ] {
        let setup = setup(host, trusted);
        said(&setup, 2, &["not trusted", word]);
    }
}

/// One line with these words and this code, without the password, from `serve` and from a command.
fn said(setup: &Setup, code: i32, words: &[&str]) {
    for command in [&["serve"][..], &["ledger", "list"]] {
        told(setup, command, code, words);
    }
}

fn told(setup: &Setup, command: &[&str], code: i32, words: &[&str]) {
    let out = setup.run(command);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said:?}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn a_database_that_cannot_be_used_is_told_by_name() {
    let Some(server) = needs(Server::start(&[])) else {
        return;
    };
    let open = |url: &str| {
        let setup = at(Setup::new(), url);
        setup.write();
        setup
    };
    let wrong = server.url("127.0.0.1", "hunter2-wrong", "");
    said(&open(&wrong), 2, &["does not let us in", "password"]);
    // A proxy starts all the same (`away.rs`).
    let nowhere = open("postgres://u:hunter2@127.0.0.1:1/d");
    for command in [&["ledger", "list"][..], &["session", "create"]] {
        told(&nowhere, command, 1, &["cannot be reached"]);
    }
    let nothing = server.url("127.0.0.1", Server::password(), "");
    let nothing = nothing.replace("/postgres?", "/nothing?");
    said(&open(&nothing), 2, &["does not let us in", "nothing"]);
    let far = "postgres://u:hunter2@db.example/d?sslmode=disable";
    said(&open(far), 2, &["sslmode", "db.url"]);
    let exposed = open(&server.place("exposed"));
    let file = exposed.dir.path().join("db.url");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    said(&exposed, 2, &["chmod 600", "db.url"]);
    let place = server.place("newer");
    let newer = at(Setup::new(), &place).start();
    let two = newer.setup.run(&["serve"]);
    let held = String::from_utf8_lossy(&two.stderr).into_owned();
    assert_eq!(two.status.code(), Some(1), "{held}");
    assert!(
        held.contains("one proxy") || held.contains("in use"),
        "{held}"
    );
    drop(newer);
    let raised = "UPDATE newer.farepass_meta SET value = '99' WHERE key = 'version'";
    assert!(server.sql("postgres", raised).0);
    said(&open(&place), 1, &["version 99"]);
}

/// A user of its own with the password `hunter2-one`: its URL, with this or another one.
pub(crate) fn payer(server: &Server) -> impl Fn(&str) -> String {
    let role =
        "CREATE ROLE payer LOGIN PASSWORD 'hunter2-one'; CREATE SCHEMA payer AUTHORIZATION payer";
    assert!(server.sql("postgres", role).0);
    |password| {
        let url = server.url("127.0.0.1", password, "");
        url.replace("//farepass:", "//payer:")
    }
}

#[test]
fn a_password_that_was_changed_is_read_from_its_file() {
    let Some(server) = needs(Server::start(&[])) else {
        return;
    };
    let told = payer(&server);
    let (merchant, _) = shop::open(|_, out| shop::sell("goods", out));
    let setup = at(shop::setup(&merchant), &told("hunter2-one"));
    let file = setup.dir.path().join("db.url");
    let proxy = setup.start();
    assert_eq!(proxy.get(&url(1)).status, 200);
    let change = "ALTER ROLE payer PASSWORD 'hunter2-two';
                  SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'payer'";
    assert!(server.sql("postgres", change).0);
    until("readiness to be told", LONG, || {
        let ready = proxy.ask_admin("/readyz").unwrap();
        let said = ready.text();
        assert!(!said.contains("hunter2"), "{said}");
        (ready.status == 503).then_some(())
    });
    assert_ne!(proxy.get(&url(2)).status, 200, "the old one opens nothing");
    // As a Secret's volume does it: another file, by rename.
    let beside = file.with_extension("new");
    fs::write(&beside, told("hunter2-two")).unwrap();
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&beside, &file).unwrap();
    until("payments with the new one", LONG, || {
        (proxy.get(&url(3)).status == 200).then_some(())
    });
    assert_nothing_lost(&merchant, &proxy.setup);
    proxy.assert_verifies();
}

/// What a proxy was about to say when it died: nothing before a commit, and what was committed counts.
#[test]
fn a_proxy_that_dies_at_a_commit_paid_for_nothing_that_is_not_in_the_books() {
    let Some(server) = needs(Server::start(&[])) else {
        return;
    };
    let (merchant, _) = shop::open(|_, out| shop::sell("goods", out));
    let mut proxy = fleet(&merchant, &server.place("dies"), 1, "0.10 USD").remove(0);
    for (n, (point, counted)) in [("before-commit", 0), ("after-commit", 10_000)]
        .into_iter()
        .enumerate()
    {
        proxy.stop();
        assert!(proxy.start_to_die(point), "nothing is committed before");
        let _ = crate::support::curl::fetch(proxy.curl(&url(n)));
        until("its death", LONG, || proxy.ended());
        proxy.start_again();
        assert_eq!(shop::payments(&merchant).len(), 0, "{point}");
        let books = Books::of(&proxy.setup);
        assert_eq!(books.sum(&["reserved"]), counted, "{point}");
    }
    assert_eq!(proxy.get(&url(7)).status, 200);
    assert_eq!(assert_nothing_lost(&merchant, &proxy.setup), 1);
    proxy.assert_verifies();
}
