//! What came back for the money: how much, with which digest, and whether our own payload was in it.
//! Looked at while it streams; the agent waits for nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use aws_lc_rs::digest::{self, SHA256};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue};
use http_body::SizeHint;
use memchr::memmem::Finder;
use tokio::task::JoinHandle;

use super::body::{Pieces, Polled};
use crate::event::SpendEvent;
use crate::payer::{Payer, Received, Recorded, Recourse};

/// A paid answer's body on its way to the agent.
pub(super) struct Watched {
    stream: Pieces,
    hash: digest::Context,
    needles: Needles,
    report: Option<Report>,
    recourse: Option<Recourse>,
    /// All the bytes that were announced have come. Whoever counts them asks for nothing after that.
    whole: bool,
    /// The end of an answer that was broken off, until it is noted that the agent does not have it.
    broken: Option<(JoinHandle<()>, Polled)>,
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
        stream: Pieces,
        headers: &HeaderMap,
        payer: Arc<Payer>,
        record: Recorded,
        payload: &HeaderValue,
    ) -> Self {
        let mut needles = Needles::of(payload);
        let echoed = needles.in_fields(headers);
        needles.tail.clear();
        let received = Received {
            length: 0,
            digest: None,
            broken_off: false,
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
            whole: false,
            broken: None,
            stream,
        };
        if watched.stream.is_end() {
            watched.end();
        }
        watched
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        if self.broken.is_some() {
            return self.noted(cx);
        }
        let polled = ready!(self.stream.poll(cx));
        match &polled {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.see(data);
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.look_at(trailers);
                }
                // Nothing follows trailers, and whoever took them asks for nothing more.
                self.whole = frame.is_trailers() || self.stream.size_hint().exact() == Some(0);
                if self.stream.is_end() {
                    self.end();
                }
            }
            None => self.end(),
            Some(Err(_)) => {
                self.whole = false;
                if let Some(noted) = self.broken_off() {
                    self.broken = Some((noted, polled));
                    return self.noted(cx);
                }
            }
        }
        Poll::Ready(polled)
    }

    /// The end of an answer that was broken off, once it is noted.
    fn noted(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        if let Some((noted, _)) = &mut self.broken {
            // Whether it could be noted makes no difference to the agent.
            let _ = ready!(Pin::new(noted).poll(cx));
        }
        Poll::Ready(self.broken.take().and_then(|(_, end)| end))
    }

    pub(super) fn is_end(&self) -> bool {
        self.broken.is_none() && self.stream.is_end()
    }

    pub(super) fn size(&self) -> SizeHint {
        self.stream.size_hint()
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

    fn look_at(&mut self, trailers: &HeaderMap) {
        if let Some(report) = &mut self.report {
            report.received.echoed |= self.needles.in_fields(trailers);
        }
    }

    /// The whole body was seen.
    fn end(&mut self) {
        if let Some(mut report) = self.report.take() {
            report.received.digest = Some(hex::encode(self.hash.clone().finish()));
            if let Some(recourse) = self.recourse.take() {
                report.payer.arrived(recourse, report.received.length);
            }
            drop(report.send());
        }
    }
}

impl Watched {
    /// The merchant's doing, not the agent's: whoever asks the same again has not got it yet. Where other
    /// proxies must know that, there is something to wait for.
    fn broken_off(&mut self) -> Option<JoinHandle<()>> {
        let (Some(report), Some(recourse)) = (&mut self.report, self.recourse.take()) else {
            return None;
        };
        report.received.broken_off = true;
        report.payer.broken_off(recourse);
        match report.payer.is_shared() {
            true => self.report.take().map(Report::send),
            false => None,
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.whole {
            self.end();
        }
        // The agent left, or the merchant broke off: a length without a digest.
        if let Some(report) = self.report.take() {
            if let Some(recourse) = self.recourse.take() {
                report.payer.hung_up(recourse, report.received.length);
            }
            drop(report.send());
        }
    }
}

impl Report {
    fn send(self) -> JoinHandle<()> {
        tokio::spawn(async move { self.payer.received(*self.settled, self.received).await })
    }
}

/// Our payload as it would look in an answer: the part of it that can be charged, in every writing
/// that costs nothing to look for. What is compressed or encrypted on its way is not seen.
struct Needles {
    finders: Vec<Finder<'static>>,
    /// The end of what was seen, for a needle that is cut by a frame.
    tail: Vec<u8>,
    longest: usize,
}

const MARK: &[u8] = b"\"signature\":\"0x";

/// Digits of the first half of a signature (its `r`): enough to know it by, also where it is
/// handed out in its parts.
const HALF: usize = 64;

impl Needles {
    fn of(payload: &HeaderValue) -> Self {
        let needles = chargeable(payload.as_bytes());
        let finders = match needles.as_slice() {
            [] => vec![Finder::new(payload.as_bytes()).into_owned()],
            found => found.iter().map(|n| Finder::new(n).into_owned()).collect(),
        };
        Self {
            longest: finders.iter().map(|f| f.needle().len()).max().unwrap_or(0),
            finders,
            tail: Vec::new(),
        }
    }

    /// Is a needle in one of these names or values?
    fn in_fields(&mut self, fields: &HeaderMap) -> bool {
        fields.iter().any(|(name, value)| {
            [name.as_str().as_bytes(), value.as_bytes()]
                .into_iter()
                .any(|text| {
                    self.tail.clear();
                    self.found(text)
                })
        })
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

/// The digits of the signature inside, in both cases, and what they look like within the payload's own
/// base64. All three are letters and digits only (no byte of a hexadecimal digit sets the bits of `+` or
/// `/`), so escapes of JSON, URLs and HTML leave them alone.
fn chargeable(payload: &[u8]) -> Vec<Vec<u8>> {
    let token = payload.rsplit(|b| *b == b' ').next().unwrap_or_default();
    let end = token
        .iter()
        .rposition(|b| *b != b'=')
        .map_or(0, |at| at + 1);
    let token = token.get(..end).unwrap_or_default();
    let decoded = STANDARD_NO_PAD.decode(token);
    let Ok(decoded) = decoded.or_else(|_| URL_SAFE_NO_PAD.decode(token)) else {
        return vec![];
    };
    let Some(at) = memchr::memmem::find(&decoded, MARK).map(|at| at + MARK.len()) else {
        return vec![];
    };
    let half = decoded.get(at..at + HALF).unwrap_or_default();
    // Whole groups of three bytes and four letters, so that nothing around them shows.
    let (first, last) = (at.div_ceil(3), (at + HALF) / 3);
    let within = token.get(first * 4..last * 4).unwrap_or_default();
    if half.is_empty() || !half.iter().all(u8::is_ascii_hexdigit) || within.is_empty() {
        return vec![];
    }
    vec![
        half.to_ascii_lowercase(),
        half.to_ascii_uppercase(),
        within.to_vec(),
    ]
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    const SIGNATURE: &str = "0x1f00c0ffee9d8c7b6a5f4e3d2c1b0a9988776655443322110aabbccddeeff0123\
        77a1b2c3d4e5f60718293a4b5c6d7e8f90112233445566778899aabbccddeeff1c";

    /// A payload in which the signature begins at each of the three places of a group.
    fn payloads() -> impl Iterator<Item = String> {
        let json = |pad: usize| {
            let pad = format!("???>>>{}", "?".repeat(pad));
            format!("{{\"p\":\"{pad}\",\"payload\":{{\"signature\":\"{SIGNATURE}\"}}}}")
        };
        (0..3).map(move |pad| STANDARD.encode(json(pad)))
    }

    fn echoed(payload: &str, page: &str, size: usize) -> bool {
        let mut needles = Needles::of(&HeaderValue::try_from(payload).unwrap());
        page.as_bytes().chunks(size).any(|c| needles.found(c))
    }

    #[test]
    fn an_echo_is_found_however_it_is_written_and_cut() {
        for payload in payloads() {
            assert!(payload.contains(['+', '/']), "{payload}");
            let url = payload
                .replace('+', "%2B")
                .replace('/', "%2F")
                .replace('=', "%3d");
            let bare = &SIGNATURE[2..];
            for text in [
                payload.clone(),
                url.clone(),
                format!("\"{}\"", payload.replace('/', "\\/")),
                payload.replace('+', "&#43;").replace('/', "&#x2f;"),
                payload.replace('+', "-").replace('/', "_").replace('=', ""),
                SIGNATURE.to_owned(),
                bare.to_uppercase(),
                format!("{{\"r\":\"0x{}\",\"v\":28,\"s\":\"…\"}}", &bare[..64]),
            ] {
                let page = format!("{}{text}{}", "x".repeat(333), "y".repeat(333));
                for size in [1, 7, 64, 100, 4096] {
                    assert!(echoed(&payload, &page, size), "{text}, pieces of {size}");
                }
            }
        }
    }

    /// Everything in a payload but its signature is the merchant's own, or known to everybody.
    #[test]
    fn other_text_is_no_echo() {
        for payload in payloads() {
            let at = payload.len() / 2;
            let others = [
                format!("0x{}", "ba".repeat(65)),
                payload[..at - 40].to_owned(),
                payload[payload.len() - 40..].to_owned(),
                STANDARD.encode("{\"p\":\"\",\"payload\":{\"signature\":\"0x00\"}}"),
            ];
            for other in others {
                assert!(!echoed(&payload, &other.repeat(3), 10), "{other}");
            }
        }
    }

    #[test]
    fn a_payload_of_another_kind_is_looked_for_as_it_is() {
        for payload in ["L402 abc:def", "%%%", "e30="] {
            assert!(echoed(payload, &format!("<{payload}>"), 3));
            assert!(!echoed(payload, "something else entirely", 3));
        }
        let mpp = STANDARD.encode(format!("{{\"payload\":{{\"signature\":\"{SIGNATURE}\"}}}}"));
        let mpp = mpp.replace('+', "-").replace('/', "_").replace('=', "");
        assert!(echoed(&format!("Payment {mpp}"), SIGNATURE, 9));
    }
}
