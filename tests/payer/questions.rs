//! What a person was asked stays asked, whatever else is paid meanwhile; and nobody is asked for nothing.

use std::sync::atomic::Ordering;

use farepass::budget::Fact;
use farepass::budget::facts::key;
use farepass::clock::Clock as _;
use farepass::money::{Amount, Usd};
use farepass::payer::{Pending, Signed, Unpaid};
use farepass::payment::{ApprovalId, Asked, Reason, Refusal, Requirement, Tool};
use farepass::policy::Question;
use http::StatusCode;

use super::stage::{MERCHANT, Setup, Stage, offer, paid, pay, receipt};

const FIRST: &str = "0x209693bc6afc0c5328ba36faf03c514ef312287c";
const OTHER: &str = "0x70997970c51812dc3a010c7d01b50e0d17dc79c9";

/// With a budget of a hundred dollars.
async fn stage(policy: &'static str) -> Stage {
    let setup = Setup {
        policy,
        budget: Usd(100_000_000_000),
        ..Setup::default()
    };
    setup.stage().await
}

async fn call(stage: &Stage, tool: &str, amount: &str) -> Result<Signed, Refusal> {
    let asked = Asked {
        tool: Tool::Named(tool.into()),
        ..stage.asked("api.example.com")
    };
    let offer = offer(amount, FIRST);
    stage.payer.authorize(&asked, &offer).await
}

async fn waiting(stage: &Stage, amount: &str, pay_to: &str) -> Pending {
    let asked = stage.asked("api.example.com");
    let offer = offer(amount, pay_to);
    match stage.payer.consider(&asked, &offer, None).await {
        Err(Unpaid::Pending(pending)) => *pending,
        Err(Unpaid::Refused(refusal)) => panic!("{refusal}"),
        Ok(_) => panic!("paid without a question"),
    }
}

async fn delivered(stage: &Stage, signed: Signed) {
    let headers = receipt(&paid());
    let answer = Some((StatusCode::OK, &headers));
    assert_eq!(stage.payer.settle(signed, answer).await.refusal, None);
}

fn id_of(refusal: &Refusal) -> ApprovalId {
    let url = refusal.approve_url.as_deref().unwrap();
    url.rsplit('/').next().unwrap().parse().unwrap()
}

/// The refusal that a question answers with.
fn question(result: Result<Signed, Refusal>) -> Refusal {
    let refusal = result.err().expect("a question");
    assert_eq!(refusal.reason, Reason::ApprovalRequired, "{refusal}");
    refusal
}

fn reason<T>(result: Result<T, Refusal>) -> Reason {
    result.err().expect("a refusal").reason
}

const SHORT: &str = "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", approval: { first_host: true, wait: 60s, valid: 90s } }
";

const FIRST_HOST: &str = "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", approval: { first_host: true, wait: 10m } }
";

#[tokio::test]
async fn a_no_holds_also_when_its_reason_is_gone() {
    let stage = stage(FIRST_HOST).await;
    let cheap = waiting(&stage, "10000", FIRST).await;
    let mut dear = waiting(&stage, "900000", OTHER).await;
    let answer = async |pending: &Pending, yes| {
        let id = id_of(&pending.refusal);
        stage.payer.answer(id, yes).await.unwrap();
    };
    answer(&cheap, true).await;
    delivered(&stage, pay(&stage, "10000", FIRST).await.unwrap()).await;
    // The host is no new one any more, but this was asked and is denied.
    answer(&dear, false).await;
    dear.answered().await;
    for _ in 0..2 {
        let why = reason(pay(&stage, "900000", OTHER).await);
        assert_eq!(why, Reason::ApprovalDenied);
    }
    assert_eq!(stage.spent().await.1, 1);
    // Other terms were never asked about, and need not be.
    delivered(&stage, pay(&stage, "800000", OTHER).await.unwrap()).await;
}

/// The commands and the dashboard read the wall, so that they show what waits.
#[tokio::test]
async fn a_question_that_is_asked_after_the_wall_was_set_forward_waits_for_its_answer() {
    let stage = stage(SHORT).await;
    let early = waiting(&stage, "10000", FIRST).await;
    stage.clock.1.store(125, Ordering::SeqCst);
    let gone = stage.payer.answer(id_of(&early.refusal), true).await;
    assert!(gone.is_err(), "it is over by the wall");
    let pending = waiting(&stage, "10000", FIRST).await;
    let facts = stage.ledger.facts(key::APPROVALS).await.unwrap();
    let Some((_, Fact::Approval(asking))) = facts.into_iter().next() else {
        panic!("no question");
    };
    let wall = stage.clock.wall();
    assert!(asking.waits(wall) && !asking.waits(wall.after_secs(90)));
    let id = id_of(&pending.refusal);
    stage.payer.answer(id, true).await.unwrap();
    delivered(&stage, pay(&stage, "10000", FIRST).await.unwrap()).await;
    let newest = stage.newest().await.time;
    assert!(
        newest < wall,
        "the records go by the clock that nobody sets"
    );
}

/// Its server may take it for another one, but it is the one that the person saw.
#[tokio::test]
async fn a_yes_is_for_one_resource_however_its_uri_is_spelled() {
    let stage = stage(FIRST_HOST).await;
    let read = async |uri: &str| {
        let asked = Asked {
            tool: Tool::resource(uri),
            ..stage.asked("api.example.com")
        };
        let offer = offer("10000", FIRST);
        stage.payer.authorize(&asked, &offer).await
    };
    let report = id_of(&question(read("docs://reports/q1 2025").await));
    let vault = id_of(&question(read("docs://vault/all the keys").await));
    assert_ne!(report, vault);
    stage.payer.answer(vault, false).await.unwrap();
    stage.payer.answer(report, true).await.unwrap();
    delivered(&stage, read("docs://reports/q1 2025").await.unwrap()).await;
    let why = reason(read("docs://vault/all the keys").await);
    assert_eq!(why, Reason::ApprovalDenied);
}

/// `%62` is a `b` (RFC 3986 section 6.2.2.2), to whoever serves the path and to whoever was asked.
#[tokio::test]
async fn a_no_holds_for_the_path_in_every_spelling() {
    let stage = stage(FIRST_HOST).await;
    let at = |path: &str| Asked {
        path: path.into(),
        ..stage.asked("api.example.com")
    };
    let ask = async |path: &str| {
        let offer = offer("10000", FIRST);
        stage.payer.authorize(&at(path), &offer).await
    };
    let no = id_of(&question(ask("/buy").await));
    let yes = id_of(&question(ask("/cheap").await));
    stage.payer.answer(no, false).await.unwrap();
    stage.payer.answer(yes, true).await.unwrap();
    delivered(&stage, ask("/cheap").await.unwrap()).await;
    for path in ["/buy", "/%62uy", "/b%75y"] {
        let why = reason(ask(path).await);
        assert_eq!(why, Reason::ApprovalDenied, "{path}");
    }
    delivered(&stage, ask("/BUY").await.unwrap()).await;
}

#[tokio::test]
async fn a_question_that_nobody_answered_is_no_yes_when_its_reason_is_gone() {
    let stage = stage(FIRST_HOST).await;
    let cheap = waiting(&stage, "10000", FIRST).await;
    let asked = waiting(&stage, "900000", OTHER).await;
    let id = id_of(&cheap.refusal);
    stage.payer.answer(id, true).await.unwrap();
    delivered(&stage, pay(&stage, "10000", FIRST).await.unwrap()).await;
    let again = waiting(&stage, "900000", OTHER).await;
    assert_eq!(id_of(&again.refusal), id_of(&asked.refusal), "one question");
    assert!(again.refusal.detail.contains("first_host"));
    let refusal = stage.payer.unanswered(again).await;
    assert_eq!(refusal.reason, Reason::ApprovalRequired);
    assert_eq!(stage.wallet.seen.lock().unwrap().len(), 1, "signatures");
    // A late yes is used, and is over then.
    let id = id_of(&asked.refusal);
    stage.payer.answer(id, true).await.unwrap();
    delivered(&stage, pay(&stage, "900000", OTHER).await.unwrap()).await;
    assert!(stage.payer.answer(id, false).await.is_err(), "it was used");
    delivered(&stage, pay(&stage, "900000", OTHER).await.unwrap()).await;
}

/// A question is over some time, and so is what it keeps.
#[tokio::test]
async fn a_no_that_is_over_keeps_nobody() {
    let stage = stage(
        "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", approval: { first_host: true, valid: 60s } }
",
    )
    .await;
    let dear = question(pay(&stage, "900000", OTHER).await);
    stage.payer.answer(id_of(&dear), false).await.unwrap();
    let cheap = question(pay(&stage, "10000", FIRST).await);
    stage.payer.answer(id_of(&cheap), true).await.unwrap();
    delivered(&stage, pay(&stage, "10000", FIRST).await.unwrap()).await;
    stage.clock.0.fetch_add(59, Ordering::SeqCst);
    let why = reason(pay(&stage, "900000", OTHER).await);
    assert_eq!(why, Reason::ApprovalDenied);
    stage.clock.0.fetch_add(1, Ordering::SeqCst);
    delivered(&stage, pay(&stage, "900000", OTHER).await.unwrap()).await;
}

/// The recipient, and the price of a tool: what is paid meanwhile makes them known.
#[tokio::test]
async fn a_no_to_a_new_payee_or_a_rise_holds_too() {
    let payees = stage(
        "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", approval: { new_payee: true } }
",
    )
    .await;
    delivered(&payees, pay(&payees, "1000", FIRST).await.unwrap()).await;
    let small = question(pay(&payees, "2000", OTHER).await);
    let large = question(pay(&payees, "900000", OTHER).await);
    payees.payer.answer(id_of(&large), false).await.unwrap();
    payees.payer.answer(id_of(&small), true).await.unwrap();
    delivered(&payees, pay(&payees, "2000", OTHER).await.unwrap()).await;
    let why = reason(pay(&payees, "900000", OTHER).await);
    assert_eq!(why, Reason::ApprovalDenied);

    let tools = stage(
        "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", mcp: true, approval: { price_increase: 10% } }
",
    )
    .await;
    delivered(&tools, call(&tools, "search", "1000").await.unwrap()).await;
    let rise = question(call(&tools, "search", "1200").await);
    tools.payer.answer(id_of(&rise), false).await.unwrap();
    let higher = question(call(&tools, "search", "1300").await);
    tools.payer.answer(id_of(&higher), true).await.unwrap();
    delivered(&tools, call(&tools, "search", "1300").await.unwrap()).await;
    let why = reason(call(&tools, "search", "1200").await);
    assert_eq!(why, Reason::ApprovalDenied);
    delivered(&tools, call(&tools, "search", "1100").await.unwrap()).await;
}

/// A yes would not help, so nobody is asked and nobody waits.
#[tokio::test]
async fn what_no_budget_holds_is_asked_of_nobody() {
    let setup = Setup {
        policy: "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", approval: { above: \"1.00 USD\", wait: 10m } }
",
        budget: Usd(1_000_000_000),
        ..Setup::default()
    };
    let stage = setup.stage().await;
    let asked = stage.asked("api.example.com");
    let offer = offer("2000000", FIRST);
    let considered = stage.payer.consider(&asked, &offer, None).await;
    let Err(Unpaid::Refused(refusal)) = considered else {
        panic!("nobody is to be asked")
    };
    assert_eq!(refusal.reason, Reason::OverSessionCap);
    assert_eq!(refusal.rule.as_deref(), Some("data"));
    assert_eq!(refusal.remaining, Some(Usd(1_000_000_000)));
    assert!(stage.ledger.facts(key::APPROVALS).await.unwrap().is_empty());
    assert!(stage.watcher.2.lock().unwrap().is_empty());
}

/// Nor does it matter that somebody was asked while there was money.
#[tokio::test]
async fn a_question_that_cannot_be_paid_any_more_keeps_nobody_waiting() {
    let setup = Setup {
        policy: "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", approval: { above: \"0.50 USD\", wait: 10m } }
",
        budget: Usd(1_000_000_000),
        ..Setup::default()
    };
    let stage = setup.stage().await;
    waiting(&stage, "900000", FIRST).await;
    delivered(&stage, pay(&stage, "400000", FIRST).await.unwrap()).await;
    let why = reason(pay(&stage, "900000", FIRST).await);
    assert_eq!(why, Reason::OverSessionCap);
}

/// A place in a rate belongs to a payment, and what the ledger refuses is none.
#[tokio::test]
async fn what_the_ledger_refuses_gives_its_place_in_a_rate_back() {
    let setup = Setup {
        policy: "
budgets:
  - { name: few, scope: all, limit: \"0.06 USD\", window: day }
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", budgets: [few], rate: 5/h }
",
        budget: Usd(100_000_000_000),
        identical: Some("2/h".parse().unwrap()),
        ..Setup::default()
    };
    let stage = setup.stage().await;
    let buy = async |amount: &str, request: u8| {
        let asked = Asked {
            request: Some(farepass::payment::RequestKey([request; 32])),
            ..stage.asked("api.example.com")
        };
        let offer = offer(amount, FIRST);
        stage.payer.authorize(&asked, &offer).await
    };
    delivered(&stage, buy("10000", 1).await.unwrap()).await;
    for _ in 0..20 {
        assert_eq!(reason(buy("60000", 2).await), Reason::OverBudget);
    }
    for request in 2..6 {
        delivered(&stage, buy("10000", request).await.unwrap()).await;
    }
    let why = reason(buy("10000", 7).await);
    assert_eq!(why, Reason::RateLimited, "five were paid");
}

/// Both versions of x402 and every way to write an address are the same question, and so is whether the token or Permit2
/// moves the money: an agent that asks ahead can know none of it.
#[tokio::test]
async fn how_a_merchant_spells_its_terms_is_no_other_question() {
    let stage = stage(
        "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", approval: { above: \"0.01 USD\" }, transfer_methods: [eip3009, permit2] }
",
    )
    .await;
    let mut ahead: Question = "https://api.example.com/v1/x".parse().unwrap();
    ahead.amount = Some("0.02 USD".parse().unwrap());
    ahead.pay_to = Some(FIRST.to_ascii_lowercase());
    let asking = stage.payer.ask_ahead(&stage.session.id, &ahead).await;
    let id = asking.unwrap().id;
    let asked = stage.asked("api.example.com");
    let spelled = |change: fn(&mut Requirement)| {
        let mut offer = offer("20000", FIRST);
        offer.requirements.iter_mut().for_each(change);
        offer
    };
    for (same, change) in [
        (true, (|_| {}) as fn(&mut Requirement)),
        (true, |r| r.protocol = "x402-v1"),
        (true, |r| r.pay_to = MERCHANT.into()),
        (true, |r| r.transfer_method = "permit2".into()),
        (false, |r| r.pay_to = OTHER.into()),
        (false, |r| r.amount = Amount(20_001)),
    ] {
        let refusal = question(stage.payer.authorize(&asked, &spelled(change)).await);
        assert_eq!(id_of(&refusal) == id, same, "{refusal}");
    }
}
