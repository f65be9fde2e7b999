//! Tempo transactions to the byte. What the official client asked a node for (gas and its price), and when it
//! signed, is read from its own bytes; everything else is made from the challenge.

use farepass::clock::Timestamp;
use farepass::evm::{TempoFee, TempoTransfer};
use farepass::money::{Amount, Asset};
use farepass::payment::{Instruction, Nonce, PaymentId, Requirement};
use farepass::protocol::{self, Terms};

use super::*;

/// The strings of a list, of a list within it nothing: an independent reading.
fn strings(mut list: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![];
    while let Some(first) = list.first() {
        let long = |n: usize| {
            list[1..=n]
                .iter()
                .fold(0, |sum, b| sum << 8 | usize::from(*b))
        };
        let kind = usize::from(*first);
        let (from, length, is_list) = match kind {
            0..0x80 => (0, 1, false),
            0x80..0xb8 => (1, kind - 0x80, false),
            0xb8..0xc0 => (kind - 0xb6, long(kind - 0xb7), false),
            0xc0..0xf8 => (1, kind - 0xc0, true),
            _ => (kind - 0xf6, long(kind - 0xf7), true),
        };
        let item = &list[from..from + length];
        all.push(if is_list { vec![] } else { item.to_vec() });
        list = &list[from + length..];
    }
    all
}

fn number(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |sum, b| sum << 8 | u128::from(*b))
}

/// The token of the recorded merchant.
fn path_usd(requirement: &Requirement) -> Asset {
    let all = farepass::money::canonical_assets();
    let like = all.into_iter().find(|a| a.symbol == "pathUSD").unwrap();
    Asset {
        network: requirement.network.clone(),
        ..like
    }
}

fn instruct(requirement: &Requirement) -> TempoTransfer {
    let derived = derived();
    let expires = requirement.expires.unwrap();
    let terms = Terms {
        requirement,
        asset: &path_usd(requirement),
        payer: derived["address"].as_str().unwrap(),
        id: PaymentId(1),
        nonce: Nonce([7; 32]),
        now: Timestamp::from_secs(expires.secs() - 60),
        valid_for: 60,
        fee: Amount(20_000),
        blockhash: None,
    };
    let protocol = protocol::by_name("mpp").unwrap();
    match protocol.instruct(&terms) {
        Ok(Instruction::Tempo(transfer)) => transfer,
        Ok(other) => panic!("{other:?}"),
        Err(problem) => panic!("{problem:?}"),
    }
}

/// The same as the official client has it: its gas, its moment, and a token for the fee that the chain chooses.
fn as_recorded(ours: &TempoTransfer, sent: &[u8]) -> TempoTransfer {
    let list = &sent[1..];
    let body = &list[1 + usize::from(list[0]) - 0xf7..];
    let fields = strings(body);
    assert_eq!(fields.len(), 14);
    let at = |place: usize| u64::try_from(number(&fields[place])).unwrap();
    let fee = match ours.fee {
        TempoFee::Own(Some(token)) => {
            assert_eq!(token, ours.token, "the fee is paid in the token that pays");
            TempoFee::Own(None)
        }
        other => other,
    };
    TempoTransfer {
        max_priority_fee_per_gas: number(&fields[1]),
        max_fee_per_gas: number(&fields[2]),
        gas: at(3),
        valid_before: at(8),
        valid_after: at(9),
        fee,
        ..ours.clone()
    }
}

#[test]
fn tempo_transactions_equal_the_official_clients_to_the_byte() {
    let key = derived()["private_key"].as_str().unwrap().to_owned();
    let mut seen = vec![];
    for exchange in exchanges() {
        let steps = exchange["exchange"].as_array().unwrap();
        let (_, challenge) = read(&steps[0]["response"]);
        let tempo = |r: &&Requirement| r.scheme == "tempo/charge";
        let found = challenge.requirements.iter().find(tempo);
        let sent = steps.get(1).map(|step| &step["request"]["headers"]);
        let Some((requirement, sent)) = found.zip(sent.and_then(Value::as_object)) else {
            continue;
        };
        let fields = ["authorization", "payment-authorization"];
        let credential = |field: &str| {
            let value = sent.get(field)?.as_str()?;
            let credential = URL_SAFE_NO_PAD.decode(value.strip_prefix("Payment ")?);
            serde_json::from_slice::<Value>(&credential.unwrap()).ok()
        };
        let Some(credential) = fields.into_iter().find_map(credential) else {
            continue;
        };
        if credential["payload"]["type"] != "transaction" {
            continue;
        }
        let bytes = credential["payload"]["signature"].as_str().unwrap();
        let bytes = hex::decode(&bytes[2..]).unwrap();
        let transfer = as_recorded(&instruct(requirement), &bytes);
        let signature = sign_digest(&key, transfer.digest());
        let protocol = protocol::by_name("mpp").unwrap();
        let payload = protocol.payload(
            requirement,
            &Instruction::Tempo(transfer),
            &signature,
            PaymentId(1),
        );
        let payload = payload.unwrap();
        assert!(payload.value.is_sensitive());
        let name = exchange["name"].as_str().unwrap();
        let wanted = sent.get(payload.name.as_str()).and_then(Value::as_str);
        if name == "tempo-charge-opaque" {
            // It has the members of the echo in another order than anywhere else.
            let ours = payload.value.to_str().unwrap().strip_prefix("Payment ");
            let ours = URL_SAFE_NO_PAD.decode(ours.unwrap()).unwrap();
            let ours: Value = serde_json::from_slice(&ours).unwrap();
            assert_eq!(ours, credential, "{name}");
        } else {
            assert_eq!(wanted, payload.value.to_str().ok(), "{name}");
        }
        seen.push(name.to_owned());
    }
    assert_eq!(
        seen,
        [
            "always-402",
            "auth-payment-authorization-header",
            "merged-field-line",
            "multi-select-tempo",
            "price-rise",
            "server-error-after-settlement",
            "tempo-charge-body-digest",
            "tempo-charge-external-id",
            "tempo-charge-opaque",
            "tempo-charge-pull",
            "tempo-charge-splits",
            "tempo-charge-sponsored",
        ]
    );
}

#[test]
fn a_sponsored_signature_is_good_for_nothing_without_the_fee_payer() {
    let file = folder().join("exchanges/tempo-charge-sponsored.json");
    let (_, challenge) = read(&json(&file)["exchange"][0]["response"]);
    let sponsored = instruct(&challenge.requirements[0]);
    assert_eq!(sponsored.fee, TempoFee::Sponsored);
    let alone = TempoTransfer {
        fee: TempoFee::Own(None),
        ..sponsored.clone()
    };
    assert_ne!(sponsored.digest(), alone.digest());
    // Of another fee payer's making, it moves the same: the terms are under the signature.
    let dearer = TempoTransfer {
        gas: sponsored.gas + 1,
        ..sponsored.clone()
    };
    assert_ne!(sponsored.digest(), dearer.digest());
    assert_eq!(sponsored.signed(&[1; 65])[0], 0x78);
    assert_eq!(alone.signed(&[1; 65])[0], 0x76);
}
