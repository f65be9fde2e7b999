//! Opening connections to upstreams: one resolution, every address checked before it is dialled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::circle::Circle;
use super::eyeballs::first_of;
use super::failure::UpstreamError;
use super::lookups::Lookups;
use super::own::Own;
use super::parent::{self, Parent, ParentFailure};
use super::pool::Key;
use super::tally::Count;
use super::target::Target;
use super::trail::{Mark, Trail};
use crate::settings::Egress;

/// Opens TCP connections within the operator's egress rules.
pub(super) struct Dialer {
    pub(super) egress: Egress,
    pub(super) parent: Option<Parent>,
    /// What nothing reaches through the proxy: its own listeners, whatever the rules allow.
    pub(super) own: Own,
    /// What it opened and could come back to us where connections are redirected.
    pub(super) circle: Arc<Circle>,
    /// What we call ourselves to a parent.
    pub(super) mark: Arc<Mark>,
    pub(super) connect_timeout: Duration,
    /// How long a peer may take nothing of what is sent to it.
    pub(super) pause: Duration,
    pub(super) lookups: Lookups,
    /// Connections that were asked of it.
    pub(super) dialled: Count,
}

impl Dialer {
    /// A connected socket for requests of this key.
    pub(super) async fn reach(&self, key: &Key) -> Result<TcpStream, UpstreamError> {
        self.connect(&key.session, &key.target, &key.trail).await
    }

    /// A connected socket to an address that was checked, without Nagle's delay.
    /// `session` asks; `trail`: the proxies before us, for one behind us.
    pub(super) async fn connect(
        &self,
        session: &Arc<str>,
        target: &Target,
        trail: &Trail,
    ) -> Result<TcpStream, UpstreamError> {
        self.dialled.one();
        let pinned = self.egress.pinned(&target.host, target.port).is_some();
        let parent = self
            .parent
            .as_ref()
            .filter(|p| !pinned && p.carries(target));
        if let Some(parent) = parent {
            return self.through(parent, target, trail).await;
        }
        let addresses = self.addresses(session, target).await?;
        let connected = timeout(self.connect_timeout, first_of(addresses, self.pause)).await;
        let connected = connected.map_err(|_| UpstreamError::ConnectTimeout)?;
        let stream = connected.map_err(UpstreamError::Connect)?;
        Ok(stream)
    }

    /// A tunnel through the parent. It resolves the name, so what can be judged here is the name:
    /// port, literal address, and no name of its own neighbourhood (threat S-08).
    async fn through(
        &self,
        parent: &Parent,
        target: &Target,
        trail: &Trail,
    ) -> Result<TcpStream, UpstreamError> {
        if !self.egress.ports.contains(&target.port) {
            return Err(UpstreamError::PortForbidden);
        }
        let allowed = match target.address() {
            Some(address) => self.may_reach(SocketAddr::new(address, target.port)),
            None => !parent::is_local(&target.host),
        };
        if !allowed {
            return Err(UpstreamError::Forbidden);
        }
        let mut addresses = parent.addresses(self.connect_timeout).await?;
        addresses.retain(|at| !self.own.listens(*at));
        if addresses.is_empty() {
            return Err(ParentFailure::Loop.into());
        }
        let connected = timeout(self.connect_timeout, first_of(addresses, self.pause)).await;
        let connected = connected.map_err(|_| ParentFailure::Timeout)?;
        let stream = connected.map_err(|_| ParentFailure::Unreachable)?;
        let request = parent.request(target, &trail.onward(&self.mark));
        let tunnel = parent::tunnel(stream, &request, self.connect_timeout).await;
        Ok(tunnel?)
    }

    async fn addresses(
        &self,
        session: &Arc<str>,
        target: &Target,
    ) -> Result<Vec<SocketAddr>, UpstreamError> {
        if let Some(pinned) = self.egress.pinned(&target.host, target.port) {
            return match self.own.listens(pinned) {
                true => Err(UpstreamError::Forbidden),
                false => Ok(vec![pinned]),
            };
        }
        if !self.egress.ports.contains(&target.port) {
            return Err(UpstreamError::PortForbidden);
        }
        let found: Vec<SocketAddr> = match target.address() {
            Some(address) => vec![SocketAddr::new(address, target.port)],
            None => {
                let found = self
                    .lookups
                    .find(session, (target.host.to_string(), target.port));
                let found = timeout(self.connect_timeout, found).await;
                found
                    .map_err(|_| UpstreamError::DnsTimeout)?
                    .map_err(|_| UpstreamError::Dns)?
            }
        };
        if found.is_empty() {
            return Err(UpstreamError::Dns);
        }
        let allowed: Vec<SocketAddr> = found.into_iter().filter(|a| self.may_reach(*a)).collect();
        if allowed.is_empty() {
            return Err(UpstreamError::Forbidden);
        }
        Ok(allowed)
    }

    /// Judged is the address that will be dialled, not the name that led to it (threats S-01, S-03).
    fn may_reach(&self, at: SocketAddr) -> bool {
        let address = canonical(at.ip());
        if self.own.listens(SocketAddr::new(address, at.port())) {
            return false;
        }
        let mut allowed = self.egress.allow_private.iter();
        (is_public(address) && !self.own.has(address)) || allowed.any(|c| c.contains(address))
    }
}

/// IPv4 inside IPv6 (mapped, NAT64, 6to4) is judged as the IPv4 address it reaches.
fn canonical(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let v4 = |high: u16, low: u16| {
        let ([w, x], [y, z]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(w, x, y, z))
    };
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => v4(g, h),
        (0, 0, 0, 0, 0, 0) if v6 != Ipv6Addr::LOCALHOST && v6 != Ipv6Addr::UNSPECIFIED => v4(g, h),
        (0x2002, high, low, ..) => v4(high, low),
        _ => address,
    }
}

/// Where Azure tells virtual machines about themselves, an address like any other to look at.
const WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// Reachable by anyone on the internet: not private, loopback, link-local, metadata, multicast or
/// reserved (IANA special-purpose registries; threat S-01).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(a == 0
                || a == 10
                || a == 127
                || (a == 100 && (64..128).contains(&b))
                || (a == 169 && b == 254)
                || (a == 172 && (16..32).contains(&b))
                || (a == 192 && b == 0 && (c == 0 || c == 2))
                || (a == 192 && b == 88 && c == 99)
                || (a == 192 && b == 168)
                || (a == 198 && (b == 18 || b == 19))
                || (a == 198 && b == 51 && c == 100)
                || (a == 203 && b == 0 && c == 113)
                || v4 == WIRE_SERVER
                || a >= 224)
        }
        IpAddr::V6(v6) => {
            let [a, b, ..] = v6.segments();
            // Global unicast is 2000::/3; documentation and benchmarking ranges are cut out of it.
            (a & 0xe000) == 0x2000
                && !(a == 0x2001 && (b == 0xdb8 || b < 0x200))
                && !(a == 0x3fff && b < 0x1000)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_addresses_are_not_public_in_any_spelling() {
        for inside in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.100.100.200",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:a9fe:a9fe",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "168.63.129.16",
            "64:ff9b::a83f:8110",
        ] {
            assert!(!is_public(canonical(inside.parse().unwrap())), "{inside}");
        }
        for outside in [
            "1.1.1.1",
            "172.32.0.1",
            "192.0.1.1",
            "100.128.0.1",
            "169.253.1.1",
            "2606:4700:4700::1111",
            "64:ff9b::101:101",
            "::ffff:1.1.1.1",
            "2a00:1450::1",
        ] {
            assert!(is_public(canonical(outside.parse().unwrap())), "{outside}");
        }
    }
}
