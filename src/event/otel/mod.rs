//! Traces and logs for a collector, by OTLP. Whoever puts something in never waits: what the queue has no
//! room for is counted and left out.
//!
//! A span for each exchange, below the agent's own step where it sends one, with spans below it for the
//! steps of a payment; a log record for each spend event and notice. Nothing of it is told to merchants.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::metrics::{Family, Page, Step};
use super::{Conclusion, Notice, Sink, SpendEvent, State};
use crate::payment::{Cause, Session, SpanId, Trace, TraceId};
use crate::settings::Sampler;

mod courier;
mod partial;
mod proto;
mod queue;
mod record;

use courier::lane;
pub use courier::{Couriers, Destination, Wire};
use queue::Lane;
use record::{Attributes, Log, Span, SpanKind, Value, payment};

/// What every span and record of this process has in common: names and values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource(pub Vec<(String, String)>);

/// Exchanges whose payment is known and whose end is not: those of agents that hung up are left behind.
const UNDER_WAY: usize = 4096;

/// How long those are kept, if there are that many.
const LEFT_BEHIND: Duration = Duration::from_secs(600);

/// What is told about the exporter.
pub const FAMILIES: [Family; 2] = [EXPORTED, LOST];

const EXPORTED: Family = Family::counter(
    "farepass_telemetry_exported_total",
    &["signal"],
    "Spans (traces) and records (logs) that the collector took.",
);
const LOST: Family = Family::counter(
    "farepass_telemetry_dropped_total",
    &["signal", "reason"],
    "Spans and records that were left out: the queue was full, or the collector did not take them.",
);

/// The sink, and where exchanges get their spans.
pub struct Otel {
    spans: Option<Lane<Span>>,
    logs: Option<Lane<Log>>,
    sampler: Sampler,
    known: Mutex<HashMap<SpanId, Known>>,
}

/// How an exchange ends, as far as money goes.
struct Known {
    since: Instant,
    attributes: Attributes,
}

/// A sink, and what sends what it takes in.
#[must_use]
pub fn open(
    resource: Resource,
    sampler: Sampler,
    (spans, logs): (Option<Destination>, Option<Destination>),
) -> (Arc<Otel>, Couriers) {
    let (spans, span_courier) = lane(spans, &resource).unzip();
    let (logs, log_courier) = lane(logs, &resource).unzip();
    let otel = Otel {
        spans,
        logs,
        sampler,
        known: Mutex::default(),
    };
    let couriers = Couriers {
        spans: span_courier,
        logs: log_courier,
    };
    (Arc::new(otel), couriers)
}

impl Otel {
    /// Where this exchange stands, and its span if it gets one.
    #[must_use]
    pub fn begin(self: &Arc<Self>, headers: &HeaderMap) -> (Option<Trace>, Option<Begun>) {
        let cause = Cause::of(headers);
        let (mut trace, mut span) = (TraceId::default(), SpanId::default());
        // Without randomness there is no span; whatever needs it for money says so.
        let random = getrandom::fill(&mut span).and_then(|()| match cause {
            Some(cause) => {
                trace = cause.trace;
                Ok(())
            }
            None => getrandom::fill(&mut trace),
        });
        let sampled = self.sampler.takes(&trace, cause.map(|c| c.sampled));
        if self.spans.is_none() || random.is_err() || !sampled {
            return (cause.map(Trace::from), None);
        }
        let begun = Begun {
            otel: Arc::clone(self),
            trace,
            id: span,
            parent: cause.map(|c| c.span),
            state: cause.and_then(|_| state(headers)),
            began: Instant::now(),
        };
        let place = Trace {
            id: trace,
            span,
            exported: true,
        };
        (Some(place), Some(begun))
    }

    fn ended(&self, span: SpanId) -> Option<Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&span)
    }
}

/// Bytes of a `tracestate` that everybody must take (Trace Context section 3.3.1.5).
const STATE_MAX: usize = 512;

/// The agent's `tracestate`, unless it is one that collectors need not take, or
/// cannot. A copy: the head that it came in is larger, and spans wait for their export.
fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let state = headers.get("tracestate")?.as_bytes();
    let plain = state.len() <= STATE_MAX && state.iter().all(|b| (b' '..=b'~').contains(b));
    HeaderValue::from_bytes(state).ok().filter(|_| plain)
}

/// The counters; without samples where nothing is exported.
pub fn render(otel: Option<&Otel>, page: &mut Page) {
    let spans = otel.and_then(|o| o.spans.as_ref()).map(Lane::counted);
    let logs = otel.and_then(|o| o.logs.as_ref()).map(Lane::counted);
    let all: Vec<_> = spans.into_iter().chain(logs).collect();
    page.family(&EXPORTED);
    for (signal, counted) in &all {
        page.sample(&EXPORTED, &[signal], counted.exported);
    }
    page.family(&LOST);
    for (signal, counted) in &all {
        page.sample(&LOST, &[signal, "queue"], counted.queue);
        page.sample(&LOST, &[signal, "export"], counted.export);
    }
}

/// The span of an exchange that has begun.
pub struct Begun {
    otel: Arc<Otel>,
    trace: TraceId,
    id: SpanId,
    parent: Option<SpanId>,
    state: Option<HeaderValue>,
    began: Instant,
}

/// What an exchange is about.
pub struct About<'a> {
    /// Of the request. Those that nobody has registered are one.
    pub method: &'a Method,
    /// Is it `https`?
    pub secure: bool,
    /// The merchant.
    pub host: &'a Arc<str>,
    /// Its port.
    pub port: u16,
    /// Path without query.
    pub path: &'a str,
    /// Whose.
    pub session: &'a Session,
}

/// A span that is sent when it ends, whoever ends it: dropped, the agent hung up.
pub struct Open(Option<Box<Pending>>);

/// In a box: an exchange that nobody traces keeps a word for it and no more.
struct Pending {
    begun: Begun,
    name: &'static str,
    attributes: Attributes,
}

/// Longest path of a span.
const PATH_MAX: usize = 1024;

impl Begun {
    /// The span with what is known at its beginning.
    #[must_use]
    pub fn about(self, about: &About<'_>) -> Open {
        let method = registered(about.method);
        let path: String = super::log::visible(about.path)
            .chars()
            .take(PATH_MAX)
            .collect();
        let scheme = if about.secure { "https" } else { "http" };
        let attributes = vec![
            ("http.request.method", Value::Text(method.into())),
            ("url.scheme", Value::Text(scheme.into())),
            ("server.address", Value::Shared(Arc::clone(about.host))),
            ("server.port", Value::Number(about.port.into())),
            ("url.path", Value::Text(path)),
            (
                "farepass.session",
                Value::Shared(Arc::clone(&about.session.id.0)),
            ),
            (
                "farepass.session.created",
                Value::Text(about.session.created.to_string()),
            ),
            (
                "farepass.agent",
                Value::Shared(Arc::clone(&about.session.agent)),
            ),
            ("farepass.host", Value::Shared(Arc::clone(about.host))),
        ];
        let name = match method {
            OTHER_METHOD => "HTTP",
            method => method,
        };
        Open(Some(Box::new(Pending {
            begun: self,
            name,
            attributes,
        })))
    }
}

const OTHER_METHOD: &str = "_OTHER";

/// Names that a trace may have: whoever asks could make up any number of others.
fn registered(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE",
    ];
    let known = KNOWN.into_iter().find(|name| method == *name);
    known.unwrap_or(OTHER_METHOD)
}

impl Open {
    /// The head of the answer goes to the agent.
    pub fn answered(mut self, status: StatusCode) {
        let code = u64::from(status.as_u16());
        let failed = status
            .is_server_error()
            .then_some("the answer is a server error");
        self.end(("http.response.status_code", Value::Number(code)), failed);
    }

    fn end(&mut self, last: (&'static str, Value), failed: Option<&'static str>) {
        let Some(pending) = self.0.take() else {
            return;
        };
        let Pending {
            begun,
            name,
            mut attributes,
        } = *pending;
        attributes.push(last);
        if let Some(known) = begun.otel.ended(begun.id) {
            attributes.extend(known.attributes);
        }
        let span = Span {
            trace: begun.trace,
            id: begun.id,
            parent: begun.parent,
            remote: begun.parent.is_some(),
            state: begun.state,
            name,
            kind: SpanKind::Server,
            began: begun.began,
            ended: Instant::now(),
            attributes,
            failed,
        };
        if let Some(lane) = &begun.otel.spans {
            lane.put(span);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let left = ("farepass.agent_left", Value::Flag(true));
        self.end(left, Some("the agent hung up"));
    }
}

impl Sink for Otel {
    fn observe(&self, event: &SpendEvent) {
        let Some(logs) = &self.logs else { return };
        let name = match event.state {
            State::Denied => "farepass.denied",
            State::Reserved | State::Unknown | State::Settled | State::Released => {
                "farepass.payment"
            }
        };
        logs.put(Log::of_event(event, name));
    }

    fn flagged(&self, event: &SpendEvent) {
        if let Some(logs) = &self.logs
            && !event.flags.is_empty()
        {
            logs.put(Log::of_event(event, "farepass.flagged"));
        }
    }

    fn notice(&self, notice: &Notice) {
        if let Some(logs) = &self.logs {
            logs.put(Log::of_notice(notice));
        }
    }

    fn took(&self, step: Step, time: Duration, trace: Option<&Trace>) {
        let kind = match step {
            // The sum of others.
            Step::Purchase => return,
            Step::Decide | Step::Approve | Step::Reserve | Step::Settle => SpanKind::Internal,
            Step::Sign | Step::Pay => SpanKind::Client,
        };
        let (Some(lane), Some(trace)) = (&self.spans, trace.filter(|t| t.exported)) else {
            return;
        };
        let (mut id, ended) = (SpanId::default(), Instant::now());
        if getrandom::fill(&mut id).is_err() {
            return;
        }
        lane.put(Span {
            trace: trace.id,
            id,
            parent: Some(trace.span),
            remote: false,
            state: None,
            name: step.name(),
            kind,
            began: ended.checked_sub(time).unwrap_or(ended),
            ended,
            attributes: vec![("farepass.step", Value::Text(step.name().into()))],
            failed: None,
        });
    }

    fn concludes(&self, trace: &Trace, end: &Conclusion<'_>) {
        if !trace.exported {
            return;
        }
        let mut attributes = payment(&end.event.clone().capped());
        if !end.budgets.is_empty() {
            let budgets = Value::Texts(end.budgets.to_vec());
            attributes.push(("farepass.budgets", budgets));
        }
        if let Some(remaining) = end.remaining {
            attributes.push(("farepass.remaining", Value::Text(remaining.to_string())));
        }
        let since = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= UNDER_WAY {
            known.retain(|_, k| since.saturating_duration_since(k.since) < LEFT_BEHIND);
        }
        if known.len() < UNDER_WAY {
            known.insert(trace.span, Known { since, attributes });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_kept_as_it_came_or_not_at_all() {
        for (given, kept) in [
            (&b"vendor=x,other=y"[..], true),
            (&[b'x'; STATE_MAX], true),
            (&[b'x'; STATE_MAX + 1], false),
            (b"vend=\xff\xfe", false),
            (b"a=1\tb", false),
        ] {
            let value = HeaderValue::from_bytes(given).unwrap();
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static("tracestate"),
                value.clone(),
            )]);
            assert_eq!(state(&headers), kept.then_some(value), "{given:?}");
        }
        assert_eq!(state(&HeaderMap::new()), None);
    }
}
