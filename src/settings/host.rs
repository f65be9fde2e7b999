//! Host names and the patterns that match them, at label boundaries, in one normal form.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// Which hosts and ports are meant: `api.example.com`, `*.example.com` (subdomains only), an IP
/// address, `*` (every host), each with an optional `:port`. Without a port: 80 and 443.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPattern {
    name: Name,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Name {
    /// This host, normalised.
    Exactly(Box<str>),
    /// `.example.com`: every name that ends so and has more before it.
    Below(Box<str>),
    /// Every host.
    Any,
}

/// Why a text is no host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotHost {
    /// Non-ASCII letters: two spellings of one name, or two names that look alike.
    #[error("write the name in ASCII (its A-label, for example \"xn--bcher-kva.example\")")]
    Unicode,
    /// An empty label, a label of more than 63 bytes, or a name of more than 253.
    #[error("a host name has labels of 1 to 63 characters and at most 253 in all")]
    Length,
    /// A character that no host name has.
    #[error("a host name has letters, digits, `-` and `_`, and no label begins or ends with `-`")]
    Character,
    /// What resolvers would take for an address in an unusual spelling.
    #[error("write the address in its usual spelling, for example \"127.0.0.1\"")]
    Number,
}

/// Why a text is no host pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotHostPattern {
    /// The name is no host name.
    #[error(transparent)]
    Host(#[from] NotHost),
    /// More than a host and a port.
    #[error("write a host without scheme, path, user or spaces, for example \"api.example.com\"")]
    NotBare,
    /// A star that is not the whole first label.
    #[error("a star stands alone or for the first labels only: \"*.example.com\"")]
    Star,
    /// The port is 0, above 65535 or no number.
    #[error("the port is a number from 1 to 65535")]
    Port,
}

/// One spelling per host: lower case, no trailing dot, addresses as they are usually written, IPv6
/// without brackets.
///
/// # Errors
/// [`NotHost`], when it is neither a host name in ASCII nor an address in its usual spelling.
pub fn normalise_host(host: &str) -> Result<String, NotHost> {
    if !host.is_ascii() {
        return Err(NotHost::Unicode);
    }
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    if let Ok(v6) = bare.unwrap_or(host).parse::<Ipv6Addr>() {
        return match holds_ipv4(v6) {
            true => Err(NotHost::Number),
            false => Ok(v6.to_string()),
        };
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    if let Ok(v4) = host.parse::<Ipv4Addr>() {
        return Ok(v4.to_string());
    }
    if host.len() > 253 || host.split('.').any(|l| l.is_empty() || l.len() > 63) {
        return Err(NotHost::Length);
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let edges = |l: &str| !l.starts_with('-') && !l.ends_with('-');
    if !host.split('.').all(|l| edges(l) && l.bytes().all(plain)) {
        return Err(NotHost::Character);
    }
    if host.rsplit('.').next().is_some_and(ends_in_number) {
        return Err(NotHost::Number);
    }
    Ok(host.to_ascii_lowercase())
}

/// A host with its port, if one is written. Rows of the ledger name hosts so.
///
/// # Errors
/// When it is no host, or several.
pub fn host_and_port(text: &str) -> Result<(String, Option<u16>), NotHostPattern> {
    let HostPattern { name, port } = text.parse()?;
    match name {
        Name::Exactly(name) => Ok((name.into(), port)),
        Name::Below(_) | Name::Any => Err(NotHostPattern::Host(NotHost::Character)),
    }
}

/// A host as rows of the ledger name it, however it is written here. What is no host stays as it is: no row has it.
#[must_use]
pub fn as_listed(text: &str) -> String {
    let Ok(host) = text.parse::<HostPattern>() else {
        return text.to_owned();
    };
    match host.host() {
        // Rows leave the usual one out, and the brackets with it.
        Some((name, None | Some(443))) => name.to_owned(),
        Some(_) | None => host.to_string(),
    }
}

/// An IPv4 address in the clothes of IPv6 (mapped, compatible, translated, NAT64, 6to4) would be a
/// second spelling of a host that rules name by its first. Teredo hides one as well.
fn holds_ipv4(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => false,
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => true,
        [0x64, 0xff9b, ..] | [0x2002, ..] | [0x2001, 0, ..] => true,
        _ => false,
    }
}

/// What ends so is an address to most resolvers (WHATWG URL, "ends in a number checker"):
/// `2130706433`, `0x7f.1`, `127.1`.
fn ends_in_number(last: &str) -> bool {
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    last.bytes().all(|b| b.is_ascii_digit())
        || hex.is_some_and(|h| h.bytes().all(|b| b.is_ascii_hexdigit()))
}

impl HostPattern {
    /// Does it mean this host and port? The host is normalised, as [`normalise_host`] does.
    #[must_use]
    pub fn matches(&self, host: &str, port: u16) -> bool {
        let port_ok = self.port.map_or(port == 443 || port == 80, |p| p == port);
        port_ok
            && match &self.name {
                Name::Any => true,
                Name::Exactly(name) => **name == *host,
                Name::Below(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
            }
    }

    /// Does it mean everything that the other one means?
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let port = match (self.port, other.port) {
            (None, None) => true,
            (None, Some(port)) => port == 443 || port == 80,
            (Some(own), Some(theirs)) => own == theirs,
            (Some(_), None) => false,
        };
        let name = match (&self.name, &other.name) {
            (Name::Any, _) => true,
            (Name::Exactly(own), Name::Exactly(theirs)) => own == theirs,
            (Name::Below(own), Name::Exactly(theirs)) => {
                theirs.len() > own.len() && theirs.ends_with(&**own)
            }
            (Name::Below(own), Name::Below(theirs)) => theirs.ends_with(&**own),
            (Name::Exactly(_), Name::Below(_) | Name::Any) | (Name::Below(_), Name::Any) => false,
        };
        port && name
    }

    /// Is there anything that both mean?
    #[must_use]
    pub fn may_meet(&self, other: &Self) -> bool {
        let port = |port: Option<u16>| Self {
            name: Name::Any,
            port,
        };
        let name = |name: &Name| Self {
            name: name.clone(),
            port: None,
        };
        let either = |a: &Self, b: &Self| a.covers(b) || b.covers(a);
        either(&port(self.port), &port(other.port)) && either(&name(&self.name), &name(&other.name))
    }

    /// One host, without a star?
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.host().is_some()
    }

    /// The one host that it means, and its port if one is written. `None` when there is a star.
    #[must_use]
    pub fn host(&self) -> Option<(&str, Option<u16>)> {
        match &self.name {
            Name::Exactly(name) => Some((name, self.port)),
            Name::Below(_) | Name::Any => None,
        }
    }

    /// The port that is written.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Every host, of some port or of the default ones?
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.name == Name::Any
    }
}

impl FromStr for HostPattern {
    type Err = NotHostPattern;

    fn from_str(text: &str) -> Result<Self, NotHostPattern> {
        let bare = |c: char| !c.is_whitespace() && !c.is_control() && !"/@?#\\%".contains(c);
        if text.is_empty() || !text.chars().all(bare) {
            return Err(NotHostPattern::NotBare);
        }
        let (name, port) = split_port(text)?;
        let name = match name.strip_prefix("*.") {
            _ if name == "*" => Name::Any,
            Some(suffix) if suffix.contains('*') => return Err(NotHostPattern::Star),
            Some(suffix) if suffix.parse::<IpAddr>().is_ok() => return Err(NotHostPattern::Star),
            Some(suffix) => Name::Below(format!(".{}", normalise_host(suffix)?).into()),
            None if name.contains('*') => return Err(NotHostPattern::Star),
            None => Name::Exactly(normalise_host(name)?.into()),
        };
        Ok(Self { name, port })
    }
}

/// The port, if one is written. An IPv6 address needs brackets to have one.
fn split_port(text: &str) -> Result<(&str, Option<u16>), NotHostPattern> {
    let after = match text.starts_with('[') {
        true => text.find(']').map_or(0, |end| end + 1),
        false if text.parse::<Ipv6Addr>().is_ok() => text.len(),
        false => text.find(':').unwrap_or(text.len()),
    };
    let (name, rest) = text.split_at_checked(after).unwrap_or((text, ""));
    let Some(digits) = rest.strip_prefix(':') else {
        return match rest {
            "" => Ok((name, None)),
            _ => Err(NotHostPattern::NotBare),
        };
    };
    match digits.parse::<u16>() {
        Ok(port) if port > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Ok((name, Some(port)))
        }
        _ if digits.starts_with("//") => Err(NotHostPattern::NotBare),
        _ => Err(NotHostPattern::Port),
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Name::Any => f.write_str("*")?,
            Name::Below(suffix) => write!(f, "*{suffix}")?,
            Name::Exactly(name) if name.contains(':') => write!(f, "[{name}]")?,
            Name::Exactly(name) => f.write_str(name)?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        text.parse().unwrap()
    }

    #[test]
    fn patterns_match_at_label_boundaries() {
        for (text, host, port, expected) in [
            ("api.good.test", "api.good.test", 443, true),
            ("api.good.test", "api.good.test", 80, true),
            ("api.good.test", "api.good.test", 8443, false),
            ("api.good.test:8443", "api.good.test", 8443, true),
            ("api.good.test:8443", "api.good.test", 443, false),
            ("API.Good.test.", "api.good.test", 443, true),
            ("api.good.test", "api.good.test.evil.test", 443, false),
            ("api.good.test", "xapi.good.test", 443, false),
            ("good.test", "api.good.test", 443, false),
            ("*.good.test", "api.good.test", 443, true),
            ("*.good.test", "a.b.good.test", 443, true),
            ("*.good.test", "good.test", 443, false),
            ("*.good.test", "xgood.test", 443, false),
            ("*.good.test", ".good.test", 443, false),
            ("127.0.0.1:8443", "127.0.0.1", 8443, true),
            ("[2001:DB8::1]:8443", "2001:db8::1", 8443, true),
            ("2001:db8::1", "2001:db8::1", 443, true),
            ("[::1]", "::1", 443, true),
            ("*", "anything.test", 443, true),
            ("*", "anything.test", 8443, false),
            ("*:8443", "anything.test", 8443, true),
        ] {
            let found = pattern(text).matches(host, port);
            assert_eq!(found, expected, "{text} on {host}:{port}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        use NotHostPattern as P;
        for (text, error) in [
            ("", P::NotBare),
            ("https://api.good.test", P::NotBare),
            ("api.good.test/v1", P::NotBare),
            ("user@api.good.test", P::NotBare),
            ("api good.test", P::NotBare),
            ("[::1]x", P::NotBare),
            ("api..good.test", P::Host(NotHost::Length)),
            (".good.test", P::Host(NotHost::Length)),
            ("*..good.test", P::Host(NotHost::Length)),
            ("*.", P::Host(NotHost::Length)),
            ("g\u{f6}\u{f6}d.test", P::Host(NotHost::Unicode)),
            ("-a.test", P::Host(NotHost::Character)),
            ("a!.test", P::Host(NotHost::Character)),
            ("127.1", P::Host(NotHost::Number)),
            ("0x7f.0.0.1", P::Host(NotHost::Number)),
            ("2130706433", P::Host(NotHost::Number)),
            ("[::ffff:10.0.0.1]:80", P::Host(NotHost::Number)),
            ("a*.test", P::Star),
            ("*.*.test", P::Star),
            ("api.*.test", P::Star),
            ("*.127.0.0.1", P::Star),
            ("a.test:0", P::Port),
            ("a.test:65536", P::Port),
            ("a.test:+443", P::Port),
            ("a.test:", P::Port),
            ("a.test:443:443", P::Port),
        ] {
            assert_eq!(text.parse::<HostPattern>(), Err(error), "{text}");
        }
        assert_eq!(normalise_host(&"a".repeat(64)), Err(NotHost::Length));
        assert_eq!(normalise_host(&"a.".repeat(130)), Err(NotHost::Length));
    }

    #[test]
    fn a_host_is_listed_in_one_spelling() {
        for (text, listed) in [
            ("API.a.test.", "api.a.test"),
            ("API.a.test.:8443", "api.a.test:8443"),
            ("API.a.test:443", "api.a.test"),
            ("::1", "::1"),
            ("[0::1]", "::1"),
            ("[0::1]:80", "[::1]:80"),
            ("no host", "no host"),
            ("", ""),
        ] {
            assert_eq!(as_listed(text), listed);
        }
        let parted = |text| host_and_port(text).ok();
        assert_eq!(parted("A.test.:1"), Some(("a.test".into(), Some(1))));
        assert_eq!(parted("[::1]:2"), Some(("::1".into(), Some(2))));
        assert_eq!(parted("::1"), Some(("::1".into(), None)));
        for none in ["*", "*.a.test", "a.test:0", "a b"] {
            assert_eq!(parted(none), None, "{none}");
        }
    }

    #[test]
    fn a_pattern_is_written_as_it_is_read() {
        for text in ["a.test", "*.a.test:8443", "*", "[::1]:80", "10.0.0.1"] {
            assert_eq!(pattern(text).to_string(), text);
        }
        assert_eq!(pattern("::1").to_string(), "[::1]");
    }
}
