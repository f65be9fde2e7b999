//! What stands behind the `?` of a request for payments.

use std::num::NonZeroUsize;

use super::problem::Problem;
use crate::event::State;
use crate::ledger::Filter;
use crate::payment::SessionId;
use crate::settings::as_listed;

/// Payments that one page lists unless it is asked for another number.
const PAGE: usize = 100;

/// Most that one page may list.
pub(super) const PAGE_MAX: usize = 10_000;

/// Reads `session`, `agent`, `host`, `rule`, `state`, `reason`, `denied`, `limit`, as far as they are
/// possible here. Unknown names are errors: a filter that is not understood would show too much.
pub(super) fn filter(query: &str, possible: &[&str]) -> Result<Filter, Problem> {
    let mut filter = Filter {
        limit: PAGE,
        ..Filter::default()
    };
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !possible.contains(&name) {
            let list = possible.join(", ");
            return Err(Problem::Request(format!("possible here: {list}")));
        }
        let wrong = || Problem::Request(format!("`{name}`: the value is not understood"));
        let value = decoded(value).ok_or_else(wrong)?;
        match name {
            "session" => filter.session = Some(SessionId(value.into())),
            "agent" => filter.agent = Some(value),
            "host" => filter.host = Some(as_listed(&value)),
            "rule" => filter.rule = Some(value),
            "reason" => filter.reason = Some(value),
            "state" => filter.state = Some(state(&value).ok_or_else(wrong)?),
            "denied" => filter.denied = value.parse().map_err(|_| wrong())?,
            "limit" => {
                // To the ledger 0 is all, which nobody is given here.
                let limit: NonZeroUsize = value.parse().map_err(|_| wrong())?;
                filter.limit = limit.get().min(PAGE_MAX);
            }
            _ => return Err(wrong()),
        }
    }
    Ok(filter)
}

/// Without percent encoding (RFC 3986, 2.1), or nothing when it is not text then.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = vec![];
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let mut decoded = [0];
        hex::decode_to_slice(digits, &mut decoded).ok()?;
        bytes.extend(decoded);
    }
    String::from_utf8(bytes).ok()
}

/// The state of that name.
#[must_use]
pub fn state(name: &str) -> Option<State> {
    let all = [
        State::Reserved,
        State::Unknown,
        State::Settled,
        State::Released,
        State::Denied,
    ];
    all.into_iter().find(|s| s.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_understood_or_refused() {
        let all = ["session", "agent", "host", "state", "limit"];
        let read = |query| filter(query, &all);
        let it = read("host=h%3A8443&agent=a%20b&state=denied&limit=99999").unwrap();
        assert_eq!(it.host.as_deref(), Some("h:8443"));
        let it = read("host=H.test.%3A8443").unwrap();
        assert_eq!(it.host.as_deref(), Some("h.test:8443"));
        let it = read("host=h&agent=a%20b&state=denied&limit=99999").unwrap();
        assert_eq!(it.agent.as_deref(), Some("a b"));
        assert_eq!((it.state, it.limit), (Some(State::Denied), PAGE_MAX));
        for wrong in [
            "host=%", "host=%zz", "host=%ff", "state=x", "limit=-1", "limit=0", "rule=x", "x",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
