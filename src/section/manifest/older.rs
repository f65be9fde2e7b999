//! What manifests take from YAML 1.1, which API servers and their tools read: merge keys, and modes of files in octal.

use serde_json::{Map, Value};

/// The merge key (<https://yaml.org/type/merge.html>).
const MERGE: &str = "<<";

/// Volume sources that have a `defaultMode`, and those of them that list files with a `mode` each.
const SOURCES: [&str; 4] = ["secret", "configMap", "downwardAPI", "projected"];

/// Puts what merge keys name where they stand, and makes integers of octal modes.
///
/// # Errors
/// When a merge key has no map.
pub(super) fn read(mut value: Value) -> Result<Value, String> {
    merge(&mut value)?;
    modes(&mut value);
    Ok(value)
}

/// What is said in a map itself stands, then what its first map says.
fn merge(value: &mut Value) -> Result<(), String> {
    match value {
        Value::Object(map) => {
            for member in map.values_mut() {
                merge(member)?;
            }
            for base in bases(map)? {
                for (key, member) in base {
                    map.entry(key).or_insert(member);
                }
            }
        }
        Value::Array(list) => {
            for item in list {
                merge(item)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    Ok(())
}

/// The maps that are to be merged into this one.
fn bases(map: &mut Map<String, Value>) -> Result<Vec<Map<String, Value>>, String> {
    let named = match map.remove(MERGE) {
        None => return Ok(vec![]),
        Some(Value::Array(list)) => list,
        Some(one) => vec![one],
    };
    let one = |base| match base {
        Value::Object(map) => Ok(map),
        _ => Err(format!(
            "the merge key `{MERGE}` takes a map, or a list of maps"
        )),
    };
    named.into_iter().map(one).collect()
}

/// `0400` is text to a reader of YAML 1.2, and API servers take no text there.
fn modes(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, member) in map.iter_mut() {
                if SOURCES.contains(&&**key) {
                    source(member);
                }
                modes(member);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(modes),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Of a volume.
fn source(value: &mut Value) {
    octal(value.get_mut("defaultMode"));
    let items = value.get_mut("items").and_then(Value::as_array_mut);
    for item in items.into_iter().flatten() {
        octal(item.get_mut("mode"));
    }
}

fn octal(mode: Option<&mut Value>) {
    let Some(mode) = mode else { return };
    let digits = mode.as_str().and_then(|text| text.strip_prefix('0'));
    let digits = digits.filter(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    if let Some(number) = digits.and_then(|rest| u32::from_str_radix(rest, 8).ok()) {
        *mode = number.into();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::documents;
    use super::*;

    fn one(text: &str) -> Value {
        documents("x", text).unwrap().remove(0)
    }

    #[test]
    fn modes_of_files_are_numbers_and_what_only_looks_like_one_stays_text() {
        let read = one("
kind: Pod
spec:
  volumes:
  - secret: { secretName: a, defaultMode: 0400, items: [{ key: k, path: p, mode: 0640 }] }
  - configMap: { name: b, defaultMode: 420 }
  - projected:
      defaultMode: 0o440
      sources: [{ downwardAPI: { items: [{ path: p, mode: \"0444\" }] } }, { secret: { items: [{ mode: 0888 }] } }]
  - csi: { driver: d, volumeAttributes: { mode: \"0755\", defaultMode: \"0755\" } }
data: { mode: 0755, defaultMode: \"0400\", version: 0123 }
");
        let expected = json!([
            { "secret": { "secretName": "a", "defaultMode": 0o400, "items": [{ "key": "k", "path": "p", "mode": 0o640 }] } },
            { "configMap": { "name": "b", "defaultMode": 420 } },
            { "projected": { "defaultMode": 0o440, "sources": [
                { "downwardAPI": { "items": [{ "path": "p", "mode": 0o444 }] } },
                { "secret": { "items": [{ "mode": "0888" }] } },
            ] } },
            { "csi": { "driver": "d", "volumeAttributes": { "mode": "0755", "defaultMode": "0755" } } },
        ]);
        assert_eq!(read["spec"]["volumes"], expected);
        let text = json!({ "mode": "0755", "defaultMode": "0400", "version": "0123" });
        assert_eq!(read["data"], text, "a ConfigMap holds text");
    }

    #[test]
    fn merge_keys_are_applied() {
        let read = one("
base: &base { image: a, limits: { cpu: 1 }, tty: true }
more: &more { <<: *base, image: b, stdin: true }
one: { <<: *more, name: x, tty: false }
both: { <<: [*more, { image: c, port: 1 }] }
list: [{ <<: *base }]
");
        let base = json!({ "image": "a", "limits": { "cpu": 1 }, "tty": true });
        assert_eq!(read["list"], json!([base]));
        let one = json!({ "name": "x", "image": "b", "limits": { "cpu": 1 }, "tty": false, "stdin": true });
        assert_eq!(read["one"], one);
        let both =
            json!({ "image": "b", "limits": { "cpu": 1 }, "tty": true, "stdin": true, "port": 1 });
        assert_eq!(read["both"], both);
        for wrong in ["<<: 7", "a: { <<: [b] }", "a: [{ <<: null }]"] {
            let error = documents("x.yaml", wrong).unwrap_err().to_string();
            assert!(
                error.starts_with("x.yaml:") && error.contains("`<<`"),
                "{error}"
            );
        }
    }
}
