//! Offers and receipts that merchants sign, as the official package signs them: verified with the keys of
//! the policy, and with no other.

use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use farepass::event::{Flag, State};
use farepass::payment::{Challenge, Reason};
use http::StatusCode;
use serde_json::{Value, json};

use super::stage::{NETWORK, PAYER, Setup, Stage, challenge_with, receipt};

/// Written by `record.mjs` beside it.
const SIGNED: &str = include_str!("../vectors/x402/offer-receipt/signed.json");

fn vectors() -> Value {
    serde_json::from_str(SIGNED).unwrap()
}

fn each(check: impl Fn(&Value) -> std::pin::Pin<Box<dyn Future<Output = ()> + '_>>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let all = vectors();
    let signed = all["signed"].as_array().unwrap();
    assert_eq!(signed.len(), 4, "EIP-712, ES256, EdDSA, ES256K");
    for one in signed {
        runtime.block_on(check(one));
    }
}

/// A payer that knows this key as the merchant's, at the moment of the vectors.
async fn knowing(key: &Value, offer: &str) -> Stage {
    let mut signer = key.clone();
    signer["hosts"] = json!(["api.example.com"]);
    let rule = json!({ "name": "data", "match": { "hosts": ["api.example.com"] },
        "pay": { "max": "0.05 USD", "offer": offer } });
    let policy = match key {
        Value::Null => json!({ "rules": [rule] }),
        _ => json!({ "signers": [signer], "rules": [rule] }),
    };
    let stage = Setup {
        policy: policy.to_string().leak(),
        ..Setup::default()
    };
    let stage = stage.stage().await;
    let now = vectors()["now"].as_u64().unwrap();
    stage.clock.0.store(now, Ordering::SeqCst);
    stage
}

/// The terms of the vectors, with such offers.
fn offering(offers: &Value) -> Challenge {
    let terms = &vectors()["terms"];
    let accepts = json!([{
        "scheme": "exact", "network": NETWORK, "amount": terms["amount"], "asset": terms["asset"],
        "payTo": terms["payTo"], "maxTimeoutSeconds": 60, "extra": { "name": "USDC", "version": "2" }
    }]);
    match offers {
        Value::Null => challenge_with(&accepts, &json!({})),
        offers => challenge_with(
            &accepts,
            &json!({ "offer-receipt": { "info": { "offers": offers } } }),
        ),
    }
}

/// What a payment of these offers is refused for; else its flags.
async fn pay(stage: &Stage, challenge: &Challenge) -> Result<Vec<Flag>, Reason> {
    let asked = stage.asked("api.example.com");
    match stage.payer.authorize(&asked, challenge).await {
        Err(refusal) => Err(refusal.reason),
        Ok(signed) => {
            let headers = receipt(&claim(&Value::Null));
            let answer = Some((StatusCode::OK, &headers));
            stage.payer.settle(signed, answer).await;
            Ok(stage.newest().await.flags)
        }
    }
}

/// A receipt of the ordinary kind, with a signed one in it.
fn claim(signed: &Value) -> Value {
    let mut claim = json!({ "success": true, "transaction": vectors()["transaction"],
        "network": NETWORK, "payer": PAYER });
    if !signed.is_null() {
        claim["extensions"] = json!({ "offer-receipt": { "info": { "receipt": signed } } });
    }
    claim
}

/// The same statement with one member of its terms changed after it was signed.
fn changed(statement: &Value, member: &str, value: &Value) -> Value {
    let mut other = statement.clone();
    if other["format"] == "eip712" {
        other["payload"][member] = value.clone();
        return other;
    }
    let jws = other["signature"].as_str().unwrap().to_owned();
    let parts: Vec<_> = jws.split('.').collect();
    let terms = URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
    let mut terms: Value = serde_json::from_slice(&terms).unwrap();
    terms[member] = value.clone();
    let terms = URL_SAFE_NO_PAD.encode(terms.to_string());
    other["signature"] = json!([parts[0], &terms, parts[2]].join("."));
    other
}

/// A key of the same kind that is somebody else's.
fn stranger(key: &Value) -> Value {
    let all = vectors();
    let others = all["signed"].as_array().unwrap().iter();
    let mut other = others.map(|one| &one["key"]).find(|other| *other != key);
    other.take().unwrap().clone()
}

#[test]
fn an_offer_that_the_merchants_key_signed_is_paid() {
    each(|one| {
        Box::pin(async move {
            let stage = knowing(&one["key"], "signed").await;
            assert_eq!(
                pay(&stage, &offering(&json!([one["offer"]]))).await,
                Ok(vec![])
            );
            // Beside others that mean nothing, wherever it stands.
            let mut odd = one["offer"].clone();
            odd["acceptIndex"] = json!(7);
            let many = json!([{ "format": "cose" }, 1, changed(&odd, "amount", &json!("1")), odd]);
            assert_eq!(pay(&stage, &offering(&many)).await, Ok(vec![]));
        })
    });
}

#[test]
fn an_offer_of_another_key_other_terms_or_another_time_is_refused_where_a_rule_wants_one() {
    each(|one| {
        Box::pin(async move {
            let offer = &one["offer"];
            let stage = knowing(&one["key"], "signed").await;
            let refused = |offers: Value| {
                let stage = &stage;
                async move {
                    let said = pay(stage, &offering(&offers)).await;
                    assert_eq!(said, Err(Reason::OfferUnsigned), "{offers}");
                    assert_eq!(stage.newest().await.state, State::Denied);
                }
            };
            refused(Value::Null).await;
            refused(json!([])).await;
            refused(json!("none")).await;
            for (member, value) in [
                ("amount", json!("20000")),
                ("payTo", json!(PAYER)),
                ("validUntil", json!(2_000_000_000)),
                ("resourceUrl", json!("https://api.example.com/v1/y")),
                ("version", json!(2)),
                ("network", json!("eip155:8453")),
            ] {
                refused(json!([changed(offer, member, &value)])).await;
            }
            assert_eq!(stage.spent().await.1, 0, "nothing was signed");
            let other = knowing(&stranger(&one["key"]), "signed").await;
            let said = pay(&other, &offering(&json!([offer]))).await;
            assert_eq!(said, Err(Reason::OfferUnsigned));
            // It is good until the second before.
            let late = knowing(&one["key"], "signed").await;
            let now = vectors()["now"].as_u64().unwrap();
            late.clock.0.store(now + 299, Ordering::SeqCst);
            assert_eq!(pay(&late, &offering(&json!([offer]))).await, Ok(vec![]));
            late.clock.0.store(now + 300, Ordering::SeqCst);
            let said = pay(&late, &offering(&json!([offer]))).await;
            assert_eq!(said, Err(Reason::OfferUnsigned));
        })
    });
}

#[test]
fn a_false_offer_is_paid_and_flagged_where_no_rule_wants_a_signed_one() {
    each(|one| {
        Box::pin(async move {
            let stage = knowing(&one["key"], "any").await;
            assert_eq!(pay(&stage, &offering(&Value::Null)).await, Ok(vec![]));
            let forged = changed(&one["offer"], "validUntil", &json!(2_000_000_000));
            let flagged = Ok(vec![Flag::ReceiptMismatch]);
            assert_eq!(pay(&stage, &offering(&json!([forged]))).await, flagged);
            let nobody = knowing(&Value::Null, "any").await;
            assert_eq!(pay(&nobody, &offering(&json!([forged]))).await, Ok(vec![]));
        })
    });
}

/// The flags of a payment that is answered with this signed receipt, `late` seconds after the vectors' moment.
async fn flags(key: &Value, signed: &Value, late: u64) -> Vec<Flag> {
    let stage = knowing(key, "any").await;
    stage.clock.0.fetch_add(late, Ordering::SeqCst);
    let asked = stage.asked("api.example.com");
    let bought = stage.payer.authorize(&asked, &offering(&Value::Null)).await;
    let headers = receipt(&claim(signed));
    let answer = Some((StatusCode::OK, &headers));
    stage.payer.settle(bought.unwrap(), answer).await;
    let row = stage.newest().await;
    assert_eq!(row.state, State::Settled, "a claim settles all the same");
    row.flags
}

#[test]
fn a_receipt_of_another_key_of_other_terms_or_another_time_is_flagged() {
    each(|one| {
        Box::pin(async move {
            let (key, honest) = (&one["key"], &one["receipt"]);
            for good in [honest, &one["receipt_without_transaction"], &Value::Null] {
                assert_eq!(flags(key, good, 0).await, [], "{good}");
            }
            let mismatch = [Flag::ReceiptMismatch];
            for (member, value) in [
                ("payer", json!("0x209693Bc6afc0C5328bA36FaF03C514EF312287C")),
                ("network", json!("eip155:1")),
                ("resourceUrl", json!("https://api.example.com/v1/y")),
                ("transaction", json!(format!("0x{}", "cd".repeat(32)))),
                ("issuedAt", json!(1)),
                ("version", json!("1")),
            ] {
                let lie = changed(honest, member, &value);
                assert_eq!(flags(key, &lie, 0).await, mismatch, "{member}");
            }
            for odd in [
                json!({}),
                json!("x"),
                json!({ "format": "jws", "signature": "a.b.c" }),
            ] {
                assert_eq!(flags(key, &odd, 0).await, mismatch, "{odd}");
            }
            assert_eq!(flags(&stranger(key), honest, 0).await, mismatch);
            // Signed by the right key, but for an earlier purchase.
            assert_eq!(flags(key, honest, 301).await, mismatch);
            // Without keys nothing is claimed about it.
            assert_eq!(flags(&Value::Null, &json!("x"), 0).await, []);
        })
    });
}

#[test]
fn a_receipt_that_is_signed_for_something_else_is_flagged() {
    each(|one| {
        Box::pin(async move {
            // The key is right and so is every byte, but it is not what was asked for.
            let stage = knowing(&one["key"], "any").await;
            let mut asked = stage.asked("api.example.com");
            asked.path = "/v1/other".into();
            let terms = &vectors()["terms"];
            let accepts = json!([{
                "scheme": "exact", "network": NETWORK, "amount": "10000", "asset": terms["asset"],
                "payTo": terms["payTo"], "maxTimeoutSeconds": 60
            }]);
            let mut challenge = challenge_with(&accepts, &json!({}));
            challenge.requirements[0].resource = Some("https://api.example.com/v1/other".into());
            let bought = stage.payer.authorize(&asked, &challenge).await.unwrap();
            let headers = receipt(&claim(&one["receipt"]));
            stage
                .payer
                .settle(bought, Some((StatusCode::OK, &headers)))
                .await;
            assert_eq!(stage.newest().await.flags, [Flag::ReceiptMismatch]);
        })
    });
}
