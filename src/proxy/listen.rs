//! Accepting connections: one permit each, and a place in the queue of those to wait for at the end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{Proxy, SWEEP, connect, transparent, turned};

/// After a failed accept (no file descriptors left) the next try waits, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Told to a client that has `limits.connections_per_client` connections already. Written without
/// waiting: whoever does not read it has its answer in the closed connection.
const TURNED_AWAY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";

fn turn_away(stream: &TcpStream) {
    // Accepted just now, so its buffer is empty: this cannot block, and may fail.
    let _ = stream.try_write(TURNED_AWAY);
}

/// A listener, and what those who come through it know.
pub enum Door {
    /// Clients that were told of the proxy: CONNECT and absolute form.
    Proxy(TcpListener),
    /// Clients that were not: the network redirected them here.
    Transparent(TcpListener),
}

impl Door {
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match self {
            Self::Proxy(listener) | Self::Transparent(listener) => listener.accept().await,
        }
    }
}

impl Proxy {
    /// Serves clients until the process drains, then waits for open exchanges up to `limits.drain`.
    pub async fn serve(self: Arc<Self>, door: Door) {
        let mut draining = self.draining.clone();
        let mut clients = JoinSet::new();
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                () = turned(&mut draining) => break,
                _ = sweep.tick() => {
                    self.pool.sweep();
                    self.flood.sweep();
                }
                Some(_) = clients.join_next() => {}
                (permit, accepted) = async {
                    let permit = Arc::clone(&self.connections).acquire_owned().await;
                    self.flood.connection().await;
                    (permit, door.accept().await)
                } => match accepted {
                    Ok((_, peer)) if !self.serves(peer) => {
                        tracing::debug!(%peer, "closed a connection from outside `listen.allow_from`");
                    }
                    Ok((stream, peer)) => {
                        let Some(seat) = self.crowd.sit(peer.ip()) else {
                            turn_away(&stream);
                            continue;
                        };
                        let proxy = Arc::clone(&self);
                        let knowing = matches!(door, Door::Proxy(_));
                        clients.spawn(async move {
                            let (_permit, _seat) = (permit, seat);
                            let served = match knowing {
                                true => connect::client(proxy, stream).await,
                                false => transparent::client(proxy, stream, peer).await,
                            };
                            if let Err(e) = served {
                                tracing::debug!(%peer, error = %e, "client connection ended");
                            }
                        });
                    }
                    Err(e) => {
                        tracing::warn!(error = %e, "accept failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
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

    fn serves(&self, peer: SocketAddr) -> bool {
        let mut ranges = self.allow_from.iter();
        self.allow_from.is_empty() || ranges.any(|range| range.contains(peer.ip()))
    }
}
