//! A disk that fails under a running proxy: nothing is paid, everything else is forwarded, it says
//! so, and no sum is lower afterwards (threat M-17).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use farepass::ledger::{self, Filter};
use farepass::money::Usd;
use farepass::payment::SessionId;
use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::{Value, json};

use crate::support::agent::Ask;
use crate::support::http::Answer;
use crate::support::merchant::{After, Merchant};
use crate::support::proxy::Proxy;
use crate::support::{linger, needs, shop, until};

/// Of one page.
const CENT: u64 = 10_000_000;

/// Builds the library that makes a disk fail, and says which file steers it.
fn failing_disk(dir: &Path) -> Result<(PathBuf, PathBuf), String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/support/failing_disk.c");
    let library = dir.join("failing_disk.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]);
    let built = cc.arg(&library).arg(source).arg("-ldl").output();
    let built = built.map_err(|e| format!("a C compiler is needed: cc: {e}"))?;
    match built.status.success() {
        true => Ok((library, dir.join("fault"))),
        false => panic!("{}", String::from_utf8_lossy(&built.stderr)),
    }
}

/// A shop that also gives something away.
fn open() -> (Merchant, crate::support::proxy::Setup) {
    let merchant = Merchant::start(|seen, out| match (seen.path(), seen.payment()) {
        ("/free", _) => {
            write!(out, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfree")?;
            Ok(After::Keep)
        }
        (_, None) => shop::ask(&shop::challenge(), out),
        (_, Some(_)) => shop::sell("goods", out),
    });
    let setup = shop::setup(&merchant);
    (merchant, setup)
}

fn get(proxy: &Proxy, path: &str) -> Answer {
    let agent = proxy.agent(Duration::from_secs(60));
    agent
        .send(&Ask::get(&format!("https://{}{path}", shop::HOST)))
        .unwrap()
}

fn buy(proxy: &Proxy, n: u32) -> Answer {
    get(proxy, &format!("/page?n={n}"))
}

/// Buys, lets the disk fail, and looks; then makes it work again and looks once more. Returns what the
/// session must have spent at least, and at most.
fn survives(proxy: &Proxy, merchant: &Merchant, fail: impl Fn(), mend: impl Fn()) -> (u64, u64) {
    assert_eq!([buy(proxy, 1).status, buy(proxy, 2).status], [200, 200]);
    // Also what was to be recorded soon: a process that is killed takes it along.
    until("the records", Duration::from_secs(10), || {
        proxy
            .ledger()
            .rows
            .iter()
            .all(|r| r["state"] == "settled")
            .then_some(())
    });
    fail();
    for n in 3..7 {
        let answer = buy(proxy, n);
        assert_eq!(answer.status, 402, "{}", answer.text());
        assert_eq!(
            answer.reason().as_deref(),
            Some("ledger_unavailable"),
            "{}",
            answer.text()
        );
        assert_eq!(get(proxy, "/free").text(), "free");
    }
    assert_eq!(shop::payments(merchant).len(), 2, "paid without a ledger");
    assert_eq!(proxy.ask_admin("/readyz").unwrap().status, 503);
    assert_eq!(proxy.ask_admin("/healthz").unwrap().status, 200);
    let told = proxy.setup.run(&["doctor"]);
    let told = String::from_utf8_lossy(&told.stdout);
    assert!(told.contains("the proxy pays nothing: "), "{told}");
    mend();
    until(
        "the ledger to be well again",
        Duration::from_secs(60),
        || {
            proxy
                .ask_admin("/readyz")
                .is_ok_and(|a| a.status == 200)
                .then_some(())
        },
    );
    assert_eq!(buy(proxy, 7).status, 200);
    (3 * CENT, 7 * CENT)
}

/// With the proxy gone: whole, and no lower than what was paid.
fn assert_whole(proxy: &Proxy, (least, most): (u64, u64)) {
    proxy.assert_verifies();
    let reader = ledger::read(&proxy.setup.state()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let id = SessionId(ledger::sessions::DEFAULT.into());
    let row = runtime.block_on(reader.session(&id)).unwrap().unwrap();
    assert!((least..=most).contains(&row.spent.0), "{} spent", row.spent);
    let events = runtime
        .block_on(reader.payments(Filter::default()))
        .unwrap();
    let told = events.iter().filter_map(|e| e.charged).map(|c| c.0).sum();
    assert_eq!(row.spent, Usd(told), "the sum and what the events say");
}

fn fails_by(letter: &str) {
    let dir = tempfile::tempdir().unwrap();
    let Some((library, fault)) = needs(failing_disk(dir.path())) else {
        return;
    };
    let (merchant, mut setup) = open();
    setup.env.push(("LD_PRELOAD", library));
    setup.env.push(("FAREPASS_TEST_FAULT", fault.clone()));
    let mut proxy = setup.start();
    let fail = || fs::write(&fault, letter).unwrap();
    let spent = survives(&proxy, &merchant, fail, || fs::remove_file(&fault).unwrap());
    assert!(proxy.stop().success());
    assert_whole(&proxy, spent);

    // Killed while it fails: what is half written does not count less.
    proxy.start_again();
    fail();
    assert_eq!(buy(&proxy, 8).status, 402);
    proxy.kill();
    fs::remove_file(&fault).unwrap();
    assert_whole(&proxy, (spent.0, spent.1 + CENT));
    proxy.start_again();
    assert_eq!(buy(&proxy, 9).status, 200);
    proxy.stop();
    assert_whole(&proxy, (spent.0 + CENT, spent.1 + 2 * CENT));
}

#[test]
fn a_sync_that_fails() {
    fails_by("s");
}

#[test]
fn a_write_that_fails() {
    fails_by("w");
}

#[test]
fn no_space() {
    fails_by("n");
}

#[test]
fn a_file_system_that_became_read_only() {
    fails_by("r");
}

#[test]
fn a_torn_page() {
    fails_by("t");
}

/// A file system of its own, in memory. Unmounted when dropped.
struct Small(PathBuf);

impl Small {
    /// At most 4 MiB.
    fn mount(at: &Path) -> Result<Self, String> {
        fs::create_dir_all(at).map_err(|e| e.to_string())?;
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m,mode=0700", "small"])
            .arg(at))
        .map_err(|e| format!("mounting a small disk needs root: {e}"))?;
        Ok(Self(at.to_owned()))
    }

    fn remount(&self, how: &str) {
        run(Command::new("mount")
            .args(["-o", &format!("remount,{how}")])
            .arg(&self.0))
        .unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let out = command.output().map_err(|e| e.to_string())?;
    match out.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&out.stderr).trim().to_owned()),
    }
}

#[test]
fn a_small_disk_that_is_full_and_then_read_only() {
    let (merchant, setup) = open();
    let Some(small) = needs(Small::mount(&setup.state())) else {
        return;
    };
    let mut proxy = setup.start();
    let filler = proxy.setup.state().join("filler");
    let fill = || {
        // To the last byte; the write that does not fit any more is the aim.
        let _ = fs::write(&filler, vec![7; 8 << 20]);
    };
    let spent = survives(&proxy, &merchant, fill, || {
        fs::remove_file(&filler).unwrap()
    });
    assert!(proxy.stop().success());
    assert_whole(&proxy, spent);

    small.remount("ro");
    let out = proxy.setup.run(&["serve"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    assert!(said.contains("Read-only file system"), "{said}");

    small.remount("rw");
    proxy.start_again();
    assert_eq!(buy(&proxy, 8).status, 200);
    proxy.stop();
    assert_whole(&proxy, (spent.0 + CENT, spent.1 + CENT));
}

/// As `ulimit -f`, `LimitFSIZE=`: a signal comes with the error.
#[test]
fn files_that_may_not_grow() {
    let (merchant, setup) = open();
    let mut proxy = setup.start();
    let limit = |bytes| {
        let limit = Rlimit {
            current: bytes,
            maximum: None,
        };
        prlimit(Some(proxy.pid()), Resource::Fsize, limit).unwrap();
    };
    let spent = survives(&proxy, &merchant, || limit(Some(0)), || limit(None));
    assert!(proxy.stop().success());
    assert_whole(&proxy, spent);
}

/// A purchase is answered while nothing can be stored, and then the proxy is stopped: there is time to the end of
/// the drain.
#[test]
fn a_receipt_that_came_while_nothing_could_be_stored_is_stored_before_the_end() {
    let (came, paid) = std::sync::mpsc::channel();
    let (go, goes) = std::sync::mpsc::channel();
    let (came, goes) = (Mutex::new(came), Mutex::new(goes));
    let (_merchant, setup) = shop::open(move |_, out| {
        came.lock().unwrap().send(()).unwrap();
        let _: Result<(), _> = goes.lock().unwrap().recv();
        shop::sell("goods", out)
    });
    let mut proxy = setup.start();
    let file = proxy.setup.state().join("ledger.db");
    let other = std::thread::scope(|scope| {
        let answer = scope.spawn(|| buy(&proxy, 1));
        paid.recv().unwrap();
        let other = rusqlite::Connection::open(&file).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        go.send(()).unwrap();
        assert_eq!(answer.join().unwrap().status, 200);
        other
    });
    std::thread::scope(|scope| {
        let stops = scope.spawn(|| proxy.stop());
        // Longer than the writer waits for the file.
        linger(Duration::from_secs(5));
        assert!(!stops.is_finished());
        drop(other);
        assert!(stops.join().unwrap().success());
    });
    let rows = proxy.ledger().rows;
    let states: Vec<_> = rows.iter().map(|r| &r["state"]).collect();
    assert_eq!(states, ["settled"], "{rows:?}");
    proxy.assert_verifies();
}

/// Whoever sends a signal gets no answer, and must not be told later that nothing came of it.
#[test]
fn a_freeze_by_signal_holds_while_it_cannot_be_stored_and_is_stored_then() {
    let (_merchant, setup) = shop::open(|_, out| shop::sell("goods", out));
    let proxy = setup.start();
    let freezes = || {
        let listed = proxy.setup.run(&["freeze", "--list", "--json"]);
        serde_json::from_slice::<Value>(&listed.stdout).unwrap()
    };
    let other = rusqlite::Connection::open(proxy.setup.state().join("ledger.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    proxy.freeze();
    until("the word of it", Duration::from_secs(20), || {
        proxy
            .stderr()
            .contains("the freeze could not be stored")
            .then_some(())
    });
    assert_eq!(freezes(), json!([]));
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(buy(&proxy, 1).reason().as_deref(), Some("frozen"));
    let stored = until("the freeze", Duration::from_secs(20), || {
        Some(freezes()).filter(|all| all != &json!([]))
    });
    assert_eq!(stored[0]["why"], "SIGUSR1", "{stored}");
    assert_eq!(buy(&proxy, 2).reason().as_deref(), Some("frozen"));
    assert!(proxy.setup.run(&["unfreeze", "all"]).status.success());
    assert_eq!(buy(&proxy, 3).status, 200);
}
