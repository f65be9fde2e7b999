//! One secp256k1 key in memory: wiped when dropped, without `Debug`, and never trusted to have
//! signed right once: a signature leaves when it was computed twice.

use secp256k1::ecdsa::{RecoverableSignature, RecoveryId, Signature};
use secp256k1::{All, Message, PublicKey, Secp256k1, SecretKey};
use secrecy::{ExposeSecret, SecretBox};

use super::{WalletError, public_keys};
use crate::evm::Address;

/// A signing key and its address.
pub(super) struct Key {
    secret: SecretBox<[u8; 32]>,
    address: Address,
    curve: Secp256k1<All>,
}

/// The bytes are no number between one and the order of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not a secp256k1 key")]
pub(super) struct NotAKey;

impl Key {
    /// Takes over the 32 bytes of a private key.
    ///
    /// # Errors
    /// When they are none.
    pub(super) fn new(secret: SecretBox<[u8; 32]>) -> Result<Self, NotAKey> {
        let curve = Secp256k1::new();
        let mut key = SecretKey::from_slice(secret.expose_secret()).map_err(|_| NotAKey)?;
        let public = PublicKey::from_secret_key(&curve, &key);
        let message = Message::from_digest([0x5a; 32]);
        let signature = curve.sign_ecdsa_recoverable(&message, &key);
        key.non_secure_erase();
        // Whoever signs wrong every time would agree with itself below.
        match curve.recover_ecdsa(&message, &signature) {
            Ok(recovered) if recovered == public => Ok(Self {
                address: address(&public),
                secret,
                curve,
            }),
            Ok(_) | Err(_) => Err(NotAKey),
        }
    }

    /// The account it signs for.
    pub(super) fn address(&self) -> Address {
        self.address
    }

    /// Does everybody have it?
    pub(super) fn is_public(&self) -> bool {
        public_keys::is_public(self.secret.expose_secret(), self.address)
    }

    /// r ‖ s ‖ v over a digest: nonce by RFC 6979, low s, v 27 or 28.
    ///
    /// A fault while signing can give the key away, so no signature leaves unchecked. The nonce is no random
    /// number, so the same comes twice; recovering the key would cost more, above all a table of a megabyte
    /// that takes the place of everything else in the cache.
    ///
    /// # Errors
    /// When the two differ. Neither leaves this function then.
    pub(super) fn sign(&self, digest: [u8; 32]) -> Result<[u8; 65], WalletError> {
        let declined = |detail: &str| WalletError::Declined(detail.into());
        let message = Message::from_digest(digest);
        let mut key = SecretKey::from_slice(self.secret.expose_secret())
            .map_err(|_| declined("the key is damaged"))?;
        let signed = [(); 2].map(|()| self.curve.sign_ecdsa_recoverable(&message, &key));
        key.non_secure_erase();
        let signature =
            agreed(signed).ok_or_else(|| declined("it was not signed the same twice"))?;
        let (id, compact) = signature.serialize_compact();
        let v = u8::try_from(id.to_i32()).ok().filter(|id| *id < 2);
        let v = v.ok_or_else(|| declined("the signature cannot be written with v 27 or 28"))?;
        let mut bytes = [0; 65];
        let (rs, last) = bytes.split_at_mut(64);
        rs.copy_from_slice(&compact);
        last.copy_from_slice(&[27 + v]);
        Ok(bytes)
    }
}

/// Both of them, if they are one.
fn agreed([one, other]: [RecoverableSignature; 2]) -> Option<RecoverableSignature> {
    (one == other).then_some(one)
}

/// Somebody else's signature over this digest, made uniform: low s, v 27 or 28. Takes v 0 and 1 too.
/// `None` unless it is one, and made with the key of this address.
pub(super) fn verified(signature: [u8; 65], digest: [u8; 32], of: Address) -> Option<[u8; 65]> {
    let (rs, v) = signature.split_at(64);
    let id = match v.first()? {
        v @ (0 | 1) => *v,
        v @ (27 | 28) => v.wrapping_sub(27),
        _ => return None,
    };
    let mut low = Signature::from_compact(rs).ok()?;
    low.normalize_s();
    let low = low.serialize_compact();
    // The other s belongs to the mirrored point, whose y has the other parity.
    let id = match low.as_slice() == rs {
        true => id,
        false => id ^ 1,
    };
    let recoverable =
        RecoverableSignature::from_compact(&low, RecoveryId::from_i32(i32::from(id)).ok()?).ok()?;
    let message = Message::from_digest(digest);
    let public = Secp256k1::verification_only()
        .recover_ecdsa(&message, &recoverable)
        .ok()?;
    let mut uniform = [0; 65];
    let (first, last) = uniform.split_at_mut(64);
    first.copy_from_slice(&low);
    last.copy_from_slice(&[27 + id]);
    (address(&public) == of).then_some(uniform)
}

fn address(public: &PublicKey) -> Address {
    let mut point = [0; 64];
    let serialized = public.serialize_uncompressed();
    point.copy_from_slice(serialized.split_at(1).1);
    Address::of_public_key(&point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_signed_as_the_vectors_say() {
        let text = include_str!("../../tests/vectors/x402/signing/raw-ecdsa.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let rows = vectors["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 9);
        for row in rows {
            let bytes = |name: &str| hex::decode(&row[name].as_str().unwrap()[2..]).unwrap();
            let secret: [u8; 32] = bytes("privateKey").try_into().unwrap();
            let key = Key::new(SecretBox::new(Box::new(secret))).unwrap();
            assert_eq!(key.address().to_string(), row["address"].as_str().unwrap());
            assert!(key.is_public());
            let digest: [u8; 32] = bytes("digest").try_into().unwrap();
            assert_eq!(key.sign(digest).unwrap().to_vec(), bytes("signature"));
        }
    }

    #[test]
    fn a_signature_that_was_not_made_twice_does_not_leave() {
        let key = Key::new(SecretBox::new(Box::new([1; 32]))).unwrap();
        let secret = SecretKey::from_slice(&[1; 32]).unwrap();
        let message = Message::from_digest([9; 32]);
        let sound = key.curve.sign_ecdsa_recoverable(&message, &secret);
        assert_eq!(agreed([sound, sound]), Some(sound));
        let (id, compact) = sound.serialize_compact();
        let flipped = RecoveryId::from_i32(id.to_i32() ^ 1).unwrap();
        let flipped = RecoverableSignature::from_compact(&compact, flipped).unwrap();
        assert_eq!(agreed([sound, flipped]), None);
        for bit in 0..512 {
            let mut faulty = compact;
            faulty[bit / 8] ^= 1 << (bit % 8);
            if let Ok(faulty) = RecoverableSignature::from_compact(&faulty, id) {
                assert_eq!(agreed([faulty, sound]), None, "bit {bit}");
            }
        }
    }

    #[test]
    fn keys_are_numbers_below_the_order_of_the_curve() {
        let key = |bytes: [u8; 32]| Key::new(SecretBox::new(Box::new(bytes)));
        assert!(key([0; 32]).is_err());
        assert!(key([0xff; 32]).is_err());
        let mut one = [0; 32];
        one[31] = 1;
        assert!(key(one).unwrap().is_public());
        assert!(!key([7; 32]).unwrap().is_public());
    }

    #[test]
    fn a_signature_from_elsewhere_is_made_uniform_or_refused() {
        /// The order of the curve.
        const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
        let key = Key::new(SecretBox::new(Box::new([3; 32]))).unwrap();
        for byte in 0..32 {
            let digest = [byte; 32];
            let signed = key.sign(digest).unwrap();
            let check = |s: [u8; 65]| verified(s, digest, key.address());
            assert_eq!(check(signed), Some(signed));
            let with_v = |v: u8| {
                let mut other = signed;
                other[64] = v;
                other
            };
            assert_eq!(check(with_v(signed[64] - 27)), Some(signed));
            for v in [2, 26, 29, 30, 255, 55 - signed[64]] {
                assert_eq!(check(with_v(v)), None, "{v}");
            }
            // The same signature with the high s: order minus s, and the other parity.
            let mut high = with_v(55 - signed[64]);
            let (mut borrow, order) = (0, hex::decode(ORDER).unwrap());
            for at in (0..32).rev() {
                let left = i32::from(order[at]) - i32::from(signed[32 + at]) - borrow;
                borrow = i32::from(left < 0);
                high[32 + at] = u8::try_from(left.rem_euclid(256)).unwrap();
            }
            assert_eq!(check(high), Some(signed));
            assert_eq!(verified(signed, [99; 32], key.address()), None);
            assert_eq!(verified(signed, digest, Address([1; 20])), None);
        }
        assert_eq!(verified([0; 65], [1; 32], key.address()), None);
        assert_eq!(verified([0xff; 65], [1; 32], key.address()), None);
    }
}
