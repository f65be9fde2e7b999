//! What binds an MPP challenge to one request: the host that was asked, the body that it was made for, the credentials that the
//! agent sends of its own, and what the agent says it can pay.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};

use super::Repeat;
use super::mpp::{Echo, malformed};
use crate::payment::{Problem, Reason};
use crate::settings::origin;

/// Request header by which an agent says what it can pay (draft-httpauth-payment-00).
const ACCEPT: &str = "accept-payment";

/// Checks `digest` and `header` of a challenge by their form.
pub(super) fn check(echo: &Echo) -> Result<(), Problem> {
    if let Some(text) = &echo.digest {
        digest(text).ok_or_else(|| malformed("the digest of the challenge is not a SHA-256"))?;
    }
    match echo.header.as_deref() {
        Some(name) if !name.eq_ignore_ascii_case("payment-authorization") => Err(malformed(
            "the challenge wants its credential in a header that is not for payments",
        )),
        Some(_) | None => Ok(()),
    }
}

/// The bytes of `sha-256=:…:` (RFC 9530), or of the bare form that the official server writes.
fn digest(text: &str) -> Option<[u8; 32]> {
    let value = text.strip_prefix("sha-256=")?;
    let bare = value.strip_prefix(':').map(|v| v.strip_suffix(':'));
    let bytes = STANDARD.decode(bare.unwrap_or(Some(value))?).ok()?;
    bytes.try_into().ok()
}

/// May the challenge be answered with this request?
pub(super) fn fits(echo: &Echo, repeat: &Repeat<'_>) -> Result<(), Problem> {
    let untold = repeat.within && is_invalid(&echo.realm);
    if !untold && is_elsewhere(&echo.realm, repeat.host, repeat.port) {
        let detail = "the realm of the challenge names another host or port than the one asked";
        return Err(Problem::new(Reason::ResourceMismatch, detail));
    }
    if is_shifted(echo, repeat.host) {
        let detail = "id and realm of the challenge are one after the other those of another host";
        return Err(Problem::new(Reason::ResourceMismatch, detail));
    }
    if let Some(text) = &echo.digest
        && digest(text) != Some((repeat.body)())
    {
        let detail = "the challenge was made for another request body than the one to be sent";
        return Err(Problem::new(Reason::DigestMismatch, detail));
    }
    if echo.header.is_none() && repeat.headers.contains_key(header::AUTHORIZATION) {
        let detail = "the payment would take the place of the agent's own Authorization";
        return Err(Problem::new(Reason::AuthorizationConflict, detail));
    }
    match accepts(repeat.headers, &echo.method, &echo.intent) {
        true => Ok(()),
        false => {
            let detail = "the agent's own Accept-Payment does not take this payment";
            Err(Problem::new(Reason::SchemeUnsupported, detail))
        }
    }
}

/// Does the agent, if it says anything, take this? Of several entries that match the most exact
/// counts; of equals the first. What cannot be read takes nothing.
fn accepts(headers: &HeaderMap, method: &str, intent: &str) -> bool {
    if !headers.contains_key(ACCEPT) {
        return true;
    }
    let mut best: Option<(usize, bool)> = None;
    for line in headers.get_all(ACCEPT) {
        let Ok(line) = line.to_str() else {
            return false;
        };
        for entry in line.split(',').map(str::trim).filter(|e| !e.is_empty()) {
            let Some((named, taken)) = range(entry) else {
                return false;
            };
            let fit = |(pattern, word): (&str, &str)| match pattern {
                "*" => Some(0),
                exact => (exact == word).then_some(1),
            };
            let exact = fit((named.0, method)).zip(fit((named.1, intent)));
            let exact = exact.map(|(method, intent)| method * 2 + intent);
            if let Some(exact) = exact
                && best.is_none_or(|(before, _)| exact > before)
            {
                best = Some((exact, taken));
            }
        }
    }
    best.is_some_and(|(_, taken)| taken)
}

/// `method/intent;q=0.5`: the two words, and whether the weight is above nothing.
fn range(entry: &str) -> Option<((&str, &str), bool)> {
    let mut parts = entry.split(';').map(str::trim);
    let named = parts.next()?.split_once('/')?;
    let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_graphic());
    if !word(named.0) || !word(named.1) {
        return None;
    }
    let mut taken = true;
    for part in parts {
        let (name, value) = part.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("q") {
            taken = weight(value.trim())?;
        }
    }
    Some((named, taken))
}

/// A weight (RFC 9110 section 12.4.2): is it above nothing?
fn weight(text: &str) -> Option<bool> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit());
    let nothing = part.bytes().all(|b| b == b'0');
    match whole {
        "0" if digits => Some(!nothing),
        "1" if digits && nothing => Some(true),
        _ => None,
    }
}

/// Does the realm name another host than the one that was asked (threat X-06)? A realm that is a URL, as browsers
/// would read it, or the name of a host, with a port or without, must be that host or a domain above it; anything
/// else is a title.
fn is_elsewhere(realm: &str, host: &str, port: u16) -> bool {
    // What wants to be a URL and has no host that could be compared may mean anybody.
    if let Some((named, written)) = origin(realm, false) {
        let here = named.is_some_and(|named| is_of(&named, host));
        return !here || written.is_some_and(|p| p != port);
    }
    let realm = realm.trim_ascii();
    let realm = match realm.split_once("//") {
        Some((scheme, rest)) if is_scheme(scheme) => {
            let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
            authority.rsplit('@').next().unwrap_or_default()
        }
        _ => realm,
    };
    let uri = format!("https://{realm}").parse::<http::Uri>().ok();
    let uri = uri.filter(|_| !realm.contains(['/', '?', '#', '@']));
    let Some(named) = uri.as_ref().and_then(http::Uri::host) else {
        return false;
    };
    let of_name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let is_name = named.contains('.') && named.bytes().all(of_name);
    if !is_name && !named.starts_with('[') {
        return false;
    }
    let named = named.trim_matches(['[', ']']).trim_end_matches('.');
    let named = named.to_ascii_lowercase();
    let other_port = uri.as_ref().and_then(http::Uri::port_u16);
    !is_of(&named, host) || other_port.is_some_and(|p| p != port)
}

/// Might `id` end with the realm of another host? What is signed for `evm/charge` says both one after the other, and not
/// where one ends (`Echo::nonce`): a relayed challenge may have part of its realm, or all of it, in its id.
fn is_shifted(echo: &Echo, host: &str) -> bool {
    let bound_by_nonce = echo.method == "evm";
    let title = !echo.realm.contains('.') && echo.realm != host;
    bound_by_nonce && title && echo.id.contains('.')
}

/// Is it this host, or a domain above it?
fn is_of(named: &str, host: &str) -> bool {
    let above = host
        .strip_suffix(named)
        .is_some_and(|sub| sub.ends_with('.'));
    let above = above && named.contains('.') && named.contains(|c: char| c.is_ascii_alphabetic());
    host == named || above
}

/// A name that no host has (RFC 2606): servers that know of no host of theirs, because they are asked within bodies,
/// write it for a title (`mppx`).
fn is_invalid(realm: &str) -> bool {
    let of_name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let name = realm.trim_ascii().trim_end_matches('.');
    name.bytes().all(of_name) && name.to_ascii_lowercase().ends_with(".invalid")
}

/// `https:`, or nothing.
fn is_scheme(text: &str) -> bool {
    let of_scheme = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    let name = text.strip_suffix(':');
    text.is_empty() || name.is_some_and(|name| name.bytes().all(of_scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(lines: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT, line.parse().unwrap());
        }
        accepts(&headers, "evm", "charge")
    }

    #[test]
    fn the_agent_may_say_what_it_takes() {
        for (lines, expected) in [
            (&[][..], true),
            (&["evm/charge"], true),
            (&["*/*"], true),
            (&["evm/*;q=0.001"], true),
            (&["tempo/charge", "*/charge; q=1.000"], true),
            (&["*/*;q=0, evm/charge"], true),
            (&["tempo/charge"], false),
            (&["evm/charge;q=0"], false),
            (&["evm/charge;q=0.000, */*"], false),
            (&["*/*, evm/*;q=0"], false),
            (&[""], false),
            (&["evm"], false),
            (&["evm/charge;q=two"], false),
            (&["evm/charge;q=1.1"], false),
            (&["evm/charge;q=0.0001"], false),
            (&["evm/charge", "broken"], false),
        ] {
            assert_eq!(takes(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_digest_is_read_in_both_forms_and_no_other() {
        // printf hello | openssl dgst -sha256 -binary | base64
        let bare = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
        let read = |text: String| digest(&text);
        let known = read(format!("sha-256={bare}"));
        assert_eq!(known.map(|d| d[0]), Some(0x2c));
        assert_eq!(read(format!("sha-256=:{bare}:")), known);
        for odd in [
            "",
            "sha-256=",
            "sha-256=::",
            "sha-256=AAAA",
            "sha-512=:AAAA:",
        ] {
            assert_eq!(digest(odd), None, "{odd}");
        }
        for odd in ["sha-256=:{}", "sha-256={}:", "SHA-256={}", "{}"] {
            assert_eq!(read(odd.replace("{}", bare)), None, "{odd}");
        }
    }

    #[test]
    fn a_name_that_no_host_has_is_a_title_within_a_body() {
        let refused = |realm: &str, within: bool| {
            let echo = Echo {
                realm: realm.into(),
                ..Echo::default()
            };
            let repeat = Repeat {
                host: "api.example.com",
                port: 443,
                within,
                headers: &HeaderMap::new(),
                body: &|| [0; 32],
            };
            fits(&echo, &repeat).err().map(|problem| problem.reason)
        };
        let elsewhere = Some(Reason::ResourceMismatch);
        for (realm, within, expected) in [
            ("mppx.invalid", true, None),
            ("MPPX.Invalid.", true, None),
            ("mppx.invalid", false, elsewhere),
            ("shop.victim.test", true, elsewhere),
            ("mppx.invalid.victim.test", true, elsewhere),
            ("https://shop.victim.test/x.invalid", true, elsewhere),
        ] {
            assert_eq!(refused(realm, within), expected, "{realm} {within}");
        }
    }

    #[test]
    fn a_realm_that_names_a_host_must_be_of_the_one_asked() {
        let here = |realm| !is_elsewhere(realm, "api.example.com", 443);
        for fine in [
            "api.example.com",
            "API.Example.com.",
            "api.example.com:443",
            "example.com",
            "",
            "MPP Payment",
            "shop",
            "say \"hi\"",
            "a.b/c",
            "x@a.b",
            "Zürich",
            "https://api.example.com",
            "HTTPS://api.example.com:443/v1?x=1",
            "//example.com",
            "see https://victim.test",
            "HTTPS:/api.example.com",
            "https:\\\\example.com.\\v1",
            "https",
            "Tools: read//write",
            "mcp://shop",
        ] {
            assert!(here(fine), "{fine}");
        }
        for other in [
            "shop.victim.test",
            "api.example.com:8443",
            "pay.api.example.com",
            "www.example.com",
            "ple.com",
            "127.0.0.1",
            "[::1]",
            "https://shop.victim.test",
            " https://api.example.com@victim.test/",
            "http://api.example.com:8443",
            "//victim.test/api.example.com",
            "https://bücher.example/",
            "https://victim．test/v1",
            "https://victim%2etest/",
            "https:/victim.test/",
            "https:victim.test",
            "https://vic\ttim.test/",
            "ht\ttps://victim.test/",
            "https://victim.test;x/",
            "https://victim.test,x/",
            "https://victim\u{200b}.test/",
            "https://localhost/",
            "https://2130706433/",
            "https://",
            "ws://bücher.example",
            "mcp://shop.victim.test",
            "https:\\\\victim.test",
            "\\\\victim.test",
            "//bücher.example",
            "HTTPS:///bücher.example",
        ] {
            assert!(!here(other), "{other}");
        }
        assert!(!is_elsewhere("127.0.0.1", "127.0.0.1", 8080));
        assert!(!is_elsewhere("[::1]:8080", "::1", 8080));
        assert!(is_elsewhere("0.0.1", "127.0.0.1", 8080));
    }

    #[test]
    fn a_realm_is_not_hidden_in_an_id() {
        let shifted = |id: &str, realm: &str, method: &str| {
            let echo = Echo {
                id: id.into(),
                realm: realm.into(),
                method: method.into(),
                ..Echo::default()
            };
            is_shifted(&echo, "api.example.com")
        };
        assert!(shifted("A1b2api.victim.tes", "t", "evm"));
        assert!(shifted("A1b2api.victim.test", "", "evm"));
        assert!(!shifted("A1b2", "Shop", "evm") && !shifted("a.b", "api.example.com", "evm"));
        assert!(!shifted("a.b", "Shop", "tempo"));
    }
}
