//! URIs of MCP resources in their plain spelling.
//!
//! Servers look a resource up by what their URL library makes of its URI: the official TypeScript SDK takes
//! `DOCS://vault/a/../keys` for `docs://vault/keys` (WHATWG URL, section 4.4). A rule is about the URI as it is
//! written, so what may be another one to its server has to be told from it.

use std::fmt::Display;
use std::str::FromStr;

/// Schemes that URL libraries know (WHATWG URL, section 4.2), each with the port that they leave out.
const SPECIAL: &[(&str, &str)] = &[
    ("http", "80"),
    ("https", "443"),
    ("ws", "80"),
    ("wss", "443"),
    ("ftp", "21"),
];

/// Printable characters that URL libraries encode or read as another one, and the fragment, which names no other
/// resource (RFC 3986 section 3.5).
const ODD: &[u8] = b"\"#'<>\\^`{|}";

/// Does every server take this URI for itself, and for no other? Addresses of IPv6 have too many spellings.
pub(super) fn is_plain(uri: &str) -> bool {
    let (scheme, rest) = uri.split_once(':').unwrap_or(("x", uri));
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())),
        None => ("", rest),
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let special = SPECIAL.iter().find(|(name, _)| *name == scheme);
    let place = match special {
        Some(_) => is_plain_host(host) && path.starts_with('/'),
        None => scheme != "file" || rest.starts_with("///"),
    };
    let usual = special.map_or("", |(_, port)| port);
    let path = path.split('?').next().unwrap_or_default();
    is_plain_scheme(scheme)
        && place
        && port.is_none_or(|port| port != usual && is_same::<u16>(port))
        && !authority.contains(['@', '['])
        && is_plain_text(uri.as_bytes())
        && !path.split('/').any(|segment| matches!(segment, "." | ".."))
}

fn is_plain_scheme(scheme: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    scheme.starts_with(|first: char| first.is_ascii_lowercase()) && scheme.bytes().all(plain)
}

/// A host of a scheme that libraries know: there capitals, numbers in other bases and dots at the end are read away.
fn is_plain_host(host: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    let last = host.rsplit('.').next().unwrap_or_default();
    match last.starts_with(|first: char| first.is_ascii_digit()) {
        true => host.split('.').count() == 4 && host.split('.').all(is_same::<u8>),
        false => !last.is_empty() && host.bytes().all(plain),
    }
}

/// Is this how the value itself would be written?
fn is_same<T: FromStr + Display>(text: &str) -> bool {
    text.parse::<T>()
        .is_ok_and(|value| value.to_string() == text)
}

/// Printable ASCII, and nothing percent-encoded that could stand as it is, or that would separate if it did.
fn is_plain_text(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let Some((digits, after)) = after.split_first_chunk::<2>() else {
                    return false;
                };
                let capital = |digit: &u8| digit.is_ascii_digit() || (b'A'..=b'F').contains(digit);
                let mut byte = [0];
                if !digits.iter().all(capital) || hex::decode_to_slice(digits, &mut byte).is_err() {
                    return false;
                }
                let [byte] = byte;
                if byte.is_ascii_alphanumeric() || b"-._~/\\".contains(&byte) {
                    return false;
                }
                rest = after;
            }
            byte if !byte.is_ascii_graphic() || ODD.contains(byte) => return false,
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_that_libraries_leave_alone_are_plain() {
        for uri in [
            "docs://vault/keys",
            "docs://Vault/Keys.md",
            "docs://vault",
            "docs:/vault/keys",
            "memo:today",
            "urn:isbn:0451450523",
            "file:///etc/hosts",
            "https://data.example/premium/x",
            "https://data.example:8443/",
            "https://192.0.2.1/x?q=a&b=..",
            "git+ssh.1://host/a//b/...",
            "db://host:5432/table/a%20b",
            "keys",
        ] {
            assert!(is_plain(uri), "{uri}");
        }
    }

    /// Each of them is, to a URL library, the URI behind it.
    #[test]
    fn other_spellings_are_not() {
        for (uri, same) in [
            ("DOCS://vault/keys", "docs://vault/keys"),
            ("docs://vault/a/../keys", "docs://vault/keys"),
            ("docs://vault/./keys", "docs://vault/keys"),
            ("docs:/x/../keys", "docs:/keys"),
            ("docs://vault/%2e%2e/keys", "docs://keys"),
            ("docs://vault/%2E%2E/keys", "docs://keys"),
            ("docs://vault/ke\tys", "docs://vault/keys"),
            (" docs://vault/keys", "docs://vault/keys"),
            ("docs://vault/keys ", "docs://vault/keys"),
            ("docs://@vault/keys", "docs://vault/keys"),
            ("docs://vault:/keys", "docs://vault/keys"),
            ("docs://vault:080/keys", "docs://vault:80/keys"),
            ("docs://vault/%6Beys", "docs://vault/keys"),
            ("docs://vault/a%2fb", "docs://vault/a%2Fb"),
            ("docs://vault/a%2Fb", "docs://vault/a/b"),
            ("docs://vault/keys#x", "docs://vault/keys"),
            ("docs://vault/\u{e9}", "docs://vault/%C3%A9"),
            ("docs://vault/a b", "docs://vault/a%20b"),
            ("https://data.example:443/x", "https://data.example/x"),
            ("https://DATA.example/x", "https://data.example/x"),
            ("https://data.example./x", "https://data.example/x"),
            ("https://data.example", "https://data.example/"),
            ("https:data.example/x", "https://data.example/x"),
            ("https:/data.example/x", "https://data.example/x"),
            ("https:///data.example/x", "https://data.example/x"),
            ("https:\\\\data.example/x", "https://data.example/x"),
            ("https://user@data.example/x", "https://data.example/x"),
            ("https://0x7f.1/x", "https://127.0.0.1/x"),
            ("https://127.1/x", "https://127.0.0.1/x"),
            ("https://[::0:1]/x", "https://[::1]/x"),
            ("docs://[::0:1]/x", "docs://[::1]/x"),
            ("https://1.2.3/x", "https://1.2.0.3/x"),
            ("https://1.2.3.04/x", "https://1.2.3.4/x"),
            ("https://dat%61.example/x", "https://data.example/x"),
            ("file:/etc/hosts", "file:///etc/hosts"),
            ("file://localhost/etc/hosts", "file:///etc/hosts"),
            ("https://data.example/?a='", "https://data.example/?a=%27"),
            ("docs://vault/%", "docs://vault/%"),
        ] {
            assert!(!is_plain(uri), "{uri} is {same}");
        }
    }
}
