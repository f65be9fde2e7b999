//! Which header fields cross the proxy (RFC 9110 section 7.6.1), and which never do.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version, request};

use crate::protocol;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Hop-by-hop fields that go whether or not `Connection` names them. `Transfer-Encoding` is ours to
/// choose per hop; `Trailer` describes the message and stays.
static HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    KEEP_ALIVE,
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Fields that a `Connection` header cannot take away: they frame or route the message.
static PROTECTED: [HeaderName; 3] = [header::HOST, header::CONTENT_LENGTH, header::TE];

/// Fields that authorise, route or describe a message, and so must come before its body (RFC 9110
/// section 6.5.1).
static NEVER_TRAILERS: [HeaderName; 10] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::EXPECT,
    header::MAX_FORWARDS,
    header::SET_COOKIE,
    header::TRAILER,
];

/// Header names of ours begin so.
const PREFIX: &str = "farepass-";

static PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// `clean` for what an agent sends: a receipt means nothing on a request, and could make a merchant's
/// books lie (threat H-09).
pub(super) fn clean_request(headers: &mut HeaderMap) -> Option<HeaderValue> {
    remove_if(headers, protocol::is_receipt);
    clean(headers)
}

/// `clean` for what a merchant sends: nobody speaks in our name to the agent (threat H-10).
pub(super) fn clean_response(headers: &mut HeaderMap) -> Option<HeaderValue> {
    clean_status(headers);
    clean(headers)
}

/// Removes a `Proxy-Status` that names us (RFC 9209; in trailers too: section 2).
fn clean_status(fields: &mut HeaderMap) {
    let forged = |line: &HeaderValue| {
        let text = line.as_bytes().to_ascii_lowercase();
        memchr::memmem::find(&text, b"farepass").is_some()
    };
    if fields.get_all(&PROXY_STATUS).iter().any(forged) {
        remove_if(fields, |name| name == PROXY_STATUS);
    }
}

/// `clean_response` for what a merchant says before its answer (RFC 9110 section 15.2): nothing about
/// money, which only the answer itself can be about, and no length, as it has no body (section 8.6).
pub(super) fn clean_interim(headers: &mut HeaderMap) {
    clean_response(headers);
    keep_here(headers);
    remove_if(headers, |name| {
        protocol::is_payment(name)
            || protocol::is_receipt(name)
            || *name == header::WWW_AUTHENTICATE
            || *name == header::CONTENT_LENGTH
    });
}

/// Removes from trailers what decides about messages and money: those who read it there would read
/// something else than those who do not (RFC 9110 section 6.5.1, threat H-08).
pub(super) fn clean_trailers(trailers: &mut HeaderMap) {
    clean_status(trailers);
    remove_if(trailers, |name| {
        HOP_BY_HOP.iter().chain(&PROTECTED).any(|n| n == name)
            || is_ours(name)
            || protocol::is_payment(name)
            || protocol::is_receipt(name)
            || NEVER_TRAILERS.contains(name)
    });
}

/// Removes hop-by-hop fields, what `Connection` nominates, and every `Farepass-*` field. Returns the
/// protocol of a real upgrade (`Connection: upgrade` and one `Upgrade` field), if it is one.
pub(super) fn clean(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let upgrade = upgrade(headers);
    let nominated: Vec<HeaderName> = nominated(headers)
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        .filter(|name| !PROTECTED.contains(name))
        .collect();
    // TE says what the next hop may send; only `trailers` is about the message.
    let trailers = headers
        .get_all(header::TE)
        .iter()
        .any(|v| tokens(v).any(|t| t.eq_ignore_ascii_case("trailers")));
    remove_if(headers, |name| {
        HOP_BY_HOP.contains(name)
            || nominated.contains(name)
            || is_ours(name)
            || *name == header::TE && !trailers
    });
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    upgrade
}

/// Removes what would lead an agent around the proxy: another place or protocol for the same host
/// (RFC 7838). HTTP/3 is not proxied.
pub(super) fn keep_here(headers: &mut HeaderMap) {
    remove_if(headers, |name| *name == header::ALT_SVC);
}

/// Counts this proxy as one of those that may send an OPTIONS on (RFC 9110 section 7.6.2). True where none may: it is
/// for us then.
pub(super) fn ends_here(parts: &mut request::Parts) -> bool {
    if parts.method != Method::OPTIONS {
        return false;
    }
    let left = parts.headers.get(header::MAX_FORWARDS);
    let left = left.and_then(|left| left.to_str().ok()?.parse::<u64>().ok());
    match left.map(|left| left.checked_sub(1)) {
        None => false,
        Some(None) => true,
        Some(Some(left)) => {
            let left = HeaderValue::from(left);
            parts.headers.insert(header::MAX_FORWARDS, left);
            false
        }
    }
}

/// Adds this proxy to the way that a message came (RFC 9110 section 7.6.3).
pub(super) fn via(headers: &mut HeaderMap, version: Version, name: &str) {
    let version = match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    };
    if let Ok(value) = HeaderValue::try_from(format!("{version} {name}")) {
        headers.append(header::VIA, value);
    }
}

/// A gateway in front of a merchant may write `-` for `_`.
fn is_ours(name: &HeaderName) -> bool {
    let start = name.as_str().as_bytes().get(..PREFIX.len());
    start.is_some_and(|start| protocol::same_name(start, PREFIX.as_bytes()))
}

/// Takes fields away and leaves the others in their order, which `HeaderMap::remove` does not.
fn remove_if(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    if !headers.keys().any(&unwanted) {
        return;
    }
    let mut left = HeaderMap::with_capacity(headers.keys_len());
    let mut name = None;
    for (next, value) in std::mem::take(headers) {
        // Further values of a field come without its name.
        if let Some(next) = next {
            name = (!unwanted(&next)).then_some(next);
        }
        if let Some(name) = &name {
            left.append(name.clone(), value);
        }
    }
    *headers = left;
}

/// How long the sender of an answer keeps its connection, if it says so: `Keep-Alive: timeout=5` (RFC 2068 section
/// 19.7.1.1).
pub(super) fn kept_for(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(KEEP_ALIVE).iter();
    let seconds = lines.flat_map(tokens).filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = name
            .trim()
            .eq_ignore_ascii_case("timeout")
            .then_some(value)?;
        value.trim().trim_matches('"').parse().ok()
    });
    seconds.min().map(Duration::from_secs)
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    let text = value.to_str().unwrap_or_default();
    text.split(',').map(str::trim).filter(|t| !t.is_empty())
}

fn nominated(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(header::CONNECTION).iter().flat_map(tokens)
}

fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    if !nominated(headers).any(|name| name.eq_ignore_ascii_case("upgrade")) {
        return None;
    }
    let mut protocols = headers.get_all(header::UPGRADE).iter();
    let protocol = protocols.next()?;
    protocols.next().is_none().then(|| protocol.clone())
}

/// Joins the `cookie` fields that an HTTP/2 client may have split (RFC 9113 section 8.2.3).
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let mut joined = Vec::new();
    for crumb in headers.get_all(header::COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, value);
    }
}

/// Are these more than so many lines of a head? Cookies, which HTTP/2 may take apart, are one line (RFC 9113
/// section 8.2.3).
pub(super) fn exceed(headers: &HeaderMap, most: usize) -> bool {
    let crumbs = || headers.get_all(header::COOKIE).iter().count();
    headers.len() > most && headers.len() - crumbs().saturating_sub(1) > most
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_connection_header_takes_what_it_names_but_never_the_framing() {
        let mut headers = map(&[
            ("connection", "close, PAYMENT-SIGNATURE, x-mine"),
            ("connection", "Host, Content-Length"),
            ("payment-signature", "forged"),
            ("x-mine", "1"),
            ("x-other", "2"),
            ("host", "a.test"),
            ("content-length", "3"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic c2VjcmV0"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers, deflate"),
            ("farepass-payment", "pay_1"),
        ]);
        assert_eq!(clean(&mut headers), None);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "host", "te", "x-other"]);
        assert_eq!(headers["te"], "trailers");
    }

    #[test]
    fn receipts_on_requests_and_our_words_from_merchants_go() {
        let mut request = map(&[
            ("payment-response", "forged"),
            ("X-Payment-Response", "forged"),
            ("x_payment_response", "forged"),
            ("payment-receipt", "forged"),
            ("payment-required", "forged"),
            ("farepass-session", "other"),
            ("farepass_session", "other"),
            ("x-kept", "1"),
        ]);
        clean_request(&mut request);
        assert_eq!(request, map(&[("x-kept", "1")]));
        let lines = [
            ("payment-response", "a receipt is the merchant's to send"),
            ("proxy-status", "cdn.test; error=dns_error"),
        ];
        let mut response = map(&lines);
        clean_response(&mut response);
        assert_eq!(response, map(&lines));
        for forged in ["farepass; error=http_request_denied", "a, \"FarePass\""] {
            let mut response = map(&[("proxy-status", "cdn.test"), ("proxy-status", forged)]);
            response.append("farepass-decision", HeaderValue::from_static("denied"));
            clean_response(&mut response);
            assert!(response.is_empty(), "{response:?}");
        }
    }

    #[test]
    fn trailers_carry_neither_money_nor_framing() {
        let mut trailers = map(&[
            ("grpc-status", "0"),
            ("x-checksum", "1"),
            ("x-payment", "forged"),
            ("X_PAYMENT", "forged"),
            ("payment-signature", "forged"),
            ("payment-authorization", "forged"),
            ("authorization", "Payment forged"),
            ("payment-response", "forged"),
            ("payment-required", "forged"),
            ("farepass-payment", "pay_1"),
            ("content-length", "0"),
            ("transfer-encoding", "chunked"),
            ("connection", "close"),
            ("host", "other"),
            ("trailer", "x"),
        ]);
        clean_trailers(&mut trailers);
        assert_eq!(trailers, map(&[("grpc-status", "0"), ("x-checksum", "1")]));
    }

    #[test]
    fn an_upgrade_needs_both_fields() {
        let mut real = map(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
        ]);
        assert_eq!(clean(&mut real).unwrap(), "websocket");
        assert!(real.is_empty());
        assert_eq!(clean(&mut map(&[("upgrade", "h2c")])), None);
        assert_eq!(clean(&mut map(&[("connection", "upgrade")])), None);
    }

    #[test]
    fn the_shortest_promise_about_a_connection_is_believed() {
        let kept = |lines: &[&'static str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("keep-alive", *line)).collect();
            kept_for(&map(&lines)).map(|kept| kept.as_secs())
        };
        assert_eq!(kept(&["timeout=5"]), Some(5));
        assert_eq!(kept(&["max=100, Timeout = \"7\""]), Some(7));
        assert_eq!(kept(&["timeout=9", "timeout=8"]), Some(8));
        for nothing in [
            &["max=5"][..],
            &["timeout"],
            &["timeout=-1"],
            &["timeout=x"],
            &[],
        ] {
            assert_eq!(kept(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn duplicate_fields_keep_their_order() {
        let mut headers = map(&[("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x", "1")]);
        clean(&mut headers);
        let cookies: Vec<_> = headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
    }

    #[test]
    fn what_stays_keeps_its_order() {
        let mut headers = map(&[
            ("a", "1"),
            ("connection", "b"),
            ("b", "2"),
            ("c", "3"),
            ("keep-alive", "x"),
            ("d", "4"),
            ("c", "5"),
        ]);
        clean(&mut headers);
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        let left: Vec<_> = headers.iter().map(line).collect();
        assert_eq!(left, ["a: 1", "c: 3", "c: 5", "d: 4"]);
    }

    #[test]
    fn cookie_crumbs_become_one_field() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2")]);
        join_cookies(&mut headers);
        assert_eq!(headers["cookie"], "a=1; b=2");
        assert_eq!(headers.get_all("cookie").iter().count(), 1);
    }
}
