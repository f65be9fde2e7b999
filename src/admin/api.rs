//! `/api/v1`: what is done at each route. Reads answer to GET, changes never do.

use std::sync::Arc;

use bytes::Bytes;
use http::{StatusCode, request};
use serde::Deserialize;
use serde_json::json as value;

use super::body::{object, object_or_none};
use super::feed::{self, Line};
use super::problem::{Answer, Problem, json, stream, typed};
use super::query::filter;
use super::routes::{self, Op};
use super::sessions::{self, SessionError, Wanted};
use super::{Admin, Parts, budgets, openapi};
use crate::budget::Reject;
use crate::event::State;
use crate::ledger::sessions::SessionError as BookError;
use crate::ledger::{PostError, Reader};
use crate::payment::{PaymentId, SessionId};
use crate::policy::Mode;

/// Most payments of one request to look at chains: each may take a while.
pub(crate) const RECONCILE_MAX: usize = 8;

/// Which payments to look for on their chains.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reconcile {
    payments: Vec<PaymentId>,
}

/// A request whose sender may ask.
pub(super) struct Question<'a> {
    pub(super) head: &'a request::Parts,
    pub(super) body: Bytes,
    pub(super) line: Line,
}

impl Admin {
    /// Answers. `variable` is what stands in the path where its route has braces.
    pub(super) async fn api(
        &self,
        op: Op,
        variable: &str,
        question: Question<'_>,
    ) -> Result<Answer, Problem> {
        let Parts { ledger, feed, .. } = &self.parts;
        let body = &question.body;
        let ok = StatusCode::OK;
        match op {
            Op::Describe => Ok(typed(ok, "application/json", openapi::document())),
            Op::Health => Ok(self.health()),
            Op::Sessions => Ok(json(ok, &ledger.sessions().await?)),
            Op::OpenSession => self.open_session(body).await,
            Op::Session => {
                let row = ledger.session(&session_id(variable)).await?;
                Ok(json(ok, &row.ok_or(Problem::NotFound)?))
            }
            Op::CloseSession => self.close_session(variable).await,
            Op::Budgets => Ok(json(ok, &self.standings().await?)),
            Op::Payments | Op::Refusals => self.payments(op, question.head).await,
            Op::Payment => {
                let rows = ledger.history(payment_id(variable)?).await?;
                found(rows.is_empty(), json(ok, &rows))
            }
            Op::Trail => self.trail(variable).await,
            Op::Reconcile => self.reconcile(body).await,
            Op::Policy => Ok(self.policy()),
            Op::Reload => self.reload(body).await,
            Op::Events => {
                let ledger = Arc::clone(ledger) as Arc<dyn Reader>;
                let headers = &question.head.headers;
                Ok(stream(
                    feed::open(feed, ledger, headers, &question.line).await?,
                ))
            }
            Op::Approvals => self.approvals().await,
            Op::AskAhead => self.ask_ahead(body).await,
            Op::Approve => self.answer_question(variable, true).await,
            Op::Deny => self.answer_question(variable, false).await,
            Op::Freezes => self.freezes().await,
            Op::Freeze => self.freeze(body).await,
            Op::Unfreeze => self.unfreeze(body).await,
            Op::Merchants => self.merchants().await,
            Op::Forget => self.forget(variable).await,
        }
    }

    fn health(&self) -> Answer {
        let ready = (self.parts.ready)();
        let policy = self.parts.payer.policy();
        let document = value!({
            "ready": ready.is_ok(),
            "why_not": ready.err(),
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "started": self.parts.started,
            "proxy": self.parts.proxy,
            "mode": mode(policy.mode()),
            "policy": policy.hash(),
        });
        json(StatusCode::OK, &document)
    }

    fn policy(&self) -> Answer {
        let policy = self.parts.payer.policy();
        let mut document = value!({ "hash": policy.hash(), "mode": mode(policy.mode()) });
        for key in [
            "rules",
            "budgets",
            "categories",
            "assets",
            "limits",
            "prices",
        ] {
            if let (Some(members), Some(written)) =
                (document.as_object_mut(), policy.written().get(key))
            {
                members.insert(key.into(), written.clone());
            }
        }
        json(StatusCode::OK, &document)
    }

    pub(super) async fn standings(&self) -> Result<Vec<budgets::Standing>, PostError> {
        let Parts {
            payer,
            ledger,
            clock,
            ..
        } = &self.parts;
        budgets::standings(&payer.policy(), &**ledger, clock.now()).await
    }

    async fn payments(&self, op: Op, head: &request::Parts) -> Result<Answer, Problem> {
        let query = head.uri.query().unwrap_or_default();
        let mut filter = filter(query, routes::query(op))?;
        if op == Op::Refusals {
            filter.state = Some(State::Denied);
        }
        let rows = self.parts.ledger.payments(filter).await?;
        Ok(json(StatusCode::OK, &rows))
    }

    async fn trail(&self, id: &str) -> Result<Answer, Problem> {
        let trail = self.parts.ledger.trail(payment_id(id)?).await?;
        let document = value!({
            "records": trail.records,
            "head_seq": trail.head_seq,
            "head_hash": trail.head_hash,
        });
        found(trail.records.is_empty(), json(StatusCode::OK, &document))
    }

    /// What the chains show of a few payments, recorded.
    async fn reconcile(&self, body: &Bytes) -> Result<Answer, Problem> {
        let wanted: Reconcile = object(body)?;
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
        let wanted: Wanted = object_or_none(body)?;
        let Parts { ledger, clock, .. } = &self.parts;
        let opened = sessions::open(&**ledger, &**clock, &self.parts.usual, &wanted).await?;
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

fn payment_id(text: &str) -> Result<PaymentId, Problem> {
    text.parse().map_err(|_| Problem::NotFound)
}

fn found(nothing: bool, answer: Answer) -> Result<Answer, Problem> {
    match nothing {
        true => Err(Problem::NotFound),
        false => Ok(answer),
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
    }
}

impl From<PostError> for Problem {
    fn from(error: PostError) -> Self {
        match error {
            PostError::Rejected(reject @ (Reject::NoSuchApproval | Reject::NoSuchPayment)) => {
                Self::Unknown(reject.to_string())
            }
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
            | SessionError::Other(BookError::Agent | BookError::Name) => {
                Self::Request(error.to_string())
            }
            SessionError::StillOpen => Self::Conflict(error.to_string()),
            SessionError::Unknown => Self::NotFound,
            SessionError::Other(BookError::Randomness) => Self::Unavailable(error.to_string()),
            SessionError::Other(BookError::Ledger(error)) => error.into(),
        }
    }
}
