//! Taking a sidecar out again: what we put in is known by its names and values, never by a mark that
//! anybody can write.

use serde_json::{Map, Value};

use super::tree::{entries, entries_mut, name};
use super::workload::annotation;
use super::{Denial, Mode, NAME, PREFIX, REDIRECT, chosen, grace, group, parts, variables};

/// Annotations that are written with a sidecar, without their prefix.
const OURS: [&str; 4] = ["injected", "replaced", "grace", "group"];

/// The pod, or template of one, without the sidecar and all that came with it.
#[must_use]
pub fn uninject(pod: &Value) -> Value {
    let mut pod = pod.clone();
    if let Some(Value::Object(annotations)) = pod.pointer_mut("/metadata/annotations") {
        chosen::forget(annotations);
    }
    strip(&pod)
}

/// Refuses a pod whose sidecar somebody wrote by hand, without the mark that ours have: with ours in its place it would
/// lose its configuration and its ledger, and with that what it has spent. Whoever forges the mark gets ours.
///
/// # Errors
/// Where one stands that is not ours.
pub fn refuse_by_hand(pod: &Value) -> Result<(), Denial> {
    let none = Value::Null;
    let spec = pod.get("spec").unwrap_or(&none);
    let mut all = ["initContainers", "containers"]
        .iter()
        .flat_map(|key| entries(spec, key));
    match all.any(|container| name(container) == NAME) && annotation(pod, "injected").is_none() {
        true => Err(Denial::new(format!(
            "container `{NAME}` was written by hand and is not replaced: take it out, or keep the annotation {PREFIX}injected where the pod is a copy of an injected one, or label the namespace {PREFIX}inject=by-hand"
        ))),
        false => Ok(()),
    }
}

/// Is there a redirection? Nobody who puts a sidecar in takes it away for having no word about it.
pub(super) fn mode(pod: &Value) -> Option<Mode> {
    let mut init = entries(pod.get("spec")?, "initContainers").iter().map(name);
    init.any(|name| name == REDIRECT)
        .then_some(Mode::Transparent)
}

/// The same, with what flags chose for the pod: for a sidecar that is put in again.
pub(super) fn strip(pod: &Value) -> Value {
    let mut pod = pod.clone();
    let replaced: Map<String, Value> = annotation(&pod, "replaced")
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let grace = annotation(&pod, "grace").map(str::to_owned);
    let group = annotation(&pod, "group").map(str::to_owned);
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
        group::restore(spec, group.as_deref());
    }
    if let Some(Value::Object(metadata)) = pod.get_mut("metadata") {
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            for ours in OURS {
                annotations.remove(&format!("{PREFIX}{ours}"));
            }
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

/// Removes a list or object that has nothing in it.
pub(super) fn drop_empty(map: &mut Map<String, Value>, key: &str) {
    let empty = match map.get(key) {
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        _ => false,
    };
    if empty {
        map.remove(key);
    }
}
