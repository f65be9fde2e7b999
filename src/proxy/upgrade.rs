//! Protocol upgrades, WebSocket above all: after the 101 the bytes are none of our business.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Response, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::body::{Body, Source};
use super::failure::UpstreamError;
use super::headers;
use super::refuse::{self, ClientError};
use super::relay::{Place, relay};
use super::serve::Conn;

/// An agent's wish to speak something else (RFC 9110 section 7.8).
#[derive(Clone)]
pub(super) struct Upgrade {
    client: OnUpgrade,
    /// Taken before anything is paid for: what has no place is not bought.
    place: Option<Place>,
}

/// Cleans the request's header fields and finds out whether it is an upgrade. Only HTTP/1.1 has them.
///
/// `h2c` is not carried on: requests inside it would go around the policy, and whoever asks for it must
/// be content without (RFC 9110 section 7.8).
pub(super) fn wanted(parts: &mut Parts, place: impl FnOnce() -> Option<Place>) -> Option<Upgrade> {
    let client = parts.extensions.remove::<OnUpgrade>();
    let protocol = headers::clean_request(&mut parts.headers)?;
    if parts.version != Version::HTTP_11 || names_h2c(&protocol) {
        return None;
    }
    let client = client?;
    nominate(&mut parts.headers, protocol);
    let place = place();
    Some(Upgrade { client, place })
}

impl Upgrade {
    /// Is there no place for it (`limits.tunnels`)?
    pub(super) fn is_crowded(&self) -> bool {
        self.place.is_none()
    }
}

fn names_h2c(protocol: &HeaderValue) -> bool {
    let mut names = protocol.as_bytes().split(|b| *b == b',');
    names.any(|name| name.trim_ascii().eq_ignore_ascii_case(b"h2c"))
}

fn nominate(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// Hands the 101 over, cleaned as any answer is, and joins the two streams; a 101 that nobody asked for is an error.
pub(super) fn join(
    conn: &Conn,
    response: &mut Response<Source>,
    wanted: Option<Upgrade>,
) -> Result<(), Response<Body>> {
    let Some(Upgrade { client, place }) = wanted else {
        return Err(refuse::gateway(&UpstreamError::Protocol));
    };
    let Some(place) = place else {
        return Err(ClientError::Crowded.response());
    };
    conn.heads.stop();
    let upstream = hyper::upgrade::on(&mut *response);
    let proxy = Arc::clone(&conn.proxy);
    tokio::spawn(async move {
        let (Ok(client), Ok(upstream)) = (client.await, upstream.await) else {
            return;
        };
        let (client, upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        if let Err(e) = relay(&proxy, place, client, upstream).await {
            tracing::debug!(error = %e, "upgraded connection ended");
        }
    });
    let version = std::mem::replace(response.version_mut(), Version::HTTP_11);
    let headers = response.headers_mut();
    let protocol = headers::clean_response(headers);
    headers::keep_here(headers);
    if let Some(protocol) = protocol {
        nominate(headers, protocol);
    }
    conn.via(headers, version);
    Ok(())
}
