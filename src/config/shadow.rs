//! Rules that never decide: one before them means all that they mean, and the first that fits decides.

use crate::section::{Section, SectionError};
use crate::settings::HostPattern;

use super::reach::items;

/// Rules that others are held against. Who has more of them does not write them by hand.
const MOST: usize = 64;

/// What else may narrow a rule down.
const NARROWER: [&str; 4] = ["methods", "paths", "agents", "tools"];

/// One warning for each rule whose hosts are all among those of one rule before it, which asks for nothing else.
pub(super) fn shadowed(rules: Option<Section>) -> Vec<SectionError> {
    let mut before: Vec<(String, Vec<HostPattern>)> = vec![];
    let mut warnings = vec![];
    for rule in items(rules) {
        let Some(matches) = rule.peek("match").filter(|m| !m.has("categories")) else {
            continue;
        };
        let hosts = items(matches.peek("hosts")).map(|host| host.parse().ok());
        let Some(hosts) = hosts.collect::<Option<Vec<HostPattern>>>() else {
            continue;
        };
        if hosts.is_empty() {
            continue;
        }
        let name = rule.peek("name").and_then(|name| name.text().ok());
        let among = |all: &[HostPattern]| hosts.iter().all(|h| all.iter().any(|a| a.covers(h)));
        if let Some((first, _)) = before.iter().find(|(_, all)| among(all)) {
            let problem = format!("never decides: `{first}` comes first and has all of its hosts");
            let warning = rule.key_error("match", problem);
            warnings.push(warning.hint("put it before that rule"));
        } else if before.len() < MOST && !NARROWER.iter().any(|key| matches.has(key)) {
            before.push((name.unwrap_or_default(), hosts));
        }
    }
    warnings
}
