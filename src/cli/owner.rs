//! Changing the ledger: as its owner for a moment, or by asking the proxy that owns it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::Value;

use super::{Exit, Failure};
use crate::admin;
use crate::admin::client::{Client, ClientError};
use crate::admin::purchase::Purchase;
use crate::admin::sessions::{self, Usual, Wanted};
use crate::app;
use crate::budget::{Asking, Frozen};
use crate::clock::{self, Clock as _, Timestamp};
use crate::config::Config;
use crate::ledger::{Ledger, OpenError, Opening, PostError};
use crate::money::Network;
use crate::payer::{self, Finding, Reconciler};
use crate::payment::{ApprovalId, PaymentId, SessionId};
use crate::policy::Question;

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
            Err(
                error @ (ClientError::NoProxy(_)
                | ClientError::Token(_)
                | ClientError::Silent(_)
                | ClientError::Refused { .. }),
            ) => Err(error.into()),
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
pub(super) async fn open_session(
    config: &Config,
    usual: &Usual,
    wanted: &Wanted,
) -> Result<Value, Failure> {
    let (dir, opening) = (&config.state_dir, &config.opening()?);
    let body = serde_json::to_value(wanted).unwrap_or_default();
    patiently(async || {
        let Some(ledger) = owned(opening)? else {
            return Try::of(asked(dir, Method::POST, "sessions", &body).await);
        };
        let clock = clock::System::starting_at(ledger.newest().await?);
        let opened = sessions::open(&*ledger, &clock, usual, wanted).await?;
        ledger.flush().await?;
        Ok(Try::Got(opened.document(&config.listen.told())))
    })
    .await
}

/// Closes a session.
pub(super) async fn close_session(opening: &Opening, id: &SessionId) -> Result<(), Failure> {
    let dir = &opening.state_dir;
    let path = format!("sessions/{id}");
    patiently(async || {
        let Some(ledger) = owned(opening)? else {
            return Try::of(asked(dir, Method::DELETE, &path, &Value::Null).await);
        };
        let now = clock::System::starting_at(ledger.newest().await?).now();
        sessions::close(&*ledger, now, id).await?;
        ledger.flush().await?;
        Ok(Try::Got(Value::Null))
    })
    .await
    .map(drop)
}

/// Looks at payments on their chains, a few at a time, and gives what was found.
pub(super) async fn reconcile(
    config: &Config,
    payments: &[PaymentId],
) -> Result<Vec<Finding>, Failure> {
    let (chains, wallets) = (app::chains(config)?, app::paying(config)?);
    let (dir, opening) = (&config.state_dir, &config.opening()?);
    let mut findings = vec![];
    for some in payments.chunks(admin::RECONCILE_MAX) {
        let body = serde_json::json!({ "payments": some });
        let found = patiently(async || {
            let Some(ledger) = owned(opening)? else {
                let asked = asked(dir, Method::POST, "reconcile", &body).await;
                return Try::of(
                    asked.map(|found| serde_json::from_value(found).unwrap_or_default()),
                );
            };
            let clock = clock::System::starting_at(ledger.newest().await?);
            let clock: Arc<dyn clock::Clock> = Arc::new(clock);
            let (chains, wallets) = (chains.clone(), wallets.clone());
            let own = Reconciler::new(Arc::clone(&ledger), chains, wallets, clock, Arc::new([]));
            let mut pass = own.pass();
            let mut found: Vec<Finding> = vec![];
            for id in some {
                found.push(pass.look(*id).await?);
            }
            ledger.flush().await?;
            Ok(Try::Got(found))
        });
        findings.append(&mut found.await?);
    }
    Ok(findings)
}

/// Answers a question, and gives it as it stands then.
pub(super) async fn answer(
    config: &Config,
    id: ApprovalId,
    approve: bool,
) -> Result<Asking, Failure> {
    let word = if approve { "approve" } else { "deny" };
    let path = format!("approvals/{id}/{word}");
    let answered = change(
        config,
        (Method::POST, &path, Value::Null),
        async |ledger, now| {
            let asking = payer::answer(ledger, id, approve, &clock::Fixed(now)).await?;
            Ok(serde_json::to_value(asking).unwrap_or_default())
        },
    );
    let unreadable = |e| Failure::new(Exit::Failed, format_args!("the answer is not one: {e}"));
    serde_json::from_value(answered.await?).map_err(unreadable)
}

/// Asks a person about a purchase that nobody has tried yet.
pub(super) async fn ask_ahead(
    config: &Config,
    payers: &[(Network, String)],
    purchase: &Purchase,
    question: &Question,
) -> Result<Asking, Failure> {
    let (dir, opening) = (&config.state_dir, &config.opening()?);
    let body = serde_json::to_value(purchase).unwrap_or_default();
    let session = SessionId(purchase.session.as_deref().unwrap_or_default().into());
    let unreadable = |e| Failure::new(Exit::Failed, format_args!("the answer is not one: {e}"));
    let asked = patiently(async || {
        let Some(ledger) = owned(opening)? else {
            return Try::of(asked(dir, Method::POST, "approvals", &body).await);
        };
        let clock = clock::System::starting_at(ledger.newest().await?);
        let policy = &config.policy;
        let when = (&clock as &dyn clock::Clock, payer::stopped(dir));
        let done = payer::ask_ahead(&*ledger, policy, payers, &session, question, when).await;
        let (asking, _) = done.map_err(|e| Failure::new(Exit::Failed, e))?;
        ledger.flush().await?;
        Ok(Try::Got(serde_json::to_value(asking).unwrap_or_default()))
    });
    serde_json::from_value(asked.await?).map_err(unreadable)
}

/// Freezes payments.
pub(super) async fn freeze(config: &Config, what: Frozen, why: &str) -> Result<(), Failure> {
    let mut body = whose(&what);
    if let Value::Object(members) = &mut body {
        members.insert("why".into(), why.into());
    }
    let done = change(
        config,
        (Method::POST, "freezes", body),
        async |ledger, now| {
            payer::freeze(ledger, what.clone(), why, now).await?;
            Ok(Value::Null)
        },
    );
    done.await.map(drop)
}

/// Allows them again.
pub(super) async fn unfreeze(config: &Config, what: Frozen) -> Result<(), Failure> {
    let asked = (Method::DELETE, "freezes", whose(&what));
    let done = change(config, asked, async |ledger, now| {
        payer::unfreeze(ledger, what.clone(), now).await?;
        Ok(Value::Null)
    });
    done.await.map(drop)
}

/// Forgets a host.
pub(super) async fn forget(config: &Config, host: &str) -> Result<(), Failure> {
    let path = format!("merchants/{host}");
    let done = change(
        config,
        (Method::DELETE, &path, Value::Null),
        async |ledger, now| {
            payer::forget(ledger, host, now).await?;
            Ok(Value::Null)
        },
    );
    done.await.map(drop)
}

fn whose(what: &Frozen) -> Value {
    match what {
        Frozen::All => serde_json::json!({ "scope": "all" }),
        Frozen::Host(name) => serde_json::json!({ "scope": "host", "name": name }),
        Frozen::Agent(name) => serde_json::json!({ "scope": "agent", "name": name }),
    }
}

/// Changes the ledger: as its owner, or by asking the one who is.
async fn change(
    config: &Config,
    (method, path, body): (Method, &str, Value),
    mut directly: impl AsyncFnMut(&dyn Ledger, Timestamp) -> Result<Value, PostError>,
) -> Result<Value, Failure> {
    let (dir, opening) = (&config.state_dir, &config.opening()?);
    patiently(async || {
        let Some(ledger) = owned(opening)? else {
            return Try::of(asked(dir, method.clone(), path, &body).await);
        };
        let now = clock::System::starting_at(ledger.newest().await?).now();
        let done = directly(&*ledger, now).await?;
        ledger.flush().await?;
        Ok(Try::Got(done))
    })
    .await
}

/// The ledger, or nothing when somebody else owns it. One that is shared belongs to whoever writes.
fn owned(opening: &Opening) -> Result<Option<Arc<dyn Ledger>>, Failure> {
    match opening.open() {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A session that was asked for twice would be two.
    #[test]
    fn what_may_have_been_done_is_not_asked_again() {
        let at = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let busy = Try::<()>::of(Err(ClientError::Connection(at, "refused".into())));
        assert!(matches!(busy, Ok(Try::Busy(_))));
        assert!(Try::<()>::of(Err(ClientError::Silent(at))).is_err());
    }
}
