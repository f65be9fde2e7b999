//! Opening, closing and renewing sessions. Secrets are made here, shown once, and kept as hashes.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::{Ledger, Post, PostError};
use crate::budget::{Entry, Reject};
use crate::clock::{Clock, Timestamp};
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

/// A session that the ledger does not have yet, and may have one day.
#[derive(Clone)]
pub struct Draft {
    /// The session as it is to be.
    pub session: Session,
    /// Of the secret that names it, in lower-case hexadecimal. Clients without credentials have none.
    pub secret_sha256: Option<String>,
    /// From when it begins.
    lasts: Duration,
}

impl Draft {
    /// A session with a secret of 256 random bits, and that secret. It is in no file and no log; whoever
    /// loses it opens another session.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn new(wanted: Wanted, clock: &dyn Clock) -> Result<(Self, SecretString), SessionError> {
        let mut bytes = zeroize::Zeroizing::new([0; 40]);
        getrandom::fill(&mut *bytes).map_err(|_| SessionError::Randomness)?;
        let (name, secret) = bytes.split_at(8);
        let secret = SecretString::from(hex::encode(secret));
        let id = format!("ses_{}", hex::encode(name));
        let draft = Self {
            lasts: wanted.expires,
            session: session(&id, wanted, clock)?,
            secret_sha256: Some(hex::encode(Sha256::digest(secret.expose_secret()))),
        };
        Ok((draft, secret))
    }

    /// How long it is to last from when it is opened.
    #[must_use]
    pub const fn lasts(&self) -> Duration {
        self.lasts
    }

    /// The session of clients without credentials.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn of_default(
        named: &Named,
        budget: Usd,
        expires: Duration,
        clock: &dyn Clock,
    ) -> Result<Self, SessionError> {
        let wanted = Wanted {
            agent: named.agent.clone(),
            budget,
            expires,
        };
        if !is_name(&named.id) {
            return Err(SessionError::Name);
        }
        Ok(Self {
            lasts: expires,
            session: session(&named.id, wanted, clock)?,
            secret_sha256: None,
        })
    }

    /// Opens it, or its next generation when it is expired or closed.
    ///
    /// # Errors
    /// [`PostError`]; the ledger rejects the renewal of a session that is still open.
    pub async fn open(&self, ledger: &dyn Ledger) -> Result<(), PostError> {
        let entry = Entry::OpenSession {
            session: self.session.clone(),
            secret_sha256: self.secret_sha256.clone(),
        };
        let post = Post {
            time: self.session.created,
            entries: vec![entry],
            event: None,
        };
        ledger.post(post).await.map(|_| ())
    }

    /// Opens it as of now when there is none of that id. One that is there stays as it is, whatever the
    /// configuration says now: a restart resets nothing.
    ///
    /// # Errors
    /// [`PostError`].
    pub async fn ensure(
        &self,
        ledger: &dyn Ledger,
        clock: &dyn Clock,
    ) -> Result<Session, PostError> {
        let id = &self.session.id;
        if let Some(row) = ledger.session(id).await? {
            return Ok(row.session);
        }
        let draft = Self {
            session: Session {
                created: clock.now().max(self.session.created),
                expires: clock.later().after_secs(self.lasts.as_secs()),
                ..self.session.clone()
            },
            ..self.clone()
        };
        let open = PostError::Rejected(Reject::SessionOpen);
        match draft.open(ledger).await {
            Ok(()) => Ok(draft.session),
            // Another proxy that shares the ledger was faster.
            Err(error) if error == open => {
                let row = ledger.session(id).await?;
                row.map(|row| row.session).ok_or(open)
            }
            Err(error) => Err(error),
        }
    }
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

fn session(id: &str, wanted: Wanted, clock: &dyn Clock) -> Result<Session, SessionError> {
    if !is_name(&wanted.agent) {
        return Err(SessionError::Agent);
    }
    Ok(Session {
        id: SessionId(id.into()),
        agent: Arc::from(wanted.agent),
        budget: wanted.budget,
        created: clock.now(),
        // By the clock that will end it.
        expires: clock.later().after_secs(wanted.expires.as_secs()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Fixed;

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
        let (draft, secret) = Draft::new(wanted("bot"), &Fixed(now)).unwrap();
        draft.open(&*ledger).await.unwrap();
        assert_eq!(secret.expose_secret().len(), 64);
        let hash = hex::encode(Sha256::digest(secret.expose_secret()));
        let found = ledger.session_by_secret(&hash).await.unwrap().unwrap();
        assert_eq!(found.session, draft.session);
        let other = ledger.session_by_secret(secret.expose_secret()).await;
        assert_eq!(other.unwrap(), None);
        for bad in ["", "a b", "a:b", "a@b", "ä", &"x".repeat(65)] {
            let refused = Draft::new(wanted(bad), &Fixed(now)).err().unwrap();
            assert!(matches!(refused, SessionError::Agent), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_restart_does_not_renew_the_default_session() {
        let ledger = super::super::in_memory();
        let minute = Duration::from_secs(60);
        let draft = |budget, now| {
            Draft::of_default(&Named::default(), Usd(budget), minute, &Fixed(now)).unwrap()
        };
        let (drafted, begun) = (Timestamp::from_secs(4), Timestamp::from_secs(10));
        let first = draft(1, drafted)
            .ensure(&*ledger, &Fixed(begun))
            .await
            .unwrap();
        let over = begun.after_secs(60);
        assert_eq!(
            (first.created, first.expires),
            (begun, over),
            "its time begins when it does"
        );
        let later = Timestamp::from_secs(500);
        let again = draft(9, later)
            .ensure(&*ledger, &Fixed(later))
            .await
            .unwrap();
        assert_eq!(again, first);
        draft(9, later).open(&*ledger).await.unwrap();
        let renewed = ledger.session(&first.id).await.unwrap().unwrap().session;
        assert_eq!((renewed.created, renewed.budget), (later, Usd(9)));
        let still_open = draft(9, later.after_secs(1)).open(&*ledger).await;
        assert!(still_open.is_err());
    }

    /// Told two times.
    struct Apart(Timestamp, Timestamp);

    impl Clock for Apart {
        fn now(&self) -> Timestamp {
            self.0
        }

        fn wall(&self) -> Timestamp {
            self.1
        }
    }

    #[tokio::test]
    async fn a_session_lasts_as_long_whichever_clock_is_ahead() {
        let ledger = super::super::in_memory();
        let (behind, ahead) = (Timestamp::from_secs(1000), Timestamp::from_secs(8500));
        let over = ahead.after_secs(60);
        for clock in [Apart(behind, ahead), Apart(ahead, behind)] {
            let (draft, _) = Draft::new(wanted("bot"), &clock).unwrap();
            assert_eq!(
                (draft.session.created, draft.session.expires),
                (clock.0, over)
            );
        }
        // Drafted before the clock was set, opened after it.
        let minute = Duration::from_secs(60);
        let early = Draft::of_default(&Named::default(), Usd(1), minute, &Fixed(behind)).unwrap();
        let begun = early.ensure(&*ledger, &Apart(behind, ahead)).await.unwrap();
        assert_eq!((begun.created, begun.expires), (behind, over));
    }

    #[tokio::test]
    async fn the_default_session_may_have_a_name_and_an_agent() {
        let ledger = super::super::in_memory();
        let (minute, now) = (Duration::from_secs(60), Timestamp::from_secs(10));
        let named = |id: &str, agent: &str| Named {
            id: id.into(),
            agent: agent.into(),
        };
        let draft = |named: &Named| Draft::of_default(named, Usd(1), minute, &Fixed(now));
        let pod = draft(&named("3f6a-uid", "research")).unwrap();
        let made = pod.ensure(&*ledger, &Fixed(now)).await.unwrap();
        assert_eq!((&*made.id.0, &*made.agent), ("3f6a-uid", "research"));
        let other = draft(&Named::default()).unwrap();
        let other = other.ensure(&*ledger, &Fixed(now)).await.unwrap();
        assert_ne!(other.id, made.id);
        for (bad, is_name) in [(named("a/b", "x"), true), (named("a", "x:y"), false)] {
            let refused = draft(&bad).err().unwrap();
            assert_eq!(matches!(refused, SessionError::Name), is_name, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn closing_twice_is_closing_once() {
        let ledger = super::super::in_memory();
        let now = Timestamp::from_secs(1000);
        let (draft, _) = Draft::new(wanted("bot"), &Fixed(now)).unwrap();
        draft.open(&*ledger).await.unwrap();
        let made = draft.session;
        close(&*ledger, &made.id, now).await.unwrap();
        close(&*ledger, &made.id, now).await.unwrap();
        assert!(ledger.session(&made.id).await.unwrap().unwrap().closed);
        let stranger = SessionId("ses_0".into());
        assert!(close(&*ledger, &stranger, now).await.is_err());
    }
}
