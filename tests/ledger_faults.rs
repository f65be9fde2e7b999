//! What happens to the default ledger when its files are lost, changed, exposed, locked or full: it
//! refuses to pay, or counts too much. It never forgets a payment.
#![cfg(test)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use farepass::budget::{Because, Entry};
use farepass::clock::Timestamp;
use farepass::event::{SpendEvent, State};
use farepass::ledger::{self, Ledger, OpenError, Post, PostError};
use farepass::money::Usd;
use farepass::payment::{Limit, PaymentId, Session, SessionId};
use tempfile::TempDir;

/// What `fill` leaves counted in the session.
const SPENT: u64 = 130;

fn session() -> Session {
    Session {
        id: SessionId("s".into()),
        agent: "bot".into(),
        budget: Usd(1_000_000),
        created: Timestamp(1),
        expires: Timestamp(1_000_000),
    }
}

fn day() -> Limit {
    Limit {
        account: "budget:day:bot".into(),
        first: 0,
        last: 0,
        amount: Usd(1_000_000),
        payments: None,
        resets_at: None,
        rolls: None,
    }
}

fn post(id: u128, state: State, entry: Entry) -> Post {
    Post {
        time: Timestamp(5),
        entries: vec![entry],
        event: Some(SpendEvent {
            id: PaymentId(id),
            state,
            session: session().id,
            ..SpendEvent::default()
        }),
    }
}

fn reserve(id: u128, amount: u64) -> Post {
    let entry = Entry::Reserve {
        id: PaymentId(id),
        session: session().id,
        amount: Usd(amount),
        limits: vec![day()],
        until: Timestamp(9),
        now: Timestamp(5),
        nonce: format!("nonce {id}"),
        host: "api.example.com".into(),
    };
    post(id, State::Reserved, entry)
}

/// One session; 100 reserved, 30 of 40 settled, 50 released.
async fn fill(ledger: &Arc<dyn Ledger>) {
    let open = Post {
        time: Timestamp(1),
        entries: vec![Entry::OpenSession {
            session: session(),
            secret_sha256: Some("aa".into()),
        }],
        event: None,
    };
    let settle = Entry::Settle {
        id: PaymentId(2),
        charged: Usd(30),
    };
    let release = Entry::Release {
        id: PaymentId(3),
        because: Because::NeverSigned,
    };
    for p in [
        open,
        reserve(1, 100),
        reserve(2, 40),
        reserve(3, 50),
        post(2, State::Settled, settle),
        post(3, State::Released, release),
    ] {
        ledger.post(p).await.unwrap();
    }
}

async fn counted(ledger: &Arc<dyn Ledger>) -> (u64, u64) {
    let row = ledger.session(&session().id).await.unwrap();
    let day = ledger.counted(&day().account, 0).await.unwrap();
    (row.map_or(0, |r| r.spent.0), day.amount.0)
}

fn state(dir: &TempDir) -> PathBuf {
    dir.path().join("state")
}

async fn filled() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger::open(&state(&dir)).unwrap();
    fill(&ledger).await;
    dir
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().extension().is_none_or(|e| e != "lock") {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Why neither the owner nor a reader opens it. The reader comes first and changes nothing.
fn refusal(state: &Path) -> String {
    let reader = ledger::read(state).err().expect("refused");
    let owner = ledger::open(state).err().expect("refused");
    assert_eq!(reader, owner);
    owner.to_string()
}

#[tokio::test]
async fn a_lost_ledger_is_not_a_first_start() {
    let dir = filled().await;
    let file = state(&dir).join("ledger.db");
    let kept = fs::read(&file).unwrap();
    for empty in [false, true] {
        fs::remove_file(&file).unwrap();
        if empty {
            fs::write(&file, "").unwrap();
        }
        let text = refusal(&state(&dir));
        assert!(text.starts_with("the ledger is damaged: "), "{text}");
        assert!(text.contains("is missing"), "{text}");
        if !empty {
            fs::write(&file, &kept).unwrap();
        }
    }
    fs::remove_file(state(&dir).join("installed")).unwrap();
    let none = ledger::read(&state(&dir)).err().unwrap();
    assert!(matches!(none, OpenError::Missing(_)), "{none}");
    ledger::open(&state(&dir)).expect("the operator accepted the loss");
}

/// What a first start leaves that ends, or finds the disk full, before the tables are there.
#[tokio::test]
async fn a_first_start_that_was_cut_is_begun_anew() {
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let file = dir.path().join("ledger.db");
    let bare = rusqlite::Connection::open(&file).unwrap();
    bare.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(()))
        .unwrap();
    drop(bare);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(fs::metadata(&file).unwrap().len() > 0);
    let none = ledger::read(dir.path()).err().unwrap();
    assert!(matches!(none, OpenError::Missing(_)), "{none}");
    drop(ledger::open(dir.path()).unwrap());
    let kept = fs::read(&file).unwrap();
    drop(ledger::open(dir.path()).unwrap());
    assert_eq!(fs::read(&file).unwrap(), kept, "made once");
    // Where one was made before it is no first start.
    fs::remove_file(&file).unwrap();
    let bare = rusqlite::Connection::open(&file).unwrap();
    bare.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(()))
        .unwrap();
    drop(bare);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    refusal(dir.path());
}

/// The marker is written over all the time, and never read as a loss.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_beside_a_busy_owner_is_never_alarmed() {
    let dir = filled().await;
    let ledger = ledger::open(&state(&dir)).unwrap();
    let (at, done) = (state(&dir), Arc::new(AtomicBool::new(false)));
    let over = Arc::clone(&done);
    let reader = std::thread::spawn(move || {
        let mut read = 0;
        while !over.load(Ordering::Relaxed) {
            ledger::read(&at)?;
            read += 1;
        }
        Ok::<_, OpenError>(read)
    });
    for id in 100..600 {
        ledger.post(reserve(id, 1)).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    assert!(reader.join().unwrap().unwrap() > 10);
}

#[tokio::test]
async fn another_or_an_older_ledger_is_refused() {
    let dir = filled().await;
    let old = dir.path().join("old");
    copy(&state(&dir), &old);
    let ledger = ledger::open(&state(&dir)).unwrap();
    ledger.post(reserve(4, 1)).await.unwrap();
    drop(ledger);
    fs::copy(old.join("ledger.db"), state(&dir).join("ledger.db")).unwrap();
    let text = refusal(&state(&dir));
    assert!(text.contains("rolled back"), "{text}");

    let other = filled().await;
    fs::copy(
        state(&other).join("ledger.db"),
        state(&dir).join("ledger.db"),
    )
    .unwrap();
    let text = refusal(&state(&dir));
    assert!(text.contains("not the one that was made here"), "{text}");
}

#[tokio::test]
async fn posts_lost_with_the_log_are_missed() {
    let dir = filled().await;
    let copied = dir.path().join("copy");
    let ledger = ledger::open(&state(&dir)).unwrap();
    ledger.post(reserve(4, 1)).await.unwrap();
    copy(&state(&dir), &copied);
    drop(ledger);
    let good = dir.path().join("good");
    copy(&copied, &good);
    let ledger = ledger::open(&good).unwrap();
    assert_eq!(
        counted(&ledger).await,
        (SPENT + 1, SPENT + 1),
        "the log is read"
    );
    fs::remove_file(copied.join("ledger.db-wal")).unwrap();
    let text = refusal(&copied);
    assert!(text.contains("rolled back or cut"), "{text}");
}

/// Opens a damaged copy: it refuses, or it counts at least what it should.
async fn never_less(state: &Path, what: &str) -> bool {
    match ledger::open(state) {
        Err(OpenError::Damaged(_) | OpenError::Storage(_)) => true,
        Err(other) => panic!("{what}: {other}"),
        Ok(ledger) => {
            let (session, day) = counted(&ledger).await;
            assert!(session >= SPENT && day >= SPENT, "{what}: {session}, {day}");
            let problems = ledger.verify().await.unwrap().problems;
            assert_eq!(problems, Vec::<String>::new(), "{what}");
            false
        }
    }
}

/// Every `step`-th byte of a file flipped, and the file cut there.
async fn damage_each(from: &Path, name: &str, step: usize) -> (usize, usize) {
    let dir = tempfile::tempdir().unwrap();
    let bytes = fs::read(from.join(name)).unwrap();
    let (mut refused, mut tried) = (0, 0);
    for at in (0..bytes.len()).step_by(step) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x41;
        for (how, damaged) in [("flipped", &flipped[..]), ("cut", &bytes[..at])] {
            let target = dir.path().join(format!("{at}-{how}"));
            copy(from, &target);
            fs::write(target.join(name), damaged).unwrap();
            let refusal = never_less(&target, &format!("{name} {how} at {at}")).await;
            refused += usize::from(refusal);
            tried += 1;
            fs::remove_dir_all(&target).unwrap();
        }
    }
    (refused, tried)
}

/// Chosen so that every region is hit and the test takes seconds; `every_byte` takes them all.
const STEP: usize = 211;

#[tokio::test]
async fn a_changed_byte_never_lowers_a_sum() {
    let dir = filled().await;
    let (refused, tried) = damage_each(&state(&dir), "ledger.db", STEP).await;
    assert!(refused * 2 > tried, "{refused} of {tried} refused");
}

/// Each copy is opened in memory where that is to be had: thousands of syncs prove nothing here.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Most of a small file is empty pages. Of the bytes that say something, this takes every seventh.
#[tokio::test]
async fn every_seventh_byte_that_says_something() {
    let dir = filled().await;
    let copied = folder();
    let bytes = fs::read(state(&dir).join("ledger.db")).unwrap();
    let (mut refused, mut tried) = (0, 0);
    let telling = bytes.iter().enumerate().filter(|(_, b)| **b != 0);
    for (at, byte) in telling.step_by(7) {
        let target = copied.path().join(at.to_string());
        copy(&state(&dir), &target);
        let mut flipped = bytes.clone();
        flipped[at] = !byte;
        fs::write(target.join("ledger.db"), flipped).unwrap();
        refused += usize::from(never_less(&target, &format!("byte {at}")).await);
        tried += 1;
        fs::remove_dir_all(&target).unwrap();
    }
    println!("{refused} of {tried} refused");
    assert!(
        tried > 300 && refused * 5 > tried * 4,
        "{refused} of {tried} refused"
    );
}

#[tokio::test]
async fn a_changed_byte_of_the_log_never_lowers_a_sum() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger::open(&state(&dir)).unwrap();
    fill(&ledger).await;
    let copied = dir.path().join("copy");
    copy(&state(&dir), &copied);
    let (refused, tried) = damage_each(&copied, "ledger.db-wal", STEP * 3).await;
    assert!(refused * 2 > tried, "{refused} of {tried} refused");
}

#[tokio::test]
#[ignore = "takes minutes: every byte of every file"]
async fn every_byte() {
    let dir = filled().await;
    for name in ["ledger.db", "installed"] {
        damage_each(&state(&dir), name, 1).await;
    }
}

#[tokio::test]
async fn a_changed_marker_lowers_nothing() {
    let dir = filled().await;
    damage_each(&state(&dir), "installed", 7).await;
}

#[tokio::test]
async fn nobody_else_may_read_or_write_it() {
    let dir = filled().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&state(&dir)), 0o700);
    for name in ["ledger.db", "ledger.lock", "installed"] {
        assert_eq!(mode(&state(&dir).join(name)), 0o600, "{name}");
    }
    for (path, bad, good) in [
        (state(&dir), 0o770, 0o700),
        (state(&dir), 0o702, 0o700),
        (state(&dir).join("ledger.db"), 0o620, 0o600),
        (state(&dir).join("installed"), 0o602, 0o600),
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(bad)).unwrap();
        let error = ledger::open(&state(&dir)).err().unwrap();
        assert!(matches!(error, OpenError::Unsafe { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("chmod go-w") && text.contains(path.to_str().unwrap()),
            "{text}"
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(good)).unwrap();
    }
    ledger::open(&state(&dir)).unwrap();
}

#[tokio::test]
async fn a_file_of_a_newer_program_is_left_alone() {
    let dir = filled().await;
    let file = rusqlite::Connection::open(state(&dir).join("ledger.db")).unwrap();
    file.pragma_update(None, "user_version", 99).unwrap();
    drop(file);
    let text = refusal(&state(&dir));
    assert!(text.contains("version 99"), "{text}");
}

/// A file as an older version of the tables had it: nonces in their places or with a row each, what a
/// payment is charged under with the payment too, and the head written out.
fn older(state: &Path, version: i64) {
    fs::create_dir(state).unwrap();
    fs::set_permissions(state, fs::Permissions::from_mode(0o700)).unwrap();
    let path = state.join("ledger.db");
    let file = rusqlite::Connection::open(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    file.execute_batch(include_str!("ledger/version-5.sql"))
        .unwrap();
    if version == 5 {
        return;
    }
    let Limit { account, last, .. } = day();
    let all = "UPDATE payment SET marks = json_array(json_array(marks, 0), json_array(?1, ?2))
        WHERE stage IS NOT NULL";
    let changed = file.execute(all, rusqlite::params![account, last.cast_signed()]);
    assert!(changed.unwrap() >= 3);
    file.pragma_update(None, "user_version", version).unwrap();
    if version == 4 {
        return;
    }
    let hashes: Vec<Vec<u8>> = {
        let mut statement = file.prepare("SELECT hashes FROM waiting").unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    file.execute_batch("DROP TABLE waiting; UPDATE payment SET nonce = 'as it was';")
        .unwrap();
    let mut places = "nonce";
    if version == 3 {
        places = "new_nonce(hash)";
        let table = "CREATE TABLE new_nonce(seq INTEGER PRIMARY KEY, hash INTEGER NOT NULL) STRICT";
        file.execute(table, []).unwrap();
    }
    let sql = format!("INSERT INTO {places} VALUES (?1)");
    for number in hashes.concat().as_chunks().0 {
        file.execute(&sql, [i64::from_be_bytes(*number)]).unwrap();
    }
    let head = "INSERT INTO meta SELECT 'head', seq || ' ' || lower(hex(hash)) FROM record ORDER BY seq DESC LIMIT 1";
    file.execute(head, []).unwrap();
}

#[tokio::test]
async fn a_file_of_an_older_program_keeps_all_that_it_knows() {
    for version in [2, 3, 4, 5] {
        let dir = tempfile::tempdir().unwrap();
        older(&state(&dir), version);
        // Who only reads does not change the file.
        let Err(reading) = ledger::read(&state(&dir)) else {
            panic!("an older file was read");
        };
        let said = reading.to_string();
        assert!(said.contains("start the proxy once"), "{said}");
        let ledger = ledger::open(&state(&dir)).unwrap();
        assert_eq!(ledger.verify().await.unwrap().problems, [""; 0]);
        let mut again = reserve(77, 1);
        if let Some(Entry::Reserve { nonce, .. }) = again.entries.first_mut() {
            *nonce = "nonce 1".into();
        }
        let refused = ledger.post(again).await.unwrap_err();
        assert!(matches!(refused, PostError::Rejected(_)), "{refused}");
        ledger.post(reserve(78, 1)).await.unwrap();
        drop(ledger);
        let ledger = ledger::open(&state(&dir)).unwrap();
        assert_eq!(ledger.verify().await.unwrap().problems, [""; 0]);
        let open = ledger.open().await.unwrap();
        let under = open.iter().find(|(_, event)| event.id == PaymentId(78));
        assert_eq!(under.map(|(p, _)| p.nonce.as_str()), Some("nonce 78"));
        // What an older program reserved counts where it counted, and is given back there.
        let (before, _) = counted(&ledger).await;
        let because = Because::NeverSigned;
        let id = PaymentId(1);
        let release = post(1, State::Released, Entry::Release { id, because });
        ledger.post(release).await.unwrap();
        assert_eq!(counted(&ledger).await, (before - 100, before - 100));
    }
}

/// Waits until the ledger is well again.
async fn healed(ledger: &Arc<dyn Ledger>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while ledger.healthy().is_err() {
        assert!(Instant::now() < deadline, "{:?}", ledger.healthy());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_locked_file_stops_payments_until_it_is_free() {
    let dir = filled().await;
    let ledger = ledger::open(&state(&dir)).unwrap();
    let backup = rusqlite::Connection::open(state(&dir).join("ledger.db")).unwrap();
    backup.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = ledger.post(reserve(4, 1)).await;
    assert!(
        matches!(refused, Err(PostError::Unavailable(_))),
        "{refused:?}"
    );
    assert!(ledger.healthy().is_err());
    let started = Instant::now();
    let again = ledger.post(reserve(5, 1)).await;
    assert!(again.is_err() && started.elapsed() < Duration::from_secs(10));
    backup.execute_batch("ROLLBACK").unwrap();
    drop(backup);
    healed(&ledger).await;
    assert_eq!(counted(&ledger).await, (SPENT, SPENT), "nothing was stored");
    ledger.post(reserve(6, 1)).await.unwrap();
    assert_eq!(
        ledger.verify().await.unwrap().problems,
        Vec::<String>::new()
    );
}

/// Makes the storage fail: another connection holds the file as long as this lives.
fn locked(state: &Path) -> rusqlite::Connection {
    let other = rusqlite::Connection::open(state.join("ledger.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

/// Posts what nobody waits for, and gives what is told of it.
async fn soon(
    ledger: &Arc<dyn Ledger>,
    post: Post,
) -> tokio::sync::oneshot::Receiver<Result<ledger::Posted, PostError>> {
    let (sender, told) = tokio::sync::oneshot::channel();
    let then = move |posted| drop(sender.send(posted));
    ledger.post_soon(post, Box::new(then)).await;
    told
}

/// A receipt for payment 1, which holds 100.
fn receipt() -> Post {
    let (id, charged) = (PaymentId(1), Usd(100));
    post(1, State::Settled, Entry::Settle { id, charged })
}

/// The same for a fourth payment, with what makes it more than a post that can wait beside others.
fn fourth_receipt() -> Post {
    let (id, charged) = (PaymentId(4), Usd(1));
    let mut settle = post(4, State::Settled, Entry::Settle { id, charged });
    settle.entries.push(Entry::Forget {
        host: "other.example.com".into(),
    });
    settle
}

/// What the end of a sweep asks for where an operator wants the money of unproven payments back.
fn expired(id: u128) -> Post {
    let because = Because::Expired { now: Timestamp(99) };
    let id = PaymentId(id);
    post(id.0, State::Released, Entry::Release { id, because })
}

async fn ill(ledger: &Arc<dyn Ledger>) {
    while ledger.healthy().is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_receipt_that_could_not_be_stored_is_there_when_the_ledger_is_well_again() {
    let dir = filled().await;
    let ledger = ledger::open(&state(&dir)).unwrap();
    ledger.post(reserve(4, 1)).await.unwrap();
    let other = locked(&state(&dir));
    let first = soon(&ledger, receipt()).await;
    let fourth = soon(&ledger, fourth_receipt()).await;
    ill(&ledger).await;
    assert!(ledger.flush().await.is_err(), "nothing is promised");
    assert!(ledger.owes());
    drop(other);
    healed(&ledger).await;
    assert!(!ledger.owes());
    for id in [1, 4] {
        let (payment, last) = ledger.booked(PaymentId(id)).await.unwrap().unwrap();
        assert_eq!(payment.stage, farepass::budget::Stage::Settled, "{id}");
        assert_eq!(last.state, State::Settled);
        let refused = ledger.post(expired(id)).await;
        assert!(
            matches!(refused, Err(PostError::Rejected(_))),
            "{refused:?}"
        );
    }
    assert_eq!(counted(&ledger).await, (SPENT + 1, SPENT + 1));
    assert!(first.await.unwrap().is_ok() && fourth.await.unwrap().is_ok());
    assert_eq!(ledger.history(PaymentId(1)).await.unwrap().len(), 2);
    assert_eq!(ledger.verify().await.unwrap().problems, [""; 0]);
}

#[tokio::test]
async fn a_receipt_that_could_not_be_stored_is_tried_once_more_at_the_end() {
    let dir = filled().await;
    let ledger = ledger::open(&state(&dir)).unwrap();
    let other = locked(&state(&dir));
    let told = soon(&ledger, receipt()).await;
    ill(&ledger).await;
    drop(other);
    drop(ledger);
    assert!(told.await.unwrap().is_ok());
    let ledger = ledger::open(&state(&dir)).unwrap();
    let (payment, _) = ledger.booked(PaymentId(1)).await.unwrap().unwrap();
    assert_eq!(payment.stage, farepass::budget::Stage::Settled);
}

/// Nothing was written meanwhile, so nothing is to be verified, for which nobody else may read.
#[tokio::test]
async fn a_file_that_was_locked_is_paid_from_again_though_somebody_reads_it() {
    let dir = filled().await;
    let ledger = ledger::open(&state(&dir)).unwrap();
    ledger.post(reserve(4, 1)).await.unwrap();
    let reader = rusqlite::Connection::open(state(&dir).join("ledger.db")).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count = "SELECT count(*) FROM record";
    let records = || reader.query_row(count, [], |r| r.get::<_, u64>(0)).unwrap();
    let before = records();
    let other = locked(&state(&dir));
    let refused = ledger.post(reserve(5, 1)).await;
    assert!(
        matches!(refused, Err(PostError::Unavailable(_))),
        "{refused:?}"
    );
    let told = soon(&ledger, receipt()).await;
    while !ledger.owes() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(other);
    healed(&ledger).await;
    assert!(told.await.unwrap().is_ok() && !ledger.owes());
    ledger.post(reserve(6, 1)).await.unwrap();
    assert_eq!(counted(&ledger).await, (SPENT + 2, SPENT + 2));
    assert_eq!(records(), before, "it reads on");
    assert_eq!(ledger.verify().await.unwrap().problems, [""; 0]);
}

/// A command that finds an empty folder makes a ledger there: what it freezes must not be paid by whoever pays
/// into files that have no name any more.
#[tokio::test]
async fn nothing_is_paid_from_a_folder_that_was_removed_or_replaced() {
    let dir = filled().await;
    let (here, away) = (state(&dir), dir.path().join("away"));
    let ledger = ledger::open(&here).unwrap();
    ledger.post(reserve(4, 1)).await.unwrap();
    fs::rename(&here, &away).unwrap();
    let ill = ledger.healthy().unwrap_err().to_string();
    assert!(ill.contains("removed or replaced"), "{ill}");
    let refused = ledger.post(reserve(5, 1)).await.unwrap_err();
    assert!(matches!(refused, PostError::Unavailable(_)), "{refused}");
    // Somebody makes another one there, and only one of the two may pay.
    let second = ledger::open(&here).unwrap();
    assert!(ledger.healthy().is_err() && ledger.post(reserve(5, 1)).await.is_err());
    drop(second);
    fs::remove_dir_all(&here).unwrap();
    fs::rename(&away, &here).unwrap();
    healed(&ledger).await;
    assert_eq!(counted(&ledger).await, (SPENT + 1, SPENT + 1));
    ledger.post(reserve(6, 1)).await.unwrap();
    assert_eq!(ledger.verify().await.unwrap().problems, [""; 0]);

    fs::remove_dir_all(&here).unwrap();
    assert!(ledger.healthy().is_err(), "at the next look");
    assert!(ledger.post(reserve(7, 1)).await.is_err());
}

/// Only one of the files was put back by a backup.
#[tokio::test]
async fn nothing_is_paid_when_another_file_is_put_in_the_place_of_the_ledger() {
    let dir = filled().await;
    let file = state(&dir).join("ledger.db");
    let ledger = ledger::open(&state(&dir)).unwrap();
    fs::copy(&file, dir.path().join("copy")).unwrap();
    fs::rename(dir.path().join("copy"), &file).unwrap();
    let refused = ledger.post(reserve(5, 1)).await.unwrap_err().to_string();
    assert!(refused.contains("removed or replaced"), "{refused}");
}

/// An export into a pipe that nobody reads.
#[tokio::test]
async fn whoever_reads_slowly_keeps_no_ledger_from_getting_well() {
    let dir = filled().await;
    let ledger = ledger::open(&state(&dir)).unwrap();
    for id in 1000..2000 {
        ledger.post(reserve(id, 1)).await.unwrap();
    }
    let reader = ledger::read(&state(&dir)).unwrap();
    let (sender, mut rows) = tokio::sync::mpsc::channel(1);
    let walk = tokio::spawn(async move { reader.walk(ledger::Filter::default(), sender).await });
    let mut walked = vec![rows.recv().await.unwrap()];
    ledger.post(expired(1)).await.unwrap();
    ledger.post(expired(1999)).await.unwrap();
    ledger.post(reserve(3000, 1)).await.unwrap();
    let other = locked(&state(&dir));
    assert!(ledger.post(reserve(3001, 1)).await.is_err());
    drop(other);
    healed(&ledger).await;
    ledger.post(expired(1998)).await.unwrap();
    ledger.post(expired(1997)).await.unwrap();
    ledger.post(reserve(3002, 1)).await.unwrap();
    while let Some(row) = rows.recv().await {
        walked.push(row);
    }
    walk.await.unwrap().unwrap();
    // One state of the book all the same: that of the first row.
    assert_eq!(walked.len(), 3 + 1000);
    assert!(walked.is_sorted_by(|a, b| a.record_seq < b.record_seq));
    let of = |id| walked.iter().find(|row| row.event.id == PaymentId(id));
    assert!(of(3000).is_none());
    for id in 1000..2000 {
        assert_eq!(of(id).unwrap().event.state, State::Reserved, "{id}");
    }
}

/// The other process of `a_full_disk_stops_payments`, whose files may not grow beyond a limit.
/// Does nothing in an ordinary run.
#[tokio::test]
async fn child_with_a_full_disk() {
    let Ok(dir) = std::env::var("FAREPASS_TEST_FULL_DISK") else {
        return;
    };
    let ledger = ledger::open(Path::new(&dir)).unwrap();
    let mut stored = SPENT;
    let failure = loop {
        match ledger.post(reserve(u128::from(stored), 1)).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100_000, "the disk never filled");
    };
    assert!(matches!(failure, PostError::Unavailable(_)), "{failure}");
    assert!(ledger.healthy().is_err());
    assert!(ledger.post(reserve(7, 1)).await.is_err(), "still full");

    // Room again: the soft limit goes up to the hard one.
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Fsize);
    limit.current = limit.maximum;
    setrlimit(Resource::Fsize, limit).unwrap();
    healed(&ledger).await;
    let (session, day) = counted(&ledger).await;
    assert!(
        session >= stored && day >= stored,
        "{session}, {day}, {stored}"
    );
    ledger.post(reserve(8, 1)).await.unwrap();
    assert_eq!(
        ledger.verify().await.unwrap().problems,
        Vec::<String>::new()
    );
    println!("mended after {} payments", stored - SPENT);
}

#[tokio::test]
async fn a_full_disk_stops_payments() {
    let dir = filled().await;
    // An ignored signal stays ignored in the program that the shell becomes: writes fail instead.
    let script =
        r#"trap "" XFSZ; ulimit -S -f 1000; exec "$0" --exact child_with_a_full_disk --nocapture"#;
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env("FAREPASS_TEST_FULL_DISK", state(&dir))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("mended after"), "{text}{errors}");
}

/// Lists and exports find payments by their records.
#[tokio::test]
async fn a_record_that_no_payment_finds_is_told() {
    let dir = filled().await;
    let file = state(&dir).join("ledger.db");
    let other = rusqlite::Connection::open(&file).unwrap();
    other
        .execute("UPDATE record SET payment = NULL", [])
        .unwrap();
    drop(other);
    let book = ledger::read(&state(&dir)).unwrap();
    let problems = book.verify().await.unwrap().problems;
    let lost = |problem: &String| problem.contains("the newest record of");
    assert!(problems.iter().any(lost), "{problems:?}");
}

/// No rows would look as if nothing had been spent. Not in a folder that cannot be entered, nor below what is none.
#[tokio::test]
async fn what_cannot_be_looked_at_is_no_empty_ledger() {
    let dir = filled().await;
    let below = state(&dir).join("ledger.db").join("state");
    let refused = ledger::read(&below).err().unwrap();
    assert!(matches!(refused, OpenError::Storage(_)), "{refused}");
    let none = ledger::read(&dir.path().join("none")).err().unwrap();
    assert!(matches!(none, OpenError::Missing(_)), "{none}");
}
