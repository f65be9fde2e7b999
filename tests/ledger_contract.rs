//! Every backend answers as the book does, keeps what it acknowledged, and has one owner.
#![cfg(test)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};

use farepass::budget::facts::key;
use farepass::budget::{Because, Book, Counted, Entry, Fact, Reject, Stage, apply};
use farepass::clock::{Timestamp, wall};
use farepass::event::export::{Format, Recorded};
use farepass::event::{SpendEvent, State};
use farepass::ledger::{
    self, BACKENDS, Backend, Database, Filter, Ledger, OpenError, Opening, Post, PostError,
};
use farepass::money::Usd;
use farepass::payment::{Limit, PaymentId, Session, SessionId};
use sha2::Digest as _;
use tempfile::TempDir;

/// Used by the journeys with the real binary too.
#[path = "real/support/postgres.rs"]
#[expect(dead_code, reason = "the journeys need more of it")]
mod postgres;

#[path = "ledger/walked.rs"]
mod walked;

use walked::walked;

/// One server for all tests here; each has a place of its own in it.
static SERVER: LazyLock<Result<postgres::Server, String>> =
    LazyLock::new(|| postgres::Server::start(&[]));

/// Those that can be had on this machine.
fn backends() -> impl Iterator<Item = &'static Backend> {
    BACKENDS.iter().filter(|b| match (b.kind, &*SERVER) {
        ("postgres", Err(why)) => {
            let required = std::env::var("FAREPASS_REQUIRE_INTEROP").is_ok_and(|v| v == "1");
            assert!(!required, "FAREPASS_REQUIRE_INTEROP=1, but {why}");
            // Past the test harness, which keeps the output of passing tests to itself.
            let line = format!("\n*** SKIPPED: {why}\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
            false
        }
        _ => true,
    })
}

/// The URL of the place that belongs to a folder. A child of ours is told it.
fn place(dir: &Path) -> String {
    if let Ok(told) = std::env::var("FAREPASS_TEST_DATABASE") {
        return told;
    }
    let digest = sha2::Sha256::digest(dir.as_os_str().as_encoded_bytes());
    let name = format!("test_{}", hex::encode(&digest[..8]));
    SERVER.as_ref().unwrap().place(&name)
}

fn opening(backend: &Backend, dir: &Path) -> Opening {
    let database = || Database::new(place(dir).into(), dir.join("db.url"));
    Opening {
        state_dir: dir.join("state"),
        database: (backend.kind == "postgres").then(database),
    }
}

fn session(id: &str, budget: u64, created: u64) -> Session {
    Session {
        id: SessionId(id.into()),
        agent: "bot".into(),
        budget: Usd(budget),
        created: Timestamp(created),
        expires: Timestamp(created + 1_000_000),
    }
}

fn open_session(session: &Session, secret: Option<&str>) -> Post {
    Post {
        time: session.created,
        entries: vec![Entry::OpenSession {
            session: session.clone(),
            secret_sha256: secret.map(Into::into),
        }],
        event: None,
    }
}

fn reserve(id: u128, session: &str, amount: u64, limits: Vec<Limit>) -> Entry {
    Entry::Reserve {
        id: PaymentId(id),
        session: SessionId(session.into()),
        amount: Usd(amount),
        limits,
        until: Timestamp(9),
        now: Timestamp(5),
        nonce: format!("nonce {id}"),
        host: "api.example.com".into(),
    }
}

fn event(id: u128, state: State) -> SpendEvent {
    SpendEvent {
        id: PaymentId(id),
        time: Timestamp(5),
        state,
        session: SessionId("s".into()),
        host: "api.example.com".into(),
        ..SpendEvent::default()
    }
}

fn post(id: u128, state: State, entries: Vec<Entry>) -> Post {
    Post {
        time: wall(),
        entries,
        event: Some(event(id, state)),
    }
}

fn limit(account: String, last: u64) -> Limit {
    Limit {
        account,
        first: last.saturating_sub(2),
        last,
        amount: Usd(90),
        payments: Some(6),
        resets_at: None,
        rolls: None,
    }
}

/// The same sequence at every run; no test depends on luck.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % n
    }

    fn entries(&mut self) -> Vec<Entry> {
        let id = u128::from(self.roll(60));
        let (last, amount) = (self.roll(6), self.roll(30));
        let limits = vec![limit(format!("x{}", self.roll(3)), last)];
        let reserve = reserve(id, ["s", "t"][self.roll(2) as usize], amount, limits);
        let id = PaymentId(id);
        match self.roll(10) {
            // Few: they fill the limits for good, and then nothing is reserved any more.
            9 if self.roll(8) == 0 => vec![Entry::Recount {
                id,
                charged: Usd(self.roll(9)),
            }],
            9 => vec![reserve],
            0..3 => vec![reserve],
            3 => vec![
                reserve,
                Entry::Settle {
                    id,
                    charged: Usd(self.roll(60)),
                },
            ],
            4 => vec![Entry::Settle {
                id,
                charged: Usd(self.roll(30)),
            }],
            5 => vec![Entry::Note { id }],
            6 => vec![Entry::Release {
                id,
                because: Because::Expired {
                    now: Timestamp(self.roll(20)),
                },
            }],
            7 if self.roll(6) == 0 => vec![Entry::CloseSession {
                session: SessionId("t".into()),
            }],
            7 => vec![Entry::OpenSession {
                session: session("t", 60, self.roll(1000)),
                secret_sha256: None,
            }],
            _ => vec![Entry::Release {
                id,
                because: Because::NeverSigned,
            }],
        }
    }
}

/// What a stranger can see of the ledger is what the book holds.
async fn agrees(ledger: &Arc<dyn Ledger>, book: &Book, kind: &str) {
    for ((account, bucket), counted) in &book.counted {
        let below = book.total(account, *bucket).unwrap();
        assert!(below.amount >= counted.amount);
        let stored = ledger.counted(account, *bucket).await.unwrap();
        assert_eq!(below, stored, "{kind}: {account} from {bucket}");
    }
    let reserved = book
        .payments
        .iter()
        .filter(|(_, p)| p.stage == Stage::Reserved);
    let mut model: Vec<_> = reserved.map(|(id, p)| (*id, p.clone())).collect();
    let real = ledger.open().await.unwrap().into_iter();
    let mut real: Vec<_> = real.map(|(p, e)| (e.id, p)).collect();
    model.sort_by_key(|(id, _)| *id);
    real.sort_by_key(|(id, _)| *id);
    assert_eq!(model, real, "{kind}");
    for (id, opened) in &book.sessions {
        let row = ledger.session(id).await.unwrap().unwrap();
        let account = Limit::session(&opened.session).account;
        let counted = Counted {
            amount: row.spent,
            payments: row.payments,
        };
        assert_eq!(row.session, opened.session, "{kind}");
        assert_eq!(row.closed, opened.closed, "{kind}");
        assert_eq!(counted, book.total(&account, 0).unwrap(), "{kind}");
    }
    let report = ledger.verify().await.unwrap();
    assert_eq!(report.problems, Vec::<String>::new(), "{kind}");
    assert_eq!(report.payments, book.payments.len() as u64, "{kind}");
}

#[tokio::test]
async fn backends_answer_as_the_book_does() {
    for backend in backends() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = (backend.open)(&opening(backend, dir.path())).unwrap();
        let (mut book, mut accepted, mut dice) = (Book::default(), 0u64, Dice(7));
        for s in [session("s", 300, 0), session("t", 60, 0)] {
            let opened = open_session(&s, None);
            apply(&mut book, &opened.entries[0]).unwrap();
            ledger.post(opened).await.unwrap();
            accepted += 1;
        }
        for round in 0..800 {
            let entries = dice.entries();
            let mut next = book.clone();
            let model = entries.iter().try_for_each(|e| apply(&mut next, e));
            let id = entries[0].payment();
            let told = Post {
                event: id.map(|id| event(id.0, State::Reserved)),
                time: wall(),
                entries,
            };
            let real = ledger.post(told).await;
            match model {
                Ok(()) => {
                    book = next;
                    accepted += 1;
                    assert_eq!(real.unwrap().seq, accepted, "{}", backend.kind);
                }
                Err(reject) => assert_eq!(real, Err(PostError::Rejected(reject))),
            }
            if round % 200 == 100 && backend.kind != "memory" {
                drop(ledger);
                ledger = (backend.open)(&opening(backend, dir.path())).unwrap();
            }
        }
        assert!(book.payments.len() > 40 && accepted > 200, "{accepted}");
        agrees(&ledger, &book, backend.kind).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn as_many_pay_as_the_budget_holds() {
    for backend in backends() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = (backend.open)(&opening(backend, dir.path())).unwrap();
        ledger
            .post(open_session(&session("s", 100, 0), None))
            .await
            .unwrap();
        let pay = |id: u128| {
            let ledger = Arc::clone(&ledger);
            let entries = vec![reserve(id, "s", 9, vec![])];
            tokio::spawn(async move { ledger.post(post(id, State::Reserved, entries)).await })
        };
        let tasks: Vec<_> = (0..64).map(pay).collect();
        let (mut paid, mut counts) = (0, Vec::new());
        for task in tasks {
            if let Ok(posted) = task.await.unwrap() {
                paid += 1;
                counts.push(posted.session_counted.unwrap().amount.0);
            }
        }
        assert_eq!(paid, 11, "{}: 11 × 9 ≤ 100", backend.kind);
        counts.sort_unstable();
        let each: Vec<u64> = (1..=11).map(|n| n * 9).collect();
        assert_eq!(counts, each, "{}: each saw its own sum", backend.kind);
        let problems = ledger.verify().await.unwrap().problems;
        assert_eq!(problems, Vec::<String>::new(), "{}", backend.kind);
    }
}

/// More than one transaction takes, and nobody waits for any of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everybody_of_a_crowd_is_told_once() {
    const CROWD: u128 = 900;
    for backend in backends() {
        let dir = TempDir::new().unwrap();
        let ledger = (backend.open)(&opening(backend, dir.path())).unwrap();
        let spender = session("s", 1_000_000, 1);
        ledger.post(open_session(&spender, None)).await.unwrap();
        let (sender, told) = std::sync::mpsc::channel();
        for id in 0..CROWD {
            let sender = sender.clone();
            let entry = reserve(id, "s", 1, vec![]);
            let then = Box::new(move |answer: Result<ledger::Posted, PostError>| {
                sender.send(answer.unwrap().seq).unwrap();
            });
            ledger
                .post_soon(post(id, State::Reserved, vec![entry]), then)
                .await;
        }
        ledger.flush().await.unwrap();
        drop(sender);
        let seqs: Vec<u64> = told.iter().collect();
        let first = 2;
        let right: Vec<u64> = (first..first + CROWD as u64).collect();
        assert_eq!(seqs, right, "{}", backend.kind);
        let report = ledger.verify().await.unwrap();
        assert_eq!(report.problems, [] as [String; 0], "{}", backend.kind);
        assert_eq!(report.payments, CROWD as u64, "{}", backend.kind);
    }
}

#[tokio::test]
async fn events_are_the_outbox() {
    let begun = wall();
    for backend in backends() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = (backend.open)(&opening(backend, dir.path())).unwrap();
        let id = PaymentId(1);
        for p in [
            open_session(&session("s", 100, 0), None),
            post(1, State::Reserved, vec![reserve(1, "s", 9, vec![])]),
            post(2, State::Denied, vec![Entry::Note { id: PaymentId(2) }]),
            post(1, State::Unknown, vec![Entry::Note { id }]),
            post(3, State::Reserved, vec![reserve(3, "s", 9, vec![])]),
        ] {
            ledger.post(p).await.unwrap();
        }
        let events = ledger.events(0, 99).await.unwrap();
        let told: Vec<_> = events
            .iter()
            .map(|(seq, e)| (*seq, e.id.0, e.state))
            .collect();
        let all = [
            (2, 1, State::Reserved),
            (3, 2, State::Denied),
            (4, 1, State::Unknown),
            (5, 3, State::Reserved),
        ];
        assert_eq!(told, all, "{}", backend.kind);
        assert_eq!(
            ledger.events(3, 1).await.unwrap()[0].0,
            4,
            "{}",
            backend.kind
        );
        let history = ledger.history(id).await.unwrap();
        let states: Vec<_> = history.iter().map(|e| e.state).collect();
        assert_eq!(
            states,
            [State::Reserved, State::Unknown],
            "{}",
            backend.kind
        );
        let newest = ledger.payment(id).await.unwrap().unwrap();
        assert_eq!(newest.state, State::Unknown);
        assert_eq!(ledger.payment(PaymentId(9)).await.unwrap(), None);
        let list = async |filter| -> Vec<u128> {
            let events = ledger.payments(filter).await.unwrap();
            events.iter().map(|e| e.id.0).collect()
        };
        let all = Filter::default();
        assert_eq!(list(all.clone()).await, [3, 1], "{}", backend.kind);
        let denied = Filter {
            denied: true,
            ..all.clone()
        };
        assert_eq!(list(denied).await, [3, 1, 2], "{}", backend.kind);
        let one = Filter {
            limit: 1,
            ..all.clone()
        };
        assert_eq!(list(one).await, [3], "{}", backend.kind);
        let unknown = Filter {
            state: Some(State::Unknown),
            ..all.clone()
        };
        assert_eq!(list(unknown).await, [1], "{}", backend.kind);
        let elsewhere = Filter {
            host: Some("other".into()),
            ..all
        };
        assert_eq!(list(elsewhere).await, [0u128; 0], "{}", backend.kind);
        let newest = ledger.newest().await.unwrap();
        assert!((begun..=wall()).contains(&newest), "{}", backend.kind);
    }
}

#[tokio::test]
async fn sessions_are_found_and_survive() {
    for backend in backends() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = (backend.open)(&opening(backend, dir.path())).unwrap();
        let first = session("s", 100, 0);
        ledger.post(open_session(&first, Some("aa"))).await.unwrap();
        ledger
            .post(post(1, State::Reserved, vec![reserve(1, "s", 40, vec![])]))
            .await
            .unwrap();
        if backend.kind != "memory" {
            drop(ledger);
            ledger = (backend.open)(&opening(backend, dir.path())).unwrap();
        }
        let row = ledger.session_by_secret("aa").await.unwrap().unwrap();
        assert_eq!((row.spent, row.payments), (Usd(40), 1), "{}", backend.kind);
        assert_eq!(ledger.session_by_secret("bb").await.unwrap(), None);
        let close = Post {
            time: Timestamp(6),
            entries: vec![Entry::CloseSession {
                session: first.id.clone(),
            }],
            event: None,
        };
        ledger.post(close).await.unwrap();
        assert!(ledger.session(&first.id).await.unwrap().unwrap().closed);
        let renewed = session("s", 70, 7);
        ledger
            .post(open_session(&renewed, Some("bb")))
            .await
            .unwrap();
        let row = ledger.session_by_secret("bb").await.unwrap().unwrap();
        assert_eq!(
            (row.session, row.spent),
            (renewed, Usd(0)),
            "{}",
            backend.kind
        );
        let old = ledger.session_by_secret("aa").await.unwrap();
        assert_eq!(old, None, "{}: the old secret opens nothing", backend.kind);
        let account = Limit::session(&first).account;
        let counted = ledger.counted(&account, 0).await.unwrap();
        assert_eq!(
            counted.amount,
            Usd(40),
            "{}: spent stays spent",
            backend.kind
        );
    }
}

#[tokio::test]
async fn a_post_that_nobody_waits_for_is_stored_all_the_same() {
    for backend in backends() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = (backend.open)(&opening(backend, dir.path())).unwrap();
        ledger
            .post(open_session(&session("s", 100, 0), None))
            .await
            .unwrap();
        let entries = vec![reserve(1, "s", 40, vec![])];
        ledger
            .post(post(1, State::Reserved, entries))
            .await
            .unwrap();
        let settle = |charged| {
            let settle = Entry::Settle {
                id: PaymentId(1),
                charged: Usd(charged),
            };
            post(1, State::Settled, vec![settle])
        };
        let (sender, told) = std::sync::mpsc::channel();
        for charged in [50, 40] {
            let sender = sender.clone();
            let then = Box::new(move |answer| sender.send(answer).unwrap());
            ledger.post_soon(settle(charged), then).await;
        }
        ledger.flush().await.unwrap();
        let answers: Vec<_> = told.try_iter().collect();
        assert!(
            matches!(answers[0], Err(PostError::Rejected(_))),
            "{answers:?}"
        );
        assert_eq!(answers[1].as_ref().unwrap().seq, 3, "{}", backend.kind);
        if backend.kind != "memory" {
            drop(ledger);
            ledger = (backend.open)(&opening(backend, dir.path())).unwrap();
        }
        let newest = ledger.payment(PaymentId(1)).await.unwrap().unwrap();
        assert_eq!(newest.state, State::Settled, "{}", backend.kind);
    }
}

/// What a receipt gives back is there for the next reservation, however little time lies between them; and
/// the evidence that follows a receipt at once is in the same record, where records cost a disk something.
#[tokio::test]
async fn nobody_waits_for_a_receipt_but_everybody_has_what_it_gives_back() {
    for backend in backends() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = (backend.open)(&opening(backend, dir.path())).unwrap();
        let opened = open_session(&session("s", 100, 0), None);
        ledger.post(opened).await.unwrap();
        let mut told = vec![];
        for id in 1..20 {
            let entries = vec![reserve(id, "s", 70, vec![])];
            let reserved = ledger.post(post(id, State::Reserved, entries)).await;
            reserved.unwrap_or_else(|e| panic!("{} {id}: {e}", backend.kind));
            let charged = Usd(1);
            let id = PaymentId(id);
            let mut evidence = post(id.0, State::Settled, vec![Entry::Note { id }]);
            evidence.event.as_mut().unwrap().path = "/evidence".into();
            let settle = post(id.0, State::Settled, vec![Entry::Settle { id, charged }]);
            for post in [settle, evidence] {
                let (sender, answer) = tokio::sync::oneshot::channel();
                let then = Box::new(move |answer| drop(sender.send(answer)));
                ledger.post_soon(post, then).await;
                told.push(answer);
            }
        }
        ledger.flush().await.unwrap();
        let mut records = vec![];
        for answer in told {
            records.push(answer.await.unwrap().unwrap().seq);
        }
        let together = records.as_chunks().0.iter().filter(|[a, b]| a == b).count();
        let expected = match backend.kind {
            "sqlite" => 15..20,
            _ => 0..1,
        };
        assert!(expected.contains(&together), "{}: {together}", backend.kind);
        for id in 1..20 {
            let newest = ledger.payment(PaymentId(id)).await.unwrap().unwrap();
            assert_eq!(newest.path, "/evidence", "{}", backend.kind);
        }
        assert_eq!(ledger.verify().await.unwrap().problems, [""; 0]);
    }
}

#[tokio::test]
async fn a_nonce_is_spent_for_ever() {
    for backend in backends() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = (backend.open)(&opening(backend, dir.path())).unwrap();
        ledger
            .post(open_session(&session("s", 100, 0), None))
            .await
            .unwrap();
        let under = |id: u128, nonce: &str| {
            let mut entry = reserve(id, "s", 1, vec![]);
            if let Entry::Reserve { nonce: n, .. } = &mut entry {
                *n = nonce.into();
            }
            post(id, State::Reserved, vec![entry])
        };
        ledger.post(under(1, "x")).await.unwrap();
        let release = Entry::Release {
            id: PaymentId(1),
            because: Because::NeverSigned,
        };
        ledger
            .post(post(1, State::Released, vec![release]))
            .await
            .unwrap();
        let used = Err(PostError::Rejected(Reject::NonceUsed));
        assert_eq!(ledger.post(under(2, "x")).await, used, "{}", backend.kind);
        if backend.kind != "memory" {
            drop(ledger);
            ledger = (backend.open)(&opening(backend, dir.path())).unwrap();
        }
        assert_eq!(ledger.post(under(3, "x")).await, used, "{}", backend.kind);
        ledger.post(under(3, "y")).await.unwrap();
    }
}

fn sqlite() -> &'static Backend {
    BACKENDS.iter().find(|b| b.kind == "sqlite").unwrap()
}

#[tokio::test]
async fn one_folder_one_owner_many_readers() {
    let dir = tempfile::tempdir().unwrap();
    let place = opening(sqlite(), dir.path());
    let missing = ledger::read(&place.state_dir).err().unwrap();
    assert!(matches!(missing, OpenError::Missing(_)), "{missing}");
    let first = ledger::open(&place.state_dir).unwrap();
    let second = (sqlite().open)(&place).err().unwrap();
    let lock = place.state_dir.join("ledger.lock");
    let pid = Some(std::process::id());
    assert_eq!(
        second,
        OpenError::InUse {
            lock: lock.clone(),
            pid
        }
    );
    let text = second.to_string();
    assert!(text.contains(lock.to_str().unwrap()), "{text}");
    assert!(text.contains(&std::process::id().to_string()), "{text}");

    first
        .post(open_session(&session("s", 100, 0), None))
        .await
        .unwrap();
    let reader = ledger::read(&place.state_dir).unwrap();
    assert_eq!(reader.sessions().await.unwrap().len(), 1);
    let entries = vec![reserve(1, "s", 40, vec![])];
    first.post(post(1, State::Reserved, entries)).await.unwrap();
    let row = reader
        .session(&SessionId("s".into()))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.spent, Usd(40), "a reader sees what was acknowledged");
    assert_eq!(
        reader.verify().await.unwrap().problems,
        Vec::<String>::new()
    );
    drop(first);
    assert_eq!(reader.verify().await.unwrap().records, 2);
    ledger::open(&place.state_dir).unwrap();
}

/// The other process of `acknowledged_posts_survive_a_kill`: posts until it is killed, and says
/// which posts were acknowledged. Does nothing in an ordinary run.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn child_that_posts() {
    let Ok(dir) = std::env::var("FAREPASS_TEST_POST_INTO") else {
        return;
    };
    let kind = std::env::var("FAREPASS_TEST_KIND").unwrap();
    let backend = BACKENDS.iter().find(|b| b.kind == kind).unwrap();
    let ledger = (backend.open)(&opening(backend, Path::new(&dir))).unwrap();
    let round: u128 = std::env::var("FAREPASS_TEST_ROUND")
        .unwrap()
        .parse()
        .unwrap();
    let s = session("s", u64::MAX, 0);
    ledger.post(open_session(&s, None)).await.unwrap();
    let payer = |payer: u128| {
        let ledger = Arc::clone(&ledger);
        tokio::spawn(async move {
            for n in 0..u128::MAX {
                let id = round << 96 | payer << 64 | n;
                let entries = vec![reserve(id, "s", 1, vec![])];
                ledger
                    .post(post(id, State::Reserved, entries))
                    .await
                    .unwrap();
                let mut out = std::io::stdout().lock();
                writeln!(out, "acknowledged {}", PaymentId(id)).unwrap();
            }
        })
    };
    for task in (0..8).map(payer).collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

fn kill_while_posting(backend: &Backend, dir: &TempDir, round: u32) -> Vec<PaymentId> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "child_that_posts",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("FAREPASS_TEST_POST_INTO", dir.path())
        .env("FAREPASS_TEST_KIND", backend.kind)
        .env("FAREPASS_TEST_ROUND", round.to_string())
        .stdout(Stdio::piped());
    if backend.kind == "postgres" {
        command.env("FAREPASS_TEST_DATABASE", place(dir.path()));
    }
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    for line in lines.map_while(Result::ok) {
        if let Some((_, id)) = line.split_once("acknowledged ") {
            acknowledged.extend(id.parse::<PaymentId>().ok());
        }
        if acknowledged.len() == 40 * (round as usize + 1) {
            // SIGKILL. What is in the pipe already is still read.
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    acknowledged
}

#[tokio::test]
async fn acknowledged_posts_survive_a_kill() {
    for backend in backends().filter(|b| b.kind != "memory") {
        let dir = tempfile::tempdir().unwrap();
        let mut all = Vec::new();
        for round in 0..4 {
            let acknowledged = kill_while_posting(backend, &dir, round);
            assert!(acknowledged.len() >= 40, "{}", acknowledged.len());
            all.extend(acknowledged);
            let ledger = (backend.open)(&opening(backend, dir.path())).unwrap();
            // Whatever a server still does for who was killed is over when this is entered.
            let id = PaymentId(u128::MAX - u128::from(round));
            let last = post(id.0, State::Denied, vec![Entry::Note { id }]);
            ledger.post(last).await.unwrap();
            let open = ledger.open().await.unwrap();
            let stored: std::collections::BTreeSet<_> = open.iter().map(|(_, e)| e.id).collect();
            for id in &all {
                assert!(stored.contains(id), "{id} was acknowledged and is lost");
            }
            let report = ledger.verify().await.unwrap();
            assert_eq!(report.problems, Vec::<String>::new());
            let row = ledger
                .session(&SessionId("s".into()))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(row.spent, Usd(stored.len() as u64));
        }
    }
}

/// Billionths in a decimal number, without floats.
fn billionths(text: &str) -> u64 {
    match text {
        "" => 0,
        number => format!("{number} USD").parse::<Usd>().unwrap().0,
    }
}

/// What the lines of an export say was spent.
fn exported(format: Format, rows: &[Recorded]) -> u64 {
    let column = match format {
        Format::Jsonl => {
            let charged = |row: &Recorded| {
                let row: serde_json::Value = serde_json::from_str(&format.line(row)).unwrap();
                let text = row["charged"].as_str().unwrap_or("0 USD").to_owned();
                text.parse::<Usd>().unwrap().0
            };
            return rows.iter().map(charged).sum();
        }
        Format::Csv => "charged",
        Format::Focus => "BilledCost",
    };
    let head = format.head().unwrap();
    let at = head.split(',').position(|name| name == column).unwrap();
    // None of these rows has a comma in a text.
    let lines = rows.iter().map(|row| format.line(row));
    lines
        .map(|line| billionths(line.split(',').nth(at).unwrap()))
        .sum()
}

/// Every payment once, with its newest state; sums are those of the book, to the billionth.
#[tokio::test]
async fn an_export_adds_up_to_what_counts() {
    for backend in backends() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = (backend.open)(&opening(backend, dir.path())).unwrap();
        let opened = open_session(&session("s", 1 << 40, 0), None);
        ledger.post(opened).await.unwrap();
        let mut dice = Dice(11);
        for n in 0..300u128 {
            let amount = dice.roll(1_000_000_007) + 1;
            let id = PaymentId::new(Timestamp(n as u64), [0; 10]).0;
            let told = |state, charged: Option<u64>, entry| {
                let mut post = post(id, state, vec![entry]);
                if let Some(event) = &mut post.event {
                    event.charged = charged.map(Usd);
                }
                post
            };
            let entry = reserve(id, "s", amount, vec![]);
            ledger
                .post(told(State::Reserved, Some(amount), entry))
                .await
                .unwrap();
            let id = PaymentId(id);
            let next = match dice.roll(4) {
                0 => continue,
                1 => told(State::Unknown, Some(amount), Entry::Note { id }),
                2 => {
                    let charged = Usd(amount);
                    told(State::Settled, Some(amount), Entry::Settle { id, charged })
                }
                _ => {
                    let because = Because::NeverSigned;
                    told(State::Released, None, Entry::Release { id, because })
                }
            };
            ledger.post(next).await.unwrap();
        }
        let denied = post(
            1 << 100,
            State::Denied,
            vec![Entry::Note {
                id: PaymentId(1 << 100),
            }],
        );
        ledger.post(denied).await.unwrap();
        let all = walked(&ledger, Filter::default()).await;
        assert_eq!(all.len(), 300, "{}: refusals are asked for", backend.kind);
        assert!(all.is_sorted_by_key(|row| row.record_seq));
        let counted = ledger.counted("session:s@0", 0).await.unwrap();
        for format in [Format::Jsonl, Format::Csv, Format::Focus] {
            assert_eq!(exported(format, &all), counted.amount.0, "{format:?}");
        }
        let half = |from, to| Filter {
            from,
            to,
            ..Filter::default()
        };
        let middle = Some(Timestamp(150));
        let (early, late) = (half(None, middle), half(middle, None));
        let (early, late) = (walked(&ledger, early).await, walked(&ledger, late).await);
        assert_eq!((early.len(), late.len()), (150, 150), "each in one half");
        let some = Filter {
            limit: 7,
            denied: true,
            ..Filter::default()
        };
        assert_eq!(walked(&ledger, some).await.len(), 7);
    }
}

/// What changed since a time is all of it and nothing older, wherever the time falls: between records, at
/// several of one time, before the first, after the last.
#[tokio::test]
async fn what_changed_since_a_time_is_found_from_there() {
    for backend in backends() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = (backend.open)(&opening(backend, dir.path())).unwrap();
        let session = session("s", 300, 0);
        ledger.post(open_session(&session, None)).await.unwrap();
        // Nobody reserves long ago.
        let past = wall().0 - 10_000;
        // Payments 1 to 30, made at 10, 10, 20, 20, …; the first ten change again, at 200 and later.
        let at = |id: u128, time| {
            let state = State::Reserved;
            let mut post = post(id, state, vec![reserve(id, "s", 1, vec![])]);
            post.time = Timestamp(past + time);
            post.event.as_mut().unwrap().time = Timestamp(past + time);
            post
        };
        for id in 1..=30 {
            ledger
                .post(at(id, u64::try_from(id.div_ceil(2) * 10).unwrap()))
                .await
                .unwrap();
        }
        for id in 1..=10 {
            ledger
                .post(at(id, 200 + u64::try_from(id).unwrap()))
                .await
                .unwrap();
        }
        for (since, expected) in [
            (0, 30),
            (10, 30),
            (51, 30),
            (60, 30),
            (61, 28),
            (150, 12),
            (151, 10),
            (200, 10),
            (201, 10),
            (202, 9),
            (210, 1),
            (211, 0),
        ] {
            let filter = Filter {
                changed: Some(Timestamp(past + since)),
                ..Filter::default()
            };
            let rows = walked(&ledger, filter.clone()).await;
            assert!(rows.is_sorted_by_key(|row| row.record_seq));
            assert_eq!(rows.len(), expected, "{}: {since}", backend.kind);
            let listed = ledger.payments(filter).await.unwrap();
            assert_eq!(listed.len(), expected, "{}: {since}", backend.kind);
        }
    }
}

/// It is known after a restart where a released payment counted, and a verification finds the same.
#[tokio::test]
async fn a_released_payment_counts_again_where_it_counted() {
    for backend in backends().filter(|b| b.kind != "memory") {
        let dir = tempfile::tempdir().unwrap();
        let open = || (backend.open)(&opening(backend, dir.path())).unwrap();
        let ledger = open();
        let session = session("s", 300, 0);
        ledger.post(open_session(&session, None)).await.unwrap();
        let limits = vec![limit("x".into(), 3)];
        for (id, entry) in [
            (1, reserve(1, "s", 40, limits.clone())),
            (2, reserve(2, "s", 7, limits)),
        ] {
            ledger
                .post(post(id, State::Reserved, vec![entry]))
                .await
                .unwrap();
        }
        let release = Entry::Release {
            id: PaymentId(1),
            because: Because::NeverSigned,
        };
        ledger
            .post(post(1, State::Released, vec![release]))
            .await
            .unwrap();
        drop(ledger);
        let ledger = open();
        let recount = Entry::Recount {
            id: PaymentId(1),
            charged: Usd(40),
        };
        for _ in 0..2 {
            let again = post(1, State::Settled, vec![recount.clone()]);
            ledger.post(again).await.unwrap();
        }
        let both = Counted {
            amount: Usd(47),
            payments: 2,
        };
        for account in ["x", "session:s@0"] {
            assert_eq!(ledger.counted(account, 0).await.unwrap(), both, "{account}");
        }
        assert_eq!(
            ledger.verify().await.unwrap().problems,
            Vec::<String>::new()
        );
        drop(ledger);
        assert_eq!(open().counted("x", 0).await.unwrap(), both);
    }
}

/// A reservation with what it makes known.
fn meets(id: u128, pay_to: &str, price: u64) -> Post {
    let (payment, host, now) = (PaymentId(id), "api.example.com".to_owned(), Timestamp(5));
    let entries = vec![
        Entry::Met {
            payment,
            host: host.clone(),
            now,
        },
        reserve(id, "s", price, vec![]),
        Entry::Payee {
            host: host.clone(),
            network: "eip155:1".into(),
            pay_to: pay_to.into(),
            now,
            approved: false,
            payment: Some(payment),
        },
        Entry::Price {
            host,
            method: "GET".into(),
            path: "/".into(),
            price: Usd(price),
            increase: None,
            now,
            approved: false,
            payment: Some(payment),
        },
    ];
    post(id, State::Reserved, entries)
}

fn comes_to_nothing(id: u128) -> Post {
    let release = Entry::Release {
        id: PaymentId(id),
        because: Because::NeverSigned,
    };
    let unmet = Entry::Unmet {
        payment: PaymentId(id),
        host: "api.example.com".into(),
        network: "eip155:1".into(),
        method: "GET".into(),
        path: "/".into(),
        approval: None,
    };
    post(id, State::Released, vec![release, unmet])
}

#[tokio::test]
async fn what_only_released_payments_made_known_is_forgotten() {
    for backend in backends() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = (backend.open)(&opening(backend, dir.path())).unwrap();
        let opened = open_session(&session("s", 1000, 0), None);
        ledger.post(opened).await.unwrap();
        // How many facts there are, and the lowest price.
        let known = async |ledger: &Arc<dyn Ledger>| {
            let facts = ledger.facts(key::MERCHANTS).await.unwrap();
            let lowest = facts.iter().find_map(|(_, fact)| match fact {
                Fact::Price { lowest, .. } => Some(lowest.0),
                _ => None,
            });
            let report = ledger.verify().await.unwrap();
            assert_eq!(report.problems, [] as [String; 0], "{}", backend.kind);
            (facts.len(), lowest)
        };
        for first in [meets(1, "A", 9), meets(2, "A", 7)] {
            ledger.post(first).await.unwrap();
        }
        if backend.kind != "memory" {
            drop(ledger);
            ledger = (backend.open)(&opening(backend, dir.path())).unwrap();
        }
        assert_eq!(known(&ledger).await, (3, Some(7)), "{}", backend.kind);
        ledger.post(comes_to_nothing(2)).await.unwrap();
        assert_eq!(known(&ledger).await, (3, Some(9)), "{}", backend.kind);
        ledger.post(comes_to_nothing(1)).await.unwrap();
        assert_eq!(known(&ledger).await, (0, None), "{}", backend.kind);
        ledger.post(meets(3, "B", 9)).await.unwrap();
        let settle = Entry::Settle {
            id: PaymentId(3),
            charged: Usd(9),
        };
        let settled = post(3, State::Settled, vec![settle]);
        ledger.post(settled).await.unwrap();
        ledger.post(meets(4, "B", 5)).await.unwrap();
        for _ in 0..2 {
            ledger.post(comes_to_nothing(4)).await.unwrap();
            assert_eq!(known(&ledger).await, (3, Some(9)), "{}", backend.kind);
        }
        let changed = Reject::PayeeChanged { known: "B".into() };
        let other = ledger.post(meets(5, "A", 9)).await;
        assert_eq!(other, Err(PostError::Rejected(changed)), "{}", backend.kind);
        assert_eq!(known(&ledger).await, (3, Some(9)), "{}", backend.kind);
    }
}

/// In ledgers of older programs what a person agreed to once is what is known from then on, and they are whole.
#[tokio::test]
async fn what_older_programs_let_a_yes_move_is_judged_as_it_was() {
    for backend in backends() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = (backend.open)(&opening(backend, dir.path())).unwrap();
        let opened = open_session(&session("s", 1000, 0), None);
        ledger.post(opened).await.unwrap();
        ledger.post(meets(1, "A", 9)).await.unwrap();
        let mut moves = meets(2, "B", 18);
        for entry in &mut moves.entries {
            if let Entry::Payee { approved, .. } | Entry::Price { approved, .. } = entry {
                *approved = true;
            }
        }
        ledger.post(moves).await.unwrap();
        ledger.post(meets(3, "B", 20)).await.unwrap();
        let facts = ledger.facts(key::MERCHANTS).await.unwrap();
        let known = facts.iter().filter_map(|(_, fact)| match fact {
            Fact::Payee { pay_to, .. } => Some(pay_to.clone()),
            Fact::Price { lowest, .. } => Some(lowest.0.to_string()),
            _ => None,
        });
        assert_eq!(known.collect::<Vec<_>>(), ["B", "18"], "{}", backend.kind);
        let report = ledger.verify().await.unwrap();
        assert_eq!(report.problems, [] as [String; 0], "{}", backend.kind);
    }
}

/// What counts from a bucket on in accounts of one kind, the fullest first; where nothing does takes no place.
#[tokio::test]
async fn accounts_of_a_kind_are_found_with_their_sums() {
    for backend in backends() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = (backend.open)(&opening(backend, dir.path())).unwrap();
        let session = session("s", 300, 0);
        ledger.post(open_session(&session, None)).await.unwrap();
        let one = |id, account: &str, last| {
            let entry = reserve(id, "s", 10, vec![limit(account.into(), last)]);
            ledger.post(post(id, State::Reserved, vec![entry]))
        };
        let marks = [
            ("budget:a:x", 3),
            ("budget:a:x", 9),
            ("budget:a:", 9),
            ("budget:ab:x", 9),
            ("budget:b:x", 9),
        ];
        for (id, (account, last)) in (1..).zip(marks) {
            one(id, account, last).await.unwrap();
        }
        let sums = async |prefix: &str, first, most| -> (Vec<(String, u64)>, usize, u32) {
            let found = ledger.accounts(prefix, first, most).await.unwrap();
            let sum = |(name, counted): (String, Counted)| (name, counted.amount.0);
            let fullest = found.fullest.into_iter().map(sum).collect();
            (fullest, found.in_use, found.most_payments)
        };
        let told = |rows: &[(&str, u64)], in_use, most: u32| {
            let row = |(n, s): &(&str, u64)| ((*n).to_owned(), *s);
            (rows.iter().map(row).collect::<Vec<_>>(), in_use, most)
        };
        let all = told(&[("budget:a:x", 20), ("budget:a:", 10)], 2, 2);
        assert_eq!(sums("budget:a:", 0, 9).await, all, "{}", backend.kind);
        let late = told(&[("budget:a:", 10), ("budget:a:x", 10)], 2, 1);
        assert_eq!(sums("budget:a:", 4, 9).await, late, "{}", backend.kind);
        let one = told(&[("budget:a:x", 20)], 2, 2);
        assert_eq!(sums("budget:a:", 0, 1).await, one, "{}", backend.kind);
        let none = told(&[], 0, 0);
        for (prefix, first) in [("budget:c:", 0), ("budget:a:", 10)] {
            assert_eq!(sums(prefix, first, 9).await, none, "{}", backend.kind);
        }
    }
}

/// What begins with some digits is a range of ids, of refusals too.
#[tokio::test]
async fn ids_are_found_by_their_range() {
    for backend in backends() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = (backend.open)(&opening(backend, dir.path())).unwrap();
        let session = session("s", 300, 0);
        ledger.post(open_session(&session, None)).await.unwrap();
        for (id, state) in [
            (5, State::Reserved),
            (6, State::Denied),
            (9, State::Reserved),
        ] {
            let entry = if state == State::Denied {
                Entry::Note { id: PaymentId(id) }
            } else {
                reserve(id, "s", 10, vec![])
            };
            ledger.post(post(id, state, vec![entry])).await.unwrap();
        }
        let found = async |first, last, most| -> Vec<u128> {
            let range = PaymentId(first)..=PaymentId(last);
            let ids = ledger.ids(range, most).await.unwrap();
            ids.into_iter().map(|id| id.0).collect()
        };
        assert_eq!(found(0, u128::MAX, 2).await, [5, 6], "{}", backend.kind);
        assert_eq!(found(6, 9, 9).await, [6, 9], "{}", backend.kind);
        assert_eq!(found(7, 8, 9).await, [], "{}", backend.kind);
    }
}
