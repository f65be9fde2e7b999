//! The group through which the sidecar reads its Secret, and when volumes are given to it.

use serde_json::{Map, Value};

use super::strip::drop_empty;
use super::{Denial, USER, tree};

const GROUP: &str = "fsGroup";
const POLICY: &str = "fsGroupChangePolicy";

/// When the group of a volume is changed: only when it is not right already. `Always` would open its 0600
/// files to the group at every start, and a ledger that others may write to is not opened.
const ON_ROOT_MISMATCH: &str = "OnRootMismatch";

/// Sees to both. A group that the pod has does it too, and its volumes are its own affair unless the ledger
/// is on one (`claim`). Gives what stood there before, for [`restore`]; nothing where nothing did.
pub(super) fn grant(
    spec: &mut Map<String, Value>,
    claim: Option<&str>,
) -> Result<Option<String>, Denial> {
    let context = tree::child(spec, "securityContext")?;
    let mut before = Map::new();
    for key in [GROUP, POLICY] {
        match context.get(key) {
            // As everywhere, `null` is what is not there.
            Some(Value::Null) => drop(context.remove(key)),
            Some(value) => drop(before.insert(key.into(), value.clone())),
            None => {}
        }
    }
    let changed = claim.is_some() || !before.contains_key(GROUP);
    if changed {
        context.entry(GROUP).or_insert_with(|| USER.into());
        context.insert(POLICY.into(), ON_ROOT_MISMATCH.into());
    }
    // Where nothing is noted, both are taken for ours by their values.
    let noted = changed && !before.is_empty();
    Ok(noted.then(|| Value::Object(before).to_string()))
}

/// Puts back what [`grant`] found, unless somebody set something else since.
pub(super) fn restore(spec: &mut Map<String, Value>, before: Option<&str>) {
    let Some(Value::Object(context)) = spec.get_mut("securityContext") else {
        return;
    };
    let before: Option<Map<String, Value>> =
        before.map(|text| serde_json::from_str(text).unwrap_or_default());
    let ours = is(context, GROUP, USER);
    if !is(context, POLICY, ON_ROOT_MISMATCH) || (before.is_none() && !ours) {
        return;
    }
    let before = before.unwrap_or_default();
    if ours && !before.contains_key(GROUP) {
        context.remove(GROUP);
    }
    match before.get(POLICY) {
        Some(policy) => drop(context.insert(POLICY.into(), policy.clone())),
        None => drop(context.remove(POLICY)),
    }
    drop_empty(spec, "securityContext");
}

fn is(context: &Map<String, Value>, key: &str, value: impl Into<Value>) -> bool {
    let value = value.into();
    context.get(key) == Some(&value)
}
