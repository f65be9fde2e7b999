//! Accepting connections: one permit each, and a place in the queue of those to wait for at the end.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::accepting::Accepting;
use super::client::Client;
use super::crowd::{Guest, Seat};
use super::files;
use super::lane::REST;
use super::serve::Service;
use super::socket::UnixDoor;
use super::{Proxy, SWEEP, connect, transparent, turned};

/// Told to a client that has `limits.connections_per_client` connections already, or takes one of the last files.
/// Written without waiting: whoever does not read it has its answer in the closed connection.
const TURNED_AWAY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";

/// How long a client that has asked for nothing yet may take to do so when the process ends.
const LAST_WORD: Duration = Duration::from_secs(1);

/// A listener, and what those who come through it know.
pub enum Door {
    /// Clients that were told of the proxy: CONNECT and absolute form.
    Proxy(TcpListener),
    /// The same inside TLS: the proxy shows a certificate, and may demand one.
    Secure(TcpListener, Arc<ServerConfig>),
    /// The same through a socket in a folder.
    Unix(UnixDoor),
    /// Clients that were not told: the network redirected them here.
    Transparent(TcpListener),
}

/// Somebody at the door.
enum Arrived {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream, u32),
}

impl Arrived {
    fn guest(&self) -> Guest {
        match self {
            Self::Tcp(_, peer) => Guest::address(peer.ip()),
            Self::Unix(_, user) => Guest::User(*user),
        }
    }

    fn spare(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream, _) => files::spare(stream),
            Self::Unix(stream, _) => files::spare(stream),
        }
    }

    /// Accepted just now, so its buffer is empty: this cannot block, and may fail.
    fn tell(&self, words: &[u8]) {
        let _ = match self {
            Self::Tcp(stream, _) => stream.try_write(words),
            Self::Unix(stream, _) => stream.try_write(words),
        };
    }
}

impl Door {
    async fn accept(&self) -> io::Result<Arrived> {
        match self {
            Self::Proxy(listener) | Self::Secure(listener, _) | Self::Transparent(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok(Arrived::Tcp(stream, peer))
            }
            Self::Unix(door) => {
                let (stream, user) = door.accept().await?;
                Ok(Arrived::Unix(stream, user))
            }
        }
    }

    /// Is this one to be served at all? Whoever is not hears nothing.
    fn serves(&self, proxy: &Proxy, arrived: &Arrived) -> bool {
        match (self, arrived) {
            (Self::Unix(door), Arrived::Unix(_, user)) if !door.serves(*user) => {
                tracing::info!(%user, "closed a connection of a user whom `listen.allow_users` does not name");
                false
            }
            (_, Arrived::Tcp(_, peer)) if !proxy.serves(*peer) => {
                tracing::debug!(%peer, "closed a connection from outside `listen.allow_from`");
                false
            }
            (_, Arrived::Tcp(..) | Arrived::Unix(..)) => true,
        }
    }

    /// What is to be done with who came through it.
    fn manner(&self) -> Manner {
        match self {
            Self::Proxy(_) | Self::Unix(_) => Manner::Plain,
            Self::Secure(_, config) => Manner::Secure(TlsAcceptor::from(Arc::clone(config))),
            Self::Transparent(_) => Manner::Redirected,
        }
    }
}

enum Manner {
    Plain,
    Secure(TlsAcceptor),
    Redirected,
}

impl Proxy {
    /// Serves clients until the process drains, then waits for open exchanges up to `limits.drain`.
    pub async fn serve(self: Arc<Self>, door: Door) {
        let mut draining = self.draining.clone();
        let (mut clients, mut accepting) = (JoinSet::new(), Accepting::default());
        let mut sweep = tokio::time::interval(SWEEP);
        let mut rest = tokio::time::interval(REST);
        loop {
            tokio::select! {
                () = turned(&mut draining) => break,
                _ = sweep.tick() => self.sweep(),
                _ = rest.tick() => self.lanes.rest(),
                Some(_) = clients.join_next() => {}
                (permit, accepted) = async {
                    let permit = Arc::clone(&self.connections).acquire_owned().await;
                    self.flood.connection().await;
                    (permit, door.accept().await)
                } => match accepted {
                    Ok(arrived) if !door.serves(&self, &arrived) => {}
                    Ok(arrived) => {
                        let guest = arrived.guest();
                        let Some(seat) = self.seat(&arrived, &mut accepting).await else {
                            self.pool.tally.turned_away.one();
                            // Where TLS is to begin, words before it would be no HTTP.
                            if matches!(door, Door::Proxy(_) | Door::Unix(_)) {
                                arrived.tell(TURNED_AWAY);
                            }
                            continue;
                        };
                        let (proxy, manner) = (Arc::clone(&self), door.manner());
                        clients.spawn(async move {
                            let (_permit, _seat) = (permit, seat);
                            let service = proxy.welcome(arrived, manner).await;
                            let served = match service {
                                Ok(Some(service)) => service.await,
                                Ok(None) => Ok(()),
                                Err(e) => Err(e),
                            };
                            if let Err(e) = served {
                                tracing::debug!(peer = %guest, error = %e, "client connection ended");
                            }
                        });
                    }
                    Err(e) => accepting.failed(&e).await,
                },
            }
        }
        drop(door);
        let all_gone = async {
            while clients.join_next().await.is_some() {}
            self.settled().await;
        };
        if tokio::time::timeout(self.limits.drain, all_gone)
            .await
            .is_err()
        {
            tracing::warn!("connections were still open when the drain time ended");
        }
    }

    /// How long open exchanges are waited for.
    #[must_use]
    pub fn drain_time(&self) -> Duration {
        self.limits.drain
    }

    /// A place for who came, if there is one.
    async fn seat(&self, arrived: &Arrived, accepting: &mut Accepting) -> Option<Seat> {
        if let Err(few) = arrived.spare() {
            accepting.failed(&few).await;
            return None;
        }
        accepting.succeeded();
        self.crowd.sit(arrived.guest())
    }

    fn sweep(&self) {
        self.pool.sweep();
        self.flood.sweep();
    }

    /// Finds out what a client wants. Whoever asks for nothing is not waited for when the process drains.
    async fn welcome(
        self: Arc<Self>,
        arrived: Arrived,
        manner: Manner,
    ) -> io::Result<Option<Service>> {
        let mut draining = self.draining.clone();
        let mut service = pin!(Box::pin(self.receive(arrived, manner)));
        tokio::select! {
            service = &mut service => service,
            () = turned(&mut draining) => timeout(LAST_WORD, service).await.unwrap_or(Ok(None)),
        }
    }

    async fn receive(
        self: Arc<Self>,
        arrived: Arrived,
        manner: Manner,
    ) -> io::Result<Option<Service>> {
        self.pool.tally.accepted.one();
        let (stream, peer) = match arrived {
            Arrived::Unix(stream, _) => return connect::client(self, Client::Unix(stream)).await,
            Arrived::Tcp(stream, peer) => (stream, peer),
        };
        stream.set_nodelay(true)?;
        match manner {
            Manner::Plain => connect::client(self, Client::Tcp(stream)).await,
            Manner::Redirected => transparent::client(self, stream, peer).await,
            Manner::Secure(acceptor) => {
                let shaken = timeout(self.limits.handshake_timeout, acceptor.accept(stream));
                let shaken = shaken.await.map_err(|_| io::ErrorKind::TimedOut)?;
                let tls = shaken.inspect_err(|error| {
                    // Whoever was refused hears an alert at most; the operator can help.
                    tracing::info!(%peer, %error, "no TLS with a client of the proxy");
                })?;
                connect::client(self, Client::Tls(Box::new(tls))).await
            }
        }
    }

    fn serves(&self, peer: SocketAddr) -> bool {
        let mut ranges = self.allow_from.iter();
        self.allow_from.is_empty() || ranges.any(|range| range.contains(peer.ip()))
    }
}
