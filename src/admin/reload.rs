//! `POST /api/v1/reload`: the policy is read again.

use std::pin::Pin;

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Admin;
use super::body::object_or_none;
use super::problem::{Answer, Problem, json};

/// What came of it: by name and key, never by value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// Hash of the policy in force.
    pub policy: String,
    /// What is different.
    pub changed: Vec<String>,
    /// In what it is weaker than the one before.
    pub weaker: Vec<String>,
}

/// Reads the policy again; `true` allows a weaker one. The sentence says why the old one stays.
pub type Reload = Box<dyn Fn(bool) -> Reloading + Send + Sync>;

/// One on its way. It is read beside what answers requests.
pub type Reloading = Pin<Box<dyn Future<Output = Result<Reloaded, String>> + Send>>;

/// The body; none is `{}`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    allow_weaker: bool,
}

impl Admin {
    pub(super) async fn reload(&self, body: &Bytes) -> Result<Answer, Problem> {
        let wanted: Wanted = object_or_none(body)?;
        let done = (self.parts.reload)(wanted.allow_weaker).await;
        Ok(json(StatusCode::OK, &done.map_err(Problem::Conflict)?))
    }
}
