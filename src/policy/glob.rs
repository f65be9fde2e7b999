//! `*` in agents' names and in path segments.

/// A text with stars, each for any run of bytes, also none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    /// What stands between the stars, one more than there are stars.
    parts: Vec<Box<[u8]>>,
}

impl Glob {
    /// Every text is a glob.
    pub(super) fn new(text: &str) -> Self {
        Self::of_parts(text.split('*').map(|part| part.as_bytes().into()).collect())
    }

    /// From the parts between the stars, which may hold stars themselves.
    pub(super) fn of_parts(parts: Vec<Box<[u8]>>) -> Self {
        Self { parts }
    }

    /// A text that it matches.
    pub(super) fn example(&self) -> String {
        String::from_utf8_lossy(&self.parts.join(&b"x"[..])).into_owned()
    }

    /// Does it match the whole text?
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let (first, rest) = match &*self.parts {
            [] => return text.is_empty(),
            [only] => return **only == *text,
            [first, rest @ ..] => (first, rest),
        };
        let Some((last, middle)) = rest.split_last() else {
            return false;
        };
        let inner = text.strip_prefix(&**first);
        let Some(mut inner) = inner.and_then(|t| t.strip_suffix(&**last)) else {
            return false;
        };
        // The earliest place of each part leaves the most for the rest, so nothing is tried twice.
        for part in middle {
            match find(inner, part) {
                Some(after) => inner = after,
                None => return false,
            }
        }
        true
    }
}

/// What follows the first `part` in `text`.
fn find<'a>(text: &'a [u8], part: &[u8]) -> Option<&'a [u8]> {
    if part.is_empty() {
        return Some(text);
    }
    let at = text.windows(part.len()).position(|w| w == part)?;
    text.get(at + part.len()..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_run() {
        for (glob, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("research-*", "research-1", true),
            ("research-*", "research-", true),
            ("research-*", "xresearch-1", false),
            ("*-bot", "a-bot", true),
            ("*-bot", "a-bots", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("**", "x", true),
            ("a*bc*c", "abcc", true),
            ("a*bc*c", "abc", false),
        ] {
            let found = Glob::new(glob).matches(text.as_bytes());
            assert_eq!(found, expected, "{glob} on {text}");
            let glob = Glob::new(glob);
            assert!(glob.matches(glob.example().as_bytes()), "{glob:?}");
        }
        assert_eq!(Glob::new("research-*").example(), "research-x");
    }
}
