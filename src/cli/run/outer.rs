//! The session that the environment is in already: this `run` is inside of another one, or of whatever was given the
//! proxy URL of a session. A session of its own would spend beside that one's budget.

use std::net::SocketAddr;
use std::time::Duration;

use zeroize::Zeroizing;

use super::access::Wish;
use crate::admin::Beacon;
use crate::cli::mcp;
use crate::cli::{Exit, Failure};
use crate::clock::{self, Timestamp};
use crate::config::Config;
use crate::ledger::{OpenError, SessionRow};
use crate::money::Usd;
use crate::payment::Reason;
use crate::settings::Span;

/// How long a proxy may be away whose place is being taken, and from one look to the next.
const AWAY: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(50);

/// An open session of this ledger, and the proxy that pays in it.
pub(super) struct Outer {
    /// User and password, as the URL has them.
    user: Zeroizing<String>,
    pub(super) row: SessionRow,
    pub(super) beacon: Beacon,
}

impl Outer {
    /// `None` where the environment names no session of this ledger, or no proxy runs.
    ///
    /// # Errors
    /// When that session is over: one of its own would be a new budget. When the ledger of a proxy that runs cannot
    /// be read. Where none runs, whoever starts one says what is wrong, or mends it.
    pub(super) async fn find(config: &Config) -> Result<Option<Self>, Failure> {
        let Some((user, sha256)) = mcp::credentials() else {
            return Ok(None);
        };
        let row = match row(config, &sha256).await {
            Ok(row) => row,
            Err(_) if Beacon::seen(&config.state_dir).is_none() => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(row) = row else {
            return Ok(None);
        };
        open(&row, clock::wall())?;
        let beacon = async {
            loop {
                match Beacon::seen(&config.state_dir) {
                    Some(beacon) => return beacon,
                    None => tokio::time::sleep(LOOK).await,
                }
            }
        };
        if let Ok(beacon) = tokio::time::timeout(AWAY, beacon).await {
            return Ok(Some(Self { user, row, beacon }));
        }
        // It may have ended together with its proxy.
        if let Some(row) = self::row(config, &sha256).await? {
            open(&row, clock::wall())?;
        }
        Ok(None)
    }

    /// Can this be wished inside of it? What is to be said of it then.
    ///
    /// # Errors
    /// When less is wished than is left: the session is spent by all that is in it, which nobody can tell apart.
    pub(super) fn may(&self, wish: &Wish) -> Result<String, Failure> {
        let session = &self.row.session;
        let left = session.budget.minus(self.row.spent).unwrap_or_default();
        let agent = &session.agent;
        if wish.budget.is_some_and(|budget| budget < left) {
            return Err(Failure::new(Exit::Usage, unheld(left)));
        }
        let now = clock::wall();
        let ends = |text: &String| Some(now.after_secs(text.parse::<Span>().ok()?.0.as_secs()));
        // What is no length of time is an end at once.
        if let Some(text) = &wish.expires
            && ends(text).is_none_or(|at| at < session.expires)
        {
            return Err(Failure::new(Exit::Usage, unended(session.expires)));
        }
        let told = format!("in the session of the proxy in the environment: {agent}, {left} left");
        Ok(match &wish.agent {
            Some(other) if **other != **agent => format!("{told}; --agent {other} is not used"),
            Some(_) | None => told,
        })
    }

    /// The same session, at this address.
    pub(super) fn url(&self, proxy: SocketAddr) -> Zeroizing<String> {
        Zeroizing::new(format!("http://{}@{proxy}", &*self.user))
    }
}

/// The session with this secret, if the ledger has one.
async fn row(config: &Config, sha256: &str) -> Result<Option<SessionRow>, Failure> {
    match config.read_ledger() {
        Ok(book) => Ok(book.session_by_secret(sha256).await?),
        Err(OpenError::Missing(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Can anything be paid in it yet?
fn open(row: &SessionRow, now: Timestamp) -> Result<(), Failure> {
    let (reason, how) = match row.closed {
        true => (Reason::SessionClosed, "is closed"),
        false if row.session.expires <= now => (Reason::SessionExpired, "has expired"),
        false => return Ok(()),
    };
    let (id, agent, reason) = (&row.session.id, &row.session.agent, reason.code());
    let said = format!(
        "{reason}: the session of the proxy in the environment {how} ({id} of {agent}), and what runs in it has no other budget"
    );
    Err(Failure::new(Exit::Refused, said).hint(
        "`farepass session create` gives the URL of another one; `run` has a session of its own where none of the variables HTTPS_PROXY, https_proxy, HTTP_PROXY and http_proxy is set",
    ))
}

fn unheld(left: Usd) -> String {
    format!(
        "--budget: what this spends counts in the session of the proxy in the environment, where {left} are left, and cannot be held to less; leave --budget out, or set none of the variables HTTPS_PROXY, https_proxy, HTTP_PROXY and http_proxy"
    )
}

fn unended(expires: Timestamp) -> String {
    format!(
        "--expires: what this pays is paid in the session of the proxy in the environment, which lasts until {expires}, and cannot end before; leave --expires out, or set none of the variables HTTPS_PROXY, https_proxy, HTTP_PROXY and http_proxy"
    )
}
