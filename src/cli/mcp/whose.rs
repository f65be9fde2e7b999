//! Whose budget is told. One who asks names nobody else: that is for whoever starts the server.

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::view::Silent;
use crate::cli::explain;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::ledger::sessions::DEFAULT;
use crate::ledger::{Reader, SessionRow};
use crate::payment::SessionId;

/// Variables that hold the proxy URL, in the order in which most clients read them.
const PROXY: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"];

/// How the session is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// By its id.
    Session(String),
    /// The newest open one of this agent.
    Agent(String),
    /// By the SHA-256 of its secret, hexadecimal.
    Secret(String),
    /// That of clients without credentials.
    Default,
}

impl Whose {
    pub(super) fn find(session: Option<String>, agent: Option<String>) -> Self {
        match (session, agent) {
            (Some(id), _) => Self::Session(id),
            (None, Some(agent)) => Self::Agent(agent),
            (None, None) => {
                let mut set = PROXY.iter().filter_map(|name| std::env::var(name).ok());
                let url = Zeroizing::new(set.next().unwrap_or_default());
                secret(&url).map_or(Self::Default, Self::Secret)
            }
        }
    }

    /// The session and how it stands; of an agent that has none yet, the one that it would get.
    pub(super) async fn row(
        &self,
        config: &Config,
        book: Option<&dyn Reader>,
        now: Timestamp,
    ) -> Result<SessionRow, Silent> {
        let known = match (self, book) {
            (_, None) => None,
            (Self::Session(id), Some(book)) => book.session(&SessionId((&**id).into())).await?,
            (Self::Secret(sha256), Some(book)) => book.session_by_secret(sha256).await?,
            (Self::Default, Some(book)) => book.session(&SessionId(DEFAULT.into())).await?,
            (Self::Agent(agent), Some(book)) => {
                let id = explain::session(config, Some(book), Some(agent), now)
                    .await?
                    .id;
                book.session(&id).await?
            }
        };
        if let Some(row) = known {
            return Ok(row);
        }
        let agent = match self {
            Self::Session(_) | Self::Secret(_) => return Err(Silent::Session),
            Self::Agent(agent) => Some(&**agent),
            Self::Default => None,
        };
        Ok(SessionRow {
            session: explain::session(config, None, agent, now).await?,
            closed: false,
            spent: crate::money::Usd::default(),
            payments: 0,
        })
    }
}

/// The SHA-256 of the password of a URL, as the ledger keeps it.
fn secret(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    let (_, password) = user.split_once(':')?;
    Some(hex::encode(Sha256::digest(password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_of_a_proxy_url_is_its_password() {
        let of = |text: &str| Some(hex::encode(Sha256::digest(text)));
        assert_eq!(secret("http://bot:5ec@127.0.0.1:4020"), of("5ec"));
        assert_eq!(secret("https://bot:a:b@proxy.example/x@y"), of("a:b"));
        for none in [
            "",
            "127.0.0.1:4020",
            "http://127.0.0.1:4020",
            "http://bot@h",
        ] {
            assert_eq!(secret(none), None, "{none}");
        }
    }

    #[test]
    fn who_starts_the_server_says_whose() {
        let named = |s: Option<&str>, a: Option<&str>| {
            Whose::find(s.map(str::to_owned), a.map(str::to_owned))
        };
        assert_eq!(named(Some("s"), Some("a")), Whose::Session("s".into()));
        assert_eq!(named(None, Some("a")), Whose::Agent("a".into()));
    }
}
