//! Statements of merchants as EIP-712 typed data (x402 extension `offer-receipt`): they are verified here,
//! and never signed.

use super::{Words, keccak, signed};

/// What a merchant offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferMessage<'a> {
    /// Of the extension.
    pub version: u64,
    /// What is sold.
    pub resource_url: &'a str,
    /// `exact`, …
    pub scheme: &'a str,
    /// CAIP-2.
    pub network: &'a str,
    /// Contract or mint.
    pub asset: &'a str,
    /// Who is paid.
    pub pay_to: &'a str,
    /// Atomic units.
    pub amount: &'a str,
    /// Unix seconds; 0 for no end.
    pub valid_until: u64,
}

/// What a merchant says it was paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptMessage<'a> {
    /// Of the extension.
    pub version: u64,
    /// CAIP-2.
    pub network: &'a str,
    /// What was sold.
    pub resource_url: &'a str,
    /// Who paid.
    pub payer: &'a str,
    /// Unix seconds.
    pub issued_at: u64,
    /// The transaction; empty when it is not named.
    pub transaction: &'a str,
}

impl OfferMessage<'_> {
    /// What the merchant signed.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let kind = keccak(b"Offer(uint256 version,string resourceUrl,string scheme,string network,string asset,string payTo,string amount,uint256 validUntil)");
        let mut words = Words::with_capacity(9);
        words.word(kind);
        words.number(u128::from(self.version));
        for text in [
            self.resource_url,
            self.scheme,
            self.network,
            self.asset,
            self.pay_to,
            self.amount,
        ] {
            words.word(keccak(text.as_bytes()));
        }
        words.number(u128::from(self.valid_until));
        signed(separator("x402 offer"), words.hash())
    }
}

impl ReceiptMessage<'_> {
    /// What the merchant signed.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let kind = keccak(b"Receipt(uint256 version,string network,string resourceUrl,string payer,uint256 issuedAt,string transaction)");
        let mut words = Words::with_capacity(7);
        words.word(kind);
        words.number(u128::from(self.version));
        for text in [self.network, self.resource_url, self.payer] {
            words.word(keccak(text.as_bytes()));
        }
        words.number(u128::from(self.issued_at));
        words.word(keccak(self.transaction.as_bytes()));
        signed(separator("x402 receipt"), words.hash())
    }
}

/// Statements are for no chain, and name chain 1.
fn separator(name: &str) -> [u8; 32] {
    let kind = keccak(b"EIP712Domain(string name,string version,uint256 chainId)");
    let mut words = Words::with_capacity(4);
    words.word(kind);
    words.word(keccak(name.as_bytes()));
    words.word(keccak(b"1"));
    words.number(1);
    words.hash()
}
