//! Connections: to whom, how they are secured, and what every one of them is told first.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::ServerName;
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, NoTls, Socket};
use tokio_rustls::TlsConnector;

use super::fault::Fault;
use super::repeats;
use crate::ledger::{Again, Database, OpenError};

/// For a connection, from its first packet until it can be used.
const CONNECT: Duration = Duration::from_secs(5);

/// A peer that is silent for so long is gone.
const SILENT: Duration = Duration::from_secs(10);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Short statements, some of them under the lock of the ledger. Who stops in the middle, loses it.
    Work,
    /// One long look at everything.
    Survey,
}

/// How the database is reached.
#[derive(Clone)]
pub(super) struct Dial {
    again: Option<Again>,
    file: PathBuf,
    tls: Tls,
    /// Is every transaction on another connection?
    pub(super) pooler: bool,
    /// Who this process is, among all that share the ledger.
    pub(super) owner: i64,
    /// The newest one that could be read.
    way: Arc<Mutex<Way>>,
}

/// What a URL says.
#[derive(Clone)]
struct Way {
    config: Config,
    secured: bool,
}

impl Dial {
    /// Reads the URL. Nobody is connected to yet.
    pub(super) fn new(database: &Database) -> Result<Self, OpenError> {
        let way = Way::read(database.url.expose_secret());
        let way = way.map_err(|p| unusable(&database.file, &p))?;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|e| OpenError::Storage(e.to_string()))?;
        Ok(Self {
            again: database.again.clone(),
            file: database.file.clone(),
            tls: Tls::new(database).map_err(|e| OpenError::Storage(e.to_string()))?,
            pooler: database.pooler,
            owner: repeats::owner(u64::from_be_bytes(random), !database.pooler),
            way: Arc::new(Mutex::new(way)),
        })
    }

    /// The way as the file says it now; the last one that was of use, where it cannot be read.
    fn way(&self) -> Way {
        let mut kept = self.way.lock().unwrap_or_else(PoisonError::into_inner);
        let read = self.again.as_ref().map(|again| {
            let url = again()?;
            Way::read(url.expose_secret())
        });
        match read {
            Some(Ok(way)) => *kept = way,
            Some(Err(problem)) => {
                let file = self.file.display();
                tracing::warn!(%file, %problem, "the database's URL cannot be read again");
            }
            None => {}
        }
        kept.clone()
    }

    /// A new connection, ready for use. Must be called on the runtime that is to carry it.
    pub(super) async fn connect(&self, purpose: Purpose) -> Result<Client, Fault> {
        let Way { config, secured } = self.way();
        let ready = async {
            let client = match secured {
                true => carried(config.connect(self.tls.clone()).await?),
                false => carried(config.connect(NoTls).await?),
            };
            if !self.pooler {
                let told = format!("{}; {};", settings(purpose, "SET"), durable(false));
                client.batch_execute(&told).await?;
            }
            Ok(client)
        };
        let late = |_| Fault::late("while connecting");
        timeout(CONNECT, ready).await.map_err(late)?
    }

    /// How a transaction begins.
    pub(super) fn begin(&self, purpose: Purpose) -> String {
        let mode = match purpose {
            Purpose::Work => "READ COMMITTED READ WRITE",
            Purpose::Survey => "REPEATABLE READ READ ONLY",
        };
        match self.pooler {
            false => format!("BEGIN ISOLATION LEVEL {mode};"),
            true => {
                let local = settings(purpose, "SET LOCAL");
                format!("BEGIN ISOLATION LEVEL {mode}; {local}; {};", durable(true))
            }
        }
    }
}

fn unusable(file: &Path, problem: &str) -> OpenError {
    OpenError::Settings(format!("{}: {problem}", file.display()))
}

impl Way {
    fn read(text: &str) -> Result<Self, String> {
        let (text, mode) = ssl_mode(text)?;
        let mut config: Config = match text.starts_with("postgres") {
            true => text.parse().ok(),
            false => None,
        }
        // What the parser says may quote a part of the password.
        .ok_or("it holds no URL like postgres://user:password@host:5432/database")?;
        if config.get_hosts().is_empty() {
            return Err("its URL names no host".into());
        }
        let here = config.get_hosts().iter().all(is_here);
        let secured = match (mode, here) {
            (Some(secured), true) => secured,
            (None, true) => false,
            (Some(true) | None, false) => true,
            (Some(false), false) => {
                return Err(
                    "its URL says sslmode=disable, allow or prefer, and its host is not this machine: everything, and who answers, would be anybody's guess".into(),
                );
            }
        };
        // The first of several may be the one that is gone, and then nothing answers.
        let hosts = config.get_hosts().len().max(config.get_hostaddrs().len());
        let each = CONNECT / u32::try_from(hosts.clamp(1, 4)).unwrap_or(1);
        let each = each.mul_f32(if hosts > 1 { 0.8 } else { 1.0 });
        config
            .ssl_mode(if secured {
                SslMode::Require
            } else {
                SslMode::Disable
            })
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .connect_timeout(each)
            .tcp_user_timeout(SILENT)
            .keepalives_idle(SILENT)
            .keepalives_interval(Duration::from_secs(2))
            .keepalives_retries(3);
        if config.get_application_name().is_none() {
            config.application_name("farepass");
        }
        Ok(Self { config, secured })
    }
}

/// Whoever stops while it holds the lock loses it. No statement is worth compiling: the planner takes pages for
/// expensive that are read in a moment.
fn settings(purpose: Purpose, set: &str) -> String {
    let (statement, idle) = match purpose {
        Purpose::Work => ("10s", "10s"),
        Purpose::Survey => ("5min", "5min"),
    };
    format!(
        "{set} statement_timeout = '{statement}'; {set} idle_in_transaction_session_timeout = '{idle}';
         {set} lock_timeout = '5s'; {set} jit = off"
    )
}

/// A commit that is acknowledged is on the disk, also where the server is set to promise less; a set-up
/// that waits for more than that is left as it is. `local` is whether that ends with the transaction.
fn durable(local: bool) -> String {
    format!(
        "SELECT set_config('synchronous_commit', 'on', {local})
         WHERE current_setting('synchronous_commit') IN ('off', 'local')"
    )
}

/// Its runtime owns it; it ends with its client.
fn carried<S, T>((client, connection): (Client, tokio_postgres::Connection<S, T>)) -> Client
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the ledger's database ended");
        }
    });
    client
}

/// Is it a socket of this machine?
fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            let ip = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
            name == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
        }
    }
}

/// Takes `sslmode` out of a URL, whose words the parser knows in part only. `Some(true)` for words that
/// ask for TLS; all of them mean the same here: verified, with the name.
fn ssl_mode(url: &str) -> Result<(String, Option<bool>), &'static str> {
    let Some((base, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), None));
    };
    let (mut mode, mut rest) = (None, vec![]);
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", "require" | "verify-ca" | "verify-full")) => mode = Some(true),
            Some(("sslmode", "disable" | "allow" | "prefer")) => mode = Some(false),
            Some(("sslmode", _)) => return Err("its sslmode is none that PostgreSQL has"),
            Some(("sslrootcert" | "sslcert" | "sslkey" | "sslcrl", _)) => {
                return Err(
                    "certificates are not named in the URL; the roots are ledger.postgres.ca_file",
                );
            }
            Some(_) | None => rest.push(pair),
        }
    }
    let joined = rest.join("&");
    Ok(match joined.is_empty() {
        true => (base.to_owned(), mode),
        false => (format!("{base}?{joined}"), mode),
    })
}

/// rustls for the driver. Certificates are always verified, with the host's name.
#[derive(Clone)]
struct Tls(TlsConnector);

impl Tls {
    fn new(database: &Database) -> Result<Self, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(&database.roots))
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Secured;
    type TlsConnect = Handshake;
    type Error = rustls_pki_types::InvalidDnsNameError;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Handshake, Self::Error> {
        Ok(Handshake {
            name: ServerName::try_from(domain.to_owned())?,
            connector: self.0.clone(),
        })
    }
}

struct Handshake {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Secured;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Secured>> + Send>>;

    fn connect(self, stream: Socket) -> Self::Future {
        Box::pin(async move {
            let stream = self.connector.connect(self.name, stream).await?;
            Ok(Secured(Box::new(stream)))
        })
    }
}

struct Secured(Box<tokio_rustls::client::TlsStream<Socket>>);

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}

impl TlsStream for Secured {
    /// The name was verified; a binding adds nothing to that.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dial(url: &str) -> Result<Dial, String> {
        let database = Database::new(url.to_owned().into(), "db.url".into());
        Dial::new(&database).map_err(|e| e.to_string())
    }

    #[test]
    fn only_this_machine_is_spoken_to_in_plain_words() {
        for (url, secured) in [
            ("postgres://u:p@127.0.0.1:5432/d", false),
            ("postgresql://u:p@localhost/d?sslmode=verify-full", true),
            ("postgres://u:p@%2Frun%2Fpostgresql/d", false),
            ("postgres://u:p@db.example/d", true),
            (
                "postgres://u:p@db.example/d?sslmode=require&connect_timeout=3",
                true,
            ),
            ("postgres://u:p@127.0.0.1,db.example/d", true),
        ] {
            let way = dial(url).unwrap().way();
            assert_eq!(way.secured, secured, "{url}");
            let required = way.config.get_ssl_mode() == SslMode::Require;
            assert_eq!(required, secured, "{url}");
        }
    }

    /// There is time for the second where the first does not answer.
    #[test]
    fn no_host_of_several_has_all_the_time() {
        let each = |hosts: &str| {
            let way = dial(&format!("postgres://u:p@{hosts}/d")).unwrap().way();
            way.config.get_connect_timeout().copied().unwrap()
        };
        assert!(each("a") == CONNECT && each("a,b") < CONNECT / 2 && each("a,b,c") < CONNECT / 3);
    }

    #[test]
    fn an_unusable_url_is_told_without_any_of_it() {
        for (url, what) in [
            ("mysql://u:hunter2@h/d", "like postgres://"),
            ("postgres://u:hunter2@h:port/d", "like postgres://"),
            (
                "postgres://u:hunter2@db.example/d?sslmode=prefer",
                "sslmode=disable",
            ),
            (
                "postgres://u:hunter2@db.example/d?sslmode=hunter2",
                "sslmode",
            ),
            ("postgres://u:hunter2@db.example/d?sslrootcert=x", "ca_file"),
            ("hunter2", "like postgres://"),
        ] {
            let said = dial(url).err().unwrap();
            assert!(said.contains(what) && said.contains("db.url"), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
