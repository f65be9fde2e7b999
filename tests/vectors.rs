//! Recorded x402 conversations and signing vectors of the official packages: each challenge and
//! receipt read, each signature and payload reproduced byte for byte.
#![cfg(test)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use farepass::clock::Timestamp;
use farepass::money::{self, Asset};
use farepass::payment::{
    Challenge, Instruction, Nonce, Payload, PaymentId, Receipt, Requirement, Signature,
};
use farepass::protocol::{self, Terms};
use farepass::section::Section;
use farepass::wallet::{self, Opening};
use http::{HeaderMap, HeaderName, response};
use serde_json::Value;
use serde_json::value::RawValue;

#[path = "vectors/l402/mod.rs"]
mod l402;
#[path = "vectors/mpp/mod.rs"]
mod mpp;
#[path = "vectors/solana/mod.rs"]
mod solana;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors/x402")
        .join(name)
}

fn files(name: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder(name))
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    files.sort();
    files
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The text of a value, for echoes that must keep the members' order.
fn raw<'a>(text: &'a str, path: &[&str]) -> &'a RawValue {
    let mut here: &RawValue = serde_json::from_str(text).unwrap();
    for key in path {
        let map: std::collections::BTreeMap<String, &RawValue> =
            serde_json::from_str(here.get()).unwrap();
        here = map[*key];
    }
    here
}

fn bytes<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    hex::decode_to_slice(text.trim_start_matches("0x"), &mut bytes).unwrap();
    bytes
}

/// Signs with the local wallet on test networks; on main networks, where that refuses public keys,
/// with the curve alone.
fn sign(requirement: &Requirement, key: &str, instruction: &Instruction) -> Signature {
    if !requirement.network.is_test() {
        return sign_digest(key, instruction.digest().unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wallet.key");
    fs::write(&file, key).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let opening = Opening {
        section: Section::file("farepass.yaml", "key_file: wallet.key").unwrap(),
        name: "main".into(),
        networks: vec![requirement.network.clone()],
        base: folder.path().into(),
        fetch: None,
    };
    let wallet = wallet::open("local", opening).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(wallet.sign(instruction)).unwrap()
}

fn sign_digest(key: &str, digest: [u8; 32]) -> Signature {
    let secp = secp256k1::Secp256k1::new();
    let key = secp256k1::SecretKey::from_slice(&bytes::<32>(key)).unwrap();
    let message = secp256k1::Message::from_digest(digest);
    let (id, compact) = secp
        .sign_ecdsa_recoverable(&message, &key)
        .serialize_compact();
    let mut signature = [0; 65];
    signature[..64].copy_from_slice(&compact);
    signature[64] = 27 + u8::try_from(id.to_i32()).unwrap();
    Signature::Evm(signature)
}

fn head(status: u16, headers: HeaderMap) -> response::Parts {
    let (mut head, ()) = http::Response::new(()).into_parts();
    head.status = status.try_into().unwrap();
    head.headers = headers;
    head
}

fn read(head: &response::Parts, body: &str) -> Challenge {
    protocol::read(&protocol::recognise(head), head, Some(body.as_bytes()))
}

fn headers(of: &Value) -> HeaderMap {
    let lines = of["headers"].as_object().unwrap().iter();
    lines
        .map(|(k, v)| {
            (
                k.parse::<HeaderName>().unwrap(),
                v.as_str().unwrap().parse().unwrap(),
            )
        })
        .collect()
}

fn asset(requirement: &Requirement) -> Asset {
    money::canonical_assets()
        .into_iter()
        .find(|a| a.network == requirement.network && a.is(&requirement.asset))
        .unwrap()
}

struct Fixed<'a> {
    key: &'a str,
    payer: &'a str,
    id: PaymentId,
    nonce: [u8; 32],
    now: u64,
    valid_for: u64,
}

fn pay(requirement: &Requirement, fixed: &Fixed<'_>) -> (Instruction, Payload) {
    let protocol = protocol::by_name(requirement.protocol).unwrap();
    let terms = Terms {
        requirement,
        asset: &asset(requirement),
        payer: fixed.payer,
        id: fixed.id,
        nonce: Nonce(fixed.nonce),
        now: Timestamp::from_secs(fixed.now),
        valid_for: fixed.valid_for,
        blockhash: None,
        fee: farepass::money::Amount(20_000),
    };
    let instruction = protocol.instruct(&terms).unwrap();
    let signature = sign(requirement, fixed.key, &instruction);
    let payload = protocol
        .payload(requirement, &instruction, &signature, fixed.id)
        .unwrap();
    assert!(payload.value.is_sensitive());
    (instruction, payload)
}

fn decoded(value: &http::HeaderValue) -> Value {
    serde_json::from_slice(&STANDARD.decode(value).unwrap()).unwrap()
}

#[test]
fn signatures_and_payloads_equal_the_official_clients() {
    let mut seen = 0;
    for path in files("signing") {
        let vector = json(&path);
        let Some(expected) = vector.get("expectedPayload") else {
            continue;
        };
        let text = fs::read_to_string(&path).unwrap();
        let offered = raw(&text, &["paymentRequired"]).get();
        let mut map = HeaderMap::new();
        let v2 = vector["paymentRequired"]["x402Version"] == 2;
        let kind = "application/json".parse().unwrap();
        map.insert("content-type", kind);
        if v2 {
            map.insert(
                "payment-required",
                STANDARD.encode(offered).parse().unwrap(),
            );
        }
        let challenge = read(&head(402, map), offered);
        assert_eq!(challenge.problems, [], "{}", path.display());
        let requirement = &challenge.requirements[0];
        let fixed = Fixed {
            key: vector["privateKey"].as_str().unwrap(),
            payer: vector["address"].as_str().unwrap(),
            id: PaymentId(1),
            nonce: bytes(vector["random"].as_str().unwrap()),
            now: vector["now"].as_u64().unwrap(),
            valid_for: requirement.valid_for,
        };
        let (instruction, payload) = pay(requirement, &fixed);
        let (separator, message) = match &instruction {
            Instruction::Transfer(t) => (t.domain.separator(), t.struct_hash()),
            Instruction::Permit(p) => (p.separator(), p.struct_hash()),
            other => panic!("{other:?}"),
        };
        let eip712 = &vector["eip712"][0];
        let hex = |name: &str| bytes::<32>(eip712[name].as_str().unwrap());
        let name = path.display();
        assert_eq!(separator, hex("domainSeparator"), "{name}");
        assert_eq!(message, hex("structHash"), "{name}");
        assert_eq!(instruction.digest(), Some(hex("digest")), "{name}");
        assert_eq!(&decoded(&payload.value), expected, "{}", path.display());
        let name = if v2 { "payment-signature" } else { "x-payment" };
        assert_eq!(payload.name, name);
        seen += 1;
    }
    assert_eq!(seen, 10);
}

/// What an exchange holds, one line per fact.
fn told(exchange: &Value) -> String {
    let mut lines = String::new();
    for step in exchange["steps"].as_array().unwrap() {
        let response = &step["response"];
        let status = u16::try_from(response["status"].as_u64().unwrap()).unwrap();
        let head = head(status, headers(response));
        let challenge = read(&head, response["body"].as_str().unwrap_or_default());
        lines += &format!("  {status}\n");
        for r in &challenge.requirements {
            lines += &format!(
                "    {} {} {} {} of {} to {} for {} s by {}\n",
                r.protocol,
                r.scheme,
                r.network,
                r.amount,
                r.asset,
                r.pay_to,
                r.valid_for,
                r.transfer_method
            );
            let said = (r.resource.as_deref(), r.mime_type.as_deref());
            lines += &format!(
                "      {} {}\n",
                said.0.unwrap_or("-"),
                said.1.unwrap_or("-")
            );
        }
        for p in &challenge.problems {
            lines += &format!("    problem {}: {}\n", p.reason, p.detail);
        }
        for protocol in protocol::PROTOCOLS {
            match protocol.receipt(&head.headers) {
                Receipt::Absent => {}
                receipt => lines += &format!("    {} {receipt:?}\n", protocol.name()),
            }
        }
    }
    lines
}

#[test]
fn recorded_challenges_and_receipts_are_read() {
    let mut all = String::new();
    for path in files("exchanges") {
        let exchange = json(&path);
        all += &format!(
            "{}\n{}",
            exchange["name"].as_str().unwrap(),
            told(&exchange)
        );
    }
    insta::assert_snapshot!(all);
}

#[test]
fn recorded_payments_are_reproduced_to_the_byte() {
    let mut seen = Vec::new();
    for path in files("exchanges") {
        let exchange = json(&path);
        let steps = exchange["steps"].as_array().unwrap();
        // The recorded client always paid for what the first answer offered.
        let first = &steps[0]["response"];
        let challenge = read(
            &head(402, headers(first)),
            first["body"].as_str().unwrap_or_default(),
        );
        for (name, recorded) in steps.iter().filter_map(sent) {
            if again(&exchange, &challenge, &name, &recorded) {
                seen.push(exchange["name"].as_str().unwrap().to_owned());
            }
        }
    }
    seen.sort();
    let expected = "hostile-price-jump hostile-settle-then-ask v1-exact v1-exact-legacy-client \
        v1-insufficient-funds v1-post v2-browser-html v2-exact-eip3009 v2-exact-permit2 v2-exact-post \
        v2-handler-500 v2-insufficient-funds v2-multi v2-payment-identifier \
        v2-permit2-needs-approval v2-settlement-reverts v2-siwx-first-pays v2-sse v2-upfront \
        v2-upfront-handler-500 v2-upto v2-upto-zero";
    assert_eq!(seen.join(" "), expected);
}

/// The payment header that the recorded client sent.
fn sent(step: &Value) -> Option<(String, String)> {
    let headers = step["request"]["headers"].as_object().unwrap();
    let (name, value) = headers
        .iter()
        .find(|(k, _)| protocol::PAYMENT_HEADERS.contains(&&***k))?;
    Some((name.clone(), value.as_str().unwrap().into()))
}

/// A number of 256 bits, big-endian, from decimal digits.
fn word(digits: &str) -> [u8; 32] {
    let mut number = [0_u8; 32];
    for digit in digits.bytes() {
        let mut carry = u32::from(digit - b'0');
        for byte in number.iter_mut().rev() {
            let value = u32::from(*byte) * 10 + carry;
            *byte = u8::try_from(value & 0xff).unwrap();
            carry = value >> 8;
        }
        assert_eq!(carry, 0, "{digits}");
    }
    number
}

/// Makes the same payment again and compares every byte. False: another scheme.
fn again(exchange: &Value, challenge: &Challenge, name: &str, recorded: &str) -> bool {
    let value = recorded.parse().unwrap();
    let sent = decoded(&value);
    let payload = &sent["payload"];
    let permit = &payload["permit2Authorization"];
    let (authorization, nonce, end) = match (&payload["authorization"], permit["nonce"].as_str()) {
        (_, Some(number)) => (permit, word(number), "deadline"),
        (Value::Object(_), None) => {
            let nonce = payload["authorization"]["nonce"].as_str().unwrap();
            (&payload["authorization"], bytes(nonce), "validBefore")
        }
        (_, None) => return false,
    };
    // An approval came with it, which is never signed here.
    if sent["extensions"]["eip2612GasSponsoring"].is_object() {
        return false;
    }
    let number = |name: &str| {
        authorization[name]
            .as_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let id = &sent["extensions"]["payment-identifier"]["info"]["id"];
    let chosen = challenge.requirements.iter().find(|r| {
        let entry: Value = serde_json::from_str(&r.offer.entry).unwrap();
        r.protocol == "x402-v1" || entry == sent["accepted"]
    });
    let requirement = chosen.unwrap();
    let now = match requirement.protocol {
        "x402-v1" => number("validAfter") + 600,
        _ => number(end) - requirement.valid_for,
    };
    let fixed = Fixed {
        key: exchange["payer"]["privateKey"].as_str().unwrap(),
        payer: exchange["payer"]["address"].as_str().unwrap(),
        id: id.as_str().map_or(PaymentId(1), |id| id.parse().unwrap()),
        nonce,
        now,
        valid_for: number(end) - now,
    };
    let (_, payload) = pay(requirement, &fixed);
    assert_eq!(payload.name, name);
    assert_eq!(decoded(&payload.value), sent, "{}", exchange["name"]);
    if exchange["name"] != "v1-exact-legacy-client" {
        assert_eq!(
            payload.value.to_str().unwrap(),
            recorded,
            "{}",
            exchange["name"]
        );
    }
    true
}
