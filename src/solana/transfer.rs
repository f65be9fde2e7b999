//! The transaction of x402's `exact` on Solana (`scheme_exact_svm`): two bounds on computing, one transfer
//! of tokens, one memo. Version 0, without address tables; paid for and sent by somebody else.

use sha2::{Digest as _, Sha256};

use super::program::{self, COMPUTE_BUDGET, MEMO};
use super::{Blockhash, Pubkey, TokenProgram};

/// Most that the transaction may compute, in compute units. As the official client asks.
const UNITS: u32 = 20_000;

/// What the fee payer offers for each, in millionths of a lamport. As the official client offers.
const UNIT_PRICE: u64 = 1;

/// Most bytes of a memo (`scheme_exact_svm`).
const MEMO_MAX: usize = 256;

/// Version 0, with the bit that tells it from a message without a version.
const VERSION: u8 = 0x80;

/// Who signs: the fee payer and the owner. Of these the owner, and of the rest the programs and the mint,
/// are read only.
const HEADER: [u8; 3] = [2, 1, 4];

/// Tags of the instructions: `SetComputeUnitLimit`, `SetComputeUnitPrice`, `TransferChecked`.
const SET_LIMIT: u8 = 2;
const SET_PRICE: u8 = 3;
pub(super) const TRANSFER_CHECKED: u8 = 12;

/// What is to be moved, from whom to whom, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Who pays the cluster and sends the transaction.
    pub fee_payer: Pubkey,
    /// Who pays: the owner of the tokens, which signs.
    pub owner: Pubkey,
    /// Who is paid: the owner of the tokens afterwards.
    pub payee: Pubkey,
    /// The token.
    pub mint: Pubkey,
    /// The program that owns it.
    pub program: TokenProgram,
    /// Atomic units.
    pub amount: u64,
    /// Decimals of the token, from our own table: the program compares them.
    pub decimals: u8,
    /// Makes it another transaction than the next.
    pub memo: String,
    /// Bounds its life.
    pub blockhash: Blockhash,
}

/// Why something cannot be such a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTransfer {
    /// The fee payer would sign for our tokens, or have to be written to as a token account.
    #[error("the fee payer is an account of the payment itself")]
    FeePayer,
    /// Nobody could use what is paid.
    #[error("the recipient is a program, the asset itself or an account of the payer")]
    Payee,
    /// Longer than facilitators take.
    #[error("the memo is longer than {MEMO_MAX} bytes")]
    Memo,
    /// Two roles in one account, or none to be found.
    #[error("the accounts of the payment cannot be told apart")]
    Accounts,
}

/// A transfer whose accounts are all there: what is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTransfer {
    terms: Transfer,
    /// Where the tokens are.
    source: Pubkey,
    /// Where they go.
    destination: Pubkey,
}

impl TokenTransfer {
    /// Derives both token accounts.
    ///
    /// # Errors
    /// When the accounts contradict each other.
    pub fn new(terms: Transfer) -> Result<Self, NotTransfer> {
        if terms.memo.len() > MEMO_MAX {
            return Err(NotTransfer::Memo);
        }
        let account = |owner: &Pubkey| Pubkey::token_account(owner, terms.program, &terms.mint);
        let source = account(&terms.owner).ok_or(NotTransfer::Accounts)?;
        let destination = account(&terms.payee).ok_or(NotTransfer::Accounts)?;
        let ours = [terms.owner, terms.mint, source];
        if ours.contains(&terms.payee) || program::is_program(&terms.payee) {
            return Err(NotTransfer::Payee);
        }
        let used = [terms.owner, terms.mint, source, destination];
        if used.contains(&terms.fee_payer) || program::is_program(&terms.fee_payer) {
            return Err(NotTransfer::FeePayer);
        }
        let transfer = Self {
            terms,
            source,
            destination,
        };
        let mut accounts = transfer.accounts();
        accounts.sort_unstable();
        match accounts.windows(2).any(|two| two.first() == two.last()) {
            true => Err(NotTransfer::Accounts),
            false => Ok(transfer),
        }
    }

    /// What it does.
    #[must_use]
    pub fn terms(&self) -> &Transfer {
        &self.terms
    }

    /// Every account once: who signs first, then what is written to, then the rest. Each group in the
    /// order of the official client, so that the bytes are the same.
    fn accounts(&self) -> [Pubkey; 8] {
        let mut written = [self.source, self.destination];
        let mut read = [
            COMPUTE_BUDGET,
            MEMO,
            self.terms.mint,
            self.terms.program.id(),
        ];
        written.sort_by_key(place);
        read.sort_by_key(place);
        let [a, b] = written;
        let [c, d, e, f] = read;
        [self.terms.fee_payer, self.terms.owner, a, b, c, d, e, f]
    }

    /// The accounts of the transfer itself, in its order.
    pub(super) fn moved(&self) -> [Pubkey; 4] {
        let Transfer { mint, owner, .. } = self.terms;
        [self.source, mint, self.destination, owner]
    }

    /// The message that is signed.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let accounts = self.accounts();
        // All of them are there: eight, each in its place.
        let at = |account: Pubkey| {
            let place = accounts.iter().position(|a| *a == account);
            place.and_then(|p| u8::try_from(p).ok()).unwrap_or(u8::MAX)
        };
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&HEADER);
        length(&mut bytes, accounts.len());
        for account in accounts {
            bytes.extend_from_slice(&account.0);
        }
        bytes.extend_from_slice(&self.terms.blockhash.0);
        length(&mut bytes, 4);
        let mut call = |program: Pubkey, accounts: &[u8], data: &[u8]| {
            bytes.push(at(program));
            length(&mut bytes, accounts.len());
            bytes.extend_from_slice(accounts);
            length(&mut bytes, data.len());
            bytes.extend_from_slice(data);
        };
        let limit = [&[SET_LIMIT][..], &UNITS.to_le_bytes()].concat();
        call(COMPUTE_BUDGET, &[], &limit);
        let price = [&[SET_PRICE][..], &UNIT_PRICE.to_le_bytes()].concat();
        call(COMPUTE_BUDGET, &[], &price);
        let moved = self.moved();
        let amount = self.terms.amount.to_le_bytes();
        let data = [&[TRANSFER_CHECKED][..], &amount, &[self.terms.decimals]].concat();
        call(self.terms.program.id(), &moved.map(at), &data);
        call(MEMO, &[], self.terms.memo.as_bytes());
        // No address tables.
        length(&mut bytes, 0);
        bytes
    }

    /// SHA-256 of the message: what tells this transaction from every other before it has a signature.
    #[must_use]
    pub fn id(&self) -> [u8; 32] {
        Sha256::digest(self.message()).into()
    }

    /// The transaction with the owner's signature; the place of the fee payer's is empty.
    #[must_use]
    pub fn transaction(&self, signature: &[u8; 64]) -> Vec<u8> {
        let mut bytes = vec![2];
        bytes.extend_from_slice(&[0; 64]);
        bytes.extend_from_slice(signature);
        bytes.extend_from_slice(&self.message());
        bytes
    }
}

/// The signatures of a transaction, and the message that they are over. `None` when it is cut short.
#[must_use]
pub fn split(transaction: &[u8]) -> Option<(&[[u8; 64]], &[u8])> {
    let (count, rest) = transaction.split_first()?;
    // More than 127 have a longer count, and fit into no packet.
    let count = usize::from(*count)
        .checked_mul(64)
        .filter(|_| *count < 128)?;
    let (signatures, message) = rest.split_at_checked(count)?;
    let (signatures, odd) = signatures.as_chunks();
    odd.is_empty().then_some((signatures, message))
}

/// Where the official client puts an account in its group: base58 without regard to case, then small
/// letters first, as a dictionary does.
fn place(account: &Pubkey) -> (String, Vec<bool>) {
    let text = account.to_string();
    let capitals = text.chars().map(|c| c.is_ascii_uppercase()).collect();
    (text.to_ascii_lowercase(), capitals)
}

/// A length, seven bits at a time, the lowest first (`short_vec`).
fn length(bytes: &mut Vec<u8>, length: usize) {
    let mut rest = length;
    loop {
        let [low, ..] = rest.to_le_bytes();
        rest >>= 7;
        if rest == 0 {
            bytes.push(low & 0x7f);
            return;
        }
        bytes.push(low | 0x80);
    }
}
