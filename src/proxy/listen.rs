//! Accepting connections: one permit each, and a place in the queue of those to wait for at the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Proxy, SWEEP, connect, turned};

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

impl Proxy {
    /// Serves clients until the process drains, then waits for open exchanges up to `limits.drain`.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let permits = Arc::new(Semaphore::new(self.limits.connections));
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
                    let permit = Arc::clone(&permits).acquire_owned().await;
                    self.flood.connection().await;
                    (permit, listener.accept().await)
                } => match accepted {
                    Ok((stream, peer)) => {
                        let Some(seat) = self.crowd.sit(peer.ip()) else {
                            turn_away(&stream);
                            continue;
                        };
                        let proxy = Arc::clone(&self);
                        clients.spawn(async move {
                            let (_permit, _seat) = (permit, seat);
                            if let Err(e) = connect::client(proxy, stream).await {
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
        drop(listener);
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
}
