//! The account that holds tokens, as the chain keeps it.

use super::Pubkey;

/// What a token account says. Extensions of Token-2022 follow, and are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenAccount {
    /// Whose tokens.
    pub mint: Pubkey,
    /// Whose account.
    pub owner: Pubkey,
    /// Atomic units.
    pub amount: u64,
}

/// Bytes of an account without extensions (SPL token, `Account::LEN`).
const LENGTH: usize = 165;

impl TokenAccount {
    /// The first fields of the account's data: mint, owner, amount (SPL token, `state::Account`). `None`
    /// when it is none.
    #[must_use]
    pub fn read(data: &[u8]) -> Option<Self> {
        if data.len() < LENGTH {
            return None;
        }
        let (mint, rest) = data.split_first_chunk::<32>()?;
        let (owner, rest) = rest.split_first_chunk::<32>()?;
        let amount = rest.first_chunk::<8>()?;
        Some(Self {
            mint: Pubkey(*mint),
            owner: Pubkey(*owner),
            amount: u64::from_le_bytes(*amount),
        })
    }
}
