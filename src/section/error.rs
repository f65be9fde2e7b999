//! What is wrong with the file, where, what was expected, and how to mend it.

use std::fmt;

use super::Place;

/// What is wrong with the file, where, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionError {
    /// The file.
    pub file: String,
    /// Where in the tree: `rules[0].pay.max`. Empty for the whole file.
    pub path: String,
    /// Where in the text.
    pub place: Place,
    /// What is wrong, and what was expected.
    pub problem: String,
    /// How to mend it, if that is likely.
    pub hint: Option<String>,
}

impl SectionError {
    /// The same error with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Hints at the word of a closed list that was probably meant, or at the whole list.
    #[must_use]
    pub fn hint_words<'a>(self, found: &str, words: impl Iterator<Item = &'a str>) -> Self {
        let words: Vec<_> = words.collect();
        if words.is_empty() {
            return self;
        }
        match nearest(found, words.iter().copied()) {
            Some(word) => self.hint(format!("did you mean `{word}`?")),
            None => self.hint(format!("possible here: {}", words.join(", "))),
        }
    }
}

impl fmt::Display for SectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some((line, column)) = self.place.get() {
            write!(f, "{line}:{column}:")?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}", self.problem)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for SectionError {}

/// Several errors of one file, so that the operator sees them at once.
#[derive(Debug, Default)]
pub struct Problems(Vec<SectionError>);

impl Problems {
    /// More would not be read.
    const MOST: usize = 20;

    /// The value, or `None` and the error is kept.
    pub fn keep<T>(&mut self, result: Result<T, SectionError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.push(error);
                None
            }
        }
    }

    /// Keeps an error, unless there are enough.
    pub fn push(&mut self, error: SectionError) {
        if !self.is_full() {
            self.0.push(error);
        }
    }

    /// Are there so many that looking further helps nobody?
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.len() >= Self::MOST
    }

    /// Are there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The errors, in the order of the file.
    #[must_use]
    pub fn into_sorted(mut self) -> Vec<SectionError> {
        // Looked up once for all who ask.
        for error in &mut self.0 {
            error.place = error.place.get().into();
        }
        self.0.sort_by_key(|e| e.place.get());
        self.0
    }
}

/// The word that `found` is probably a misspelling of.
#[must_use]
pub fn nearest<'a>(found: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if found.len() > LONGEST {
        return None;
    }
    let near = |word: &&str| {
        let (short, long) = (word.len().min(found.len()), word.len().max(found.len()));
        distance(found, word) <= (1 + long / 4).min(short / 2)
    };
    words
        .filter(|w| w.len() <= LONGEST)
        .filter(near)
        .min_by_key(|word| distance(found, word))
}

/// Letters to insert, delete, replace or swap with their neighbour (Damerau and Levenshtein, the
/// restricted form), without regard to case and to `-` or `_`.
fn distance(a: &str, b: &str) -> usize {
    let fold = |s: &str| -> Vec<char> {
        let plain = s.chars().map(|c| if c == '-' { '_' } else { c });
        plain.map(|c| c.to_ascii_lowercase()).collect()
    };
    let (a, b) = (fold(a), fold(b));
    let mut before: Vec<usize> = vec![];
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
            let replaced = at(&row, j) + usize::from(x != y);
            let shifted = at(&row, j + 1).min(at(&next, j)) + 1;
            let swapped = match (i.checked_sub(1), j.checked_sub(1)) {
                (Some(k), Some(l)) if a.get(k) == Some(y) && b.get(l) == Some(x) => {
                    at(&before, l) + 1
                }
                _ => usize::MAX,
            };
            next.push(replaced.min(shifted).min(swapped));
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_counted() {
        for (a, b, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "abc", 3),
            ("budget", "budgets", 1),
            ("pay_to", "pay-to", 0),
            ("Max", "max", 0),
            ("hsots", "hosts", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn only_near_words_are_meant() {
        let words = ["hosts", "methods", "paths", "agents"];
        assert_eq!(nearest("host", words.into_iter()), Some("hosts"));
        assert_eq!(nearest("mehtods", words.into_iter()), Some("methods"));
        assert_eq!(nearest("colour", words.into_iter()), None);
        assert_eq!(nearest(&"h".repeat(1000), words.into_iter()), None);
    }
}
