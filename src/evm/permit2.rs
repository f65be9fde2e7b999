//! Permit2 payments of x402 (`scheme_exact_evm` and `scheme_upto_evm`): a `PermitWitnessTransferFrom`
//! whose spender is one of two pinned contracts. Which one is chosen here, never by a challenge.

use serde::Serialize;

use super::{Address, Words, keccak};

/// The Permit2 contract, at the same address on every chain.
pub const PERMIT2: Address = Address([
    0, 0, 0, 0, 0, 0x22, 0xd4, 0x73, 0x03, 0x0f, 0x11, 0x6d, 0xde, 0xe9, 0xf6, 0xb4, 0x3a, 0xc7,
    0x8b, 0xa3,
]);

/// x402's proxy for `exact`: it moves the whole permitted amount to the witness's `to`.
const EXACT_PROXY: Address = Address([
    0x40, 0x20, 0x85, 0xc2, 0x48, 0xee, 0xa2, 0x7d, 0x92, 0xe8, 0xb3, 0x0b, 0x2c, 0x58, 0xed, 0x07,
    0xf9, 0xe2, 0x00, 0x01,
]);

/// x402's proxy for `upto`: the witness's `facilitator` moves at most the permitted amount to `to`.
const UPTO_PROXY: Address = Address([
    0x40, 0x20, 0xa4, 0xf3, 0xb7, 0xb9, 0x0c, 0xca, 0x42, 0x3b, 0x9f, 0xab, 0xcc, 0x0c, 0xe5, 0x7c,
    0x6c, 0x24, 0x00, 0x02,
]);

/// `name` of Permit2's signing domain. It has no version.
pub const PERMIT2_NAME: &str = "Permit2";

/// How much of the permitted amount is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// All of it.
    Whole,
    /// As much as this account says, once.
    UpTo {
        /// The only account that may settle.
        facilitator: Address,
    },
}

impl Charge {
    /// The contract that may move the asset.
    #[must_use]
    pub fn spender(self) -> Address {
        match self {
            Self::Whole => EXACT_PROXY,
            Self::UpTo { .. } => UPTO_PROXY,
        }
    }
}

/// Permit2 `PermitWitnessTransferFrom` with x402's witness: whoever holds the signature may have up to
/// `amount` moved to `to` once, by the pinned contract alone, until the deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermitTransfer {
    /// `chainId` of the domain.
    pub chain_id: u64,
    /// Who pays.
    pub from: Address,
    /// The token's contract.
    pub token: Address,
    /// Atomic units: the price, or the most that may be charged.
    pub amount: u128,
    /// All of it or up to it, which also names the spender.
    pub charge: Charge,
    /// Unique per payer; a number of 256 bits, big-endian.
    pub nonce: [u8; 32],
    /// Unix seconds, inclusive.
    pub deadline: u64,
    /// Who is paid.
    pub to: Address,
    /// Unix seconds, inclusive.
    pub valid_after: u64,
}

/// The signed message in JSON, for signers and merchants alike: members in the order of the official
/// client, numbers as decimal strings.
#[derive(Serialize)]
pub struct PermitMessage {
    permitted: Permitted,
    spender: String,
    nonce: String,
    deadline: String,
    witness: Witness,
}

#[derive(Serialize)]
struct Permitted {
    token: String,
    amount: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Witness {
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    facilitator: Option<String>,
    valid_after: String,
}

impl PermitTransfer {
    /// The message as it is written in JSON.
    #[must_use]
    pub fn message(&self) -> PermitMessage {
        PermitMessage {
            permitted: Permitted {
                token: self.token.to_string(),
                amount: self.amount.to_string(),
            },
            spender: self.charge.spender().to_string(),
            nonce: decimal(&self.nonce),
            deadline: self.deadline.to_string(),
            witness: Witness {
                to: self.to.to_string(),
                facilitator: match self.charge {
                    Charge::Whole => None,
                    Charge::UpTo { facilitator } => Some(facilitator.to_string()),
                },
                valid_after: self.valid_after.to_string(),
            },
        }
    }

    /// `hashStruct(eip712Domain)` of Permit2 on this chain.
    #[must_use]
    pub fn separator(&self) -> [u8; 32] {
        let kind = keccak(b"EIP712Domain(string name,uint256 chainId,address verifyingContract)");
        let mut words = Words::with_capacity(4);
        words.word(kind);
        words.word(keccak(PERMIT2_NAME.as_bytes()));
        words.number(u128::from(self.chain_id));
        words.address(PERMIT2);
        words.hash()
    }

    /// `hashStruct(message)`.
    #[must_use]
    pub fn struct_hash(&self) -> [u8; 32] {
        // EIP-712: the types that are referred to follow in the order of their names.
        let referred = format!(
            "TokenPermissions(address token,uint256 amount){}",
            self.witness_type()
        );
        let kind = format!(
            "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,Witness witness){referred}"
        );
        let mut words = Words::with_capacity(6);
        words.word(keccak(kind.as_bytes()));
        words.word(self.permitted());
        words.address(self.charge.spender());
        words.word(self.nonce);
        words.number(u128::from(self.deadline));
        words.word(self.witness());
        words.hash()
    }

    /// `keccak256(0x1901 ‖ domainSeparator ‖ hashStruct(message))`: what is signed.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        super::signed(self.separator(), self.struct_hash())
    }

    fn permitted(&self) -> [u8; 32] {
        let mut words = Words::with_capacity(3);
        words.word(keccak(b"TokenPermissions(address token,uint256 amount)"));
        words.address(self.token);
        words.number(self.amount);
        words.hash()
    }

    fn witness_type(&self) -> &'static str {
        match self.charge {
            Charge::Whole => "Witness(address to,uint256 validAfter)",
            Charge::UpTo { .. } => "Witness(address to,address facilitator,uint256 validAfter)",
        }
    }

    fn witness(&self) -> [u8; 32] {
        let mut words = Words::with_capacity(4);
        words.word(keccak(self.witness_type().as_bytes()));
        words.address(self.to);
        match self.charge {
            Charge::Whole => {}
            Charge::UpTo { facilitator } => words.address(facilitator),
        }
        words.number(u128::from(self.valid_after));
        words.hash()
    }
}

/// A number of 256 bits, big-endian, in decimal digits.
#[must_use]
pub fn decimal(number: &[u8; 32]) -> String {
    // Base 10^9, the least first: every step fits into 64 bits.
    const BASE: u64 = 1_000_000_000;
    let mut parts: Vec<u64> = vec![0];
    for byte in number {
        let mut carry = u64::from(*byte);
        for part in &mut parts {
            let value = *part * 256 + carry;
            *part = value % BASE;
            carry = value / BASE;
        }
        if carry > 0 {
            parts.push(carry);
        }
    }
    let mut digits = parts.pop().unwrap_or_default().to_string();
    for part in parts.iter().rev() {
        digits.push_str(&format!("{part:09}"));
    }
    digits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_contracts_are_the_published_ones() {
        let facilitator = Address([9; 20]);
        for (address, text) in [
            (PERMIT2, "0x000000000022D473030F116dDEE9F6B43aC78BA3"),
            (
                Charge::Whole.spender(),
                "0x402085c248EeA27D92E8b30b2C58ed07f9E20001",
            ),
            (
                Charge::UpTo { facilitator }.spender(),
                "0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002",
            ),
        ] {
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn large_numbers_are_written_in_decimal() {
        let most = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
        assert_eq!(decimal(&[0xff; 32]), most);
        assert_eq!(decimal(&[0; 32]), "0");
        let mut number = [0; 32];
        number[27] = 1;
        assert_eq!(decimal(&number), "4294967296");
    }

    proptest! {
        #[test]
        fn decimals_are_those_of_the_number(low in any::<u128>()) {
            let mut number = [0; 32];
            number[16..].copy_from_slice(&low.to_be_bytes());
            prop_assert_eq!(decimal(&number), low.to_string());
        }
    }
}
