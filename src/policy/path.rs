//! Paths, and patterns of paths, in one normal form for matching. What is forwarded is never changed.

use std::borrow::Cow;

use super::glob::Glob;

/// A path pattern: `*` within one segment, `**` for any number of whole segments. At the end `/**`
/// means everything below, not the folder itself without its slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathPattern {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    One(Glob),
    Any,
}

/// Why a text is no path pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotPathPattern {
    /// It does not begin with a slash.
    #[error("a path begins with `/`")]
    NoSlash,
    /// `**` with other letters in one segment.
    #[error("`**` stands for whole segments: \"/v1/**\"")]
    Stars,
    /// It could never match: such paths are ambiguous.
    #[error("write the path plainly: no `//`, `.`, `..`, `\\`, `?`, `#` and no encoded slash")]
    Ambiguous,
}

impl PathPattern {
    pub(super) fn new(text: &str) -> Result<Self, NotPathPattern> {
        let rest = text.strip_prefix('/').ok_or(NotPathPattern::NoSlash)?;
        if text.contains(['?', '#']) {
            return Err(NotPathPattern::Ambiguous);
        }
        let count = rest.split('/').count();
        let segments = rest.split('/').enumerate().map(|(i, segment)| {
            let last = i + 1 == count;
            match segment {
                "**" => Ok(Segment::Any),
                _ if segment.contains("**") => Err(NotPathPattern::Stars),
                _ if !last && named(segment.as_bytes()).is_empty() => {
                    Err(NotPathPattern::Ambiguous)
                }
                _ if is_dots(segment.as_bytes()) => Err(NotPathPattern::Ambiguous),
                _ => {
                    let part = |part| decode(part).map(Into::into);
                    let parts: Option<Vec<_>> = segment.split('*').map(part).collect();
                    let parts = parts.ok_or(NotPathPattern::Ambiguous)?;
                    Ok(Segment::One(Glob::of_parts(parts)))
                }
            }
        });
        segments
            .collect::<Result<_, _>>()
            .map(|segments| Self { segments })
    }

    pub(super) fn matches(&self, path: &PlainPath) -> bool {
        fit(&self.segments, &path.0, Glob::matches)
    }

    /// Is it about this path on some server: one that knows no case, no slash at the end or no parameters
    /// of segments?
    pub(super) fn may_match(&self, path: &PlainPath) -> bool {
        let alike = |glob: &Glob, segment: &[u8]| {
            glob.matches_in_any_case(segment) || glob.matches_in_any_case(named(segment))
        };
        let (pattern, text) = (&*self.segments, &*path.0);
        let pattern_cut = match pattern {
            [rest @ .., Segment::One(last)] if !rest.is_empty() && last.is_empty() => rest,
            whole => whole,
        };
        let text_cut = match text {
            [rest @ .., last] if !rest.is_empty() && named(last).is_empty() => rest,
            whole => whole,
        };
        fit(pattern, text, alike) || fit(pattern_cut, text_cut, alike)
    }
}

/// Do the segments of a pattern fit those of a path, where globs match by `matches`?
fn fit(
    mut pattern: &[Segment],
    mut text: &[Vec<u8>],
    matches: impl Fn(&Glob, &[u8]) -> bool,
) -> bool {
    // Where to go on when the last `**` must take one segment more.
    let mut again: Option<(&[Segment], &[Vec<u8>])> = None;
    loop {
        match (pattern, text) {
            ([], []) => return true,
            // At the end it needs the slash: an empty last segment at least.
            ([Segment::Any], [_, ..]) => return true,
            ([Segment::Any, after @ ..], _) if !after.is_empty() => {
                again = Some((after, text));
                pattern = after;
                continue;
            }
            ([Segment::One(glob), p @ ..], [segment, t @ ..]) if matches(glob, segment) => {
                (pattern, text) = (p, t);
                continue;
            }
            _ => {}
        }
        match again {
            Some((after, [_, rest @ ..])) => {
                again = Some((after, rest));
                (pattern, text) = (after, rest);
            }
            _ => return false,
        }
    }
}

/// The decoded segments of a path that everybody reads the same way.
#[derive(Clone, Debug)]
pub(super) struct PlainPath(Vec<Vec<u8>>);

impl PlainPath {
    /// `None` when servers differ in how they read it: encoded slashes, backslashes and control
    /// characters, double encoding, dot segments, empty segments (threat H-13).
    pub(super) fn new(path: &str) -> Option<Self> {
        let rest = path.strip_prefix('/')?;
        let segments: Option<Vec<_>> = rest.split('/').map(decode).collect();
        let segments = segments?;
        let (_, folders) = segments.split_last()?;
        let dots = |s: &Vec<u8>| is_dots(s);
        if folders.iter().any(|s| named(s).is_empty()) || segments.iter().any(dots) {
            return None;
        }
        Some(Self(segments))
    }
}

/// A dot segment, for some servers also one with parameters (`..;a`, RFC 3986 section 3.3).
fn is_dots(segment: &[u8]) -> bool {
    matches!(named(segment), b"." | b"..")
}

/// A segment without its parameters.
fn named(segment: &[u8]) -> &[u8] {
    segment.split(|b| *b == b';').next().unwrap_or_default()
}

/// The path in the one spelling of all that rules match alike; one that servers read in different ways as it is.
#[must_use]
pub(crate) fn plain_spelling(path: &str) -> Cow<'_, str> {
    if !path.contains('%') && path.is_ascii() {
        return path.into();
    }
    let Some(PlainPath(segments)) = PlainPath::new(path) else {
        return path.into();
    };
    let mut plain = String::with_capacity(path.len());
    for segment in segments {
        plain.push('/');
        for byte in segment {
            // pchar of RFC 3986 section 3.3.
            match byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
                true => plain.push(char::from(byte)),
                false => plain.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    plain.into()
}

/// One segment without its percent encoding, or `None` when it is ambiguous.
fn decode(segment: &str) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => {
                let digit = |b: u8| char::from(b).to_digit(16);
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                match u8::try_from(high * 16 + low).ok()? {
                    b'/' | b'%' => return None,
                    byte => byte,
                }
            }
            byte => byte,
        };
        if byte == b'\\' || byte.is_ascii_control() {
            return None;
        }
        plain.push(byte);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rules_match_alike_is_spelled_alike() {
        for (path, plain) in [
            ("/v1/forecast", "/v1/forecast"),
            ("/v1/%66orecast", "/v1/forecast"),
            ("/a%20b/%3a@%7e/", "/a%20b/:@~/"),
            ("/%c3%bc", "/%C3%BC"),
            ("/\u{fc}", "/%C3%BC"),
            ("/*;a=(1)", "/*;a=(1)"),
            ("/a%2fb", "/a%2fb"),
            ("/a/../b%20", "/a/../b%20"),
            ("", ""),
        ] {
            assert_eq!(plain_spelling(path), plain, "{path}");
        }
    }

    fn matches(pattern: &str, path: &str) -> Option<bool> {
        let pattern = PathPattern::new(pattern).unwrap();
        PlainPath::new(path).map(|path| pattern.matches(&path))
    }

    #[test]
    fn patterns_match_segments() {
        for (pattern, path, expected) in [
            ("/", "/", true),
            ("/", "/a", false),
            ("/v1", "/v1", true),
            ("/v1", "/v1/", false),
            ("/v1/**", "/v1/x", true),
            ("/v1/**", "/v1/x/y", true),
            ("/v1/**", "/v1/", true),
            ("/v1/**", "/v1", false),
            ("/v1/**", "/v10/x", false),
            ("/v1/*", "/v1/x", true),
            ("/v1/*", "/v1/x/y", false),
            ("/v1/*.json", "/v1/a.json", true),
            ("/v1/*.json", "/v1/a.xml", false),
            ("/**", "/", true),
            ("/**", "/a/b/c", true),
            ("/a/**/z", "/a/z", true),
            ("/a/**/z", "/a/b/c/z", true),
            ("/a/**/z", "/a/b/c/zz", false),
            ("/a/**/b/**/c", "/a/x/b/b/y/c", true),
            ("/a/**/b/**/c", "/a/x/b/b/y/d", false),
            ("/**/x", "/x", true),
            ("/V1/x", "/v1/x", false),
        ] {
            assert_eq!(
                matches(pattern, path),
                Some(expected),
                "{pattern} on {path}"
            );
        }
    }

    #[test]
    fn two_spellings_of_one_path_are_one_path() {
        assert_eq!(matches("/admin/**", "/%61dmin/x"), Some(true));
        assert_eq!(matches("/a:b", "/a%3Ab"), Some(true));
        assert_eq!(matches("/a%3ab", "/a:b"), Some(true));
        assert_eq!(matches("/caf\u{e9}", "/caf%C3%A9"), Some(true));
        assert_eq!(matches("/a%2Ab", "/a*b"), Some(true));
        assert_eq!(matches("/a%2Ab", "/axb"), Some(false));
    }

    #[test]
    fn what_some_server_takes_for_a_path_may_match_it() {
        for (pattern, path, expected) in [
            ("/v1/x", "/v1/x", true),
            ("/v1/x", "/V1/X/", true),
            ("/V1/X/", "/v1/x", true),
            ("/v1/x", "/v1/x/y", false),
            ("/v1/x", "/v1/x;a=b;c", true),
            ("/v1/x", "/v1/x/;a", true),
            ("/v1/x;a", "/v1/x;A", true),
            ("/v1/x;a", "/v1/x", false),
            ("/a*Z", "/Ab;y", false),
            ("/a*Z", "/AbCz;c", true),
            ("/a*b*c", "/A1B2C", true),
            ("/v1/**/z", "/v1;a/b/Z", true),
            ("/v1/**", "/v1", false),
            ("/v1/**", "/V1/", true),
            ("/x/*", "/x", false),
            ("/x/*", "/X/y/", true),
            ("/", "/", true),
            ("/", "/;a", true),
            ("/", "/a", false),
        ] {
            let path = PlainPath::new(path).unwrap();
            let found = PathPattern::new(pattern).unwrap().may_match(&path);
            assert_eq!(found, expected, "{pattern} on {path:?}");
        }
    }

    #[test]
    fn ambiguous_paths_are_no_paths() {
        for path in [
            "/v1/%2e%2e/admin",
            "/v1/../admin",
            "/v1/.",
            "/v1/%2E",
            "/v1/..;/admin",
            "/v1/%2e%2e;a=b/admin",
            "/v1/.;",
            "/;a/v1",
            "/v1/%3ba=b/x",
            "/v1%2fadmin",
            "/v1%2Fadmin",
            "/v1/a%5cb",
            "/v1/a\\b",
            "/v1/%00",
            "/v1/%0a",
            "/v1/%7f",
            "/v1/%2561",
            "/v1/%252e",
            "/v1//x",
            "//v1",
            "/v1/%",
            "/v1/%4",
            "/v1/%zz",
            "",
            "v1",
            "*",
        ] {
            assert!(PlainPath::new(path).is_none(), "{path}");
        }
    }

    #[test]
    fn other_patterns_are_refused() {
        use NotPathPattern as P;
        for (text, error) in [
            ("v1/**", P::NoSlash),
            ("", P::NoSlash),
            ("/v1**", P::Stars),
            ("/***", P::Stars),
            ("//v1", P::Ambiguous),
            ("/v1/../x", P::Ambiguous),
            ("/v1/..;/x", P::Ambiguous),
            ("/v1/;a/x", P::Ambiguous),
            ("/v1?x=1", P::Ambiguous),
            ("/v1%2fx", P::Ambiguous),
            ("/v1/%zz", P::Ambiguous),
        ] {
            assert_eq!(PathPattern::new(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn matching_takes_no_longer_for_a_cunning_path() {
        let pattern = PathPattern::new("/**/a/**/a/**/a/**/a/**/a/**/a/**/b").unwrap();
        let path = PlainPath::new(&"/a".repeat(4000)).unwrap();
        assert!(!pattern.matches(&path));
    }
}
