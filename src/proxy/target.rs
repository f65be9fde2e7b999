//! The one name of a tunnel: where it goes, what the certificate must say, what the policy decides on.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use crate::settings::{NotHost, normalise_host};

/// A normalised destination: lower case, no trailing dot, IPv6 without brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Name or address.
    pub host: Arc<str>,
    /// Port, never 0.
    pub port: u16,
}

/// Why a text is no destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTarget {
    /// Not `host:port`.
    #[error("the destination is not host:port")]
    Form,
    /// Port 0, above 65535, or not a number.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// Not a host name and not an address in its usual spelling: a second spelling of a destination
    /// is refused, not guessed at (threats S-02, X-18).
    #[error(transparent)]
    Host(#[from] NotHost),
}

impl Target {
    /// From the authority of a CONNECT request or URI. `default_port` stands in when there is none.
    ///
    /// IPv6 may come without brackets, as some clients send it: the last colon then parts the port
    /// when the port is required (RFC 9110 section 9.3.6 demands brackets; we are lenient).
    ///
    /// # Errors
    /// [`NotTarget`].
    pub fn parse(authority: &str, default_port: Option<u16>) -> Result<Self, NotTarget> {
        let (host, port) = split(authority, default_port)?;
        Ok(Self {
            host: normalise_host(host)?.into(),
            port,
        })
    }

    /// Does a `Host` or `:authority` value name this very destination? A missing port means
    /// `default_port`.
    #[must_use]
    pub fn is_named_by(&self, authority: &str, default_port: u16) -> bool {
        // The common cases first: byte for byte, without allocation.
        match authority.strip_prefix(&*self.host) {
            Some("") if self.port == default_port => return true,
            Some(rest) if !self.host.contains(':') && self.is_port(rest) => return true,
            Some(_) | None => {}
        }
        Self::parse(authority, Some(default_port)).is_ok_and(|other| other == *self)
    }

    /// Is this a colon and the port, in its only plain form?
    fn is_port(&self, text: &str) -> bool {
        let digits = text.strip_prefix(':').unwrap_or_default();
        let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
        plain && digits.parse() == Ok(self.port)
    }

    /// The address, when the host is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// `host` or `host:port`, as in a `Host` header, for a scheme with this default port.
    #[must_use]
    pub fn authority(&self, default_port: u16) -> String {
        let v6 = self.host.contains(':');
        let (open, close) = if v6 { ("[", "]") } else { ("", "") };
        if self.port == default_port {
            format!("{open}{}{close}", self.host)
        } else {
            format!("{open}{}{close}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority(0))
    }
}

fn split(authority: &str, default_port: Option<u16>) -> Result<(&str, u16), NotTarget> {
    let number = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(NotTarget::Port),
    };
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(NotTarget::Form)?;
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(NotTarget::Form);
        }
        return match (after.strip_prefix(':'), default_port) {
            // RFC 3986 section 3.2.3: a colon alone says nothing.
            (Some(""), Some(port)) => Ok((host, port)),
            (Some(port), _) => Ok((host, number(port)?)),
            (None, Some(port)) if after.is_empty() => Ok((host, port)),
            (None, _) => Err(NotTarget::Form),
        };
    }
    match (authority.rsplit_once(':'), default_port) {
        // Without brackets a bare IPv6 address is ambiguous; with a required port the last colon parts.
        (Some(_), Some(port)) if authority.parse::<Ipv6Addr>().is_ok() => Ok((authority, port)),
        (Some((host, "")), Some(port)) if !host.contains(':') => Ok((host, port)),
        (Some((host, port)), _) => Ok((host, number(port)?)),
        (None, Some(port)) => Ok((authority, port)),
        (None, None) => Err(NotTarget::Form),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(authority: &str, port: Option<u16>) -> Result<String, NotTarget> {
        Target::parse(authority, port).map(|t| t.to_string())
    }

    #[test]
    fn one_spelling_per_destination() {
        for (authority, expected) in [
            ("API.Example.com.:443", "api.example.com:443"),
            ("[2001:DB8::1]:443", "[2001:db8::1]:443"),
            ("2001:db8::1:443", "[2001:db8::1]:443"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("xn--bcher-kva.example:8443", "xn--bcher-kva.example:8443"),
            ("_dmarc.example.com:1", "_dmarc.example.com:1"),
        ] {
            assert_eq!(
                text(authority, None).as_deref(),
                Ok(expected),
                "{authority}"
            );
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for (authority, expected) in [
            ("", NotTarget::Form),
            ("example.com", NotTarget::Form),
            ("example.com:", NotTarget::Port),
            ("example.com:0", NotTarget::Port),
            ("example.com:65536", NotTarget::Port),
            ("example.com:+80", NotTarget::Port),
            ("2130706433:80", NotTarget::Host(NotHost::Number)),
            ("0x7f.1:80", NotTarget::Host(NotHost::Number)),
            ("0x7f000001:80", NotTarget::Host(NotHost::Number)),
            ("127.1:80", NotTarget::Host(NotHost::Number)),
            ("0177.0.0.1:80", NotTarget::Host(NotHost::Number)),
            ("0:80", NotTarget::Host(NotHost::Number)),
            ("0x0a000001.:80", NotTarget::Host(NotHost::Number)),
            ("010.0.0.1:80", NotTarget::Host(NotHost::Number)),
            ("1.2.3:80", NotTarget::Host(NotHost::Number)),
            ("127.0.0.0x1:80", NotTarget::Host(NotHost::Number)),
            ("127.0.0.1..:80", NotTarget::Host(NotHost::Length)),
            ("[::ffff:127.0.0.1]:80", NotTarget::Host(NotHost::Number)),
            ("[::ffff:7f00:1]:80", NotTarget::Host(NotHost::Number)),
            ("[::ffff:0:7f00:1]:80", NotTarget::Host(NotHost::Number)),
            ("[::127.0.0.1]:80", NotTarget::Host(NotHost::Number)),
            ("[64:ff9b::a9fe:a9fe]:80", NotTarget::Host(NotHost::Number)),
            ("[64:ff9b:1::10.0.0.1]:80", NotTarget::Host(NotHost::Number)),
            ("[2002:7f00:1::]:80", NotTarget::Host(NotHost::Number)),
            ("[2001:0:7f00:1::]:80", NotTarget::Host(NotHost::Number)),
            ("::ffff:127.0.0.1:80", NotTarget::Host(NotHost::Number)),
            ("127.0.0.1%00:80", NotTarget::Host(NotHost::Character)),
            ("127.0.0.1%2e:80", NotTarget::Host(NotHost::Character)),
            ("%31%32%37.0.0.1:80", NotTarget::Host(NotHost::Character)),
            ("[::1%25eth0]:80", NotTarget::Form),
            ("[[::1]]:80", NotTarget::Form),
            ("%5B::1%5D:80", NotTarget::Host(NotHost::Character)),
            ("127.0.0.１:80", NotTarget::Host(NotHost::Unicode)),
            ("ⓛocalhost:80", NotTarget::Host(NotHost::Unicode)),
            ("ex%61mple.com:80", NotTarget::Host(NotHost::Character)),
            ("bücher.example:80", NotTarget::Host(NotHost::Unicode)),
            ("user@example.com:80", NotTarget::Host(NotHost::Character)),
            ("example..com:80", NotTarget::Host(NotHost::Length)),
            ("example.com..:80", NotTarget::Host(NotHost::Length)),
            ("[example.com]:80", NotTarget::Form),
            ("[127.0.0.1]:80", NotTarget::Form),
            ("[fe80::1%eth0]:80", NotTarget::Form),
            ("[::1:80", NotTarget::Form),
            ("example.com/x:80", NotTarget::Host(NotHost::Character)),
            ("127。0。0。1:80", NotTarget::Host(NotHost::Unicode)),
            (" example.com:80", NotTarget::Host(NotHost::Character)),
        ] {
            assert_eq!(text(authority, None), Err(expected), "{authority}");
        }
    }

    #[test]
    fn a_colon_without_a_port_is_as_good_as_none() {
        for (authority, expected) in [
            ("Example.com:", Ok("example.com:80")),
            ("[2001:db8::1]:", Ok("[2001:db8::1]:80")),
            ("2001:db8::", Ok("[2001:db8::]:80")),
            (":", Err(NotTarget::Host(NotHost::Length))),
            ("example.com::", Err(NotTarget::Port)),
            ("2001:db8::1:", Err(NotTarget::Port)),
            ("::1:", Err(NotTarget::Port)),
        ] {
            let got = text(authority, Some(80));
            assert_eq!(got.as_deref(), expected.as_ref().copied(), "{authority}");
            if authority != "2001:db8::" {
                assert!(text(authority, None).is_err(), "{authority}");
            }
        }
    }

    #[test]
    fn a_host_header_must_name_the_tunnel() {
        let target = Target::parse("api.example.com:443", None).unwrap();
        for same in [
            "api.example.com",
            "API.example.com:443",
            "api.example.com.",
            "api.example.com:",
        ] {
            assert!(target.is_named_by(same, 443), "{same}");
        }
        for other in [
            "api.example.com:80",
            "example.com",
            "evil.test",
            "",
            "api.example.com@evil",
        ] {
            assert!(!target.is_named_by(other, 443), "{other}");
        }
        assert!(!target.is_named_by("api.example.com", 80));
    }
}
