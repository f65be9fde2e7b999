//! Reading and growing JSON objects, with what is wrong in words.

use serde_json::{Map, Value};

use super::Denial;

/// The entries of a list, or none.
pub(super) fn entries<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The entries of a list, to be changed.
pub(super) fn entries_mut<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut [Value] {
    match map.get_mut(key) {
        Some(Value::Array(list)) => list,
        _ => &mut [],
    }
}

/// A text, or nothing.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

/// What a container, volume or variable is called.
pub(super) fn name(value: &Value) -> &str {
    text(value, "name").unwrap_or_default()
}

/// The object at `key` of a value, made when it is not there.
pub(super) fn object<'a>(
    value: &'a mut Value,
    key: &str,
) -> Result<&'a mut Map<String, Value>, Denial> {
    match value {
        Value::Object(map) => child(map, key),
        _ => Err(Denial::new("this is no pod: it is no object")),
    }
}

/// The object at `key` of an object, made when it is not there.
pub(super) fn child<'a>(
    map: &'a mut Map<String, Value>,
    key: &str,
) -> Result<&'a mut Map<String, Value>, Denial> {
    match grown(map, key, || Value::Object(Map::new())) {
        Value::Object(map) => Ok(map),
        _ => Err(Denial::new(format!("`{key}` is no object"))),
    }
}

/// The list at `key` of an object, made when it is not there.
pub(super) fn list_mut<'a>(
    map: &'a mut Map<String, Value>,
    key: &str,
) -> Result<&'a mut Vec<Value>, Denial> {
    match grown(map, key, || Value::Array(vec![])) {
        Value::Array(list) => Ok(list),
        _ => Err(Denial::new(format!("`{key}` is no list"))),
    }
}

/// `null` is what is not there, as the API server reads it.
fn grown<'a>(
    map: &'a mut Map<String, Value>,
    key: &str,
    empty: impl FnOnce() -> Value,
) -> &'a mut Value {
    if map.get(key).is_some_and(Value::is_null) {
        map.remove(key);
    }
    map.entry(key).or_insert_with(empty)
}
