//! What people and programs call one payment, and one approval.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Made before anything is sent, and kept with the nonce it is charged under, so one id can be
/// charged once. Written `pay_` and 32 hexadecimal digits.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct PaymentId(pub u128);

impl PaymentId {
    /// A new one: 48 bits of milliseconds, then 80 random bits, so that neighbours in time are
    /// neighbours in the ledger.
    #[must_use]
    pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
        let tail = random.iter().fold(0, |sum, b| sum << 8 | u128::from(*b));
        Self(u128::from(now.0) << 80 | tail)
    }

    /// When it was made.
    #[must_use]
    pub fn made(self) -> Timestamp {
        Timestamp(u64::try_from(self.0 >> 80).unwrap_or_default())
    }
}

/// Why a text is no payment id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a payment id is pay_ and 32 hexadecimal digits")]
pub struct NotPaymentId;

impl fmt::Display for PaymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pay_{:032x}", self.0)
    }
}

impl FromStr for PaymentId {
    type Err = NotPaymentId;

    fn from_str(text: &str) -> Result<Self, NotPaymentId> {
        let digits = text.strip_prefix("pay_").and_then(hex_u128);
        digits.map(Self).ok_or(NotPaymentId)
    }
}

impl TryFrom<String> for PaymentId {
    type Error = NotPaymentId;

    fn try_from(text: String) -> Result<Self, NotPaymentId> {
        text.parse()
    }
}

impl From<PaymentId> for String {
    fn from(id: PaymentId) -> Self {
        id.to_string()
    }
}

/// What people call one approval: `apr_` and 32 hexadecimal digits, from the digest of what is to be
/// approved. The same terms asked for again have the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ApprovalId(pub u128);

/// Why a text is no approval id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an approval id is apr_ and 32 hexadecimal digits")]
pub struct NotApprovalId;

impl fmt::Display for ApprovalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "apr_{:032x}", self.0)
    }
}

impl FromStr for ApprovalId {
    type Err = NotApprovalId;

    fn from_str(text: &str) -> Result<Self, NotApprovalId> {
        let digits = text.strip_prefix("apr_").and_then(hex_u128);
        digits.map(Self).ok_or(NotApprovalId)
    }
}

impl TryFrom<String> for ApprovalId {
    type Error = NotApprovalId;

    fn try_from(text: String) -> Result<Self, NotApprovalId> {
        text.parse()
    }
}

impl From<ApprovalId> for String {
    fn from(id: ApprovalId) -> Self {
        id.to_string()
    }
}

/// Exactly 32 lower-case digits.
fn hex_u128(digits: &str) -> Option<u128> {
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let plain = digits.len() == 32 && digits.bytes().all(lower);
    plain.then(|| u128::from_str_radix(digits, 16).ok())?
}
