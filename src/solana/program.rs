//! The programs that a payment calls, and those that hold nothing for anybody.

use std::fmt;
use std::str::FromStr;

use super::Pubkey;

/// The system program; also what an empty public key looks like.
const SYSTEM: Pubkey = Pubkey([0; 32]);

pub(super) const COMPUTE_BUDGET: Pubkey =
    Pubkey::known("ComputeBudget111111111111111111111111111111");

/// Version 2, which takes no accounts for a memo that nobody signs.
pub(super) const MEMO: Pubkey = Pubkey::known("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr");

pub(super) const ASSOCIATED_TOKEN: Pubkey =
    Pubkey::known("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL");

const TOKEN: Pubkey = Pubkey::known("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA");

const TOKEN_2022: Pubkey = Pubkey::known("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb");

/// The program that owns a mint. No other is ever called to move money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenProgram {
    /// SPL Token.
    #[default]
    Token,
    /// SPL Token-2022.
    Token2022,
}

/// Why a text is no token program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write token or token-2022")]
pub struct NotProgram;

impl TokenProgram {
    /// Its account.
    #[must_use]
    pub fn id(self) -> Pubkey {
        match self {
            Self::Token => TOKEN,
            Self::Token2022 => TOKEN_2022,
        }
    }

    /// Its name in configurations and records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Token2022 => "token-2022",
        }
    }
}

impl fmt::Display for TokenProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TokenProgram {
    type Err = NotProgram;

    fn from_str(text: &str) -> Result<Self, NotProgram> {
        let all = [Self::Token, Self::Token2022];
        all.into_iter()
            .find(|program| program.name() == text)
            .ok_or(NotProgram)
    }
}

/// Is it a program of every cluster? Nobody owns what is paid to one.
#[must_use]
pub fn is_program(account: &Pubkey) -> bool {
    let known = [
        SYSTEM,
        COMPUTE_BUDGET,
        MEMO,
        ASSOCIATED_TOKEN,
        TOKEN,
        TOKEN_2022,
    ];
    known.contains(account)
}
