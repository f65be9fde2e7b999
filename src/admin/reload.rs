//! `POST /api/v1/reload`: the policy is read again.

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Admin;
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
pub type Reload = Box<dyn Fn(bool) -> Result<Reloaded, String> + Send + Sync>;

/// The body; none is `{}`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    allow_weaker: bool,
}

impl Admin {
    pub(super) fn reload(&self, body: &Bytes) -> Result<Answer, Problem> {
        let wanted: Wanted = match body.trim_ascii_start() {
            [] => Wanted::default(),
            // A list of the members in their order would do as well for the parser.
            [b'{', ..] => {
                serde_json::from_slice(body).map_err(|e| Problem::Request(e.to_string()))?
            }
            _ => return Err(Problem::Request("the body must be a JSON object".into())),
        };
        let done = (self.parts.reload)(wanted.allow_weaker).map_err(Problem::Conflict)?;
        Ok(json(StatusCode::OK, &done))
    }
}
