//! Paid for, not received, and asked again of another process with the same ledger.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use farepass::event::{Flag, State};
use farepass::ledger::{self, Ledger};
use farepass::payer::{Payer, Received, Signed, Waiting};
use farepass::payment::{Asked, PaymentId, Reason, Refusal, RequestKey};
use http::{HeaderMap, StatusCode};

use crate::gate::Gate;
use crate::stage::{Setup, Stage, challenge, paid, receipt};

impl Stage {
    fn again(&self) -> Asked {
        Asked {
            request: Some(RequestKey([1; 32])),
            ..self.asked("api.example.com")
        }
    }

    async fn authorizes(&self) -> Result<Signed, Refusal> {
        let (asked, terms) = (self.again(), challenge("1000"));
        self.payer.authorize(&asked, &terms).await
    }

    async fn buys(&self) -> Signed {
        self.authorizes().await.unwrap_or_else(|r| panic!("{r}"))
    }

    /// One payment that a receipt claims; whether the agent is still there for it, and what it was handed.
    async fn claimed(&self, status: u16, gone: bool, received: Option<Received>) -> PaymentId {
        let waiting = Arc::new(Waiting::default());
        let signed = self.buys().await.awaited(Arc::clone(&waiting));
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
        let signed = stage.buys().await;
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

/// Threat M-11: the merchant takes the money and fails. Its own retry is what an agent does then.
#[tokio::test]
async fn a_servers_error_is_no_answer_whatever_its_receipt_says() {
    let stage = Stage::usual().await;
    let whole = || Some(received(true, false));
    let id = stage.claimed(503, false, whole()).await;
    assert_eq!(stage.buys().await.id(), id, "the same payload");
    stage.is_owed(id).await;
    // What is blamed on the request may be what is sold.
    let stage = Stage::usual().await;
    let id = stage.claimed(404, false, whole()).await;
    assert_ne!(stage.buys().await.id(), id);
}

/// A 204 without a receipt is whole when its head has come, also when nobody is there to take it.
#[tokio::test]
async fn an_answer_without_a_body_is_owed_after_a_restart() {
    for gone in [true, false] {
        let stage = Stage::usual().await;
        let waiting = Arc::new(Waiting::default());
        let signed = stage.buys().await.awaited(Arc::clone(&waiting));
        let id = signed.id();
        if gone {
            waiting.leave();
        }
        let none = HeaderMap::new();
        let answer = Some((StatusCode::NO_CONTENT, &none));
        let settled = stage.payer.settle(signed, answer).await;
        let empty = Received {
            length: 0,
            ..received(true, false)
        };
        stage.payer.received(*settled.record.event, empty).await;
        assert_eq!(stage.newest().await.state, State::Unknown);
        let (_, refusal) = stage.asks_again().await;
        let owed = refusal.and_then(|r| r.payment);
        assert_eq!(owed, gone.then_some(id));
    }
}

/// Two retries carry one payload at once: one gets the goods, the other another 402.
#[tokio::test]
async fn of_two_retries_at_once_the_one_that_brought_something_stands() {
    for goods_first in [true, false] {
        let stage = Stage::usual().await;
        let lost = stage.buys().await;
        let id = lost.id();
        stage.payer.settle(lost, None).await;
        let (one, other) = (stage.buys().await, stage.buys().await);
        assert_eq!([one.id(), other.id()], [id, id]);
        let bring = async |signed| {
            let headers = receipt(&paid());
            let answer = Some((StatusCode::OK, &headers));
            let settled = stage.payer.settle(signed, answer).await;
            let whole = received(true, false);
            stage.payer.received(*settled.record.event, whole).await;
        };
        let refuse = async |signed| {
            let (demand, none) = (StatusCode::PAYMENT_REQUIRED, HeaderMap::new());
            let settled = stage.payer.settle(signed, Some((demand, &none))).await;
            assert_eq!(settled.refusal.unwrap().reason, Reason::AlreadyPaid);
        };
        if goods_first {
            bring(one).await;
            refuse(other).await;
        } else {
            refuse(other).await;
            bring(one).await;
        }
        let row = stage.newest().await;
        assert_eq!((row.id, row.state), (id, State::Settled));
        assert_eq!(row.receipt.as_deref(), Some("claimed"));
        assert!(row.transaction.is_some() && !row.owed);
        assert_eq!(row.delivery.map(|d| d.status), Some(200), "{goods_first}");
        assert_eq!(row.flags, [], "{goods_first}");
        assert_ne!(
            stage.buys().await.id(),
            id,
            "paid off: the next is a purchase"
        );
    }
}

/// The head comes and the body breaks off, every time.
#[tokio::test]
async fn answers_that_break_off_do_not_make_a_payload_go_out_for_ever() {
    let stage = Stage::usual().await;
    let mut ids = vec![];
    for _ in 0..4 {
        let signed = stage.buys().await;
        ids.push(signed.id());
        let none = HeaderMap::new();
        let answer = Some((StatusCode::OK, &none));
        let settled = stage.payer.settle(signed, answer).await;
        let half = received(false, true);
        stage.payer.received(*settled.record.event, half).await;
        stage.payer.broken_off(settled.record.recourse.unwrap());
    }
    assert_eq!(ids, [ids[0]; 4], "once, and three times again");
    let refusal = stage.authorizes().await.err().unwrap();
    assert_eq!(refusal.reason, Reason::OutcomeUnknown);
    assert_eq!(refusal.payment, Some(ids[0]));
}

/// Before its end is written, and without a word of the connection, which answered already.
#[tokio::test]
async fn whoever_left_an_answer_that_had_begun_is_not_sold_another() {
    let stage = Stage::usual().await;
    let waiting = Arc::new(Waiting::default());
    stage.payer.begin(RequestKey([1; 32]), &waiting);
    let signed = stage.buys().await.awaited(waiting);
    drop(signed.presence());
    let refusal = stage.authorizes().await.err().unwrap();
    assert_eq!(refusal.reason, Reason::OutcomeUnknown);
    assert_eq!(refusal.payment, Some(signed.id()));
    stage.payer.settle(signed, None).await;
    assert_eq!(stage.spent().await.1, 1);
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
    let (failed, none) = (StatusCode::INTERNAL_SERVER_ERROR, HeaderMap::new());
    let first = stage
        .payer
        .settle(stage.buys().await, Some((failed, &none)))
        .await;
    let headers = receipt(&paid());
    let second = stage.buys().await;
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

/// The first answer, an error, ends while the second one brings the receipt: whichever is told first, and however the
/// two interleave, the receipt stays (threat M-08).
#[tokio::test]
async fn the_end_of_an_error_and_a_receipt_at_once_leave_the_receipt() {
    let gate = Gate::new(ledger::in_memory());
    let setup = Setup {
        ledger: Some(Arc::clone(&gate) as Arc<dyn Ledger>),
        ..Setup::default()
    };
    let stage = setup.stage().await;
    let (failed, none) = (StatusCode::SERVICE_UNAVAILABLE, HeaderMap::new());
    let first = stage.buys().await;
    let id = first.id();
    let first = stage.payer.settle(first, Some((failed, &none))).await;
    let second = stage.buys().await;
    assert_eq!(second.id(), id, "the same payload");
    // It has read what there is, and has not written yet.
    gate.shut();
    let payer = Arc::clone(&stage.payer);
    let ends = tokio::spawn(async move {
        let whole = received(true, false);
        payer.received(*first.record.event, whole).await;
    });
    gate.reached.notified().await;
    let headers = receipt(&paid());
    let answer = Some((StatusCode::OK, &headers));
    stage.payer.settle(second, answer).await;
    gate.open.notify_one();
    ends.await.unwrap();
    let row = stage.newest().await;
    assert_eq!((row.id, row.state), (id, State::Settled));
    assert_eq!(row.receipt.as_deref(), Some("claimed"));
    assert!(row.transaction.is_some() && !row.owed);
}

/// As of two retries at once, whose answers have both begun before either ends.
#[tokio::test]
async fn of_two_answers_that_end_together_the_one_with_the_goods_is_recorded() {
    for goods_end_first in [true, false] {
        let stage = Stage::usual().await;
        let lost = stage.buys().await;
        stage.payer.settle(lost, None).await;
        let (one, other) = (stage.buys().await, stage.buys().await);
        let headers = receipt(&paid());
        let goods = stage.payer.settle(one, Some((StatusCode::OK, &headers)));
        let goods = goods.await;
        let (demand, none) = (StatusCode::PAYMENT_REQUIRED, HeaderMap::new());
        let denied = stage.payer.settle(other, Some((demand, &none))).await;
        let mut ends = [goods.record.event, denied.record.event];
        if !goods_end_first {
            ends.reverse();
        }
        for event in ends {
            stage.payer.received(*event, received(true, false)).await;
        }
        let row = stage.newest().await;
        assert_eq!(row.receipt.as_deref(), Some("claimed"));
        let status = row.delivery.map(|d| d.status);
        assert_eq!((status, row.flags), (Some(200), vec![]));
    }
}

/// While nothing can be stored, the newest that is found of a payment is its reservation, which is no answer.
#[tokio::test]
async fn what_cannot_be_stored_yet_is_not_taken_back_by_the_end_of_its_answer() {
    let gate = Gate::new(ledger::in_memory());
    let setup = Setup {
        ledger: Some(Arc::clone(&gate) as Arc<dyn Ledger>),
        ..Setup::default()
    };
    let stage = setup.stage().await;
    let signed = stage.buys().await;
    let reserved = stage.newest().await;
    assert_eq!(
        (reserved.id, reserved.state),
        (signed.id(), State::Reserved)
    );
    *gate.stale.lock().unwrap() = Some(reserved);
    let (failed, none) = (StatusCode::SERVICE_UNAVAILABLE, HeaderMap::new());
    let settled = stage.payer.settle(signed, Some((failed, &none))).await;
    let echoed = Received {
        echoed: true,
        ..received(true, false)
    };
    stage.payer.received(*settled.record.event, echoed).await;
    *gate.stale.lock().unwrap() = None;
    let row = stage.newest().await;
    assert_eq!(row.state, State::Unknown);
    assert_eq!(row.delivery.map(|d| d.status), Some(503));
    let flags = [Flag::PaidNotDelivered, Flag::AuthorizationEchoed];
    assert_eq!(row.flags, flags);
}
