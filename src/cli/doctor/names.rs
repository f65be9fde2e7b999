//! Names: do those that rules pay resolve, from where this runs?

use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

use super::finding::Finding;
use crate::config::Config;
use crate::settings::UpstreamProxy;

/// Names that are asked for. More only take time.
const MOST: usize = 8;

const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    match &config.egress.upstream_proxy {
        UpstreamProxy::None => {}
        UpstreamProxy::Environment => {
            return vec![Finding::unknown("dns", "the parent proxy resolves names")];
        }
        UpstreamProxy::Through(parent) => return vec![resolve(&parent.host, parent.port).await],
    }
    let pinned = |(host, port): &(String, u16)| config.egress.pinned(host, *port).is_some();
    let mut hosts = config.policy.paid_hosts();
    hosts.retain(|host| !pinned(host) && host.0.parse::<std::net::IpAddr>().is_err());
    if hosts.is_empty() {
        return vec![Finding::ok(
            "dns",
            "no rule names a host that must be looked up",
        )];
    }
    let mut all = vec![];
    for (host, port) in hosts.iter().take(MOST) {
        all.push(resolve(host, *port).await);
    }
    all
}

async fn resolve(host: &str, port: u16) -> Finding {
    let mend = format!("getent hosts {host}    or pin it: egress.resolve");
    match timeout(PATIENCE, lookup_host((host, port))).await {
        Err(_) => Finding::wrong("dns", format!("no answer about {host} in time"), mend),
        Ok(Err(_)) => Finding::wrong("dns", format!("{host} does not resolve"), mend),
        Ok(Ok(found)) => {
            let addresses = match found.count() {
                1 => "1 address".into(),
                count => format!("{count} addresses"),
            };
            Finding::ok("dns", format!("{host} has {addresses}"))
        }
    }
}
