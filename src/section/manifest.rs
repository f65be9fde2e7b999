//! Files of others in the same format: several documents, read as they are and written in a form that
//! YAML 1.1 and 1.2 readers take for the same.

use core::fmt::Write as _;

use serde::Deserialize as _;
use serde_json::Value;

use super::SectionError;
use super::place::{place_of, without_place};

mod older;

/// Most bytes of a file: a large release of a chart has a tenth of it.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// The byte order mark, which says nothing in UTF-8.
const MARK: char = '\u{feff}';

/// The documents of a text: YAML, or JSON one after another. Empty ones are left out. `name` is used in
/// messages only. Merge keys and octal modes of files are read as YAML 1.1 has them.
///
/// # Errors
/// When one of them is no JSON-like tree with text keys.
pub fn documents(name: &str, text: &str) -> Result<Vec<Value>, SectionError> {
    let wrong = |place: Option<_>, problem: String| SectionError {
        file: name.into(),
        path: String::new(),
        place: place.into(),
        problem,
        hint: None,
    };
    if text.len() > BYTES_MAX {
        let problem = format!("it has {} bytes, at most {BYTES_MAX}", text.len());
        return Err(wrong(None, problem));
    }
    let text = &unmarked(text);
    if let Some(documents) = json(text) {
        let documents = documents.into_iter().filter(|value| !value.is_null());
        let read = documents.map(older::read);
        let read: Result<_, _> = read.collect();
        return read.map_err(|problem| wrong(None, problem));
    }
    let mut found = vec![];
    for document in serde_yaml::Deserializer::from_str(text) {
        match Value::deserialize(document) {
            Ok(Value::Null) => {}
            Ok(value) => {
                let read = older::read(value);
                found.push(read.map_err(|problem| wrong(None, problem))?);
            }
            Err(e) => {
                let problem = format!("this is not YAML: {}", without_place(&e));
                return Err(wrong(place_of(&e), problem));
            }
        }
    }
    Ok(found)
}

/// Does it look like JSON? Some programs write a byte order mark before it.
#[must_use]
pub fn is_json(text: &str) -> bool {
    let text = text.strip_prefix(MARK).unwrap_or(text);
    text.trim_start().starts_with(['{', '['])
}

/// Without the marks that documents begin with: files of them are put one after another.
fn unmarked(text: &str) -> String {
    let mut begins = true;
    let lines = text.split_inclusive('\n').map(|line| {
        let bare = line.strip_prefix(MARK);
        let bare = bare.filter(|bare| begins || bare.starts_with("---") || bare.starts_with('{'));
        begins = line.trim_end() == "---";
        bare.unwrap_or(line)
    });
    lines.collect()
}

/// `None`: it is not JSON to its end. YAML has a form that begins like it.
fn json(text: &str) -> Option<Vec<Value>> {
    if !is_json(text) {
        return None;
    }
    let documents = serde_json::Deserializer::from_str(text).into_iter();
    documents.collect::<Result<_, _>>().ok()
}

/// A document as YAML, in block style, with a line break at its end.
#[must_use]
pub fn yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(value, 0, &mut out),
        Value::Array(list) if !list.is_empty() => block(value, 0, &mut out),
        _ => {
            scalar(value, 0, &mut out);
            out.push('\n');
        }
    }
    out
}

/// A map or list that has entries, from the start of a line or after `- `.
fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) => {
            for (index, (key, value)) in map.iter().enumerate() {
                start(index, indent, out);
                text(key, None, out);
                out.push(':');
                member(value, indent, out);
            }
        }
        Value::Array(list) => {
            for (index, item) in list.iter().enumerate() {
                start(index, indent, out);
                out.push('-');
                match is_block(item) {
                    true => {
                        out.push(' ');
                        block(item, indent + 2, out);
                    }
                    false => member(item, indent, out),
                }
            }
        }
        _ => {}
    }
}

/// The first entry stands where its parent's mark ended; the others have a line of their own.
fn start(index: usize, indent: usize, out: &mut String) {
    if index > 0 || out.is_empty() || out.ends_with('\n') {
        let _ = write!(out, "{:indent$}", "");
    }
}

/// What comes after `key:`.
fn member(value: &Value, indent: usize, out: &mut String) {
    if is_block(value) {
        out.push('\n');
        // Lists in maps are written without more room, as everybody writes them for Kubernetes.
        let more = if value.is_array() { 0 } else { 2 };
        return block(value, indent + more, out);
    }
    out.push(' ');
    scalar(value, indent, out);
    if !out.ends_with('\n') {
        out.push('\n');
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn scalar(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::String(string) => text(string, Some(indent), out),
        // `null`, `true`, numbers, `{}` and `[]` are the same in JSON.
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

/// Words that some reader takes for no text.
const WORDS: &[&str] = &[
    "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf",
];

/// Bare where no reader could take it for anything else, as lines where it has several (and may), else
/// in double quotes with JSON's escapes, which are YAML's too.
fn text(string: &str, lines: Option<usize>, out: &mut String) {
    if is_plain(string) {
        return out.push_str(string);
    }
    if let Some(indent) = lines.filter(|_| has_lines(string)) {
        // `|-`: no line break at the end; `|`: exactly one.
        out.push_str(if string.ends_with('\n') { "|" } else { "|-" });
        for line in string.lines() {
            out.push('\n');
            if !line.is_empty() {
                let _ = write!(out, "{:width$}{line}", "", width = indent + 2);
            }
        }
        return out.push('\n');
    }
    for letter in Value::String(string.into()).to_string().chars() {
        let _ = match is_odd(letter) {
            true => write!(out, "\\u{:04x}", u32::from(letter)),
            false => write!(out, "{letter}"),
        };
    }
}

/// Line breaks and marks that YAML readers fold or drop, and what YAML 1.2 section 5.1 takes for no character,
/// where JSON escapes none of them. All have four digits.
fn is_odd(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{feff}' | '\u{fffe}' | '\u{ffff}' | '\u{2028}' | '\u{2029}'
        )
}

fn is_plain(string: &str) -> bool {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_-./ :@,=+".contains(c);
    string.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_')
        && string.chars().all(safe)
        && !string.contains(": ")
        && !string.ends_with([' ', ':'])
        && !WORDS.iter().any(|word| string.eq_ignore_ascii_case(word))
}

/// Is it fit for a literal block? Several lines, none of which a reader would change.
fn has_lines(string: &str) -> bool {
    let odd = |c: char| c != '\n' && is_odd(c);
    string.trim_end_matches('\n').contains('\n')
        && !string.ends_with("\n\n")
        && !string.starts_with([' ', '\n'])
        && !string.contains(odd)
        && !string.lines().any(|line| line.ends_with(' '))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn again(value: &Value) -> Value {
        let text = yaml(value);
        let mut read = documents("x", &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert!(read.len() <= 1, "{text}");
        read.pop().unwrap_or(Value::Null)
    }

    #[test]
    fn it_looks_as_people_write_it() {
        let value = json!({
            "kind": "Pod", "n": [], "o": {}, "yes": "on", "time": "12:30", "octal": "0o7", "date": "2026-01-01",
            "list": [{ "name": "a", "deep": [["x"], []] }, "b"],
            "file": "one: 1\n\n  two\n", "end": "a\nb", "odd": "a \nb", "empty": "",
        });
        let expected = "\
date: \"2026-01-01\"
empty: \"\"
end: |-
  a
  b
file: |
  one: 1

    two
kind: Pod
list:
- deep:
  - - x
  - []
  name: a
- b
\"n\": []
o: {}
octal: \"0o7\"
odd: \"a \\nb\"
time: \"12:30\"
\"yes\": \"on\"
";
        let text = yaml(&value);
        assert_eq!(text, expected);
        assert_eq!(again(&value), value);
    }

    #[test]
    fn several_documents_and_what_is_none() {
        let text = "# a comment\n---\na: 1\n---\n---\n{\"b\": [0.5, null]}\n";
        let read = documents("x.yaml", text).unwrap();
        assert_eq!(read, [json!({ "a": 1 }), json!({ "b": [0.5, null] })]);
        let error = documents("x.yaml", "a: [1\n").unwrap_err();
        assert!(error.to_string().starts_with("x.yaml:"), "{error}");
        assert!(documents("x", "a: !secret b").is_err());
    }

    #[test]
    fn json_one_after_another_and_behind_a_byte_order_mark() {
        let both = [json!({ "a": "\u{1f600}" }), json!([1])];
        for text in [
            "{\"a\": \"\\ud83d\\ude00\"}\n[1]\n",
            "\u{feff}{\"a\": \"\u{1f600}\"}[1]",
            "{\"a\": \"\u{1f600}\"}\n---\n[1]\n",
        ] {
            assert_eq!(documents("x", text).unwrap(), both, "{text}");
            assert!(is_json(text), "{text}");
        }
        for text in ["\u{feff}a: 1\n", "\u{feff}---\na: 1\n", "{a: 1}\n"] {
            assert_eq!(documents("x", text).unwrap(), [json!({ "a": 1 })], "{text}");
        }
        for text in [
            "a: 1\n\u{feff}---\nb: 2\n",
            "a: 1\n---\n\u{feff}b: 2\n",
            "{\"a\": 1}\n\u{feff}{\"b\": 2}\n",
        ] {
            let read = documents("x", text).unwrap();
            assert_eq!(read, [json!({ "a": 1 }), json!({ "b": 2 })], "{text}");
        }
        let kept = documents("x", "a: |\n  \u{feff}b\n").unwrap();
        assert_eq!(kept, [json!({ "a": "\u{feff}b\n" })]);
        let merged = documents("x", "{\"<<\": {\"b\": 1}}").unwrap();
        assert_eq!(merged, [json!({ "b": 1 })]);
    }

    /// Readers in Go refuse a text with them, and so a whole manifest.
    #[test]
    fn what_is_no_character_is_written_as_an_escape() {
        for (odd, written) in [("\u{fffe}", "\"\\ufffe\""), ("\u{ffff}", "\"\\uffff\"")] {
            assert_eq!(yaml(&json!({ "a": odd })), format!("a: {written}\n"));
            assert_eq!(again(&json!({ odd: "b" })), json!({ odd: "b" }));
            let lines = yaml(&json!(format!("a\n{odd}\n")));
            assert!(!lines.contains(odd), "{lines}");
        }
    }

    /// Any but the merge key, which is applied where it is read and so is never written.
    fn key() -> impl Strategy<Value = String> {
        "[ -~]{0,6}".prop_filter("a merge key", |key| key != "<<")
    }

    fn tree() -> impl Strategy<Value = Value> {
        let word = proptest::sample::select(vec![
            "yes", "~", "- a", "a: b", "#", "'", "\"", "|", "1e3", "0x1", "<<", "a\nb", " a", "&a",
            "*a", "!a", "%", "{", "\u{85}",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            word.prop_map(Value::from),
            "[ -~\n]{0,12}".prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(key(), inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value in tree()) {
            prop_assert_eq!(again(&value), value);
        }
    }
}
