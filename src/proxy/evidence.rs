//! What came back for the money: how much, with which digest, and whether our own payload was in it.
//! Looked at while it streams; the agent waits for nothing.

use std::sync::Arc;
use std::task::{Context, Poll};

use aws_lc_rs::digest::{self, SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};
use http_body::SizeHint;
use memchr::memmem::Finder;

use super::body::{Polled, Stream};
use crate::event::SpendEvent;
use crate::payer::{Payer, Received, Recorded, Recourse};

/// A paid answer's body on its way to the agent.
pub(super) struct Watched {
    stream: Stream,
    hash: digest::Context,
    needles: Needles,
    report: Option<Report>,
    recourse: Option<Recourse>,
}

/// Whom to tell what was received.
struct Report {
    payer: Arc<Payer>,
    settled: Box<SpendEvent>,
    received: Received,
}

impl Watched {
    /// Watches the answer that was recorded as `record`, and was paid with the header `payload`.
    pub(super) fn new(
        stream: Stream,
        headers: &HeaderMap,
        payer: Arc<Payer>,
        record: Recorded,
        payload: &HeaderValue,
    ) -> Self {
        let mut needles = Needles::of(payload);
        let echoed = headers
            .values()
            .any(|value| needles.found(value.as_bytes()));
        needles.tail.clear();
        let received = Received {
            length: 0,
            digest: None,
            echoed,
        };
        let mut watched = Self {
            hash: digest::Context::new(&SHA256),
            needles,
            report: Some(Report {
                payer,
                settled: record.event,
                received,
            }),
            recourse: record.recourse,
            stream,
        };
        if watched.stream.is_end() {
            watched.end();
        }
        watched
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        let polled = self.stream.poll(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.see(data);
                }
                if self.stream.is_end() {
                    self.end();
                }
            }
            Poll::Ready(None) => self.end(),
            Poll::Ready(Some(Err(_))) => self.broken_off(),
            Poll::Pending => {}
        }
        polled
    }

    pub(super) fn is_end(&self) -> bool {
        self.stream.is_end()
    }

    pub(super) fn size(&self) -> SizeHint {
        self.stream.size()
    }

    fn see(&mut self, data: &[u8]) {
        let Some(report) = &mut self.report else {
            return;
        };
        self.hash.update(data);
        report.received.length = report.received.length.saturating_add(data.len() as u64);
        if !report.received.echoed {
            report.received.echoed = self.needles.found(data);
        }
    }

    /// The whole body was seen.
    fn end(&mut self) {
        if let Some(mut report) = self.report.take() {
            report.received.digest = Some(hex::encode(self.hash.clone().finish()));
            report.send();
        }
    }
}

impl Watched {
    /// The merchant's doing, not the agent's: whoever asks the same again has not got it yet.
    fn broken_off(&mut self) {
        if let (Some(report), Some(recourse)) = (&self.report, self.recourse.take()) {
            report.payer.broken_off(recourse);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // The agent left, or the merchant broke off: a length without a digest.
        if let Some(report) = self.report.take() {
            report.send();
        }
    }
}

impl Report {
    fn send(self) {
        tokio::spawn(async move { self.payer.received(*self.settled, self.received).await });
    }
}

/// Our payload as it would look in an answer: the whole header, or the signature inside it.
struct Needles {
    finders: Vec<Finder<'static>>,
    /// The end of what was seen, for a needle that is cut by a frame.
    tail: Vec<u8>,
    longest: usize,
}

const MARK: &[u8] = b"\"signature\":\"";

impl Needles {
    fn of(payload: &HeaderValue) -> Self {
        let mut finders = vec![Finder::new(payload.as_bytes()).into_owned()];
        let decoded = STANDARD.decode(payload.as_bytes()).unwrap_or_default();
        if let Some(at) = memchr::memmem::find(&decoded, MARK) {
            let rest = decoded.get(at + MARK.len()..).unwrap_or_default();
            let end = memchr::memchr(b'"', rest).unwrap_or_default();
            let signature = rest.get(..end).unwrap_or_default();
            if signature.len() > 64 {
                finders.push(Finder::new(signature).into_owned());
            }
        }
        Self {
            longest: finders.iter().map(|f| f.needle().len()).max().unwrap_or(0),
            finders,
            tail: Vec::new(),
        }
    }

    /// Is a needle in this piece, or across its border with the one before?
    fn found(&mut self, piece: &[u8]) -> bool {
        let keep = self.longest.saturating_sub(1);
        let head = piece.get(..keep.min(piece.len())).unwrap_or_default();
        self.tail.extend_from_slice(head);
        let hit = |hay: &[u8]| self.finders.iter().any(|f| f.find(hay).is_some());
        if hit(piece) || hit(&self.tail) {
            return true;
        }
        if piece.len() >= keep {
            self.tail.clear();
            let from = piece.len() - keep;
            self.tail
                .extend_from_slice(piece.get(from..).unwrap_or_default());
        } else {
            let from = self.tail.len().saturating_sub(keep);
            self.tail.drain(..from);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needles() -> (Needles, String, String) {
        let signature = format!("0x{}", "ab".repeat(65));
        let json = format!("{{\"payload\":{{\"signature\":\"{signature}\"}}}}");
        let header = STANDARD.encode(json);
        let value = HeaderValue::try_from(&header).unwrap();
        (Needles::of(&value), header, signature)
    }

    #[test]
    fn an_echo_is_found_however_it_is_cut() {
        for which in 0..2 {
            for size in [1, 7, 100, 4096] {
                let (mut needles, header, signature) = needles();
                let text = if which == 0 { header } else { signature };
                let page = format!("{}{text}{}", "x".repeat(333), "y".repeat(333));
                let found = page.as_bytes().chunks(size).any(|c| needles.found(c));
                assert!(found, "pieces of {size}");
            }
        }
    }

    #[test]
    fn other_text_is_no_echo() {
        let (mut needles, header, _) = needles();
        let other = "0x".to_owned() + &"ba".repeat(65) + &header[..header.len() - 1];
        assert!(!other.as_bytes().chunks(10).any(|c| needles.found(c)));
    }
}
