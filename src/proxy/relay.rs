//! Bytes that are none of our business, copied both ways: tunnels that are not opened, and what follows
//! an upgrade. Only their silence, their life and their number are bounded (threat D-07).

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use super::activity::{Activity, Noted};
use super::{Proxy, turned};

/// Buffer of each way. Two of them are all that an idle tunnel keeps, besides its sockets.
const COPY: usize = 16 * 1024;

/// A place for one more tunnel; without one there is none.
pub(super) struct Place(OwnedSemaphorePermit);

impl Place {
    /// A free place, if there is one (`limits.tunnels`).
    pub(super) fn take(proxy: &Proxy) -> Option<Self> {
        Arc::clone(&proxy.tunnels)
            .try_acquire_owned()
            .ok()
            .map(Self)
    }
}

/// Copies until one side ends, nobody has said anything for `limits.idle_timeout`, the tunnel is as
/// old as `limits.connection_lifetime` allows, or the process drains.
pub(super) async fn relay<A, B>(proxy: &Proxy, place: Place, a: A, b: B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let Place(_permit) = place;
    let activity = Activity::new();
    let (mut a, mut b) = (Noted::new(a, &activity), Noted::new(b, &activity));
    let mut draining = proxy.draining.clone();
    tokio::select! {
        copied = copy_bidirectional_with_sizes(&mut a, &mut b, COPY, COPY) => copied.map(|_| ()),
        () = activity.silence(proxy.limits.idle_timeout) => Err(io::ErrorKind::TimedOut.into()),
        () = sleep(proxy.limits.connection_lifetime) => Err(io::ErrorKind::TimedOut.into()),
        () = turned(&mut draining) => Ok(()),
    }
}
