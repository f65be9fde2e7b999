//! The words of Ethereum's JSON-RPC, read strictly: what is not exactly of its form is an error.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de::Error as _};

use super::Authorization;
use crate::evm::{Address, keccak};

/// Bytes of a fixed length: `0x` and twice as many hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Bytes<const N: usize>(pub(super) [u8; N]);

/// A hash, a topic, a word of contract data.
pub(super) type Word = Bytes<32>;

impl<const N: usize> FromStr for Bytes<N> {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("0x").ok_or("no 0x")?;
        let mut bytes = [0; N];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| "not so many digits")?;
        Ok(Self(bytes))
    }
}

impl<const N: usize> fmt::Display for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Bytes<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// A transaction hash, when the text is one.
pub(super) fn hash(text: &str) -> Option<Word> {
    text.parse().ok()
}

/// A number: `0x` and hexadecimal digits without a leading zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Quantity(pub(super) u64);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.strip_prefix("0x").unwrap_or_default();
        let plain = digits.bytes().all(|b| b.is_ascii_hexdigit());
        let short = digits == "0" || !digits.starts_with('0');
        if !plain || !short {
            return Err(D::Error::custom("not a quantity"));
        }
        let number = u64::from_str_radix(digits, 16);
        number.map(Self).map_err(D::Error::custom)
    }
}

/// A block, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) number: u64,
    pub(super) timestamp: u64,
}

impl<'de> Deserialize<'de> for Block {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Written {
            number: Quantity,
            timestamp: Quantity,
        }
        let Written { number, timestamp } = Written::deserialize(deserializer)?;
        Ok(Self {
            number: number.0,
            timestamp: timestamp.0,
        })
    }
}

/// One event of a contract.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Log {
    pub(super) address: Bytes<20>,
    pub(super) topics: Vec<Word>,
    pub(super) data: String,
    pub(super) block_number: Quantity,
    pub(super) transaction_hash: Word,
    pub(super) log_index: Quantity,
    /// Of a block that is not part of the chain any more.
    #[serde(default)]
    pub(super) removed: bool,
}

/// What a transaction did.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Receipt {
    pub(super) transaction_hash: Word,
    pub(super) block_number: Quantity,
    pub(super) status: Quantity,
    pub(super) logs: Vec<Log>,
}

/// How an authorization was spent in a transaction.
pub(super) struct Used {
    at: u64,
    /// Spent for nothing: its signer took it back.
    pub(super) canceled: bool,
}

/// `AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce)` (EIP-3009).
pub(super) fn used_topic() -> Word {
    Bytes(keccak(b"AuthorizationUsed(address,bytes32)"))
}

/// `AuthorizationCanceled(address indexed authorizer, bytes32 indexed nonce)` (EIP-3009).
pub(super) fn canceled_topic() -> Word {
    Bytes(keccak(b"AuthorizationCanceled(address,bytes32)"))
}

/// `Transfer(address indexed from, address indexed to, uint256 value)` (ERC-20).
pub(super) fn transfer_topic() -> Word {
    Bytes(keccak(b"Transfer(address,address,uint256)"))
}

/// An address as a word: twelve zeros before it.
pub(super) fn word(address: Address) -> Word {
    let mut bytes = [0; 32];
    bytes[12..].copy_from_slice(&address.0);
    Bytes(bytes)
}

impl Log {
    /// Does it tell that this authorization was used or canceled?
    pub(super) fn spends(&self, about: &Authorization) -> bool {
        let kind = [used_topic(), canceled_topic()];
        let same = |topic: Option<&Word>, word: Word| topic == Some(&word);
        self.address.0 == about.token.0
            && !self.removed
            && self.topics.len() == 3
            && self.topics.first().is_some_and(|t| kind.contains(t))
            && same(self.topics.get(1), word(about.from))
            && same(self.topics.get(2), Bytes(about.nonce))
    }

    /// Of a log that spends: was it for nothing, because its signer took it back?
    pub(super) fn cancels(&self) -> bool {
        self.topics.first() == Some(&canceled_topic())
    }

    /// Is it a movement of this token out of this account?
    fn leaves(&self, about: &Authorization) -> bool {
        self.address.0 == about.token.0
            && !self.removed
            && self.topics.first() == Some(&transfer_topic())
            && self.topics.get(1) == Some(&word(about.from))
    }

    /// Is it a movement of this token from payer to payee?
    pub(super) fn pays(&self, about: &Authorization) -> bool {
        self.leaves(about) && self.paid(about).is_some()
    }

    /// What the payee got by it; `None` when it is not the payee, or no sum that could be signed.
    pub(super) fn paid(&self, about: &Authorization) -> Option<u128> {
        let theirs = self.topics.len() == 3 && self.topics.get(2) == Some(&word(about.to));
        let data: Word = self.data.parse().ok().filter(|_| theirs)?;
        let (high, low) = data.0.split_at(16);
        let fits = high.iter().all(|b| *b == 0);
        let low: Option<[u8; 16]> = low.try_into().ok();
        low.filter(|_| fits).map(u128::from_be_bytes)
    }

    fn is_agreed(&self, about: &Authorization) -> bool {
        let mut value = [0; 32];
        value[16..].copy_from_slice(&about.value.to_be_bytes());
        self.topics.len() == 3
            && self.topics.get(2) == Some(&word(about.to))
            && self.data.parse() == Ok(Bytes(value))
    }
}

impl Receipt {
    /// Did it do anything, in a block that is old enough?
    pub(super) fn stands(&self, deep: u64) -> bool {
        self.status == Quantity(1) && self.block_number.0 <= deep
    }

    /// Every movement of this token out of this account in it.
    pub(super) fn leaving(&self, about: &Authorization) -> impl Iterator<Item = &Log> {
        let ours = |log: &&Log| {
            let here = log.transaction_hash == self.transaction_hash;
            here && log.leaves(about)
        };
        self.logs.iter().filter(ours)
    }

    /// Where the authorization was spent in it, if it was.
    pub(super) fn used(&self, about: &Authorization) -> Option<Used> {
        if self.status != Quantity(1) {
            return None;
        }
        let ours = |log: &Log| {
            log.transaction_hash == self.transaction_hash && log.block_number == self.block_number
        };
        let log = self.logs.iter().find(|l| ours(l) && l.spends(about))?;
        Some(Used {
            at: log.log_index.0,
            canceled: log.cancels(),
        })
    }

    /// Did the money move as agreed? A transaction may spend many authorizations, so the movement is
    /// the one right after ours; tokens that move first and tell then have it right before.
    pub(super) fn moved(&self, about: &Authorization, used: &Used) -> bool {
        let at = |index: Option<u64>| {
            let here = |log: &&Log| Some(log.log_index.0) == index && log.leaves(about);
            self.logs.iter().find(here)
        };
        let moved = at(used.at.checked_add(1)).or_else(|| at(used.at.checked_sub(1)));
        moved.is_some_and(|log| log.is_agreed(about))
    }
}
