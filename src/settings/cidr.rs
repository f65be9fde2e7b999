//! Address ranges.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    base: IpAddr,
    prefix: u8,
}

/// Why a text is no range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCidr {
    /// Neither an address nor an address and a prefix length.
    #[error("write a range of addresses as \"10.0.0.0/8\", \"fd00::/8\" or a single address")]
    Form,
    /// A prefix length beyond the address.
    #[error("the prefix length is at most 32 (IPv4) or 128 (IPv6)")]
    Prefix,
    /// Bits below the prefix are set.
    #[error("the address has bits below its prefix: did you mean \"{0}\"?")]
    HostBits(Cidr),
}

impl Cidr {
    /// Is the address in the range? An IPv4 address written as IPv6 (`::ffff:…`) is the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.base.is_ipv4() && masked(address, self.prefix) == self.base
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

impl FromStr for Cidr {
    type Err = NotCidr;

    fn from_str(text: &str) -> Result<Self, NotCidr> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let base: IpAddr = address.parse().map_err(|_| NotCidr::Form)?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| NotCidr::Form)?
            }
            Some(_) => return Err(NotCidr::Form),
        };
        if prefix > most {
            return Err(NotCidr::Prefix);
        }
        let range = Self {
            base: masked(base, prefix),
            prefix,
        };
        if range.base != base {
            return Err(NotCidr::HostBits(range));
        }
        Ok(range.canonical())
    }
}

impl Cidr {
    /// `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
    fn canonical(self) -> Self {
        match (self.base.to_canonical(), self.prefix.checked_sub(96)) {
            (base @ IpAddr::V4(_), Some(prefix)) if self.base.is_ipv6() => Self { base, prefix },
            _ => self,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(range: &str, address: &str) -> bool {
        let range: Cidr = range.parse().unwrap();
        range.contains(address.parse().unwrap())
    }

    #[test]
    fn ranges_hold_their_addresses_and_no_others() {
        assert!(holds("10.0.0.0/8", "10.255.0.1"));
        assert!(!holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("127.0.0.1", "127.0.0.1"));
        assert!(!holds("127.0.0.1/32", "127.0.0.2"));
        assert!(holds("0.0.0.0/0", "203.0.113.7"));
        assert!(!holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("fd00::/8", "fdff::1"));
        assert!(!holds("fd00::/8", "fe80::1"));
        assert!(!holds("::/0", "10.0.0.1"));
    }

    #[test]
    fn an_ipv4_address_in_ipv6_is_an_ipv4_address() {
        assert!(holds("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(holds("::ffff:10.0.0.0/104", "10.1.2.3"));
        assert!(!holds("::/0", "::ffff:10.1.2.3"));
        assert!(holds("::1", "::1"));
    }

    #[test]
    fn other_texts_are_refused() {
        let error = |text: &str| text.parse::<Cidr>().unwrap_err();
        for text in [
            "",
            "10.0.0.0/",
            "10/8",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "x",
            "10.0.0.0/256",
        ] {
            assert_eq!(error(text), NotCidr::Form, "{text}");
        }
        assert_eq!(error("10.0.0.0/33"), NotCidr::Prefix);
        assert_eq!(error("::/129"), NotCidr::Prefix);
        assert!(error("10.0.0.1/8").to_string().contains("\"10.0.0.0/8\""));
    }
}
