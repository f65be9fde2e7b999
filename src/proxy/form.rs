//! A request in the form that its upstream's version of HTTP asks for.

use http::header::{self, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};
use http_body::Body as _;

use super::body::Body;
use super::failure::UpstreamError;
use super::headers;
use super::pool::Key;
use super::target::Target;

/// For HTTP/1.1 to an origin: path only, and exactly one `Host` (RFC 9112 section 3.2).
pub(super) fn origin_form(request: &mut Request<Body>, key: &Key) -> Result<(), UpstreamError> {
    if request.uri().authority().is_some() {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
    }
    let default = if key.secure { 443 } else { 80 };
    if request.headers().get_all(header::HOST).iter().count() != 1 {
        let host = HeaderValue::try_from(key.target.authority(default));
        let host = host.map_err(|_| UpstreamError::Protocol)?;
        request.headers_mut().insert(header::HOST, host);
    }
    let empty = request.body().is_end_stream();
    if request.version() == Version::HTTP_2 {
        headers::join_cookies(request.headers_mut());
        if empty && means_a_body(request.method()) && !is_sized(request) {
            // HTTP/2 says it by a flag, HTTP/1.1 says it in words (RFC 9110 section 8.6).
            let nothing = HeaderValue::from_static("0");
            request
                .headers_mut()
                .insert(header::CONTENT_LENGTH, nothing);
        }
    }
    *request.version_mut() = Version::HTTP_11;
    let sized = is_sized(request);
    let headers = request.headers_mut();
    if headers.contains_key(header::TE) {
        headers.append(header::CONNECTION, HeaderValue::from_static("te"));
    }
    if !sized && !empty {
        // Said outright: without it the HTTP library takes a GET for one without a body.
        let chunked = HeaderValue::from_static("chunked");
        request
            .headers_mut()
            .insert(header::TRANSFER_ENCODING, chunked);
    }
    Ok(())
}

/// Does a request with this method usually have a body?
pub(super) fn means_a_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

fn is_sized(request: &Request<Body>) -> bool {
    request.headers().contains_key(header::CONTENT_LENGTH)
}

/// For HTTP/2: scheme, authority and path as pseudo-header fields, and no `Host` beside them.
pub(super) fn absolute_form(
    request: &mut Request<Body>,
    target: &Target,
) -> Result<(), UpstreamError> {
    for name in [header::HOST, header::CONNECTION, header::TRANSFER_ENCODING] {
        request.headers_mut().remove(name);
    }
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTPS);
    if parts.authority.is_none() {
        let authority = Authority::try_from(target.authority(443));
        parts.authority = Some(authority.map_err(|_| UpstreamError::Protocol)?);
    }
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| UpstreamError::Protocol)?;
    *request.version_mut() = Version::HTTP_2;
    Ok(())
}
