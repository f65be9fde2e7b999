//! What is signed for a request, against what the official client signed.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, KeyPair as _, UnparsedPublicKey};
use sha2::Digest as _;

use super::*;
use crate::evm::{Address, Domain, TransferWithAuthorization};
use crate::payment::Instruction;

fn vectors() -> Value {
    let text = include_str!("../../../tests/vectors/wallets/privy.json");
    serde_json::from_str(text).unwrap()
}

fn made(app: &str, secret: &str, key: &str) -> Result<Keys, (usize, &'static str)> {
    keys(&[app, secret, key].map(|text| Zeroizing::new(text.to_owned())))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn ask() -> Ask {
    let at = |text: &str| Address::from_hex(text).unwrap();
    let transfer = TransferWithAuthorization {
        domain: Domain {
            name: "USDC".into(),
            version: "2".into(),
            chain_id: 84532,
            contract: at("0x036CbD53842c5426634e7929541eC2318f3dCF7e"),
        },
        from: at("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
        to: at("0x70997970C51812dc3A010C7d01b50e0d17dc79C8"),
        value: 10000,
        valid_after: 1_789_999_400,
        valid_before: 1_790_000_060,
        nonce: [1; 32],
    };
    Ask::of(&Instruction::Transfer(transfer), None)
        .ok()
        .unwrap()
}

#[test]
fn what_is_signed_is_what_the_official_client_signs() {
    let vectors = vectors();
    let key = |name: &str| text(&vectors["keys"][name]);
    let prefixed = key("authorization_private_key");
    let bare = prefixed.strip_prefix("wallet-auth:").unwrap();
    for form in [&prefixed, bare, &format!("wallet-api:{bare}")] {
        let keys = made(&key("app_id"), &key("app_secret"), form).ok().unwrap();
        assert_eq!(*keys.basic(), key("basic_auth_header"));
        let public = keys.authorization.public_key().as_ref();
        let verify = |payload: &str, signature: &str| {
            let signature = STANDARD.decode(signature).unwrap();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public)
                .verify(payload.as_bytes(), &signature)
                .unwrap();
        };
        for case in vectors["cases"].as_array().unwrap() {
            let theirs = text(&case["canonical_payload"]);
            assert_eq!(canonical::text(&case["input"]), theirs, "{}", case["case"]);
            let digest = hex::encode(sha2::Sha256::digest(&theirs));
            assert_eq!(digest, case["sha256_of_payload"]);
            verify(&theirs, case["signature_b64_der"].as_str().unwrap());
            verify(&theirs, &keys.authorize(&theirs).ok().unwrap());
        }
    }
}

#[test]
fn the_call_and_its_payload_are_those_of_the_recorded_request() {
    let recorded = &vectors()["recorded"];
    let body: Value = serde_json::from_str(recorded["body"].as_str().unwrap()).unwrap();
    assert_eq!(call(&ask()), body);
    let theirs = text(&recorded["signed_payload"]);
    let said: Value = serde_json::from_str(&theirs).unwrap();
    let [app, expiry] = [APP_ID, EXPIRY].map(|name| text(&said["headers"][name]));
    let headers = [(APP_ID, &*app), (EXPIRY, &*expiry)];
    let ours = payload(said["url"].as_str().unwrap(), &call(&ask()), &headers);
    assert_eq!(ours, theirs, "byte for byte");
}

#[test]
fn a_transaction_is_asked_for_as_the_official_client_does_and_its_signature_found() {
    let recorded = include_str!("../../../tests/vectors/wallets/privy-solana.json");
    let recorded: Value = serde_json::from_str(recorded).unwrap();
    let body: Value = serde_json::from_str(recorded["body"].as_str().unwrap()).unwrap();
    let transaction = STANDARD.decode(body["params"]["transaction"].as_str().unwrap());
    let transaction = transaction.unwrap();
    let (_, message) = crate::solana::split(&transaction).unwrap();
    let ask = Ask::Message {
        message: message.to_vec(),
        transaction: transaction.clone(),
        paying: None,
    };
    assert_eq!(call(&ask), body);
    let theirs = text(&recorded["signed_payload"]);
    let said: Value = serde_json::from_str(&theirs).unwrap();
    let [app, expiry] = [APP_ID, EXPIRY].map(|name| text(&said["headers"][name]));
    let headers = [(APP_ID, &*app), (EXPIRY, &*expiry)];
    let ours = payload(said["url"].as_str().unwrap(), &call(&ask), &headers);
    assert_eq!(ours, theirs, "byte for byte");
    let account = Account::Solana(recorded["address"].as_str().unwrap().parse().unwrap());
    let signed = recorded["response_body"]["data"]["signed_transaction"].as_str();
    assert!(
        ask.find_in(account, signed.unwrap())
            .is_ok_and(|found| found.is_some())
    );
}

#[test]
fn what_is_no_credential_is_told_by_its_file() {
    let vectors = vectors();
    let key = text(&vectors["keys"]["authorization_private_key"]);
    let wrong = |app: &str, secret: &str, key: &str| made(app, secret, key).err().unwrap().0;
    for app in ["", "a b", "a:b", "\u{e9}"] {
        assert_eq!(wrong(app, "secret", &key), 0, "{app}");
    }
    for secret in ["", "a b", "a\nb"] {
        assert_eq!(wrong("app", secret, &key), 1, "{secret}");
    }
    for key in [
        "",
        "wallet-auth:",
        "wallet-auth:AAAA",
        &format!("other:{key}"),
    ] {
        assert_eq!(wrong("app", "secret", key), 2, "{key}");
    }
}
