//! Changing the ledger: as its owner for a moment, or by asking the proxy that owns it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::Value;

use super::Failure;
use crate::admin::client::{Client, ClientError};
use crate::admin::sessions::{self, Usual, Wanted};
use crate::clock::{self, Clock as _};
use crate::config::Config;
use crate::ledger::{self, Ledger, OpenError};
use crate::payment::SessionId;

/// Between two tries to get at a ledger that is in use.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a holder may take to say where it is. A proxy starts within a second; a command is done
/// sooner.
const TRIES: u32 = 100;

/// What came of one try to get at the ledger.
pub(super) enum Try<T> {
    /// It was got at, directly or through its owner.
    Got(T),
    /// Somebody holds it who does not answer: one that is starting, ending, or only a command.
    Busy(ClientError),
}

/// The same with errors that may pass told apart.
impl<T> Try<T> {
    /// Was the owner reached?
    pub(super) fn of(asked: Result<T, ClientError>) -> Result<Self, Failure> {
        match asked {
            Ok(got) => Ok(Self::Got(got)),
            Err(error @ (ClientError::NoBeacon(_) | ClientError::Connection(..))) => {
                Ok(Self::Busy(error))
            }
            Err(error @ (ClientError::Token(_) | ClientError::Refused { .. })) => Err(error.into()),
        }
    }
}

/// Tries until the ledger is free or its owner answers.
pub(super) async fn patiently<T>(
    mut attempt: impl AsyncFnMut() -> Result<Try<T>, Failure>,
) -> Result<T, Failure> {
    let mut left = TRIES;
    loop {
        match attempt().await? {
            Try::Got(got) => return Ok(got),
            Try::Busy(error) if left == 0 => return Err(error.into()),
            Try::Busy(_) => left -= 1,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Opens a session, and gives it with its proxy URL.
pub(super) async fn open_session(config: &Config, wanted: &Wanted) -> Result<Value, Failure> {
    let usual = Usual {
        budget: config.sessions.budget,
        expires: config.sessions.expires,
    };
    let dir = &config.state_dir;
    let body = serde_json::to_value(wanted).unwrap_or_default();
    patiently(async || {
        let Some(ledger) = owned(dir)? else {
            return Try::of(asked(dir, Method::POST, "sessions", &body).await);
        };
        let now = clock::System::starting_at(ledger.newest().await?).now();
        let opened = sessions::open(&*ledger, now, &usual, wanted).await?;
        ledger.flush().await?;
        Ok(Try::Got(opened.document(config.listen.proxy)))
    })
    .await
}

/// Closes a session.
pub(super) async fn close_session(state_dir: &Path, id: &SessionId) -> Result<(), Failure> {
    patiently(async || {
        let Some(ledger) = owned(state_dir)? else {
            let path = format!("sessions/{id}");
            return Try::of(asked(state_dir, Method::DELETE, &path, &Value::Null).await);
        };
        let now = clock::System::starting_at(ledger.newest().await?).now();
        sessions::close(&*ledger, now, id).await?;
        ledger.flush().await?;
        Ok(Try::Got(Value::Null))
    })
    .await
    .map(drop)
}

/// The ledger, or nothing when somebody else owns it.
fn owned(state_dir: &Path) -> Result<Option<Arc<dyn Ledger>>, Failure> {
    match ledger::open(state_dir) {
        Ok(ledger) => Ok(Some(ledger)),
        Err(OpenError::InUse { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn asked(
    state_dir: &Path,
    method: Method,
    path: &str,
    body: &Value,
) -> Result<Value, ClientError> {
    let client = Client::beside(state_dir)?;
    client.ask(method, path, body).await
}
