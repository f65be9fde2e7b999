//! What is taken for an answer, and what of it is believed.

use serde_json::json;

use super::super::tests::transfer;
use super::*;

#[test]
fn other_terms_are_seen() {
    let asked = transfer();
    let own = TransferWithAuthorization {
        nonce: [9; 32],
        valid_after: 1_790_000_000,
        valid_before: 1_790_000_050,
        ..asked.clone()
    };
    assert!(agrees(&own, &asked, false));
    assert!(
        !agrees(&own, &asked, true),
        "the challenge decides the nonce"
    );
    let bound = TransferWithAuthorization {
        nonce: [5; 32],
        ..own.clone()
    };
    assert!(agrees(&bound, &asked, true));
    let twists: [fn(&mut TransferWithAuthorization); 6] = [
        |t| t.to = Address([8; 20]),
        |t| t.from = Address([8; 20]),
        |t| t.value += 1,
        |t| t.value -= 1,
        |t| t.valid_before += 11,
        |t| t.valid_after = t.valid_before,
    ];
    for twist in twists {
        let mut other = own.clone();
        twist(&mut other);
        assert!(!agrees(&other, &asked, false), "{other:?}");
    }
}

#[test]
fn the_documented_shapes_are_read_and_nothing_else() {
    let members = json!({
        "from": "a", "to": "b", "value": "1", "validAfter": "0", "validBefore": "1", "nonce": "0x",
    });
    let inner = json!({ "signature": "0x", "authorization": members });
    let output = |output: Value| json!({ "paymentOutput": output }).to_string();
    let x402 =
        |payload: Value| output(json!({ "cryptoX402": { "version": "2", "payload": payload } }));
    let whole = json!({ "x402Version": 2, "payload": inner });
    for payload in [&inner, &whole] {
        assert!(signed(x402(payload.clone()).as_bytes(), false).is_some());
        assert!(signed(x402(payload.clone()).as_bytes(), true).is_none());
    }
    let mpp = |credential: &str| output(json!({ "mpp": { "paymentCredential": credential } }));
    let credential = |kind: &str| {
        let mut payload = members.clone();
        payload["type"] = json!(kind);
        payload["signature"] = json!("0x");
        URL_SAFE_NO_PAD.encode(json!({ "payload": payload }).to_string())
    };
    let token = credential("authorization");
    for text in [format!("Payment {token}"), token.clone()] {
        assert!(signed(mpp(&text).as_bytes(), true).is_some());
        assert!(signed(mpp(&text).as_bytes(), false).is_none());
    }
    for odd in [
        "",
        "{}",
        &x402(Value::Null),
        &x402(json!({ "transaction": "AQ==" })),
    ] {
        assert!(signed(odd.as_bytes(), false).is_none(), "{odd}");
    }
    for odd in [
        "",
        "Payment ",
        "Bearer AAAA",
        "Payment AAAA",
        &credential("permit2"),
        &credential("hash"),
    ] {
        assert!(signed(mpp(odd).as_bytes(), true).is_none(), "{odd}");
    }
}
