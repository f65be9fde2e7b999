//! As much of a file as a command needs. Whoever stops payments, or asks whether a proxy runs, is not sent
//! away over a mistake in a rule that the running proxy has never read.

use std::path::Path;

use super::{Config, ConfigError};
use crate::section::{Section, SectionError};

impl Config {
    /// As [`Config::load`]. A file that is wrong elsewhere than at the keys that are `needed` is given all the
    /// same, with defaults for what is wrong, and with all that is.
    ///
    /// # Errors
    /// Those of `load`, where what is needed may be wrong as well.
    pub fn load_partly(
        named: Option<&Path>,
        needed: &[&str],
    ) -> Result<(Self, Vec<SectionError>), ConfigError> {
        let (file, text, stamp) = super::source(named)?;
        let (config, problems) = Self::read_all(&file, &text).map_err(ConfigError::Invalid)?;
        // Of so many not all are told.
        let many = problems.is_full();
        let problems = problems.into_sorted();
        let there = || {
            let section = Section::file("", &text);
            section.is_ok_and(|section| needed.iter().all(|key| section.has(key)))
        };
        // A key that nobody knows may be one that is needed, misspelled.
        let strange = problems.iter().any(|error| error.path.is_empty());
        let touched = |error: &SectionError| {
            let mut keys = needed.iter().chain(&["version"]);
            keys.any(|key| below(&error.path, key))
        };
        if many || problems.iter().any(touched) || strange && !there() {
            return Err(ConfigError::Invalid(problems));
        }
        Ok((Self { stamp, ..config }, problems))
    }
}

/// Is this the path of that key, or of something in it?
fn below(path: &str, key: &str) -> bool {
    let rest = path.strip_prefix(key);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the state would be, and how many mistakes are told; nothing when it is not given.
    fn partly(text: &str) -> Option<(String, usize)> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("farepass.yaml");
        std::fs::write(&file, text).unwrap();
        let (config, problems) = Config::load_partly(Some(&file), &["state_dir", "ledger"]).ok()?;
        assert_eq!(problems.is_empty(), Config::load(Some(&file)).is_ok());
        let state = config.state_dir.strip_prefix(dir.path()).ok()?;
        Some((state.display().to_string(), problems.len()))
    }

    #[test]
    fn a_mistake_elsewhere_is_told_and_does_not_matter() {
        let there = |state: &str, problems| Some((state.to_owned(), problems));
        let wrong = "rules: [{ name: r, pay: { max: lots } }]\n";
        for (text, found) in [
            ("version: 1\n".to_owned(), there(".farepass", 0)),
            (format!("version: 1\n{wrong}"), there(".farepass", 1)),
            (format!("version: 1\nstate_dir: s\n{wrong}"), there("s", 1)),
            // What is needed is wrong, or may be.
            ("version: 1\nstate_dir: []\n".to_owned(), None),
            ("version: 1\nledger: { postgres: {} }\n".to_owned(), None),
            (
                "version: 1\nledgr: { postgres: { url_file: u } }\n".to_owned(),
                None,
            ),
            ("version: 1\nstate_dir: s\nlegder: 1\n".to_owned(), None),
            ("version: 2\nstate_dir: s\n".to_owned(), None),
            ("version: 1\nstate_dir: s\nrules: [\n".to_owned(), None),
            (
                "version: 1\nstate_dir: s\nledger: null\nx: 1\n".to_owned(),
                there("s", 1),
            ),
        ] {
            assert_eq!(partly(&text), found, "{text}");
        }
        let many = "{ name: r, pay: { max: lots } }, ".repeat(30);
        assert_eq!(partly(&format!("version: 1\nrules: [{many}]\n")), None);
    }
}
