//! Bytes that are none of our business, copied both ways: tunnels that are not opened, and what follows
//! an upgrade. Only their silence, their life and their number are bounded (threat D-07).

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use super::activity::{Noted, Pulse};
use super::copy::both_ways;
use super::{Proxy, turned};

/// A place for one more tunnel, among those of its session and among all; without one there is none. Free again when
/// the last copy is gone.
#[derive(Clone)]
pub(super) struct Place {
    _both: Arc<[OwnedSemaphorePermit; 2]>,
}

impl Place {
    /// A free place, if there is one for this session (`limits.tunnels`).
    pub(super) fn take(proxy: &Proxy, session: &Arc<str>) -> Option<Self> {
        let own = proxy.tunnels_of_session.of(session);
        let all = Arc::clone(&proxy.tunnels);
        let both = [own.try_acquire_owned().ok()?, all.try_acquire_owned().ok()?];
        Some(Self {
            _both: Arc::new(both),
        })
    }
}

/// Copies until one side ends, nobody has said anything for `limits.idle_timeout`, the tunnel is as
/// old as `limits.connection_lifetime` allows, or the process drains.
pub(super) async fn relay<A, B>(proxy: &Proxy, place: Place, a: A, b: B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let _place = place;
    let pulse = Arc::default();
    let (a, b) = (Noted::new(a, &pulse), Noted::new(b, &pulse));
    let mut draining = proxy.draining.clone();
    tokio::select! {
        copied = both_ways(a, b) => copied,
        () = Pulse::silence(&pulse, proxy.limits.idle_timeout) => Err(io::ErrorKind::TimedOut.into()),
        () = sleep(proxy.limits.connection_lifetime) => Err(io::ErrorKind::TimedOut.into()),
        () = turned(&mut draining) => Ok(()),
    }
}
