//! `/api/v1/approvals`, `/freezes` and `/merchants`: what a person decides while the proxy runs.

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json as value;

use super::Admin;
use super::body::object;
use super::problem::{Answer, Problem, json};
use super::query::decoded;
use crate::budget::facts::key;
use crate::budget::{Asking, Fact, Frozen};
use crate::ledger::{PostError, Reader};
use crate::payer::STOP_FILE;
use crate::payment::is_name;
use crate::settings::{host_and_port, normalise_host};

/// The body of a freeze or unfreeze.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whose {
    /// `all`, `host` or `agent`.
    scope: String,
    /// Which host or agent.
    #[serde(default)]
    name: Option<String>,
    /// For the record.
    #[serde(default)]
    why: String,
}

/// Most characters of a reason: it is for people.
const WHY_MAX: usize = 300;

impl Admin {
    pub(super) async fn approvals(&self) -> Result<Answer, Problem> {
        let all = approvals(&*self.parts.ledger).await?;
        Ok(json(StatusCode::OK, &all))
    }

    pub(super) async fn answer_question(&self, id: &str, yes: bool) -> Result<Answer, Problem> {
        let id = id.parse().map_err(|_| Problem::NotFound)?;
        let asking = self.parts.payer.answer(id, yes).await?;
        Ok(json(StatusCode::OK, &asking))
    }

    pub(super) async fn freezes(&self) -> Result<Answer, Problem> {
        Ok(json(StatusCode::OK, &self.frozen().await?))
    }

    /// What the ledger freezes, after what the operator's file does.
    pub(super) async fn frozen(&self) -> Result<Vec<serde_json::Value>, PostError> {
        let payer = &self.parts.payer;
        let stopped = payer.is_stopped_by_file().then(by_file);
        let held = payer.is_held().then(by_signal);
        let kept = freezes(&*self.parts.ledger).await?;
        Ok(stopped.into_iter().chain(held).chain(kept).collect())
    }

    pub(super) async fn freeze(&self, body: &Bytes) -> Result<Answer, Problem> {
        let (what, why) = whose(body, freezable)?;
        self.parts.payer.freeze(what, &why).await?;
        self.freezes().await
    }

    pub(super) async fn unfreeze(&self, body: &Bytes) -> Result<Answer, Problem> {
        self.parts.payer.unfreeze(whose(body, frozen)?.0).await?;
        self.freezes().await
    }

    pub(super) async fn merchants(&self) -> Result<Answer, Problem> {
        let all = merchants(&*self.parts.ledger).await?;
        Ok(json(StatusCode::OK, &all))
    }

    pub(super) async fn forget(&self, host: &str) -> Result<Answer, Problem> {
        let host = decoded(host).ok_or(Problem::NotFound)?;
        let host = normalise_host(&host).map_err(|e| Problem::Request(e.to_string()))?;
        self.parts.payer.forget(&host).await?;
        self.merchants().await
    }
}

/// Reads whose payments are meant, and why.
fn whose(
    body: &Bytes,
    read: impl Fn(&str, Option<&str>) -> Result<Frozen, String>,
) -> Result<(Frozen, String), Problem> {
    let wanted: Whose = object(body)?;
    let what = read(&wanted.scope, wanted.name.as_deref()).map_err(Problem::Request)?;
    Ok((what, wanted.why.chars().take(WHY_MAX).collect()))
}

/// Whose payments may be frozen: as [`frozen`], but only who can be there. Rules take patterns of agents; a
/// freeze of one would hold for nobody.
///
/// # Errors
/// A sentence about what is wrong.
pub fn freezable(scope: &str, name: Option<&str>) -> Result<Frozen, String> {
    match frozen(scope, name)? {
        Frozen::Agent(name) if !is_name(&name) => Err(format!(
            "no agent can be called \"{}\", so nothing is frozen; patterns are not taken: freeze all, or each agent by its name",
            name.escape_debug()
        )),
        what => Ok(what),
    }
}

/// Whose payments: `all`, `host` with a name, `agent` with a name. What was frozen by an older version is taken
/// too, so that it can be taken back.
///
/// # Errors
/// A sentence about what is wrong.
pub fn frozen(scope: &str, name: Option<&str>) -> Result<Frozen, String> {
    match (scope, name) {
        ("all", None) => Ok(Frozen::All),
        ("host", Some(name)) => {
            // A freeze is for all ports of a host. Rows of the ledger name it with one.
            let (host, _) = host_and_port(name).map_err(|e| e.to_string())?;
            Ok(Frozen::Host(host))
        }
        ("agent", Some(name)) if !name.is_empty() && !name.contains(' ') => {
            Ok(Frozen::Agent(name.to_owned()))
        }
        _ => Err("write all, host NAME or agent NAME".into()),
    }
}

/// Every question, answered or not, the newest first.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn approvals(ledger: &dyn Reader) -> Result<Vec<Asking>, PostError> {
    let facts = ledger.facts(key::APPROVALS).await?.into_iter();
    let asking = |(_, fact)| match fact {
        Fact::Approval(asking) => Some(*asking),
        Fact::Frozen { .. } | Fact::Merchant { .. } | Fact::Payee { .. } | Fact::Price { .. } => {
            None
        }
    };
    let mut all: Vec<Asking> = facts.filter_map(asking).collect();
    all.sort_by_key(|asking| std::cmp::Reverse(asking.asked));
    Ok(all)
}

/// What the operator's file freezes, as a row beside the ledger's. Nothing says since when.
#[must_use]
pub fn by_file() -> serde_json::Value {
    let why = format!("the file `{STOP_FILE}` in the state directory");
    value!({ "what": "all", "since": null, "why": why })
}

/// What a signal froze and the ledger does not have yet, in the same form.
fn by_signal() -> serde_json::Value {
    value!({ "what": "all", "since": null, "why": "SIGUSR1; the ledger does not have it yet" })
}

/// Everything that the ledger freezes. The operator's file is beside it: [`by_file`].
///
/// # Errors
/// When the ledger cannot be read.
pub async fn freezes(ledger: &dyn Reader) -> Result<Vec<serde_json::Value>, PostError> {
    let facts = ledger.facts(key::FREEZES).await?;
    let row = |(name, fact): &(String, Fact)| match fact {
        Fact::Frozen { since, why } => {
            let what = name.strip_prefix(key::FREEZES)?;
            Some(value!({ "what": what, "since": since, "why": why }))
        }
        Fact::Merchant { .. } | Fact::Payee { .. } | Fact::Price { .. } | Fact::Approval(_) => None,
    };
    Ok(facts.iter().filter_map(row).collect())
}

/// What is known of every host that was paid.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn merchants(ledger: &dyn Reader) -> Result<Vec<serde_json::Value>, PostError> {
    let mut rows: Vec<serde_json::Value> = vec![];
    for (name, fact) in ledger.facts(key::MERCHANTS).await? {
        let words: Vec<&str> = name.split(' ').collect();
        let row = match (words.as_slice(), fact) {
            ([_, host], Fact::Merchant { since, .. }) => value!({ "host": host, "since": since }),
            ([_, host, "payee", network], Fact::Payee { pay_to, since, .. }) => {
                value!({ "host": host, "network": network, "pay_to": pay_to, "since": since })
            }
            ([_, host, "price", method, path], Fact::Price { lowest, since, .. }) => {
                value!({ "host": host, "method": method, "path": path, "lowest": lowest, "since": since })
            }
            _ => continue,
        };
        rows.push(row);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_can_be_there_is_frozen_and_whatever_was_is_taken_back() {
        let agent = |name: &str| Ok(Frozen::Agent(name.to_owned()));
        let long = "a".repeat(65);
        for name in ["bot-*", "*", "bot?", "b\u{f6}t", "bot/1", "bot:1", &long] {
            let problem = freezable("agent", Some(name)).unwrap_err();
            assert!(problem.contains("patterns are not taken"), "{problem}");
            assert_eq!(frozen("agent", Some(name)), agent(name));
        }
        assert_eq!(freezable("agent", Some("bot-41.a_B")), agent("bot-41.a_B"));
        assert_eq!(freezable("all", None), Ok(Frozen::All));
        let host = Ok(Frozen::Host("shop.test".into()));
        assert_eq!(freezable("host", Some("Shop.test.")), host);
        for host in ["*", "*.test", "shop.*", "https://shop.test"] {
            assert!(freezable("host", Some(host)).is_err(), "{host}");
        }
        for (scope, name) in [("all", Some("x")), ("agent", None), ("agent", Some("a b"))] {
            assert!(freezable(scope, name).is_err(), "{scope}");
            assert!(frozen(scope, name).is_err(), "{scope}");
        }
    }

    #[test]
    fn a_list_freezes_nothing() {
        for body in ["[\"all\",null,\"\"]", " [\"all\"]", "", "null", "\"all\""] {
            let problem = whose(&Bytes::from(body), frozen).unwrap_err();
            assert!(problem.to_string().contains("a JSON object"), "{body}");
        }
        let (what, _) = whose(&Bytes::from("\n{\"scope\":\"all\"}"), frozen).unwrap();
        assert_eq!(what, Frozen::All);
    }
}
