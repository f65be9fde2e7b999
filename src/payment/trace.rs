//! Where a request stands in a trace (W3C Trace Context, level 2): read from what the agent sends, never
//! written into what goes on to the merchant.

use http::HeaderMap;

/// The header field of an agent that traces.
pub const TRACEPARENT: &str = "traceparent";

/// Which trace: 16 bytes, not all zero.
pub type TraceId = [u8; 16];

/// Which span of it: 8 bytes, not all zero.
pub type SpanId = [u8; 8];

/// The step of the agent that caused a request, as its `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Its trace.
    pub trace: TraceId,
    /// The step.
    pub span: SpanId,
    /// Does the agent keep this trace?
    pub sampled: bool,
}

/// Where one exchange stands in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The agent's trace, or one of ours where it has none.
    pub id: TraceId,
    /// The exchange's own span where it is exported; else the agent's step.
    pub span: SpanId,
    /// Is it our span?
    pub exported: bool,
}

impl Cause {
    /// The one `traceparent` of a request. `None` where there is none, more than one, or one that says
    /// nothing (section 3.2.2 of the specification).
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all(TRACEPARENT).iter();
        let value = all.next()?;
        match all.next() {
            None => Self::read(value.as_bytes()),
            Some(_) => None,
        }
    }

    /// `00-` trace `-` span `-` flags, in lower-case hexadecimal. Later versions may say more behind it.
    #[must_use]
    pub fn read(value: &[u8]) -> Option<Self> {
        let (known, more) = value.split_at_checked(55)?;
        let mut parts = known.split(|b| *b == b'-');
        let version: [u8; 1] = hexadecimal(parts.next()?)?;
        let trace: TraceId = hexadecimal(parts.next()?)?;
        let span: SpanId = hexadecimal(parts.next()?)?;
        let [flags]: [u8; 1] = hexadecimal(parts.next()?)?;
        let whole = match version {
            [0xff] => false,
            [0] => more.is_empty(),
            _ => more.first().is_none_or(|b| *b == b'-'),
        };
        let named = trace != TraceId::default() && span != SpanId::default();
        (whole && named && parts.next().is_none()).then_some(Self {
            trace,
            span,
            sampled: flags & 1 == 1,
        })
    }
}

impl From<Cause> for Trace {
    fn from(cause: Cause) -> Self {
        Self {
            id: cause.trace,
            span: cause.span,
            exported: false,
        }
    }
}

fn hexadecimal<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let lower = text.iter().all(|b| !b.is_ascii_uppercase());
    hex::decode_to_slice(text, &mut bytes).ok()?;
    lower.then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_specification_is_read() {
        let cause = Cause::read(GOOD.as_bytes()).unwrap();
        assert_eq!(hex::encode(cause.trace), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(hex::encode(cause.span), "00f067aa0ba902b7");
        assert!(cause.sampled);
        let off = GOOD.replace("-01", "-00");
        assert!(!Cause::read(off.as_bytes()).unwrap().sampled);
        // What a later version adds is left alone.
        let later = format!("cc{}-more", &GOOD[2..]);
        assert_eq!(Cause::read(later.as_bytes()), Some(cause));
    }

    #[test]
    fn what_says_nothing_is_no_cause() {
        let upper = GOOD.to_uppercase();
        let zero_trace = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let zero_span = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01";
        let (more, ahead) = (format!("{GOOD}-more"), format!("ff{}", &GOOD[2..]));
        let glued = format!("cc{}more", &GOOD[2..]);
        let split = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa-ba902b7-01";
        for text in [
            "",
            "00",
            &GOOD[..54],
            &upper,
            zero_trace,
            zero_span,
            &more,
            &ahead,
            &glued,
            split,
        ] {
            assert_eq!(Cause::read(text.as_bytes()), None, "{text}");
        }
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, GOOD.parse().unwrap());
        assert!(Cause::of(&headers).is_some());
        headers.append(TRACEPARENT, GOOD.parse().unwrap());
        assert_eq!(Cause::of(&headers), None, "two of them");
    }
}
