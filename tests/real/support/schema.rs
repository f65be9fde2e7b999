//! The part of JSON Schema that vendors' descriptions of their interfaces use for what we send.

use serde_json::Value;

/// Coinbase's Developer Platform, as it describes itself.
pub(crate) const CDP: &str = include_str!("../../vectors/openapi/cdp-typed-data.json");

/// Privy, as it describes itself.
pub(crate) const PRIVY: &str = include_str!("../../vectors/openapi/privy-typed-data.json");

/// The same two for Solana.
pub(crate) const CDP_SOLANA: &str = include_str!("../../vectors/openapi/cdp-solana.json");
pub(crate) const PRIVY_SOLANA: &str = include_str!("../../vectors/openapi/privy-solana.json");

/// AgentCore Payments, as Amazon's own clients describe it.
pub(crate) const AGENTCORE: &str = include_str!("../../vectors/openapi/agentcore-payments.json");

/// The status of an error that a call may answer with.
pub(crate) fn error(description: &str, path: &str, kind: &str) -> u16 {
    let root: Value = serde_json::from_str(description).unwrap();
    let status = root["paths"][path]["post"]["x-errors"][kind].as_u64();
    u16::try_from(status.unwrap_or_else(|| panic!("{path} has no {kind}"))).unwrap()
}

/// Words that say nothing about what is right.
const IDLE: &[&str] = &["example", "examples", "description", "default", "format"];

/// What is wrong with a value that should be of this schema of a description.
pub(crate) fn problems(description: &str, name: &str, value: &Value) -> Vec<String> {
    let root: Value = serde_json::from_str(description).unwrap();
    let mut found = vec![];
    let schema = &root["components"]["schemas"][name];
    assert!(schema.is_object(), "there is no schema {name}");
    look(&root, schema, value, name, &mut found);
    found
}

fn look(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    for (word, rule) in schema.as_object().unwrap() {
        let fits = match word.as_str() {
            "$ref" => {
                let pointer = rule.as_str().unwrap().trim_start_matches('#');
                look(root, root.pointer(pointer).unwrap(), value, at, found);
                true
            }
            "type" => match rule.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "integer" => value.is_u64() || value.is_i64(),
                "boolean" => value.is_boolean(),
                other => panic!("{at}: type {other}"),
            },
            "required" => rule
                .as_array()
                .unwrap()
                .iter()
                .all(|key| value.get(key.as_str().unwrap()).is_some()),
            "enum" => rule.as_array().unwrap().contains(value),
            "pattern" => pattern(rule.as_str().unwrap(), value.as_str().unwrap_or_default()),
            "properties" => {
                for (key, schema) in rule.as_object().unwrap() {
                    if let Some(inner) = value.get(key) {
                        look(root, schema, inner, &format!("{at}.{key}"), found);
                    }
                }
                true
            }
            "minLength" | "minItems" | "minProperties" => size(value) >= rule.as_u64(),
            "maxLength" | "maxItems" | "maxProperties" => size(value) <= rule.as_u64(),
            "additionalProperties" if rule == false => value
                .as_object()
                .into_iter()
                .flatten()
                .all(|(key, _)| schema["properties"].get(key).is_some()),
            "additionalProperties" if rule.is_object() => {
                for (key, inner) in value.as_object().into_iter().flatten() {
                    let known = schema["properties"].get(key).is_some();
                    if !known {
                        look(root, rule, inner, &format!("{at}.{key}"), found);
                    }
                }
                true
            }
            "items" => {
                for inner in value.as_array().into_iter().flatten() {
                    look(root, rule, inner, &format!("{at}[]"), found);
                }
                true
            }
            idle if IDLE.contains(&idle) => true,
            other => panic!("{at}: the word {other} is not known here"),
        };
        if !fits {
            found.push(format!("{at}: {word}"));
        }
    }
}

fn size(value: &Value) -> Option<u64> {
    let size = match value {
        Value::String(text) => text.chars().count(),
        Value::Array(list) => list.len(),
        Value::Object(members) => members.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) => return None,
    };
    u64::try_from(size).ok()
}

fn pattern(rule: &str, text: &str) -> bool {
    regex::Regex::new(rule).unwrap().is_match(text)
}
