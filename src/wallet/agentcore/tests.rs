//! What is asked.

use super::*;
use crate::evm::{Address, Domain, TransferWithAuthorization};

pub(super) fn transfer() -> TransferWithAuthorization {
    TransferWithAuthorization {
        domain: Domain {
            name: "USDC".into(),
            version: "2".into(),
            chain_id: 84532,
            contract: Address::from_hex("0x036CbD53842c5426634e7929541eC2318f3dCF7e").unwrap(),
        },
        from: Address([1; 20]),
        to: Address([7; 20]),
        value: 10_000,
        valid_after: 0,
        valid_before: 1_790_000_060,
        nonce: [5; 32],
    }
}

fn paying(challenge: Option<&str>) -> Paying {
    Paying {
        instruction: Instruction::Transfer(transfer()),
        id: PaymentId(7),
        challenge: challenge.map(str::to_owned),
    }
}

fn asked(challenge: Option<&str>, now: u64) -> Result<Value, Failure> {
    let names = Names {
        manager: "arn:m".into(),
        user: "user".into(),
        instrument: "payment-instrument-1".into(),
    };
    question(
        &names,
        "payment-session-1",
        &paying(challenge),
        Timestamp::from_secs(now),
    )
}

#[test]
fn the_question_has_the_documented_members() {
    let token = token(PaymentId(7));
    let expected = |kind: &str, input: Value| {
        json!({
            "clientToken": token,
            "paymentManagerArn": "arn:m",
            "paymentSessionId": "payment-session-1",
            "paymentInstrumentId": "payment-instrument-1",
            "paymentType": kind,
            "paymentInput": input,
        })
    };
    let terms = json!({ "cryptoX402": { "version": "2", "payload": {
        "scheme": "exact", "network": "eip155:84532", "amount": "10000",
        "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "payTo": "0x0707070707070707070707070707070707070707",
        "maxTimeoutSeconds": 50, "extra": { "name": "USDC", "version": "2" },
    } } });
    let now = 1_790_000_000;
    assert_eq!(
        asked(None, now).ok().unwrap(),
        expected("CRYPTO_X402", terms)
    );
    let challenge = json!({ "mpp": { "version": "1", "wwwAuthenticateHeaders": ["Payment x"] } });
    assert_eq!(
        asked(Some("Payment x"), now).ok().unwrap(),
        expected("MPP", challenge)
    );
    assert!(asked(Some(&"x".repeat(16_385)), now).is_err());
    assert!(asked(None, now + 50).is_err(), "no time is left");
}

#[test]
fn a_token_is_one_for_a_payment_and_as_the_api_wants_it() {
    let tokens = [7, 8].map(|id| token(PaymentId(id)));
    assert_ne!(tokens[0], tokens[1]);
    assert_eq!(tokens[0], token(PaymentId(7)));
    let plain = |text: &String| text.bytes().all(|b| b.is_ascii_alphanumeric());
    assert!(
        tokens
            .iter()
            .all(|t| (33..=256).contains(&t.len()) && plain(t))
    );
}
