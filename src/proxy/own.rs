//! Which addresses are this machine's own. What listens on them trusts its neighbours, and a proxy
//! that reaches itself hands its admin surface to agents, or calls itself for ever (threats S-01,
//! S-06, S-07).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// This machine, as far as connections to it are concerned.
pub(super) struct Own {
    /// Ports that this process listens on.
    ports: Vec<u16>,
    /// Does the kernel bind own addresses only?
    bind_tells: bool,
}

/// Addresses that no machine has, one a family: a kernel that lets them be bound lets everything be
/// bound (`ip_nonlocal_bind`), and its yes says nothing.
const NOBODYS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(240, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1)),
];

impl Own {
    pub(super) fn new(ports: Vec<u16>) -> Self {
        Self {
            ports,
            bind_tells: !NOBODYS.iter().any(|nobody| binds(*nobody)),
        }
    }

    /// Is it one of our own listeners, by whatever interface of this machine?
    pub(super) fn listens(&self, at: SocketAddr) -> bool {
        self.ports.contains(&at.port()) && self.has(at.ip())
    }

    /// Is it an address of this machine? The kernel is asked each time, since addresses come and go,
    /// without a packet being sent: it binds own addresses only, and reaches its first ones from
    /// themselves.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if address.is_loopback() || address.is_unspecified() {
            return true;
        }
        if self.bind_tells {
            return binds(address);
        }
        let any: IpAddr = match address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let from = UdpSocket::bind((any, 0)).and_then(|socket| {
            socket.connect((address, 9))?;
            socket.local_addr()
        });
        from.is_ok_and(|from| from.ip() == address)
    }
}

fn binds(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_knows_itself_by_every_address() {
        let own = Own::new(vec![4022]);
        for here in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "::1",
            "::",
            "::ffff:127.0.0.1",
        ] {
            assert!(own.has(here.parse().unwrap()), "{here}");
        }
        for elsewhere in ["192.0.2.1", "8.8.8.8", "2001:db8::1"] {
            assert!(!own.has(elsewhere.parse().unwrap()), "{elsewhere}");
        }
        assert!(own.listens("127.0.0.1:4022".parse().unwrap()));
        assert!(!own.listens("127.0.0.1:4023".parse().unwrap()));
        assert!(!own.listens("192.0.2.1:4022".parse().unwrap()));
    }
}
