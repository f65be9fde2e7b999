//! One subtree of the configuration file, with its path. The only room that names the YAML crate.

use core::fmt::{self, Display};
use core::ops::RangeInclusive;
use core::str::FromStr;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_yaml::Value;

mod error;
pub mod manifest;
mod place;
mod serde_words;
mod tree;

pub use error::{Problems, SectionError, nearest};
use place::At;
pub use place::Place;
use tree::Step;

/// One subtree of the configuration file. Whoever reads it takes the keys it knows and then calls
/// [`Section::finish`], so that what nobody took is an error.
#[derive(Clone)]
pub struct Section {
    source: Arc<Source>,
    path: Vec<Step>,
    value: Value,
    /// Keys that were asked for: what the operator could have written.
    known: Vec<String>,
}

/// The file, kept whole so that an error can be looked up in it.
struct Source {
    name: String,
    text: String,
}

impl Section {
    /// Parses a whole file. `name` is used in messages only.
    ///
    /// # Errors
    /// When the text is not one YAML document with text keys, each once, or is beyond the bounds of
    /// [`tree`].
    pub fn file(name: &str, text: &str) -> Result<Self, SectionError> {
        let flaw = |flaw: tree::Flaw| SectionError {
            file: name.into(),
            path: flaw.path,
            place: flaw.place.into(),
            problem: flaw.problem,
            hint: flaw.hint,
        };
        // A mark of the order of bytes, which some editors put before the text.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let value = tree::parse(text).map_err(flaw)?;
        let source = Source {
            name: name.into(),
            text: text.into(),
        };
        Ok(Self {
            source: Arc::new(source),
            path: vec![],
            value,
            known: vec![],
        })
    }

    /// Where in the tree: `rules[0].pay.max`.
    #[must_use]
    pub fn path(&self) -> String {
        tree::path_text(&self.path)
    }

    /// Line and column of its value, from 1. Reads the file again.
    #[must_use]
    pub fn place(&self) -> Option<(usize, usize)> {
        place::find(&self.source.text, &self.path, At::Value)
    }

    // Maps.

    /// Removes and returns a child, so that what is left over can be reported.
    pub fn take(&mut self, key: &str) -> Option<Self> {
        self.known.push(key.into());
        let value = self.value.as_mapping_mut()?.remove(key)?;
        Some(self.child(Step::Key(key.into()), value))
    }

    /// Removes and returns a child that must be there.
    ///
    /// # Errors
    /// When it is missing.
    pub fn need(&mut self, key: &str) -> Result<Self, SectionError> {
        self.map_or_nothing()?;
        if let Some(child) = self.take(key) {
            return Ok(child);
        }
        let error = self.error(format!("`{key}` is missing"));
        let misspelt = nearest(key, self.keys());
        Err(match misspelt {
            Some(found) => error.hint(format!("is `{found}` meant to be `{key}`?")),
            None => error,
        })
    }

    /// Removes and reads a child; what is not written is `default`.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn or<T>(
        &mut self,
        key: &str,
        default: T,
        read: impl FnOnce(Self) -> Result<T, SectionError>,
    ) -> Result<T, SectionError> {
        self.take(key).map_or(Ok(default), read)
    }

    /// A copy of a child, which stays to be taken.
    #[must_use]
    pub fn peek(&self, key: &str) -> Option<Self> {
        let value = self.value.as_mapping()?.get(key)?.clone();
        Some(self.child(Step::Key(key.into()), value))
    }

    /// Is there a key without a value, or `null`?
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.value == Value::Null
    }

    /// Is it a map, or nothing, which is an empty map?
    #[must_use]
    pub fn is_map(&self) -> bool {
        matches!(self.value, Value::Mapping(_) | Value::Null)
    }

    /// Is the key written, and not yet taken?
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.keys().any(|k| k == key)
    }

    /// Errors on the first key that nobody took.
    ///
    /// # Errors
    /// When a key is left, or when this is no map.
    pub fn finish(self) -> Result<(), SectionError> {
        self.map_or_nothing()?;
        let Some(key) = self.keys().next() else {
            return Ok(());
        };
        let shown = key.escape_debug();
        let error = self.key_error(key, format!("no such setting: `{shown}`"));
        Err(error.hint_words(key, self.known.iter().map(String::as_str)))
    }

    /// The entries of a map with keys of the operator's choice, in the order of the file.
    ///
    /// # Errors
    /// When it is no map.
    pub fn entries(mut self) -> Result<Vec<(String, Self)>, SectionError> {
        self.map_or_nothing()?;
        let Some(map) = self.value.as_mapping_mut().map(core::mem::take) else {
            return Ok(vec![]);
        };
        let entry = |(key, value): (Value, Value)| {
            let key = key.as_str().unwrap_or_default().to_owned();
            let child = self.child(Step::Key(key.as_str().into()), value);
            (key, child)
        };
        Ok(map.into_iter().map(entry).collect())
    }

    // Lists.

    /// The items of a list, each with its place in the path. Nothing written is an empty list.
    ///
    /// # Errors
    /// When it is no list.
    pub fn items(self) -> Result<Vec<Self>, SectionError> {
        let Value::Sequence(values) = self.value.clone() else {
            return match self.value {
                Value::Null => Ok(vec![]),
                _ => Err(self.expected("a list").hint("write a list as [a, b]")),
            };
        };
        let item = |(i, value)| self.child(Step::Index(i), value);
        Ok(values.into_iter().enumerate().map(item).collect())
    }

    /// The items of a list, each read.
    ///
    /// # Errors
    /// When it is no list; those of `read`.
    pub fn list<T>(
        self,
        read: impl Fn(Self) -> Result<T, SectionError>,
    ) -> Result<Vec<T>, SectionError> {
        self.items()?.into_iter().map(read).collect()
    }

    // Values.

    /// Turns the whole subtree into `T`. Unknown keys are errors when `T` says so.
    ///
    /// # Errors
    /// When the subtree is not a `T`.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, SectionError> {
        serde_yaml::from_value(self.value.clone())
            .map_err(|e| serde_words::translate::<T>(&self, &e.to_string()))
    }

    /// A text.
    ///
    /// # Errors
    /// When it is something else.
    pub fn text(self) -> Result<String, SectionError> {
        match &self.value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(_) | Value::Bool(_) => {
                Err(self.expected("a text").hint("put it in quotes"))
            }
            _ => Err(self.expected("a text")),
        }
    }

    /// A text with a grammar: money, a host pattern, an address.
    ///
    /// # Errors
    /// When it is no text, or not a `T`; `T`'s error says how to write it.
    pub fn parse<T: FromStr<Err: Display>>(self) -> Result<T, SectionError> {
        let text = match &self.value {
            Value::String(text) => text,
            // `0.05` and `30` have no unit: the grammar's own words say what is missing.
            Value::Number(number) => &number.to_string(),
            _ => return Err(self.expected("a text")),
        };
        text.parse().map_err(|e: T::Err| {
            let error = self.error(format!("found {}; {e}", self.found()));
            match self.value {
                Value::Number(_) => error.hint(
                    "a bare number will not do: put it in quotes, with its unit if it has one",
                ),
                _ => error,
            }
        })
    }

    /// A whole number within bounds.
    ///
    /// # Errors
    /// When it is something else, or out of bounds.
    pub fn number(self, bounds: RangeInclusive<u64>) -> Result<u64, SectionError> {
        match self.value.as_u64() {
            Some(number) if bounds.contains(&number) => Ok(number),
            _ => Err(self.expected(&format!(
                "a whole number from {} to {}",
                bounds.start(),
                bounds.end()
            ))),
        }
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// When it is something else.
    pub fn flag(self) -> Result<bool, SectionError> {
        match self.value {
            Value::Bool(flag) => Ok(flag),
            _ => Err(self.expected("true or false")),
        }
    }

    /// One of a closed list of words.
    ///
    /// # Errors
    /// When it is something else.
    pub fn word<T: Copy>(self, words: &[(&str, T)]) -> Result<T, SectionError> {
        const SHORT: usize = 8;
        let keys = || words.iter().map(|(word, _)| *word);
        let text = self.value.as_str().unwrap_or_default();
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        if words.len() > SHORT {
            let error = self.error(format!("found {}", self.found()));
            return Err(error.hint_words(text, keys()));
        }
        let list: Vec<_> = keys().collect();
        let list = match &*list {
            [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
            list => list.concat(),
        };
        let error = self.expected(&list);
        Err(match nearest(text, keys()) {
            Some(word) => error.hint(format!("did you mean `{word}`?")),
            None => error,
        })
    }

    /// The subtree in one spelling: no comments, keys sorted. For hashes.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        tree::canonical(&self.value, &mut text);
        text
    }

    /// The subtree as data, for those who show it.
    #[must_use]
    pub fn data(&self) -> serde_json::Value {
        serde_json::to_value(&self.value).unwrap_or_default()
    }

    // Errors.

    /// An error about this subtree.
    #[must_use]
    pub fn error(&self, problem: impl Into<String>) -> SectionError {
        self.error_at(&self.path, At::Value, problem.into())
    }

    /// An error about one of its keys, which may have been taken already.
    #[must_use]
    pub fn key_error(&self, key: &str, problem: impl Into<String>) -> SectionError {
        let path = [&*self.path, &[Step::Key(key.into())]].concat();
        let mut error = self.error_at(&path, At::Key, problem.into());
        error.path = self.path();
        error
    }

    /// An error that says what is there and what was expected: `a list`.
    #[must_use]
    pub fn expected(&self, what: &str) -> SectionError {
        self.error(format!("found {}, expected {what}", self.found()))
    }

    fn error_at(&self, path: &[Step], at: At, problem: String) -> SectionError {
        SectionError {
            file: self.source.name.clone(),
            path: tree::path_text(path),
            place: Place::sought(&self.source, path, at),
            problem,
            hint: None,
        }
    }

    fn found(&self) -> String {
        tree::found(&self.value)
    }

    fn child(&self, step: Step, value: Value) -> Self {
        Self {
            source: Arc::clone(&self.source),
            path: [&*self.path, &[step]].concat(),
            value,
            known: vec![],
        }
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        let map = self.value.as_mapping().into_iter().flatten();
        map.filter_map(|(key, _)| key.as_str())
    }

    /// A heading with nothing below it is an empty map.
    fn map_or_nothing(&self) -> Result<(), SectionError> {
        match self.is_map() {
            true => Ok(()),
            false => Err(self.expected("a map of settings")),
        }
    }
}

impl fmt::Debug for Section {
    /// The path only: people do write secrets into files.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Section({}: {})", self.source.name, self.path())
    }
}

#[cfg(test)]
mod tests;
