//! Listeners beside the data plane: a bounded number of connections at once, and at the end some time for
//! what was begun.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::listen::ACCEPT_PAUSE;
use super::turned;

/// How many may be served at once, and how long they are waited for at the end.
pub struct Manners {
    /// Connections at once. Others wait to be accepted.
    pub connections: usize,
    /// For what is being answered when it ends.
    pub farewell: Duration,
}

/// Serves each connection by `client`, in a task of its own, until `over` turns true.
pub async fn attend<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    manners: Manners,
    mut over: watch::Receiver<bool>,
    client: impl Fn(TcpStream) -> F,
) {
    let permits = Arc::new(Semaphore::new(manners.connections));
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            () = turned(&mut over) => break,
            Some(_) = clients.join_next() => {}
            (permit, accepted) = async {
                let permit = Arc::clone(&permits).acquire_owned().await;
                (permit, listener.accept().await)
            } => match accepted {
                Ok((stream, _)) => {
                    let served = client(stream);
                    clients.spawn(async move {
                        let _permit = permit;
                        served.await;
                    });
                }
                Err(e) => {
                    tracing::warn!(error = %e, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // What was begun is answered: a session that was opened without an answer is nobody's.
    let answered = async { while clients.join_next().await.is_some() {} };
    let _ = timeout(manners.farewell, answered).await;
    clients.shutdown().await;
}
