//! What the operator holds in hand beside budgets: known recipients and prices, rates, questions to a
//! person, the kill switch, and a word before a budget runs out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::stage::{self, NETWORK, Setup, Stage, USDC, challenge, challenge_of, paid, receipt};
use farepass::budget::facts::key;
use farepass::budget::{Asked as Stage_, Fact, Frozen};
use farepass::clock::Clock as _;
use farepass::event::{Flag, Notice, State};
use farepass::ledger::sessions;
use farepass::money::Usd;
use farepass::payer::{Signed, Unpaid};
use farepass::payment::{ApprovalId, Reason, Refusal, Session};
use http::StatusCode;
use serde_json::json;

const FIRST: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";
const OTHER: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C9";

pub(crate) async fn stage(policy: &'static str) -> Stage {
    let setup = Setup {
        policy,
        budget: Usd(u64::MAX),
        ..Setup::default()
    };
    setup.stage().await
}

/// Buys for so many atomic units from one recipient.
async fn pay(stage: &Stage, amount: &str, pay_to: &str) -> Result<Signed, Refusal> {
    stage::pay(stage, amount, &pay_to.to_ascii_lowercase()).await
}

async fn delivered(stage: &Stage, signed: Signed) {
    let headers = receipt(&paid());
    let answer = Some((StatusCode::OK, &headers));
    assert_eq!(stage.payer.settle(signed, answer).await.refusal, None);
}

fn reason<T>(result: Result<T, Refusal>) -> Reason {
    result.err().expect("a refusal").reason
}

const PINNED: &str = "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", pay_to: first-seen }
";

#[tokio::test]
async fn the_recipient_seen_first_stays_the_only_one() {
    let stage = stage(PINNED).await;
    delivered(&stage, pay(&stage, "1000", FIRST).await.unwrap()).await;
    delivered(&stage, pay(&stage, "1000", FIRST).await.unwrap()).await;
    let refusal = pay(&stage, "1000", OTHER).await.err().unwrap();
    assert_eq!(refusal.reason, Reason::RecipientChanged);
    assert_eq!(refusal.rule.as_deref(), Some("data"));
    assert_eq!(
        stage.spent().await.1,
        2,
        "nothing was reserved for the other"
    );
    stage.payer.forget("api.example.com").await.unwrap();
    delivered(&stage, pay(&stage, "1000", OTHER).await.unwrap()).await;
    assert_eq!(
        reason(pay(&stage, "1000", FIRST).await),
        Reason::RecipientChanged
    );
}

#[tokio::test]
async fn of_two_first_recipients_at_once_one_wins() {
    let stage = stage(PINNED).await;
    let (one, two) = tokio::join!(pay(&stage, "1000", FIRST), pay(&stage, "1000", OTHER));
    let reasons: Vec<_> = [one, two].into_iter().filter_map(Result::err).collect();
    assert_eq!(
        reasons.len(),
        1,
        "the ledger decides, not what was read before"
    );
    assert_eq!(reasons[0].reason, Reason::RecipientChanged);
}

#[tokio::test]
async fn another_recipient_hides_no_offer_of_the_known_one() {
    let stage = stage(PINNED).await;
    delivered(&stage, pay(&stage, "2000", FIRST).await.unwrap()).await;
    let entry = |amount: &str, pay_to: &str| {
        json!({
            "scheme": "exact", "network": NETWORK, "amount": amount, "asset": USDC,
            "payTo": pay_to.to_ascii_lowercase(), "maxTimeoutSeconds": 60,
            "extra": { "name": "USDC", "version": "2" }
        })
    };
    let two = challenge_of(&json!([entry("1000", OTHER), entry("2000", FIRST)]));
    let asked = stage.asked("api.example.com");
    let signed = stage.payer.authorize(&asked, &two).await.unwrap();
    delivered(&stage, signed).await;
    let row = stage.newest().await;
    assert_eq!(row.pay_to.to_ascii_lowercase(), FIRST.to_ascii_lowercase());
}

#[tokio::test]
async fn a_new_recipient_is_paid_and_told_where_the_rule_says_alert() {
    let stage = stage(
        "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", pay_to: { first-seen: alert } }
",
    )
    .await;
    delivered(&stage, pay(&stage, "1000", FIRST).await.unwrap()).await;
    for _ in 0..2 {
        delivered(&stage, pay(&stage, "1000", OTHER).await.unwrap()).await;
        assert_eq!(stage.newest().await.flags, [Flag::RecipientChanged]);
    }
    delivered(&stage, pay(&stage, "1000", FIRST).await.unwrap()).await;
    assert_eq!(stage.newest().await.flags, []);
}

#[tokio::test]
async fn a_price_may_fall_but_never_creeps_up() {
    let stage = stage(
        "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", max_price_increase: 20% }
",
    )
    .await;
    for (amount, paid) in [
        ("1000", true),
        ("1200", true),
        ("1201", false),
        ("1440", false),
        ("500", true),
        ("600", true),
        ("601", false),
        ("1000", false),
    ] {
        match pay(&stage, amount, FIRST).await {
            Ok(signed) if paid => delivered(&stage, signed).await,
            Ok(_) => panic!("{amount} was paid"),
            Err(refusal) => {
                assert_eq!(
                    (refusal.reason, paid),
                    (Reason::PriceChanged, false),
                    "{amount}"
                );
            }
        }
    }
    stage.payer.forget("api.example.com").await.unwrap();
    delivered(&stage, pay(&stage, "1000", FIRST).await.unwrap()).await;
}

/// What one rule remembers another one tells of, where nothing bounds the price.
#[tokio::test]
async fn a_rise_that_nothing_bounds_is_paid_and_told_where_the_price_is_known() {
    let stage = stage(
        "
rules:
  - name: pinned
    match: { hosts: [api.example.com], agents: [bot] }
    pay: { max: \"9 USD\", max_price_increase: 20% }
  - name: free
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\" }
",
    )
    .await;
    delivered(&stage, pay(&stage, "1000", FIRST).await.unwrap()).await;
    let mut asked = stage.asked("api.example.com");
    let session = Session {
        agent: "other".into(),
        ..(*asked.session).clone()
    };
    asked.session = Arc::new(session);
    for (amount, flags) in [("1000", vec![]), ("1001", vec![Flag::PriceChanged])] {
        let signed = stage.payer.authorize(&asked, &challenge(amount)).await;
        delivered(&stage, signed.unwrap_or_else(|r| panic!("{r}"))).await;
        let row = stage.newest().await;
        assert_eq!((row.rule.as_deref(), row.flags), (Some("free"), flags));
    }
}

/// Not when all of it is empty.
#[tokio::test]
async fn a_rolling_budget_says_when_enough_of_it_is_free_again() {
    let stage = stage(
        "
budgets:
  - { name: minute, scope: all, limit: \"0.10 USD\", window: 60s }
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", budgets: [minute] }
",
    )
    .await;
    let start = 1_800_000_000;
    for (second, amount) in [(0, "20000"), (10, "50000"), (20, "30000")] {
        stage.clock.0.store(start + second, Ordering::SeqCst);
        delivered(&stage, pay(&stage, amount, FIRST).await.unwrap()).await;
    }
    stage.clock.0.store(start + 30, Ordering::SeqCst);
    for (amount, free) in [("20000", 0), ("20001", 10), ("70000", 10), ("70001", 20)] {
        let refusal = pay(&stage, amount, FIRST).await.err().unwrap();
        assert_eq!(refusal.reason, Reason::OverBudget);
        let told = refusal.resets_at.unwrap().secs();
        // A bucket of one second ends a second later.
        assert_eq!(told, start + free + 1 + 60, "{amount}");
        stage.clock.0.store(told - 1, Ordering::SeqCst);
        assert!(pay(&stage, amount, FIRST).await.is_err(), "{amount}");
        stage.clock.0.store(start + 30, Ordering::SeqCst);
    }
    stage.clock.0.store(start + 71, Ordering::SeqCst);
    delivered(&stage, pay(&stage, "70000", FIRST).await.unwrap()).await;
}

const RATED: &str = "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", rate: 30/m }
";

const TWICE: &str = "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", rate: 2/m }
";

/// Told in memory, before the ledger is asked, but kept by the ledger, which counts in a window that rolls.
#[tokio::test]
async fn a_rate_says_when_there_is_a_place_again() {
    let start = 1_800_000_000;
    for second in [0, 10, 35, 60] {
        let stage = stage(TWICE).await;
        for _ in 0..2 {
            stage.clock.0.store(start, Ordering::SeqCst);
            delivered(&stage, pay(&stage, "1", FIRST).await.unwrap()).await;
        }
        stage.clock.0.store(start + second, Ordering::SeqCst);
        let refusal = pay(&stage, "1", FIRST).await.err().unwrap();
        assert_eq!(refusal.reason, Reason::RateLimited);
        // A bucket of one second ends a second later.
        let told = refusal.resets_at.unwrap().secs();
        assert_eq!(told, start + 61, "{second}");
        stage.clock.0.store(told, Ordering::SeqCst);
        delivered(&stage, pay(&stage, "1", FIRST).await.unwrap()).await;
    }
}

#[tokio::test]
async fn thousand_payments_in_a_minute_are_thirty() {
    let stage = stage(RATED).await;
    let mut refused = 0;
    for n in 0..1000u64 {
        // Spread over 50 seconds: a bucket that refills would let more through.
        stage
            .clock
            .0
            .store(1_800_000_000 + n / 20, Ordering::SeqCst);
        match pay(&stage, "1", FIRST).await {
            Ok(signed) => delivered(&stage, signed).await,
            Err(refusal) => {
                assert_eq!(refusal.reason, Reason::RateLimited);
                assert!(refusal.retryable && refusal.resets_at.is_some());
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 970);
    assert_eq!(stage.wallet.seen.lock().unwrap().len(), 30, "signatures");
    stage.clock.0.store(1_800_000_120, Ordering::SeqCst);
    delivered(&stage, pay(&stage, "1", FIRST).await.unwrap()).await;
}

/// A place in memory is taken before the ledger judges.
#[tokio::test]
async fn a_session_without_money_uses_up_nobody_elses_rate() {
    let setup = Setup {
        policy: RATED,
        budget: Usd(1),
        ..Setup::default()
    };
    let stage = setup.stage().await;
    for _ in 0..40 {
        let why = reason(pay(&stage, "1000", FIRST).await);
        assert!(matches!(why, Reason::OverSessionCap | Reason::RateLimited));
    }
    let wanted = farepass::ledger::sessions::Wanted {
        agent: "other".into(),
        budget: Usd(u64::MAX),
        expires: std::time::Duration::from_secs(3600),
    };
    let (draft, _) = farepass::ledger::sessions::Draft::new(wanted, &*stage.clock).unwrap();
    draft.open(&*stage.ledger).await.unwrap();
    let asked = farepass::payment::Asked {
        session: Arc::new(draft.session),
        ..stage.asked("api.example.com")
    };
    let bought = stage.payer.authorize(&asked, &challenge("1000")).await;
    delivered(&stage, bought.unwrap()).await;
}

#[tokio::test]
async fn a_rate_survives_a_restart() {
    let first = stage(RATED).await;
    for _ in 0..30 {
        delivered(&first, pay(&first, "1", FIRST).await.unwrap()).await;
    }
    let again = Setup {
        policy: RATED,
        ledger: Some(Arc::clone(&first.ledger)),
        ..Setup::default()
    };
    let again = again.stage().await;
    assert_eq!(reason(pay(&again, "1", FIRST).await), Reason::RateLimited);
}

pub(crate) const ASKING: &str = "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", approval: { above: \"0.01 USD\", wait: 10m } }
";

pub(crate) async fn waiting(stage: &Stage, amount: &str) -> farepass::payer::Pending {
    let asked = stage.asked("api.example.com");
    match stage.payer.consider(&asked, &challenge(amount), None).await {
        Err(Unpaid::Pending(pending)) => *pending,
        Err(Unpaid::Refused(refusal)) => panic!("{refusal}"),
        Ok(_) => panic!("paid without a question"),
    }
}

pub(crate) fn id_of(refusal: &Refusal) -> ApprovalId {
    let url = refusal.approve_url.as_deref().unwrap();
    url.rsplit('/').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_person_agrees_to_exactly_this_and_once() {
    let stage = stage(ASKING).await;
    delivered(&stage, stage.buy("10000").await.unwrap()).await;
    let mut asked = waiting(&stage, "20000").await;
    let id = id_of(&asked.refusal);
    assert_eq!(
        stage.spent().await.1,
        1,
        "nothing is reserved while a person thinks"
    );
    let payer = Arc::clone(&stage.payer);
    let (answered, ()) = tokio::join!(payer.answer(id, true), asked.answered());
    assert!(matches!(answered.unwrap().stage, Stage_::Approved { .. }));
    // Other terms are another question.
    assert_eq!(reason(stage.buy("20001").await), Reason::ApprovalRequired);
    delivered(&stage, stage.buy("20000").await.unwrap()).await;
    assert_eq!(
        reason(stage.buy("20000").await),
        Reason::ApprovalRequired,
        "used up"
    );
    assert_eq!(stage.spent().await, (Usd(30_000_000), 2));
    let notices = stage.watcher.2.lock().unwrap();
    let names: Vec<_> = notices.iter().map(Notice::name).collect();
    assert_eq!(names[..2], ["approval_requested", "approval_answered"]);
}

#[tokio::test]
async fn what_is_said_again_is_not_told_again() {
    let stage = stage(ASKING).await;
    for (amount, approve) in [("20000", true), ("30000", false)] {
        let id = id_of(&waiting(&stage, amount).await.refusal);
        for _ in 0..2 {
            stage.payer.answer(id, approve).await.unwrap();
        }
    }
    let bot = Frozen::Agent("bob".into());
    for why in ["loops", ""] {
        stage.payer.freeze(bot.clone(), why).await.unwrap();
    }
    for _ in 0..2 {
        stage.payer.unfreeze(bot.clone()).await.unwrap();
    }
    let notices = stage.watcher.2.lock().unwrap();
    let names: Vec<_> = notices.iter().map(Notice::name).collect();
    let asked = ["approval_requested", "approval_answered"];
    let expected = [&asked[..], &asked, &["frozen", "unfrozen"]].concat();
    assert_eq!(names, expected);
}

/// Tools of one server have one URL, and often one price and one recipient.
#[tokio::test]
async fn a_yes_to_one_tool_buys_no_other() {
    let policy = "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", mcp: true, approval: { above: \"0.01 USD\" } }
";
    let stage = stage(policy).await;
    let buy = async |tool: Option<&str>| {
        let mut asked = stage.asked("api.example.com");
        asked.tool = tool.into();
        stage.payer.authorize(&asked, &challenge("20000")).await
    };
    let refusal = buy(Some("read file")).await.err().unwrap();
    stage.payer.answer(id_of(&refusal), true).await.unwrap();
    for other in [Some("drop"), Some("read"), None] {
        let refusal = buy(other).await.err().expect("not what was agreed to");
        assert_eq!(refusal.reason, Reason::ApprovalRequired, "{other:?}");
    }
    delivered(&stage, buy(Some("read file")).await.unwrap()).await;
    let notices = stage.watcher.2.lock().unwrap();
    let paths = notices.iter().filter_map(|notice| match notice {
        Notice::ApprovalRequested { approval, .. } => Some(&*approval.path),
        _ => None,
    });
    let paths: Vec<_> = paths.collect();
    let told = ["/v1/x#read%20file", "/v1/x#drop", "/v1/x#read", "/v1/x"];
    assert_eq!(paths, told, "a person sees what is asked for");
}

/// Nobody is shown a question about a session in which nothing is paid any more, so nobody waits for an answer.
#[tokio::test]
async fn in_a_closed_session_nobody_is_asked() {
    let setup = Setup {
        policy: "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", approval: { above: \"0.01 USD\", wait: 10m } }
",
        ..Setup::default()
    };
    let stage = setup.stage().await;
    let (ledger, id) = (&*stage.ledger, &stage.session.id);
    sessions::close(ledger, id, stage.clock.now())
        .await
        .unwrap();
    let refusal = stage.buy("20000").await.err().unwrap();
    assert_eq!(refusal.reason, Reason::SessionClosed);
    assert_eq!(refusal.rule.as_deref(), Some("data"));
    assert!(stage.ledger.facts(key::APPROVALS).await.unwrap().is_empty());
    assert!(stage.watcher.2.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_approval_is_used_once_however_many_ask() {
    // On disk a post takes its time, so that all of them read the answer before one of them uses it.
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup {
        policy: ASKING,
        budget: Usd(u64::MAX / 4),
        ledger: Some(farepass::ledger::open(dir.path()).unwrap()),
        ..Setup::default()
    };
    let stage = setup.stage().await;
    let id = id_of(&waiting(&stage, "20000").await.refusal);
    stage.payer.answer(id, true).await.unwrap();
    let many = (0..50).map(|_| {
        let (payer, asked) = (Arc::clone(&stage.payer), stage.asked("api.example.com"));
        tokio::spawn(async move {
            let bought = payer.authorize(&asked, &challenge("20000")).await;
            bought.map(drop).map_err(|refusal| refusal.reason)
        })
    });
    let mut bought = 0;
    for one in many.collect::<Vec<_>>() {
        match one.await.unwrap() {
            Ok(()) => bought += 1,
            Err(reason) => assert_eq!(reason, Reason::ApprovalRequired),
        }
    }
    assert_eq!(bought, 1);
    assert_eq!(stage.wallet.seen.lock().unwrap().len(), 1, "signatures");
}

/// What is asked of a person is not paid yet, so it takes no place of what is.
#[tokio::test]
async fn a_question_takes_no_place_in_a_rate() {
    let policy = "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", rate: 1/m, approval: { above: \"0.01 USD\", wait: 10m } }
";
    let stage = stage(policy).await;
    let mut asked = waiting(&stage, "20000").await;
    for _ in 0..5 {
        assert_eq!(reason(stage.buy("20000").await), Reason::ApprovalRequired);
    }
    let id = id_of(&asked.refusal);
    stage.payer.answer(id, true).await.unwrap();
    asked.answered().await;
    delivered(&stage, stage.buy("20000").await.unwrap()).await;
    assert_eq!(reason(stage.buy("10000").await), Reason::RateLimited);
}

/// Nobody can agree to anything when nothing new is signed.
#[tokio::test]
async fn a_question_holds_up_no_shutdown() {
    let stage = stage(ASKING).await;
    let mut asked = waiting(&stage, "20000").await;
    stage.payer.drain();
    let soon = std::time::Duration::from_secs(5);
    let ended = tokio::time::timeout(soon, asked.answered()).await;
    assert!(ended.is_ok(), "it waits for a person in vain");
    let refusal = stage.buy("20000").await.err().unwrap();
    assert_eq!(refusal.reason, Reason::Draining);
    assert!(refusal.retryable, "it may succeed after the restart");
}

/// What may still be paid is; but a person may take longer than there is time, and answers whoever is next.
#[tokio::test]
async fn who_hands_over_waits_for_no_person_and_the_question_stands() {
    let stage = stage(ASKING).await;
    let mut before = waiting(&stage, "20000").await;
    stage.payer.end_questions();
    let mut after = waiting(&stage, "30000").await;
    let soon = std::time::Duration::from_secs(5);
    for pending in [&mut before, &mut after] {
        let ended = tokio::time::timeout(soon, pending.answered()).await;
        assert!(ended.is_ok(), "it waits for a person");
    }
    let refusal = stage.payer.unanswered(before).await;
    assert_eq!(refusal.reason, Reason::ApprovalRequired);
    assert!(refusal.retryable && refusal.approve_url.is_some());
    let next = stage.restarted().await;
    next.answer(id_of(&refusal), true).await.unwrap();
    let asked = stage.asked("api.example.com");
    assert!(next.authorize(&asked, &challenge("20000")).await.is_ok());
    // What nobody need agree to is paid.
    delivered(&stage, stage.buy("10000").await.unwrap()).await;
}

#[tokio::test]
async fn an_answer_before_anybody_waits_is_not_missed() {
    let stage = stage(ASKING).await;
    let mut asked = waiting(&stage, "20000").await;
    stage
        .payer
        .answer(id_of(&asked.refusal), true)
        .await
        .unwrap();
    let soon = std::time::Duration::from_secs(5);
    let heard = tokio::time::timeout(soon, asked.answered()).await;
    assert!(heard.is_ok(), "it rang before anybody listened");
}

#[tokio::test]
async fn no_means_no_also_after_a_yes() {
    let stage = stage(ASKING).await;
    let id = id_of(&waiting(&stage, "20000").await.refusal);
    stage.payer.answer(id, true).await.unwrap();
    stage.payer.answer(id, false).await.unwrap();
    let refusal = stage.buy("20000").await.err().unwrap();
    assert_eq!(refusal.reason, Reason::ApprovalDenied);
    assert!(stage.payer.answer(id, true).await.is_err(), "it is over");
    assert_eq!(stage.wallet.seen.lock().unwrap().len(), 0, "signatures");
    // An hour later it may be asked again.
    stage.clock.0.fetch_add(3600, Ordering::SeqCst);
    let unknown = ApprovalId(7);
    assert!(
        stage.payer.answer(unknown, true).await.is_err(),
        "never asked"
    );
}

#[tokio::test]
async fn an_approval_dies_and_limits_are_checked_again() {
    let policy = "
budgets:
  - { name: few, scope: all, limit: \"0.03 USD\", window: day }
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", approval: { above: \"0.01 USD\", valid: 60s } }
";
    let stage = stage(policy).await;
    for _ in 0..2 {
        let refusal = stage.buy("20000").await.err().unwrap();
        assert_eq!(refusal.reason, Reason::ApprovalRequired);
        stage.payer.answer(id_of(&refusal), true).await.unwrap();
        stage.clock.0.fetch_add(61, Ordering::SeqCst);
    }
    let refusal = stage.buy("20000").await.err().unwrap();
    stage.payer.answer(id_of(&refusal), true).await.unwrap();
    for _ in 0..2 {
        delivered(&stage, stage.buy("10000").await.unwrap()).await;
    }
    assert_eq!(reason(stage.buy("20000").await), Reason::OverBudget);
    assert_eq!(stage.wallet.seen.lock().unwrap().len(), 2, "signatures");
}

#[tokio::test]
async fn a_session_cannot_flood_a_person_with_questions() {
    let stage = stage(ASKING).await;
    for n in 0..100 {
        let amount = (20_000 + n).to_string();
        assert_eq!(reason(stage.buy(&amount).await), Reason::ApprovalRequired);
    }
    let asked = stage.watcher.2.lock().unwrap().len();
    assert_eq!(asked, 30);
}

/// A table of what people were asked must not grow for ever; the records keep it, and their chain holds.
#[tokio::test]
async fn what_was_asked_long_ago_leaves_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let open = async || {
        let setup = Setup {
            policy: ASKING,
            budget: Usd(u64::MAX / 4),
            ledger: Some(farepass::ledger::open(dir.path()).unwrap()),
            ..Setup::default()
        };
        setup.stage().await
    };
    let known = async |stage: &Stage| {
        let report = stage.ledger.verify().await.unwrap();
        assert_eq!(report.problems, Vec::<String>::new());
        let approvals = stage.ledger.facts(key::APPROVALS).await.unwrap();
        let merchants = stage.ledger.facts(key::MERCHANTS).await.unwrap();
        (approvals.len(), merchants.len())
    };
    let stage = open().await;
    // One that is used, one that is denied, one that nobody answered.
    let [used, denied, _] = ["20000", "30000", "40000"]
        .map(async |amount| id_of(&waiting(&stage, amount).await.refusal));
    let (used, denied) = (used.await, denied.await);
    stage.payer.answer(used, true).await.unwrap();
    delivered(&stage, stage.buy("20000").await.unwrap()).await;
    stage.payer.answer(denied, false).await.unwrap();
    assert_eq!(reason(stage.buy("40000").await), Reason::ApprovalRequired);
    assert_eq!(known(&stage).await, (3, 1));
    // They stand for an hour, and are known for a day after it; a restart later.
    drop(stage);
    let stage = open().await;
    for (hours, seconds, approvals, why) in [
        (25, 0, 3, "a day has not passed"),
        (25, 1, 3, "looked at once an hour"),
        (26, 0, 0, "over"),
    ] {
        let time = 1_800_000_000 + hours * 3600 + seconds;
        stage.clock.0.store(time, Ordering::SeqCst);
        stage.payer.sweep().await.unwrap();
        assert_eq!(known(&stage).await, (approvals, 1), "{why}");
    }
    let gone = stage.payer.answer(used, true).await;
    assert!(gone.is_err(), "{gone:?}");
}

#[tokio::test]
async fn a_first_host_a_new_payee_and_a_price_jump_ask() {
    let stage = stage(
        "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", approval: { first_host: true, new_payee: true, price_increase: 50% } }
",
    )
    .await;
    let approve = async |result: Result<Signed, Refusal>, because: &str| {
        let refusal = result.err().unwrap();
        assert_eq!(refusal.reason, Reason::ApprovalRequired);
        assert!(refusal.detail.contains(because), "{}", refusal.detail);
        stage.payer.answer(id_of(&refusal), true).await.unwrap();
    };
    approve(pay(&stage, "1000", FIRST).await, "first_host").await;
    delivered(&stage, pay(&stage, "1000", FIRST).await.unwrap()).await;
    delivered(&stage, pay(&stage, "1500", FIRST).await.unwrap()).await;
    assert_eq!(stage.newest().await.flags, [], "nobody need be asked");
    approve(pay(&stage, "1501", FIRST).await, "price_increase").await;
    delivered(&stage, pay(&stage, "1501", FIRST).await.unwrap()).await;
    assert_eq!(stage.newest().await.flags, [Flag::PriceChanged]);
    approve(pay(&stage, "1502", FIRST).await, "price_increase").await;
    approve(pay(&stage, "1000", OTHER).await, "new_payee").await;
    delivered(&stage, pay(&stage, "1000", OTHER).await.unwrap()).await;
    // A yes is for one payment: what is known stays, and the same terms are asked about again.
    approve(pay(&stage, "1000", OTHER).await, "new_payee").await;
    delivered(&stage, pay(&stage, "1000", FIRST).await.unwrap()).await;
    approve(pay(&stage, "1501", FIRST).await, "price_increase").await;
    stage.payer.forget("api.example.com").await.unwrap();
    approve(pay(&stage, "2000", OTHER).await, "first_host").await;
    delivered(&stage, pay(&stage, "2000", OTHER).await.unwrap()).await;
    delivered(&stage, pay(&stage, "3000", OTHER).await.unwrap()).await;
}

/// What one rule has a person agree to is neither the first recipient nor the lowest price of another.
#[tokio::test]
async fn a_yes_for_one_payment_moves_no_bound_of_another_rule() {
    let stage = stage(
        "
rules:
  - name: bounded
    match: { hosts: [api.example.com], methods: [POST] }
    pay: { max: \"9 USD\", pay_to: first-seen, max_price_increase: 20% }
  - name: asks
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", approval: { new_payee: true, price_increase: 20% } }
",
    )
    .await;
    let bounded = async |amount: &str, pay_to: &str| {
        let asked = farepass::payment::Asked {
            method: http::Method::POST,
            ..stage.asked("api.example.com")
        };
        let offer = stage::offer(amount, &pay_to.to_ascii_lowercase());
        stage.payer.authorize(&asked, &offer).await
    };
    let agreed = async |amount: &str, pay_to: &str| {
        let refusal = pay(&stage, amount, pay_to).await.err().unwrap();
        assert_eq!(refusal.reason, Reason::ApprovalRequired);
        stage.payer.answer(id_of(&refusal), true).await.unwrap();
        pay(&stage, amount, pay_to).await.unwrap()
    };
    delivered(&stage, bounded("1000", FIRST).await.unwrap()).await;
    delivered(&stage, pay(&stage, "1000", FIRST).await.unwrap()).await;
    delivered(&stage, agreed("1000", OTHER).await).await;
    assert_eq!(
        reason(bounded("1000", OTHER).await),
        Reason::RecipientChanged
    );
    delivered(&stage, bounded("1000", FIRST).await.unwrap()).await;
    let facts = stage.ledger.facts(key::MERCHANTS).await.unwrap();
    delivered(&stage, agreed("2000", FIRST).await).await;
    // Nor does one that comes to nothing.
    stage.payer.settle(agreed("3000", FIRST).await, None).await;
    stage.ledger.flush().await.unwrap();
    let after = stage.ledger.facts(key::MERCHANTS).await.unwrap();
    let bounds = |facts: &[(String, Fact)]| {
        let bounds = facts.iter().filter_map(|(key, fact)| match fact {
            Fact::Payee { pay_to, .. } => Some((key.clone(), pay_to.clone())),
            Fact::Price { lowest, .. } => Some((key.clone(), lowest.to_string())),
            Fact::Merchant { .. } | Fact::Frozen { .. } | Fact::Approval(_) => None,
        });
        bounds.collect::<Vec<_>>()
    };
    assert_eq!(bounds(&after), bounds(&facts));
    let report = stage.ledger.verify().await.unwrap();
    assert_eq!(report.problems, [] as [String; 0]);
}

/// For whoever has had a price agreed to once, the next rise is again one above the lowest price.
#[tokio::test]
async fn a_price_that_a_person_agreed_to_is_the_lowest_of_no_other_rule() {
    let stage = stage(
        "
rules:
  - name: capped
    match: { hosts: [api.example.com], agents: [careful] }
    pay: { max: \"9 USD\", max_price_increase: 20% }
  - name: rest
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", approval: { price_increase: 20%, wait: 0s } }
",
    )
    .await;
    let wanted = sessions::Wanted {
        agent: "careful".into(),
        budget: Usd(u64::MAX),
        expires: std::time::Duration::from_secs(3600),
    };
    let (draft, _) = sessions::Draft::new(wanted, &*stage.clock).unwrap();
    draft.open(&*stage.ledger).await.unwrap();
    let careful = farepass::payment::Asked {
        session: Arc::new(draft.session),
        ..stage.asked("api.example.com")
    };
    let careful = async |amount: &str| stage.payer.authorize(&careful, &challenge(amount)).await;
    delivered(&stage, careful("10000").await.unwrap()).await;
    assert_eq!(reason(careful("20000").await), Reason::PriceChanged);
    let refusal = stage.buy("20000").await.err().unwrap();
    stage.payer.answer(id_of(&refusal), true).await.unwrap();
    delivered(&stage, stage.buy("20000").await.unwrap()).await;
    for amount in ["20000", "24000"] {
        assert_eq!(reason(careful(amount).await), Reason::PriceChanged);
    }
    delivered(&stage, careful("12000").await.unwrap()).await;
    assert_eq!(reason(stage.buy("15001").await), Reason::ApprovalRequired);
}

#[tokio::test]
async fn a_freeze_holds_for_whom_it_names_and_over_a_restart() {
    let policy = "
rules:
  - name: data
    match: { hosts: [\"*.example.com\"] }
    pay: { max: \"9 USD\" }
";
    let stage = stage(policy).await;
    let buy = async |host: &str| {
        let asked = stage.asked(host);
        let challenge = challenge_of(&json!([{
            "scheme": "exact", "network": NETWORK, "amount": "10", "asset": USDC, "payTo": FIRST,
            "maxTimeoutSeconds": 60, "extra": { "name": "USDC", "version": "2" }
        }]));
        let mut challenge = challenge;
        challenge
            .requirements
            .iter_mut()
            .for_each(|r| r.resource = None);
        let signed = stage.payer.authorize(&asked, &challenge).await;
        signed.map(drop)
    };
    let host = Frozen::Host("a.example.com".into());
    stage.payer.freeze(host.clone(), "odd").await.unwrap();
    assert_eq!(reason(buy("a.example.com").await), Reason::Frozen);
    assert_eq!(buy("b.example.com").await, Ok(()));
    stage.payer.unfreeze(host).await.unwrap();
    assert_eq!(buy("a.example.com").await, Ok(()));
    for what in [Frozen::Agent("bot".into()), Frozen::All] {
        stage.payer.freeze(what.clone(), "").await.unwrap();
        assert_eq!(reason(buy("b.example.com").await), Reason::Frozen);
        let other = Setup {
            policy,
            ledger: Some(Arc::clone(&stage.ledger)),
            ..Setup::default()
        };
        let other = other.stage().await;
        let asked = other.asked("api.example.com");
        let again = other.payer.authorize(&asked, &challenge("10")).await;
        assert_eq!(reason(again), Reason::Frozen, "a new process is frozen too");
        stage.payer.unfreeze(what).await.unwrap();
    }
    assert_eq!(buy("b.example.com").await, Ok(()));
    assert!(buy("elsewhere.test").await.is_err());
    let other_agent = Frozen::Agent("somebody-else".into());
    stage.payer.freeze(other_agent, "").await.unwrap();
    assert_eq!(buy("b.example.com").await, Ok(()));
}

#[tokio::test]
async fn a_freeze_also_stops_what_would_be_sent_again() {
    let stage = Stage::usual().await;
    let mut asked = stage.asked("api.example.com");
    asked.request = Some(farepass::payment::RequestKey([7; 32]));
    let signed = stage
        .payer
        .authorize(&asked, &challenge("10000"))
        .await
        .unwrap();
    let settled = stage.payer.settle(signed, None).await;
    assert_eq!(settled.refusal.unwrap().reason, Reason::OutcomeUnknown);
    stage.payer.freeze(Frozen::All, "").await.unwrap();
    let again = stage.payer.authorize(&asked, &challenge("10000")).await;
    assert_eq!(reason(again), Reason::Frozen);
}

#[tokio::test]
async fn a_file_stops_payments_as_long_as_it_is_there() {
    static THERE: AtomicBool = AtomicBool::new(true);
    let setup = Setup {
        stopped: Box::new(|| THERE.load(Ordering::SeqCst)),
        ..Setup::default()
    };
    let stage = setup.stage().await;
    assert_eq!(reason(stage.buy("10000").await), Reason::Frozen);
    assert_eq!(stage.newest().await.state, State::Denied);
    THERE.store(false, Ordering::SeqCst);
    delivered(&stage, stage.buy("10000").await.unwrap()).await;
}

#[tokio::test]
async fn a_budget_that_runs_out_is_told_once() {
    let stage = stage(
        "
budgets:
  - { name: daily, scope: host, limit: \"0.10 USD\", window: day, payments: 100, warn_at: 80% }
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\" }
",
    )
    .await;
    for n in 1..=10 {
        delivered(&stage, stage.buy("10000").await.unwrap()).await;
        let told = stage.watcher.2.lock().unwrap().len();
        assert_eq!(told, usize::from(n >= 8), "after {n} of 10");
    }
    let notices = stage.watcher.2.lock().unwrap();
    let Notice::BudgetWarning {
        account,
        counted,
        limit,
        payments,
        ..
    } = &notices[0]
    else {
        panic!("{:?}", notices[0]);
    };
    assert_eq!(account, "budget:daily:api.example.com");
    assert_eq!(
        (*counted, *limit, *payments),
        (Usd(80_000_000), Some(Usd(100_000_000)), 8)
    );
}

/// There is no sum in the way, so none is told.
#[tokio::test]
async fn a_budget_of_payments_tells_no_amount() {
    for limit in ["", "limit: \"0.50 USD\", "] {
        let policy = format!(
            "
budgets:
  - {{ name: few, scope: host, {limit}window: day, payments: 1, warn_at: 100% }}
rules:
  - name: data
    match: {{ hosts: [api.example.com] }}
    pay: {{ max: \"9 USD\" }}
"
        );
        let stage = self::stage(policy.leak()).await;
        delivered(&stage, stage.buy("10000").await.unwrap()).await;
        let notice = serde_json::to_value(&stage.watcher.2.lock().unwrap()[0]).unwrap();
        let sum = match limit {
            "" => json!(null),
            _ => json!("0.50 USD"),
        };
        assert_eq!(notice["limit"], sum, "{notice}");
        assert_eq!(notice["payments_limit"], 1, "{notice}");
        let refusal = stage.buy("10000").await.err().unwrap();
        assert_eq!(refusal.reason, Reason::OverBudget);
        assert_eq!((refusal.limit, refusal.remaining), (None, None), "{limit}");
        assert!(
            refusal.detail.contains("allows 1 payments, and 1 count"),
            "{}",
            refusal.detail
        );
    }
}

#[tokio::test]
async fn every_scope_has_its_own_account() {
    let stage = stage(
        "
budgets:
  - { name: s, scope: session, limit: \"1 USD\", window: 1h }
  - { name: a, scope: agent, limit: \"1 USD\", window: 1h }
  - { name: h, scope: host, limit: \"1 USD\", window: day }
  - { name: w, scope: wallet, limit: \"1 USD\", window: month }
  - { name: all, scope: all, limit: \"0.02 USD\", window: day }
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"9 USD\", rate: { host: 5/m, session: 5/m } }
",
    )
    .await;
    for _ in 0..2 {
        delivered(&stage, stage.buy("10000").await.unwrap()).await;
    }
    let session = format!("budget:s:{}", stage.session.id);
    let wallet = format!("budget:w:{}", super::stage::PAYER);
    for account in [
        &*session,
        "budget:a:bot",
        "budget:h:api.example.com",
        &*wallet,
        "budget:all:",
    ] {
        let counted = stage.ledger.counted(account, 0).await.unwrap();
        assert_eq!(
            (counted.amount, counted.payments),
            (Usd(20_000_000), 2),
            "{account}"
        );
    }
    assert_eq!(reason(stage.buy("10000").await), Reason::OverBudget);
    for account in [&*session, "budget:a:bot", "rate:host:data:api.example.com"] {
        let counted = stage.ledger.counted(account, 0).await.unwrap();
        assert_eq!(counted.payments, 2, "{account}: all or none");
    }
}

#[tokio::test]
async fn a_category_is_a_name_for_hosts() {
    let stage = stage(
        "
categories:
  weather: [api.example.com, \"*.sky.example\"]
rules:
  - name: data
    match: { categories: [weather] }
    pay: { max: \"9 USD\" }
",
    )
    .await;
    delivered(&stage, stage.buy("10000").await.unwrap()).await;
    let elsewhere = stage.asked("sky.example");
    let refused = stage.payer.authorize(&elsewhere, &challenge("10000")).await;
    assert_eq!(reason(refused), Reason::HostNotAllowed);
}

/// As a URL and a rule have it: without brackets the port would be a part of the address.
#[tokio::test]
async fn an_ipv6_host_with_a_port_is_recorded_in_brackets() {
    let stage = stage(
        "
rules:
  - name: data
    match: { hosts: [\"[2001:db8::1]\", \"[2001:db8::1]:8443\"] }
    pay: { max: \"9 USD\" }
",
    )
    .await;
    for (port, expected) in [(443, "2001:db8::1"), (8443, "[2001:db8::1]:8443")] {
        let mut asked = stage.asked("2001:db8::1");
        asked.port = port;
        let mut challenge = challenge("10");
        let all = challenge.requirements.iter_mut();
        all.for_each(|requirement| requirement.resource = None);
        let signed = stage.payer.authorize(&asked, &challenge).await.unwrap();
        delivered(&stage, signed).await;
        assert_eq!(stage.newest().await.host, expected);
    }
}
