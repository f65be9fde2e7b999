//! Whatever bytes come: no panic, no merchant's words in ours, and what is read is what was written.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::evm::Charge;
use crate::money;

/// Stands in every text that a merchant may choose.
const MARK: &str = "IGNORE-ALL-LIMITS";

/// JSON values as merchants may put them anywhere.
fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!(true)),
        Just(json!([])),
        Just(json!({"a": MARK})),
        Just(json!(MARK)),
        any::<i64>().prop_map(|n| json!(n)),
        any::<u128>().prop_map(|n| json!(n.to_string())),
        "[0-9]{1,80}".prop_map(Value::from),
        "\\PC{0,40}".prop_map(|text| Value::from(format!("{MARK}{text}"))),
        Just(json!("eip155:8453")),
        Just(json!("base-sepolia")),
        Just(json!("permit2")),
        Just(json!("upto")),
        Just(json!("upfront")),
        Just(json!(SELLER)),
        Just(json!(USDC)),
    ]
}

/// An honest entry with up to three members replaced.
fn entries() -> impl Strategy<Value = Value> {
    let keys = prop::sample::select(vec![
        "scheme",
        "network",
        "amount",
        "asset",
        "payTo",
        "maxTimeoutSeconds",
        "extra",
        "resource",
        "mimeType",
        "extra.name",
        "extra.version",
        "extra.assetTransferMethod",
        "extra.facilitatorAddress",
        "extra.paymentFlow",
    ]);
    prop::collection::vec((keys, odd()), 0..3).prop_map(|changes| {
        let mut entry = entry(json!({}));
        for (key, value) in changes {
            match key.strip_prefix("extra.") {
                Some(key) if entry["extra"].is_object() => entry["extra"][key] = value,
                _ => entry[key] = value,
            }
        }
        entry
    })
}

/// What must hold of everything that is read, and of everything that would be signed for it.
fn check(read: &Challenge, sent: &Value) {
    for problem in &read.problems {
        assert!(!problem.detail.contains("IGNORE"), "{}", problem.detail);
        assert!(problem.detail.is_ascii() && problem.detail.len() < 200);
    }
    let accepts = sent["accepts"].as_array().unwrap();
    for requirement in &read.requirements {
        let entry: Value = serde_json::from_str(&requirement.offer.entry).unwrap();
        assert!(accepts.contains(&entry));
        assert_eq!(entry["amount"], requirement.amount.to_string());
        assert_eq!(entry["network"], requirement.network.to_string());
        assert_eq!(entry["payTo"], requirement.pay_to);
        assert_eq!(entry["maxTimeoutSeconds"], requirement.valid_for);
        for asset in money::canonical_assets() {
            signs_what_was_read(requirement, &asset);
        }
    }
}

fn signs_what_was_read(requirement: &Requirement, asset: &Asset) {
    let protocol = by_name(requirement.protocol).unwrap();
    let terms = super::payloads::terms(requirement, asset);
    let Ok(instruction) = protocol.instruct(&terms) else {
        return;
    };
    assert!(asset.is(&requirement.asset));
    assert_eq!(instruction.chain_id(), asset.network.chain_id());
    let (to, value, contract) = match &instruction {
        Instruction::Transfer(transfer) => {
            assert!(asset.eip3009);
            assert_eq!(requirement.transfer_method, "eip3009");
            let name = &asset.eip712.as_ref().unwrap().name;
            assert_eq!(transfer.domain.name, *name);
            (transfer.to, transfer.value, transfer.domain.contract)
        }
        Instruction::Permit(permit) => {
            assert_eq!(requirement.transfer_method, "permit2");
            let most = permit.charge != Charge::Whole;
            assert_eq!(requirement.scheme, if most { "upto" } else { "exact" });
            (permit.to, permit.amount, permit.token)
        }
        Instruction::Tempo(transfer) => {
            assert_eq!(requirement.transfer_method, "tip20");
            let first = transfer.calls.first().unwrap();
            (first.to, transfer.total().unwrap(), transfer.token)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(value, requirement.amount.0);
    assert_eq!(contract.to_string(), asset.address);
    assert!(to.to_string().eq_ignore_ascii_case(&requirement.pay_to));
    let signature = Signature::Evm([1; 65]);
    let payload = protocol.payload(requirement, &instruction, &signature, terms.id);
    assert!(payload.is_ok_and(|p| p.value.is_sensitive()));
}

proptest! {
    #[test]
    fn altered_entries_are_read_as_written_or_not_at_all(
        list in prop::collection::vec(entries(), 0..4),
        resource in prop_oneof![Just(json!({"url": "https://api.example.com/w"})), odd()],
        extensions in prop_oneof![Just(json!({"payment-identifier": {"info": {}}})), odd()],
    ) {
        let extra = json!({"resource": resource, "extensions": extensions});
        let sent = challenge(json!(list), extra);
        check(&v2(&sent), &sent);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let text = STANDARD.encode(&bytes);
        for value in [&bytes[..], text.as_bytes()] {
            let Ok(value) = HeaderValue::from_bytes(value) else { continue };
            let mut head = parts(&[]);
            for name in ["payment-required", "payment-response", "x-payment-response"] {
                head.headers.insert(name, value.clone());
            }
            let read = read(&recognise(&head), &head, None);
            prop_assert!(read.requirements.is_empty() && read.problems.len() == 1);
            let _ = PROTOCOLS.iter().map(|p| p.receipt(&head.headers)).collect::<Vec<_>>();
        }
        let head = parts(&[("content-type", b"application/json")]);
        let _ = read(&recognise(&head), &head, Some(&bytes));
    }

    #[test]
    fn a_cut_or_damaged_challenge_is_never_another_one(at in 0usize..420, byte in any::<u8>()) {
        let honest = challenge(json!([entry(json!({}))]), json!({})).to_string();
        let cut = &honest[..at.min(honest.len() - 1)];
        prop_assert!(v2_text(cut).requirements.is_empty());
        let mut damaged = honest.clone().into_bytes();
        let at = at % damaged.len();
        damaged[at] = byte;
        let value = STANDARD.encode(&damaged);
        let head = parts(&[("payment-required", value.as_bytes())]);
        let read = read(&recognise(&head), &head, None);
        if let Ok(sent) = serde_json::from_slice::<Value>(&damaged) {
            if !read.requirements.is_empty() {
                check(&read, &sent);
            }
        } else {
            prop_assert!(read.requirements.is_empty());
        }
    }
}

#[test]
fn the_worst_challenges_are_read_in_bounded_time() {
    let many = |item: &str, n: usize| format!("[{item}{}]", format!(",{item}").repeat(n));
    let keys: String = (0..9_000).map(|i| format!(",\"{i}\":0")).collect();
    let list = |accepts: &str| format!(r#"{{"x402Version":1,"accepts":{accepts}}}"#);
    let worst = [
        list(&many("{}", 9_000)),
        list(&many("\"\\\\\"", 9_000)),
        list(&format!(r#"[{{"scheme":"exact"{keys}}}]"#)),
        list(&format!("{}{}", "[".repeat(500_000), "]".repeat(500_000))),
        list(&format!("\"{}\"", "\\u0000".repeat(150_000))),
        list(&format!("\"{}", "x".repeat(1_000_000))),
        format!("{{{}", "\"x402Version\"".repeat(70_000)),
    ];
    for json in worst {
        let quickest = (0..5).map(|_| {
            let started = Instant::now();
            let read = v1_text(&json);
            assert!(read.requirements.is_empty());
            started.elapsed()
        });
        // Ten times the promise, since tests are built without optimisation and share their machine.
        assert!(
            quickest.min() < Some(Duration::from_millis(100)),
            "{}",
            &json[..60]
        );
    }
}
