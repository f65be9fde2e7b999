//! Transactions that somebody else made for our terms: read to the last byte, and taken only where they can do
//! nothing but what was asked for.

use super::program::{COMPUTE_BUDGET, MEMO};
use super::transfer::{TRANSFER_CHECKED, split};
use super::{Pubkey, TokenTransfer};

/// The bit that tells a message with a version, and the only version there is.
const VERSIONED: u8 = 0x80;

/// Most accounts and instructions. A transfer has eight and four.
const ACCOUNTS_MAX: usize = 16;
const CALLS_MAX: usize = 8;

/// Most bytes of a transaction: one packet.
const PACKET: usize = 1232;

/// A transaction that moves the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made<'a> {
    /// In the owner's place; not verified.
    pub signature: &'a [u8; 64],
    /// What it is over.
    pub message: &'a [u8],
}

/// A transaction that moves what was asked for: from and to the same accounts, as much of the same token, sent by
/// the same fee payer, signed by the owner besides. It may choose its block, its bounds on computing (which the
/// fee payer pays for) and its memo; every other instruction, every other signer and every table of addresses
/// makes it another one. `None`: it is no transaction, or another one.
#[must_use]
pub fn same<'a>(transaction: &'a [u8], asked: &TokenTransfer) -> Option<Made<'a>> {
    (transaction.len() <= PACKET).then_some(())?;
    let (signatures, message) = split(transaction)?;
    let [_, signature] = signatures else {
        return None;
    };
    let mut rest = message;
    let versioned = message.first()? & VERSIONED != 0;
    if versioned && take(&mut rest, 1)? != [VERSIONED] {
        return None;
    }
    let [2, _, _] = take(&mut rest, 3)? else {
        return None;
    };
    let accounts = accounts(&mut rest)?;
    let signers = [asked.terms().fee_payer, asked.terms().owner];
    accounts.starts_with(&signers).then_some(())?;
    // The block.
    take(&mut rest, 32)?;
    let mut moved = 0;
    for _ in 0..length(&mut rest).filter(|calls| *calls <= CALLS_MAX)? {
        let call = Call::read(&mut rest, &accounts)?;
        match call.program {
            COMPUTE_BUDGET => call.accounts.is_empty().then_some(())?,
            MEMO => call
                .accounts
                .iter()
                .all(|a| *a == signers[1])
                .then_some(())?,
            program if program == asked.terms().program.id() => {
                call.moves(asked).then_some(())?;
                moved += 1;
            }
            _ => return None,
        }
    }
    let tables = if versioned { length(&mut rest)? } else { 0 };
    let whole = moved == 1 && tables == 0 && rest.is_empty();
    whole.then_some(Made { signature, message })
}

/// One instruction.
struct Call<'a> {
    program: Pubkey,
    accounts: Vec<Pubkey>,
    data: &'a [u8],
}

impl<'a> Call<'a> {
    fn read(rest: &mut &'a [u8], accounts: &[Pubkey]) -> Option<Self> {
        let account = |at: &u8| accounts.get(usize::from(*at)).copied();
        let program = account(take(rest, 1)?.first()?)?;
        let count = length(rest)?;
        let used = take(rest, count)?.iter().map(account);
        let used = used.collect::<Option<Vec<_>>>()?;
        let count = length(rest)?;
        let data = take(rest, count)?;
        Some(Self {
            program,
            accounts: used,
            data,
        })
    }

    /// `TransferChecked` of what was asked for, by the owner alone.
    fn moves(&self, asked: &TokenTransfer) -> bool {
        let terms = asked.terms();
        let amount = terms.amount.to_le_bytes();
        let data = [&[TRANSFER_CHECKED][..], &amount, &[terms.decimals]].concat();
        self.data == data && self.accounts == asked.moved()
    }
}

/// Every account, each once.
fn accounts(rest: &mut &[u8]) -> Option<Vec<Pubkey>> {
    let count = length(rest).filter(|count| *count <= ACCOUNTS_MAX)?;
    let bytes = take(rest, count.checked_mul(32)?)?;
    let (keys, _) = bytes.as_chunks::<32>();
    let keys: Vec<_> = keys.iter().map(|key| Pubkey(*key)).collect();
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    sorted.dedup();
    (sorted.len() == keys.len()).then_some(keys)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

/// A length of one byte or two (`short_vec`); a packet has no longer ones.
fn length(rest: &mut &[u8]) -> Option<usize> {
    let low = *take(rest, 1)?.first()?;
    if low & 0x80 == 0 {
        return Some(low.into());
    }
    let high = *take(rest, 1)?.first()?;
    let fits = high != 0 && high & 0x80 == 0;
    fits.then(|| usize::from(low & 0x7f) | usize::from(high) << 7)
}

#[cfg(test)]
mod tests;
