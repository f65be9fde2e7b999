//! The difference of two values as a JSON patch (RFC 6902), by operations that need nothing but what
//! is there: a list whose length differs is replaced whole.

use serde::Serialize;
use serde_json::Value;

/// One operation.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Edit<'a> {
    /// A member that was not there.
    Add {
        /// Where, as a JSON pointer (RFC 6901).
        path: String,
        /// What.
        value: &'a Value,
    },
    /// A value that was another.
    Replace {
        /// Where.
        path: String,
        /// What.
        value: &'a Value,
    },
    /// A member that is gone.
    Remove {
        /// Where.
        path: String,
    },
}

/// What makes `new` of `old`.
#[must_use]
pub fn patch<'a>(old: &Value, new: &'a Value) -> Vec<Edit<'a>> {
    let mut edits = vec![];
    compare(old, new, String::new(), &mut edits);
    edits
}

fn compare<'a>(old: &Value, new: &'a Value, path: String, edits: &mut Vec<Edit<'a>>) {
    match (old, new) {
        _ if old == new => {}
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in old {
                let path = below(&path, key);
                match new.get(key) {
                    Some(new) => compare(value, new, path, edits),
                    None => edits.push(Edit::Remove { path }),
                }
            }
            for (key, value) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
                let path = below(&path, key);
                edits.push(Edit::Add { path, value });
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                compare(old, new, format!("{path}/{index}"), edits);
            }
        }
        _ => edits.push(Edit::Replace { path, value: new }),
    }
}

fn below(path: &str, key: &str) -> String {
    format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"))
}
