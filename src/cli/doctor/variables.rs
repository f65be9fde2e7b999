//! The variables that send programs through the proxy, and the holes in them.

use std::net::SocketAddr;

use super::finding::Finding;
use crate::admin::Beacon;
use crate::config::Config;
use crate::settings::Entrance;

const CHECK: &str = "variables";

/// What sets all of them, for one program.
pub(super) const RUN: &str = "farepass run -- CMD";

/// Reached directly by everybody, and never paid.
const HARMLESS: &[&str] = &["localhost", "127.0.0.1", "::1", "[::1]"];

pub(super) fn look(config: &Config, given: &dyn Fn(&str) -> Option<String>) -> Vec<Finding> {
    let mut all: Vec<Finding> = [
        ("https", ["HTTPS_PROXY", "https_proxy"]),
        ("http", ["http_proxy", "HTTP_PROXY"]),
    ]
    .iter()
    .map(|(scheme, names)| proxy(scheme, names, config, given))
    .collect();
    // A second variable of the same meaning, for programs that prefer it.
    for name in ["ALL_PROXY", "all_proxy"] {
        if let Some(url) = given(name).filter(|url| !ours(url, config)) {
            let said = format!("${name} leads to {}", place(&url));
            all.push(Finding::wrong(CHECK, said, format!("unset {name}")));
        }
    }
    for name in ["NO_PROXY", "no_proxy"] {
        all.extend(holes(name, config, given));
    }
    all
}

fn proxy(
    scheme: &str,
    names: &[&str],
    config: &Config,
    given: &dyn Fn(&str) -> Option<String>,
) -> Finding {
    let set: Vec<_> = names
        .iter()
        .filter_map(|name| Some((*name, given(name)?)))
        .collect();
    if set.is_empty() {
        let said = format!(
            "neither ${} is set: programs started here go around the proxy",
            names.join(" nor $")
        );
        return Finding::wrong(CHECK, said, RUN);
    }
    match set.iter().find(|(_, url)| !ours(url, config)) {
        Some((name, url)) => {
            let said = format!("${name} leads to {}, which is not this proxy", place(url));
            Finding::wrong(CHECK, said, RUN)
        }
        None => Finding::ok(CHECK, format!("{scheme} goes through the proxy")),
    }
}

/// Host and port of a URL: the rest may be a password.
fn place(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

/// The proxy that runs here, or the one that the configuration describes. A program under `run` has one
/// of its own, with a port that nobody else knows: loopback, and credentials of ours.
fn ours(url: &str, config: &Config) -> bool {
    let Ok(at) = place(url).parse::<SocketAddr>() else {
        return false;
    };
    let known = Beacon::seen(&config.state_dir).map(|beacon| beacon.proxy);
    known
        .iter()
        .chain(&config.listen.proxy)
        .filter_map(Entrance::address)
        .any(|proxy| {
            let everywhere = proxy.ip().is_unspecified() && at.ip().is_loopback();
            proxy.port() == at.port() && (proxy.ip() == at.ip() || everywhere)
        })
}

/// Every entry that is not this machine is a way around the policy.
fn holes(
    name: &'static str,
    config: &Config,
    given: &dyn Fn(&str) -> Option<String>,
) -> Option<Finding> {
    let list = given(name)?;
    let entries = list.split([',', ' ']).map(str::trim);
    let open: Vec<_> = entries
        .filter(|e| !e.is_empty() && !HARMLESS.contains(e))
        .collect();
    if open.is_empty() {
        return None;
    }
    let hosts = config.policy.paid_hosts();
    let paid = hosts
        .iter()
        .find(|(host, _)| open.iter().any(|entry| lets_out(entry, host)));
    let shown = crate::cli::table::plain(&open.join(", "));
    let said = format!("${name} lets programs reach {shown} without the proxy");
    Some(match paid {
        Some((host, _)) => {
            let said = format!("{said}; a rule pays {host}");
            Finding::wrong(
                CHECK,
                said,
                format!("export {name}=localhost,127.0.0.1,::1"),
            )
        }
        None => Finding::unknown(CHECK, said),
    })
}

fn lets_out(entry: &str, host: &str) -> bool {
    let bare = entry.trim_start_matches("*.").trim_start_matches('.');
    let bare = bare.rsplit_once(':').map_or(bare, |(host, _)| host);
    let above = host.strip_suffix(bare);
    entry == "*" || above.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
