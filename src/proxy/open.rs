//! Requests in absolute form: each says itself where it goes (RFC 9112 section 3.2.2).
//!
//! For `https` most clients open a tunnel. Some (axios for years) send such a request as they send one for `http`, and
//! leave the TLS to the proxy. It is taken as if it had come through a tunnel that is opened here; only the way to us
//! is not the same.

use http::request::Parts;

use super::Proxy;
use super::refuse::ClientError;
use super::target::Target;
use super::trail::Trail;
use super::tunnel::Passage;

/// Where this request goes, and whether by TLS. `private`: nobody else reads what comes on its connection.
pub(super) async fn passage(
    proxy: &Proxy,
    parts: &Parts,
    private: bool,
) -> Result<(Passage, bool), ClientError> {
    let authority = parts.uri.authority().ok_or(ClientError::NotProxyForm)?;
    let (secure, port) = match parts.uri.scheme_str() {
        Some("http") => (false, 80),
        // What its client means to be secret would cross a network in the clear.
        Some("https") if !private => return Err(ClientError::Exposed),
        Some("https") => (true, 443),
        Some(_) | None => return Err(ClientError::NotProxyForm),
    };
    let session = proxy.doorkeeper.admit(&parts.headers).await?;
    let target = Target::parse(authority.as_str(), Some(port))?;
    // It could not go there but opened, and the operator wants it unread.
    if secure && proxy.passes(&target) {
        return Err(ClientError::Unopened);
    }
    let passage = Passage {
        target,
        session,
        trail: Trail::of(&parts.headers, &proxy.mark)?,
    };
    Ok((passage, secure))
}
