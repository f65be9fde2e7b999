//! Opening, closing and renewing sessions. Secrets are made here, shown once, and kept as hashes.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::{Ledger, Post, PostError};
use crate::budget::{Entry, Reject};
use crate::clock::Timestamp;
use crate::money::Usd;
use crate::payment::{Session, SessionId, is_name};

/// The session of clients without credentials, and its agent, where nothing names them.
pub const DEFAULT: &str = "default";

/// Whose session clients without credentials are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its id: letters, digits, `-`, `_` and `.`, at most 64.
    pub id: String,
    /// Its agent: the same.
    pub agent: String,
}

impl Default for Named {
    fn default() -> Self {
        Self {
            id: DEFAULT.into(),
            agent: DEFAULT.into(),
        }
    }
}

/// What a new session is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// For which agent: letters, digits, `-`, `_` and `.`, at most 64.
    pub agent: String,
    /// Most that may be spent in it.
    pub budget: Usd,
    /// How long it lives.
    pub expires: Duration,
}

/// Why there is no new session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The agent's name cannot stand in a URL or an account.
    #[error("an agent's name has 1 to 64 letters, digits, `-`, `_` or `.`")]
    Agent,
    /// Nor can the session's.
    #[error("a session's name has 1 to 64 letters, digits, `-`, `_` or `.`")]
    Name,
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness for a secret")]
    Randomness,
    /// The ledger did not store it.
    #[error(transparent)]
    Ledger(#[from] PostError),
}

/// Opens a session with a secret of 256 random bits, and returns both. The secret is in no file and
/// no log; whoever loses it opens another session.
///
/// # Errors
/// [`SessionError`].
pub async fn open(
    ledger: &dyn Ledger,
    wanted: Wanted,
    now: Timestamp,
) -> Result<(Session, SecretString), SessionError> {
    let mut bytes = zeroize::Zeroizing::new([0; 40]);
    getrandom::fill(&mut *bytes).map_err(|_| SessionError::Randomness)?;
    let (name, secret) = bytes.split_at(8);
    let secret = SecretString::from(hex::encode(secret));
    let id = format!("ses_{}", hex::encode(name));
    let session = session(&id, wanted, now)?;
    let sha256 = hex::encode(Sha256::digest(secret.expose_secret()));
    post(ledger, session.clone(), Some(sha256), now).await?;
    Ok((session, secret))
}

/// Opens the default session when there is none. One that is there stays as it is, whatever the
/// configuration says now: a restart resets nothing.
///
/// # Errors
/// [`SessionError`].
pub async fn ensure_default(
    ledger: &dyn Ledger,
    named: &Named,
    budget: Usd,
    expires: Duration,
    now: Timestamp,
) -> Result<Session, SessionError> {
    let id = SessionId(named.id.clone().into());
    if let Some(row) = ledger.session(&id).await? {
        return Ok(row.session);
    }
    let made = renew_default(ledger, named, budget, expires, now).await;
    let open = PostError::Rejected(Reject::SessionOpen);
    match made {
        // Another proxy that shares the ledger was faster.
        Err(SessionError::Ledger(error)) if error == open => {
            let row = ledger.session(&id).await?;
            row.map(|row| row.session).ok_or(SessionError::Ledger(open))
        }
        made => made,
    }
}

/// Opens the default session, or its next generation when it is expired or closed.
///
/// # Errors
/// [`SessionError`]; the ledger rejects the renewal of a session that is still open.
pub async fn renew_default(
    ledger: &dyn Ledger,
    named: &Named,
    budget: Usd,
    expires: Duration,
    now: Timestamp,
) -> Result<Session, SessionError> {
    let wanted = Wanted {
        agent: named.agent.clone(),
        budget,
        expires,
    };
    if !is_name(&named.id) {
        return Err(SessionError::Name);
    }
    let session = session(&named.id, wanted, now)?;
    post(ledger, session.clone(), None, now).await?;
    Ok(session)
}

/// Closes a session: nothing more is paid in it. What it spent stays counted.
///
/// # Errors
/// [`PostError`]; the ledger rejects an id that it does not know.
pub async fn close(ledger: &dyn Ledger, id: &SessionId, now: Timestamp) -> Result<(), PostError> {
    let posted = ledger
        .post(Post {
            time: now,
            entries: vec![Entry::CloseSession {
                session: id.clone(),
            }],
            event: None,
        })
        .await;
    match posted {
        // Closing twice is closing once.
        Ok(_) | Err(PostError::Rejected(Reject::SessionClosed)) => Ok(()),
        Err(e) => Err(e),
    }
}

fn session(id: &str, wanted: Wanted, now: Timestamp) -> Result<Session, SessionError> {
    if !is_name(&wanted.agent) {
        return Err(SessionError::Agent);
    }
    Ok(Session {
        id: SessionId(id.into()),
        agent: Arc::from(wanted.agent),
        budget: wanted.budget,
        created: now,
        expires: now.after_secs(wanted.expires.as_secs()),
    })
}

async fn post(
    ledger: &dyn Ledger,
    session: Session,
    secret_sha256: Option<String>,
    now: Timestamp,
) -> Result<(), PostError> {
    let entry = Entry::OpenSession {
        session,
        secret_sha256,
    };
    let post = Post {
        time: now,
        entries: vec![entry],
        event: None,
    };
    ledger.post(post).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(agent: &str) -> Wanted {
        Wanted {
            agent: agent.into(),
            budget: Usd(5),
            expires: Duration::from_secs(60),
        }
    }

    #[tokio::test]
    async fn a_session_is_found_by_its_secret_only() {
        let ledger = super::super::in_memory();
        let now = Timestamp::from_secs(1000);
        let (made, secret) = open(&*ledger, wanted("bot"), now).await.unwrap();
        assert_eq!(secret.expose_secret().len(), 64);
        let hash = hex::encode(Sha256::digest(secret.expose_secret()));
        let found = ledger.session_by_secret(&hash).await.unwrap().unwrap();
        assert_eq!(found.session, made);
        let other = ledger.session_by_secret(secret.expose_secret()).await;
        assert_eq!(other.unwrap(), None);
        for bad in ["", "a b", "a:b", "a@b", "ä", &"x".repeat(65)] {
            let refused = open(&*ledger, wanted(bad), now).await.err().unwrap();
            assert!(matches!(refused, SessionError::Agent), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_restart_does_not_renew_the_default_session() {
        let ledger = super::super::in_memory();
        let minute = Duration::from_secs(60);
        let own = Named::default();
        let first = ensure_default(&*ledger, &own, Usd(1), minute, Timestamp::from_secs(10)).await;
        let later = Timestamp::from_secs(500);
        let again = ensure_default(&*ledger, &own, Usd(9), minute, later)
            .await
            .unwrap();
        assert_eq!(again, first.unwrap());
        let renewed = renew_default(&*ledger, &own, Usd(9), minute, later)
            .await
            .unwrap();
        assert_eq!((renewed.created, renewed.budget), (later, Usd(9)));
        assert!(
            renew_default(&*ledger, &own, Usd(9), minute, later.after_secs(1))
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn the_default_session_may_have_a_name_and_an_agent() {
        let ledger = super::super::in_memory();
        let (minute, now) = (Duration::from_secs(60), Timestamp::from_secs(10));
        let named = |id: &str, agent: &str| Named {
            id: id.into(),
            agent: agent.into(),
        };
        let pod = named("3f6a-uid", "research");
        let made = ensure_default(&*ledger, &pod, Usd(1), minute, now).await;
        let made = made.unwrap();
        assert_eq!((&*made.id.0, &*made.agent), ("3f6a-uid", "research"));
        let other = ensure_default(&*ledger, &Named::default(), Usd(1), minute, now).await;
        assert_ne!(other.unwrap().id, made.id);
        for (bad, is_name) in [(named("a/b", "x"), true), (named("a", "x:y"), false)] {
            let refused = ensure_default(&*ledger, &bad, Usd(1), minute, now).await;
            let refused = refused.unwrap_err();
            assert_eq!(matches!(refused, SessionError::Name), is_name, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn closing_twice_is_closing_once() {
        let ledger = super::super::in_memory();
        let now = Timestamp::from_secs(1000);
        let (made, _) = open(&*ledger, wanted("bot"), now).await.unwrap();
        close(&*ledger, &made.id, now).await.unwrap();
        close(&*ledger, &made.id, now).await.unwrap();
        assert!(ledger.session(&made.id).await.unwrap().unwrap().closed);
        let stranger = SessionId("ses_0".into());
        assert!(close(&*ledger, &stranger, now).await.is_err());
    }
}
