//! The listeners: opened before anything is let in, so that a taken port stops the start.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use super::StartError;
use super::listener::{BACKLOG, listen, redirected};
use crate::custody;
use crate::proxy::{Door, UnixDoor};
use crate::settings::{Entrance, Listen, Tls};
use crate::tls;

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
                    let (listener, at) = bind(*at)?;
                    (
                        Door::Secure(listener, Arc::clone(config)),
                        Entrance::Tls(at),
                    )
                }
                // There is no TLS without `listen.tls`, and with it every address has it.
                (Entrance::Plain(at) | Entrance::Tls(at), _) => {
                    let (listener, at) = bind(*at)?;
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
        let (admin, admin_at) = bind(listen.admin)?;
        for address in &listen.transparent {
            let failed = failed(*address);
            let Some(listener) = redirected(*address).map_err(failed)? else {
                tracing::warn!(%address, "there is no IPv6 here, so nothing can arrive at this listener");
                continue;
            };
            transparent_at.push(listener.local_addr().map_err(failed)?);
            data.push(Door::Transparent(listener));
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

fn failed(address: SocketAddr) -> impl Fn(io::Error) -> StartError + Copy {
    move |source| StartError::Listen {
        address: Entrance::Plain(address),
        source,
    }
}

fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let listener = listen(address).map_err(failed(address))?;
    let at = listener.local_addr().map_err(failed(address))?;
    Ok((listener, at))
}
