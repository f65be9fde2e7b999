//! Where a URL of a challenge is: the merchant writes it, and may write anything.

use http::Uri;

use super::{normalise_host, port};

/// Host and written port of an absolute URL, or of one that only leaves out its scheme; the host is `None` when it
/// is no host name. Anything else (a path, a tool's name, `mcp://…`, in a `call` also `x402://…`) names no host, so
/// nothing can be compared.
/// Blanks around it, tabs and line breaks anywhere and slashes of either kind are taken as browsers take them
/// (WHATWG URL section 4.4).
///
/// Only a port that is written counts, and `http` is taken like `https`: a server behind a TLS
/// terminator does not know how it is reached.
#[must_use]
pub fn origin(resource: &str, call: bool) -> Option<(Option<String>, Option<u16>)> {
    let blank = |c: char| c <= ' ';
    let slash = ['/', '\\'];
    let unseen = ['\t', '\n', '\r'];
    let seen = resource
        .contains(unseen)
        .then(|| resource.replace(unseen, ""));
    let resource = seen.as_deref().unwrap_or(resource).trim_matches(blank);
    let (scheme, rest) = match resource.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
        _ => (String::new(), resource),
    };
    let authority = match &*scheme {
        "http" | "https" => rest.trim_start_matches(slash),
        // Names of tools and of their resources (MCP).
        "mcp" => return None,
        // The same in Cloudflare's kit.
        "x402" if call => return None,
        _ => rest.strip_prefix(slash)?.strip_prefix(slash)?,
    };
    let authority = authority.split(['/', '\\', '?', '#']).next();
    let Ok(uri) = format!("https://{}/", authority.unwrap_or_default()).parse::<Uri>() else {
        // It wants to be a URL, and which host it means is anybody's guess.
        return Some((None, None));
    };
    let host = uri.host().and_then(|host| normalise_host(host).ok());
    let default = match &*scheme {
        "http" | "ws" => 80,
        _ => 443,
    };
    match uri.authority().and_then(|a| port(a, default)) {
        Some(port) => Some((host, Some(port).filter(|port| *port != default))),
        None => Some((None, None)),
    }
}

/// RFC 3986 section 3.1.
fn is_scheme(text: &str) -> bool {
    let of_scheme = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(of_scheme)
}
