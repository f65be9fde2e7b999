//! Proxies that start while their database is away: what costs nothing is forwarded, nothing is paid, and
//! when the database comes it is as if it had been there.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::postgres::{assert_nothing_lost, at, payer, taken, url};
use crate::support::agent::Ask;
use crate::support::http::Answer;
use crate::support::merchant::{After, Merchant};
use crate::support::postgres::Server;
use crate::support::proxy::{Books, Proxy, Setup};
use crate::support::shop;
use crate::support::{curl, linger, needs, until};

const LONG: Duration = Duration::from_secs(60);
const FREE: &str = "https://free.stand.test/";

fn free() -> Merchant {
    Merchant::start(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfree")?;
        Ok(After::Keep)
    })
}

/// A policy that pays the shop, and knows a host that asks for nothing.
fn setup(shop: &Merchant, free: &Merchant, place: &str) -> Setup {
    let mut setup = at(shop::setup(shop), place);
    setup.root(&free.root);
    setup.resolve("free.stand.test:443", free.tls.port().into());
    setup
}

fn readyz(proxy: &Proxy) -> (u16, String) {
    let answer = proxy.ask_admin("/readyz").unwrap();
    (answer.status, answer.text())
}

fn refused(answer: &Answer) {
    let reason = answer.reason();
    assert_eq!(reason.as_deref(), Some("ledger_unavailable"), "{answer:?}");
}

/// It serves, does not pay, and says why by one of these words.
fn only_forwards(proxy: &Proxy, words: &str) {
    assert_eq!(proxy.get(FREE).text(), "free");
    refused(&proxy.get(&url(1)));
    let (status, why) = readyz(proxy);
    assert!(status == 503 && why.contains(words), "{status}: {why}");
    assert_eq!(proxy.ask_admin("/healthz").unwrap().status, 200);
    assert!(!proxy.stderr().contains("hunter2"), "{}", proxy.stderr());
}

fn comes(proxy: &Proxy) {
    until("readiness", LONG, || (readyz(proxy).0 == 200).then_some(()));
}

/// curl by a session's own URL at this proxy.
fn by(proxy: &Proxy, secret: &str, url: &str) -> Result<Answer, String> {
    let mut curl = curl::curl(&format!("{secret}@{}", proxy.address()), &proxy.ca());
    curl.arg(url);
    curl::fetch(curl)
}

#[test]
fn a_proxy_starts_without_its_database_and_pays_when_it_comes() {
    let Some(server) = needs(Server::start(&[])) else {
        return;
    };
    let (merchant, free) = (shop::open(|_, out| shop::sell("goods", out)).0, free());
    let mut setup = setup(&merchant, &free, &server.place("away"));
    setup.write();
    let made = setup.run(&["session", "create", "--agent", "early", "--json"]);
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let secret = made["proxy"].as_str().unwrap().split('@').next().unwrap();
    server.crash();
    setup.env = vec![
        ("FAREPASS_SESSION", PathBuf::from("pod-1")),
        ("FAREPASS_AGENT", PathBuf::from("research")),
    ];
    let mut proxy = setup.start();
    only_forwards(&proxy, "refused");
    let stranger = by(&proxy, secret, FREE);
    assert!(stranger.is_err(), "{stranger:?}");
    linger(Duration::from_secs(1));
    let said = proxy.stderr();
    assert_eq!(
        said.matches("ERROR").count(),
        1,
        "once, not with every try: {said}"
    );
    assert!(
        said.contains("starts without its ledger") && said.contains("refused"),
        "{said}"
    );
    let asked = proxy.setup.run(&["ready"]);
    let told = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(
        asked.status.code() == Some(1) && told.contains("refused"),
        "{told}"
    );
    assert!(proxy.setup.run(&["ready", "--alive"]).status.success());
    let listed = proxy.setup.run(&["ledger", "list"]);
    assert_eq!(
        listed.status.code(),
        Some(1),
        "commands need it: {listed:?}"
    );
    assert!(taken(&merchant).is_empty());
    let mut waiting = proxy
        .setup
        .command(&["ready", "--wait", "60s"])
        .spawn()
        .unwrap();
    server.run();
    assert!(waiting.wait().unwrap().success());
    assert_eq!(proxy.get(&url(2)).status, 200);
    assert_eq!(proxy.get(&url(1)).status, 200);
    assert_eq!(by(&proxy, secret, &url(3)).unwrap().status, 200);
    let books = proxy.ledger();
    let whose = |name: &str| {
        books
            .rows
            .iter()
            .filter(|row| row["session"] == name)
            .count()
    };
    assert_eq!((books.rows.len(), whose("pod-1")), (3, 2), "{books:?}");
    assert_nothing_lost(&merchant, &proxy.setup);
    let shown = proxy.setup.run(&["session", "show", "pod-1", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["agent"], "research");
    // What was refused meanwhile is in the books too.
    let denied = ["ledger", "list", "--state", "denied", "--json"];
    let denied = String::from_utf8(proxy.setup.run(&denied).stdout).unwrap();
    assert_eq!(denied.matches("ledger_unavailable").count(), 1, "{denied}");
    proxy.assert_verifies();
    assert!(proxy.stop().success());
}

/// A pod's session that there is already stays what it is, in tunnels too that were opened before it was known.
#[test]
fn a_tunnel_that_was_opened_before_is_in_the_session_as_it_is_stored() {
    let Some(server) = needs(Server::start(&[])) else {
        return;
    };
    let (merchant, free) = (shop::open(|_, out| shop::sell("goods", out)).0, free());
    let named = |agent: &str| {
        vec![
            ("FAREPASS_SESSION", PathBuf::from("pod-1")),
            ("FAREPASS_AGENT", PathBuf::from(agent)),
        ]
    };
    let mut setup = setup(&merchant, &free, &server.place("tunnel"));
    setup.env = named("research");
    let mut proxy = setup.start();
    assert!(proxy.stop().success());
    server.crash();
    proxy.setup.env = named("another");
    proxy.start_again();
    let mut curl = curl::curl(&proxy.url(), &proxy.ca());
    curl.args(["--fail-with-body", "--retry", "600", "--retry-all-errors"])
        .args([
            "--retry-delay",
            "1",
            "-w",
            "%{http_code} after %{num_connects}",
        ])
        .arg(url(1))
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let curl = curl.spawn().unwrap();
    until("the second try", LONG, || {
        (merchant.seen().len() > 1).then_some(())
    });
    server.run();
    let out = curl.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        said.ends_with("goods200 after 0"),
        "on the same connection: {said}"
    );
    let books = proxy.ledger();
    let row = &books.rows[0];
    assert_eq!(
        (&row["session"], &row["agent"]),
        (&"pod-1".into(), &"research".into())
    );
}

#[test]
fn what_was_paid_before_is_known_before_anything_is_paid_again() {
    let Some(server) = needs(Server::start(&[])) else {
        return;
    };
    let holding = Arc::new(AtomicBool::new(true));
    let hold = Arc::clone(&holding);
    let (merchant, _) = shop::open(move |_, out| {
        until("the end of the wait", LONG, || {
            (!hold.load(Ordering::Relaxed)).then_some(())
        });
        shop::sell("goods", out)
    });
    let free = free();
    let mut proxy = setup(&merchant, &free, &server.place("owed")).start();
    std::thread::scope(|scope| {
        let (at, ca) = (proxy.url(), proxy.ca());
        scope.spawn(move || {
            let mut curl = curl::curl(&at, &ca);
            curl.arg(url(1));
            let _ = curl::fetch(curl);
        });
        until("the payment", LONG, || {
            (taken(&merchant).len() == 1).then_some(())
        });
        proxy.kill();
    });
    holding.store(false, Ordering::Relaxed);
    server.crash();
    proxy.start_again();
    only_forwards(&proxy, "refused");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let proxy = &proxy;
            scope.spawn(move || {
                let end = Instant::now() + LONG;
                while readyz(proxy).0 != 200 && Instant::now() < end {
                    let answer = proxy.agent(LONG).send(&Ask::get(&url(1))).unwrap();
                    assert_ne!(answer.status, 200, "paid a second time: {answer:?}");
                }
            });
        }
        server.run();
    });
    let again = proxy.get(&url(1));
    assert_eq!(
        again.reason().as_deref(),
        Some("outcome_unknown"),
        "{again:?}"
    );
    assert_eq!(taken(&merchant).len(), 1);
    assert_eq!(proxy.get(&url(2)).status, 200);
    let held = Books::of(&proxy.setup).sum(&["reserved"]);
    assert_eq!(held, 10_000, "and it counts");
    proxy.assert_verifies();
}

/// A machine that hangs, or packets that are lost: nothing refuses, and nothing answers.
#[test]
fn a_database_that_falls_silent_holds_up_nothing_that_is_free() {
    let Some(server) = needs(Server::start(&[])) else {
        return;
    };
    let (merchant, free) = (shop::open(|_, out| shop::sell("goods", out)).0, free());
    let mut proxy = setup(&merchant, &free, &server.place("silent")).start();
    let made = ["session", "create", "--agent", "early", "--json"];
    let made: Value = serde_json::from_slice(&proxy.setup.run(&made).stdout).unwrap();
    let secret = made["proxy"].as_str().unwrap().split('@').next().unwrap();
    assert_eq!(proxy.get(&url(1)).status, 200);
    assert_eq!(by(&proxy, secret, &url(2)).unwrap().status, 200);
    server.hush();
    // Until what is known of the sessions is not of just now; then until it is known that nobody answers.
    for pause in [Duration::from_millis(1500), Duration::from_secs(11)] {
        linger(pause);
        in_time(|| assert_eq!(proxy.get(FREE).text(), "free"));
        in_time(|| assert_eq!(by(&proxy, secret, FREE).unwrap().text(), "free"));
        in_time(|| {
            let page = proxy.ask_admin("/metrics").unwrap().text();
            assert!(page.contains("farepass_ledger_up 0"), "{page}");
        });
    }
    only_forwards(&proxy, "did not answer in time");
    server.wake();
    comes(&proxy);
    assert_eq!(proxy.get(&url(3)).status, 200);
    proxy.assert_verifies();
    assert!(proxy.stop().success());
}

/// Sooner than any question to a database is given up.
fn in_time(what: impl FnOnce()) {
    let began = Instant::now();
    what();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn a_proxy_ends_at_once_while_its_database_is_away() {
    let (merchant, free) = (shop::open(|_, out| shop::sell("goods", out)).0, free());
    // One that takes connections and never says a word, as behind a broken load balancer.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for (host, words) in [
        ("127.0.0.1:1".to_owned(), "refused"),
        (format!("127.0.0.1:{port}"), "did not answer in time"),
        ("db.invalid:5432".to_owned(), "lookup"),
    ] {
        let place = format!("postgres://u:hunter2@{host}/d");
        let mut proxy = setup(&merchant, &free, &place).start();
        until("the reason", LONG, || {
            readyz(&proxy).1.contains(words).then_some(())
        });
        let began = Instant::now();
        only_forwards(&proxy, words);
        assert!(proxy.stop().success());
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{host}: {:?}",
            began.elapsed()
        );
    }
    assert!(taken(&merchant).is_empty());
}

/// A load balancer whose database is gone ends connections in the middle of a handshake. That is no
/// certificate to be refused.
#[test]
fn a_handshake_that_breaks_off_passes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            // SSLRequest, and yes.
            let _ = stream.read_exact(&mut [0; 8]);
            let _ = stream.write_all(b"S");
        }
    });
    let (merchant, free) = (shop::open(|_, out| shop::sell("goods", out)).0, free());
    let place = format!("postgres://u:hunter2@localhost:{port}/d?sslmode=verify-full");
    let mut proxy = setup(&merchant, &free, &place).start();
    only_forwards(&proxy, "TLS");
    assert!(proxy.stop().success());
}

#[test]
fn what_is_wrong_with_a_database_that_comes_late_is_told_and_may_be_put_right() {
    let Some(server) = needs(Server::start(&[])) else {
        return;
    };
    let told = payer(&server);
    let (merchant, free) = (shop::open(|_, out| shop::sell("goods", out)).0, free());
    let wrong = setup(&merchant, &free, &told("hunter2-two"));
    wrong.write();
    let out = wrong.run(&["serve"]);
    assert_eq!(out.status.code(), Some(2), "there from the start: {out:?}");
    server.crash();
    let proxy = wrong.start();
    only_forwards(&proxy, "refused");
    server.run();
    until("the password to be told", LONG, || {
        readyz(&proxy).1.contains("28P01").then_some(())
    });
    only_forwards(&proxy, "password");
    assert!(proxy.stderr().contains("28P01"), "{}", proxy.stderr());
    let file = proxy.setup.dir.path().join("db.url");
    let new = proxy.setup.dir.path().join("db.url.new");
    fs::write(&new, told("hunter2-one")).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, file).unwrap();
    comes(&proxy);
    assert_eq!(proxy.get(&url(1)).status, 200);
    proxy.assert_verifies();
}

#[test]
fn a_standby_that_only_reads_is_waited_for() {
    let Some(primary) = needs(Server::start(&[])) else {
        return;
    };
    let Some(standby) = needs(primary.standby()) else {
        return;
    };
    let either = primary.either(&standby, &primary.place("waits"));
    let (merchant, free) = (shop::open(|_, out| shop::sell("goods", out)).0, free());
    let mut proxy = setup(&merchant, &free, &either).start();
    assert_eq!(proxy.get(&url(0)).status, 200);
    assert!(proxy.stop().success());
    primary.crash();
    proxy.start_again();
    only_forwards(&proxy, "does not allow writes");
    standby.promote();
    comes(&proxy);
    assert_eq!(proxy.get(&url(1)).status, 200);
    assert_eq!(assert_nothing_lost(&merchant, &proxy.setup), 2);
    proxy.assert_verifies();
}

#[test]
fn tables_that_take_long_to_be_made_hold_up_nothing_and_are_made_once() {
    let Some(server) = needs(Server::start(&[])) else {
        return;
    };
    let (merchant, free) = (shop::open(|_, out| shop::sell("goods", out)).0, free());
    let setup = setup(&merchant, &free, &server.place("slow"));
    // As another proxy that is at it.
    let hold = format!(
        "SELECT pg_advisory_lock({}, hashtext('slow')); SELECT pg_sleep(12)",
        0x6661_7265
    );
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted";
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(server.sql("postgres", &hold).0));
        until("the lock", LONG, || {
            (server.sql("postgres", held).1 == "1").then_some(())
        });
        let proxy = setup.start();
        only_forwards(&proxy, "has not answered yet");
        linger(Duration::from_secs(1));
        assert_eq!(server.sql("postgres", waits).1, "1", "the same try");
        comes(&proxy);
        assert_eq!(proxy.get(&url(1)).status, 200);
        proxy.assert_verifies();
    });
}

/// A clock that is behind what the ledger has seen is not believed, whenever that is read. (One that is then ahead
/// of the database's own reserves nothing, which shows it.)
#[test]
fn the_time_of_the_newest_record_counts_though_it_comes_late() {
    let Some(server) = needs(Server::start(&[])) else {
        return;
    };
    let (merchant, free) = (shop::open(|_, out| shop::sell("goods", out)).0, free());
    let mut proxy = setup(&merchant, &free, &server.place("time")).start();
    assert!(proxy.stop().success());
    let later = "UPDATE time.farepass_head SET time = time + 600000";
    assert!(server.sql("postgres", later).0);
    server.crash();
    proxy.start_again();
    server.run();
    comes(&proxy);
    refused(&proxy.get(&url(1)));
    assert!(taken(&merchant).is_empty());
}

#[test]
fn records_that_are_damaged_are_not_paid_from_when_they_come_late() {
    let Some(server) = needs(Server::start(&[])) else {
        return;
    };
    let (merchant, free) = (shop::open(|_, out| shop::sell("goods", out)).0, free());
    let mut proxy = setup(&merchant, &free, &server.place("damaged")).start();
    assert_eq!(proxy.get(&url(0)).status, 200);
    assert!(proxy.stop().success());
    let cut = "DELETE FROM damaged.farepass_record
               WHERE seq = (SELECT max(seq) FROM damaged.farepass_record)";
    assert!(server.sql("postgres", cut).0);
    server.crash();
    proxy.start_again();
    only_forwards(&proxy, "refused");
    server.run();
    until("the damage to be told", LONG, || {
        readyz(&proxy).1.contains("damaged").then_some(())
    });
    only_forwards(&proxy, "damaged");
    assert!(proxy.stderr().contains("damaged"), "{}", proxy.stderr());
    assert!(proxy.stop().success());
    let out = proxy.setup.run(&["serve"]);
    assert_eq!(out.status.code(), Some(5), "there from the start: {out:?}");
    assert_eq!(taken(&merchant).len(), 1);
}

#[test]
fn a_program_runs_without_the_database_and_its_code_is_the_answer() {
    let Some(server) = needs(Server::start(&[])) else {
        return;
    };
    let (merchant, free) = (shop::open(|_, out| shop::sell("goods", out)).0, free());
    let setup = setup(&merchant, &free, &server.place("program"));
    setup.write();
    server.crash();
    let run = |script: &str| -> Command {
        let mut command = setup.command(&["run"]);
        command.args(["--", "sh", "-c", script]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let script = format!("curl -sS {FREE}; curl -sS {}; exit 7", url(1));
    let out = run(&script).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(7), "{out:?}");
    assert!(
        said.starts_with("free") && said.contains("ledger_unavailable"),
        "{said}"
    );
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(told.contains("the ledger is unavailable"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
    // Its session is opened when the database comes, and is the one that its URL names.
    let script = format!(
        "curl -sS {FREE}; until curl -sSf {}; do sleep 0.2; done",
        url(2)
    );
    let running = run(&script).spawn().unwrap();
    until("the program", LONG, || {
        (!free.seen().is_empty() && free.seen().len() > 1).then_some(())
    });
    server.run();
    let out = running.wait_with_output().unwrap();
    assert!(out.status.success(), "{out:?}");
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(told.contains("0.01 USD"), "{told}");
    let books = Books::of(&setup);
    assert_eq!(
        (books.rows.len(), &books.rows[0]["agent"]),
        (1, &"run".into())
    );
    let sessions = setup.run(&["session", "list", "--json"]);
    let sessions = String::from_utf8(sessions.stdout).unwrap();
    assert!(
        sessions.contains("\"closed\":true") || sessions.contains("\"closed\": true"),
        "{sessions}"
    );
}
