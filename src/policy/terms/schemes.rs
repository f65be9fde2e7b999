//! `schemes: [exact, upto]`: ways of charging that may be used. At the same price the first is taken.

use crate::payment::{Reason, Refusal};
use crate::section::{Section, SectionError};

use super::{About, Ask, Bound, Build, Term, TermKind};

pub(super) const TERM: TermKind = TermKind {
    key: "schemes",
    doc: "ways of charging that may be used, the first at the same price; exact if not written",
    about: About::Means,
    build: Build::Key(|section, _| {
        let read = |s: Section| some(s, "schemes", |item| known(item, SCHEMES));
        let schemes = section.map_or(Ok(vec!["exact"]), read)?;
        Ok(Some(Box::new(Schemes(schemes))))
    }),
};

/// The names of the contract, and whether this program can pay them.
const SCHEMES: &[(&str, bool)] = &[
    ("exact", true),
    ("upto", true),
    ("evm/charge", true),
    ("tempo/charge", true),
    ("l402", true),
];

/// The items of a list that names what may be used, which must name something: an empty one is a rule that
/// never pays, and hardly meant.
pub(super) fn some<T>(
    section: Section,
    what: &str,
    read: impl Fn(Section) -> Result<T, SectionError>,
) -> Result<Vec<T>, SectionError> {
    let place = section.clone();
    let list = section.list(read)?;
    match list.is_empty() {
        true => Err(place
            .error(format!("the list of {what} is empty, so it allows nothing"))
            .hint("remove the key for the default, or write `deny: true`")),
        false => Ok(list),
    }
}

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
    fn bounds(&self) -> Vec<(&'static str, Bound)> {
        vec![("schemes", Bound::only(&self.0))]
    }

    fn check(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        self.takes_some(&[&ask.requirement.scheme])
    }

    fn takes_some(&self, schemes: &[&str]) -> Result<(), Refusal> {
        if self.0.iter().any(|s| schemes.contains(s)) {
            return Ok(());
        }
        let detail = format!("the rule pays the schemes {}", self.0.join(", "));
        Err(Refusal::new(Reason::SchemeUnsupported, detail))
    }

    /// The operator's order.
    fn rank(&self, ask: &Ask<'_>) -> usize {
        let place = self.0.iter().position(|s| *s == ask.requirement.scheme);
        place.unwrap_or(self.0.len())
    }
}
