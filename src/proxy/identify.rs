//! Who is asking: proxy credentials name the session; nothing inside a tunnel can.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::PROXY_AUTHORIZATION;

use super::refuse::ClientError;
use crate::ledger::Ledger;
use crate::payment::{Session, SessionId};

/// Answers the question for one listener.
pub(super) struct Doorkeeper {
    pub(super) ledger: Arc<dyn Ledger>,
    /// The session of clients without credentials; `None` demands credentials.
    pub(super) default_session: Option<SessionId>,
}

impl Doorkeeper {
    /// The session that these headers name. Expired and closed sessions are let in: their requests
    /// are forwarded, and refused only when they would cost something.
    pub(super) async fn admit(&self, headers: &HeaderMap) -> Result<Arc<Session>, ClientError> {
        let mut credentials = headers.get_all(PROXY_AUTHORIZATION).iter();
        let row = match (credentials.next(), credentials.next()) {
            (None, _) => {
                let id = self.default_session.as_ref();
                self.ledger
                    .session(id.ok_or(ClientError::Credentials)?)
                    .await
            }
            (Some(value), None) => {
                let (agent, secret) = basic(value.as_bytes()).ok_or(ClientError::Credentials)?;
                let found = self
                    .ledger
                    .session_by_secret(&sha256(secret.as_bytes()))
                    .await;
                found.map(|row| row.filter(|row| *row.session.agent == *agent))
            }
            (Some(_), Some(_)) => return Err(ClientError::Credentials),
        };
        match row {
            Ok(Some(row)) => Ok(Arc::new(row.session)),
            Ok(None) => Err(ClientError::Credentials),
            Err(_) => Err(ClientError::Ledger),
        }
    }
}

/// User and password of a Basic credential (RFC 7617). The secret is looked up by its hash, so the
/// time of the look-up tells nothing about it.
#[must_use]
pub fn basic(value: &[u8]) -> Option<(String, zeroize::Zeroizing<String>)> {
    let text = std::str::from_utf8(value).ok()?;
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = zeroize::Zeroizing::new(STANDARD.decode(encoded.trim()).ok()?);
    let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((
        user.to_owned(),
        zeroize::Zeroizing::new(password.to_owned()),
    ))
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes))
}
