//! The port of a URL.

use http::uri::Authority;

/// The port that is written, else `usual`. `None`: what is written is none. Taken for the usual port, it would
/// lead to another place than the one that somebody meant.
#[must_use]
pub fn port(authority: &Authority, usual: u16) -> Option<u16> {
    let place = authority.as_str();
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let behind = place.rsplit_once(']').map_or(place, |(_, behind)| behind);
    match behind.rsplit_once(':') {
        // RFC 3986 section 3.2.3: a colon alone says nothing.
        None | Some((_, "")) => Some(usual),
        Some((_, text)) => {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|_| digits)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_port_is_not_the_usual_one() {
        for (text, expected) in [
            ("a.test", Some(443)),
            ("a.test:", Some(443)),
            ("a.test:8443", Some(8443)),
            ("a.test:65535", Some(65_535)),
            ("a.test:65536", None),
            ("a.test:99999", None),
            ("user:1@a.test", Some(443)),
            ("[2001:db8::1]", Some(443)),
            ("[2001:db8::1]:8443", Some(8443)),
            ("[2001:db8::1]:99999", None),
        ] {
            let authority: Authority = text.parse().unwrap();
            assert_eq!(port(&authority, 443), expected, "{text}");
        }
    }
}
