//! The variables that send programs through the proxy, and the holes in them.

use super::finding::Finding;
use crate::config::Config;
use crate::sidecar::variables;

mod here;

use here::place;

const CHECK: &str = "variables";

/// What sets all of them, for one program.
pub(super) const RUN: &str = "farepass run -- CMD";

/// Reached directly by everybody, and never paid.
const HARMLESS: &[&str] = &["localhost", "127.0.0.1", "::1", "[::1]"];

pub(super) async fn look(config: &Config, given: &dyn Fn(&str) -> Option<String>) -> Vec<Finding> {
    let here = here::Here::of(config, given);
    let mut all = vec![];
    for (scheme, names) in [
        ("https", ["HTTPS_PROXY", "https_proxy"]),
        ("http", ["http_proxy", "HTTP_PROXY"]),
    ] {
        let set = names
            .iter()
            .filter_map(|name| Some((*name, given(name)?)))
            .collect::<Vec<_>>();
        all.push(match set.is_empty() {
            true => unset(names, config),
            false => proxy(scheme, &set, &here).await,
        });
    }
    // A second variable of the same meaning, for programs that prefer it.
    for name in ["ALL_PROXY", "all_proxy"] {
        let Some(url) = given(name) else { continue };
        if !here.is_at(&url).await {
            let said = format!("${name} leads to {}", place(&url));
            all.push(Finding::wrong(CHECK, said, format!("unset {name}")));
        }
    }
    for (name, _) in std::env::vars_os() {
        let Ok(name) = name.into_string() else {
            continue;
        };
        if variables::is_of_one(&name) {
            all.extend(of_one(&name, &here, given).await);
        }
    }
    for name in variables::git_proxies(given) {
        all.extend(of_one(&name, &here, given).await);
    }
    for name in ["NO_PROXY", "no_proxy"] {
        all.extend(holes(name, config, given));
    }
    all
}

/// What a single program believes before all others, unless it leads here or to this machine.
async fn of_one(
    name: &str,
    here: &here::Here,
    given: &dyn Fn(&str) -> Option<String>,
) -> Option<Finding> {
    let value = given(name)?;
    let harmless = value.split([',', ' ']).all(|e| HARMLESS.contains(&e));
    if harmless || here.is_at(&value).await {
        return None;
    }
    let said = format!("${name} is set, and whatever reads it believes it before $HTTPS_PROXY");
    // A list that lacks one is none to git.
    let mend = match name.starts_with("GIT_") {
        true => RUN.to_owned(),
        false => format!("unset {name}"),
    };
    Some(Finding::wrong(CHECK, said, mend))
}

/// What is redirected needs no variable, but only the network knows what that is.
fn unset(names: [&str; 2], config: &Config) -> Finding {
    let said = format!("neither ${} is set", names.join(" nor $"));
    match config.listen.transparent.is_empty() {
        true => Finding::wrong(
            CHECK,
            format!("{said}: programs started here go around the proxy"),
            RUN,
        ),
        false => Finding::unknown(
            CHECK,
            format!(
                "{said}: programs started here reach the proxy as far as the network redirects them to listen.transparent"
            ),
        ),
    }
}

async fn proxy(scheme: &str, set: &[(&str, String)], here: &here::Here) -> Finding {
    for (name, url) in set {
        if !here.is_at(url).await {
            let said = format!("${name} leads to {}, which is not this proxy", place(url));
            return Finding::wrong(CHECK, said, RUN);
        }
    }
    Finding::ok(CHECK, format!("{scheme} goes through the proxy"))
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
