//! What an operator changed in a policy, by name and key and never by value: for the log.

use serde_json::{Map, Value};

use super::{Mode, Policy};

/// Lists whose items have names.
const NAMED: [(&str, &str); 2] = [("rules", "rule"), ("budgets", "budget")];

/// Everything that is different, in the order of the file. Empty: nothing that decides.
#[must_use]
pub fn difference(old: &Policy, new: &Policy) -> Vec<String> {
    let mut found = vec![];
    match (old.mode, new.mode) {
        (Mode::Enforce, Mode::Enforce) | (Mode::Observe, Mode::Observe) => {}
        (Mode::Enforce, Mode::Observe) => found.push("mode: observe".to_owned()),
        (Mode::Observe, Mode::Enforce) => found.push("mode: enforce".to_owned()),
    }
    for (key, what) in NAMED {
        named(what, list(old, key), list(new, key), &mut found);
    }
    let keys = [&old.written, &new.written]
        .into_iter()
        .filter_map(Value::as_object);
    let mut keys: Vec<&String> = keys.flat_map(Map::keys).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let listed = NAMED.iter().any(|(named, _)| named == key);
        if !listed && old.written.get(key) != new.written.get(key) {
            found.push(format!("{key} changed"));
        }
    }
    found
}

fn list<'a>(policy: &'a Policy, key: &str) -> &'a [Value] {
    let list = policy.written.get(key).and_then(Value::as_array);
    list.map_or(&[], |list| list)
}

fn name(item: &Value) -> &str {
    item.get("name").and_then(Value::as_str).unwrap_or_default()
}

fn named(what: &str, old: &[Value], new: &[Value], found: &mut Vec<String>) {
    for item in new {
        match old.iter().find(|was| name(was) == name(item)) {
            None => found.push(format!("{what} `{}` added", name(item))),
            Some(was) => {
                let mut keys = vec![];
                differing(was, item, "", &mut keys);
                if !keys.is_empty() {
                    found.push(format!(
                        "{what} `{}` changed: {}",
                        name(item),
                        keys.join(", ")
                    ));
                }
            }
        }
    }
    let kept = |item: &&Value| new.iter().any(|is| name(is) == name(item));
    for gone in old.iter().filter(|item| !kept(item)) {
        found.push(format!("{what} `{}` removed", name(gone)));
    }
    let order = |list: &[Value], other: &[Value]| {
        let both = list.iter().map(|item| name(item).to_owned());
        let both = both.filter(|n| other.iter().any(|item| name(item) == n));
        both.collect::<Vec<_>>()
    };
    if order(old, new) != order(new, old) {
        found.push(format!("{what}s in another order"));
    }
}

/// The keys below which two values differ: `pay.max`.
fn differing(was: &Value, is: &Value, path: &str, keys: &mut Vec<String>) {
    if was == is {
        return;
    }
    let (Value::Object(was), Value::Object(is)) = (was, is) else {
        return keys.push(path.to_owned());
    };
    let mut all: Vec<&String> = was.keys().chain(is.keys()).collect();
    all.sort_unstable();
    all.dedup();
    for key in all {
        let dot = if path.is_empty() { "" } else { "." };
        let nothing = &Value::Null;
        let (was, is) = (
            was.get(key).unwrap_or(nothing),
            is.get(key).unwrap_or(nothing),
        );
        differing(was, is, &format!("{path}{dot}{key}"), keys);
    }
}
