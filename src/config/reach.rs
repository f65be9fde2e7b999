//! Warns of rules that pay at hosts where nothing is ever paid, whatever the rules say.

use crate::section::{Section, SectionError};
use crate::settings::HostPattern;

use super::Config;

/// One warning for each host of a rule that pays and that is never reached, never opened or never trusted.
pub(super) fn unpaid(rules: Option<Section>, config: &Config) -> Vec<SectionError> {
    let named = |rule: Section| {
        let plain = rule.peek("pay")?.peek("insecure_http");
        let plain = plain.is_some_and(|plain| plain.flag() == Ok(true));
        let hosts = rule.peek("match")?.peek("hosts")?.items().ok()?;
        Some(hosts.into_iter().map(move |host| (host, plain)))
    };
    let rules = rules.and_then(|rules| rules.items().ok());
    let hosts = rules.into_iter().flatten().filter_map(named).flatten();
    let never = |(host, plain)| never(host, plain, config);
    hosts.filter_map(never).collect()
}

/// `plain`: it may be paid by plain HTTP, which comes through no tunnel.
fn never(item: Section, plain: bool, config: &Config) -> Option<SectionError> {
    let pattern: HostPattern = item.clone().parse().ok()?;
    let port = pattern.port();
    let mut pins = config.egress.resolve.keys();
    let pinned = pins.any(|(host, port)| pattern.matches(host, *port));
    if let Some(port) = port.filter(|port| !config.egress.ports.contains(port) && !pinned) {
        let error = item.error(format!(
            "port {port} is not reached, so nothing is paid there"
        ));
        return Some(error.hint(format!("add {port} to `egress.ports`")));
    }
    let among = |list: &[HostPattern]| list.iter().any(|listed| listed.covers(&pattern));
    if !plain && among(&config.tls.passthrough) {
        let problem = "its tunnels are not opened (tls.passthrough), so nothing is paid there";
        return Some(item.error(problem));
    }
    if among(&config.tls.insecure_hosts) {
        let problem =
            "its certificate is not verified (tls.insecure_hosts), so nothing is paid there";
        return Some(item.error(problem));
    }
    None
}
