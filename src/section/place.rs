//! From a path back to a place in the text.
//!
//! The YAML crate tells the place of an error and of nothing else. So the place of a value is found
//! by walking the text again along the path and failing there. That costs a second reading, but only
//! when there is an error to report.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};

use super::Source;
use super::tree::Step;

/// What an error is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// The value at the end of the path.
    Value,
    /// The key that the path ends with.
    Key,
}

/// Where in a file something is.
#[derive(Clone)]
pub struct Place(Where);

#[derive(Clone)]
enum Where {
    Known(Option<(usize, usize)>),
    Sought(Box<Sought>),
}

/// What is looked up when somebody asks: each time is a walk through the file, and of many errors most are
/// never shown.
#[derive(Clone)]
struct Sought {
    source: Arc<Source>,
    path: Vec<Step>,
    at: At,
}

impl Place {
    pub(super) fn sought(source: &Arc<Source>, path: &[Step], at: At) -> Self {
        Self(Where::Sought(Box::new(Sought {
            source: Arc::clone(source),
            path: path.to_vec(),
            at,
        })))
    }

    /// Line and column, from 1. May read the file again.
    #[must_use]
    pub fn get(&self) -> Option<(usize, usize)> {
        match &self.0 {
            Where::Known(place) => *place,
            Where::Sought(sought) => find(&sought.source.text, &sought.path, sought.at),
        }
    }
}

impl From<Option<(usize, usize)>> for Place {
    fn from(place: Option<(usize, usize)>) -> Self {
        Self(Where::Known(place))
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Place {}

impl fmt::Debug for Place {
    /// Not the file: people do write secrets into it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// Line and column, from 1, of what the path leads to.
pub(super) fn find(text: &str, path: &[Step], at: At) -> Option<(usize, usize)> {
    let (path, goal) = match (path.split_last(), at) {
        (Some((Step::Key(key), parents)), At::Key) => (parents, Goal::Key(key)),
        _ => (path, Goal::Value(Here)),
    };
    walk(text, path, &goal).as_ref().and_then(place_of)
}

/// Where and how deep below the path reading a `T` fails.
pub(super) struct Probe {
    pub(super) place: Option<(usize, usize)>,
    /// `rules[0].pay.max: invalid type: …`, as the YAML crate says it.
    said: String,
}

impl Probe {
    /// The path in front of serde's message, when it is there.
    pub(super) fn path_before(&self, message: &str) -> Option<String> {
        let path = self.said.strip_suffix(message)?.strip_suffix(": ")?;
        Some(path.to_owned())
    }
}

/// Reads a `T` where the path leads to, and tells how that fails.
pub(super) fn probe<T: DeserializeOwned>(text: &str, path: &[Step]) -> Option<Probe> {
    let goal: Goal<'_, Reads<T>> = Goal::Value(Reads(PhantomData));
    let error = walk(text, path, &goal)?;
    Some(Probe {
        place: place_of(&error),
        said: without_place(&error),
    })
}

pub(super) fn place_of(error: &serde_yaml::Error) -> Option<(usize, usize)> {
    error.location().map(|l| (l.line(), l.column()))
}

pub(super) fn without_place(error: &serde_yaml::Error) -> String {
    let said = error.to_string();
    let Some((line, column)) = place_of(error) else {
        return said;
    };
    said.replacen(&format!(" at line {line} column {column}"), "", 1)
}

/// What happens at the end of a path.
#[derive(Clone, Copy)]
enum Goal<'a, S> {
    /// Fail at this key of the map.
    Key(&'a str),
    /// Read the value; it is expected to fail.
    Value(S),
}

/// Follows a path.
struct Walk<'a, S> {
    path: &'a [Step],
    goal: &'a Goal<'a, S>,
}

fn walk<S: Fails>(text: &str, path: &[Step], goal: &Goal<'_, S>) -> Option<serde_yaml::Error> {
    let document = serde_yaml::Deserializer::from_str(text).next()?;
    Walk { path, goal }.deserialize(document).err()
}

/// Something to do with a value that is there to fail.
trait Fails {
    fn fail<'de, D: Deserializer<'de>>(&self, from: D) -> Result<(), D::Error>;
}

impl<'de, S: Fails> DeserializeSeed<'de> for Walk<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        match (self.path, self.goal) {
            ([], Goal::Value(goal)) => goal.fail(from),
            _ => from.deserialize_any(self),
        }
    }
}

impl<'de, S: Fails> Visitor<'de> for Walk<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the path that was read before")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Some((Step::Index(index), path)) = self.path.split_first() else {
            return Err(A::Error::custom("a list in the way"));
        };
        for _ in 0..*index {
            items.next_element::<IgnoredAny>()?;
        }
        let goal = self.goal;
        items.next_element_seed(Walk { path, goal })?;
        Err(A::Error::custom("nothing failed"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let (wanted, path) = match (self.path.split_first(), self.goal) {
            (Some((Step::Key(key), path)), _) => (&**key, path),
            (None, Goal::Key(key)) => {
                while entries.next_key_seed(FailAt(key))?.is_some() {
                    entries.next_value::<IgnoredAny>()?;
                }
                return Err(A::Error::custom("no such key"));
            }
            _ => return Err(A::Error::custom("a map in the way")),
        };
        let goal = self.goal;
        while let Some(key) = entries.next_key::<String>()? {
            if key == wanted {
                entries.next_value_seed(Walk { path, goal })?;
                break;
            }
            entries.next_value::<IgnoredAny>()?;
        }
        Err(A::Error::custom("nothing failed"))
    }
}

/// Fails at one key.
struct FailAt<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for FailAt<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for FailAt<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<(), E> {
        if key == self.0 {
            return Err(E::custom("here"));
        }
        Ok(())
    }
}

/// Fails at any value.
#[derive(Clone, Copy)]
pub(super) struct Here;

impl Fails for Here {
    fn fail<'de, D: Deserializer<'de>>(&self, from: D) -> Result<(), D::Error> {
        self.deserialize(from)
    }
}

impl<'de> DeserializeSeed<'de> for Here {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

/// Accepts nothing: every default method of a visitor is an error.
impl Visitor<'_> for Here {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}

/// Fails where a `T` cannot be read.
struct Reads<T>(PhantomData<T>);

impl<T: DeserializeOwned> Fails for Reads<T> {
    fn fail<'de, D: Deserializer<'de>>(&self, from: D) -> Result<(), D::Error> {
        T::deserialize(from).map(drop)
    }
}
