//! The sweeper ends a payment while its answer comes in.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use farepass::event::{SpendEvent, State};
use farepass::ledger::{self, Ledger};
use farepass::settings::Unproven;
use http::{HeaderMap, StatusCode};

use crate::gate::Gate;
use crate::stage::{Setup, Stage, paid, receipt};

async fn raced(unproven: Unproven, headers: HeaderMap) -> (Stage, SpendEvent) {
    let gate = Gate::new(ledger::in_memory());
    let setup = Setup {
        unproven,
        ledger: Some(Arc::clone(&gate) as Arc<dyn Ledger>),
        ..Setup::default()
    };
    let stage = setup.stage().await;
    let signed = stage.buy("10000").await.unwrap_or_else(|r| panic!("{r}"));
    let id = signed.id();
    stage.clock.0.fetch_add(121, Ordering::SeqCst);
    // The answer has seen that its payment is open, and has not written yet what came.
    gate.shut();
    let payer = Arc::clone(&stage.payer);
    let answer = tokio::spawn(async move {
        payer.settle(signed, Some((StatusCode::OK, &headers))).await;
    });
    gate.reached.notified().await;
    stage.payer.sweep().await.unwrap();
    gate.open.notify_one();
    answer.await.unwrap();
    let row = stage.newest().await;
    assert_eq!(row.id, id);
    (stage, row)
}

#[tokio::test]
async fn an_answer_at_the_moment_of_the_end_leaves_the_right_word() {
    for (unproven, state, payments) in [
        (Unproven::Count, State::Settled, 1),
        (Unproven::Release, State::Released, 0),
    ] {
        let (stage, row) = raced(unproven, HeaderMap::new()).await;
        assert_eq!(row.state, state);
        assert_eq!(row.reason.as_deref(), Some("expired_unproven"));
        let status = row.delivery.map(|d| d.status);
        assert_eq!(status, Some(200), "what came is still known");
        assert_eq!(stage.spent().await.1, payments);
        assert_eq!(row.charged.is_some(), payments == 1);
        assert!(stage.ledger.open().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_claim_at_the_moment_of_the_end_is_kept() {
    let (stage, row) = raced(Unproven::Count, receipt(&paid())).await;
    assert_eq!((row.state, row.reason), (State::Settled, None));
    assert_eq!(row.receipt.as_deref(), Some("claimed"));
    assert!(row.transaction.is_some());
    assert_eq!(stage.spent().await.1, 1);
}

/// Given back before the claim came: it stays so until the chain says otherwise, and the claim is noted.
#[tokio::test]
async fn a_claim_after_a_release_is_noted() {
    let setup = Setup {
        unproven: Unproven::Release,
        ..Setup::default()
    };
    let stage = setup.stage().await;
    let signed = stage.buy("10000").await.unwrap_or_else(|r| panic!("{r}"));
    stage.clock.0.fetch_add(121, Ordering::SeqCst);
    assert_eq!(stage.payer.sweep().await, Ok(1));
    let headers = receipt(&paid());
    let answer = Some((StatusCode::OK, &headers));
    stage.payer.settle(signed, answer).await;
    let row = stage.newest().await;
    assert_eq!((row.state, row.charged), (State::Released, None));
    assert_eq!(row.receipt.as_deref(), Some("claimed"));
    assert_eq!(stage.spent().await.1, 0);
}

/// Many at once, in any order: the rows say what the sums say.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rows_and_sums_agree_whoever_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup {
        budget: farepass::money::Usd(1_000_000_000),
        ledger: Some(ledger::open(dir.path()).unwrap()),
        ..Setup::default()
    };
    let stage = setup.stage().await;
    let mut bought = vec![];
    for _ in 0..60 {
        bought.push(stage.buy("1").await.unwrap_or_else(|r| panic!("{r}")));
    }
    stage.clock.0.fetch_add(121, Ordering::SeqCst);
    let mut tasks = tokio::task::JoinSet::new();
    for (n, signed) in bought.into_iter().enumerate() {
        let payer = Arc::clone(&stage.payer);
        tasks.spawn(async move {
            let headers = match n % 2 {
                0 => HeaderMap::new(),
                _ => receipt(&paid()),
            };
            payer.settle(signed, Some((StatusCode::OK, &headers))).await;
        });
        if n % 20 == 0 {
            let payer = Arc::clone(&stage.payer);
            tasks.spawn(async move {
                payer.sweep().await.unwrap();
            });
        }
    }
    tasks.join_all().await;
    stage.payer.sweep().await.unwrap();
    stage.ledger.flush().await.unwrap();
    let rows = stage.ledger.payments(farepass::ledger::Filter::default());
    let rows = rows.await.unwrap();
    assert_eq!(rows.len(), 60);
    let claimed = rows
        .iter()
        .filter(|r| r.receipt.as_deref() == Some("claimed"));
    assert_eq!(claimed.count(), 30, "no receipt is lost");
    for row in rows {
        assert_eq!(row.state, State::Settled, "{row:?}");
        assert!(row.delivery.is_some(), "{row:?}");
    }
}
