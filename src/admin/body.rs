//! Bodies of requests: one JSON object each, as the description says.

use serde::de::DeserializeOwned;

use super::problem::Problem;

/// Reads a body that must be there.
///
/// # Errors
/// When it is no object, or not this one.
pub(super) fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    match body.trim_ascii_start() {
        [b'{', ..] => serde_json::from_slice(body).map_err(|e| Problem::Request(e.to_string())),
        // A list of the members in their order would do as well for the parser.
        _ => Err(Problem::Request("the body must be a JSON object".into())),
    }
}

/// The same, where none is `{}`.
///
/// # Errors
/// Those of `object`.
pub(super) fn object_or_none<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Problem> {
    match body.trim_ascii_start() {
        [] => Ok(T::default()),
        _ => object(body),
    }
}
