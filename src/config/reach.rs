//! Hosts where nothing is ever paid, whatever the rules say: those that are not reached, not opened or not trusted.

use std::collections::BTreeMap;

use crate::section::{Section, SectionError};
use crate::settings::HostPattern;

use super::Config;

const UNOPENED: &str = "its tunnels are not opened (tls.passthrough), so nothing is paid there";
const UNVERIFIED: &str =
    "its certificate is not verified (tls.insecure_hosts), so nothing is paid there";

impl Config {
    /// Why nothing is paid at a place, whatever the rules say. `secure`: asked by `https`.
    pub(crate) fn never_paid(&self, host: &str, port: u16, secure: bool) -> Option<String> {
        if self.egress.pinned(host, port).is_none() && !self.egress.ports.contains(&port) {
            return Some(unreached(port));
        }
        let among = |list: &[HostPattern]| list.iter().any(|listed| listed.matches(host, port));
        let why = match secure {
            true if among(&self.tls.passthrough) => UNOPENED,
            true if among(&self.tls.insecure_hosts) => UNVERIFIED,
            true | false => return None,
        };
        Some(why.into())
    }
}

fn unreached(port: u16) -> String {
    format!("port {port} is not reached, so nothing is paid there")
}

/// One warning for each host of a rule that pays and that is never reached, never opened or never trusted.
/// Hosts of categories are told once, at their own place.
pub(super) fn unpaid(
    rules: Option<Section>,
    categories: Option<&Section>,
    config: &Config,
) -> Vec<SectionError> {
    let (mut hosts, mut named) = (vec![], BTreeMap::new());
    for rule in items(rules) {
        let (Some(pay), Some(matches)) = (rule.peek("pay"), rule.peek("match")) else {
            continue;
        };
        let plain = pay.peek("insecure_http");
        let plain = plain.is_some_and(|plain| plain.flag() == Ok(true));
        hosts.extend(items(matches.peek("hosts")).map(|host| (host, plain)));
        let names = items(matches.peek("categories")).filter_map(|name| name.text().ok());
        // What one of the rules may pay by plain HTTP is paid.
        names.for_each(|name| *named.entry(name).or_insert(false) |= plain);
    }
    for (name, plain) in named {
        let listed = categories.and_then(|categories| categories.peek(&name));
        hosts.extend(items(listed).map(|host| (host, plain)));
    }
    let never = |(host, plain)| never(host, plain, config);
    hosts.into_iter().filter_map(never).collect()
}

/// Of a list, where one is written.
pub(super) fn items(list: Option<Section>) -> impl Iterator<Item = Section> {
    let items = list.and_then(|list| list.items().ok());
    items.into_iter().flatten()
}

/// `plain`: it may be paid by plain HTTP, which comes through no tunnel.
fn never(item: Section, plain: bool, config: &Config) -> Option<SectionError> {
    let pattern: HostPattern = item.clone().parse().ok()?;
    let port = pattern.port();
    let mut pins = config.egress.resolve.keys();
    let pinned = pins.any(|(host, port)| pattern.matches(host, *port));
    if let Some(port) = port.filter(|port| !config.egress.ports.contains(port) && !pinned) {
        let error = item.error(unreached(port));
        return Some(error.hint(format!("add {port} to `egress.ports`")));
    }
    let usual = [443, 80]
        .iter()
        .any(|port| config.egress.ports.contains(port));
    if port.is_none() && !usual && !pinned {
        let problem = "without a port it stands for 443 and 80, which are not reached, so nothing is paid there";
        return Some(
            item.error(problem)
                .hint("write its port, or add 443 to `egress.ports`"),
        );
    }
    let among = |list: &[HostPattern]| list.iter().any(|listed| listed.covers(&pattern));
    if !plain && among(&config.tls.passthrough) {
        return Some(item.error(UNOPENED));
    }
    if among(&config.tls.insecure_hosts) {
        return Some(item.error(UNVERIFIED));
    }
    None
}
