//! Money as integers. No floats, no unchecked arithmetic, one rounding rule (up, against the spender).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::evm::Address;
use crate::solana::TokenProgram;

mod fee;
mod table;

pub use fee::Fee;
pub use table::{canonical_assets, v1_name, v1_network};

/// Atomic units of one asset, as written on the wire.
///
/// Serialised as a decimal string, because JSON numbers lose digits.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Amount(pub u128);

/// Why a text is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAmount {
    /// Not `0` or digits without a leading zero, or more than 78 of them.
    #[error("an amount is decimal digits only")]
    Grammar,
    /// More than 256 bits hold.
    #[error("an amount is below 2^256")]
    TooLarge,
    /// A legal amount, but more than any budget of this program can hold.
    #[error("the amount is beyond any budget")]
    BeyondBudgets,
}

/// 2^256 - 1, the largest amount a token contract can hold.
const U256_MAX: &str =
    "115792089237316195423570985008687907853269984665640564039457584007913129639935";

impl FromStr for Amount {
    type Err = NotAmount;

    fn from_str(text: &str) -> Result<Self, NotAmount> {
        let bytes = text.as_bytes();
        let plain = !bytes.is_empty() && bytes.len() <= 78 && bytes.iter().all(u8::is_ascii_digit);
        if !plain || (bytes.len() > 1 && bytes.starts_with(b"0")) {
            return Err(NotAmount::Grammar);
        }
        if bytes.len() == U256_MAX.len() && text > U256_MAX {
            return Err(NotAmount::TooLarge);
        }
        text.parse().map(Self).map_err(|_| NotAmount::BeyondBudgets)
    }
}

impl TryFrom<String> for Amount {
    type Error = NotAmount;

    fn try_from(text: String) -> Result<Self, NotAmount> {
        text.parse()
    }
}

impl From<Amount> for String {
    fn from(amount: Amount) -> Self {
        amount.0.to_string()
    }
}

impl Amount {
    /// The sum, or `None` when it does not fit.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// What is written in whole units of an asset with so many decimals: `5` or `0.01`. `None` when it is
    /// something else, has more decimals, or does not fit.
    #[must_use]
    pub fn of_whole(text: &str, decimals: u8) -> Option<Self> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        let places = usize::from(decimals);
        let kept = part.trim_end_matches('0');
        if !digits(whole) || !digits(part) || kept.len() > places {
            return None;
        }
        format!("{whole}{kept:0<places$}").parse().ok().map(Self)
    }

    /// In whole units of an asset with so many decimals, without zeros at the end: `0.01`.
    #[must_use]
    pub fn whole(self, decimals: u8) -> String {
        let places = usize::from(decimals);
        let digits = format!("{:0>width$}", self.0, width = places + 1);
        let (whole, part) = digits.split_at(digits.len() - places);
        match part.trim_end_matches('0') {
            "" => whole.into(),
            part => format!("{whole}.{part}"),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Billionths of a US dollar: the unit of account of every limit. Written `"0.05 USD"`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Usd(pub u64);

impl Usd {
    /// The sum, or `None` when it does not fit.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` below zero.
    #[must_use]
    pub fn minus(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// What `part` of `whole` atomic units cost when the whole costs this: rounded up, never more than
    /// all of it, and all of it where the sum cannot be done.
    #[must_use]
    pub fn share(self, part: Amount, whole: Amount) -> Self {
        if part >= whole {
            return self;
        }
        let product = u128::from(self.0).checked_mul(part.0);
        let share = product.map(|p| p.div_ceil(whole.0));
        let share = share.and_then(|s| u64::try_from(s).ok());
        share.map_or(self, Self)
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let (whole, part) = text.split_at(text.len() - 7);
        write!(f, "{whole}{} USD", part.trim_end_matches('0'))
    }
}

/// Why a text is no sum of money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write money as \"0.05 USD\", with at most nine decimals and at most 18 billion")]
pub struct NotMoney;

impl FromStr for Usd {
    type Err = NotMoney;

    fn from_str(text: &str) -> Result<Self, NotMoney> {
        let number = text.strip_suffix(" USD").ok_or(NotMoney)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty()
            || part.len() > 9
            || !digits(whole)
            || !digits(part)
            || number.ends_with('.')
        {
            return Err(NotMoney);
        }
        let nanos = format!("{whole}{part:0<9}");
        nanos.parse().map(Self).map_err(|_| NotMoney)
    }
}

impl TryFrom<String> for Usd {
    type Error = NotMoney;

    fn try_from(text: String) -> Result<Self, NotMoney> {
        text.parse()
    }
}

impl From<Usd> for String {
    fn from(usd: Usd) -> Self {
        usd.to_string()
    }
}

/// What Bitcoin's Lightning network is called; CAIP-2 has no name for it.
const LIGHTNING: &str = "lightning";

/// What stands behind it for the test networks that invoices tell apart.
const LIGHTNING_TESTS: [&str; 3] = [":testnet", ":signet", ":regtest"];

/// A chain by its CAIP-2 name, for example `eip155:8453`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(String);

/// Why a text is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a network as CAIP-2, for example \"eip155:84532\" or \"solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp\""
)]
pub struct NotNetwork;

impl Network {
    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the colon: `eip155`, `solana`. `lightning` stands alone.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.split_once(':').map_or(&self.0, |(n, _)| n)
    }

    /// Is it Bitcoin's Lightning network, or one of its test networks?
    #[must_use]
    pub fn is_lightning(&self) -> bool {
        self.namespace() == LIGHTNING
    }

    /// Is it a Solana cluster?
    #[must_use]
    pub fn is_solana(&self) -> bool {
        self.namespace() == "solana"
    }

    /// Is it a known test network? A network that nobody knows counts as a main network.
    #[must_use]
    pub fn is_test(&self) -> bool {
        table::is_test(&self.0)
    }

    /// The EVM chain id, for `eip155` networks.
    #[must_use]
    pub fn chain_id(&self) -> Option<u64> {
        self.0.strip_prefix("eip155:")?.parse().ok()
    }
}

impl FromStr for Network {
    type Err = NotNetwork;

    /// Exactly one spelling per chain (CAIP-2 syntax; for `eip155` no leading zero), so that no two
    /// names mean one network.
    fn from_str(text: &str) -> Result<Self, NotNetwork> {
        if text == LIGHTNING {
            return Ok(Self(text.into()));
        }
        if let Some(part) = text.strip_prefix(LIGHTNING) {
            return match LIGHTNING_TESTS.contains(&part) {
                true => Ok(Self(text.into())),
                false => Err(NotNetwork),
            };
        }
        let (namespace, reference) = text.split_once(':').ok_or(NotNetwork)?;
        let name_ok = (3..=8).contains(&namespace.len())
            && namespace
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let reference_ok = (1..=32).contains(&reference.len())
            && reference
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        let number_ok = namespace != "eip155"
            || reference
                .parse::<u64>()
                .is_ok_and(|n| n > 0 && n.to_string() == reference);
        if name_ok && reference_ok && number_ok {
            Ok(Self(text.into()))
        } else {
            Err(NotNetwork)
        }
    }
}

impl TryFrom<String> for Network {
    type Error = NotNetwork;

    fn try_from(text: String) -> Result<Self, NotNetwork> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.0
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The EIP-712 domain name and version of a token contract (EIP-712, `EIP712Domain`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenDomain {
    /// `name` of the domain: not always the token's own name.
    pub name: String,
    /// `version` of the domain.
    pub version: String,
}

/// An asset with its fixed price. Only assets of the operator's table can be priced, so only they
/// can be paid; nothing a challenge says about an asset is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    /// The chain.
    pub network: Network,
    /// Contract address (EVM: checksummed) or mint.
    pub address: String,
    /// What people call it.
    pub symbol: String,
    /// Atomic units per whole: 10^decimals.
    pub decimals: u8,
    /// Price of one whole unit.
    pub unit: Usd,
    /// Signing domain, for tokens with EIP-3009.
    pub eip712: Option<TokenDomain>,
    /// Does the contract implement EIP-3009 (`transferWithAuthorization`)?
    pub eip3009: bool,
    /// The program that owns the mint, on Solana.
    pub token_program: Option<TokenProgram>,
    /// What moving it may cost besides; nothing where the receiver pays for that.
    pub fee: Fee,
}

impl Asset {
    /// Price in the unit of account with the most that moving it may cost, rounded up. `None` when it
    /// does not fit.
    #[must_use]
    pub fn price(&self, amount: Amount) -> Option<Usd> {
        self.worth(Amount(amount.0.checked_add(self.fee.most(amount.0)?)?))
    }

    /// What so much of it is worth, rounded up. `None` when it does not fit.
    #[must_use]
    pub fn worth(&self, amount: Amount) -> Option<Usd> {
        let scale = 10u128.checked_pow(u32::from(self.decimals))?;
        let product = amount.0.checked_mul(u128::from(self.unit.0))?;
        u64::try_from(product.div_ceil(scale)).ok().map(Usd)
    }

    /// What so much money buys of it, rounded down. `None` when it does not fit.
    #[must_use]
    pub fn bought(&self, money: Usd) -> Option<Amount> {
        let scale = 10u128.checked_pow(u32::from(self.decimals))?;
        let product = u128::from(money.0).checked_mul(scale)?;
        product.checked_div(self.unit.0.into()).map(Amount)
    }

    /// Is this the asset that `address` names? EVM addresses compare by their 20 bytes.
    #[must_use]
    pub fn is(&self, address: &str) -> bool {
        if self.network.namespace() == "eip155" {
            let bytes = |s: &str| Address::from_hex(s).ok();
            return bytes(address).is_some_and(|a| bytes(&self.address) == Some(a));
        }
        self.address == address
    }
}

#[cfg(test)]
mod tests;
