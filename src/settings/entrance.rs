//! Where agents come in: an address, an address behind TLS, or a socket in a folder.

use core::fmt;
use core::net::{Ipv4Addr, SocketAddr};
use core::str::FromStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::section::{Section, SectionError};

use super::read::path;

const UNIX: &str = "unix:";

const HTTPS: &str = "https://";

/// Bytes of a socket's path: the system takes 107, and the name is longer while the socket is made.
const SOCKET_PATH_MAX: usize = 100;

/// A listener of the data plane, as agents reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Entrance {
    /// Plain TCP.
    Plain(SocketAddr),
    /// TLS to the proxy itself (`listen.tls`), and the proxy's protocol inside.
    Tls(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Where programs on this machine reach a listener: one on all addresses is reached on this machine's
/// own. By IPv4, which `[::]` takes as well: not every machine has a `::1`.
#[must_use]
pub fn here(at: SocketAddr) -> SocketAddr {
    match at.ip().is_unspecified() {
        true => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), at.port()),
        false => at,
    }
}

impl Entrance {
    /// Its address, unless it is a socket in a folder.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Plain(address) | Self::Tls(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Can it be reached from this machine only?
    #[must_use]
    pub fn is_local(&self) -> bool {
        let loopback = |at: SocketAddr| at.ip().to_canonical().is_loopback();
        self.address().is_none_or(loopback)
    }

    /// The address that programs on this machine use: one that stands for all addresses is reached
    /// on this machine's own.
    #[must_use]
    pub fn here(&self) -> Self {
        match self {
            Self::Plain(at) => Self::Plain(here(*at)),
            Self::Tls(at) => Self::Tls(here(*at)),
            // Whoever is told of it may be in another folder.
            Self::Unix(path) => {
                Self::Unix(std::path::absolute(path).unwrap_or_else(|_| path.clone()))
            }
        }
    }

    /// The proxy URL, with `user:password` if there is one. For a Unix socket there is no standard;
    /// `http+unix://` with the path percent-encoded in place of the host is what most libraries read.
    #[must_use]
    pub fn url(&self, credentials: Option<(&str, &str)>) -> String {
        let who = credentials.map_or(String::new(), |(user, password)| {
            format!("{user}:{password}@")
        });
        match self {
            Self::Plain(at) => format!("http://{who}{at}"),
            Self::Tls(at) => format!("{HTTPS}{who}{at}"),
            Self::Unix(path) => format!("http+unix://{who}{}", encoded(path)),
        }
    }

    /// The one of several that programs are told of: most can speak to plain TCP, fewer to TLS, few to
    /// a socket.
    #[must_use]
    pub fn told(all: &[Self]) -> Option<&Self> {
        all.iter().min_by_key(|entrance| match entrance {
            Self::Plain(_) => 0,
            Self::Tls(_) => 1,
            Self::Unix(_) => 2,
        })
    }

    /// Reads one item of `listen.proxy:`. Paths start at `base`.
    ///
    /// # Errors
    /// With the place of what cannot be read.
    pub(super) fn read(section: Section, base: &Path) -> Result<Self, SectionError> {
        let text = section.clone().text().unwrap_or_default();
        let Some(name) = text.strip_prefix(UNIX) else {
            return super::read::address(section).map(Self::Plain);
        };
        if name.is_empty() || name.contains('\0') {
            let error = section.expected("a path behind `unix:`");
            return Err(error.hint("for example unix:/run/farepass/proxy.sock"));
        }
        let path = base.join(name);
        match path.as_os_str().as_bytes().len() <= SOCKET_PATH_MAX {
            true => Ok(Self::Unix(path)),
            false => Err(section.error(format!(
                "the path of a socket has at most {SOCKET_PATH_MAX} bytes: {}",
                path.display()
            ))),
        }
    }
}

fn encoded(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(char::from(*byte));
            }
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

impl fmt::Display for Entrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(at) => write!(f, "{at}"),
            Self::Tls(at) => write!(f, "{HTTPS}{at}"),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl From<Entrance> for String {
    fn from(entrance: Entrance) -> Self {
        entrance.to_string()
    }
}

/// No address, and no `unix:` path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an address and a port, or unix: and a path")]
pub struct NotEntrance;

impl FromStr for Entrance {
    type Err = NotEntrance;

    fn from_str(text: &str) -> Result<Self, NotEntrance> {
        if let Some(path) = text.strip_prefix(UNIX) {
            return Ok(Self::Unix(path.into()));
        }
        if let Some(at) = text.strip_prefix(HTTPS) {
            return at.parse().map(Self::Tls).map_err(|_| NotEntrance);
        }
        text.parse().map(Self::Plain).map_err(|_| NotEntrance)
    }
}

impl TryFrom<String> for Entrance {
    type Error = NotEntrance;

    fn try_from(text: String) -> Result<Self, NotEntrance> {
        text.parse()
    }
}

/// TLS to the proxy itself: for agents that are not on this machine, and whose way here is not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntranceTls {
    /// The certificate and what stands between it and its root, PEM.
    pub cert_file: PathBuf,
    /// Its key, PEM, mode 0600.
    pub key_file: PathBuf,
    /// Who signs the certificates of clients, PEM. Set, a client without one is not served.
    pub client_ca: Option<PathBuf>,
}

impl EntranceTls {
    /// Reads `listen.tls:`. Paths start at `base`.
    ///
    /// # Errors
    /// With the place of what cannot be read.
    pub(super) fn read(mut section: Section, base: &Path) -> Result<Self, SectionError> {
        let cert_file = path(section.need("cert_file")?, base)?;
        let key_file = path(section.need("key_file")?, base)?;
        let client_ca = section.take("client_ca").filter(|ca| !ca.is_nothing());
        let client_ca = client_ca.map(|ca| path(ca, base)).transpose()?;
        section.finish()?;
        Ok(Self {
            cert_file,
            key_file,
            client_ca,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entrance_is_read_back_as_it_was_written() {
        for text in [
            "127.0.0.1:4020",
            "https://[::1]:4020",
            "unix:/run/fare pass/p.sock",
        ] {
            let entrance: Entrance = text.parse().unwrap();
            assert_eq!(entrance.to_string(), text);
        }
        assert!("localhost:1".parse::<Entrance>().is_err());
        assert!("http://127.0.0.1:1".parse::<Entrance>().is_err());
    }

    #[test]
    fn urls_carry_credentials_and_hide_no_path() {
        let url = |text: &str| {
            let entrance: Entrance = text.parse().unwrap();
            entrance.here().url(Some(("bot", "s3cret")))
        };
        assert_eq!(url("0.0.0.0:4020"), "http://bot:s3cret@127.0.0.1:4020");
        assert_eq!(
            url("https://[::]:4020"),
            "https://bot:s3cret@127.0.0.1:4020"
        );
        assert_eq!(
            url("unix:/run/f/p.sock"),
            "http+unix://bot:s3cret@%2Frun%2Ff%2Fp.sock"
        );
        for text in ["unix:sock/p.sock", "unix:./sock/p.sock"] {
            let here = encoded(&std::env::current_dir().unwrap());
            let expected = format!("http+unix://bot:s3cret@{here}%2Fsock%2Fp.sock");
            assert_eq!(url(text), expected, "useless in another folder");
        }
    }
}
