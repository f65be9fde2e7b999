//! EVM values: addresses and the EIP-712 structs that this program may sign. Typed, so that nothing
//! a challenge says can change what a signature covers.

use std::fmt;
use std::str::FromStr;

use sha3::{Digest, Keccak256};

mod login;
mod permit2;
pub mod rlp;
mod statement;
mod tempo;

pub use login::Login;
pub use permit2::{Charge, PERMIT2, PERMIT2_NAME, PermitMessage, PermitTransfer, decimal};
pub use statement::{OfferMessage, ReceiptMessage};
pub use tempo::{TempoCall, TempoFee, TempoTransfer, is_tip20};

/// Keccak-256, the hash of the EVM (not NIST SHA3-256).
#[must_use]
pub fn keccak(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}

/// A 20-byte account or contract address. Written with its EIP-55 checksum.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub [u8; 20]);

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAddress {
    /// Not `0x` and 40 hexadecimal digits.
    #[error("an address is 0x and 40 hexadecimal digits")]
    Form,
    /// Mixed case that is not the EIP-55 checksum of the bytes.
    #[error("the address has a wrong EIP-55 checksum")]
    Checksum,
}

impl Address {
    /// The bytes, whatever the case of the letters.
    ///
    /// # Errors
    /// [`NotAddress::Form`].
    pub fn from_hex(text: &str) -> Result<Self, NotAddress> {
        let digits = text.strip_prefix("0x").ok_or(NotAddress::Form)?;
        let mut bytes = [0; 20];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| NotAddress::Form)?;
        Ok(Self(bytes))
    }

    /// The address of an uncompressed public key without its leading 0x04 byte.
    #[must_use]
    pub fn of_public_key(key: &[u8; 64]) -> Self {
        let hash = keccak(key);
        let mut bytes = [0; 20];
        bytes.copy_from_slice(hash.split_at(12).1);
        Self(bytes)
    }

    /// Zero, or one of the precompiled contracts (the first 65,536 addresses).
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0.iter().take(18).all(|b| *b == 0)
    }
}

impl FromStr for Address {
    type Err = NotAddress;

    /// One case throughout, or exactly the EIP-55 checksum.
    fn from_str(text: &str) -> Result<Self, NotAddress> {
        let address = Self::from_hex(text)?;
        let digits = text.get(2..).unwrap_or_default();
        let upper = digits.bytes().any(|b| b.is_ascii_uppercase());
        let lower = digits.bytes().any(|b| b.is_ascii_lowercase());
        if upper && lower && *digits.as_bytes() != address.digits() {
            return Err(NotAddress::Checksum);
        }
        Ok(address)
    }
}

impl Address {
    /// Its 40 digits, those of which EIP-55 says so in upper case.
    fn digits(self) -> [u8; 40] {
        let mut digits = [0; 40];
        let _ = hex::encode_to_slice(self.0, &mut digits);
        let hash = keccak(&digits);
        for (pair, check) in digits.as_chunks_mut::<2>().0.iter_mut().zip(hash) {
            let [high, low] = pair;
            if check & 0x80 != 0 {
                high.make_ascii_uppercase();
            }
            if check & 0x08 != 0 {
                low.make_ascii_uppercase();
            }
        }
        digits
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        // Hexadecimal digits are ASCII.
        f.write_str(str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The EIP-712 domain of a token contract, from the operator's asset table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// `name`.
    pub name: String,
    /// `version`.
    pub version: String,
    /// `chainId`.
    pub chain_id: u64,
    /// `verifyingContract`.
    pub contract: Address,
}

impl Domain {
    /// `hashStruct(eip712Domain)` (EIP-712, "Definition of domainSeparator").
    #[must_use]
    pub fn separator(&self) -> [u8; 32] {
        let kind = keccak(
            b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)",
        );
        let mut words = Words::with_capacity(5);
        words.word(kind);
        words.word(keccak(self.name.as_bytes()));
        words.word(keccak(self.version.as_bytes()));
        words.number(u128::from(self.chain_id));
        words.address(self.contract);
        words.hash()
    }
}

/// EIP-3009 `TransferWithAuthorization`: whoever holds the signature may move `value` once, within the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferWithAuthorization {
    /// The token's signing domain.
    pub domain: Domain,
    /// Who pays.
    pub from: Address,
    /// Who is paid.
    pub to: Address,
    /// Atomic units.
    pub value: u128,
    /// Unix seconds, exclusive.
    pub valid_after: u64,
    /// Unix seconds, exclusive.
    pub valid_before: u64,
    /// Unique per payer and token.
    pub nonce: [u8; 32],
}

impl TransferWithAuthorization {
    /// `keccak256(0x1901 ‖ domainSeparator ‖ hashStruct(message))`: what is signed.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        signed(self.domain.separator(), self.struct_hash())
    }

    /// `hashStruct(message)`.
    #[must_use]
    pub fn struct_hash(&self) -> [u8; 32] {
        let kind = keccak(b"TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)");
        let mut words = Words::with_capacity(7);
        words.word(kind);
        words.address(self.from);
        words.address(self.to);
        words.number(self.value);
        words.number(u128::from(self.valid_after));
        words.number(u128::from(self.valid_before));
        words.word(self.nonce);
        words.hash()
    }
}

/// EIP-712, "Specification of the `eth_signTypedData` JSON RPC": what is signed.
fn signed(separator: [u8; 32], message: [u8; 32]) -> [u8; 32] {
    let mut bytes = Vec::with_capacity(66);
    bytes.extend_from_slice(&[0x19, 0x01]);
    bytes.extend_from_slice(&separator);
    bytes.extend_from_slice(&message);
    keccak(&bytes)
}

/// ABI words, 32 bytes each.
struct Words(Vec<u8>);

impl Words {
    fn with_capacity(words: usize) -> Self {
        Self(Vec::with_capacity(words * 32))
    }

    fn word(&mut self, word: [u8; 32]) {
        self.0.extend_from_slice(&word);
    }

    fn number(&mut self, number: u128) {
        self.0.extend_from_slice(&[0; 16]);
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn address(&mut self, address: Address) {
        self.0.extend_from_slice(&[0; 12]);
        self.0.extend_from_slice(&address.0);
    }

    fn hash(&self) -> [u8; 32] {
        keccak(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_any_case_but_a_wrong_one() {
        // EIP-55's own examples.
        for text in [
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
            "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
            "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(text.to_lowercase().parse(), Ok(address));
            let upper = format!("0x{}", text[2..].to_uppercase());
            assert_eq!(upper.parse(), Ok(address));
            let swapped = text.replacen('a', "A", 1).replacen("BB", "bB", 1);
            let wrong = if swapped == text {
                text.replacen('b', "B", 1)
            } else {
                swapped
            };
            assert_eq!(
                wrong.parse::<Address>(),
                Err(NotAddress::Checksum),
                "{wrong}"
            );
            assert_eq!(Address::from_hex(&wrong), Ok(address));
        }
        for text in [
            "",
            "0x",
            "0xabc",
            "merchant",
            "0X5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed00",
        ] {
            assert_eq!(text.parse::<Address>(), Err(NotAddress::Form), "{text}");
        }
    }

    #[test]
    fn the_first_addresses_are_reserved() {
        let address = |n: u32| {
            let mut bytes = [0; 20];
            bytes[16..].copy_from_slice(&n.to_be_bytes());
            Address(bytes)
        };
        assert!(
            address(0).is_reserved() && address(9).is_reserved() && address(0xffff).is_reserved()
        );
        assert!(!address(0x1_0000).is_reserved());
    }
}
