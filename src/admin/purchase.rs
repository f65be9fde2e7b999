//! A purchase that somebody has in mind, in words: what the policy is asked about, and what a person is.

use serde::{Deserialize, Serialize};

use super::Admin;
use super::body::object;
use super::problem::{Answer, Problem, json};
use crate::payer::NotAsked;
use crate::payment::SessionId;
use crate::policy::Question;

/// What is to be bought. What is left out is supposed as `explain` does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purchase {
    /// In which session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Where.
    pub url: String,
    /// `GET`, or `POST` for a tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// MCP tool, prompt or resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// At which price: `0.03 USD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
    /// CAIP-2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Symbol or address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asset: Option<String>,
    /// The recipient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pay_to: Option<String>,
    /// `exact`, `upto`, `evm/charge` or `l402`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
}

impl Purchase {
    /// The question that it is.
    ///
    /// # Errors
    /// A sentence that names the member.
    pub fn question(&self) -> Result<Question, String> {
        let url: Question = self.url.parse().map_err(|e| format!("url: {e}"))?;
        let method = match &self.method {
            Some(text) if text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') => {
                http::Method::from_bytes(text.as_bytes()).ok()
            }
            Some(_) => None,
            None => Some(Question::usual_method(self.tool.as_deref())),
        };
        Ok(Question {
            method: method.ok_or("method: write an HTTP method in capitals")?,
            tool: self.tool.clone(),
            amount: read("amount", self.amount.as_deref())?,
            network: read("network", self.network.as_deref())?,
            asset: self.asset.clone(),
            pay_to: self.pay_to.clone(),
            offers: read("scheme", self.scheme.as_deref())?
                .into_iter()
                .collect(),
            ..url
        })
    }
}

fn read<T>(name: &str, text: Option<&str>) -> Result<Option<T>, String>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let read = |text: &str| text.parse().map_err(|e| format!("{name}: {e}"));
    text.map(read).transpose()
}

impl Admin {
    /// Asks a person about a purchase that nobody has tried yet.
    pub(super) async fn ask_ahead(&self, body: &[u8]) -> Result<Answer, Problem> {
        let wanted: Purchase = object(body)?;
        let question = wanted.question().map_err(Problem::Request)?;
        let needed = |what: &str| Problem::Request(format!("{what}: is needed"));
        let session = wanted.session.ok_or_else(|| needed("session"))?;
        question.amount.ok_or_else(|| needed("amount"))?;
        let session = SessionId(session.into());
        let asking = self.parts.payer.ask_ahead(&session, &question).await?;
        Ok(json(http::StatusCode::CREATED, &asking))
    }
}

impl From<NotAsked> for Problem {
    fn from(error: NotAsked) -> Self {
        match error {
            NotAsked::Ledger(error) => error.into(),
            NotAsked::Recipient => Self::Request(format!("pay_to: {error}")),
            NotAsked::Facilitator => Self::Request(format!("scheme: {error}")),
            NotAsked::Session
            | NotAsked::Refused(_)
            | NotAsked::Needless(_)
            | NotAsked::TooOften => Self::Conflict(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(member: &str, value: &str) -> Result<Question, String> {
        let mut document = serde_json::json!({ "url": "https://api.example.com/v1/x?q" });
        document[member] = value.into();
        let read: Purchase = serde_json::from_value(document).unwrap();
        read.question()
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (member, wrong) in [
            ("url", "api.example.com"),
            ("url", "https://user:secret@api.example.com/"),
            ("method", "get"),
            ("method", ""),
            ("amount", "0.03"),
            ("amount", "-1 USD"),
            ("network", "base"),
            ("scheme", "magic"),
        ] {
            let said = question(member, wrong).unwrap_err();
            assert!(said.starts_with(&format!("{member}: ")), "{said}");
        }
        assert!(serde_json::from_str::<Purchase>(r#"{"url": "https://x/", "limit": 1}"#).is_err());
    }

    #[test]
    fn a_tool_is_called_with_post() {
        assert_eq!(question("tool", "x").unwrap().method, http::Method::POST);
        assert_eq!(question("asset", "USDC").unwrap().path, "/v1/x");
    }
}
