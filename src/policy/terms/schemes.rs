//! `schemes: [exact]`: ways of charging that may be used.

use crate::payment::{Reason, Refusal};
use crate::section::{Section, SectionError};

use super::{About, Ask, Build, Term, TermKind};

pub(super) const TERM: TermKind = TermKind {
    key: "schemes",
    doc: "ways of charging that may be used; exact if not written",
    about: About::Means,
    build: Build::Key(|section, _| {
        let read = |s: Section| s.list(|item| known(item, SCHEMES));
        let schemes = section.map_or(Ok(vec!["exact"]), read)?;
        Ok(Some(Box::new(Schemes(schemes))))
    }),
};

/// The names of the contract, and whether this program can pay them.
const SCHEMES: &[(&str, bool)] = &[
    ("exact", true),
    ("upto", false),
    ("evm/charge", false),
    ("tempo/charge", false),
    ("l402", false),
];

/// A word of a table, if its feature is there.
pub(super) fn known(
    item: Section,
    table: &'static [(&'static str, bool)],
) -> Result<&'static str, SectionError> {
    let words = table.iter().map(|(word, here)| (*word, (*word, *here)));
    let (word, here) = item.clone().word(&words.collect::<Vec<_>>())?;
    if !here {
        return Err(item.error(format!("`{word}` is not supported yet")));
    }
    Ok(word)
}

struct Schemes(Vec<&'static str>);

impl Term for Schemes {
    fn check(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        if self.0.iter().any(|s| *s == ask.requirement.scheme) {
            return Ok(());
        }
        let detail = format!("the rule pays the schemes {}", self.0.join(", "));
        Err(Refusal::new(Reason::SchemeUnsupported, detail))
    }
}
