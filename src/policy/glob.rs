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

    /// Does it match every text?
    pub(super) fn is_any(&self) -> bool {
        self.parts.len() > 1 && self.parts.iter().all(|part| part.is_empty())
    }

    /// Does it match this text and no other?
    pub(super) fn is(&self, text: &[u8]) -> bool {
        matches!(&*self.parts, [only] if **only == *text)
    }

    /// From the parts between the stars, which may hold stars themselves.
    pub(super) fn of_parts(parts: Vec<Box<[u8]>>) -> Self {
        Self { parts }
    }

    /// A text that it matches.
    pub(super) fn example(&self) -> String {
        String::from_utf8_lossy(&self.parts.join(&b"x"[..])).into_owned()
    }

    /// Does it match the empty text alone?
    pub(super) fn is_empty(&self) -> bool {
        matches!(&*self.parts, [only] if only.is_empty())
    }

    /// Does it match the whole text?
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        self.fits(text, |part, found| part == found)
    }

    /// The same where letters of ASCII are alike, capital or not.
    pub(super) fn matches_in_any_case(&self, text: &[u8]) -> bool {
        self.fits(text, <[u8]>::eq_ignore_ascii_case)
    }

    fn fits(&self, text: &[u8], same: impl Fn(&[u8], &[u8]) -> bool) -> bool {
        let (first, rest) = match &*self.parts {
            [] => return text.is_empty(),
            [only] => return same(only, text),
            [first, rest @ ..] => (first, rest),
        };
        let Some((last, middle)) = rest.split_last() else {
            return false;
        };
        let ends = || {
            let (start, inner) = text.split_at_checked(first.len())?;
            let (inner, end) = inner.split_at_checked(inner.len().checked_sub(last.len())?)?;
            (same(first, start) && same(last, end)).then_some(inner)
        };
        let Some(mut inner) = ends() else {
            return false;
        };
        // The earliest place of each part leaves the most for the rest, so nothing is tried twice.
        for part in middle {
            match find(inner, part, &same) {
                Some(after) => inner = after,
                None => return false,
            }
        }
        true
    }
}

/// What follows the first `part` in `text`.
fn find<'a>(text: &'a [u8], part: &[u8], same: impl Fn(&[u8], &[u8]) -> bool) -> Option<&'a [u8]> {
    if part.is_empty() {
        return Some(text);
    }
    let at = text.windows(part.len()).position(|w| same(part, w))?;
    text.get(at + part.len()..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_and_every_text_are_told_apart() {
        assert!(Glob::new("docs://a b").is(b"docs://a b"));
        assert!(!Glob::new("docs://*").is(b"docs://*"));
        assert!(!Glob::new("docs://a").is(b"docs://a b"));
        assert!(Glob::new("*").is_any() && Glob::new("**").is_any());
        assert!(!Glob::new("").is_any() && !Glob::new("a*").is_any());
    }

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
            let upper = text.to_uppercase();
            assert_eq!(glob.matches_in_any_case(upper.as_bytes()), expected);
        }
        assert_eq!(Glob::new("research-*").example(), "research-x");
    }
}
