//! The proxies that a tunnel came through, so that one which leads back here ends (threat S-07).
//!
//! Between proxies only: each says its mark in the `Via` of CONNECT (RFC 9110 section 7.6.3), which no
//! merchant hears. What an agent sends through the tunnel crosses unmarked, unless the operator names
//! us (`via`).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use http::header::{self, HeaderMap};

use super::refuse::ClientError;

/// More proxies than any way has. A longer one is a circle of such that say no mark.
const HOPS: usize = 16;

/// Characters of one of them: a host name at most.
const NAME_MAX: usize = 255;

/// The request was here before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loop;

impl From<Loop> for ClientError {
    fn from(_: Loop) -> Self {
        Self::Loop
    }
}

/// What this process calls itself to other proxies. Each has its own, however they are configured.
pub(super) struct Mark(String);

impl Mark {
    pub(super) fn fresh() -> Self {
        // Seeded by the operating system. Nothing hangs on its being secret.
        let number = RandomState::new().hash_one("farepass");
        Self(format!("farepass-{number:016x}"))
    }

    /// Is it among the proxies in these fields, or is the name that the operator gave us?
    pub(super) fn is_in(&self, headers: &HeaderMap, name: Option<&str>) -> bool {
        let us = |hop: &Hop<'_>| {
            let named = |n: &str| hop.by.eq_ignore_ascii_case(n);
            named(&self.0) || name.is_some_and(named)
        };
        hops(headers).any(|hop| us(&hop))
    }
}

/// The ways of two tunnels differ when their trails do, and so do their connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Trail(Arc<str>);

impl Trail {
    /// From the fields of a CONNECT request.
    ///
    /// # Errors
    /// When it came through here, or through more proxies than there can be.
    pub(super) fn of(headers: &HeaderMap, mark: &Mark) -> Result<Self, Loop> {
        if !headers.contains_key(header::VIA) {
            return Ok(Self::default());
        }
        if mark.is_in(headers, None) || hops(headers).count() > HOPS {
            return Err(Loop);
        }
        let plain = hops(headers).filter(Hop::is_plain);
        let all: Vec<_> = plain
            .map(|hop| format!("{} {}", hop.spoke, hop.by))
            .collect();
        Ok(Self(all.join(", ").into()))
    }

    /// The `Via` of a CONNECT that goes on from here.
    pub(super) fn onward(&self, mark: &Mark) -> String {
        match self.0.is_empty() {
            true => format!("1.1 {}", mark.0),
            false => format!("{}, 1.1 {}", self.0, mark.0),
        }
    }
}

/// One member of a `Via` field: what it spoke, and its name.
struct Hop<'a> {
    spoke: &'a str,
    by: &'a str,
}

impl Hop<'_> {
    /// Nothing in it that one proxy could tell the next in ours' stead.
    fn is_plain(&self) -> bool {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:/[]".contains(&b);
        self.spoke.len() <= 16
            && self.by.len() <= NAME_MAX
            && self.spoke.bytes().chain(self.by.bytes()).all(plain)
    }
}

fn hops(headers: &HeaderMap) -> impl Iterator<Item = Hop<'_>> {
    let lines = headers.get_all(header::VIA).iter();
    let texts = lines.filter_map(|line| line.to_str().ok());
    texts.flat_map(|text| text.split(',')).filter_map(|member| {
        let mut words = member.split_whitespace();
        Some(Hop {
            spoke: words.next()?,
            by: words.next()?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn via(lines: &[&str]) -> HeaderMap {
        let line = |l: &&str| (header::VIA, HeaderValue::from_str(l).unwrap());
        lines.iter().map(line).collect()
    }

    #[test]
    fn a_trail_grows_by_one_and_knows_its_own_mark() {
        let (ours, theirs) = (Mark::fresh(), Mark::fresh());
        assert_ne!(ours.0, theirs.0);
        let first = Trail::of(&via(&[]), &ours).unwrap().onward(&ours);
        assert_eq!(first, format!("1.1 {}", ours.0));
        let second = Trail::of(&via(&[&first]), &theirs).unwrap();
        let second = second.onward(&theirs);
        assert_eq!(second, format!("1.1 {}, 1.1 {}", ours.0, theirs.0));
        assert_eq!(Trail::of(&via(&[&second]), &ours), Err(Loop));
        let upper = second.to_ascii_uppercase();
        assert_eq!(Trail::of(&via(&["1.0 squid", &upper]), &ours), Err(Loop));
    }

    #[test]
    fn what_goes_on_is_names_and_not_too_many() {
        let mark = Mark(String::from("us"));
        let said = via(&[
            "1.1 squid (it \"says\" this), HTTP/2 [::1]:80",
            "1.1 b;ad, x",
            "1.0 c",
        ]);
        let trail = Trail::of(&said, &mark).unwrap();
        assert_eq!(
            trail.onward(&mark),
            "1.1 squid, HTTP/2 [::1]:80, 1.0 c, 1.1 us"
        );
        let many = |n| vec!["1.1 other"; n].join(", ");
        assert!(Trail::of(&via(&[&many(HOPS)]), &mark).is_ok());
        assert_eq!(Trail::of(&via(&[&many(HOPS + 1)]), &mark), Err(Loop));
    }

    #[test]
    fn a_name_of_the_operators_counts_where_it_is_given() {
        let (mark, said) = (Mark::fresh(), via(&["1.1 cache, 1.1 Pass"]));
        assert!(mark.is_in(&said, Some("pass")));
        assert!(!mark.is_in(&said, Some("passe")));
        assert!(!mark.is_in(&said, None));
    }
}
