//! `exact` on Solana: the bytes of the official client, from its recorded inputs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use farepass::clock::Timestamp;
use farepass::payment::{Challenge, Nonce, PaymentId, Requirement};
use farepass::protocol::{self, Terms};
use farepass::section::Section;
use farepass::solana::{self, Blockhash};
use farepass::wallet::{self, Opening};
use http::HeaderMap;
use serde_json::{Value, json};

use crate::{asset, bytes, decoded, files, folder, head, headers, read};

/// The buyer of the vectors: a seed of 32 times this byte.
const SEED: u8 = 12;
const BUYER: &str = "mBKqcnGotbsSb5vNrdyhzZ5EhqZdids9QYiTRckvi7v";

/// The key file of the buyer, as the Solana CLI writes it.
fn key_file() -> String {
    let mut both = vec![SEED; 32];
    both.extend(bs58::decode(BUYER).into_vec().unwrap());
    serde_json::to_string(&both).unwrap()
}

/// The header that pays this, from the real wallet.
fn pay(requirement: &Requirement, nonce: [u8; 32], blockhash: Blockhash) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("id.json");
    fs::write(&file, key_file()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let opening = Opening {
        section: Section::file("farepass.yaml", "key_file: id.json").unwrap(),
        name: "main".into(),
        networks: vec![requirement.network.clone()],
        base: folder.path().into(),
        fetch: None,
    };
    let wallet = wallet::open("local", opening).unwrap();
    assert_eq!(wallet.address(&requirement.network).as_deref(), Some(BUYER));
    let protocol = protocol::by_name(requirement.protocol).unwrap();
    let terms = Terms {
        requirement,
        asset: &asset(requirement),
        payer: BUYER,
        id: PaymentId(1),
        nonce: Nonce(nonce),
        now: Timestamp::from_secs(1_790_000_000),
        valid_for: 60,
        fee: farepass::money::Amount(0),
        blockhash: Some(blockhash),
    };
    let instruction = protocol.instruct(&terms).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let sign = || runtime.block_on(wallet.sign(&instruction)).unwrap();
    let payload = |signature| protocol.payload(requirement, &instruction, &signature, PaymentId(1));
    let sent = payload(sign()).unwrap();
    assert_eq!(payload(sign()).unwrap().value, sent.value, "again the same");
    assert!(sent.value.is_sensitive());
    decoded(&sent.value)
}

fn offered(requirements: &Value) -> Challenge {
    let offer = json!({"x402Version": 2, "resource": {"url": "https://api.example.com/x"},
        "accepts": [requirements]});
    let mut map = HeaderMap::new();
    let value = STANDARD.encode(offer.to_string()).parse().unwrap();
    map.insert("payment-required", value);
    read(&head(402, map), "")
}

#[test]
fn transactions_equal_the_official_clients() {
    let vectors = crate::json(&folder("signing").join("svm-exact.json"));
    let nonce = bytes(vectors["random"].as_str().unwrap());
    let rows = vectors["rows"].as_array().unwrap();
    for row in rows {
        let challenge = offered(&row["requirements"]);
        assert_eq!(challenge.problems, []);
        let extra = &row["requirements"]["extra"];
        let blockhash = extra["recentBlockhash"].as_str().unwrap().parse().unwrap();
        let paid = pay(&challenge.requirements[0], nonce, blockhash);
        let name = &row["name"];
        assert_eq!(paid["payload"]["transaction"], row["transaction"], "{name}");
        assert_eq!(paid["accepted"], row["requirements"], "{name}");
    }
    assert_eq!(rows.len(), 4);
}

/// Where the recent block stands in a message with eight accounts, behind version, header and their
/// number.
const BLOCKHASH_AT: usize = 1 + 3 + 1 + 8 * 32;

#[test]
fn recorded_payments_are_reproduced_to_the_byte() {
    let mut seen = vec![];
    for path in files("exchanges") {
        let exchange = crate::json(&path);
        let name = exchange["name"].as_str().unwrap();
        if !name.contains("svm") {
            continue;
        }
        let steps = exchange["steps"].as_array().unwrap();
        let first = &steps[0]["response"];
        let body = first["body"].as_str().unwrap_or_default();
        let challenge = read(&head(402, headers(first)), body);
        let sent = steps[1]["request"]["headers"].as_object().unwrap();
        let header = ["payment-signature", "x-payment"].map(|h| sent.get(h));
        let recorded = header.into_iter().flatten().next().unwrap();
        let recorded = decoded(&recorded.as_str().unwrap().parse().unwrap());
        let transaction = recorded["payload"]["transaction"].as_str().unwrap();
        let transaction = STANDARD.decode(transaction).unwrap();
        let (_, message) = solana::split(&transaction).unwrap();
        let blockhash = Blockhash(message[BLOCKHASH_AT..][..32].try_into().unwrap());
        // A random memo is the last thing in it, before the empty list of tables.
        let digits = &message[message.len() - 33..message.len() - 1];
        let mut nonce = [0; 32];
        let _ = hex::decode_to_slice(digits, &mut nonce[..16]);
        let paid = pay(&challenge.requirements[0], nonce, blockhash);
        assert_eq!(paid, recorded, "{name}");
        seen.push(name.to_owned());
    }
    assert_eq!(seen.join(" "), "v1-svm v2-svm-memo v2-svm");
}
