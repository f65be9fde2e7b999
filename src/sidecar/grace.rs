//! How long a pod has to end. The sidecar stops last, and finishes what is being paid for first.

use serde_json::{Map, Value};

const KEY: &str = "terminationGracePeriodSeconds";

/// Seconds: more than `limits.drain` of `config/sidecar.yaml`. An agent that ends sooner is not held up.
pub(super) const LEAST: u64 = 75;

/// Kubernetes's own, where a pod says nothing.
const USUAL: u64 = 30;

/// Raises it where it is less. What stood there before, for [`restore`]: empty where nothing did.
pub(super) fn raise(spec: &mut Map<String, Value>) -> Option<String> {
    let before = spec.get(KEY).and_then(Value::as_u64);
    if before.unwrap_or(USUAL) >= LEAST {
        return None;
    }
    spec.insert(KEY.into(), LEAST.into());
    Some(
        before
            .map(|seconds| seconds.to_string())
            .unwrap_or_default(),
    )
}

/// Puts back what [`raise`] found, unless somebody set another time since.
pub(super) fn restore(spec: &mut Map<String, Value>, before: &str) {
    if spec.get(KEY).and_then(Value::as_u64) != Some(LEAST) {
        return;
    }
    match before.parse::<u64>() {
        Ok(seconds) if seconds < LEAST => {
            spec.insert(KEY.into(), seconds.into());
        }
        Ok(_) | Err(_) => {
            spec.remove(KEY);
        }
    }
}
