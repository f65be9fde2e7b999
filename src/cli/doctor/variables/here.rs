//! Does a URL lead to this proxy? A name and an address of the same machine are the same place.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::admin::Beacon;
use crate::cli::run::LENT;
use crate::config::Config;
use crate::settings::Entrance;

/// For a name that nobody knows.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where the proxy listens: the one that runs here, and what the configuration says. A program under `run`
/// has one of its own, or a port that `run` lends it, which nobody else knows.
pub(super) struct Here(Vec<SocketAddr>);

impl Here {
    pub(super) fn of(config: &Config, given: &dyn Fn(&str) -> Option<String>) -> Self {
        let known = Beacon::seen(&config.state_dir).map(|beacon| beacon.proxy);
        let all = known.iter().chain(&config.listen.proxy);
        let lent = given(LENT).and_then(|at| at.parse().ok());
        Self(all.filter_map(Entrance::address).chain(lent).collect())
    }

    /// Clients try every address of a name, so one of them is enough.
    pub(super) async fn is_at(&self, url: &str) -> bool {
        let Some((host, port)) = parted(url) else {
            return false;
        };
        let found = timeout(PATIENCE, lookup_host((host, port))).await;
        let Ok(Ok(mut found)) = found else {
            return false;
        };
        found.any(|at| self.0.iter().any(|proxy| reaches(at, *proxy)))
    }
}

/// Is a connection to `at` one to the listener `proxy`?
fn reaches(at: SocketAddr, proxy: SocketAddr) -> bool {
    let (ip, listens) = (at.ip().to_canonical(), proxy.ip());
    let same = match listens.is_unspecified() {
        // One on all addresses of IPv6 takes those of IPv4 as well.
        true => (listens.is_ipv6() || ip.is_ipv4()) && is_ours(ip),
        false => ip == listens.to_canonical(),
    };
    same && at.port() == proxy.port()
}

/// An address of this machine: only there can a socket be bound.
fn is_ours(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

/// Host and port of a URL: the rest may be a password.
pub(super) fn place(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

/// The same apart, without the brackets of IPv6; without a port, the usual one of the scheme.
fn parted(url: &str) -> Option<(&str, u16)> {
    let usual = match url.split_once("://") {
        Some(("https", _)) => 443,
        Some(_) | None => 80,
    };
    let place = place(url);
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        Some(_) | None => (place, usual),
    };
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(all: &[&str]) -> Here {
        Here(all.iter().map(|at| at.parse().unwrap()).collect())
    }

    #[tokio::test]
    async fn a_name_of_this_machine_leads_here() {
        let loopback = here(&["127.0.0.1:4020"]);
        for ours in [
            "http://localhost:4020",
            "https://bot:s3cret@localhost:4020/",
            "http://127.0.0.1:4020",
            "127.0.0.1:4020",
        ] {
            assert!(loopback.is_at(ours).await, "{ours}");
        }
        for other in [
            "http://localhost:4021",
            "http://localhost",
            "http://192.0.2.1:4020",
            "http://[::1]:4020",
            "http://nowhere.invalid:4020",
            "http://:4020",
            "http://localhost:port",
            "",
        ] {
            assert!(!loopback.is_at(other).await, "{other}");
        }
    }

    #[tokio::test]
    async fn a_listener_everywhere_is_at_every_address_of_this_machine() {
        let (four, six) = (here(&["0.0.0.0:4020"]), here(&["[::]:4020"]));
        // All of 127/8 is this machine's, and 192.0.2/24 is nobody's.
        for url in ["http://127.0.0.2:4020", "http://localhost:4020"] {
            assert!(four.is_at(url).await && six.is_at(url).await, "{url}");
        }
        assert!(six.is_at("http://[::1]:4020").await);
        assert!(!four.is_at("http://[::1]:4020").await);
        for url in ["http://192.0.2.1:4020", "http://127.0.0.1:4021"] {
            assert!(!four.is_at(url).await && !six.is_at(url).await, "{url}");
        }
        // Whatever address this machine has towards others, if it has one.
        let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
        if probe.connect("192.0.2.1:9").is_ok() {
            let own = probe.local_addr().unwrap().ip();
            assert!(four.is_at(&format!("http://{own}:4020")).await, "{own}");
        }
    }

    #[test]
    fn a_url_without_a_port_has_that_of_its_scheme() {
        assert_eq!(parted("http://proxy.example"), Some(("proxy.example", 80)));
        assert_eq!(parted("https://[::1]/"), Some(("::1", 443)));
        assert_eq!(parted("http://u:p@[::1]:4020"), Some(("::1", 4020)));
    }
}
