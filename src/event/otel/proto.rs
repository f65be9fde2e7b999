//! The few messages of OTLP 1 that are sent, in the encoding of Protocol Buffers. The numbers are those of
//! `opentelemetry/proto` (trace, logs, common, resource, collector).

use std::time::Instant;

use super::Resource;
use super::record::{Log, Span, Value};

/// Bytes of one message in the making.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0
                .push(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
            number >>= 7;
        }
        self.0.push(u8::try_from(number).unwrap_or_default());
    }

    fn key(&mut self, field: u8, wire: u8) {
        self.varint(u64::from(field) << 3 | u64::from(wire));
    }

    /// What is zero is left out, as `proto3` does.
    fn number(&mut self, field: u8, number: u64) {
        if number != 0 {
            self.key(field, 0);
            self.varint(number);
        }
    }

    fn fixed64(&mut self, field: u8, number: u64) {
        self.key(field, 1);
        self.0.extend(number.to_le_bytes());
    }

    fn fixed32(&mut self, field: u8, number: u32) {
        self.key(field, 5);
        self.0.extend(number.to_le_bytes());
    }

    fn bytes(&mut self, field: u8, bytes: &[u8]) {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn message(&mut self, field: u8, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Text(text) => self.bytes(1, text.as_bytes()),
            Value::Shared(text) => self.bytes(1, text.as_bytes()),
            Value::Flag(flag) => {
                self.key(2, 0);
                self.varint(u64::from(*flag));
            }
            Value::Number(number) => {
                self.key(3, 0);
                self.varint(*number);
            }
            Value::Texts(texts) => self.message(5, |list| {
                for text in texts {
                    list.message(1, |item| item.bytes(1, text.as_bytes()));
                }
            }),
        }
    }

    fn attribute(&mut self, field: u8, name: &str, value: &Value) {
        self.message(field, |pair| {
            pair.bytes(1, name.as_bytes());
            pair.message(2, |m| m.value(value));
        });
    }

    fn scope(&mut self) {
        self.message(1, |scope| {
            scope.bytes(1, env!("CARGO_PKG_NAME").as_bytes());
            scope.bytes(2, env!("CARGO_PKG_VERSION").as_bytes());
        });
    }

    fn resource(&mut self, resource: &Resource) {
        self.message(1, |m| {
            for (name, value) in &resource.0 {
                m.attribute(1, name, &Value::Text(value.clone()));
            }
        });
    }
}

/// Turns moments of the steady clock into wall time, all of one batch by the same difference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anchor {
    /// A moment of the steady clock.
    pub(super) steady: Instant,
    /// The same moment, nanoseconds since the Unix epoch.
    pub(super) wall: u64,
}

impl Anchor {
    fn nanos(self, at: Instant) -> u64 {
        let nanos = |d: std::time::Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        match at.checked_duration_since(self.steady) {
            Some(after) => self.wall.saturating_add(nanos(after)),
            None => self
                .wall
                .saturating_sub(nanos(self.steady.duration_since(at))),
        }
    }
}

/// What can be sent, many at a time.
pub(super) trait Signal: Send + Sized + 'static {
    /// For messages and metrics.
    const NAME: &'static str;
    /// The method of gRPC.
    const METHOD: &'static str;
    /// An export request.
    fn request(batch: &[Self], resource: &Resource, anchor: Anchor) -> Vec<u8>;
}

impl Signal for Span {
    const NAME: &'static str = "traces";
    const METHOD: &'static str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

    fn request(batch: &[Self], resource: &Resource, anchor: Anchor) -> Vec<u8> {
        let mut request = Message::default();
        request.message(1, |spans| {
            spans.resource(resource);
            spans.message(2, |scope| {
                scope.scope();
                for span in batch {
                    scope.message(2, |m| write_span(m, span, anchor));
                }
            });
        });
        request.0
    }
}

/// Flags of a span: bit 0 sampled; bit 8 says that bit 9, the parent is remote, is known.
const SAMPLED: u32 = 0x001;
const HAS_REMOTE: u32 = 0x100;
const REMOTE: u32 = 0x200;

fn write_span(m: &mut Message, span: &Span, anchor: Anchor) {
    m.bytes(1, &span.trace);
    m.bytes(2, &span.id);
    if let Some(state) = &span.state {
        m.bytes(3, state.as_bytes());
    }
    if let Some(parent) = &span.parent {
        m.bytes(4, parent);
    }
    m.bytes(5, span.name.as_bytes());
    m.number(6, span.kind.number());
    m.fixed64(7, anchor.nanos(span.began));
    m.fixed64(8, anchor.nanos(span.ended));
    for (name, value) in &span.attributes {
        m.attribute(9, name, value);
    }
    if let Some(problem) = span.failed {
        const ERROR: u64 = 2;
        m.message(15, |status| {
            status.bytes(2, problem.as_bytes());
            status.number(3, ERROR);
        });
    }
    let remote = if span.remote { REMOTE } else { 0 };
    m.fixed32(16, SAMPLED | HAS_REMOTE | remote);
}

impl Signal for Log {
    const NAME: &'static str = "logs";
    const METHOD: &'static str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

    fn request(batch: &[Self], resource: &Resource, anchor: Anchor) -> Vec<u8> {
        let mut request = Message::default();
        request.message(1, |logs| {
            logs.resource(resource);
            logs.message(2, |scope| {
                scope.scope();
                for log in batch {
                    scope.message(2, |m| write_log(m, log, anchor));
                }
            });
        });
        request.0
    }
}

fn write_log(m: &mut Message, log: &Log, anchor: Anchor) {
    m.fixed64(1, log.time.0.saturating_mul(1_000_000));
    m.number(2, log.severity.number());
    m.bytes(3, log.severity.name().as_bytes());
    m.message(5, |body| body.bytes(1, log.body.as_bytes()));
    for (name, value) in &log.attributes {
        m.attribute(6, name, value);
    }
    if let Some((trace, span)) = &log.place {
        m.bytes(9, trace);
        m.bytes(10, span);
    }
    m.fixed64(11, anchor.nanos(log.observed));
    m.bytes(12, log.name.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the encoding's own description.
    #[test]
    fn numbers_and_texts_are_encoded_as_the_description_says() {
        let mut m = Message::default();
        m.number(1, 150);
        m.bytes(2, b"testing");
        m.message(3, |inner| inner.number(1, 150));
        m.number(4, 0);
        let expected = "089601120774657374696e671a03089601";
        assert_eq!(hex::encode(m.0), expected);
    }

    #[test]
    fn moments_before_and_after_the_anchor_keep_their_distance() {
        let steady = Instant::now() + std::time::Duration::from_secs(60);
        let anchor = Anchor {
            steady,
            wall: 1_000_000_000_000,
        };
        let second = std::time::Duration::from_secs(1);
        assert_eq!(anchor.nanos(steady + second), 1_001_000_000_000);
        assert_eq!(anchor.nanos(steady - second), 999_000_000_000);
    }
}
