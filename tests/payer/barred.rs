//! What was signed before, or is just being signed, when the operator changes his mind: the policy, the session, a
//! freeze, a person's no.

use std::sync::Arc;
use std::time::Duration;

use super::control::{ASKING, id_of, stage, waiting};
use super::stage::{POLICY, Stage, challenge, policy};
use farepass::budget::Frozen;
use farepass::clock::Clock as _;
use farepass::event::State;
use farepass::ledger::sessions;
use farepass::money::Usd;
use farepass::payer::{Signed, Unpaid};
use farepass::payment::{Asked, PaymentId, Reason, Refusal, RequestKey};

/// A request, and its payment, of which nobody knows what became.
async fn lost(stage: &Stage) -> (Asked, PaymentId) {
    let mut asked = stage.asked("api.example.com");
    asked.request = Some(RequestKey([7; 32]));
    let signed = again(stage, &asked).await.unwrap();
    let id = signed.id();
    let settled = stage.payer.settle(signed, None).await;
    assert_eq!(settled.refusal.unwrap().reason, Reason::OutcomeUnknown);
    (asked, id)
}

async fn again(stage: &Stage, asked: &Asked) -> Result<Signed, Refusal> {
    stage.payer.authorize(asked, &challenge("10000")).await
}

async fn refused(stage: &Stage, asked: &Asked) -> Refusal {
    again(stage, asked).await.err().expect("a refusal")
}

/// The payload goes out again, the same one.
async fn goes(stage: &Stage, asked: &Asked, id: PaymentId) {
    assert_eq!(again(stage, asked).await.unwrap().id(), id);
    assert_eq!(stage.wallet.seen.lock().unwrap().len(), 1, "signatures");
}

async fn take(stage: &Stage, text: &'static str) {
    let policy = Arc::new(policy(text, None));
    stage.payer.set_policy(policy).await;
}

#[tokio::test]
async fn what_the_policy_pays_no_more_does_not_go_out_again() {
    const OBSERVES: &str = "
mode: observe
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"0.05 USD\" }
";
    const DENIES: &str = "
rules:
  - name: never
    match: { hosts: [api.example.com], paths: [\"/v1/*\"] }
    deny: true
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"0.05 USD\" }
";
    const HOLDS: &str = "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"0.05 USD\", on_unknown: hold }
";
    for (text, reason) in [
        (OBSERVES, Reason::ObserveMode),
        (DENIES, Reason::DeniedByRule),
        (HOLDS, Reason::OutcomeUnknown),
    ] {
        let stage = Stage::usual().await;
        let (asked, id) = lost(&stage).await;
        take(&stage, text).await;
        for _ in 0..5 {
            assert_eq!(refused(&stage, &asked).await.reason, reason, "{text}");
        }
        // What is kept back uses up none of its sendings.
        take(&stage, POLICY).await;
        goes(&stage, &asked, id).await;
        assert_eq!(stage.spent().await, (Usd(10_000_000), 1));
    }
}

/// Two retries at once are two of the three, in whichever order they end.
#[tokio::test]
async fn retries_at_once_send_no_more_than_retries_in_turn() {
    let stage = Stage::usual().await;
    let (asked, id) = lost(&stage).await;
    let first = again(&stage, &asked).await.unwrap();
    let second = again(&stage, &asked).await.unwrap();
    for signed in [second, first] {
        assert_eq!(signed.id(), id);
        let settled = stage.payer.settle(signed, None).await;
        assert_eq!(settled.refusal.unwrap().reason, Reason::OutcomeUnknown);
    }
    let third = again(&stage, &asked).await.unwrap();
    assert_eq!(third.id(), id);
    stage.payer.settle(third, None).await;
    assert_eq!(refused(&stage, &asked).await.reason, Reason::OutcomeUnknown);
}

#[tokio::test]
async fn nothing_goes_out_again_for_a_session_that_is_over() {
    let stage = Stage::usual().await;
    let (asked, id) = lost(&stage).await;
    let session = &stage.session.id;
    let now = stage.clock.now();
    sessions::close(&*stage.ledger, session, now).await.unwrap();
    let refusal = refused(&stage, &asked).await;
    assert_eq!(refusal.reason, Reason::SessionClosed);
    assert_eq!(refusal.payment, Some(id));

    let stage = Stage::usual().await;
    let (mut asked, id) = lost(&stage).await;
    let mut over = (*asked.session).clone();
    over.expires = stage.clock.now();
    asked.session = Arc::new(over);
    let refusal = refused(&stage, &asked).await;
    assert_eq!(refusal.reason, Reason::SessionExpired);
    assert_eq!(refusal.payment, Some(id));
}

#[tokio::test]
async fn what_was_frozen_while_the_wallet_signed_does_not_leave() {
    let stage = Arc::new(Stage::usual().await);
    let mut asked = stage.asked("api.example.com");
    asked.request = Some(RequestKey([7; 32]));
    let shut = stage.wallet.gate.lock().await;
    let buying = tokio::spawn({
        let (stage, asked) = (Arc::clone(&stage), asked.clone());
        async move { again(&stage, &asked).await }
    });
    while stage.wallet.seen.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    stage.payer.freeze(Frozen::All, "stop").await.unwrap();
    drop(shut);
    let refusal = buying.await.unwrap().err().expect("a refusal");
    assert_eq!(refusal.reason, Reason::Frozen);
    let id = refusal.payment.expect("its payment");
    let newest = stage.newest().await;
    assert_eq!((newest.id, newest.state), (id, State::Unknown));
    assert_eq!(stage.spent().await, (Usd(10_000_000), 1), "it counts");
    // After the thaw it goes out, the same one.
    stage.payer.unfreeze(Frozen::All).await.unwrap();
    goes(&stage, &asked, id).await;
}

#[tokio::test]
async fn a_no_pays_for_nobody_who_waited_for_it() {
    let stage = stage(ASKING).await;
    let mut pending = waiting(&stage, "20000").await;
    assert!(
        stage.payer.turned_down(&pending).await.is_none(),
        "no answer"
    );
    let id = id_of(&pending.refusal);
    take(&stage, POLICY).await;
    stage.payer.answer(id, false).await.unwrap();
    pending.answered().await;
    let refusal = stage.payer.turned_down(&pending).await.unwrap();
    assert_eq!(refusal.reason, Reason::ApprovalDenied);
    assert_eq!(refusal.rule.as_deref(), Some("data"));
    assert_eq!(stage.newest().await.state, State::Denied);
}

#[tokio::test]
async fn nobody_waits_for_a_person_beyond_the_end_of_the_session() {
    let stage = stage(ASKING).await;
    let mut asked = stage.asked("api.example.com");
    let mut short = (*asked.session).clone();
    short.expires = stage.clock.now().after_secs(1);
    asked.session = Arc::new(short);
    let mut pending = match stage
        .payer
        .consider(&asked, &challenge("20000"), None)
        .await
    {
        Err(Unpaid::Pending(pending)) => pending,
        Err(Unpaid::Refused(_)) | Ok(_) => panic!("no question"),
    };
    let soon = Duration::from_secs(60);
    let ended = tokio::time::timeout(soon, pending.answered()).await;
    assert!(ended.is_ok(), "it waits for what buys nothing");
}
