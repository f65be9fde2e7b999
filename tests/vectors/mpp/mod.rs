//! The same for MPP.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use farepass::clock::Timestamp;
use farepass::money::Asset;
use farepass::payment::{Challenge, Instruction, Nonce, PaymentId, Receipt, Requirement};
use farepass::protocol::{self, Terms};
use http::{HeaderMap, header, response};
use serde_json::Value;

use super::{bytes, head, json, sign_digest};

mod tempo;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/mpp")
}

fn derived() -> Value {
    json(&folder().join("derived.json"))
}

/// The token of the recorded merchant.
fn asset(requirement: &Requirement) -> Asset {
    let usdc = farepass::money::canonical_assets();
    let like = usdc.iter().find(|a| a.eip3009).unwrap().clone();
    let mut eip712 = like.eip712.clone().unwrap();
    (eip712.name, eip712.version) = ("Stand USD".into(), "1".into());
    Asset {
        network: requirement.network.clone(),
        address: "0x5FbDB2315678afecb367f032d93F642f64180aa3".into(),
        eip712: Some(eip712),
        ..like
    }
}

fn read(response: &Value) -> (response::Parts, Challenge) {
    let status = u16::try_from(response["status"].as_u64().unwrap()).unwrap();
    let head = head(status, super::headers(response));
    let challenge = protocol::read(&protocol::recognise(&head), &head, None);
    (head, challenge)
}

fn exchanges() -> Vec<Value> {
    let mut files: Vec<_> = fs::read_dir(folder().join("exchanges"))
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|path| json(path)).collect()
}

/// The credential that is sent for an offer, with what was signed.
fn paid(requirement: &Requirement, valid_before: u64) -> (Instruction, String, String) {
    let derived = derived();
    let now = valid_before - 60;
    let protocol = protocol::by_name(requirement.protocol).unwrap();
    let terms = Terms {
        requirement,
        asset: &asset(requirement),
        payer: derived["address"].as_str().unwrap(),
        id: PaymentId(1),
        nonce: Nonce([7; 32]),
        now: Timestamp::from_secs(now),
        valid_for: requirement.lives(Timestamp::from_secs(now)),
        blockhash: None,
        fee: farepass::money::Amount(20_000),
    };
    let instruction = protocol.instruct(&terms).unwrap();
    let key = derived["private_key"].as_str().unwrap();
    let signature = sign_digest(key, instruction.digest().unwrap());
    let payload = protocol.payload(requirement, &instruction, &signature, PaymentId(1));
    let payload = payload.unwrap();
    assert!(payload.value.is_sensitive());
    let value = payload.value.to_str().unwrap().to_owned();
    (instruction, payload.name.to_string(), value)
}

#[test]
fn credentials_equal_the_official_clients_to_the_byte() {
    let mut seen = vec![];
    for exchange in exchanges() {
        let steps = exchange["exchange"].as_array().unwrap();
        let (_, challenge) = read(&steps[0]["response"]);
        let Some(sent) = steps
            .get(1)
            .and_then(|s| s["request"]["headers"].as_object())
        else {
            continue;
        };
        let ours = |r: &&Requirement| r.scheme == "evm/charge";
        let Some(requirement) = challenge.requirements.iter().find(ours) else {
            continue;
        };
        let until = requirement.expires.unwrap().secs();
        let (_, name, value) = paid(requirement, until);
        let name_of = exchange["name"].as_str().unwrap();
        assert_eq!(
            sent.get(&name).and_then(Value::as_str),
            Some(&*value),
            "{name_of}"
        );
        seen.push(name_of.to_owned());
    }
    assert_eq!(seen, ["evm-charge-authorization", "multi-select-evm"]);
}

#[test]
fn the_nonce_and_the_digest_are_those_of_the_official_client() {
    let derived = derived();
    let wanted = &derived["evm_authorization"];
    let request = URL_SAFE_NO_PAD.encode(
        r#"{"amount":"10000","currency":"0x5fbdb2315678afecb367f032d93f642f64180aa3","recipient":"0x70997970C51812dc3A010C7d01b50e0d17dc79C8","methodDetails":{"chainId":31337,"credentialTypes":["authorization"]}}"#,
    );
    let line = format!(
        "Payment id=\"eSDvogOOgyPJvvGyTf5cAqHNXfbZbPTytHEfl-6_gGk\", realm=\"api.example.com\", \
         method=\"evm\", intent=\"charge\", expires=\"{}\", request=\"{request}\"",
        Timestamp::from_secs(1_795_500_000)
    );
    let mut map = HeaderMap::new();
    map.insert(header::WWW_AUTHENTICATE, line.parse().unwrap());
    let head = head(402, map);
    let challenge = protocol::read(&protocol::recognise(&head), &head, None);
    let (instruction, _, value) = paid(&challenge.requirements[0], 1_795_500_000);
    let hex = |name: &str| bytes::<32>(wanted[name].as_str().unwrap());
    assert_eq!(instruction.nonce().0, hex("nonce"));
    assert_eq!(instruction.digest(), Some(hex("digest")));
    let credential = URL_SAFE_NO_PAD.decode(value.strip_prefix("Payment ").unwrap());
    let credential: Value = serde_json::from_slice(&credential.unwrap()).unwrap();
    assert_eq!(credential["payload"]["signature"], wanted["signature"]);
}

/// Every recorded answer, one line per fact.
#[test]
fn recorded_mpp_answers_are_read() {
    let mut all = String::new();
    for exchange in exchanges() {
        all += &format!("{}\n", exchange["name"].as_str().unwrap());
        for step in exchange["exchange"].as_array().unwrap() {
            let (head, challenge) = read(&step["response"]);
            all += &format!("  {}\n", head.status.as_u16());
            for r in &challenge.requirements {
                let until = r.expires.map(|t| t.to_string()).unwrap_or_default();
                all += &format!(
                    "    {} {} {} {} of {} to {} until {until} by {}\n",
                    r.protocol, r.scheme, r.network, r.amount, r.asset, r.pay_to, r.transfer_method
                );
            }
            for p in &challenge.problems {
                all += &format!("    problem {}: {}\n", p.reason, p.detail);
            }
            match protocol::by_name("mpp").unwrap().receipt(&head.headers) {
                Receipt::Absent => {}
                receipt => all += &format!("    {receipt:?}\n"),
            }
        }
    }
    insta::assert_snapshot!(all);
}
