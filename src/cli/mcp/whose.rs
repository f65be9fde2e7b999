//! Whose budget is told. One who asks names nobody else: that is for whoever starts the server.

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::view::Silent;
use crate::admin::sessions::Usual;
use crate::cli::explain;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::ledger::sessions::{DEFAULT, Named};
use crate::ledger::{Reader, SessionRow};
use crate::payment::SessionId;

/// Variables that hold the proxy URL, in the order in which most clients read them.
const PROXY: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"];

/// Variables that hold what `--session` and `--agent` say. Read here and not with the arguments, because
/// either argument beats both of them.
const SESSION: &str = "FAREPASS_SESSION";
const AGENT: &str = "FAREPASS_AGENT";

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
    /// As the arguments say, else as the environment does.
    pub(super) fn find(session: Option<String>, agent: Option<String>) -> Self {
        let of = |name: &str| std::env::var(name).ok();
        let named = |name: &str| of(name).filter(|text| !text.is_empty());
        Self::named(session, agent)
            .or_else(|| Self::named(named(SESSION), named(AGENT)))
            .or_else(|| credentials().map(|(_, sha256)| Self::Secret(sha256)))
            .unwrap_or(Self::Default)
    }

    fn named(session: Option<String>, agent: Option<String>) -> Option<Self> {
        session.map(Self::Session).or(agent.map(Self::Agent))
    }

    /// The session and how it stands; of an agent that has none yet, the one that it would get.
    pub(super) async fn row(
        &self,
        config: &Config,
        book: Option<&dyn Reader>,
        now: Timestamp,
    ) -> Result<SessionRow, Silent> {
        let usual = Usual::new(&config.sessions, Named::default(), None);
        let known = match (self, book) {
            (_, None) => None,
            (Self::Session(id), Some(book)) => book.session(&SessionId((&**id).into())).await?,
            (Self::Secret(sha256), Some(book)) => book.session_by_secret(sha256).await?,
            (Self::Default, Some(book)) => book.session(&SessionId(DEFAULT.into())).await?,
            (Self::Agent(agent), Some(book)) => {
                let found = explain::session(&usual, Some(book), Some(agent), now).await?;
                book.session(&found.id).await?
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
            session: explain::session(&usual, None, agent, now).await?,
            closed: false,
            spent: crate::money::Usd::default(),
            payments: 0,
        })
    }
}

/// User and password of the proxy URL in the environment, and the SHA-256 of the password, as the ledger keeps it.
pub(in crate::cli) fn credentials() -> Option<(Zeroizing<String>, String)> {
    let of = |name| std::env::var(name).ok();
    let url = Zeroizing::new(PROXY.into_iter().find_map(of)?);
    let user = user(&url)?;
    Some((Zeroizing::new(user.into()), secret(user)?))
}

/// User and password of a URL.
fn user(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    Some(authority.rsplit_once('@')?.0)
}

fn secret(user: &str) -> Option<String> {
    let (_, password) = user.split_once(':')?;
    Some(hex::encode(Sha256::digest(password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_of_a_proxy_url_is_its_password() {
        let of = |text: &str| Some(hex::encode(Sha256::digest(text)));
        let secret = |url| user(url).and_then(secret);
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
