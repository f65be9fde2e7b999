//! The listeners: opened before anything is let in, so that a taken port stops the start.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::StartError;
use crate::settings::Listen;

/// Connections that may wait to be accepted; the system's own bound is usually lower.
const BACKLOG: i32 = 4096;

/// The listeners, and where they turned out to be.
pub(super) struct Doors {
    pub(super) proxy: TcpListener,
    pub(super) proxy_at: SocketAddr,
    pub(super) transparent: Vec<TcpListener>,
    pub(super) transparent_at: Vec<SocketAddr>,
    pub(super) admin: TcpListener,
    pub(super) admin_at: SocketAddr,
}

impl Doors {
    pub(super) fn open(listen: &Listen) -> Result<Self, StartError> {
        let (proxy, proxy_at) = bind(listen.proxy, Redirected::No)?;
        let (admin, admin_at) = bind(listen.admin, Redirected::No)?;
        let (mut transparent, mut transparent_at) = (vec![], vec![]);
        for address in &listen.transparent {
            let (listener, at) = bind(*address, Redirected::Yes)?;
            transparent.push(listener);
            transparent_at.push(at);
        }
        Ok(Self {
            proxy,
            proxy_at,
            transparent,
            transparent_at,
            admin,
            admin_at,
        })
    }

    /// Every port that must not be a destination on this machine.
    pub(super) fn ports(&self) -> Vec<u16> {
        let ends = [self.proxy_at, self.admin_at];
        let all = ends.iter().chain(&self.transparent_at);
        all.map(SocketAddr::port).collect()
    }
}

/// Does the network lead connections here that were meant for others?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Redirected {
    Yes,
    No,
}

fn bind(
    address: SocketAddr,
    redirected: Redirected,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = listener(address, redirected).map_err(failed)?;
    let at = listener.local_addr().map_err(failed)?;
    Ok((listener, at))
}

fn listener(address: SocketAddr, redirected: Redirected) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if redirected == Redirected::Yes {
        receive_foreign(&socket, address)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// For TPROXY: connections whose destination is no address of this machine. It takes a capability
/// (`CAP_NET_ADMIN` or `CAP_NET_RAW`) that REDIRECT does without, so a refusal is no error.
fn receive_foreign(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    let permitted = match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
        // One family each: how to ask for the first destination depends on it.
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_ip_transparent_v6(true)
        }
    };
    if let Err(error) = permitted {
        tracing::debug!(%address, %error, "TPROXY is not possible here; REDIRECT is");
    }
    Ok(())
}
