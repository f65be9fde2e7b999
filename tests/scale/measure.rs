//! Real owners with connections of their own on one real server.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use farepass::budget::Entry;
use farepass::clock::{Timestamp, Window, wall};
use farepass::event::{SpendEvent, State};
use farepass::ledger::{Database, Ledger, Opening, Post};
use farepass::money::Usd;
use farepass::payment::{Limit, PaymentId, Session, SessionId};

use super::far::seen_from_afar;
use super::postgres::Server;

/// What there is, or nothing where there is none and none is required.
pub(crate) fn needs<T>(found: Result<T, String>) -> Option<T> {
    match found {
        Ok(found) => Some(found),
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

pub(crate) fn open(url: &str, pooler: bool) -> Arc<dyn Ledger> {
    let mut database = Database::new(url.into(), "db.url".into());
    database.pooler = pooler;
    let opening = Opening {
        state_dir: "/nonexistent".into(),
        database: Some(database),
    };
    opening.open().unwrap()
}

pub(crate) fn session(budget: u64) -> Post {
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
            secret_sha256: None,
        }],
        event: None,
    }
}

/// As a payment makes it: the session's budget, and one of an agent by the day.
pub(crate) fn reserve(id: u128) -> Post {
    let now = wall();
    let (first, last) = Window::Day.buckets(now);
    let daily = Limit {
        account: "budget:daily:bot".into(),
        first,
        last,
        amount: Usd(1 << 50),
        payments: None,
        resets_at: None,
        rolls: None,
    };
    let entry = Entry::Reserve {
        id: PaymentId(id),
        session: SessionId("s".into()),
        amount: Usd(1),
        limits: vec![daily],
        until: now.after_secs(300),
        now,
        nonce: format!("nonce {id}"),
        host: "api.example.com".into(),
    };
    Post {
        time: now,
        entries: vec![entry],
        event: Some(SpendEvent {
            id: PaymentId(id),
            time: now,
            state: State::Reserved,
            session: SessionId("s".into()),
            host: "api.example.com".into(),
            // No two begin alike.
            request: Some(format!("{:032x}{id:032x}", id ^ id << 104)),
            ..SpendEvent::default()
        }),
    }
}

/// How owners fared that reserved without a pause.
pub(crate) struct Fared {
    owners: usize,
    rate: u128,
    p50: Duration,
    p99: Duration,
}

impl fmt::Display for Fared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            owners,
            rate,
            p50,
            p99,
        } = self;
        write!(
            f,
            "{owners:>3} owners: {rate:>5} reservations/s, p50 {p50:>6.1?}, p99 {p99:>6.1?}"
        )
    }
}

pub(crate) async fn fare(owners: &[Arc<dyn Ledger>], lasts: Duration) -> Fared {
    let began = Instant::now();
    let owners_now = owners.len() as u128;
    let mut payers = vec![];
    for (n, owner) in (0u128..).zip(owners) {
        let owner = Arc::clone(owner);
        payers.push(tokio::spawn(async move {
            let mut waits = vec![];
            while began.elapsed() < lasts {
                let asked = Instant::now();
                let run = owners_now << 96;
                let id = run | n << 64 | waits.len() as u128;
                owner.post(reserve(id)).await.unwrap();
                waits.push(asked.elapsed());
            }
            waits
        }));
    }
    let mut waits = vec![];
    for payer in payers {
        waits.extend(payer.await.unwrap());
    }
    let took = began.elapsed();
    waits.sort_unstable();
    let at = |percent: usize| waits[(waits.len() - 1) * percent / 100];
    Fared {
        owners: owners.len(),
        rate: waits.len() as u128 * 1000 / took.as_millis(),
        p50: at(50),
        p99: at(99),
    }
}

async fn measure(url: &str, what: &str, sizes: &[usize]) {
    let mut owners: Vec<Arc<dyn Ledger>> = vec![open(url, false)];
    owners[0].post(session(1 << 50)).await.unwrap();
    for &many in sizes {
        while owners.len() < many {
            owners.push(open(url, false));
        }
        let fared = fare(&owners, Duration::from_secs(2)).await;
        println!("{what}, {fared}");
        // They stand in a line: without one it is some hundred times.
        assert!(many != 16 || fared.p99 < 20 * fared.p50, "some starve");
    }
    let report = owners[0].verify().await.unwrap();
    assert_eq!(report.problems, [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_lock_carries_many_owners() {
    let Some(server) = needs(Server::start(&[])) else {
        return;
    };
    measure(&server.place("near"), "here", &[1, 4, 16, 64]).await;
    let way = Duration::from_micros(500);
    let far = seen_from_afar(&server.place("far"), way);
    measure(&far, "1 ms away", &[1, 16]).await;
}
