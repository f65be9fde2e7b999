//! The first bytes of a connection that carries HTTP.

/// Bytes of empty lines that are passed over.
const EMPTY_MAX: usize = 64;

/// What comes behind the empty lines before a request (RFC 9112 section 2.2); nothing, or a CR, where that is not
/// known yet. The HTTP library passes over these lines itself: they are not taken away here, only looked behind.
pub(super) fn behind_empty(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let Some(next) = rest.strip_prefix(b"\r\n") {
        rest = next;
    }
    rest
}

/// May these bytes be followed by those of any request? Lines without end are none.
pub(super) fn says_nothing(bytes: &[u8]) -> bool {
    bytes.len() <= EMPTY_MAX && matches!(behind_empty(bytes), [] | b"\r")
}

/// Do they begin a request? Methods that are registered are in capitals.
pub(super) fn is_request(bytes: &[u8]) -> bool {
    behind_empty(bytes)
        .first()
        .is_some_and(u8::is_ascii_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_empty_lines_are_looked_behind() {
        for (bytes, waits, request) in [
            (&b""[..], true, false),
            (b"\r", true, false),
            (b"\r\n\r", true, false),
            (b"GET", false, true),
            (b"\r\n\r\nG", false, true),
            (b"\nGET", false, false),
            (b"\r\r\nGET", false, false),
            (b"\r\n GET", false, false),
            (b"\r\n\x16\x03", false, false),
            (&b"\r\n".repeat(33), false, false),
        ] {
            let seen = (says_nothing(bytes), is_request(bytes));
            assert_eq!(seen, (waits, request), "{bytes:?}");
        }
    }
}
