//! What was never paid is not remembered as paid first.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use farepass::budget::facts::key;
use farepass::budget::{Asked, Fact};
use farepass::money::Usd;
use farepass::payer::Signed;
use farepass::payment::{ApprovalId, Reason, Refusal, RequestKey};
use farepass::settings::Unproven;
use farepass::wallet::WalletError;
use http::StatusCode;

use super::stage::{Setup, Stage, offer, paid, pay, receipt};

const RIGHT: &str = "0x209693bc6afc0c5328ba36faf03c514ef312287c";
const WRONG: &str = "0x70997970c51812dc3a010c7d01b50e0d17dc79c9";

const PINNED: &str = "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", pay_to: first-seen, max_price_increase: 20% }
";

async fn stage(policy: &'static str) -> Stage {
    let setup = Setup {
        policy,
        budget: Usd(100_000_000_000),
        unproven: Unproven::Release,
        ..Setup::default()
    };
    setup.stage().await
}

/// With a wallet that says that it signed nothing.
async fn unsigned(stage: &Stage, amount: &str, pay_to: &str) {
    *stage.wallet.answer.lock().unwrap() = Err(WalletError::Declined("down".into()));
    let why = reason(pay(stage, amount, pay_to).await);
    assert_eq!(why, Reason::WalletUnavailable);
    *stage.wallet.answer.lock().unwrap() = Ok(());
    stage.ledger.flush().await.unwrap();
}

async fn delivered(stage: &Stage, signed: Signed) {
    let headers = receipt(&paid());
    let answer = Some((StatusCode::OK, &headers));
    assert_eq!(stage.payer.settle(signed, answer).await.refusal, None);
}

fn reason<T>(result: Result<T, Refusal>) -> Reason {
    result.err().expect("a refusal").reason
}

/// How many facts are known of merchants, in a book that is as its records say.
async fn known(stage: &Stage) -> usize {
    stage.ledger.flush().await.unwrap();
    let report = stage.ledger.verify().await.unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    stage.ledger.facts(key::MERCHANTS).await.unwrap().len()
}

#[tokio::test]
async fn what_was_never_signed_pins_no_recipient_and_no_price() {
    let stage = stage(PINNED).await;
    unsigned(&stage, "1000", WRONG).await;
    assert_eq!(known(&stage).await, 0);
    delivered(&stage, pay(&stage, "5000", RIGHT).await.unwrap()).await;
    assert_eq!(known(&stage).await, 3, "host, recipient, price");
    assert_eq!(
        reason(pay(&stage, "5000", WRONG).await),
        Reason::RecipientChanged
    );
    // A lower price that nobody got does not stay the one to compare with.
    unsigned(&stage, "1000", RIGHT).await;
    delivered(&stage, pay(&stage, "6000", RIGHT).await.unwrap()).await;
    assert_eq!(
        reason(pay(&stage, "6001", RIGHT).await),
        Reason::PriceChanged
    );
    assert_eq!(known(&stage).await, 3);
}

#[tokio::test]
async fn a_host_that_was_never_paid_is_still_a_new_one() {
    let stage = stage(
        "
rules:
  - name: small
    match: { hosts: [api.example.com], methods: [POST] }
    pay: { max: \"0.01 USD\" }
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", approval: { first_host: true } }
",
    )
    .await;
    let small = farepass::payment::Asked {
        method: http::Method::POST,
        ..stage.asked("api.example.com")
    };
    *stage.wallet.answer.lock().unwrap() = Err(WalletError::Declined("down".into()));
    let why = reason(stage.payer.authorize(&small, &offer("1000", WRONG)).await);
    assert_eq!(why, Reason::WalletUnavailable);
    *stage.wallet.answer.lock().unwrap() = Ok(());
    stage.ledger.flush().await.unwrap();
    assert_eq!(
        reason(pay(&stage, "900000", WRONG).await),
        Reason::ApprovalRequired
    );
}

/// Whoever is paid while another payment comes to nothing stays known.
#[tokio::test]
async fn a_payment_that_stands_keeps_what_both_made_known() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup {
        policy: PINNED,
        budget: Usd(100_000_000_000),
        unproven: Unproven::Release,
        ledger: Some(farepass::ledger::open(dir.path()).unwrap()),
        ..Setup::default()
    };
    let stage = setup.stage().await;
    let lost = pay(&stage, "1000", RIGHT).await.unwrap();
    let stands = pay(&stage, "1100", RIGHT).await.unwrap();
    let lost_too = pay(&stage, "1000", RIGHT).await.unwrap();
    for signed in [lost, lost_too] {
        stage.payer.settle(signed, None).await;
    }
    delivered(&stage, stands).await;
    assert_eq!(known(&stage).await, 3);
    stage.clock.0.fetch_add(1_000, Ordering::SeqCst);
    assert_eq!(stage.payer.sweep().await.unwrap(), 2, "released");
    assert_eq!(known(&stage).await, 3);
    assert_eq!(
        reason(pay(&stage, "1100", WRONG).await),
        Reason::RecipientChanged
    );
    let facts = stage.ledger.facts(key::MERCHANTS).await.unwrap();
    let prices = facts.iter().filter_map(|(_, fact)| match fact {
        farepass::budget::Fact::Price { lowest, .. } => Some(*lowest),
        _ => None,
    });
    assert_eq!(
        prices.collect::<Vec<_>>(),
        [Usd(1_100_000)],
        "the lowest that was paid"
    );
}

/// The merchant gave what was asked for and no receipt: it may have been paid, whatever can be proven.
#[tokio::test]
async fn who_delivered_stays_known_though_the_money_is_given_back() {
    let stage = stage(PINNED).await;
    let signed = pay(&stage, "1000", RIGHT).await.unwrap();
    let answer = Some((StatusCode::OK, &http::HeaderMap::new()));
    stage.payer.settle(signed, answer).await;
    assert_eq!(known(&stage).await, 3);
    stage.clock.0.fetch_add(1_000, Ordering::SeqCst);
    assert_eq!(stage.payer.sweep().await.unwrap(), 1, "released");
    assert_eq!(known(&stage).await, 3);
    assert_eq!(
        reason(pay(&stage, "1000", WRONG).await),
        Reason::RecipientChanged
    );
}

/// All of them expire: then nothing was paid there.
#[tokio::test]
async fn payments_that_all_expire_leave_nothing_known() {
    let stage = stage(PINNED).await;
    for amount in ["1000", "1100", "900"] {
        let signed = pay(&stage, amount, WRONG).await.unwrap();
        stage.payer.settle(signed, None).await;
    }
    assert_eq!(known(&stage).await, 3);
    stage.clock.0.fetch_add(1_000, Ordering::SeqCst);
    assert_eq!(stage.payer.sweep().await.unwrap(), 3, "released");
    assert_eq!(known(&stage).await, 0);
}

/// The list of those behind a fact ends, so that it does not grow with every payment.
#[tokio::test]
async fn what_many_payments_stand_behind_is_known_for_good() {
    let stage = stage(PINNED).await;
    for _ in 0..20 {
        delivered(&stage, pay(&stage, "1000", RIGHT).await.unwrap()).await;
    }
    for (key, fact) in stage.ledger.facts(key::MERCHANTS).await.unwrap() {
        let text = serde_json::to_string(&fact).unwrap();
        assert!(!text.contains("behind"), "{key}: {text}");
    }
    unsigned(&stage, "1000", RIGHT).await;
    assert_eq!(known(&stage).await, 3);
    let again = Setup {
        policy: PINNED,
        ledger: Some(Arc::clone(&stage.ledger)),
        ..Setup::default()
    };
    let again = again.stage().await;
    assert_eq!(
        reason(pay(&again, "1000", WRONG).await),
        Reason::RecipientChanged
    );
}

/// A wallet that is away does not use up what a person said, nor the places of a rate: no payment was made.
#[tokio::test]
async fn what_was_never_signed_uses_up_no_approval_and_no_place() {
    let stage = stage(
        "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", rate: 1/h, approval: { above: \"0.001 USD\" } }
",
    )
    .await;
    let refusal = pay(&stage, "5000", RIGHT).await.err().unwrap();
    assert_eq!(refusal.reason, Reason::ApprovalRequired);
    let url = refusal.approve_url.unwrap();
    let id: ApprovalId = url.rsplit('/').next().unwrap().parse().unwrap();
    let yes = stage.payer.answer(id, true).await.unwrap().stage;
    for _ in 0..3 {
        unsigned(&stage, "5000", RIGHT).await;
        let facts = stage.ledger.facts(key::APPROVALS).await.unwrap();
        assert!(
            matches!(&*facts, [(_, Fact::Approval(asking))] if asking.stage == yes),
            "{facts:?}"
        );
    }
    delivered(&stage, pay(&stage, "5000", RIGHT).await.unwrap()).await;
    stage.ledger.flush().await.unwrap();
    let facts = stage.ledger.facts(key::APPROVALS).await.unwrap();
    let [(_, Fact::Approval(asking))] = &*facts else {
        panic!("{facts:?}");
    };
    let payment = stage.newest().await.id;
    assert_eq!(asking.stage, Asked::Used { payment });
    assert_eq!(reason(pay(&stage, "500", RIGHT).await), Reason::RateLimited);
    known(&stage).await;
}

/// An agent that goes in a circle is stopped whether its wallet answers or not.
#[tokio::test]
async fn identical_requests_are_counted_though_nothing_was_signed() {
    let setup = Setup {
        policy: PINNED,
        identical: Some("2/h".parse().unwrap()),
        ..Setup::default()
    };
    let stage = setup.stage().await;
    let mut asked = stage.asked("api.example.com");
    asked.request = Some(RequestKey([1; 32]));
    *stage.wallet.answer.lock().unwrap() = Err(WalletError::Declined("down".into()));
    let mut reasons = vec![];
    for _ in 0..3 {
        let paid = stage.payer.authorize(&asked, &offer("1000", RIGHT)).await;
        reasons.push(reason(paid));
    }
    let unsigned = Reason::WalletUnavailable;
    assert_eq!(reasons, [unsigned, unsigned, Reason::PaymentLoop]);
}
