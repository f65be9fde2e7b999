//! Who is asking: proxy credentials name the session; nothing inside a tunnel can.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::PROXY_AUTHORIZATION;

use super::refuse::ClientError;
use crate::ledger::Ledger;
use crate::ledger::sessions::Draft;
use crate::payment::{Session, SessionId};

/// Sessions that need no look into the ledger, or none yet.
#[derive(Default)]
pub struct Guests {
    /// The one of clients without credentials; `None` demands credentials.
    pub default_session: Option<SessionId>,
    /// The one that this process opens, which the ledger may not have yet.
    pub own: Option<Draft>,
}

/// Answers the question for one listener.
pub(super) struct Doorkeeper {
    ledger: Arc<dyn Ledger>,
    default_session: Option<SessionId>,
    own: Option<Own>,
}

/// The session that this process opens, as it means it to be. Whoever is in it is let in before the ledger
/// knows it, since forwarding needs no ledger; nothing can be paid in it until the ledger does.
struct Own {
    session: Arc<Session>,
    secret_sha256: Option<String>,
}

impl Doorkeeper {
    pub(super) fn new(ledger: Arc<dyn Ledger>, guests: Guests) -> Self {
        let own = guests.own.map(|draft| Own {
            session: Arc::new(draft.session),
            secret_sha256: draft.secret_sha256,
        });
        Self {
            ledger,
            default_session: guests.default_session,
            own,
        }
    }

    /// The session that these headers name. Expired and closed sessions are let in: their requests
    /// are forwarded, and refused only when they would cost something. So who it is counts, not what it has left, and
    /// nobody waits for a database that is silent.
    pub(super) async fn admit(&self, headers: &HeaderMap) -> Result<Arc<Session>, ClientError> {
        let mut credentials = headers.get_all(PROXY_AUTHORIZATION).iter();
        let (found, own) = match (credentials.next(), credentials.next()) {
            (None, _) => {
                let id = self.default_session.as_ref();
                let id = id.ok_or(ClientError::Credentials)?;
                let own = self.own.as_ref().filter(|own| own.session.id == *id);
                (self.ledger.identity(id).await, own)
            }
            (Some(value), None) => {
                let (agent, secret) = basic(value.as_bytes()).ok_or(ClientError::Credentials)?;
                let secret = sha256(secret.as_bytes());
                let found = self.ledger.identity_by_secret(&secret).await;
                let named = |session: &Session| *session.agent == *agent;
                let own = self.own.as_ref().filter(|own| {
                    own.secret_sha256.as_ref() == Some(&secret) && named(&own.session)
                });
                (found.map(|found| found.filter(named)), own)
            }
            (Some(_), Some(_)) => return Err(ClientError::Credentials),
        };
        match (found, own) {
            (Ok(Some(session)), _) => Ok(Arc::new(session)),
            (Ok(None) | Err(_), Some(own)) => Ok(Arc::clone(&own.session)),
            (Ok(None), None) => Err(ClientError::Credentials),
            (Err(_), None) => Err(ClientError::Ledger),
        }
    }

    /// A session that was let in, for the next request on the same connection: as the ledger has it, where
    /// it was not there before.
    pub(super) async fn again(&self, session: &Arc<Session>) -> Arc<Session> {
        match &self.own {
            Some(own) if Arc::ptr_eq(session, &own.session) => {
                match self.ledger.identity(&session.id).await {
                    Ok(Some(session)) => Arc::new(session),
                    Ok(None) | Err(_) => Arc::clone(session),
                }
            }
            Some(_) | None => Arc::clone(session),
        }
    }

    /// The same session as the ledger has it now: a connection may be older than what was made anew under
    /// its name. For those that would pay.
    pub(super) async fn renewed(&self, session: &Arc<Session>) -> Arc<Session> {
        match self.ledger.session(&session.id).await {
            Ok(Some(row)) => Arc::new(row.session),
            Ok(None) | Err(_) => Arc::clone(session),
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
