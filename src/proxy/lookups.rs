//! Names that are looked up. The system's resolver takes a thread for each and keeps it for as long as the name
//! servers are silent, whoever still waits; these threads also read the ledger. So there is a bound on them, and on
//! those of one session.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::turns::Turns;

/// At once, of all sessions together: a quarter of the threads there may be.
const ALL: usize = 128;
/// At once, of one session.
const OF_SESSION: usize = 16;

/// Those that are going on.
pub(super) struct Lookups {
    all: Arc<Semaphore>,
    sessions: Turns,
}

impl Default for Lookups {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(ALL)),
            sessions: Turns::new(OF_SESSION),
        }
    }
}

impl Lookups {
    /// The addresses of a name. Waits for a place first; whoever gives up waiting leaves the place taken for as long
    /// as the resolver goes on.
    ///
    /// # Errors
    /// When the name has none.
    pub(super) async fn find(
        &self,
        session: &Arc<str>,
        name: (String, u16),
    ) -> io::Result<Vec<SocketAddr>> {
        let place = self.place(session).await?;
        let looked = tokio::task::spawn_blocking(move || {
            let _place = place;
            Ok(name.to_socket_addrs()?.collect())
        });
        looked.await.map_err(io::Error::other)?
    }

    /// First among those of its session, so that one session's flood takes no place of another's.
    async fn place(
        &self,
        session: &Arc<str>,
    ) -> io::Result<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let first = self.sessions.of(session).acquire_owned().await;
        let second = Arc::clone(&self.all).acquire_owned().await;
        Ok((
            first.map_err(io::Error::other)?,
            second.map_err(io::Error::other)?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn one_session_takes_no_place_of_anothers() {
        let lookups = Lookups::default();
        let (greedy, other): (Arc<str>, Arc<str>) = ("greedy".into(), "other".into());
        let mut held = vec![];
        for _ in 0..OF_SESSION {
            held.push(lookups.place(&greedy).await.unwrap());
        }
        let more = timeout(Duration::from_millis(50), lookups.place(&greedy));
        assert!(more.await.is_err(), "it waits for its own");
        let found = lookups.find(&other, ("localhost".into(), 80)).await;
        assert!(!found.unwrap().is_empty());
        held.pop();
        assert!(lookups.place(&greedy).await.is_ok());
    }
}
