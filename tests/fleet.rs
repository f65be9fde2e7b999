//! What several owners of one PostgreSQL ledger promise each other: one order of all posts, no answer
//! without a durable record, and no record that nobody knows of.
#![cfg(test)]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use farepass::budget::{Because, Entry, Frozen, Reject};
use farepass::clock::{Timestamp, wall};
use farepass::event::{Delivery, SpendEvent, State};
use farepass::ledger::{
    Database, Filter, Ledger, OpenError, Opening, Post, PostError, Posted, Standings,
};
use farepass::money::Usd;
use farepass::payer::{known, route};
use farepass::payment::{PaymentId, Session, SessionId};

/// Used by the journeys with the real binary too.
#[path = "real/support/postgres.rs"]
#[expect(dead_code, reason = "the journeys need more of it")]
mod postgres;

#[path = "ledger/walked.rs"]
mod walked;

use postgres::Server;
use walked::walked;

static SERVER: LazyLock<Result<Server, String>> = LazyLock::new(|| Server::start(&[]));

/// The server, or nothing where there is none and none is required.
fn server() -> Option<&'static Server> {
    match &*SERVER {
        Ok(server) => Some(server),
        Err(why) => {
            let required = std::env::var("FAREPASS_REQUIRE_INTEROP").is_ok_and(|v| v == "1");
            assert!(!required, "FAREPASS_REQUIRE_INTEROP=1, but {why}");
            // Past the test harness, which keeps the output of passing tests to itself.
            let line = format!("\n*** SKIPPED: {why}\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
            None
        }
    }
}

fn opening(url: &str) -> Opening {
    Opening {
        state_dir: "/nonexistent".into(),
        database: Some(Database::new(url.into(), "db.url".into())),
    }
}

fn open(url: &str) -> Arc<dyn Ledger> {
    opening(url).open().unwrap()
}

fn session(budget: u64) -> Post {
    let session = Session {
        id: SessionId("s".into()),
        agent: "bot".into(),
        budget: Usd(budget),
        created: Timestamp(1),
        expires: wall().after_secs(3600),
    };
    Post {
        time: Timestamp(1),
        entries: vec![Entry::OpenSession {
            session,
            secret_sha256: Some("aa".into()),
        }],
        event: None,
    }
}

fn told(id: u128, time: Timestamp, state: State, entry: Entry) -> Post {
    Post {
        time,
        entries: vec![entry],
        event: Some(SpendEvent {
            id: PaymentId(id),
            time,
            state,
            session: SessionId("s".into()),
            host: "api.example.com".into(),
            ..SpendEvent::default()
        }),
    }
}

fn reserve(id: u128, amount: u64) -> Post {
    let now = wall();
    let entry = Entry::Reserve {
        id: PaymentId(id),
        session: SessionId("s".into()),
        amount: Usd(amount),
        limits: vec![],
        until: Timestamp(9),
        now,
        nonce: format!("nonce {id}"),
        host: "api.example.com".into(),
    };
    told(id, now, State::Reserved, entry)
}

async fn whole(ledger: &Arc<dyn Ledger>) -> u64 {
    let report = ledger.verify().await.unwrap();
    assert_eq!(report.problems, [] as [String; 0]);
    report.payments
}

async fn eventually(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !look().await {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const OWNERS: usize = 4;
const PAYERS: u128 = 64;

/// Exact to the payment, each owner having a connection of its own. Prints how fast it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn four_owners_pay_what_one_budget_holds() {
    const EACH: u128 = 8;
    const HELD: u64 = 1500;
    let Some(server) = server() else { return };
    let url = server.place("four");
    let openings = (0..OWNERS).map(|_| {
        let url = url.clone();
        // At once, on an empty place: one of them makes the tables.
        std::thread::spawn(move || open(&url))
    });
    let owners: Vec<_> = openings.collect::<Vec<_>>();
    let owners: Vec<_> = owners.into_iter().map(|o| o.join().unwrap()).collect();
    owners[0].post(session(HELD)).await.unwrap();
    let began = Instant::now();
    let mut payers = vec![];
    for (n, owner) in (0u128..).zip(&owners) {
        for payer in 0..PAYERS {
            let owner = Arc::clone(owner);
            payers.push(tokio::spawn(async move {
                let mut counts = vec![];
                for turn in 0..EACH {
                    let id = n << 64 | payer << 32 | turn;
                    match owner.post(reserve(id, 1)).await {
                        Ok(posted) => counts.push(posted.session_counted.unwrap().amount.0),
                        Err(PostError::Rejected(Reject::OverLimit { .. })) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
                counts
            }));
        }
    }
    let mut counts = vec![];
    for payer in payers {
        counts.extend(payer.await.unwrap());
    }
    let took = began.elapsed();
    let tried = OWNERS as u128 * PAYERS * EACH;
    println!("{tried} posts of {OWNERS} owners in {took:?}");
    counts.sort_unstable();
    let each: Vec<u64> = (1..=HELD).collect();
    assert_eq!(counts, each, "each saw its own sum, whoever counted before");
    assert_eq!(whole(&owners[3]).await, HELD);
}

/// A relay before the database that cuts a connection at a commit: before the server hears of it, or
/// before its answer is heard.
struct Cutter {
    port: u16,
    /// 0: nothing; 1: before; 2: after.
    mode: AtomicUsize,
    cuts: AtomicU64,
}

const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

impl Cutter {
    fn start(to: u16) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cutter = Arc::new(Self {
            port,
            mode: AtomicUsize::new(0),
            cuts: AtomicU64::new(0),
        });
        let this = Arc::clone(&cutter);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else {
                    continue;
                };
                let this = Arc::clone(&this);
                let (from, into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || this.forward(from, into));
                std::thread::spawn(move || {
                    let (mut from, mut into) = (server, client);
                    let _ = std::io::copy(&mut from, &mut into);
                    let _ = into.shutdown(Shutdown::Both);
                });
            }
        });
        cutter
    }

    fn forward(&self, mut client: TcpStream, mut server: TcpStream) {
        let mut bytes = [0; 65536];
        while let Ok(n @ 1..) = client.read(&mut bytes) {
            let commit = bytes[..n].windows(COMMIT.len()).any(|w| w == COMMIT);
            let mode = match commit {
                true => self.mode.swap(0, Ordering::SeqCst),
                false => 0,
            };
            if mode > 0 {
                self.cuts.fetch_add(1, Ordering::SeqCst);
                // Nothing more is heard of the server from here on.
                let _ = client.shutdown(Shutdown::Both);
            }
            if mode == 1 || server.write_all(&bytes[..n]).is_err() {
                break;
            }
            if mode == 2 {
                // The commit is made before the server sees that nobody listens.
                std::thread::park_timeout(Duration::from_millis(200));
                break;
            }
        }
        let _ = server.shutdown(Shutdown::Both);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_without_an_answer_is_looked_up() {
    let Some(server) = server() else { return };
    let direct = server.place("doubt");
    let (before, after) = direct.split_once("@127.0.0.1:").unwrap();
    let (port, rest) = after.split_once('/').unwrap();
    let cutter = Cutter::start(port.parse().unwrap());
    let through = format!("{before}@127.0.0.1:{}/{rest}", cutter.port);
    let ledger = open(&through);
    ledger.post(session(1000)).await.unwrap();
    let mut records = 1;
    for (id, mode) in (1..).zip([1, 2, 2, 1]) {
        cutter.mode.store(mode, Ordering::SeqCst);
        let posted = ledger.post(reserve(id, 7)).await.unwrap();
        records += 1;
        assert_eq!(posted.seq, records, "mode {mode}: once, and no more");
        let sum = Usd(7 * u64::try_from(id).unwrap());
        assert_eq!(posted.session_counted.unwrap().amount, sum);
        assert_eq!(cutter.cuts.load(Ordering::SeqCst), records - 1);
    }
    assert_eq!(ledger.healthy(), Ok(()));
    assert_eq!(whole(&open(&direct)).await, 4);
}

/// Also one that was told so, though its commit was made: it counts, and nothing was paid.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_the_database_is_away_nothing_is_promised() {
    let Ok(server) = Server::start(&[]) else {
        return assert!(server().is_none());
    };
    let ledger = open(&server.place("away"));
    ledger.post(session(1000)).await.unwrap();
    ledger.post(reserve(1, 7)).await.unwrap();
    server.crash();
    let refused = ledger.post(reserve(2, 7)).await;
    assert!(
        matches!(refused, Err(PostError::Unavailable(_))),
        "{refused:?}"
    );
    assert!(ledger.healthy().is_err(), "readiness is told");
    // What nobody waits for is kept, and who is let in is known.
    let (sender, kept) = std::sync::mpsc::channel();
    let settle = Entry::Settle {
        id: PaymentId(1),
        charged: Usd(5),
    };
    let then = Box::new(move |answer: Result<Posted, PostError>| sender.send(answer).unwrap());
    ledger
        .post_soon(told(1, wall(), State::Settled, settle), then)
        .await;
    let known = ledger.session_by_secret("aa").await.unwrap();
    assert!(known.is_some());
    assert!(kept.try_recv().is_err(), "not answered yet");
    eventually("a receipt is owed", async || ledger.owes()).await;
    server.run();
    eventually("it heals by itself", async || ledger.healthy().is_ok()).await;
    let stored = kept.recv_timeout(Duration::from_secs(20)).unwrap();
    stored.unwrap();
    assert!(!ledger.owes());
    ledger.post(reserve(3, 7)).await.unwrap();
    assert_eq!(whole(&ledger).await, 2, "who was refused is not in it");
    let counted = ledger.counted("session:s@1", 0).await.unwrap();
    assert_eq!(counted.amount, Usd(12));
}

#[tokio::test]
async fn what_one_does_the_others_know() {
    let Some(server) = server() else { return };
    let url = server.place("others");
    let (one, other) = (open(&url), open(&url));
    one.post(session(100)).await.unwrap();
    let row = other.session_by_secret("aa").await.unwrap();
    assert!(row.is_some(), "at once, also before it is known there");
    let entries = |entry| Post {
        time: wall(),
        entries: vec![entry],
        event: None,
    };
    let freeze = Entry::Freeze {
        what: Frozen::All,
        now: wall(),
        why: String::new(),
    };
    one.post(entries(freeze)).await.unwrap();
    assert_eq!(one.frozen("h", "a"), Some(Frozen::All));
    // Where it is judged it is known at once, whatever is known beside.
    let refused = other.post(reserve(1, 1)).await;
    let frozen = Reject::Frozen { what: Frozen::All };
    assert_eq!(refused, Err(PostError::Rejected(frozen)));
    eventually("the freeze is followed", async || {
        other.frozen("h", "a").is_some()
    })
    .await;
    let unfreeze = Entry::Unfreeze { what: Frozen::All };
    other.post(entries(unfreeze)).await.unwrap();
    eventually("and its end", async || one.frozen("h", "a").is_none()).await;
    one.post(reserve(1, 30)).await.unwrap();
    // A nonce is everybody's.
    let mut again = reserve(2, 1);
    if let Entry::Reserve { nonce, .. } = &mut again.entries[0] {
        *nonce = "nonce 1".into();
    }
    let used = other.post(again).await;
    assert_eq!(used, Err(PostError::Rejected(Reject::NonceUsed)));
    eventually("what is spent is followed", async || {
        let row = other.session(&SessionId("s".into())).await.unwrap();
        row.unwrap().spent == Usd(30)
    })
    .await;
    whole(&one).await;
}

/// Of a very large fleet, each looks seldom; what is judged is judged on everything all the same.
#[tokio::test]
async fn whoever_looks_seldom_is_told_where_it_counts() {
    let Some(server) = server() else { return };
    let url = server.place("seldom");
    let mut database = Database::new(url.clone().into(), "db.url".into());
    database.look_every = Duration::from_secs(60);
    let seldom = Opening {
        state_dir: "/nonexistent".into(),
        database: Some(database),
    };
    let (often, seldom) = (open(&url), seldom.open().unwrap());
    often.post(session(100)).await.unwrap();
    let row = seldom.session_by_secret("aa").await.unwrap();
    assert!(row.is_some(), "who is let in is asked for");
    let third = open(&url);
    let freeze = Entry::Freeze {
        what: Frozen::All,
        now: wall(),
        why: String::new(),
    };
    let freeze = Post {
        time: wall(),
        entries: vec![freeze],
        event: None,
    };
    often.post(freeze).await.unwrap();
    eventually("a freeze is followed where one looks often", async || {
        third.frozen("h", "a").is_some()
    })
    .await;
    assert_eq!(seldom.frozen("h", "a"), None, "not looked yet");
    let frozen = Reject::Frozen { what: Frozen::All };
    let refused = seldom.post(reserve(1, 1)).await;
    assert_eq!(refused, Err(PostError::Rejected(frozen)));
}

#[tokio::test]
async fn one_of_them_closes_what_was_left_open() {
    let Some(server) = server() else { return };
    let url = server.place("leads");
    let (one, other) = (open(&url), open(&url));
    assert!(one.is_shared());
    assert!(one.leads().await.unwrap());
    assert!(one.leads().await.unwrap(), "it stays");
    assert!(!other.leads().await.unwrap());
    drop(one);
    eventually("another takes its place", async || {
        other.leads().await.unwrap()
    })
    .await;
    // Both close the same payment: once in the sums.
    other.post(session(100)).await.unwrap();
    other.post(reserve(1, 30)).await.unwrap();
    let third = open(&url);
    let release = || {
        let because = Because::Expired { now: wall() };
        let id = PaymentId(1);
        told(1, wall(), State::Released, Entry::Release { id, because })
    };
    let (a, b) = tokio::join!(other.post(release()), third.post(release()));
    for closed in [a, b] {
        closed.unwrap();
    }
    let counted = third.counted("session:s@1", 0).await.unwrap();
    assert_eq!((counted.amount, counted.payments), (Usd(0), 0));
    whole(&third).await;
}

/// A reservation for this request of an agent. Its payload lives for a minute.
fn purchase(id: u128, request: u8) -> Post {
    let mut post = reserve(id, 1);
    if let Entry::Reserve { until, now, .. } = &mut post.entries[0] {
        *until = now.after_secs(60);
    }
    asked(post, request)
}

fn asked(mut post: Post, request: u8) -> Post {
    post.event.as_mut().unwrap().request = Some(format!("{request:02x}").repeat(32));
    post
}

/// What came for it: nothing that anybody has (`owed`), or the whole answer.
fn came(id: u128, request: u8, state: State, owed: bool) -> Post {
    let id = PaymentId(id);
    let entry = match state {
        State::Settled => Entry::Settle {
            id,
            charged: Usd(1),
        },
        State::Released => Entry::Release {
            id,
            because: Because::NeverSigned,
        },
        State::Reserved | State::Unknown | State::Denied => Entry::Note { id },
    };
    let mut post = asked(told(id.0, wall(), state, entry), request);
    let event = post.event.as_mut().unwrap();
    event.owed = owed;
    event.receipt = (state == State::Settled).then(|| "claimed".into());
    event.delivery = (!owed).then(|| Delivery {
        status: 200,
        digest: Some("d".into()),
        ..Delivery::default()
    });
    post
}

/// The payment that is in the way of this one, and whether a receipt claims it.
async fn in_the_way(ledger: &Arc<dyn Ledger>, post: Post) -> Option<(u128, bool)> {
    match ledger.post(post).await {
        Ok(_) => None,
        Err(PostError::Rejected(Reject::Outstanding {
            payment,
            until,
            claimed,
        })) => {
            assert!(until > wall(), "{until}");
            Some((payment.0, claimed))
        }
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_request_that_another_owner_paid_is_not_paid_while_its_answer_is_owed() {
    let Some(server) = server() else { return };
    let url = server.place("owed");
    let (one, other) = (open(&url), open(&url));
    one.post(session(20)).await.unwrap();
    one.post(purchase(1, 7)).await.unwrap();
    let free = in_the_way(&other, purchase(2, 7)).await;
    assert_eq!(free, None, "two that both wait are two purchases");
    other.post(came(2, 7, State::Settled, false)).await.unwrap();
    one.post(came(1, 7, State::Unknown, true)).await.unwrap();
    let unknown = in_the_way(&other, purchase(3, 7)).await;
    assert_eq!(unknown, Some((1, false)));
    let third = open(&url);
    assert_eq!(in_the_way(&third, purchase(3, 7)).await, Some((1, false)));
    assert_eq!(in_the_way(&third, purchase(4, 8)).await, None, "another");
    // Its own owner knows better, and can send the payload again.
    assert_eq!(in_the_way(&one, purchase(5, 7)).await, None);
    one.post(came(5, 7, State::Settled, false)).await.unwrap();
    // A budget that is used up makes no purchase of a retry.
    let mut dear = purchase(6, 7);
    if let Entry::Reserve { amount, .. } = &mut dear.entries[0] {
        *amount = Usd(1000);
    }
    assert_eq!(in_the_way(&other, dear.clone()).await, Some((1, false)));
    one.post(came(1, 7, State::Settled, true)).await.unwrap();
    assert_eq!(in_the_way(&other, dear).await, Some((1, true)));
    whole(&other).await;
    // The same payload brought the answer.
    one.post(came(1, 7, State::Settled, false)).await.unwrap();
    assert_eq!(in_the_way(&other, purchase(3, 7)).await, None);
    // Certainly not signed.
    one.post(purchase(7, 9)).await.unwrap();
    one.post(came(7, 9, State::Unknown, true)).await.unwrap();
    assert_eq!(in_the_way(&other, purchase(8, 9)).await, Some((7, false)));
    one.post(came(7, 9, State::Released, true)).await.unwrap();
    assert_eq!(in_the_way(&other, purchase(8, 9)).await, None);
    // Dead by every clock.
    one.post(purchase(9, 10)).await.unwrap();
    one.post(came(9, 10, State::Unknown, true)).await.unwrap();
    assert!(in_the_way(&other, purchase(10, 10)).await.is_some());
    let past = "UPDATE owed.farepass_payment SET until = until - 60000 WHERE until > 1000000";
    assert!(server.sql("postgres", past).0);
    assert_eq!(in_the_way(&other, purchase(10, 10)).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_asks_at_the_same_moment_is_judged_by_the_order_of_the_chain() {
    let Some(server) = server() else { return };
    let url = server.place("moment");
    let owners = [open(&url), open(&url), open(&url)];
    owners[0].post(session(100_000)).await.unwrap();
    let (mut early, mut late) = (0, 0);
    for round in 0..20 {
        let first = u128::from(round) << 32;
        owners[0].post(purchase(first, round)).await.unwrap();
        let lost = tokio::spawn({
            let owner = Arc::clone(&owners[0]);
            async move { owner.post(came(first, round, State::Unknown, true)).await }
        });
        let retries = (1..9).map(|n| {
            let owner = Arc::clone(&owners[1 + n % 2]);
            tokio::spawn(async move { owner.post(purchase(first + n as u128, round)).await })
        });
        let retries: Vec<_> = retries.collect();
        let lost = lost.await.unwrap().unwrap().seq;
        for retry in retries {
            match retry.await.unwrap() {
                Ok(posted) => {
                    assert!(posted.seq < lost, "paid although it was known as a retry");
                    early += 1;
                }
                Err(PostError::Rejected(Reject::Outstanding { payment, .. })) => {
                    assert_eq!(payment.0, first);
                    late += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
        // At once, and known to be retries: neither of the two.
        let [_, b, c] = &owners;
        let (b, c) = tokio::join!(
            in_the_way(b, purchase(first + 20, round)),
            in_the_way(c, purchase(first + 21, round))
        );
        assert_eq!((b, c), (Some((first, false)), Some((first, false))));
    }
    println!("{early} before, {late} after");
    assert!(late > 0);
    whole(&owners[2]).await;
}

/// What an owner that died was about to be answered, nobody has.
#[tokio::test]
async fn what_a_dead_owner_had_in_flight_stops_the_others() {
    let Some(server) = server() else { return };
    let url = server.place("dead");
    let (one, other) = (open(&url), open(&url));
    one.post(session(100)).await.unwrap();
    one.post(purchase(1, 7)).await.unwrap();
    assert_eq!(in_the_way(&other, purchase(2, 7)).await, None, "it lives");
    other.post(came(2, 7, State::Settled, false)).await.unwrap();
    drop(one);
    let mut id = 10;
    eventually("its end is seen", async || {
        id += 1;
        in_the_way(&other, purchase(id, 7)).await == Some((1, false))
    })
    .await;
    assert_eq!(in_the_way(&other, purchase(3, 8)).await, None, "another");
    let anew = open(&url);
    assert_eq!(in_the_way(&anew, purchase(4, 7)).await, Some((1, false)));
    whole(&other).await;
}

/// Nothing of it is left on a connection, so nobody sees whether it lives: it is waited for, but not for long.
#[tokio::test]
async fn behind_a_pooler_a_slow_answer_is_given_up() {
    let Some(server) = server() else { return };
    let url = server.place("slow");
    let mut database = Database::new(url.clone().into(), "db.url".into());
    database.pooler = true;
    let pooled = Opening {
        state_dir: "/nonexistent".into(),
        database: Some(database),
    };
    let (one, other) = (pooled.open().unwrap(), open(&url));
    one.post(session(100)).await.unwrap();
    one.post(purchase(1, 7)).await.unwrap();
    assert_eq!(in_the_way(&other, purchase(2, 7)).await, None);
    other.post(came(2, 7, State::Settled, false)).await.unwrap();
    let later = "UPDATE slow.farepass_record SET time = time - 11000 WHERE seq = 2";
    assert!(server.sql("postgres", later).0);
    assert_eq!(in_the_way(&other, purchase(3, 7)).await, Some((1, false)));
}

/// Tables of version 1, with payments in them, become ours; and a program of version 1 that still runs goes on.
#[tokio::test]
async fn tables_of_an_older_program_are_brought_up_to_date() {
    let Some(server) = server() else { return };
    let url = server.place("older");
    let old = open(&url);
    old.post(session(100)).await.unwrap();
    for (id, request) in [(1, 7), (2, 8), (3, 9)] {
        old.post(purchase(id, request)).await.unwrap();
    }
    old.post(came(1, 7, State::Unknown, true)).await.unwrap();
    old.post(came(2, 8, State::Settled, false)).await.unwrap();
    drop(old);
    let back = "SET search_path = older; DROP INDEX farepass_request;
        ALTER TABLE farepass_payment DROP COLUMN request, DROP COLUMN owner;
        UPDATE farepass_meta SET value = '1' WHERE key = 'version'";
    let (done, said) = server.sql("postgres", back);
    assert!(done, "{said}");
    let columns = "SELECT string_agg(column_name, ' ' ORDER BY ordinal_position) FROM information_schema.columns
        WHERE table_schema = 'older' AND table_name = 'farepass_payment'";
    let version_1 = "id last stage amount until nonce marks";
    assert_eq!(server.sql("postgres", columns).1, version_1);
    let said = opening(&url).read().err().unwrap().to_string();
    assert!(said.contains("version 1"), "{said}");

    let new = open(&url);
    assert_eq!(whole(&new).await, 3);
    assert_eq!(in_the_way(&new, purchase(4, 7)).await, Some((1, false)));
    assert_eq!(in_the_way(&new, purchase(5, 8)).await, None, "answered");
    assert_eq!(in_the_way(&new, purchase(6, 9)).await, None, "in flight");
    // As a program of version 1 writes.
    let row = "INSERT INTO older.farepass_payment SELECT * FROM unnest(
        '{\\x01}'::bytea[], '{1}'::bigint[], '{0}'::bigint[], '{1}'::bigint[], '{1}'::bigint[], '{n}'::text[], '{[]}'::text[])";
    let (done, said) = server.sql("postgres", row);
    assert!(done, "{said}");
}

/// The column by which a request is found is held against the records.
#[tokio::test]
async fn a_request_that_is_not_where_it_belongs_is_found() {
    let Some(server) = server() else { return };
    let url = server.place("astray");
    let ledger = open(&url);
    ledger.post(session(100)).await.unwrap();
    ledger.post(purchase(1, 7)).await.unwrap();
    ledger.post(came(1, 7, State::Unknown, true)).await.unwrap();
    whole(&ledger).await;
    for wrong in ["NULL", "5"] {
        let set = format!("UPDATE astray.farepass_payment SET request = {wrong}");
        assert!(server.sql("postgres", &set).0);
        let problems = ledger.verify().await.unwrap().problems;
        assert!(problems[0].contains("request"), "{problems:?}");
    }
    assert!(
        server
            .sql(
                "postgres",
                "UPDATE astray.farepass_record SET payment = NULL"
            )
            .0
    );
    let problems = ledger.verify().await.unwrap().problems;
    let lost = |problem: &String| problem.contains("the newest record of");
    assert!(problems.iter().any(lost), "{problems:?}");
}

#[tokio::test]
async fn a_clock_that_runs_ahead_reserves_nothing() {
    let Some(server) = server() else { return };
    let ledger = open(&server.place("clock"));
    ledger.post(session(100)).await.unwrap();
    let mut early = reserve(1, 1);
    early.time = wall().after_secs(600);
    let said = ledger.post(early).await.unwrap_err().to_string();
    assert!(said.contains("clock"), "{said}");
    // Nobody has paid yet, and others will.
    let mut late = reserve(1, 1);
    late.time = Timestamp(wall().0 - 600_000);
    let said = ledger.post(late).await.unwrap_err().to_string();
    assert!(said.contains("behind the database"), "{said}");
    let mut behind = reserve(2, 1);
    behind.time = Timestamp(5);
    ledger.post(reserve(3, 1)).await.unwrap();
    let newest = ledger.newest().await.unwrap();
    // What others paid since would be in another window.
    let said = ledger.post(behind).await.unwrap_err().to_string();
    assert!(said.contains("behind the database"), "{said}");
    let mut close = reserve(2, 1);
    close.time = Timestamp(newest.0 - 50_000);
    ledger.post(close).await.unwrap();
    ledger
        .post(told(
            2,
            Timestamp(5),
            State::Settled,
            Entry::Settle {
                id: PaymentId(2),
                charged: Usd(1),
            },
        ))
        .await
        .unwrap();
    assert!(ledger.newest().await.unwrap() >= newest, "no step back");
}

/// What nobody waits for is of money that was spent.
#[tokio::test]
async fn what_the_database_refuses_for_a_while_is_stored_later() {
    let Some(server) = server() else { return };
    let ledger = open(&server.place("refuses"));
    ledger.post(session(100)).await.unwrap();
    ledger.post(reserve(1, 7)).await.unwrap();
    let run = |sql: &str| {
        let (done, said) = server.sql("postgres", sql);
        assert!(done, "{said}");
    };
    run("ALTER TABLE refuses.farepass_counted RENAME TO elsewhere");
    let settle = Entry::Settle {
        id: PaymentId(1),
        charged: Usd(5),
    };
    let settled = told(1, wall(), State::Settled, settle);
    ledger.post_soon(settled, Box::new(|_| {})).await;
    assert!(ledger.post(reserve(2, 1)).await.is_err());
    run("ALTER TABLE refuses.elsewhere RENAME TO farepass_counted");
    eventually("the receipt", async || {
        let row = ledger.session(&SessionId("s".into())).await.unwrap();
        row.unwrap().spent == Usd(5)
    })
    .await;
    whole(&ledger).await;
}

/// Nobody else's payload is dead because one machine's clock is ahead.
#[tokio::test]
async fn a_clock_that_runs_ahead_gives_nothing_back() {
    let Some(server) = server() else { return };
    let ledger = open(&server.place("ahead"));
    ledger.post(session(100)).await.unwrap();
    let alive = wall().after_secs(300);
    let mut post = reserve(1, 60);
    if let Entry::Reserve { until, .. } = &mut post.entries[0] {
        *until = alive;
    }
    ledger.post(post).await.unwrap();
    let release = |now: Timestamp, because| {
        let id = PaymentId(1);
        told(1, now, State::Released, Entry::Release { id, because })
    };
    let later = alive.after_secs(300);
    let early = release(later, Because::Expired { now: later });
    let said = ledger.post(early).await;
    assert_eq!(said, Err(PostError::Rejected(Reject::TooEarly)));
    let spent = ledger.session(&SessionId("s".into())).await.unwrap();
    assert_eq!(spent.unwrap().spent, Usd(60));
    // What was never signed cannot be taken, whatever the time is.
    let unsigned = release(later, Because::NeverSigned);
    ledger.post(unsigned).await.unwrap();
    // As until now, what is dead by both clocks.
    ledger.post(reserve(2, 60)).await.unwrap();
    let id = PaymentId(2);
    let because = Because::Expired { now: wall() };
    let dead = Entry::Release { id, because };
    let dead = told(2, wall(), State::Released, dead);
    ledger.post(dead).await.unwrap();
    whole(&ledger).await;
}

/// The planner must not join whole tables for a page of a thousand rows.
#[tokio::test]
async fn pages_of_a_long_ledger_are_read_in_the_order_of_its_records() {
    let Some(server) = server() else { return };
    let ledger = open(&server.place("long"));
    ledger.post(session(100)).await.unwrap();
    ledger.post(reserve(1, 1)).await.unwrap();
    let event = ledger.payment(PaymentId(1)).await.unwrap().unwrap();
    let event = SpendEvent {
        valid_before: Some(wall().after_secs(60).secs()),
        ..event
    };
    let event = serde_json::to_string(&event).unwrap();
    for made in [
        format!(
            "INSERT INTO long.farepass_record SELECT s, 1, decode(lpad(to_hex((s+1)/2), 32, '0'), 'hex'),
               CASE WHEN s % 2 = 0 THEN s - 1 END, '[]', '{event}', '' FROM generate_series(101, 100100) s"
        ),
        "INSERT INTO long.farepass_payment SELECT decode(lpad(to_hex(p), 32, '0'), 'hex'), 2 * p, 1, 5,
           CASE WHEN p % 100 = 0 THEN 4102444800000 ELSE 9 END, '', '[]', p, 3 FROM generate_series(51, 50050) p"
            .to_owned(),
        "ANALYZE long.farepass_record, long.farepass_payment".to_owned(),
    ] {
        assert!(server.sql("postgres", &made).0, "{made:.60}");
    }
    let began = Instant::now();
    let all = walked(&ledger, Filter::default()).await;
    println!("50,001 payments walked in {:?}", began.elapsed());
    assert_eq!(all.len(), 50_001);
    assert!(all.is_sorted_by_key(|row| row.record_seq));
    let began = Instant::now();
    let lives = Filter {
        lives: Some(wall()),
        ..Filter::default()
    };
    assert_eq!(walked(&ledger, lives).await.len(), 500);
    println!("500 of them that live in {:?}", began.elapsed());
    let began = Instant::now();
    let list = Filter {
        host: Some("nobody.example".into()),
        ..Filter::default()
    };
    assert_eq!(ledger.payments(list).await.unwrap().len(), 0);
    println!("listed in {:?}", began.elapsed());
    // What a page costs, not what the machine does beside it.
    let scans = "SELECT seq_scan FROM pg_stat_user_tables WHERE schemaname = 'long' AND relname = 'farepass_payment'";
    eventually("the statistics", async || {
        server.sql("postgres", scans).1.parse::<u64>().is_ok()
    })
    .await;
    let (_, scans) = server.sql("postgres", scans);
    assert!(
        scans.parse::<u64>().unwrap() < 20,
        "{scans} scans of all payments"
    );
}

/// What is over is looked up by whoever asks for it; nobody keeps it in mind.
#[tokio::test]
async fn sessions_that_are_over_are_found_though_they_are_not_kept_in_mind() {
    let Some(server) = server() else { return };
    let url = server.place("over");
    let ledger = open(&url);
    let now = wall();
    for (id, created, lasts) in [
        ("live", now.0 - 1000, 3600),
        ("late", now.0 - 10_000_000, 60),
        ("over", now.0 - 200_000_000, 60),
        ("closed", now.0 - 1000, 3600),
    ] {
        let mut post = session(100);
        if let Entry::OpenSession {
            session,
            secret_sha256,
        } = &mut post.entries[0]
        {
            session.id = SessionId(id.into());
            session.created = Timestamp(created);
            session.expires = Timestamp(created).after_secs(lasts);
            *secret_sha256 = Some(format!("secret of {id}"));
        }
        ledger.post(post).await.unwrap();
    }
    let close = Entry::CloseSession {
        session: SessionId("closed".into()),
    };
    let close = Post {
        time: now,
        entries: vec![close],
        event: None,
    };
    ledger.post(close).await.unwrap();
    let other = open(&url);
    for id in ["live", "late", "over", "closed"] {
        let row = other.session_by_secret(&format!("secret of {id}")).await;
        let row = row.unwrap().expect(id);
        assert_eq!((&*row.session.id.0, row.closed), (id, id == "closed"));
    }
    assert_eq!(other.sessions().await.unwrap().len(), 4);
}

/// Of millions that are over each must be read, and one question for all of them would be cut off at every start.
#[tokio::test]
async fn of_more_sessions_than_are_read_at_once_all_that_are_live_are_known() {
    const OVER: u64 = 25_000;
    let Some(server) = server() else { return };
    let url = server.place("pages");
    let ledger = open(&url);
    ledger.post(session(100)).await.unwrap();
    let more = |id: &str, to: u64, closed: bool, changed: &str| {
        let sql = format!(
            "INSERT INTO pages.farepass_session
             SELECT '{id}' || n, replace(replace(body, '\"id\":\"s\"', '\"id\":\"{id}' || n || '\"'),
               '\"closed\":false', '\"closed\":{closed}'), NULL, {changed}
             FROM pages.farepass_session, generate_series(1, {to}) n WHERE id = 's'"
        );
        let (done, said) = server.sql("postgres", &sql);
        assert!(done, "{said}");
    };
    more("n", OVER, true, "n");
    // Of more than a page with the same record, though there is none, those that are live come last; the first and
    // the last of all.
    more("o", OVER, true, "20000");
    more("p", 10, false, "20000");
    more("a", 1, false, "0");
    more("z", 1, false, "50000");
    let standings = open(&url).standings(wall()).await.unwrap();
    let expected = Standings {
        open: 13,
        spent: 0,
        over: 2 * OVER,
    };
    assert_eq!(standings, expected);
}

/// An index has no room for a key of any length.
#[tokio::test]
async fn the_price_of_a_long_path_is_remembered() {
    let Some(server) = server() else { return };
    let ledger = open(&server.place("path"));
    ledger.post(session(100)).await.unwrap();
    // Not to be compressed.
    let mut dice = 7u64;
    let path: String = std::iter::repeat_with(|| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'a' + u8::try_from((dice >> 33) % 26).unwrap())
    })
    .take(6000)
    .collect();
    let host = "api.example.com";
    for (n, path, tool) in [
        (1, format!("/{path}"), None),
        (2, format!("/{}", &path[..2040]), Some("ü".repeat(40))),
    ] {
        let route = route(&path, tool.as_deref());
        let mut post = reserve(n, 1);
        post.entries.push(Entry::Price {
            host: host.into(),
            method: "GET".into(),
            path: route.clone(),
            price: Usd(n.try_into().unwrap()),
            increase: None,
            now: wall(),
            approved: false,
            payment: None,
        });
        ledger.post(post).await.unwrap();
        let known = known(&*ledger, host, &http::Method::GET, &route).await;
        assert_eq!(known.unwrap().price, Some(Usd(n.try_into().unwrap())));
    }
    whole(&ledger).await;
}

#[tokio::test]
async fn tables_of_a_newer_program_are_left_alone() {
    let Some(server) = server() else { return };
    let url = server.place("newer");
    let missing = opening(&url).read().err();
    assert_eq!(missing, Some(OpenError::Missing("db.url".into())));
    drop(open(&url));
    let raised = "UPDATE newer.farepass_meta SET value = '99' WHERE key = 'version'";
    assert!(server.sql("postgres", raised).0);
    for said in [opening(&url).open().err(), opening(&url).read().err()] {
        let said = said.unwrap().to_string();
        assert!(
            said.contains("version 99") && said.contains("newer"),
            "{said}"
        );
    }
}

/// From a backup, or a standby that lagged: its budgets were spent already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_went_back_in_time_is_not_paid_from() {
    let Ok(server) = Server::start(&[]) else {
        return assert!(server().is_none());
    };
    let url = server.place("back");
    let ledger = open(&url);
    ledger.post(session(100)).await.unwrap();
    ledger.post(reserve(1, 7)).await.unwrap();
    let stale = "DELETE FROM back.farepass_record WHERE seq = 2";
    assert!(server.sql("postgres", stale).0);
    server.crash();
    server.run();
    eventually("it is noticed", async || {
        let posted = ledger.post(reserve(2, 7)).await;
        matches!(posted, Err(PostError::Damaged(_)))
    })
    .await;
    let problems = opening(&url)
        .read()
        .unwrap()
        .verify()
        .await
        .unwrap()
        .problems;
    assert!(!problems.is_empty());
    assert!(matches!(opening(&url).open(), Err(OpenError::Damaged(_))));
}

/// Who only looks notices it too: a proxy that is not asked to pay is not ready either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_went_back_in_time_is_noticed_by_looking() {
    let Some(server) = server() else { return };
    let url = server.place("looking");
    let mut database = Database::new(url.clone().into(), "db.url".into());
    database.look_every = Duration::from_secs(2);
    let opening = Opening {
        state_dir: "/nonexistent".into(),
        database: Some(database),
    };
    let ledger = opening.open().unwrap();
    for post in [session(100), reserve(1, 7), reserve(2, 7)] {
        ledger.post(post).await.unwrap();
    }
    // Before the first look, which would find less than there was, but no less than it knew.
    for stale in [
        "DELETE FROM looking.farepass_record WHERE seq = 3",
        "UPDATE looking.farepass_head SET (seq, hash) = \
         (SELECT seq, hash FROM looking.farepass_record WHERE seq = 2)",
    ] {
        assert!(server.sql("postgres", stale).0);
    }
    assert_eq!(ledger.healthy(), Ok(()));
    eventually("it is noticed", async || {
        matches!(ledger.healthy(), Err(PostError::Damaged(_)))
    })
    .await;
}
