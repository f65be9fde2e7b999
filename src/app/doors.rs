//! The listeners: opened before anything is let in, so that a taken port stops the start.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::StartError;
use crate::custody;
use crate::proxy::{Door, UnixDoor};
use crate::settings::{Entrance, Listen, Tls};
use crate::tls;

/// Connections that may wait to be accepted; the system's own bound is usually lower.
const BACKLOG: i32 = 4096;

/// The listeners, and where they turned out to be.
pub(super) struct Doors {
    /// Of the data plane, all kinds.
    pub(super) data: Vec<Door>,
    pub(super) proxy_at: Vec<Entrance>,
    pub(super) transparent_at: Vec<SocketAddr>,
    pub(super) admin: TcpListener,
    pub(super) admin_at: SocketAddr,
}

impl Doors {
    pub(super) fn open(listen: &Listen, tls: &Tls) -> Result<Self, StartError> {
        let config = match &listen.tls {
            Some(entrance) => Some(Arc::new(tls::entrance(entrance, tls)?)),
            None => None,
        };
        let (mut data, mut proxy_at, mut transparent_at) = (vec![], vec![], vec![]);
        for entrance in &listen.proxy {
            let (door, at) = match (entrance, &config) {
                (Entrance::Tls(at), Some(config)) => {
                    let (listener, at) = bind(*at, Redirected::No)?;
                    (
                        Door::Secure(listener, Arc::clone(config)),
                        Entrance::Tls(at),
                    )
                }
                // There is no TLS without `listen.tls`, and with it every address has it.
                (Entrance::Plain(at) | Entrance::Tls(at), _) => {
                    let (listener, at) = bind(*at, Redirected::No)?;
                    (Door::Proxy(listener), Entrance::Plain(at))
                }
                (Entrance::Unix(path), _) => {
                    custody::way(path)?;
                    let door = UnixDoor::open(path, &listen.allow_users, BACKLOG);
                    let failed = |source| StartError::Listen {
                        address: entrance.clone(),
                        source,
                    };
                    (Door::Unix(door.map_err(failed)?), entrance.clone())
                }
            };
            data.push(door);
            proxy_at.push(at);
        }
        let (admin, admin_at) = bind(listen.admin, Redirected::No)?;
        for address in &listen.transparent {
            let (listener, at) = bind(*address, Redirected::Yes)?;
            data.push(Door::Transparent(listener));
            transparent_at.push(at);
        }
        Ok(Self {
            data,
            proxy_at,
            transparent_at,
            admin,
            admin_at,
        })
    }

    /// Every port that must not be a destination on this machine.
    pub(super) fn ports(&self) -> Vec<u16> {
        let proxy = self.proxy_at.iter().filter_map(Entrance::address);
        let all = proxy.chain([self.admin_at]);
        let all = all.chain(self.transparent_at.iter().copied());
        all.map(|at| at.port()).collect()
    }

    /// Where programs are told to go.
    pub(super) fn told(&self) -> Entrance {
        let told = Entrance::told(&self.proxy_at).cloned();
        told.unwrap_or(Entrance::Plain(self.admin_at))
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
    let failed = |source| StartError::Listen {
        address: Entrance::Plain(address),
        source,
    };
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
