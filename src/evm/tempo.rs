//! The one transaction on Tempo that this program signs (type 0x76): a row of TIP-20 transfers out of our
//! account under an expiring nonce. Its calls are made here, of typed values; no call data comes from outside.

use super::rlp::Items;
use super::{Address, keccak};

/// First byte of a signed transaction, and of what is signed.
const KIND: u8 = 0x76;

/// First byte of a transaction that a fee payer is still to sign.
const UNPAID: u8 = 0x78;

/// `transferWithMemo(address,uint256,bytes32)` of TIP-20.
const TRANSFER_WITH_MEMO: &[u8] = b"transferWithMemo(address,uint256,bytes32)";

/// `transfer(address,uint256)`.
const TRANSFER: &[u8] = b"transfer(address,uint256)";

/// The key of expiring nonces: such a transaction is in no row with others, runs once, and is dead after
/// its `validBefore`.
const EXPIRING: [u8; 32] = [0xff; 32];

/// What every TIP-20 token's address begins with.
const TIP20: [u8; 12] = [0x20, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Is it the address of a TIP-20 token?
#[must_use]
pub fn is_tip20(address: Address) -> bool {
    address.0.starts_with(&TIP20)
}

/// One transfer of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TempoCall {
    /// Who is paid.
    pub to: Address,
    /// Atomic units.
    pub value: u128,
    /// What the token's log says beside it.
    pub memo: Option<[u8; 32]>,
}

/// Who pays the network for a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TempoFee {
    /// The account that pays, in this token; in the one that the chain chooses, if none is named.
    Own(Option<Address>),
    /// Whoever signs besides. The account that pays cannot be charged for it.
    Sponsored,
}

/// Transfers of one TIP-20 token in one transaction: all of them happen, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TempoTransfer {
    /// The chain.
    pub chain_id: u64,
    /// Who pays.
    pub from: Address,
    /// The token's contract.
    pub token: Address,
    /// At least one, the payee's first; its memo is what the payment is found by.
    pub calls: Vec<TempoCall>,
    /// Most gas that it may use.
    pub gas: u64,
    /// Most that one gas may cost, billionths of a billionth of a US dollar.
    pub max_fee_per_gas: u128,
    /// What of it the block's maker may have, the same units.
    pub max_priority_fee_per_gas: u128,
    /// Unix seconds after which it lives.
    pub valid_after: u64,
    /// Unix seconds, exclusive.
    pub valid_before: u64,
    /// Who pays the network.
    pub fee: TempoFee,
}

impl TempoTransfer {
    /// What is signed: Keccak-256 over the kind and the fields before the signature. Under a fee payer the
    /// place of its signature is marked, so that the same signature is good for nothing without one.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let fields = match self.fee {
            TempoFee::Own(token) => self.fields(token, &[]),
            TempoFee::Sponsored => self.fields(None, &[0]),
        };
        let mut bytes = vec![KIND];
        bytes.extend_from_slice(&fields.encoded());
        keccak(&bytes)
    }

    /// The transaction with its signature (r ‖ s ‖ v, v 27 or 28). One for a fee payer names the account
    /// that signed where the fee payer's signature will be.
    #[must_use]
    pub fn signed(&self, signature: &[u8; 65]) -> Vec<u8> {
        let (kind, fields) = match self.fee {
            TempoFee::Own(token) => (KIND, self.fields(token, &[])),
            TempoFee::Sponsored => (UNPAID, self.fields(None, &self.from.0)),
        };
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&fields.bytes(signature).encoded());
        bytes
    }

    /// The memo of the first transfer.
    #[must_use]
    pub fn memo(&self) -> [u8; 32] {
        let first = self.calls.first();
        first.and_then(|call| call.memo).unwrap_or_default()
    }

    /// Everything it moves, atomic units; `None` when that is no number.
    #[must_use]
    pub fn total(&self) -> Option<u128> {
        let mut values = self.calls.iter().map(|call| call.value);
        values.try_fold(0u128, u128::checked_add)
    }

    fn fields(&self, fee_token: Option<Address>, fee_payer: &[u8]) -> Items {
        let calls = self.calls.iter().fold(Items::new(), |calls, call| {
            let data = call.data();
            calls.list(&Items::new().bytes(&self.token.0).number(0).bytes(&data))
        });
        let none = Items::new();
        let fee_token = fee_token.map(|token| token.0);
        Items::new()
            .number(self.chain_id.into())
            .number(self.max_priority_fee_per_gas)
            .number(self.max_fee_per_gas)
            .number(self.gas.into())
            .list(&calls)
            .list(&none)
            .bytes(&EXPIRING)
            .number(0)
            .number(self.valid_before.into())
            .number(self.valid_after.into())
            .bytes(fee_token.as_ref().map_or(&[], |token| &token[..]))
            .bytes(fee_payer)
            .list(&none)
    }
}

impl TempoCall {
    fn data(&self) -> Vec<u8> {
        let kind = match self.memo {
            Some(_) => TRANSFER_WITH_MEMO,
            None => TRANSFER,
        };
        let [a, b, c, d, ..] = keccak(kind);
        let mut data = vec![a, b, c, d];
        data.extend_from_slice(&[0; 12]);
        data.extend_from_slice(&self.to.0);
        data.extend_from_slice(&[0; 16]);
        data.extend_from_slice(&self.value.to_be_bytes());
        data.extend_from_slice(self.memo.as_ref().map_or(&[], |memo| &memo[..]));
        data
    }
}
