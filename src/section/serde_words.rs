//! What serde says about a subtree, in our words and with the place in the file.

use serde::de::DeserializeOwned;

use super::{Section, SectionError, place};

/// `message` is serde's about the parsed value, without a place; reading the same subtree from the
/// text again gives the place and the path inside it.
pub(super) fn translate<T: DeserializeOwned>(section: &Section, message: &str) -> SectionError {
    let mut error = section.error(String::new());
    if let Some(probe) = place::probe::<T>(&section.source.text, &section.path) {
        if probe.place.is_some() {
            error.place = probe.place.into();
        }
        if let Some(path) = probe.path_before(message) {
            error.path = path;
        }
    }
    if let Some((field, words)) = unknown(message) {
        error.problem = format!("no such setting: `{}`", field.escape_debug());
        return error.hint_words(field, words.into_iter());
    }
    if let Some(field) = message.strip_prefix("missing field ") {
        error.problem = format!("{field} is missing");
        return error;
    }
    error.problem = match message.strip_prefix("invalid type: ") {
        Some(rest) => format!("found {rest}"),
        None => message.into(),
    };
    error
}

/// ``unknown field `a`, expected one of `b`, `c` `` and the same for variants.
fn unknown(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message
        .strip_prefix("unknown field `")
        .or_else(|| message.strip_prefix("unknown variant `"))?;
    let (found, rest) = rest.split_once("`, expected ")?;
    let words = rest.split('`').skip(1).step_by(2).collect();
    Some((found, words))
}
