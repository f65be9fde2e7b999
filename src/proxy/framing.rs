//! Where a message ends must be beyond doubt, or one message can hide in another (threats H-01, H-08;
//! RFC 9112 section 6). The HTTP library refuses most of what is doubtful; the rest is refused here.

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Uri, Version, request, response};

use super::failure::UpstreamError;
use super::refuse::ClientError;

/// Is this request one that can be forwarded without guessing?
pub(super) fn request(parts: &request::Parts) -> Result<(), ClientError> {
    if !target(&parts.method, &parts.uri) {
        return Err(ClientError::Form);
    }
    match only_chunked(&parts.headers) {
        true => Ok(()),
        false => Err(ClientError::Framing),
    }
}

/// Authority form belongs to CONNECT, and `*` to OPTIONS (RFC 9112 section 3.2).
fn target(method: &Method, uri: &Uri) -> bool {
    let bare_authority = uri.authority().is_some() && uri.scheme().is_none();
    let star = uri.path() == "*";
    !bare_authority && (!star || *method == Method::OPTIONS)
}

/// No transfer coding, or `chunked` once. Others would be taken off without being undone.
fn only_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => chunked(coding),
        (Some(_), Some(_)) => false,
    }
}

/// Is the end of this answer beyond doubt? Repeated equal lengths become one (RFC 9110 section 8.6).
pub(super) fn response(head: &mut response::Parts) -> Result<(), UpstreamError> {
    if head.version == Version::HTTP_2 {
        return Ok(());
    }
    let coded = head.headers.contains_key(TRANSFER_ENCODING);
    if !only_chunked(&head.headers) || coded && head.headers.contains_key(CONTENT_LENGTH) {
        return Err(UpstreamError::Protocol);
    }
    one_length(&mut head.headers).ok_or(UpstreamError::Protocol)
}

/// Lengths that agree become one line; `None` when they do not.
pub(super) fn one_length(headers: &mut HeaderMap) -> Option<()> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let plain = |value: &HeaderValue| value.as_bytes().iter().all(u8::is_ascii_digit);
    match (lengths.next(), lengths.next()) {
        (None, _) => return Some(()),
        (Some(one), None) if plain(one) => return Some(()),
        (Some(_), _) => {}
    }
    let one = length(headers)?;
    headers.insert(CONTENT_LENGTH, HeaderValue::from(one));
    Some(())
}

/// The length that all of the values agree on.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for text in value.to_str().ok()?.split(',') {
            let text = text.trim();
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let here: u64 = text.parse().ok().filter(|_| digits)?;
            if length.is_some_and(|before| before != here) {
                return None;
            }
            length = Some(here);
        }
    }
    length
}

/// Does only the end of the connection end this body? Then nobody can tell a whole one from one that
/// was cut (threat H-06).
pub(super) fn ends_with_connection(head: &response::Parts) -> bool {
    head.version < Version::HTTP_2
        && !head.headers.contains_key(CONTENT_LENGTH)
        && !head.headers.contains_key(TRANSFER_ENCODING)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(lines: &[(&'static str, &'static str)]) -> response::Parts {
        let mut response = http::Response::new(());
        for (name, value) in lines {
            response
                .headers_mut()
                .append(*name, HeaderValue::from_static(value));
        }
        response.into_parts().0
    }

    #[test]
    fn answers_with_two_ends_are_refused() {
        for lines in [
            &[("transfer-encoding", "chunked"), ("content-length", "3")][..],
            &[("transfer-encoding", "gzip, chunked")],
            &[
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked"),
            ],
            &[("transfer-encoding", "xchunked")],
            &[("content-length", "3"), ("content-length", "4")],
            &[("content-length", "3, 4")],
            &[("content-length", "+3")],
            &[("content-length", "3,")],
        ] {
            assert!(response(&mut head(lines)).is_err(), "{lines:?}");
        }
    }

    #[test]
    fn equal_lengths_become_one() {
        for lines in [
            &[("content-length", "3"), ("content-length", "3")][..],
            &[("content-length", "3, 3")],
            &[("content-length", "3")],
        ] {
            let mut head = head(lines);
            response(&mut head).unwrap();
            let left: Vec<_> = head.headers.get_all(CONTENT_LENGTH).iter().collect();
            assert_eq!(left, ["3"], "{lines:?}");
        }
    }

    #[test]
    fn targets_have_the_form_of_their_method() {
        let fits = |method: Method, uri: &'static str| target(&method, &Uri::from_static(uri));
        for (method, uri, fit) in [
            (Method::GET, "/x", true),
            (Method::GET, "http://a.test/x", true),
            (Method::OPTIONS, "*", true),
            (Method::GET, "*", false),
            (Method::GET, "a.test:443", false),
        ] {
            assert_eq!(fits(method.clone(), uri), fit, "{method} {uri}");
        }
    }
}
