//! `reload:`: when a running proxy takes a new policy, and which it does not take without being told so.

use crate::section::{Section, SectionError};

/// How the policy may change while the proxy runs. Read at start, but for `accept`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reload {
    /// Is the file looked at every few seconds?
    pub watch: bool,
    /// Is a policy that is weaker refused?
    pub strict: bool,
    /// The hash of the one weaker policy that is taken all the same.
    pub accept: Option<String>,
}

impl Reload {
    /// Reads `reload:`.
    ///
    /// # Errors
    /// With the place of what cannot be read.
    pub fn read(mut section: Section) -> Result<Self, SectionError> {
        let reload = Self {
            watch: section.or("watch", false, Section::flag)?,
            strict: section.or("strict", false, Section::flag)?,
            accept: section.or("accept", None, accept)?,
        };
        section.finish()?;
        Ok(reload)
    }
}

fn accept(section: Section) -> Result<Option<String>, SectionError> {
    if section.is_nothing() {
        return Ok(None);
    }
    let text = section.clone().text()?;
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    match text.len() == 16 && text.bytes().all(digit) {
        true => Ok(Some(text)),
        false => Err(section
            .expected("the hash of a policy: 16 hexadecimal digits in quotation marks")
            .hint("the log tells it when it refuses one")),
    }
}
