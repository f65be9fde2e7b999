//! `WWW-Authenticate` (RFC 9110 section 11.6.1): several challenges in one field line or in several,
//! told apart by their grammar. Protocols that ask for money in it read it here.

use std::collections::BTreeMap;

use http::{HeaderMap, header};

use crate::payment::{Problem, Reason};

/// Challenges that are read, whatever their scheme. Real answers have fewer than ten.
pub(super) const CHALLENGES_MAX: usize = 32;

/// Parameters of one challenge.
const PARAMS_MAX: usize = 32;

/// Bytes of one field line.
const LINE_MAX: usize = 64 << 10;

/// One challenge.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asks {
    /// The scheme, in lower case.
    pub(super) scheme: String,
    /// What it says, or why that cannot be read.
    pub(super) says: Result<Says, Problem>,
}

/// What stands behind the scheme.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// `token68`: one opaque word.
    Word(String),
    /// Parameters by their name in lower case; none is there twice.
    Params(BTreeMap<String, String>),
}

impl Says {
    /// A parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        match self {
            Self::Word(_) => None,
            Self::Params(params) => params.get(name).map(|value| &**value),
        }
    }
}

/// Every challenge of every line, in order; up to one more than are read, by which that is known. Where a line breaks the grammar, its last challenge is
/// broken and nothing after it is believed, as nobody can tell any more what stands within quotes;
/// other lines are read on.
pub(super) fn read(headers: &HeaderMap) -> Vec<Asks> {
    let mut all = vec![];
    for line in headers.get_all(header::WWW_AUTHENTICATE) {
        Line::new(line.as_bytes()).read(&mut all);
        if all.len() > CHALLENGES_MAX {
            break;
        }
    }
    all
}

/// Are there more than are read? What is not read may ask for a payment as well.
pub(super) fn beyond(count: usize) -> Option<Problem> {
    let detail = format!("more than {CHALLENGES_MAX} challenges are not read");
    (count > CHALLENGES_MAX).then(|| Problem::new(Reason::LimitsExceeded, detail))
}

/// Does any line mention this scheme? Cheap, and true more often than [`read`] finds one.
pub(super) fn mentions(headers: &HeaderMap, scheme: &str) -> bool {
    let same = |part: &[u8]| part.eq_ignore_ascii_case(scheme.as_bytes());
    let lines = headers.get_all(header::WWW_AUTHENTICATE).iter();
    let mut lines = lines.map(http::HeaderValue::as_bytes);
    lines.any(|line| line.windows(scheme.len().max(1)).any(same))
}

/// One field line, read from left to right.
struct Line<'a> {
    rest: &'a [u8],
}

impl<'a> Line<'a> {
    fn new(line: &'a [u8]) -> Self {
        Self { rest: line }
    }

    fn read(mut self, into: &mut Vec<Asks>) {
        let too_long = self.rest.len() > LINE_MAX;
        while self.next_item() && into.len() <= CHALLENGES_MAX {
            let Some(scheme) = self.token() else { return };
            let mut asks = Asks {
                scheme: scheme.to_ascii_lowercase(),
                says: Ok(Says::Params(BTreeMap::new())),
            };
            asks.says = match too_long {
                true => Err(too_large()),
                false => self.says(),
            };
            // A name that stands twice leaves the grammar whole; anything else does not.
            let lost = asks.says.as_ref().err();
            let lost = lost.is_some_and(|p| p.reason != Reason::AmbiguousChallenge);
            into.push(asks);
            if lost {
                return;
            }
        }
    }

    /// What follows a scheme: nothing, one word, or parameters up to the next scheme.
    fn says(&mut self) -> Result<Says, Problem> {
        if self.spaces() == 0 {
            return match self.rest.first() {
                None | Some(b',') => Ok(Says::Params(BTreeMap::new())),
                Some(_) => Err(broken()),
            };
        }
        if let Some(word) = self.word() {
            return Ok(Says::Word(word));
        }
        let mut params = BTreeMap::new();
        let mut twice = false;
        loop {
            let before = self.rest;
            if !self.next_item() {
                break;
            }
            let name = self.token().ok_or_else(broken)?.to_ascii_lowercase();
            self.spaces();
            if !self.eat(b'=') {
                // No parameter, so it was the scheme of the next challenge.
                self.rest = before;
                break;
            }
            self.spaces();
            let value = self.value().ok_or_else(broken)?;
            self.spaces();
            if !matches!(self.rest.first(), None | Some(b',')) {
                return Err(broken());
            }
            twice |= params.insert(name, value).is_some();
            if params.len() > PARAMS_MAX {
                return Err(too_large());
            }
        }
        match twice {
            false => Ok(Says::Params(params)),
            true => Err(Problem::new(
                Reason::AmbiguousChallenge,
                "a parameter of the challenge is there more than once",
            )),
        }
    }

    /// `token68`, where it is followed by the end of the item.
    fn word(&mut self) -> Option<String> {
        let inner = |b: &u8| b.is_ascii_alphanumeric() || b"-._~+/".contains(b);
        let letters = self.rest.iter().take_while(|b| inner(b)).count();
        let padding = self.rest.iter().skip(letters);
        let padding = padding.take_while(|b| **b == b'=').count();
        let (word, rest) = self.rest.split_at_checked(letters + padding)?;
        let mut after = Line::new(rest);
        after.spaces();
        if letters == 0 || !matches!(after.rest.first(), None | Some(b',')) {
            return None;
        }
        self.rest = after.rest;
        Some(text(word))
    }

    /// A token or a quoted string, without the quotes.
    fn value(&mut self) -> Option<String> {
        if !self.eat(b'"') {
            return self.token();
        }
        let (mut value, mut bytes) = (String::new(), vec![]);
        loop {
            let (first, rest) = self.rest.split_first()?;
            self.rest = rest;
            match first {
                b'"' => return Some(value + &text(&bytes)),
                b'\\' => match self.escaped() {
                    Some(character) => {
                        value.push_str(&text(&std::mem::take(&mut bytes)));
                        value.push(character);
                    }
                    None => {
                        let (escaped, rest) = self.rest.split_first()?;
                        self.rest = rest;
                        bytes.push(*escaped);
                    }
                },
                byte => bytes.push(*byte),
            }
        }
    }

    /// A character that Latin-1 has not, behind its backslash: `uXXXX`, or a pair of them, as servers of MPP write it
    /// (`mppx`). A backslash of the value itself is doubled, so this is no `u`.
    fn escaped(&mut self) -> Option<char> {
        let (first, rest) = unit(self.rest)?;
        let (character, rest) = match char::decode_utf16([first]).next()? {
            Ok(character) => (character, rest),
            Err(_) => {
                let (second, rest) = unit(rest.strip_prefix(b"\\")?)?;
                (char::decode_utf16([first, second]).next()?.ok()?, rest)
            }
        };
        if character.is_control() {
            return None;
        }
        self.rest = rest;
        Some(character)
    }

    /// A token (RFC 9110 section 5.6.2).
    fn token(&mut self) -> Option<String> {
        let of_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
        let length = self.rest.iter().take_while(|b| of_token(b)).count();
        let (token, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        (length > 0).then(|| text(token))
    }

    /// Goes to the next item of the list; false at the end.
    fn next_item(&mut self) -> bool {
        let between = |b: &u8| matches!(b, b' ' | b'\t' | b',');
        let skipped = self.rest.iter().take_while(|b| between(b)).count();
        self.rest = self.rest.get(skipped..).unwrap_or_default();
        !self.rest.is_empty()
    }

    fn spaces(&mut self) -> usize {
        let space = |b: &u8| matches!(b, b' ' | b'\t');
        let skipped = self.rest.iter().take_while(|b| space(b)).count();
        self.rest = self.rest.get(skipped..).unwrap_or_default();
        skipped
    }

    fn eat(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            Some(_) | None => false,
        }
    }
}

/// `uXXXX`: one unit of UTF-16, and what follows it.
fn unit(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = bytes.strip_prefix(b"u")?.split_at_checked(4)?;
    let digits = Some(digits).filter(|d| d.iter().all(u8::is_ascii_hexdigit))?;
    let unit = u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some((unit, rest))
}

/// UTF-8, or else Latin-1, which is what field values were before.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|b| char::from(*b)).collect(),
    }
}

fn broken() -> Problem {
    Problem::new(
        Reason::MalformedChallenge,
        "the challenge breaks the grammar of WWW-Authenticate",
    )
}

fn too_large() -> Problem {
    Problem::new(
        Reason::LimitsExceeded,
        "the challenge is longer or has more parameters than is read",
    )
}

#[cfg(test)]
mod tests;
