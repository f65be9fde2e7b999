//! One subtree of the configuration file, with its path. The only room that names the YAML crate.

use std::fmt;

use serde::de::DeserializeOwned;

/// One subtree of the configuration file.
#[derive(Clone)]
pub struct Section {
    path: String,
    value: serde_yaml::Value,
}

/// What is wrong with the file, where, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionError {
    /// The file.
    pub file: String,
    /// Where in the tree: `rules[0].pay.max`.
    pub path: String,
    /// Line and column, from 1.
    pub place: Option<(usize, usize)>,
    /// What is wrong, and what was expected.
    pub problem: String,
}

impl fmt::Display for SectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some((line, column)) = self.place {
            write!(f, "{line}:{column}:")?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}", self.problem)
    }
}

impl std::error::Error for SectionError {}

impl Section {
    /// Parses a whole file. `name` is used in messages only.
    ///
    /// # Errors
    /// When the text is not YAML.
    pub fn file(name: &str, text: &str) -> Result<Self, SectionError> {
        serde_yaml::from_str(text)
            .map(|value| Self {
                path: String::new(),
                value,
            })
            .map_err(|e| SectionError {
                file: name.into(),
                path: String::new(),
                place: None,
                problem: e.to_string(),
            })
    }

    /// Turns the whole subtree into `T`. Unknown keys are errors when `T` says so.
    ///
    /// # Errors
    /// When the subtree is not a `T`.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, SectionError> {
        serde_yaml::from_value(self.value.clone()).map_err(|e| self.error(e.to_string()))
    }

    /// Where in the tree: `rules[0].pay.max`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The items of a list, each with its place in the path.
    ///
    /// # Errors
    /// When the subtree is not a list.
    pub fn items(self) -> Result<Vec<Self>, SectionError> {
        let path = self.path.clone();
        let values: Vec<serde_yaml::Value> = self.read()?;
        let item = |(i, value)| Self {
            path: format!("{path}[{i}]"),
            value,
        };
        Ok(values.into_iter().enumerate().map(item).collect())
    }

    /// Removes and returns a child, so that what is left over can be reported.
    pub fn take(&mut self, key: &str) -> Option<Self> {
        let value = self.value.as_mapping_mut()?.remove(key)?;
        let dot = if self.path.is_empty() { "" } else { "." };
        Some(Self {
            path: format!("{}{dot}{key}", self.path),
            value,
        })
    }

    /// Removes and returns a child that must be there.
    ///
    /// # Errors
    /// When it is missing.
    pub fn need(&mut self, key: &str) -> Result<Self, SectionError> {
        self.take(key)
            .ok_or_else(|| self.error(format!("`{key}` is missing")))
    }

    /// An error about this subtree.
    #[must_use]
    pub fn error(&self, problem: impl Into<String>) -> SectionError {
        SectionError {
            file: "config".into(),
            path: self.path.clone(),
            place: None,
            problem: problem.into(),
        }
    }

    /// Errors on the first key that nobody took.
    ///
    /// # Errors
    /// When a key is left.
    pub fn finish(self) -> Result<(), SectionError> {
        let left = self.value.as_mapping().and_then(|m| m.keys().next());
        match left.and_then(|k| k.as_str()) {
            Some(key) => Err(self.error(format!("no such setting: `{key}`"))),
            None => Ok(()),
        }
    }
}
