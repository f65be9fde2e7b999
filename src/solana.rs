//! Solana values: accounts, programs, and the one transaction that this program may sign. Typed, so that
//! nothing a challenge says can change what a signature covers.

use std::fmt;
use std::str::FromStr;

use curve25519_dalek::edwards::CompressedEdwardsY;
use sha2::{Digest as _, Sha256};

mod account;
mod foreign;
mod program;
mod transfer;

pub use account::TokenAccount;
pub use foreign::{Made, same};
pub use program::{NotProgram, TokenProgram, is_program};
pub use transfer::{NotTransfer, TokenTransfer, Transfer, split};

/// Seconds after which no cluster that keeps its pace takes a transaction any more: it names a block that
/// may be at most 150 blocks old, and those take 60 to 90 seconds.
pub const LIFE: u64 = 150;

/// 32 bytes: an account that a key signs for, or one that a program owns. Written in base58.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pubkey(pub [u8; 32]);

/// The hash of a recent block, without which no transaction is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Blockhash(pub [u8; 32]);

/// Why a text is no account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a Solana address is 32 bytes in base58")]
pub struct NotPubkey;

impl Pubkey {
    /// Can there be a key that signs for it? Accounts that programs derive are made so that there is
    /// none.
    #[must_use]
    pub fn is_on_curve(&self) -> bool {
        CompressedEdwardsY(self.0).decompress().is_some()
    }

    /// The account in which `owner` holds tokens of `mint`: the program address of the associated token
    /// program over owner, token program and mint. `None` for one set of them in 2^255.
    #[must_use]
    pub fn token_account(owner: &Self, program: TokenProgram, mint: &Self) -> Option<Self> {
        let program = program.id();
        let derive = |bump: u8| {
            let mut hash = Sha256::new();
            for seed in [owner, &program, mint] {
                hash.update(seed.0);
            }
            hash.update([bump]);
            hash.update(program::ASSOCIATED_TOKEN.0);
            hash.update(b"ProgramDerivedAddress");
            Self(hash.finalize().into())
        };
        (0..=u8::MAX).rev().map(derive).find(|a| !a.is_on_curve())
    }

    /// A constant of this crate, written as people write it.
    const fn known(text: &str) -> Self {
        match bs58::decode(text.as_bytes()).into_array_const::<32>() {
            Ok(bytes) => Self(bytes),
            Err(_) => Self([0; 32]),
        }
    }
}

/// 32 bytes in base58; there is one spelling for each.
fn bytes(text: &str) -> Result<[u8; 32], NotPubkey> {
    let mut bytes = [0; 32];
    // What is longer cannot be 32 bytes, and decoding takes the square of the length.
    if text.len() > 44 {
        return Err(NotPubkey);
    }
    match bs58::decode(text).onto(&mut bytes[..]) {
        Ok(32) => Ok(bytes),
        Ok(_) | Err(_) => Err(NotPubkey),
    }
}

impl FromStr for Pubkey {
    type Err = NotPubkey;

    fn from_str(text: &str) -> Result<Self, NotPubkey> {
        bytes(text).map(Self)
    }
}

impl FromStr for Blockhash {
    type Err = NotPubkey;

    fn from_str(text: &str) -> Result<Self, NotPubkey> {
        bytes(text).map(Self)
    }
}

impl fmt::Display for Pubkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.0).into_string())
    }
}

impl fmt::Debug for Pubkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Blockhash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.0).into_string())
    }
}

impl fmt::Debug for Blockhash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
