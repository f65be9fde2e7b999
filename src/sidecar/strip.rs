//! Taking a sidecar out again: what we put in is known by its names and values, never by a mark that
//! anybody can write.

use serde_json::{Map, Value};

use super::tree::{entries_mut, name};
use super::{NAME, PREFIX, REDIRECT, USER, grace, parts, variables};

/// When the group of a volume is changed: only when it is not right already.
pub(super) const ON_ROOT_MISMATCH: &str = "OnRootMismatch";

/// The pod, or template of one, without the sidecar and all that came with it.
#[must_use]
pub fn uninject(pod: &Value) -> Value {
    let mut pod = pod.clone();
    let replaced = pod.pointer("/metadata/annotations");
    let replaced = replaced.and_then(|a| a.get(format!("{PREFIX}replaced"))?.as_str());
    let replaced: Map<String, Value> = replaced
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let grace = pod.pointer("/metadata/annotations");
    let grace = grace.and_then(|a| a.get(format!("{PREFIX}grace"))?.as_str());
    let grace = grace.map(str::to_owned);
    if let Some(Value::Object(spec)) = pod.get_mut("spec") {
        if let Some(grace) = grace {
            grace::restore(spec, &grace);
        }
        for key in ["initContainers", "containers"] {
            retain(spec, key, |c| name(c) != NAME && name(c) != REDIRECT);
            for container in entries_mut(spec, key) {
                let of = name(container).to_owned();
                if let Value::Object(container) = container {
                    retain(container, "volumeMounts", |m| !parts::is_ours(name(m)));
                    if let Some(Value::Array(env)) = container.get_mut("env") {
                        let before = replaced.get(&of).and_then(Value::as_array);
                        variables::restore(env, before.map_or(&[], Vec::as_slice));
                        variables::remove(env);
                    }
                    drop_empty(container, "env");
                }
            }
        }
        retain(spec, "volumes", |v| !parts::is_ours(name(v)));
        context(spec);
    }
    if let Some(Value::Object(metadata)) = pod.get_mut("metadata") {
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.remove(&format!("{PREFIX}injected"));
            annotations.remove(&format!("{PREFIX}replaced"));
            annotations.remove(&format!("{PREFIX}grace"));
        }
        drop_empty(metadata, "annotations");
        if metadata.is_empty()
            && let Value::Object(pod) = &mut pod
        {
            pod.remove("metadata");
        }
    }
    pod
}

fn context(spec: &mut Map<String, Value>) {
    let Some(Value::Object(context)) = spec.get_mut("securityContext") else {
        return;
    };
    let ours = context.get("fsGroup").is_some_and(|g| *g == USER)
        && context
            .get("fsGroupChangePolicy")
            .is_some_and(|p| p == ON_ROOT_MISMATCH);
    if ours {
        context.remove("fsGroup");
        context.remove("fsGroupChangePolicy");
        drop_empty(spec, "securityContext");
    }
}

/// Keeps some entries of a list. A list that we emptied was ours.
fn retain(map: &mut Map<String, Value>, key: &str, keep: impl Fn(&Value) -> bool) {
    let Some(Value::Array(list)) = map.get_mut(key) else {
        return;
    };
    let before = list.len();
    list.retain(keep);
    if list.len() < before {
        drop_empty(map, key);
    }
}

fn drop_empty(map: &mut Map<String, Value>, key: &str) {
    let empty = match map.get(key) {
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        _ => false,
    };
    if empty {
        map.remove(key);
    }
}
