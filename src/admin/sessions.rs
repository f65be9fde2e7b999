//! Opening and closing sessions as people ask for it: the same steps for the API and for commands
//! that own the ledger.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::budget::Reject;
use crate::clock::{Clock, Timestamp};
use crate::ledger::sessions::{self as book, Draft, Named};
use crate::ledger::{Ledger, PostError, SessionRow};
use crate::money::Usd;
use crate::payment::SessionId;
use crate::settings::{Entrance, Sessions, Span};

/// The agent of a session that was asked for without one.
const AGENT: &str = "agent";

/// What is asked for. What is left out is as in `sessions.default` of the configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Name of the agent; also the user of the proxy URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Most that may be spent in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Usd>,
    /// How long it lasts: `60m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// The session of clients without credentials, made anew after it is over.
    #[serde(default)]
    pub default: bool,
}

/// What a session has unless it is asked otherwise.
#[derive(Clone, Debug)]
pub struct Usual {
    /// Most that may be spent in it.
    pub budget: Usd,
    /// How long it lasts.
    pub expires: Duration,
    /// Whose session clients without credentials are in.
    pub named: Named,
}

impl Usual {
    /// As configured. A budget that was asked for may only be less than the configured one.
    #[must_use]
    pub fn new(sessions: &Sessions, named: Named, budget: Option<Usd>) -> Self {
        let most = sessions.budget;
        if let Some(asked) = budget.filter(|asked| *asked > most) {
            tracing::warn!(%asked, configured = %most, "a budget above sessions.default is not given; the configured one is");
        }
        Self {
            budget: budget.map_or(most, |asked| asked.min(most)),
            expires: sessions.expires,
            named,
        }
    }
}

/// Why there is no such session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Not a length of time, or none at all.
    #[error("expires: write a length of time as \"60m\", from 1s to 3650d")]
    Expires,
    /// The default session has a name already.
    #[error("the default session is for whoever brings no credentials: it takes no agent")]
    DefaultAgent,
    /// The default session is open still.
    #[error("the default session is still open; close it first: farepass session close default")]
    StillOpen,
    /// No session of that id.
    #[error("there is no session of that id")]
    Unknown,
    /// The rest.
    #[error(transparent)]
    Other(book::SessionError),
}

impl From<book::SessionError> for SessionError {
    fn from(error: book::SessionError) -> Self {
        match error {
            book::SessionError::Ledger(error) => error.into(),
            other @ (book::SessionError::Agent
            | book::SessionError::Name
            | book::SessionError::Randomness) => Self::Other(other),
        }
    }
}

impl From<PostError> for SessionError {
    fn from(error: PostError) -> Self {
        match error {
            PostError::Rejected(Reject::SessionOpen) => Self::StillOpen,
            PostError::Rejected(Reject::NoSuchSession) => Self::Unknown,
            other => Self::Other(book::SessionError::Ledger(other)),
        }
    }
}

/// A session that was just opened. The secret is here and with whoever gets it, nowhere else.
pub struct Opened {
    /// The session and how it stands.
    pub row: SessionRow,
    secret: Option<SecretString>,
}

impl Opened {
    /// The proxy URL: all that an agent needs. Holds the secret. A proxy on all addresses is reached
    /// on this machine's own.
    #[must_use]
    pub fn url(&self, proxy: &Entrance) -> Zeroizing<String> {
        let agent = &self.row.session.agent;
        let secret = self.secret.as_ref();
        let credentials = secret.map(|secret| (&**agent, secret.expose_secret()));
        Zeroizing::new(proxy.here().url(credentials))
    }

    /// The session with its proxy URL, as the API and `--json` give it: once.
    #[must_use]
    pub fn document(&self, proxy: &Entrance) -> Value {
        let mut document = serde_json::to_value(&self.row).unwrap_or_default();
        if let Value::Object(members) = &mut document {
            members.insert("proxy".into(), self.url(proxy).as_str().into());
        }
        document
    }
}

/// Opens a session.
///
/// # Errors
/// [`SessionError`]; nothing was opened then.
pub async fn open(
    ledger: &dyn Ledger,
    clock: &dyn Clock,
    usual: &Usual,
    wanted: &Wanted,
) -> Result<Opened, SessionError> {
    let (opened, draft) = draft(clock, usual, wanted)?;
    if wanted.default
        && let Some(old) = ledger.session(&draft.session.id).await?
        && !old.closed
        && old.session.expires <= clock.later()
    {
        // The book sees no wall clock, by which it may be over.
        book::close(ledger, &draft.session.id, clock.now()).await?;
    }
    draft.open(ledger).await?;
    Ok(opened)
}

/// A session as it will be once it is opened, and what there is to open.
///
/// # Errors
/// [`SessionError`].
pub fn draft(
    clock: &dyn Clock,
    usual: &Usual,
    wanted: &Wanted,
) -> Result<(Opened, Draft), SessionError> {
    let budget = wanted.budget.unwrap_or(usual.budget);
    let expires = match &wanted.expires {
        Some(text) => text.parse::<Span>().map_err(|_| SessionError::Expires)?.0,
        None => usual.expires,
    };
    if expires.as_secs() == 0 {
        return Err(SessionError::Expires);
    }
    let (draft, secret) = match (wanted.default, &wanted.agent) {
        (true, Some(agent)) if *agent != usual.named.agent => {
            return Err(SessionError::DefaultAgent);
        }
        (true, _) => (
            Draft::of_default(&usual.named, budget, expires, clock)?,
            None,
        ),
        (false, agent) => {
            let wanted = book::Wanted {
                agent: agent.clone().unwrap_or_else(|| AGENT.into()),
                budget,
                expires,
            };
            let (draft, secret) = Draft::new(wanted, clock)?;
            (draft, Some(secret))
        }
    };
    let row = SessionRow {
        session: draft.session.clone(),
        closed: false,
        spent: Usd::default(),
        payments: 0,
    };
    Ok((Opened { row, secret }, draft))
}

/// Closes a session. Closing twice changes nothing.
///
/// # Errors
/// [`SessionError::Unknown`], or the ledger's.
pub async fn close(
    ledger: &dyn Ledger,
    now: Timestamp,
    id: &SessionId,
) -> Result<SessionRow, SessionError> {
    book::close(ledger, id, now).await?;
    ledger.session(id).await?.ok_or(SessionError::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Fixed;

    /// Stands at this time, with the wall ahead of it by so many seconds.
    struct Ahead(u64, u64);

    impl Clock for Ahead {
        fn now(&self) -> Timestamp {
            Timestamp::from_secs(self.0)
        }

        fn wall(&self) -> Timestamp {
            self.now().after_secs(self.1)
        }
    }

    #[tokio::test]
    async fn the_default_session_is_renewed_when_it_is_over_by_the_wall_clock() {
        let ledger = crate::ledger::in_memory();
        let usual = Usual {
            budget: Usd(1),
            expires: Duration::from_secs(60),
            named: Named::default(),
        };
        let wanted = Wanted {
            default: true,
            ..Wanted::default()
        };
        let open = async |clock: &dyn Clock| open(&*ledger, clock, &usual, &wanted).await;
        open(&Fixed(Timestamp::from_secs(1000))).await.unwrap();
        let still = open(&Ahead(1001, 58)).await.err();
        assert!(matches!(still, Some(SessionError::StillOpen)), "{still:?}");
        let renewed = open(&Ahead(1002, 7500)).await.unwrap().row.session;
        assert_eq!(renewed.created, Timestamp::from_secs(1002));
        assert_eq!(renewed.expires, Timestamp::from_secs(1002 + 7500 + 60));
    }
}
