//! Text to tree, within bounds.

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Mapping, Value};

use super::place::{Here, place_of, without_place};

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a map.
    Key(Arc<str>),
    /// Into a list.
    Index(usize),
}

/// Why a text is no tree.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) path: String,
    pub(super) place: Option<(usize, usize)>,
    pub(super) problem: String,
    pub(super) hint: Option<String>,
}

/// Most bytes of a file: a policy for thousands of hosts has a tenth of it.
const BYTES_MAX: usize = 1024 * 1024;
/// Most values in a file, counted after aliases are followed, so that a few lines cannot become
/// gigabytes.
const VALUES_MAX: usize = 100_000;
/// Most brackets that may be open at once: the parser's work grows with their square.
const DEPTH_MAX: usize = 64;

/// `rules[0].pay.max`; a key that is no plain word is quoted: `resolve["a.test:443"]`.
pub(super) fn path_text(path: &[Step]) -> String {
    let mut text = String::new();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    for step in path {
        let _ = match step {
            Step::Index(index) => write!(text, "[{index}]"),
            Step::Key(key) if key.is_empty() || !key.chars().all(plain) => {
                write!(text, "[\"{}\"]", key.escape_debug())
            }
            Step::Key(key) if text.is_empty() => write!(text, "{key}"),
            Step::Key(key) => write!(text, ".{key}"),
        };
    }
    text
}

/// A value in words, short and on one line.
pub(super) fn found(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) if text.chars().count() > 60 => {
            let start: String = text.chars().take(60).collect();
            format!("\"{}…\"", start.escape_debug())
        }
        Value::String(text) => format!("\"{}\"", text.escape_debug()),
        Value::Sequence(_) => "a list".into(),
        Value::Mapping(_) => "a map".into(),
        Value::Tagged(_) => "a tag".into(),
    }
}

/// One spelling per tree, whatever the file looked like.
pub(super) fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Sequence(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Mapping(map) => {
            let mut entries: Vec<_> = map.iter().map(|(k, v)| (k.as_str(), v)).collect();
            entries.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (key, value) in entries {
                let _ = write!(out, "{:?}:", key.unwrap_or_default());
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::String(text) => {
            let _ = write!(out, "{text:?}");
        }
        Value::Number(number) => {
            let _ = write!(out, "{number}");
        }
        Value::Null | Value::Bool(_) | Value::Tagged(_) => out.push_str(&found(value)),
    }
}

/// The one document of the text.
pub(super) fn parse(text: &str) -> Result<Value, Flaw> {
    bounds(text)?;
    let left = Cell::new(VALUES_MAX);
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let value = match documents.next() {
        Some(first) => Grow { left: &left }
            .deserialize(first)
            .map_err(|e| flaw(text, &e))?,
        None => Value::Null,
    };
    match documents.next().map(|second| Here.deserialize(second)) {
        None => Ok(value),
        Some(second) => Err(Flaw {
            path: String::new(),
            place: second.err().as_ref().and_then(place_of),
            problem: "the file has a second document".into(),
            hint: Some("remove the line `---`".into()),
        }),
    }
}

/// What the parser would take too long for, or the file system should not have given us.
fn bounds(text: &str) -> Result<(), Flaw> {
    let flaw = |place, problem: String| Flaw {
        path: String::new(),
        place,
        problem,
        hint: None,
    };
    if text.len() > BYTES_MAX {
        let problem = format!("the file has more than {BYTES_MAX} bytes");
        return Err(flaw(None, problem));
    }
    let mut depth: usize = 0;
    for (number, line) in text.lines().enumerate() {
        for (column, letter) in without_comment(line).chars().enumerate() {
            match letter {
                '[' | '{' => depth += 1,
                ']' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > DEPTH_MAX {
                let problem = format!("more than {DEPTH_MAX} brackets are open here");
                return Err(flaw(Some((number + 1, column + 1)), problem));
            }
        }
    }
    Ok(())
}

/// A line up to its comment. Where there are quotes before it, it may be none.
fn without_comment(line: &str) -> &str {
    let begins = |(at, _): &(usize, &str)| {
        let before = line.get(..*at).unwrap_or_default();
        before.is_empty() || before.ends_with([' ', '\t'])
    };
    match line.match_indices('#').find(begins) {
        Some((at, _)) => match line.split_at(at) {
            (text, _) if text.contains(['"', '\'']) => line,
            (text, _) => text,
        },
        None => line,
    }
}

/// The YAML crate's error, in words for somebody who edits the file.
fn flaw(text: &str, error: &serde_yaml::Error) -> Flaw {
    let place = place_of(error);
    let said = without_place(error);
    let line = place.and_then(|(line, _)| text.lines().nth(line - 1));
    let indent = line.map(|l| l.len() - l.trim_start_matches([' ', '\t']).len());
    let tab = line
        .zip(indent)
        .is_some_and(|(l, n)| l.get(..n).is_some_and(|i| i.contains('\t')));
    let (path, problem) = match said.split_once(OURS) {
        Some((path, problem)) => (path.trim_end_matches(": ").to_owned(), problem.to_owned()),
        None if said.contains("recursion limit") => {
            (String::new(), "the file is nested too deeply".into())
        }
        None => match said.split_once("invalid type: ") {
            Some((path, rest)) => {
                let rest = rest.replace("floating point", "the fraction");
                (path.trim_end_matches(": ").into(), format!("found {rest}"))
            }
            None => (String::new(), format!("this is not YAML: {said}")),
        },
    };
    let hint = match said.contains("an alias") || said.contains("unknown anchor") {
        _ if tab => Some("indent with spaces: YAML allows no tabs there"),
        true => Some("a star begins an alias there: put it in quotes, as in \"*.example.com\""),
        false => None,
    };
    let hint = hint.map(str::to_owned);
    Flaw {
        path,
        place,
        problem,
        hint,
    }
}

/// Marks the errors that [`Grow`] raises, so that they can be told from the crate's own.
const OURS: &str = "\u{1}";

/// What a fraction without quotes is told: no setting is a bare fraction, and none is ever read as
/// binary floating point.
const UNIT: &str = "a text: put it in quotes, with its unit (\"0.05 USD\", \"20%\")";

/// Builds the tree, counting.
#[derive(Clone, Copy)]
struct Grow<'a> {
    left: &'a Cell<usize>,
}

fn ours<E: serde::de::Error>(problem: impl fmt::Display) -> E {
    E::custom(format!("{OURS}{problem}"))
}

impl<'de> DeserializeSeed<'de> for Grow<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => return Err(ours("the file has too many values, aliases included")),
        }
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Grow<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(UNIT)
    }

    fn visit_bool<E: serde::de::Error>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_i128<E: serde::de::Error>(self, _: i128) -> Result<Value, E> {
        Err(ours("a number this long is a text: put it in quotes"))
    }

    fn visit_u128<E: serde::de::Error>(self, _: u128) -> Result<Value, E> {
        Err(ours("a number this long is a text: put it in quotes"))
    }

    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = vec![];
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Sequence(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Mapping::new();
        while let Some(key) = entries.next_key_seed(Key { taken: &map })? {
            let value = entries.next_value_seed(self)?;
            map.insert(Value::String(key), value);
        }
        Ok(Value::Mapping(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(ours("tags (`!…`) have no meaning here"))
    }
}

/// A key: text, once.
struct Key<'a> {
    taken: &'a Mapping,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<String, D::Error> {
        from.deserialize_any(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key: put it in quotes")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<String, E> {
        if self.taken.contains_key(key) {
            let shown = key.escape_debug();
            return Err(ours(format_args!("`{shown}` is written twice")));
        }
        if key == "<<" {
            return Err(ours(
                "merge keys (`<<`) are not read: write the settings out",
            ));
        }
        Ok(key.into())
    }
}
