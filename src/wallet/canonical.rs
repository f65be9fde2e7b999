//! JSON in the one form that hashes and signatures are made over: members sorted, nothing between them.

use serde_json::{Map, Value};

/// The text of a value with ASCII texts and whole numbers below 2^53: all that we send, and all that
/// every reader of JSON writes alike (RFC 8785 among them).
pub(super) fn text(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => object(members, out),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                comma(at, out);
                write(item, out);
            }
            out.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push_str(&value.to_string());
        }
    }
}

/// Sorted here, whatever order the map type has in a build.
fn object(members: &Map<String, Value>, out: &mut String) {
    let mut sorted: Vec<_> = members.iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    out.push('{');
    for (at, (name, value)) in sorted.into_iter().enumerate() {
        comma(at, out);
        out.push_str(&Value::from(name.as_str()).to_string());
        out.push(':');
        write(value, out);
    }
    out.push('}');
}

fn comma(at: usize, out: &mut String) {
    if at > 0 {
        out.push(',');
    }
}
