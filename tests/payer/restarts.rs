//! Paid for, not received, and asked again of another process with the same ledger.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use farepass::event::{Flag, State};
use farepass::payer::{Payer, Received, Waiting};
use farepass::payment::{Asked, PaymentId, Reason, Refusal, RequestKey};
use http::{HeaderMap, StatusCode};

use crate::stage::{Stage, challenge, paid, receipt};

impl Stage {
    fn again(&self) -> Asked {
        Asked {
            request: Some(RequestKey([1; 32])),
            ..self.asked("api.example.com")
        }
    }

    /// One payment that a receipt claims; whether the agent is still there for it, and what it was handed.
    async fn claimed(&self, status: u16, gone: bool, received: Option<Received>) -> PaymentId {
        let waiting = Arc::new(Waiting::default());
        let signed = self
            .payer
            .authorize(&self.again(), &challenge("1000"))
            .await;
        let signed = signed.unwrap().awaited(Arc::clone(&waiting));
        let (id, headers) = (signed.id(), receipt(&paid()));
        if gone {
            waiting.leave();
        }
        let answer = (StatusCode::from_u16(status).unwrap(), &headers);
        let settled = self.payer.settle(signed, Some(answer)).await;
        if let Some(received) = received {
            self.payer.received(*settled.record.event, received).await;
        }
        let row = self.newest().await;
        assert_eq!((row.id, row.state), (id, State::Settled));
        id
    }

    /// Asks once more after a restart.
    async fn asks_again(&self) -> (Payer, Option<Refusal>) {
        let restarted = self.restarted().await;
        restarted.recall().await.unwrap();
        let signed = restarted.authorize(&self.again(), &challenge("1000")).await;
        (restarted, signed.err())
    }

    async fn is_owed(&self, id: PaymentId) {
        let (restarted, refusal) = self.asks_again().await;
        let refusal = refusal.expect("no second purchase");
        assert_eq!(refusal.reason, Reason::OutcomeUnknown);
        assert_eq!(refusal.payment, Some(id));
        assert!(
            refusal.detail.contains("did not arrive whole"),
            "{refusal:?}"
        );
        // As long as the payload lives, and no longer.
        let dies = refusal.resets_at.unwrap().secs() - 1_800_000_000;
        assert_eq!(dies, 120);
        assert_eq!(self.spent().await.1, 1);
        self.clock.0.fetch_add(dies, Ordering::SeqCst);
        let anew = restarted.authorize(&self.again(), &challenge("1000")).await;
        assert_ne!(anew.unwrap().id(), id);
    }
}

fn received(whole: bool, broken_off: bool) -> Received {
    Received {
        length: 3,
        digest: whole.then(|| "ab".repeat(32)),
        broken_off,
        echoed: false,
    }
}

#[tokio::test]
async fn an_agent_that_hung_up_is_owed_its_answer_after_a_restart() {
    for seen in [None, Some(received(false, false))] {
        let stage = Stage::usual().await;
        let id = stage.claimed(200, true, seen).await;
        stage.is_owed(id).await;
    }
}

#[tokio::test]
async fn half_an_answer_is_owed_after_a_restart() {
    let stage = Stage::usual().await;
    let id = stage.claimed(200, false, Some(received(false, true))).await;
    stage.is_owed(id).await;
}

/// The process died before it knew how much it handed over.
#[tokio::test]
async fn an_answer_that_a_crash_cut_is_owed_after_a_restart() {
    let stage = Stage::usual().await;
    let id = stage.claimed(200, false, None).await;
    stage.is_owed(id).await;
}

#[tokio::test]
async fn a_claim_beside_another_402_is_owed_after_a_restart() {
    let stage = Stage::usual().await;
    let id = stage.claimed(402, false, None).await;
    stage.is_owed(id).await;
}

/// As without the restart: what the agent has, or left by its own choice, is bought anew.
#[tokio::test]
async fn what_an_agent_has_or_left_is_bought_anew_after_a_restart() {
    for seen in [received(true, false), received(false, false)] {
        let stage = Stage::usual().await;
        stage.claimed(200, false, Some(seen)).await;
        let (_, refusal) = stage.asks_again().await;
        assert_eq!(refusal, None);
        assert_eq!(stage.spent().await.1, 2);
    }
}

/// Another process had it on its way when this one started, and brought it since, or half of it.
#[tokio::test]
async fn what_was_on_its_way_at_the_start_is_looked_up_again() {
    for (seen, brought) in [
        (received(true, false), true),
        (received(false, true), false),
    ] {
        let stage = Stage::usual().await;
        let signed = stage
            .payer
            .authorize(&stage.again(), &challenge("1000"))
            .await;
        let signed = signed.unwrap();
        let (other, refusal) = stage.asks_again().await;
        assert_eq!(refusal.unwrap().payment, Some(signed.id()));
        let headers = receipt(&paid());
        let answer = (StatusCode::OK, &headers);
        let settled = stage.payer.settle(signed, Some(answer)).await;
        stage
            .payer
            .received(*settled.record.event, seen.clone())
            .await;
        if seen.broken_off {
            stage.payer.broken_off(settled.record.recourse.unwrap());
        }
        stage.ledger.flush().await.unwrap();
        let again = other.authorize(&stage.again(), &challenge("1000")).await;
        assert_eq!(again.is_ok(), brought, "{seen:?}");
    }
}

/// Owed once, then fetched with the same payload: paid off.
#[tokio::test]
async fn what_was_fetched_later_is_owed_no_more() {
    let stage = Stage::usual().await;
    let id = stage.claimed(200, true, Some(received(false, false))).await;
    let got = stage.claimed(200, false, Some(received(true, false))).await;
    assert_eq!(id, got, "the same payment");
    let (_, refusal) = stage.asks_again().await;
    assert_eq!(refusal, None);
}

/// The first answer, an error, ends after the second one, which brought goods and receipt.
#[tokio::test]
async fn the_end_of_an_earlier_answer_takes_nothing_back() {
    let stage = Stage::usual().await;
    let buy = async || {
        let signed = stage
            .payer
            .authorize(&stage.again(), &challenge("1000"))
            .await;
        signed.unwrap_or_else(|r| panic!("{r}"))
    };
    let (failed, none) = (StatusCode::INTERNAL_SERVER_ERROR, HeaderMap::new());
    let first = stage.payer.settle(buy().await, Some((failed, &none))).await;
    let headers = receipt(&paid());
    let second = buy().await;
    let id = second.id();
    let second = stage
        .payer
        .settle(second, Some((StatusCode::OK, &headers)))
        .await;
    let whole = received(true, false);
    stage
        .payer
        .received(*second.record.event, whole.clone())
        .await;
    let echoed = Received {
        echoed: true,
        ..whole
    };
    stage.payer.received(*first.record.event, echoed).await;
    let row = stage.newest().await;
    assert_eq!((row.id, row.state), (id, State::Settled));
    assert_eq!(row.receipt.as_deref(), Some("claimed"));
    assert!(row.transaction.is_some() && !row.owed);
    assert_eq!(row.delivery.map(|d| d.status), Some(200));
    assert!(
        row.flags.contains(&Flag::AuthorizationEchoed),
        "but that is known"
    );
}
