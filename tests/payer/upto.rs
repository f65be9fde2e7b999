//! `upto`: the maximum is reserved, and what a receipt names counts only when no more can be taken.

use std::sync::atomic::Ordering;

use farepass::event::{Flag, HELD_ABOVE_CLAIM, SETTLED_AS_CLAIMED, State};
use farepass::money::{Amount, Usd};
use farepass::payer::{Settled, Signed};
use farepass::payment::{Challenge, Reason, Refusal, RequestKey};
use farepass::settings::Unproven;
use http::{HeaderMap, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::stage::{MERCHANT, NETWORK, Setup, Stage, USDC, challenge_of, receipt};

const POLICY: &str = "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"0.05 USD\", schemes: [exact, upto], transfer_methods: [eip3009, permit2] }
";

/// Units of a maximum of 0.02 USD.
const MOST: u128 = 20_000;

fn offer(amount: &str) -> Challenge {
    offer_by(amount, "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266")
}

fn offer_by(amount: &str, facilitator: &str) -> Challenge {
    challenge_of(&json!([{
        "scheme": "upto", "network": NETWORK, "amount": amount, "asset": USDC,
        "payTo": MERCHANT, "maxTimeoutSeconds": 60,
        "extra": {
            "name": "USDC", "version": "2", "assetTransferMethod": "permit2",
            "facilitatorAddress": facilitator
        }
    }]))
}

async fn stage(chain: Option<bool>, unproven: Unproven) -> Stage {
    let setup = Setup {
        policy: POLICY,
        chain,
        unproven,
        ..Setup::default()
    };
    setup.stage().await
}

async fn buy(stage: &Stage, amount: &str) -> Result<Signed, Refusal> {
    let mut asked = stage.asked("api.example.com");
    asked.request = Some(RequestKey([1; 32]));
    stage.payer.authorize(&asked, &offer(amount)).await
}

async fn answered(stage: &Stage, claim: &Value) -> Settled {
    let signed = buy(stage, "20000").await.unwrap_or_else(|r| panic!("{r}"));
    let headers = receipt(claim);
    stage
        .payer
        .settle(signed, Some((StatusCode::OK, &headers)))
        .await
}

fn took(amount: &str) -> Value {
    let transaction = match amount {
        "0" => String::new(),
        _ => format!("0x{}", "ab".repeat(32)),
    };
    json!({ "success": true, "transaction": transaction, "network": NETWORK, "amount": amount })
}

/// Past the payload's life, and the minute that clocks are allowed.
async fn outlive(stage: &Stage) {
    stage.clock.0.fetch_add(119, Ordering::SeqCst);
    assert_eq!(stage.payer.sweep().await.unwrap(), 0, "still alive");
    stage.clock.0.fetch_add(1, Ordering::SeqCst);
    stage.payer.sweep().await.unwrap();
}

#[tokio::test]
async fn caps_are_for_the_maximum() {
    let stage = stage(None, Unproven::Count).await;
    let refusal = buy(&stage, "50001").await.err().unwrap();
    assert_eq!(refusal.reason, Reason::OverRequestCap);
    // One that is held at its maximum leaves no room for another.
    answered(&stage, &took("1")).await;
    let refusal = buy(&stage, "20000").await.err().unwrap();
    assert_eq!(refusal.reason, Reason::OverSessionCap);
    assert_eq!(refusal.remaining, Some(Usd(5_000_000)));
}

#[tokio::test]
async fn a_person_agrees_to_who_may_settle_as_well() {
    const ASKING: &str = "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"0.05 USD\", schemes: [upto], transfer_methods: [permit2], approval: { above: \"0.01 USD\", wait: 0s } }
";
    let setup = Setup {
        policy: ASKING,
        ..Setup::default()
    };
    let stage = setup.stage().await;
    let mut asked = std::collections::BTreeSet::new();
    for (amount, facilitator) in [
        ("20000", "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
        ("20000", MERCHANT),
        ("20001", MERCHANT),
        ("20000", "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
    ] {
        let offer = offer_by(amount, facilitator);
        let paid = stage
            .payer
            .authorize(&stage.asked("api.example.com"), &offer)
            .await;
        let refusal = paid.err().unwrap();
        assert_eq!(refusal.reason, Reason::ApprovalRequired);
        asked.insert(refusal.approve_url.unwrap());
    }
    assert_eq!(asked.len(), 3, "the last is the first question again");
}

#[tokio::test]
async fn a_receipt_that_says_less_gives_the_rest_back_when_it_is_dead() {
    for (amount, charged) in [("7", 7_000), ("0", 0), ("19999", 19_999_000)] {
        let stage = stage(None, Unproven::Count).await;
        let settled = answered(&stage, &took(amount)).await;
        assert!(settled.refusal.is_none());
        let part: Amount = amount.parse().unwrap();
        assert_eq!(settled.paid.settled, Some(part));
        assert_eq!(settled.paid.charged, Usd(20_000_000));
        let row = stage.newest().await;
        assert_eq!((row.state, row.flags.len()), (State::Unknown, 0));
        assert_eq!(row.reason.as_deref(), Some(HELD_ABOVE_CLAIM));
        assert_eq!(
            (row.receipt.as_deref(), row.amount_settled),
            (Some("claimed"), Some(part))
        );
        assert_eq!(
            stage.spent().await,
            (Usd(20_000_000), 1),
            "all of it is held"
        );

        outlive(&stage).await;
        let row = stage.newest().await;
        assert_eq!(
            (row.state, row.charged),
            (State::Settled, Some(Usd(charged)))
        );
        assert_eq!(row.reason.as_deref(), Some(SETTLED_AS_CLAIMED));
        assert_eq!(
            (row.amount, row.amount_settled),
            (Some(Amount(MOST)), Some(part))
        );
        assert_eq!(stage.spent().await, (Usd(charged), 1));
        assert_eq!(stage.payer.sweep().await.unwrap(), 0, "closed once");
    }
}

#[tokio::test]
async fn whatever_else_a_receipt_says_all_of_it_counts() {
    let mut elsewhere = took("7");
    elsewhere["network"] = json!("eip155:8453");
    let mut nowhere = took("7");
    nowhere["transaction"] = json!("");
    let mut silent = took("7");
    silent["amount"] = Value::Null;
    let mut odd = took("7");
    odd["amount"] = json!(7);
    for (claim, wrong) in [
        (took("20000"), false),
        (silent, false),
        (odd, true),
        (took("20001"), true),
        (took("340282366920938463463374607431768211455"), true),
        (elsewhere, true),
        (nowhere, true),
    ] {
        let stage = stage(None, Unproven::Release).await;
        let settled = answered(&stage, &claim).await;
        assert_eq!(settled.paid.settled, None, "{claim}");
        let row = stage.newest().await;
        assert_eq!(row.state, State::Settled, "{claim}");
        let flags: &[Flag] = if wrong { &[Flag::ReceiptMismatch] } else { &[] };
        assert_eq!(row.flags, flags, "{claim}");
        let all = Some(Amount(MOST)).filter(|_| claim["amount"] == "20000");
        assert_eq!(row.amount_settled, all, "no other number: {claim}");
        outlive(&stage).await;
        assert_eq!(stage.spent().await, (Usd(20_000_000), 1), "{claim}");
    }
}

#[tokio::test]
async fn a_claim_is_no_reason_to_give_all_of_it_back() {
    for (chain, unproven, counted) in [
        (None, Unproven::Release, 7_000),
        // Somebody who saw it taken, and not how much.
        (Some(true), Unproven::Release, 20_000_000),
        (Some(false), Unproven::Count, 0),
    ] {
        let stage = stage(chain, unproven).await;
        answered(&stage, &took("7")).await;
        outlive(&stage).await;
        assert_eq!(stage.spent().await.0, Usd(counted), "{chain:?}");
    }
}

#[tokio::test]
async fn of_two_claims_for_one_payload_the_larger_counts() {
    for (first, second, counted) in [
        ("7", "11", 11_000),
        ("11", "7", 11_000),
        ("7", "20000", 20_000_000),
        ("7", "20001", 20_000_000),
        ("20000", "7", 20_000_000),
    ] {
        let stage = stage(None, Unproven::Count).await;
        let settled = answered(&stage, &took(first)).await;
        // The answer broke off, so the agent asks again and the same payload is sent.
        stage.payer.broken_off(settled.record.recourse.unwrap());
        answered(&stage, &took(second)).await;
        assert_eq!(
            stage.spent().await,
            (Usd(20_000_000), 1),
            "{first} {second}"
        );
        outlive(&stage).await;
        assert_eq!(stage.spent().await, (Usd(counted), 1), "{first} {second}");
    }
}

#[tokio::test]
async fn a_restart_forgets_no_claim() {
    let before = stage(None, Unproven::Count).await;
    answered(&before, &took("7")).await;
    before.ledger.flush().await.unwrap();
    let after = Setup {
        policy: POLICY,
        ledger: Some(before.ledger.clone()),
        ..Setup::default()
    };
    let after = after.stage().await;
    after.payer.recall().await.unwrap();
    assert_eq!(before.spent().await, (Usd(20_000_000), 1));
    outlive(&after).await;
    assert_eq!(before.spent().await, (Usd(7_000), 1));
}

/// What merchants may answer to the same payload, one after the other.
fn claims() -> impl Strategy<Value = Vec<Option<u128>>> {
    prop::collection::vec(prop::option::of(0..MOST + 3), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// All of it counts as long as it can be taken. Then as much as was claimed, and never more.
    #[test]
    fn what_counts_is_never_below_a_claim_and_never_above_the_maximum(claims in claims()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stage = stage(None, Unproven::Count).await;
            for claim in &claims {
                let signed = buy(&stage, "20000").await.unwrap_or_else(|r| panic!("{r}"));
                let headers = claim.map(|amount| receipt(&took(&amount.to_string())));
                let headers = headers.unwrap_or_default();
                // An answer of no use, so that the next request is the same purchase.
                let status = StatusCode::PAYMENT_REQUIRED;
                stage.payer.settle(signed, Some((status, &headers))).await;
                assert_eq!(stage.spent().await, (Usd(20_000_000), 1), "{claims:?}");
            }
            outlive(&stage).await;
            let said: Vec<u128> = claims.iter().flatten().copied().collect();
            let most = match said.first() {
                // The first to claim all of it, or what cannot be, is believed for ever.
                Some(first) if *first < MOST => said.iter().copied().max().unwrap().min(MOST),
                Some(_) | None => MOST,
            };
            let counted = u64::try_from(most).unwrap() * 1000;
            assert_eq!(stage.spent().await, (Usd(counted), 1), "{claims:?}");
        });
    }
}

/// Two retries carry one payload: what one of them claimed is not forgotten when the other brings nothing, or less.
#[tokio::test]
async fn a_claim_of_one_retry_outlasts_the_other() {
    for (other, larger_first) in [(None, true), (Some("4000"), true), (Some("4000"), false)] {
        let stage = stage(None, Unproven::Release).await;
        let signed = async || buy(&stage, "20000").await.unwrap_or_else(|r| panic!("{r}"));
        stage.payer.settle(signed().await, None).await;
        let (one, two) = (signed().await, signed().await);
        assert_eq!(one.id(), two.id(), "the same payload");
        let larger = (StatusCode::OK, receipt(&took("6000")));
        let other = match other {
            Some(part) => (StatusCode::OK, receipt(&took(part))),
            None => (StatusCode::PAYMENT_REQUIRED, HeaderMap::new()),
        };
        let mut answers = vec![(one, larger), (two, other)];
        if !larger_first {
            answers.reverse();
        }
        for (signed, (status, headers)) in answers {
            stage.payer.settle(signed, Some((status, &headers))).await;
        }
        let row = stage.newest().await;
        assert_eq!(row.receipt.as_deref(), Some("claimed"));
        assert_eq!(row.amount_settled, Some(Amount(6_000)));
        outlive(&stage).await;
        let row = stage.newest().await;
        assert_eq!(row.state, State::Settled);
        assert_eq!(row.reason.as_deref(), Some(SETTLED_AS_CLAIMED));
        assert_eq!(stage.spent().await.0, Usd(6_000_000));
    }
}
