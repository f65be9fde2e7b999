//! What a signer elsewhere is asked, and whose signature over it counts.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::Purpose;
use super::failure::{Failure, unmade};
use super::key::verified;
use super::solana_key::is_signature;
use super::typed_data::TypedData;
use crate::evm::Address;
use crate::payment::{Instruction, PaymentId, Signature};
use crate::solana::{self, Pubkey};

/// Who pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Account {
    /// On EVM chains.
    Evm(Address),
    /// On Solana.
    Solana(Pubkey),
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Evm(address) => address.fmt(f),
            Self::Solana(address) => address.fmt(f),
        }
    }
}

/// What a signer is asked to sign.
pub(super) enum Ask {
    /// Typed data, and its digest by our own reckoning.
    Typed {
        /// As JSON.
        data: Box<TypedData>,
        /// EIP-712.
        digest: [u8; 32],
        /// The payment that they are for, where it is known.
        paying: Option<Box<Paying>>,
    },
    /// The message of a Solana transaction, and the transaction as nobody has signed it yet.
    Message {
        /// What is signed.
        message: Vec<u8>,
        /// With zeros in the places of the signatures.
        transaction: Vec<u8>,
        /// As above.
        paying: Option<Box<Paying>>,
    },
}

/// A payment, for those who make more of it than a signature.
pub(super) struct Paying {
    /// As we would have it signed.
    pub(super) instruction: Instruction,
    /// The payment.
    pub(super) id: PaymentId,
    /// The challenge that it answers, where the protocol has one that can be handed on.
    pub(super) challenge: Option<String>,
}

impl Ask {
    /// The question for this instruction.
    ///
    /// # Errors
    /// When signers could read it in two ways.
    pub(super) fn of(
        instruction: &Instruction,
        purpose: Option<&Purpose>,
    ) -> Result<Self, Failure> {
        let paying = purpose.map(|purpose| {
            Box::new(Paying {
                instruction: instruction.clone(),
                id: purpose.id,
                challenge: purpose.challenge.clone(),
            })
        });
        if let Instruction::Tokens { transfer, .. } = instruction {
            return Ok(Self::Message {
                message: transfer.message(),
                transaction: transfer.transaction(&[0; 64]),
                paying,
            });
        }
        let typed = TypedData::of(instruction).zip(instruction.digest());
        let typed = typed.map(|(data, digest)| Self::Typed {
            data: Box::new(data),
            digest,
            paying,
        });
        typed.ok_or_else(|| Failure::Unmade("signers could read it in two ways".into()))
    }

    /// What makes a question that arrives twice one question: the same for what is the same to sign, and
    /// nothing else has it, since every payment has a nonce of its own.
    pub(super) fn idempotency_key(&self) -> String {
        let mut hash = Sha256::new_with_prefix("farepass idempotency key 1 ");
        match self {
            Self::Typed { digest, .. } => hash.update(digest),
            Self::Message { message, .. } => hash.update(message),
        }
        hex::encode(hash.finalize())
    }

    /// The payment that it is for.
    pub(super) fn paying(&self) -> Result<&Paying, Failure> {
        match self {
            Self::Typed { paying, .. } | Self::Message { paying, .. } => paying.as_deref(),
        }
        .ok_or_else(|| unmade("it makes payments, and no mere signatures"))
    }

    /// Typed data, for those who take nothing else.
    pub(super) fn typed(&self) -> Result<&TypedData, Failure> {
        match self {
            Self::Typed { data, .. } => Ok(data),
            Self::Message { .. } => Err(unmade("it signs typed data only")),
        }
    }

    /// The first of these that is a signature of this account over it.
    pub(super) fn find(&self, of: Account, signatures: &[Vec<u8>]) -> Option<Signature> {
        let mut signatures = signatures.iter();
        match (self, of) {
            (Self::Typed { digest, .. }, Account::Evm(address)) => signatures
                .find_map(|s| verified(s.as_slice().try_into().ok()?, *digest, address))
                .map(Signature::Evm),
            (Self::Message { message, .. }, Account::Solana(address)) => signatures
                .filter_map(|s| s.as_slice().try_into().ok())
                .find(|s| is_signature(s, message, address))
                .map(Signature::Solana),
            (Self::Typed { .. } | Self::Message { .. }, Account::Evm(_) | Account::Solana(_)) => {
                None
            }
        }
    }

    /// The signature of this account in the transaction that came back, in base64. Signers could have
    /// changed it: it must be ours, but for its signatures.
    ///
    /// # Errors
    /// When it is no transaction, or another one.
    pub(super) fn find_in(&self, of: Account, signed: &str) -> Result<Option<Signature>, Failure> {
        let unreadable = || Failure::Unreadable("no transaction in base64");
        let bytes = STANDARD.decode(signed).map_err(|_| unreadable())?;
        let (signatures, theirs) = solana::split(&bytes).ok_or_else(unreadable)?;
        match self {
            Self::Message { message, .. } if message == theirs => {
                let signatures: Vec<_> = signatures.iter().map(|s| s.to_vec()).collect();
                Ok(self.find(of, &signatures))
            }
            Self::Message { .. } | Self::Typed { .. } => {
                Err(Failure::Unreadable("it sent another transaction back"))
            }
        }
    }
}
