//! Connections that we opened, by both their ends: one that arrives at a listener of ours again was led
//! back to us, and would be for ever (threat S-07).

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpStream;

/// Our end and the far one, as whoever accepts it sees its client and where that wanted to go.
type Ends = (SocketAddr, SocketAddr);

/// The connections of ours that could come back.
#[derive(Default)]
pub(super) struct Circle(Mutex<HashSet<Ends>>);

/// A connection that is ours for as long as this lives: the next one may have the same ends.
pub(super) struct Known {
    circle: Arc<Circle>,
    ends: Ends,
}

impl Circle {
    /// Remembers a connection before anything is written to it, so that its first byte is known already.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn know(self: &Arc<Self>, stream: &TcpStream) -> io::Result<Known> {
        let ends = canonical(stream.local_addr()?, stream.peer_addr()?);
        self.lock().insert(ends);
        Ok(Known {
            circle: Arc::clone(self),
            ends,
        })
    }

    /// Did we open what comes from `peer`, and wanted to go to `meant`?
    pub(super) fn has(&self, peer: SocketAddr, meant: SocketAddr) -> bool {
        self.lock().contains(&canonical(peer, meant))
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Ends>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        self.circle.lock().remove(&self.ends);
    }
}

/// A listener for both families sees IPv4 inside IPv6.
fn canonical(one: SocketAddr, other: SocketAddr) -> Ends {
    let plain = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
    (plain(one), plain(other))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_of_ours_is_known_where_it_arrives_for_as_long_as_it_lives() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let circle = Arc::new(Circle::default());
        let ours = TcpStream::connect(at).await.unwrap();
        let other = TcpStream::connect(at).await.unwrap();
        let known = circle.know(&ours).unwrap();
        let (_first, peer) = listener.accept().await.unwrap();
        let (_second, stranger) = listener.accept().await.unwrap();
        assert_eq!(stranger, other.local_addr().unwrap());
        assert!(circle.has(peer, at) && !circle.has(stranger, at));
        let mapped = format!("[::ffff:127.0.0.1]:{}", peer.port());
        assert!(circle.has(mapped.parse().unwrap(), at));
        drop(known);
        assert!(!circle.has(peer, at));
    }
}
