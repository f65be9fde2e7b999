//! Who may speak for a merchant: public keys of the operator's own file, and whether one of them signed a
//! statement. Nothing that a statement says of its own key (`kid`, an address) is looked at.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, Secp256k1};

use crate::evm::Address;

/// A key that merchants sign statements with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// Signs EIP-712 typed data.
    Account(Address),
    /// Signs JWS (RFC 7515).
    Public {
        /// The only algorithm that is taken with it.
        algorithm: Algorithm,
        /// Of a curve with two coordinates the uncompressed point, else the 32 bytes of the key.
        bytes: Vec<u8>,
    },
}

/// How a JWS is signed (RFC 7518 section 3.1, RFC 8037, RFC 8812).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// ECDSA over secp256k1 with SHA-256.
    Es256k,
    /// Ed25519.
    EdDsa,
}

/// `crv` of a JWK, `alg` of what it signs, and the algorithm.
const ALGORITHMS: &[(&str, &str, Algorithm)] = &[
    ("P-256", "ES256", Algorithm::Es256),
    ("secp256k1", "ES256K", Algorithm::Es256k),
    ("Ed25519", "EdDSA", Algorithm::EdDsa),
];

impl Algorithm {
    /// The algorithm that a JWS header names.
    #[must_use]
    pub fn named(alg: &str) -> Option<Self> {
        let found = ALGORITHMS.iter().find(|(_, name, _)| *name == alg);
        found.map(|(_, _, algorithm)| *algorithm)
    }

    /// The algorithm of a curve.
    #[must_use]
    pub fn of_curve(crv: &str) -> Option<Self> {
        let found = ALGORITHMS.iter().find(|(curve, _, _)| *curve == crv);
        found.map(|(_, _, algorithm)| *algorithm)
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::Es256k => &signature::ECDSA_P256K1_SHA256_FIXED,
            Self::EdDsa => &signature::ED25519,
        }
    }
}

/// What shows that a statement was made by the holder of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seal {
    /// Nothing that can be read: no key signed it.
    #[default]
    Broken,
    /// EIP-712.
    TypedData {
        /// What was signed.
        digest: [u8; 32],
        /// r ‖ s ‖ v.
        signature: Box<[u8; 65]>,
    },
    /// Compact JWS.
    Jws {
        /// What its header names.
        algorithm: Algorithm,
        /// Header and payload as they were sent, with the dot between them.
        input: String,
        /// The third part, decoded.
        signature: Vec<u8>,
    },
}

impl Key {
    /// Did the holder of this key make the statement?
    #[must_use]
    pub fn sealed(&self, seal: &Seal) -> bool {
        match (self, seal) {
            (Self::Account(address), Seal::TypedData { digest, signature }) => {
                recovered(digest, signature) == Some(*address)
            }
            (
                Self::Public { algorithm, bytes },
                Seal::Jws {
                    algorithm: named,
                    input,
                    signature,
                },
            ) => {
                let key = UnparsedPublicKey::new(algorithm.verification(), bytes);
                algorithm == named && key.verify(input.as_bytes(), signature).is_ok()
            }
            (Self::Account(_), Seal::Jws { .. } | Seal::Broken)
            | (Self::Public { .. }, Seal::TypedData { .. } | Seal::Broken) => false,
        }
    }
}

/// The account whose signature this is.
fn recovered(digest: &[u8; 32], signature: &[u8; 65]) -> Option<Address> {
    let (compact, v) = signature.split_at(64);
    let id = match v.first()? {
        v @ (0 | 1) => i32::from(*v),
        v @ (27 | 28) => i32::from(*v) - 27,
        _ => return None,
    };
    let id = RecoveryId::from_i32(id).ok()?;
    let signature = RecoverableSignature::from_compact(compact, id).ok()?;
    let message = Message::from_digest(*digest);
    let public = Secp256k1::verification_only().recover_ecdsa(&message, &signature);
    let public = public.ok()?;
    let point = public.serialize_uncompressed();
    let mut key = [0; 64];
    key.copy_from_slice(point.split_at(1).1);
    Some(Address::of_public_key(&key))
}
