//! The same request paid over and over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use farepass::chain::Chains;
use farepass::clock::Clock;
use farepass::money::Usd;
use farepass::payer::{Parts, Payer, Received, Settled};
use farepass::payment::{Asked, Nonce, PaymentId, Reason, Refusal, RequestKey};
use farepass::settings::Unproven;
use farepass::wallet::Wallet;
use http::{HeaderMap, StatusCode};

use crate::stage::{Setup, Stage, challenge, paid, policy, receipt};

async fn rich(identical: Option<&str>) -> Stage {
    let setup = Setup {
        budget: Usd(1_000_000_000_000),
        identical: identical.map(|rate| rate.parse().unwrap()),
        ..Setup::default()
    };
    setup.stage().await
}

/// One payment for this request, with a receipt in its answer.
async fn buy(stage: &Stage, payer: &Payer, key: u8, status: u16) -> Result<(), Refusal> {
    buy_at(stage, payer, (key, &format!("/v1/{key}")), status).await
}

async fn buy_at(
    stage: &Stage,
    payer: &Payer,
    (key, path): (u8, &str),
    status: u16,
) -> Result<(), Refusal> {
    let asked = Asked {
        request: Some(RequestKey([key; 32])),
        path: path.into(),
        ..stage.asked("api.example.com")
    };
    let signed = payer.authorize(&asked, &challenge("1")).await?;
    let headers: HeaderMap = receipt(&paid());
    let status = StatusCode::from_u16(status).unwrap();
    payer.settle(signed, Some((status, &headers))).await;
    Ok(())
}

/// Threat X-13: the merchant settles, and answers with an error that its client takes for a reason to try
/// again.
#[tokio::test]
async fn what_is_paid_and_brings_errors_is_paid_ten_times() {
    let stage = rich(None).await;
    for _ in 0..10 {
        buy(&stage, &stage.payer, 1, 422).await.unwrap();
    }
    let refusal = buy(&stage, &stage.payer, 1, 422).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::PaymentLoop);
    assert_eq!(refusal.rule.as_deref(), Some("data"));
    assert!(refusal.retryable, "{refusal:?}");
    let seconds = refusal.resets_at.unwrap().secs() - 1_800_000_000;
    assert_eq!(seconds, 60);
    assert_eq!(stage.spent().await.1, 10);
    assert_eq!(stage.newest().await.reason.as_deref(), Some("payment_loop"));
    buy(&stage, &stage.payer, 2, 422).await.unwrap();

    // No fresh start by a restart; one more after the pause; and all of them after a success.
    let restarted = stage.restarted().await;
    restarted.recall().await.unwrap();
    let refusal = buy(&stage, &restarted, 1, 200).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::PaymentLoop);
    stage.clock.0.fetch_add(60, Ordering::SeqCst);
    for _ in 0..20 {
        buy(&stage, &restarted, 1, 200).await.unwrap();
    }
}

/// A redirect that leads back to itself, each time for money.
#[tokio::test]
async fn a_circle_of_redirects_is_paid_ten_times() {
    let stage = rich(None).await;
    for _ in 0..10 {
        buy(&stage, &stage.payer, 1, 303).await.unwrap();
        buy(&stage, &stage.payer, 2, 303).await.unwrap();
    }
    for key in [1, 2] {
        let refusal = buy(&stage, &stage.payer, key, 303).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::PaymentLoop);
    }
    // One that is asked for every ten seconds is what is sold.
    for _ in 0..50 {
        buy(&stage, &stage.payer, 3, 303).await.unwrap();
        stage.clock.0.fetch_add(10, Ordering::SeqCst);
    }
}

/// A merchant that claims the money and fails is no better than one that claims nothing.
#[tokio::test]
async fn a_merchant_that_is_paid_and_fails_is_left_alone() {
    let stage = rich(None).await;
    for key in 0..5 {
        let request = (key, "/v1/x");
        buy_at(&stage, &stage.payer, request, 500).await.unwrap();
    }
    let sixth = buy_at(&stage, &stage.payer, (5, "/v1/x"), 500);
    let refusal = sixth.await.unwrap_err();
    assert_eq!(refusal.reason, Reason::CircuitOpen);
}

/// The head of an answer is no delivery.
#[tokio::test]
async fn a_merchant_that_breaks_its_paid_answers_off_is_left_alone() {
    let stage = rich(None).await;
    for key in 0..3 {
        let request = (key, "/v1/x");
        buy_at(&stage, &stage.payer, request, 500).await.unwrap();
    }
    for key in 3..5 {
        let settled = head(&stage, key, true).await;
        stage.payer.broken_off(settled.record.recourse.unwrap());
    }
    let sixth = buy_at(&stage, &stage.payer, (5, "/v1/x"), 200);
    let refusal = sixth.await.unwrap_err();
    assert_eq!(refusal.reason, Reason::CircuitOpen);
}

/// How the body of an answer ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Whole(u64),
    Cut(u64),
    Left(u64),
}

impl End {
    /// As the proxy tells it.
    async fn of(self, stage: &Stage, settled: Settled) {
        let recourse = settled.record.recourse.unwrap();
        let (whole, length) = match self {
            Self::Whole(length) => (true, length),
            Self::Cut(length) | Self::Left(length) => (false, length),
        };
        match self {
            Self::Whole(length) => stage.payer.arrived(recourse, length),
            Self::Cut(_) => stage.payer.broken_off(recourse),
            Self::Left(length) => stage.payer.hung_up(recourse, length),
        }
        let received = Received {
            length,
            digest: whole.then(|| "ab".repeat(32)),
            broken_off: matches!(self, Self::Cut(_)),
            echoed: false,
        };
        stage.payer.received(*settled.record.event, received).await;
    }
}

/// An answer with nothing in it, and no receipt, is none either. That an agent leaves is its own affair; a restart knows the same.
#[tokio::test]
async fn what_arrives_of_answers_tells_whether_a_merchant_is_paid_again() {
    for (claims, first, last, left_alone) in [
        (true, End::Cut(3), End::Cut(3), true),
        (false, End::Whole(0), End::Whole(0), true),
        (true, End::Whole(0), End::Whole(0), false),
        (true, End::Left(3), End::Left(0), false),
        (true, End::Cut(3), End::Left(0), false),
        (true, End::Cut(3), End::Left(3), false),
        (true, End::Cut(3), End::Whole(3), false),
    ] {
        let stage = rich(None).await;
        for key in 0..4 {
            first.of(&stage, head(&stage, key, claims).await).await;
        }
        last.of(&stage, head(&stage, 4, claims).await).await;
        stage.ledger.flush().await.unwrap();
        let restarted = with_times(&stage);
        restarted.recall().await.unwrap();
        for payer in [&*stage.payer, &restarted] {
            let next = buy_at(&stage, payer, (5, "/v1/x"), 200).await;
            let reason = next.err().map(|refusal| refusal.reason);
            let expected = left_alone.then_some(Reason::CircuitOpen);
            assert_eq!(reason, expected, "{first:?}, then {last:?}");
        }
    }
}

/// The head of a good answer to a payment.
async fn head(stage: &Stage, key: u8, claims: bool) -> Settled {
    let asked = Asked {
        request: Some(RequestKey([key; 32])),
        path: "/v1/x".into(),
        ..stage.asked("api.example.com")
    };
    let signed = stage.payer.authorize(&asked, &challenge("1")).await;
    let headers = match claims {
        true => receipt(&paid()),
        false => HeaderMap::new(),
    };
    let answer = Some((StatusCode::OK, &headers));
    stage.payer.settle(signed.unwrap(), answer).await
}

#[tokio::test]
async fn what_is_delivered_is_polled_as_fast_as_the_limit_allows() {
    let stage = rich(Some("300/m")).await;
    for _ in 0..300 {
        buy(&stage, &stage.payer, 1, 200).await.unwrap();
    }
    let refusal = buy(&stage, &stage.payer, 1, 200).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::PaymentLoop);
    assert!(refusal.retryable);
    let seconds = refusal.resets_at.unwrap().secs() - 1_800_000_000;
    assert!(seconds <= 1, "{seconds}");
    buy(&stage, &stage.payer, 2, 200).await.unwrap();
    // Five in each second from then on.
    for _ in 0..20 {
        stage.clock.0.fetch_add(1, Ordering::SeqCst);
        for _ in 0..5 {
            buy(&stage, &stage.payer, 1, 200).await.unwrap();
        }
    }
    let off = rich(None).await;
    for _ in 0..500 {
        buy(&off, &off.payer, 1, 200).await.unwrap();
    }
}

/// A process of its own, whose payments' ids say when they were made.
fn with_times(stage: &Stage) -> Payer {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let clock = Arc::clone(&stage.clock);
    Payer::new(Parts {
        policy: stage.payer.policy(),
        ledger: Arc::clone(&stage.ledger),
        wallets: vec![Arc::clone(&stage.wallet) as Arc<dyn Wallet>],
        clock: Arc::clone(&stage.clock) as Arc<dyn Clock>,
        fresh: Box::new(move || {
            let n = NEXT.fetch_add(1, Ordering::SeqCst);
            let mut nonce = [7; 32];
            nonce[24..].copy_from_slice(&n.to_be_bytes());
            let id = u128::from(clock.now().0) << 80 | u128::from(n);
            Some((PaymentId(id), Nonce(nonce)))
        }),
        sinks: vec![],
        unproven: Unproven::Count,
        admin_url: String::new(),
        stopped: Box::new(|| false),
        chains: Chains::default(),
    })
}

/// The count starts anew with no process.
#[tokio::test]
async fn a_restart_does_not_forget_how_often_a_request_was_paid() {
    let stage = rich(Some("5/h")).await;
    let payer = with_times(&stage);
    for _ in 0..5 {
        let asked = Asked {
            request: Some(RequestKey([1; 32])),
            ..stage.asked("api.example.com")
        };
        let signed = payer.authorize(&asked, &challenge("1")).await.unwrap();
        let headers = receipt(&paid());
        let settled = payer.settle(signed, Some((StatusCode::OK, &headers))).await;
        let whole = Received {
            length: 3,
            digest: Some("ab".repeat(32)),
            broken_off: false,
            echoed: false,
        };
        payer.received(*settled.record.event, whole).await;
    }
    stage.ledger.flush().await.unwrap();
    let restarted = with_times(&stage);
    restarted.recall().await.unwrap();
    let refusal = buy(&stage, &restarted, 1, 200).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::PaymentLoop);
    buy(&stage, &restarted, 2, 200).await.unwrap();
    stage.clock.0.fetch_add(720, Ordering::SeqCst);
    buy(&stage, &restarted, 1, 200).await.unwrap();
}

/// What counts is what was paid, whatever limit was in force then.
#[tokio::test]
async fn another_limit_does_not_forget_how_often_a_request_was_paid() {
    let stage = rich(Some("5/h")).await;
    let payer = with_times(&stage);
    let take = async |rate: Option<&str>| {
        let rate = rate.map(|rate| rate.parse().unwrap());
        let policy = policy(Setup::default().policy, rate);
        payer.set_policy(Arc::new(policy)).await;
    };
    let bought = async |most: u8| {
        for n in 0..most {
            if let Err(refusal) = buy(&stage, &payer, 1, 200).await {
                assert_eq!(refusal.reason, Reason::PaymentLoop);
                return n;
            }
        }
        most
    };
    assert_eq!(bought(9).await, 5);
    take(Some("6/h")).await;
    assert_eq!(bought(9).await, 1, "five of six were paid before");
    take(Some("5/h")).await;
    assert_eq!(bought(9).await, 0);
    take(None).await;
    assert_eq!(bought(2).await, 2);
    take(Some("10/h")).await;
    assert_eq!(bought(9).await, 2, "eight of ten were paid before");
    buy(&stage, &payer, 2, 200).await.unwrap();
}
