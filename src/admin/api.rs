//! `/api/v1`: sessions and payments. Reads answer to GET, changes never do.

use bytes::Bytes;
use http::{Method, StatusCode, request};
use serde::Deserialize;

use super::problem::{Answer, Problem, json};
use super::sessions::{self, SessionError, Wanted};
use super::{Admin, Parts};
use crate::event::State;
use crate::ledger::sessions::SessionError as BookError;
use crate::ledger::{Filter, PostError};
use crate::payment::{PaymentId, SessionId};

/// Payments that one page lists unless it is asked for another number.
const PAGE: usize = 100;

/// Most that one page may list.
const PAGE_MAX: usize = 10_000;

/// Most payments of one request to look at chains: each may take a while.
pub(crate) const RECONCILE_MAX: usize = 8;

/// Which payments to look for on their chains.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reconcile {
    payments: Vec<PaymentId>,
}

impl Admin {
    /// Answers a request whose token was checked. `path` is what follows `/api/v1`.
    pub(super) async fn api(
        &self,
        head: &request::Parts,
        path: &str,
        body: &Bytes,
    ) -> Result<Answer, Problem> {
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        let get = head.method == Method::GET;
        let post = head.method == Method::POST;
        match parts.as_slice() {
            ["sessions"] if get => {
                let rows = self.parts.ledger.sessions().await?;
                Ok(json(StatusCode::OK, &rows))
            }
            ["sessions"] if post => self.open_session(body).await,
            ["sessions"] => Err(Problem::Method("GET, POST")),
            ["sessions", id] if get => {
                let row = self.parts.ledger.session(&session_id(id)).await?;
                Ok(json(StatusCode::OK, &row.ok_or(Problem::NotFound)?))
            }
            ["sessions", id] if head.method == Method::DELETE => self.close_session(id).await,
            ["sessions", id, "close"] if post => self.close_session(id).await,
            ["sessions", _, "close"] => Err(Problem::Method("POST")),
            ["sessions", _] => Err(Problem::Method("GET, DELETE")),
            ["payments"] if get => {
                let filter = filter(head.uri.query().unwrap_or_default())?;
                let rows = self.parts.ledger.payments(filter).await?;
                Ok(json(StatusCode::OK, &rows))
            }
            ["payments", id] if get => {
                let id = id.parse().map_err(|_| Problem::NotFound)?;
                let rows = self.parts.ledger.history(id).await?;
                match rows.is_empty() {
                    true => Err(Problem::NotFound),
                    false => Ok(json(StatusCode::OK, &rows)),
                }
            }
            ["reconcile"] if post => self.reconcile(body).await,
            ["reconcile"] => Err(Problem::Method("POST")),
            ["payments", ..] => Err(Problem::Method("GET")),
            _ => self.control(head, &parts, body).await,
        }
    }

    /// What the chains show of a few payments, recorded.
    async fn reconcile(&self, body: &Bytes) -> Result<Answer, Problem> {
        let wanted: Reconcile =
            serde_json::from_slice(body).map_err(|e| Problem::Request(e.to_string()))?;
        if wanted.payments.len() > RECONCILE_MAX {
            let most = format!("at most {RECONCILE_MAX} payments at once");
            return Err(Problem::Request(most));
        }
        let reconciler = self.parts.payer.reconciler();
        let mut pass = reconciler.pass();
        let mut findings = vec![];
        for id in wanted.payments {
            findings.push(pass.look(id).await?);
        }
        Ok(json(StatusCode::OK, &findings))
    }

    async fn open_session(&self, body: &Bytes) -> Result<Answer, Problem> {
        let wanted: Wanted = match body.trim_ascii_start() {
            [] => Wanted::default(),
            // A list of the members in their order would do as well for the parser.
            [b'{', ..] => {
                serde_json::from_slice(body).map_err(|e| Problem::Request(e.to_string()))?
            }
            _ => return Err(Problem::Request("the body must be a JSON object".into())),
        };
        let Parts { ledger, clock, .. } = &self.parts;
        let opened = sessions::open(&**ledger, clock.now(), &self.parts.usual, &wanted).await?;
        tracing::info!(session = %opened.row.session.id, agent = %opened.row.session.agent, "session opened");
        Ok(json(
            StatusCode::CREATED,
            &opened.document(&self.parts.proxy),
        ))
    }

    async fn close_session(&self, id: &str) -> Result<Answer, Problem> {
        let Parts { ledger, clock, .. } = &self.parts;
        let row = sessions::close(&**ledger, clock.now(), &session_id(id)).await?;
        tracing::info!(session = %row.session.id, "session closed");
        Ok(json(StatusCode::OK, &row))
    }
}

fn session_id(text: &str) -> SessionId {
    SessionId(text.into())
}

/// `session`, `state`, `host`, `denied`, `limit`. Unknown names are errors: a filter that is not
/// understood would show too much.
fn filter(query: &str) -> Result<Filter, Problem> {
    let mut filter = Filter {
        limit: PAGE,
        ..Filter::default()
    };
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let wrong = || Problem::Request(format!("`{name}`: the value is not understood"));
        match name {
            "session" => filter.session = Some(session_id(value)),
            "host" => filter.host = Some(value.replace("%3A", ":")),
            "state" => filter.state = Some(state(value).ok_or_else(wrong)?),
            "denied" => filter.denied = value.parse().map_err(|_| wrong())?,
            "limit" => {
                let limit: usize = value.parse().map_err(|_| wrong())?;
                filter.limit = limit.clamp(1, PAGE_MAX);
            }
            _ => {
                return Err(Problem::Request(
                    "possible here: session, state, host, denied, limit".into(),
                ));
            }
        }
    }
    Ok(filter)
}

/// The state of that name.
#[must_use]
pub fn state(name: &str) -> Option<State> {
    let all = [
        State::Reserved,
        State::Unknown,
        State::Settled,
        State::Released,
        State::Denied,
    ];
    all.into_iter().find(|s| s.name() == name)
}

impl From<PostError> for Problem {
    fn from(error: PostError) -> Self {
        match error {
            PostError::Rejected(reject) => Self::Conflict(reject.to_string()),
            PostError::Unavailable(_) | PostError::Damaged(_) => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}

impl From<SessionError> for Problem {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Expires
            | SessionError::DefaultAgent
            | SessionError::Other(BookError::Agent) => Self::Request(error.to_string()),
            SessionError::StillOpen => Self::Conflict(error.to_string()),
            SessionError::Unknown => Self::NotFound,
            SessionError::Other(BookError::Randomness) => Self::Unavailable(error.to_string()),
            SessionError::Other(BookError::Ledger(error)) => error.into(),
        }
    }
}
