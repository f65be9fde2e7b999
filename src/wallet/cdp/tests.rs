//! The tokens, against those that the official clients made.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, KeyPair as _, UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::Value;

use super::*;

fn vectors(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn bearers() -> Value {
    vectors(include_str!(
        "../../../tests/vectors/wallets/cdp-bearer.json"
    ))
}

fn made(id: &str, api: &str, wallet: &str) -> Result<Keys, (usize, &'static str)> {
    keys(&[id, api, wallet].map(|text| Zeroizing::new(text.to_owned())))
}

/// Header and claims of a token whose signature is right.
fn checked(token: &str, algorithm: &'static dyn VerificationAlgorithm, key: &[u8]) -> [Value; 2] {
    let (said, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    UnparsedPublicKey::new(algorithm, key)
        .verify(said.as_bytes(), &signature)
        .unwrap();
    let (header, claims) = said.split_once('.').unwrap();
    [header, claims].map(|part| {
        let bytes = URL_SAFE_NO_PAD.decode(part).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    })
}

#[test]
fn bearer_tokens_are_those_of_the_official_clients() {
    let vectors = bearers();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let (mut equal, mut compared) = (0, 0);
    for case in vectors["cases"].as_array().unwrap() {
        let input = &case["input"];
        let secret = match case["key"].as_str().unwrap() {
            "ed25519" => text(&vectors["keys"]["api_key_secret_ed25519"]),
            "ec_pkcs8_pem" => text(&vectors["keys"]["api_key_secret_ec_pem_pkcs8"]),
            "ec_sec1_pem" => text(&vectors["keys"]["api_key_secret_ec_pem_sec1"]),
            _ => text(&vectors["keys"]["api_key_secret_ec_pem_pkcs8"]).replace('\n', "\\n"),
        };
        let wallet = text(&vectors["keys"]["wallet_secret"]);
        let keys = made(input["api_key_id"].as_str().unwrap(), &secret, &wallet)
            .ok()
            .unwrap();
        let [method, host, path] = ["method", "host", "path"].map(|key| text(&input[key]));
        let what = format!("{method} {host}{path}");
        let nonce = case["header"]["nonce"].as_str().unwrap();
        let token = keys.bearer(&what, 1_790_000_000, nonce).ok().unwrap();
        if let ApiKey::Ed25519(_) = keys.api {
            assert_eq!(*token, text(&case["token"]), "byte for byte");
            equal += 1;
            continue;
        }
        // ES256 is random: ours and theirs verify with one key and say the same.
        let ApiKey::P256(pair) = &keys.api else {
            unreachable!()
        };
        let public = pair.public_key().as_ref();
        let [header, claims] = checked(&token, &ECDSA_P256_SHA256_FIXED, public);
        let [their_header, their_claims] = checked(
            case["token"].as_str().unwrap(),
            &ECDSA_P256_SHA256_FIXED,
            public,
        );
        assert_eq!(header, their_header);
        // The clients differ: one names no `iat` and an `aud` of null. The rest is alike.
        for key in ["sub", "iss", "uris", "nbf", "exp"] {
            assert_eq!(claims[key], their_claims[key], "{key}");
        }
        compared += 1;
    }
    assert!(equal >= 2 && compared >= 4, "{equal} {compared}");
    let public = hex::decode(
        vectors["keys"]["api_key_ed25519_public_hex"]
            .as_str()
            .unwrap(),
    );
    let first = vectors["cases"].as_array().unwrap();
    let first = first.iter().find(|c| c["key"] == "ed25519").unwrap();
    checked(first["token"].as_str().unwrap(), &ED25519, &public.unwrap());
}

#[test]
fn wallet_tokens_cover_the_canonical_body() {
    let vectors = vectors(include_str!(
        "../../../tests/vectors/wallets/cdp-wallet.json"
    ));
    let bearers = bearers();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let key = |name: &str| text(&bearers["keys"][name]);
    let keys = made("id", &key("api_key_secret_ed25519"), &key("wallet_secret"))
        .ok()
        .unwrap();
    let public = keys.wallet.public_key().as_ref();
    let what = ["method", "host", "path"].map(|key| text(&vectors[key]));
    let what = format!("{} {}{}", what[0], what[1], what[2]);
    let cases = vectors["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let body = canonical::text(&case["body"]);
        assert_eq!(body, case["canonical"], "{}", case["case"]);
        let jti = case["claims"]["jti"].as_str().unwrap();
        let token = keys.wallet(&what, &body, 1_790_000_000, jti).ok().unwrap();
        let theirs = case["token"].as_str().unwrap();
        let said = |token: &str| token.rsplit_once('.').unwrap().0.to_owned();
        assert_eq!(
            said(&token),
            said(theirs),
            "byte for byte up to the random signature"
        );
        checked(&token, &ECDSA_P256_SHA256_FIXED, public);
        checked(theirs, &ECDSA_P256_SHA256_FIXED, public);
    }
}

#[test]
fn what_is_no_credential_is_told_by_its_file() {
    let bearers = bearers();
    let key = |name: &str| bearers["keys"][name].as_str().unwrap().to_owned();
    let (api, wallet) = (key("api_key_secret_ed25519"), key("wallet_secret"));
    let wrong = |id: &str, api: &str, wallet: &str| made(id, api, wallet).err().unwrap().0;
    assert_eq!(wrong("", &api, &wallet), 0);
    assert_eq!(wrong("a b", &api, &wallet), 0);
    assert_eq!(wrong("a\nb", &api, &wallet), 0);
    let mismatched = base64::engine::general_purpose::STANDARD.encode([7; 64]);
    for api in [
        "",
        "AAAA",
        &wallet,
        &mismatched,
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
    ] {
        assert_eq!(wrong("id", api, &wallet), 1, "{api}");
    }
    for wallet in ["", "AAAA", &api, &key("api_key_secret_ec_pem_pkcs8")] {
        assert_eq!(wrong("id", &api, wallet), 2, "{wallet}");
    }
}

/// A transaction that nobody has signed, as it is asked for.
fn message(transaction: &str) -> Ask {
    let transaction = STANDARD.decode(transaction).unwrap();
    let (_, message) = crate::solana::split(&transaction).unwrap();
    Ask::Message {
        message: message.to_vec(),
        transaction,
        paying: None,
    }
}

#[test]
fn a_transaction_is_asked_for_as_the_official_clients_do_and_its_signature_found() {
    let recorded = vectors(include_str!(
        "../../../tests/vectors/wallets/cdp-solana.json"
    ));
    let canonical = recorded["canonical_body"].as_str().unwrap();
    let body: Value = serde_json::from_str(canonical).unwrap();
    let ask = message(body["transaction"].as_str().unwrap());
    let account = Account::Solana(recorded["address"].as_str().unwrap().parse().unwrap());
    let (path, asked) = question(account, &ask);
    assert_eq!(asked, canonical, "byte for byte");
    assert_eq!(format!("/platform{path}"), recorded["path"]);
    let hash = hex::encode(Sha256::digest(&asked));
    assert_eq!(hash, recorded["req_hash"]);
    let signed = recorded["response_body"]["signedTransaction"]
        .as_str()
        .unwrap();
    assert!(
        ask.find_in(account, signed)
            .is_ok_and(|found| found.is_some())
    );
    // One byte of it changed: of the message, and of the signature.
    let bytes = STANDARD.decode(signed).unwrap();
    let changed = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        ask.find_in(account, &STANDARD.encode(bytes))
    };
    let error = changed(bytes.len() - 1).err().unwrap();
    assert!(error.to_string().contains("another transaction"), "{error}");
    assert!(changed(1 + 64).is_ok_and(|found| found.is_none()));
    assert!(ask.find_in(account, "AAAA").is_err() && ask.find_in(account, "?").is_err());
}
