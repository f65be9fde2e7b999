//! The two things that a key service writes in DER (X.690): a signature, and a public key.

/// A public key of a curve that payments are signed on.
#[derive(Debug, PartialEq, Eq)]
pub enum Key {
    /// x ‖ y.
    Secp256k1([u8; 64]),
    /// As it is.
    Ed25519([u8; 32]),
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;

/// r ‖ s of `ECDSA-Sig-Value` (RFC 3279, section 2.2.3): each 32 bytes, however many are written. Short
/// lengths only: a signature has at most 72 bytes.
#[must_use]
pub fn signature(der: &[u8]) -> Option<[u8; 64]> {
    let (inside, rest) = element(der, SEQUENCE)?;
    let (r, more) = element(inside, INTEGER)?;
    let (s, end) = element(more, INTEGER)?;
    if !rest.is_empty() || !end.is_empty() {
        return None;
    }
    let mut both = [0; 64];
    let (first, second) = both.split_at_mut(32);
    for (number, half) in [(r, first), (s, second)] {
        let number = positive(number)?;
        let start = half.len().checked_sub(number.len())?;
        half.get_mut(start..)?.copy_from_slice(number);
    }
    Some(both)
}

/// Without the zero that keeps it positive. Negative and needlessly long numbers are none.
fn positive(number: &[u8]) -> Option<&[u8]> {
    match number {
        [0, rest @ ..] if rest.first().is_some_and(|b| *b >= 0x80) => Some(rest),
        [first, ..] if (1..0x80).contains(first) => Some(number),
        _ => None,
    }
}

/// What is in an element of this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    let short = *found == tag && *length < 0x80;
    short.then(|| rest.split_at_checked(usize::from(*length)))?
}

/// `SubjectPublicKeyInfo` up to the uncompressed point of secp256k1 (RFC 5480).
const SECP256K1: [u8; 24] = [
    0x30, 0x56, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b,
    0x81, 0x04, 0x00, 0x0a, 0x03, 0x42, 0x00, 0x04,
];

/// `SubjectPublicKeyInfo` up to the key of Ed25519 (RFC 8410).
const ED25519: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// A public key. DER has one way to write it, so its beginning is compared.
#[must_use]
pub fn public_key(spki: &[u8]) -> Option<Key> {
    if let Some(point) = spki.strip_prefix(&SECP256K1) {
        return point.try_into().ok().map(Key::Secp256k1);
    }
    let key = spki.strip_prefix(&ED25519)?;
    key.try_into().ok().map(Key::Ed25519)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::evm::Address;
    use crate::wallet::key::verified;

    fn vectors() -> Value {
        let text = include_str!("../../../tests/vectors/wallets/kms.json");
        serde_json::from_str(text).unwrap()
    }

    fn bytes(text: &Value) -> Vec<u8> {
        hex::decode(text.as_str().unwrap()).unwrap()
    }

    #[test]
    fn signatures_become_those_of_the_vectors() {
        let vectors = vectors();
        let Some(Key::Secp256k1(point)) = public_key(&bytes(&vectors["public_key_spki_der"]))
        else {
            panic!("no key of this curve");
        };
        let address = Address::of_public_key(&point);
        assert_eq!(address.to_string(), vectors["address"].as_str().unwrap());
        let cases = vectors["cases"].as_array().unwrap();
        assert!(cases.len() >= 4);
        for case in cases {
            let digest: [u8; 32] = bytes(&case["digest"]).try_into().unwrap();
            let rs = signature(&bytes(&case["der_hex"])).unwrap();
            let tried = [27, 28].map(|v| {
                let both: [u8; 65] = [&rs[..], &[v]].concat().try_into().unwrap();
                verified(both, digest, address)
            });
            let [signed] = &*tried.into_iter().flatten().collect::<Vec<_>>() else {
                panic!("one of the two: {}", case["name"]);
            };
            let expect = &case["expect"];
            let v = u8::try_from(expect["v"].as_u64().unwrap()).unwrap();
            let expected = [bytes(&expect["r"]), bytes(&expect["s"]), vec![v]].concat();
            assert_eq!(signed.to_vec(), expected, "{}", case["name"]);
        }
    }

    #[test]
    fn what_is_no_der_is_no_signature() {
        let good = bytes(&vectors()["cases"][0]["der_hex"]);
        assert!(signature(&good).is_some());
        for at in 0..good.len() {
            assert!(signature(&good[..at]).is_none(), "cut at {at}");
        }
        assert!(signature(&[&good[..], &[0]].concat()).is_none());
        for odd in [
            "",
            "30",
            "3080",
            "30060201000201",
            "3006020100020101",
            "3006020181020101",
            "300702020001020101",
            "3006020101020100",
            "30060201010301ff",
        ] {
            let odd = hex::decode(odd).unwrap_or_default();
            assert!(signature(&odd).is_none(), "{odd:?}");
        }
        let small = hex::decode("3006020101020102").unwrap();
        let mut expected = [0; 64];
        (expected[31], expected[63]) = (1, 2);
        assert_eq!(signature(&small), Some(expected));
        // 33 bytes that are no zero first.
        let long = [&[0x30, 0x26, 2, 0x21, 1][..], &[7; 32], &[2, 1, 1]].concat();
        assert!(signature(&long).is_none());
        assert!(public_key(&good).is_none());
        assert_eq!(
            public_key(&[&ED25519[..], &[9; 32]].concat()),
            Some(Key::Ed25519([9; 32]))
        );
        assert!(public_key(&[&ED25519[..], &[9; 33]].concat()).is_none());
    }
}
