//! The payment transaction, step by step: what the ledger says at every moment, and what gives money
//! back (nothing but proof).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::stage::{MERCHANT, NETWORK, Setup, Stage, USDC, challenge, challenge_of, paid, receipt};
use farepass::chain::Chains;
use farepass::clock::{Clock, Timestamp};
use farepass::event::{Flag, State};
use farepass::ledger::{self, sessions};
use farepass::money::Usd;
use farepass::payer::{Parts, Payer, Waiting};
use farepass::payment::{Asked, Challenge, PaymentId, Reason, Refusal, RequestKey};
use farepass::protocol;
use farepass::settings::Unproven;
use farepass::wallet::{Wallet, WalletError};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

#[tokio::test]
async fn the_reservation_is_there_before_the_wallet_is_asked() {
    let stage = Stage::usual().await;
    let signed = stage.buy("10000").await.unwrap_or_else(|r| panic!("{r}"));
    assert_eq!(*stage.wallet.seen.lock().unwrap(), [State::Reserved]);
    assert_eq!(stage.spent().await, (Usd(10_000_000), 1));
    assert_eq!(signed.payload.name, "payment-signature");
    let row = stage.newest().await;
    assert_eq!(row.id, signed.id());
    assert_eq!(row.valid_before, Some(1_800_000_060));
    assert!(row.nonce.unwrap().ends_with("0001"));

    let headers = receipt(&paid());
    let settled = stage
        .payer
        .settle(signed, Some((StatusCode::OK, &headers)))
        .await;
    assert_eq!(settled.refusal, None);
    assert_eq!(settled.paid.remaining, Usd(15_000_000));
    assert_eq!(stage.spent().await, (Usd(10_000_000), 1));
    let row = stage.newest().await;
    assert_eq!(
        (row.state, row.flags, row.confirmed),
        (State::Settled, vec![], false)
    );
    let states: Vec<_> = stage
        .watcher
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|e| e.state)
        .collect();
    assert_eq!(states, [State::Reserved, State::Settled]);
}

#[tokio::test]
async fn budgets_hold_for_the_third_purchase() {
    let stage = Stage::usual().await;
    for _ in 0..2 {
        let _signed = stage.buy("10000").await.unwrap_or_else(|r| panic!("{r}"));
    }
    let refusal = stage.buy("10000").await.err().unwrap();
    assert_eq!(refusal.reason, Reason::OverSessionCap);
    assert_eq!(refusal.limit, Some(Usd(25_000_000)));
    assert_eq!(refusal.remaining, Some(Usd(5_000_000)));
    assert_eq!(refusal.rule.as_deref(), Some("data"));
    assert_eq!(
        stage.wallet.seen.lock().unwrap().len(),
        2,
        "no third signature"
    );
    assert_eq!(stage.spent().await, (Usd(20_000_000), 2));
    let row = stage.newest().await;
    assert_eq!(
        (row.state, row.reason.as_deref()),
        (State::Denied, Some("over_session_cap"))
    );
    assert_eq!((row.nonce, row.charged), (None, None));
}

#[tokio::test]
async fn what_the_policy_refuses_reaches_no_wallet() {
    let stage = Stage::usual().await;
    let dear = stage.buy("50001").await.err().unwrap();
    assert_eq!(dear.reason, Reason::OverRequestCap);
    assert_eq!(dear.remaining, Some(Usd(25_000_000)), "of the session");
    let row = stage.newest().await;
    assert_eq!(row.asset, "USDC", "by its symbol, as where it is paid");
    let asked = stage.asked("other.example.com");
    let stranger = stage
        .payer
        .authorize(&asked, &challenge("1"))
        .await
        .err()
        .unwrap();
    assert_eq!(stranger.reason, Reason::HostNotAllowed);
    assert!(stage.wallet.seen.lock().unwrap().is_empty());
    assert_eq!(stage.spent().await, (Usd(0), 0));
}

#[tokio::test]
async fn only_a_certain_wallet_gives_money_back() {
    for (answer, state, counted) in [
        (WalletError::Declined("no".into()), State::Released, 0),
        (WalletError::Unsupported, State::Released, 0),
        (
            WalletError::Unknown("lost".into()),
            State::Unknown,
            10_000_000,
        ),
    ] {
        let stage = Stage::usual().await;
        *stage.wallet.answer.lock().unwrap() = Err(answer.clone());
        let refusal = stage.buy("10000").await.err().unwrap();
        assert_eq!(refusal.reason, Reason::WalletUnavailable);
        assert_eq!(
            refusal.payment.is_some(),
            state == State::Unknown,
            "{answer}"
        );
        assert_eq!(refusal.rule.as_deref(), Some("data"));
        assert_eq!(refusal.price, Some(Usd(10_000_000)));
        assert_eq!(stage.newest().await.state, state, "{answer}");
        assert_eq!(stage.spent().await.0, Usd(counted), "{answer}");
    }
}

#[tokio::test]
async fn without_randomness_nothing_is_paid() {
    let setup = Setup {
        random: false,
        ..Setup::default()
    };
    let stage = setup.stage().await;
    let refusal = stage.buy("10000").await.err().unwrap();
    assert_eq!(refusal.reason, Reason::WalletUnavailable);
    assert!(refusal.detail.contains("randomness"), "{}", refusal.detail);
    assert_eq!(stage.wallet.seen.lock().unwrap().len(), 0, "signatures");
    assert_eq!(stage.spent().await, (Usd(0), 0));
}

#[test]
fn a_million_nonces_are_all_different() {
    let fresh = farepass::payer::os_randomness();
    let mut seen = std::collections::HashSet::new();
    let (mut any, mut every) = ([0u8; 32], [255u8; 32]);
    for _ in 0..1_000_000 {
        let (_, nonce) = fresh().unwrap();
        for (i, byte) in nonce.0.iter().enumerate() {
            any[i] |= byte;
            every[i] &= byte;
        }
        assert!(seen.insert(nonce.0));
    }
    assert_eq!((any, every), ([255; 32], [0; 32]), "all 256 bits are drawn");
}

#[tokio::test]
async fn an_answer_without_a_receipt_proves_nothing() {
    let denied =
        json!({ "success": false, "errorReason": "nonce_already_used", "transaction": "" });
    let none = HeaderMap::new();
    let failed = receipt(&denied);
    let table = [
        (
            None,
            vec![Flag::PaidNotDelivered],
            Some(Reason::OutcomeUnknown),
        ),
        (Some((StatusCode::OK, &none)), vec![], None),
        (
            Some((StatusCode::BAD_GATEWAY, &none)),
            vec![Flag::PaidNotDelivered],
            None,
        ),
        (
            Some((StatusCode::PAYMENT_REQUIRED, &none)),
            vec![Flag::PaidButDenied],
            Some(Reason::AlreadyPaid),
        ),
        (
            Some((StatusCode::PAYMENT_REQUIRED, &failed)),
            vec![Flag::PaidButDenied],
            Some(Reason::OutcomeUnknown),
        ),
    ];
    for (answer, flags, reason) in table {
        let stage = Stage::usual().await;
        let signed = stage.buy("10000").await.unwrap_or_else(|r| panic!("{r}"));
        let id = signed.id();
        let settled = stage.payer.settle(signed, answer).await;
        assert_eq!(
            settled.refusal.as_ref().map(|r| r.reason),
            reason,
            "{answer:?}"
        );
        if let Some(refusal) = settled.refusal {
            assert_eq!(refusal.payment, Some(id));
            assert_eq!(refusal.rule.as_deref(), Some("data"));
            assert!(!refusal.retryable, "nobody recognises its retry");
        }
        let row = stage.newest().await;
        assert_eq!(
            (row.state, row.flags),
            (State::Unknown, flags),
            "{answer:?}"
        );
        assert_eq!(stage.spent().await, (Usd(10_000_000), 1), "{answer:?}");
    }
}

#[tokio::test]
async fn a_lying_receipt_changes_no_sum() {
    for lie in [
        json!({ "success": true, "transaction": format!("0x{}", "ab".repeat(32)), "network": NETWORK, "amount": "1" }),
        json!({ "success": true, "transaction": format!("0x{}", "ab".repeat(32)), "network": NETWORK, "amount": "99990000" }),
        json!({ "success": true, "transaction": format!("0x{}", "ab".repeat(32)), "network": "eip155:1" }),
        json!({ "success": true, "transaction": "", "network": NETWORK }),
    ] {
        let stage = Stage::usual().await;
        let signed = stage.buy("10000").await.unwrap_or_else(|r| panic!("{r}"));
        let headers = receipt(&lie);
        stage
            .payer
            .settle(signed, Some((StatusCode::OK, &headers)))
            .await;
        let row = stage.newest().await;
        assert_eq!(row.flags, [Flag::ReceiptMismatch], "{lie}");
        assert_eq!(stage.spent().await, (Usd(10_000_000), 1), "{lie}");
    }
}

#[tokio::test]
async fn the_sweeper_needs_proof_to_release() {
    for (chain, unproven, state, counted, reason) in [
        (
            Some(true),
            Unproven::Release,
            State::Settled,
            10_000_000,
            "seen_on_chain",
        ),
        (
            Some(false),
            Unproven::Count,
            State::Released,
            0,
            "unused_on_chain",
        ),
        (
            None,
            Unproven::Count,
            State::Settled,
            10_000_000,
            "expired_unproven",
        ),
        (
            None,
            Unproven::Release,
            State::Released,
            0,
            "expired_unproven",
        ),
    ] {
        let setup = Setup {
            chain,
            unproven,
            ..Setup::default()
        };
        let stage = setup.stage().await;
        let signed = stage.buy("10000").await.unwrap_or_else(|r| panic!("{r}"));
        stage.payer.settle(signed, None).await;
        stage.ledger.flush().await.unwrap();
        // Valid for 60 s, held for a minute more.
        stage.clock.0.fetch_add(119, Ordering::SeqCst);
        assert_eq!(stage.payer.sweep().await.unwrap(), 0, "still alive");
        stage.clock.0.fetch_add(1, Ordering::SeqCst);
        assert_eq!(stage.payer.sweep().await.unwrap(), 1);
        stage.ledger.flush().await.unwrap();
        assert_eq!(stage.payer.sweep().await.unwrap(), 0, "closed once");
        let row = stage.newest().await;
        assert_eq!((row.state, row.reason.as_deref()), (state, Some(reason)));
        assert_eq!(row.confirmed, chain == Some(true));
        assert_eq!(stage.spent().await.0, Usd(counted));
    }
}

#[tokio::test]
async fn no_clock_that_jumps_kills_a_payload_that_lives() {
    // Seconds that the wall is ahead while signing and while sweeping, and whether 120 seconds
    // later the payload is certainly dead.
    for (signing, sweeping, dead) in [
        (0, 0, 1),
        (0, 100_000, 1),
        (1_000, 0, 0),
        (0, -1, 0),
        (-100_000, -100_000, 1),
    ] {
        let setup = Setup {
            unproven: Unproven::Release,
            ..Setup::default()
        };
        let stage = setup.stage().await;
        stage.clock.1.store(signing, Ordering::SeqCst);
        let signed = stage.buy("10000").await.unwrap_or_else(|r| panic!("{r}"));
        stage.payer.settle(signed, None).await;
        stage.ledger.flush().await.unwrap();
        stage.clock.1.store(sweeping, Ordering::SeqCst);
        assert_eq!(stage.payer.sweep().await.unwrap(), 0, "at once");
        stage.clock.0.fetch_add(120, Ordering::SeqCst);
        let swept = stage.payer.sweep().await.unwrap();
        assert_eq!(swept, dead, "{signing} {sweeping}");
    }
}

#[tokio::test]
async fn a_session_is_over_when_either_clock_says_so() {
    for (later, ahead) in [(3600, 0), (0, 3600), (3600, -3600)] {
        let stage = Stage::usual().await;
        stage.clock.0.fetch_add(later, Ordering::SeqCst);
        stage.clock.1.store(ahead, Ordering::SeqCst);
        let refusal = stage.buy("10000").await.err().unwrap();
        assert_eq!(refusal.reason, Reason::SessionExpired, "{later} {ahead}");
    }
}

/// What it was opened after goes by the wall; what is spent goes by the clock that nobody sets.
#[tokio::test]
async fn a_session_that_is_opened_after_the_wall_was_set_forward_lives() {
    let stage = Stage::usual().await;
    stage.clock.1.store(7500, Ordering::SeqCst);
    let wanted = sessions::Wanted {
        agent: "later".into(),
        budget: Usd(25_000_000),
        expires: std::time::Duration::from_secs(3600),
    };
    let (draft, _) = sessions::Draft::new(wanted, &*stage.clock).unwrap();
    draft.open(&*stage.ledger).await.unwrap();
    let asked = Asked {
        session: Arc::new(draft.session),
        ..stage.asked("api.example.com")
    };
    let buy = async || stage.payer.authorize(&asked, &challenge("10000")).await;
    let _paid = buy().await.unwrap_or_else(|r| panic!("{r}"));
    stage.clock.0.fetch_add(3600, Ordering::SeqCst);
    let refusal = buy().await.err().unwrap();
    assert_eq!(refusal.reason, Reason::SessionExpired);
}

/// An MPP challenge that expires then.
fn expiring(at: Timestamp) -> Challenge {
    let request = json!({
        "amount": "10000", "currency": USDC, "recipient": MERCHANT,
        "methodDetails": { "chainId": 84532, "credentialTypes": ["authorization"], "decimals": 6 }
    });
    let request = URL_SAFE_NO_PAD.encode(request.to_string());
    let line = format!(
        "Payment id=\"a1\", realm=\"api.example.com\", method=\"evm\", intent=\"charge\", expires=\"{at}\", request=\"{request}\""
    );
    let mut response = http::Response::new(());
    *response.status_mut() = StatusCode::PAYMENT_REQUIRED;
    let value = HeaderValue::try_from(line).unwrap();
    response.headers_mut().insert("www-authenticate", value);
    let (head, ()) = response.into_parts();
    protocol::read(&protocol::recognise(&head), &head, None)
}

#[tokio::test]
async fn a_challenge_expires_by_the_clock_that_it_is_written_in() {
    const POLICY: &str = "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"0.05 USD\", schemes: [evm/charge] }
";
    for ahead in [0, -600, 600] {
        let setup = Setup {
            policy: POLICY,
            ..Setup::default()
        };
        let stage = setup.stage().await;
        stage.clock.1.store(ahead, Ordering::SeqCst);
        let asked = stage.asked("api.example.com");
        let wall = stage.clock.wall();
        let over = stage.payer.authorize(&asked, &expiring(wall)).await;
        let refusal = over.err().unwrap();
        assert_eq!(refusal.reason, Reason::ChallengeExpired, "{ahead}");
        let ends = wall.after_secs(240);
        let signed = stage.payer.authorize(&asked, &expiring(ends)).await;
        let _paid = signed.unwrap_or_else(|r| panic!("{ahead}: {r}"));
        let row = stage.newest().await;
        assert_eq!(row.valid_before, Some(ends.secs()), "{ahead}");
    }
}

#[tokio::test]
async fn nothing_is_signed_while_draining_or_after_the_expiry() {
    let stage = Stage::usual().await;
    stage.clock.0.fetch_add(3600, Ordering::SeqCst);
    let refusal = stage.buy("10000").await.err().unwrap();
    assert_eq!(refusal.reason, Reason::SessionExpired);
    let stage = Stage::usual().await;
    stage.payer.drain();
    assert_eq!(stage.buy("1").await.err().unwrap().reason, Reason::Draining);
    let stage = Stage::usual().await;
    let now = stage.clock.now();
    sessions::close(&*stage.ledger, &stage.session.id, now)
        .await
        .unwrap();
    assert_eq!(
        stage.buy("1").await.err().unwrap().reason,
        Reason::SessionClosed
    );
    assert!(stage.wallet.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn observing_signs_nothing_and_tells_the_price() {
    let setup = Setup {
        policy: "
mode: observe
rules:
  - { name: data, match: { hosts: [api.example.com] }, pay: { max: \"0.05 USD\" } }
",
        ..Setup::default()
    };
    let stage = setup.stage().await;
    let refusal = stage.buy("10000").await.err().unwrap();
    assert_eq!(
        (refusal.reason, refusal.price),
        (Reason::ObserveMode, Some(Usd(10_000_000)))
    );
    assert!(stage.wallet.seen.lock().unwrap().is_empty());
    assert_eq!(stage.spent().await, (Usd(0), 0));
}

/// What would not be paid is told as it would be, and nothing comes of it.
#[tokio::test]
async fn observing_tells_what_the_ledger_would_refuse_and_asks_nobody() {
    let setup = Setup {
        policy: "
mode: observe
budgets:
  - { name: small, scope: agent, limit: \"0.01 USD\", window: day }
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"1 USD\", rate: 1/h, approval: { above: \"0.02 USD\", wait: 10m } }
  - name: budgeted
    match: { hosts: [b.example.com] }
    pay: { max: \"1 USD\", budgets: [small] }
",
        budget: Usd(30_000_000),
        ..Setup::default()
    };
    let stage = setup.stage().await;
    let said = async |host: &str, amount: &str| {
        let mut challenge = challenge(amount);
        let all = challenge.requirements.iter_mut();
        all.for_each(|requirement| requirement.resource = None);
        let refused = stage.payer.authorize(&stage.asked(host), &challenge).await;
        let refusal = refused.err().unwrap();
        assert_eq!(
            stage.newest().await.reason.as_deref(),
            Some(refusal.reason.code())
        );
        refusal
    };
    for _ in 0..3 {
        let paid = said("api.example.com", "10000").await;
        assert_eq!(paid.reason, Reason::ObserveMode, "no place is taken");
        assert!(paid.detail.ends_with("it would have paid 0.01 USD"));
    }
    let asks = said("api.example.com", "30000").await;
    assert_eq!(asks.reason, Reason::ObserveMode);
    assert!(
        asks.detail.contains("would have asked a person"),
        "{}",
        asks.detail
    );
    let dear = said("api.example.com", "40000").await;
    assert_eq!(dear.reason, Reason::OverSessionCap);
    assert_eq!(
        (dear.rule.as_deref(), dear.price),
        (Some("data"), Some(Usd(40_000_000)))
    );
    assert_eq!(
        said("b.example.com", "10001").await.reason,
        Reason::OverBudget
    );
    assert_eq!(
        said("b.example.com", "10000").await.reason,
        Reason::ObserveMode
    );
    assert!(stage.ledger.facts("").await.unwrap().is_empty());
    assert!(stage.watcher.2.lock().unwrap().is_empty());
    sessions::close(&*stage.ledger, &stage.session.id, stage.clock.now())
        .await
        .unwrap();
    assert_eq!(
        said("api.example.com", "1").await.reason,
        Reason::SessionClosed
    );
    assert_eq!(stage.spent().await, (Usd(0), 0));
}

#[tokio::test]
async fn two_hundred_at_once_buy_exactly_what_the_budget_holds() {
    let setup = Setup {
        budget: Usd(370_000_000),
        ..Setup::default()
    };
    let stage = Arc::new(setup.stage().await);
    let mut buyers = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let stage = Arc::clone(&stage);
        buyers.spawn(async move { stage.buy("10000").await.map(|s| s.id()) });
    }
    let (mut bought, mut refused) = (0, 0);
    while let Some(outcome) = buyers.join_next().await {
        match outcome.unwrap() {
            Ok(_) => bought += 1,
            Err(refusal) => {
                assert_eq!(refusal.reason, Reason::OverSessionCap);
                refused += 1;
            }
        }
    }
    assert_eq!((bought, refused), (37, 163));
    assert_eq!(stage.spent().await, (Usd(370_000_000), 37));
}

impl Stage {
    /// One purchase of the request with this key, and what the merchant answered.
    async fn exchange(
        &self,
        key: u8,
        answer: Option<(StatusCode, &HeaderMap)>,
    ) -> Result<(PaymentId, HeaderValue), Refusal> {
        let asked = Asked {
            request: Some(RequestKey([key; 32])),
            ..self.asked("api.example.com")
        };
        let signed = self.payer.authorize(&asked, &challenge("1000")).await?;
        let told = (signed.id(), signed.payload.value.clone());
        let settled = self.payer.settle(signed, answer).await;
        if let Some(recourse) = settled.record.recourse {
            self.payer.arrived(recourse, 4);
        }
        Ok(told)
    }
}

#[tokio::test]
async fn an_agents_retry_gets_the_same_payload_never_a_second_payment() {
    let stage = Stage::usual().await;
    let none = HeaderMap::new();
    let lost = stage.exchange(1, None).await.unwrap();
    for answer in [None, Some((StatusCode::BAD_GATEWAY, &none)), None] {
        assert_eq!(
            stage.exchange(1, answer).await.unwrap(),
            lost,
            "the same payload"
        );
    }
    let refusal = stage.exchange(1, None).await.unwrap_err();
    assert_eq!(
        refusal.reason,
        Reason::OutcomeUnknown,
        "resends are bounded"
    );
    assert_eq!(refusal.payment, Some(lost.0));
    assert_eq!(refusal.rule.as_deref(), Some("data"));
    assert_eq!(refusal.price, Some(Usd(1_000_000)));
    assert_eq!(stage.spent().await, (Usd(1_000_000), 1));
    assert_eq!(
        stage.wallet.seen.lock().unwrap().len(),
        1,
        "one signature in all"
    );

    assert_ne!(
        stage.exchange(2, None).await.unwrap().0,
        lost.0,
        "another request is another"
    );
    stage.clock.0.fetch_add(121, Ordering::SeqCst);
    let again = stage.exchange(1, None).await.unwrap();
    assert_ne!(again.0, lost.0, "the old payload is dead");
}

#[tokio::test]
async fn what_was_delivered_is_bought_anew() {
    let stage = Stage::usual().await;
    let headers = receipt(&paid());
    let first = stage
        .exchange(1, Some((StatusCode::OK, &headers)))
        .await
        .unwrap();
    let second = stage
        .exchange(1, Some((StatusCode::OK, &headers)))
        .await
        .unwrap();
    assert_ne!(first.0, second.0);
    // Recovered after a loss: the resend is answered, and the next request is a purchase of its own.
    let lost = stage.exchange(1, None).await.unwrap();
    assert_eq!(
        stage
            .exchange(1, Some((StatusCode::OK, &headers)))
            .await
            .unwrap(),
        lost
    );
    assert_ne!(stage.exchange(1, None).await.unwrap().0, lost.0);
    assert_eq!(stage.spent().await.1, 4);
}

impl Stage {
    fn retryable(&self) -> Asked {
        Asked {
            request: Some(RequestKey([1; 32])),
            ..self.asked("api.example.com")
        }
    }

    /// A purchase that is under way, and the agent that waits for it.
    async fn under_way(&self) -> (farepass::payer::Signed, Arc<Waiting>) {
        let waiting = Arc::new(Waiting::default());
        self.payer.begin(RequestKey([1; 32]), &waiting);
        let (asked, challenge) = (self.retryable(), challenge("1000"));
        let signed = self.payer.authorize(&asked, &challenge).await.unwrap();
        let signed = signed.awaited(Arc::clone(&waiting));
        (signed, waiting)
    }
}

/// Threat M-12: the first request is still on its way when the agent's patience ends.
#[tokio::test]
async fn an_agent_that_hung_up_and_asks_again_buys_once() {
    let stage = Stage::usual().await;
    let headers = receipt(&paid());
    let (first, waiting) = stage.under_way().await;
    let (id, payload) = (first.id(), first.payload.value.clone());
    waiting.leave();
    let refusal = stage.exchange(1, None).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::OutcomeUnknown);
    assert_eq!(refusal.payment, Some(id));
    assert!(refusal.retryable);
    // The answer comes to nobody: settled, but not delivered.
    stage
        .payer
        .settle(first, Some((StatusCode::OK, &headers)))
        .await;
    drop(waiting);
    let again = stage.exchange(1, Some((StatusCode::OK, &headers))).await;
    assert_eq!(again.unwrap(), (id, payload));
    assert_eq!(stage.spent().await, (Usd(1_000_000), 1));
    assert_eq!(stage.wallet.seen.lock().unwrap().len(), 1, "one signature");
    let anew = stage.exchange(1, Some((StatusCode::OK, &headers))).await;
    assert_ne!(anew.unwrap().0, id, "delivered: the next is a purchase");
}

/// Threat X-07: two that both wait are two purchases, each on its own account.
#[tokio::test]
async fn two_agents_that_both_wait_buy_twice() {
    let stage = Stage::usual().await;
    let (first, _one) = stage.under_way().await;
    let (second, _two) = stage.under_way().await;
    assert_ne!(first.id(), second.id());
    assert_ne!(first.payload.value, second.payload.value);
    assert_eq!(stage.spent().await.1, 2);
}

/// Both waited, and one of them got nothing for its money: that is owed still.
#[tokio::test]
async fn an_answer_to_one_of_two_leaves_the_other_owed() {
    let stage = Stage::usual().await;
    let headers = receipt(&paid());
    let whole = Some((StatusCode::OK, &headers));
    let (first, _one) = stage.under_way().await;
    let (second, _two) = stage.under_way().await;
    let lost = (first.id(), first.payload.value.clone());
    stage.payer.settle(first, None).await;
    stage.payer.settle(second, whole).await;
    assert_eq!(stage.exchange(1, whole).await.unwrap(), lost);
    assert_eq!(stage.spent().await.1, 2, "none is paid a third time");

    let (third, _one) = stage.under_way().await;
    let (fourth, _two) = stage.under_way().await;
    let mut both = vec![third.id(), fourth.id()];
    stage.payer.settle(fourth, None).await;
    stage.payer.settle(third, None).await;
    let mut brought = vec![];
    for _ in 0..2 {
        brought.push(stage.exchange(1, whole).await.unwrap().0);
    }
    both.sort_unstable();
    brought.sort_unstable();
    assert_eq!(brought, both, "each is brought once");
    assert_eq!(stage.spent().await.1, 4);
    let anew = stage.exchange(1, whole).await.unwrap();
    assert!(!both.contains(&anew.0), "nothing is owed any more");
}

/// A wallet may take longer than an agent waits.
#[tokio::test]
async fn an_agent_that_left_while_the_wallet_was_asked_is_known_by_its_payment() {
    let stage = Stage::usual().await;
    let busy = stage.wallet.gate.lock().await;
    let waiting = Arc::new(Waiting::default());
    stage.payer.begin(RequestKey([1; 32]), &waiting);
    let (payer, asked) = (Arc::clone(&stage.payer), stage.retryable());
    let of = Arc::clone(&waiting);
    let first = tokio::spawn(async move {
        payer
            .consider(&asked, &challenge("1000"), Some(&of))
            .await
            .map(|signed| signed.id())
            .map_err(|_| ())
    });
    while stage.wallet.seen.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    waiting.leave();
    let refusal = stage.exchange(1, None).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::OutcomeUnknown);
    drop(busy);
    let id = first.await.unwrap().unwrap();
    assert_eq!(refusal.payment, Some(id), "it is told which payment it is");
    assert_eq!(stage.spent().await.1, 1);
}

/// The same where the payment goes with the first request.
#[tokio::test]
async fn an_agent_that_left_a_payment_in_advance_buys_no_second_one() {
    const POLICY: &str = "
rules:
  - name: api
    match: { hosts: [api.example.com] }
    pay: { max: \"0.10 USD\", prepay: true, networks: [eip155:84532] }
";
    let stage = Setup {
        policy: POLICY,
        ..Setup::default()
    };
    let stage = stage.stage().await;
    let headers = receipt(&paid());
    let asked = stage.retryable();
    let signed = stage.payer.authorize(&asked, &challenge("1000")).await;
    let signed = signed.unwrap().at("/v1/x");
    let whole = Some((StatusCode::OK, &headers));
    stage.payer.settle(signed, whole).await;
    let quote = stage.payer.quote(&asked, "/v1/x").expect("terms");

    let busy = stage.wallet.gate.lock().await;
    let waiting = Arc::new(Waiting::default());
    let (payer, of, same) = (
        Arc::clone(&stage.payer),
        Arc::clone(&waiting),
        quote.clone(),
    );
    let question = asked.clone();
    let first = tokio::spawn(async move {
        let signed = payer.prepay(&question, &same, &of).await;
        signed.is_ok_and(|signed| signed.is_some())
    });
    while stage.wallet.seen.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    waiting.leave();
    let again = Arc::new(Waiting::default());
    let second = stage.payer.prepay(&asked, &quote, &again).await;
    assert!(second.unwrap().is_none(), "it goes without a payment");
    drop(busy);
    assert!(first.await.unwrap());
    assert_eq!(stage.spent().await.1, 2);
}

/// Nobody waits any more when it would be signed: nothing is.
#[tokio::test]
async fn an_agent_that_left_before_the_signature_pays_nothing() {
    let stage = Stage::usual().await;
    let waiting = Arc::new(Waiting::default());
    stage.payer.begin(RequestKey([1; 32]), &waiting);
    waiting.leave();
    let asked = stage.retryable();
    let refusal = stage.payer.authorize(&asked, &challenge("1000")).await;
    assert_eq!(refusal.err().unwrap().reason, Reason::OutcomeUnknown);
    assert_eq!(stage.spent().await.1, 0);
    drop(waiting);
    assert!(stage.exchange(1, None).await.is_ok());
}

#[tokio::test]
async fn an_answer_that_was_broken_off_is_asked_for_again_and_not_bought_again() {
    let stage = Stage::usual().await;
    let headers = receipt(&paid());
    let (first, _waiting) = stage.under_way().await;
    let id = first.id();
    let settled = stage
        .payer
        .settle(first, Some((StatusCode::OK, &headers)))
        .await;
    stage.payer.broken_off(settled.record.recourse.unwrap());
    let none = HeaderMap::new();
    // In vain, in every way; what was settled stays settled, and is told once.
    for answer in [None, Some((StatusCode::PAYMENT_REQUIRED, &none))] {
        assert_eq!(stage.exchange(1, answer).await.unwrap().0, id);
        let row = stage.newest().await;
        assert_eq!((row.id, row.state), (id, State::Settled));
        assert_eq!(row.receipt.as_deref(), Some("claimed"));
        assert_eq!(
            row.transaction,
            paid()["transaction"].as_str().map(Into::into)
        );
    }
    assert_eq!(
        stage
            .exchange(1, Some((StatusCode::OK, &headers)))
            .await
            .unwrap()
            .0,
        id
    );
    assert_eq!(stage.spent().await, (Usd(1_000_000), 1));
    let seen = stage.watcher.0.lock().unwrap();
    let settled = seen.iter().filter(|e| e.state == State::Settled);
    assert_eq!(settled.count(), 1, "sums of watchers count it once");
}

impl Stage {
    /// Another process with the same ledger.
    pub(crate) async fn restarted(&self) -> Payer {
        self.ledger.flush().await.unwrap();
        let setup = Setup::default().stage().await;
        Payer::new(Parts {
            policy: setup.payer.policy(),
            ledger: Arc::clone(&self.ledger),
            wallets: vec![Arc::clone(&self.wallet) as Arc<dyn Wallet>],
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            fresh: farepass::payer::os_randomness(),
            sinks: vec![],
            unproven: Unproven::Count,
            admin_url: String::new(),
            stopped: Box::new(|| false),
            chains: Chains::default(),
        })
    }
}

#[tokio::test]
async fn a_restart_remembers_the_request_but_not_the_payload() {
    let stage = Stage::usual().await;
    let lost = stage.exchange(1, None).await.unwrap();
    stage.ledger.flush().await.unwrap();
    let restarted = stage.restarted().await;
    restarted.recall().await.unwrap();
    let asked = Asked {
        request: Some(RequestKey([1; 32])),
        ..stage.asked("api.example.com")
    };
    let refusal = restarted
        .authorize(&asked, &challenge("1000"))
        .await
        .err()
        .unwrap();
    assert_eq!(refusal.reason, Reason::OutcomeUnknown);
    assert_eq!(refusal.payment, Some(lost.0));
    assert_eq!(refusal.rule.as_deref(), Some("data"));
    assert_eq!(refusal.price, Some(Usd(1_000_000)));
}

/// An agent that reads `retryable` may ask again as long as that brings the same payload.
#[tokio::test]
async fn an_unknown_outcome_may_be_tried_again_while_the_same_payload_goes() {
    const HOLD: &str = "
rules:
  - { name: data, match: { hosts: [api.example.com] }, pay: { max: \"0.05 USD\", on_unknown: hold } }
";
    for (policy, tries) in [
        (None, vec![true, true, true, false]),
        (Some(HOLD), vec![false]),
    ] {
        let setup = Setup {
            policy: policy.unwrap_or(Setup::default().policy),
            ..Setup::default()
        };
        let stage = setup.stage().await;
        for at_once in tries {
            let signed = stage
                .payer
                .authorize(&stage.retryable(), &challenge("1000"))
                .await
                .unwrap_or_else(|r| panic!("{r}"));
            let refusal = stage.payer.settle(signed, None).await.refusal.unwrap();
            assert_eq!(refusal.reason, Reason::OutcomeUnknown);
            // At once with the same payload, or when that can be charged no more.
            assert!(refusal.retryable);
            assert_eq!(refusal.resets_at.is_none(), at_once);
        }
        assert_eq!(stage.spent().await.1, 1);
    }
}

#[tokio::test]
async fn hold_sends_nothing_again() {
    let setup = Setup {
        policy: "
rules:
  - { name: data, match: { hosts: [api.example.com] }, pay: { max: \"0.05 USD\", on_unknown: hold } }
",
        ..Setup::default()
    };
    let stage = setup.stage().await;
    stage.exchange(1, None).await.unwrap();
    let refusal = stage.exchange(1, None).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::OutcomeUnknown);
}

#[tokio::test]
async fn a_merchant_that_takes_without_giving_is_left_alone() {
    let setup = Setup {
        budget: Usd(1_000_000_000),
        ..Setup::default()
    };
    let stage = setup.stage().await;
    for key in 1..=5 {
        stage.exchange(key, None).await.unwrap();
    }
    let refusal = stage.exchange(6, None).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::CircuitOpen);
    assert!(refusal.retryable && refusal.resets_at.is_some());
}

/// What is sent again is no other payment; but what it brings is delivered.
#[tokio::test]
async fn a_payload_that_is_sent_again_counts_once_for_the_circuit() {
    let setup = Setup {
        budget: Usd(1_000_000_000),
        ..Setup::default()
    };
    let stage = setup.stage().await;
    let headers = receipt(&paid());
    let goods = || Some((StatusCode::OK, &headers));
    for _ in 0..4 {
        stage.exchange(1, None).await.unwrap();
    }
    for key in 2..=4 {
        stage.exchange(key, None).await.unwrap();
    }
    stage.exchange(2, goods()).await.unwrap();
    for key in 5..=9 {
        stage.exchange(key, None).await.unwrap();
    }
    let refusal = stage.exchange(10, goods()).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::CircuitOpen);
}

/// A restart is no fresh start for a merchant either; but one delivery is.
#[tokio::test]
async fn a_restart_remembers_who_took_without_giving() {
    let setup = Setup {
        budget: Usd(1_000_000_000),
        ..Setup::default()
    };
    let stage = setup.stage().await;
    let headers = receipt(&paid());
    for key in 1..=5 {
        stage.exchange(key, None).await.unwrap();
    }
    let restarted = stage.restarted().await;
    restarted.recall().await.unwrap();
    let (asked, challenge) = (stage.asked("api.example.com"), challenge("1000"));
    let refusal = restarted.authorize(&asked, &challenge).await.err().unwrap();
    assert_eq!(refusal.reason, Reason::CircuitOpen);
    assert!(refusal.resets_at.is_some());

    stage.clock.0.fetch_add(61, Ordering::SeqCst);
    let delivered = stage.exchange(6, Some((StatusCode::OK, &headers))).await;
    delivered.unwrap();
    let restarted = stage.restarted().await;
    restarted.recall().await.unwrap();
    assert!(restarted.authorize(&asked, &challenge).await.is_ok());
}

#[tokio::test]
async fn evidence_is_noted_and_moves_no_sum() {
    let digest = Some("ab".repeat(32));
    // On disk, where the settlement is not yet committed when the body has already ended.
    let dir = tempfile::tempdir().unwrap();
    let disk = ledger::open(dir.path()).unwrap();
    for (length, digest, echoed, flags) in [
        (5, digest.clone(), false, vec![]),
        (0, digest.clone(), false, vec![Flag::PaidNotDelivered]),
        (3, None, false, vec![Flag::PaidNotDelivered]),
        (5, digest.clone(), true, vec![Flag::AuthorizationEchoed]),
    ] {
        let setup = Setup {
            ledger: Some(Arc::clone(&disk)),
            ..Setup::default()
        };
        let stage = setup.stage().await;
        let signed = stage.buy("10000").await.unwrap_or_else(|r| panic!("{r}"));
        let headers = receipt(&paid());
        let answer = Some((StatusCode::OK, &headers));
        let settled = stage.payer.settle(signed, answer).await;
        let received = farepass::payer::Received {
            broken_off: false,
            length,
            digest: digest.clone(),
            echoed,
        };
        stage.payer.received(*settled.record.event, received).await;
        let row = stage.newest().await;
        assert_eq!((row.state, row.flags), (State::Settled, flags));
        let delivery = row.delivery.unwrap();
        assert_eq!((delivery.length, delivery.digest), (Some(length), digest));
        assert_eq!(stage.spent().await, (Usd(10_000_000), 1));
    }
}

#[tokio::test]
async fn a_cheap_offer_under_a_wrong_domain_hides_no_good_one() {
    let offer = |amount: &str, name: &str| {
        json!({
            "scheme": "exact", "network": NETWORK, "amount": amount, "asset": USDC,
            "payTo": MERCHANT, "maxTimeoutSeconds": 60, "extra": { "name": name, "version": "2" }
        })
    };
    let stage = Stage::usual().await;
    let asked = stage.asked("api.example.com");
    let both = challenge_of(&json!([offer("100", "Evil Coin"), offer("200", "USDC")]));
    let signed = stage
        .payer
        .authorize(&asked, &both)
        .await
        .unwrap_or_else(|r| panic!("{r}"));
    let settled = stage.payer.settle(signed, None).await;
    assert_eq!(settled.paid.amount.0, 200);
    let evil = challenge_of(&json!([offer("100", "Evil Coin")]));
    let refusal = stage.payer.authorize(&asked, &evil).await.err().unwrap();
    assert_eq!(refusal.reason, Reason::AssetNotAllowed);
    assert_eq!(refusal.rule.as_deref(), Some("data"));
}

#[tokio::test]
async fn watchers_hear_of_states_once_and_of_flags() {
    let stage = Stage::usual().await;
    let headers = receipt(&paid());
    let signed = stage.buy("1000").await.unwrap_or_else(|r| panic!("{r}"));
    let answer = Some((StatusCode::OK, &headers));
    let settled = stage.payer.settle(signed, answer).await;
    let received = farepass::payer::Received {
        broken_off: false,
        length: 0,
        digest: Some("ab".repeat(32)),
        echoed: false,
    };
    stage.payer.received(*settled.record.event, received).await;
    for _ in 0..3 {
        stage.exchange(1, None).await.unwrap();
    }
    stage.ledger.flush().await.unwrap();
    let told = stage.watcher.0.lock().unwrap();
    let states: Vec<_> = told.iter().map(|e| e.state).collect();
    let expected = [
        State::Reserved,
        State::Settled,
        State::Reserved,
        State::Unknown,
    ];
    assert_eq!(states, expected);
    let flagged = stage.watcher.1.lock().unwrap();
    assert_eq!(flagged.len(), 3, "an empty answer, and two resends in vain");
    assert_eq!(flagged[0].flags, [Flag::PaidNotDelivered]);
}

#[tokio::test]
async fn a_wallet_that_may_have_signed_is_not_asked_again_for_the_same_request() {
    let stage = Stage::usual().await;
    *stage.wallet.answer.lock().unwrap() = Err(WalletError::Unknown("lost".into()));
    let asked = Asked {
        request: Some(RequestKey([9; 32])),
        ..stage.asked("api.example.com")
    };
    let challenge = challenge("10000");
    let first = stage.payer.authorize(&asked, &challenge).await.err();
    *stage.wallet.answer.lock().unwrap() = Ok(());
    let again = stage.payer.authorize(&asked, &challenge).await.err();
    let again = again.expect("refused");
    assert_eq!(again.reason, Reason::OutcomeUnknown);
    assert_eq!(again.payment, first.unwrap().payment);
    assert_eq!(stage.wallet.seen.lock().unwrap().len(), 1);
    // Once the payload is dead, if there is one, the request may be paid for.
    stage.clock.0.fetch_add(120, Ordering::SeqCst);
    assert!(stage.payer.authorize(&asked, &challenge).await.is_ok());
}

#[tokio::test]
async fn an_answer_that_comes_too_late_reopens_nothing() {
    let setup = Setup {
        chain: Some(false),
        ..Setup::default()
    };
    let stage = setup.stage().await;
    let signed = stage.buy("10000").await.unwrap_or_else(|r| panic!("{r}"));
    stage.clock.0.fetch_add(120, Ordering::SeqCst);
    assert_eq!(stage.payer.sweep().await.unwrap(), 1);
    let none = HeaderMap::new();
    let answer = Some((StatusCode::BAD_GATEWAY, &none));
    stage.payer.settle(signed, answer).await;
    let row = stage.newest().await;
    assert_eq!((row.state, row.charged), (State::Released, None));
    assert_eq!(row.flags, [Flag::PaidNotDelivered]);
    assert_eq!(stage.spent().await.0, Usd(0));
    let flagged = stage.watcher.1.lock().unwrap();
    assert_eq!(flagged.len(), 1, "the state is told once");
}
