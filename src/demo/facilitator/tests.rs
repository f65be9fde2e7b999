//! Every way in which a payment can be wrong, one test each.

use secp256k1::SecretKey;
use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const SHOP: Address = Address([0xb0; 20]);

fn offer(version: Version) -> Offer {
    let entry = match version {
        Version::V2 => {
            json!({"scheme": "exact", "network": NETWORK, "amount": "10000", "asset": TOKEN,
            "payTo": SHOP.to_string(), "maxTimeoutSeconds": 60, "extra": {"name": "USDC", "version": "2"}})
        }
        Version::V1 => json!({"scheme": "exact", "network": "base-sepolia"}),
    };
    Offer {
        version,
        amount: 10_000,
        pay_to: SHOP,
        entry,
    }
}

fn key() -> SecretKey {
    SecretKey::from_slice(&[0x42; 32]).unwrap()
}

fn address() -> Address {
    let point = key().public_key(&Secp256k1::new()).serialize_uncompressed();
    Address::of_public_key(point.last_chunk().unwrap())
}

pub(in crate::demo) fn transfer(to: Address, now: Timestamp) -> TransferWithAuthorization {
    TransferWithAuthorization {
        domain: Domain {
            name: "USDC".into(),
            version: "2".into(),
            chain_id: 84532,
            contract: TOKEN.parse().unwrap(),
        },
        from: address(),
        to,
        value: 10_000,
        valid_after: 0,
        valid_before: now.secs() + 60,
        nonce: [7; 32],
    }
}

pub(in crate::demo) fn sign(transfer: &TransferWithAuthorization) -> [u8; 65] {
    let message = Message::from_digest(transfer.digest());
    let (id, rs) = Secp256k1::new()
        .sign_ecdsa_recoverable(&message, &key())
        .serialize_compact();
    let mut signature = [0; 65];
    signature[..64].copy_from_slice(&rs);
    signature[64] = 27 + u8::try_from(id.to_i32()).unwrap();
    signature
}

pub(in crate::demo) fn payment(
    offer: &Offer,
    t: &TransferWithAuthorization,
    signature: [u8; 65],
) -> Value {
    let payload = json!({"signature": format!("0x{}", hex::encode(signature)), "authorization": {
        "from": t.from.to_string(), "to": t.to.to_string(), "value": t.value.to_string(),
        "validAfter": t.valid_after.to_string(), "validBefore": t.valid_before.to_string(),
        "nonce": format!("0x{}", hex::encode(t.nonce))}});
    match offer.version {
        Version::V2 => json!({"x402Version": 2, "accepted": offer.entry, "payload": payload}),
        Version::V1 => {
            json!({"x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": payload})
        }
    }
}

pub(in crate::demo) fn header(payment: &Value) -> Vec<u8> {
    STANDARD.encode(payment.to_string()).into_bytes()
}

/// Takes the honest payment after `change`, signed anew.
fn with(change: impl FnOnce(&mut TransferWithAuthorization)) -> Result<Sale, Objection> {
    let (offer, mut t) = (offer(Version::V2), transfer(SHOP, NOW));
    change(&mut t);
    let header = header(&payment(&offer, &t, sign(&t)));
    Facilitator::default().settle(&offer, &header, NOW)
}

#[test]
fn takes_an_honest_payment_of_either_version_once() {
    for version in [Version::V1, Version::V2] {
        let (offer, t) = (offer(version), transfer(SHOP, NOW));
        let header = header(&payment(&offer, &t, sign(&t)));
        let mut till = Facilitator::default();
        let sale = till.settle(&offer, &header, NOW).unwrap();
        assert_eq!((sale.from, sale.amount), (address(), 10_000));
        assert_eq!(till.settle(&offer, &header, NOW), Err(Objection::NonceUsed));
        assert_eq!((till.payments(), till.earned()), (1, 10_000));
    }
}

#[test]
fn refuses_a_transfer_with_other_terms() {
    assert!(with(|_| ()).is_ok());
    let refused = |change: fn(&mut TransferWithAuthorization)| with(change).unwrap_err();
    assert_eq!(refused(|t| t.value = 9_999), Objection::Value);
    assert_eq!(refused(|t| t.value = 10_001), Objection::Value);
    assert_eq!(refused(|t| t.to = Address([1; 20])), Objection::Recipient);
    assert_eq!(refused(|t| t.from = Address([1; 20])), Objection::Signature);
    let near = |t: &mut TransferWithAuthorization| t.valid_before = NOW.secs() + 5;
    assert_eq!(refused(near), Objection::ValidBefore);
    let later = |t: &mut TransferWithAuthorization| t.valid_after = NOW.secs() + 1;
    assert_eq!(refused(later), Objection::ValidAfter);
}

#[test]
fn refuses_a_signature_under_another_domain() {
    let refused = |change: fn(&mut Domain)| with(|t| change(&mut t.domain)).unwrap_err();
    assert_eq!(
        refused(|d| d.name = "USD Coin".into()),
        Objection::Signature
    );
    assert_eq!(refused(|d| d.version = "1".into()), Objection::Signature);
    assert_eq!(refused(|d| d.chain_id = 8453), Objection::Signature);
    assert_eq!(refused(|d| d.contract = SHOP), Objection::Signature);
}

#[test]
fn refuses_a_signature_that_the_token_would_reject() {
    let (offer, t) = (offer(Version::V2), transfer(SHOP, NOW));
    let refused = |signature| {
        let header = header(&payment(&offer, &t, signature));
        Facilitator::default()
            .settle(&offer, &header, NOW)
            .unwrap_err()
    };
    let mut flipped = sign(&t);
    flipped[10] ^= 1;
    assert_eq!(refused(flipped), Objection::Signature);
    let mut parity = sign(&t);
    parity[64] -= 27;
    assert_eq!(refused(parity), Objection::Signature);
    assert_eq!(refused(high(sign(&t))), Objection::Signature);
    assert_eq!(refused([0; 65]), Objection::Signature);
}

/// The other root: n - s with the other parity. Recovers to the same key.
fn high(mut signature: [u8; 65]) -> [u8; 65] {
    let s = SecretKey::from_slice(&signature[32..64]).unwrap().negate();
    signature[32..64].copy_from_slice(&s.secret_bytes());
    signature[64] = 55 - signature[64];
    signature
}

#[test]
fn refuses_what_was_not_offered() {
    let (offer, t) = (offer(Version::V2), transfer(SHOP, NOW));
    let refused = |change: fn(&mut Value)| {
        let mut payment = payment(&offer, &t, sign(&t));
        change(&mut payment);
        Facilitator::default()
            .settle(&offer, &header(&payment), NOW)
            .unwrap_err()
    };
    assert_eq!(
        refused(|p| p["accepted"]["amount"] = json!("1")),
        Objection::Requirements
    );
    assert_eq!(
        refused(|p| p["accepted"]["more"] = json!(1)),
        Objection::Requirements
    );
    assert_eq!(
        refused(|p| p["accepted"]["extra"] = json!({})),
        Objection::Requirements
    );
    assert_eq!(
        refused(|p| p["accepted"] = Value::Null),
        Objection::Requirements
    );
    assert_eq!(refused(|p| p["x402Version"] = json!(1)), Objection::Version);
    assert_eq!(refused(|p| p["payload"] = json!({})), Objection::Payload);
    let short = |p: &mut Value| p["payload"]["authorization"]["nonce"] = json!("0x07");
    assert_eq!(refused(short), Objection::Payload);
}

#[test]
fn refuses_bytes_that_are_no_payment() {
    let offer = offer(Version::V2);
    for header in [
        &b""[..],
        b"x",
        b"e30=",
        b"bm8ganNvbg==",
        &[b'A'; HEADER_MAX + 4],
    ] {
        let taken = Facilitator::default().settle(&offer, header, NOW);
        assert_eq!(taken, Err(Objection::Payload));
    }
}
