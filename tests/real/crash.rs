//! What happens when it stops in the middle, starts twice, or cannot start.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::curl::fetch;
use crate::support::proxy::{Proxy, Setup};
use crate::support::stand::{Stand, stand};
use crate::support::until;

/// A page that nobody has asked for yet: after a crash the last one may not be paid again so soon.
fn page() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("https://merchant.stand.test/v2/exact?n={n}")
}

/// The books know everything that the merchant and the chain know.
fn assert_nothing_lost(stand: &Stand, proxy: &Proxy) {
    let books = proxy.ledger();
    let taken: u128 = stand
        .transfers(&proxy.payer())
        .iter()
        .map(|(_, value)| value)
        .sum();
    assert!(
        books.counted() >= taken,
        "{taken} taken, {} counted",
        books.counted()
    );
    let known: BTreeSet<_> = books.nonces().into_iter().collect();
    for (_, transfer) in stand.paid_by(&proxy.payer()) {
        let nonce = transfer.nonce.to_ascii_lowercase();
        assert!(
            known.contains(&nonce),
            "the merchant saw {nonce}, the ledger did not"
        );
    }
    proxy.assert_verifies();
}

fn assert_paid(stand: &Stand, proxy: &Proxy) {
    let answer = proxy.get(&page());
    let why = || format!("{}\n{}", answer.text(), stand.last_settlement());
    assert_eq!(answer.status, 200, "{}", why());
}

#[test]
fn killed_during_a_burst_of_payments() {
    let Some(stand) = stand() else { return };
    let mut setup = stand.setup();
    setup.budget("100 USD");
    let mut proxy = setup.start();
    for round in 0..3 {
        let stop = AtomicBool::new(false);
        let already = stand.paid_by(&proxy.payer()).len();
        let (url, ca) = (proxy.url(), proxy.ca());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let mut curl = crate::support::curl::curl(&url, &ca);
                        curl.arg(page());
                        let _ = fetch(curl);
                    }
                });
            }
            // Somewhere in the middle: others are being reserved, signed, settled.
            until("some payments", Duration::from_secs(60), || {
                (stand.paid_by(&proxy.payer()).len() > already + 5 + round).then_some(())
            });
            proxy.kill();
            stop.store(true, Ordering::Relaxed);
        });
        // What the merchant had in hand when we died, it may settle now.
        proxy.start_again();
        assert_nothing_lost(stand, &proxy);
        assert_paid(stand, &proxy);
    }
    assert_nothing_lost(stand, &proxy);
}

#[test]
fn a_restart_gives_no_new_budget() {
    let Some(stand) = stand() else { return };
    let mut setup = stand.setup();
    setup.budget("0.02 USD");
    let mut proxy = setup.start();
    assert_paid(stand, &proxy);
    proxy.kill();
    proxy.start_again();
    assert_paid(stand, &proxy);
    assert!(proxy.stop().success(), "SIGTERM ends it with 0");
    proxy.start_again();
    let third = proxy.get(&page());
    assert_eq!(
        (third.status, third.reason().as_deref()),
        (402, Some("over_session_cap"))
    );
}

#[test]
fn sigterm_lets_an_open_payment_finish() {
    let Some(stand) = stand() else { return };
    let mut proxy = stand.setup().start();
    let mut curl = proxy.curl("https://merchant.stand.test/v2/slow-handler?ms=1500");
    let child = curl.stdout(Stdio::piped()).spawn().unwrap();
    until(
        "the payment to reach the merchant",
        Duration::from_secs(10),
        || (!stand.paid_by(&proxy.payer()).is_empty()).then_some(()),
    );
    assert!(proxy.stop().success());
    let out = child.wait_with_output().unwrap();
    assert!(
        String::from_utf8_lossy(&out.stdout).contains("premium"),
        "{out:?}"
    );
    let books = proxy.ledger();
    assert_eq!(
        (books.sum(&["settled"]), books.sum(&["unknown"])),
        (10_000, 0)
    );
}

#[test]
fn an_agent_that_hangs_up_leaves_no_hole_in_the_books() {
    let Some(stand) = stand() else { return };
    let proxy = stand.setup().start();
    let mut curl = proxy.curl("https://merchant.stand.test/v2/slow-handler?ms=1000");
    let mut child = curl.stdout(Stdio::null()).spawn().unwrap();
    until(
        "the payment to reach the merchant",
        Duration::from_secs(10),
        || (!stand.paid_by(&proxy.payer()).is_empty()).then_some(()),
    );
    child.kill().unwrap();
    child.wait().unwrap();
    until("the settlement", Duration::from_secs(10), || {
        (!stand.transfers(&proxy.payer()).is_empty()).then_some(())
    });
    let books = proxy.ledger();
    assert_eq!(
        (books.sum(&["settled"]), books.rows.len()),
        (10_000, 1),
        "{books:?}"
    );
    assert_nothing_lost(stand, &proxy);
}

#[test]
fn a_reload_keeps_the_old_policy_or_takes_the_whole_new_one() {
    let Some(stand) = stand() else { return };
    let mut proxy = stand.setup().start();
    assert_paid(stand, &proxy);
    fs::write(proxy.setup.file(), "version: 1\nrulez: []\n").unwrap();
    proxy.reload();
    until("the complaint", Duration::from_secs(10), || {
        proxy.stderr().contains("rulez").then_some(())
    });
    assert_paid(stand, &proxy);
    proxy.setup.config["rules"][0]["pay"]["max"] = json!("0.005 USD");
    proxy.setup.write();
    proxy.reload();
    let refused = until("the new policy", Duration::from_secs(10), || {
        let answer = proxy.get(&page());
        (answer.status == 402).then_some(answer)
    });
    assert_eq!(refused.reason().as_deref(), Some("over_request_cap"));
    assert!(proxy.alive());
    assert_nothing_lost(stand, &proxy);
}

/// One line that says what to do, the documented code, and nothing on stdout.
fn assert_one_line(out: &Output, code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(code), "{said}");
    assert_eq!(
        said.trim_end().lines().count(),
        1,
        "more than one line: {said}"
    );
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said:?}");
    }
    assert!(!said.contains("panicked"), "{said}");
    assert!(out.stdout.is_empty());
}

#[test]
fn a_second_instance_on_one_state_directory_is_refused() {
    let proxy = Setup::new().start();
    let out = proxy.setup.run(&["serve"]);
    assert_one_line(&out, 1, &["state"]);
    assert!(
        proxy.ask_admin("/healthz").is_ok_and(|a| a.status == 200),
        "the first one lives on"
    );
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for key in ["proxy", "admin"] {
        let mut setup = Setup::new();
        setup.config["listen"][key] = json!(address);
        setup.write();
        assert_one_line(&setup.run(&["serve"]), 1, &[address.as_str()]);
    }
}

#[test]
fn a_bad_key_file_is_one_clear_line() {
    let setup = Setup::new();
    setup.write();
    let key = setup.dir.path().join("wallet.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert_one_line(&setup.run(&["serve"]), 2, &["wallet.key", "chmod 600"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&key, "0x1234\n").unwrap();
    assert_one_line(&setup.run(&["serve"]), 2, &["wallet.key"]);
    fs::remove_file(&key).unwrap();
    assert_one_line(&setup.run(&["serve"]), 2, &["wallet.key"]);
    assert!(!setup.state().join("serve.json").exists());
}

#[test]
fn a_broken_configuration_is_one_clear_line() {
    let setup = Setup::new();
    for (text, words) in [
        ("version: 1\nrules: [\n", &["farepass.yaml:"][..]),
        ("version: 1\nrulez: []\n", &["farepass.yaml:2:", "rulez"]),
        ("version: 2\n", &["farepass.yaml:1:", "version"]),
        (
            "version: 1\nsessions:\n  default: { budget: 1.00 USDD, expires: 60m }\n",
            &["farepass.yaml:3:", "USDD"],
        ),
        (
            "version: 1\nlisten: { proxy: 0.0.0.0:0 }\n",
            &["farepass.yaml:2:", "0.0.0.0"],
        ),
        ("", &["farepass.yaml"]),
        ("\u{0}\u{1}", &["farepass.yaml"]),
    ] {
        fs::write(setup.file(), text).unwrap();
        let out = setup.run(&["check"]);
        let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        assert_eq!(out.status.code(), Some(2), "check: {text:?}: {said}");
        for word in words {
            assert!(
                said.contains(word),
                "check: {text:?}: {word:?} is not in {said:?}"
            );
        }
        assert_one_line(&setup.run(&["serve"]), 2, words);
    }
    fs::remove_file(setup.file()).unwrap();
    assert_one_line(&setup.run(&["serve"]), 2, &["farepass.yaml"]);
    assert!(
        !setup.state().exists(),
        "a start that failed left something behind"
    );
}

#[test]
fn a_key_that_others_can_read_in_the_authority_is_refused() {
    let mut proxy = Setup::new().start();
    proxy.stop();
    let key = proxy.setup.dir.path().join("certs/ca-key.pem");
    assert_eq!(
        fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let out = proxy.setup.run(&["serve"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        !out.status.success() && said.contains("ca-key.pem"),
        "{said}"
    );
}
