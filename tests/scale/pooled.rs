//! Through a pooler in transaction mode: nothing of a proxy stays with a connection, and what is promised
//! is the same.

use std::sync::Arc;
use std::time::Duration;

use farepass::budget::{Entry, Frozen, Reject};
use farepass::clock::{Timestamp, wall};
use farepass::ledger::{Ledger, Post, PostError};

use super::measure::{fare, needs, open, reserve, session};
use super::pooler::Pooler;
use super::postgres::Server;

/// Its proxies, and as many connections as PgBouncer has to the server.
const OWNERS: usize = 4;
const PAYERS: u128 = 64;
const SIZE: usize = 3;

fn behind(size: usize) -> Option<(Server, Pooler)> {
    let server = needs(Server::start(&["synchronous_commit=off"]))?;
    let pooler = needs(Pooler::start(&server, size))?;
    let schema = "CREATE SCHEMA pooled; ALTER ROLE farepass SET search_path = pooled";
    assert!(server.sql("postgres", schema).0);
    Some((server, pooler))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn four_owners_behind_a_pooler_pay_what_one_budget_holds() {
    const EACH: u128 = 2;
    const HELD: u64 = 300;
    let Some((server, pooler)) = behind(SIZE) else {
        return;
    };
    let owners: Vec<_> = (0..OWNERS).map(|_| open(&pooler.url, true)).collect();
    owners[0].post(session(HELD)).await.unwrap();
    let mut payers = vec![];
    for (n, owner) in (0u128..).zip(&owners) {
        for payer in 0..PAYERS {
            let owner = Arc::clone(owner);
            payers.push(tokio::spawn(async move {
                let mut counts = vec![];
                for turn in 0..EACH {
                    match owner.post(reserve(n << 64 | payer << 32 | turn)).await {
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
    counts.sort_unstable();
    let each: Vec<u64> = (1..=HELD).collect();
    assert_eq!(counts, each, "each saw its own sum, whoever counted before");
    let report = owners[3].verify().await.unwrap();
    assert_eq!(report.problems, [] as [String; 0]);
    assert_eq!(report.payments, HELD);
    what_others_do_is_known(&owners).await;
    let (_, connections) = server.sql(
        "postgres",
        "SELECT count(*) <= 3 FROM pg_stat_activity WHERE application_name = 'farepass'",
    );
    assert_eq!(connections, "t", "more owners than connections");
    // The server promises nothing by itself; what is committed is on the disk all the same.
    server.crash();
    server.run();
    let after = open(&pooler.url, true).verify().await.unwrap();
    assert_eq!((after.problems.len(), after.payments), (0, HELD));
}

async fn what_others_do_is_known(owners: &[Arc<dyn Ledger>]) {
    assert!(owners[1].leads().await.unwrap());
    for _ in 0..2 * SIZE {
        assert!(owners[1].leads().await.unwrap(), "it stays");
        assert!(!owners[2].leads().await.unwrap(), "and is nobody else's");
    }
    let freeze = Entry::Freeze {
        what: Frozen::All,
        now: wall(),
        why: String::new(),
    };
    let post = Post {
        time: Timestamp(1),
        entries: vec![freeze],
        event: None,
    };
    owners[0].post(post).await.unwrap();
    let refused = owners[2].post(reserve(1 << 100)).await;
    let frozen = Reject::Frozen { what: Frozen::All };
    assert_eq!(refused, Err(PostError::Rejected(frozen)));
}

/// As many as this machine bears: each has a connection to the pooler for its posts and one for its questions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_owners_share_few_connections() {
    let Some((_server, pooler)) = behind(8) else {
        return;
    };
    let mut owners: Vec<Arc<dyn Ledger>> = vec![open(&pooler.url, true)];
    owners[0].post(session(1 << 50)).await.unwrap();
    for many in [16, 128] {
        while owners.len() < many {
            owners.push(open(&pooler.url, true));
        }
        let fared = fare(&owners, Duration::from_secs(2)).await;
        println!("behind a pooler of 8, {fared}");
    }
    let report = owners[0].verify().await.unwrap();
    assert_eq!(report.problems, [] as [String; 0]);
}
