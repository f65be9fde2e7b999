//! HTTP/2 frame by frame, right or wrong as a case says.

use std::fmt;

use tokio::sync::mpsc;

use super::agent::Agent;
use super::origin::Origin;
use super::wire::Wire;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RESET: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const AWAY: u8 = 7;
pub(crate) const WINDOW: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const PRIORITISED: u8 = 0x20;
/// A whole request without a body.
pub(crate) const WHOLE: u8 = END_STREAM | END_HEADERS;

/// One frame (RFC 9113 section 4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A field that leaves no trace in the compression state (RFC 7541 section 6.2.2).
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        // Latin-1, so that every byte can be written down.
        let text: Vec<u8> = text.chars().map(|c| u8::try_from(c).unwrap()).collect();
        bytes.extend(integer(text.len()));
        bytes.extend_from_slice(&text);
    }
    bytes
}

/// With a prefix of seven bits (RFC 7541 section 5.1).
fn integer(value: usize) -> Vec<u8> {
    if value < 127 {
        return vec![u8::try_from(value).unwrap()];
    }
    let (mut rest, mut bytes) = (value - 127, vec![127]);
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128 + 128).unwrap());
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

pub(crate) fn fields(lines: &[(&str, &str)]) -> Vec<u8> {
    lines.iter().flat_map(|(n, v)| field(n, v)).collect()
}

/// The fields of a good request, and more.
pub(crate) fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = fields(&[
        (":method", method),
        (":scheme", "https"),
        (":authority", "free.wire.test"),
        (":path", path),
    ]);
    bytes.extend(fields(more));
    bytes
}

/// A GET on this stream.
pub(crate) fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &request("GET", "/", &[]))
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, flags, stream) = (self.kind, self.flags, self.stream);
        write!(
            f,
            "kind {kind} flags {flags:#x} stream {stream}: {}",
            hex::encode(&self.payload)
        )
    }
}

/// How a stream, or its connection, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A whole answer.
    Status(u16),
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code.
    Away(u32),
    /// The connection ended and said nothing.
    Closed,
}

pub(crate) struct H2 {
    pub(crate) wire: Wire,
}

impl H2 {
    /// A connection on which nothing has been said.
    pub(crate) async fn silent(agent: &Agent, host: &str) -> Self {
        let wire = agent.tls(host, &["h2"]).await;
        Self { wire }
    }

    /// A connection after the exchange of settings.
    pub(crate) async fn connect(agent: &Agent, host: &str) -> Self {
        Self::with_settings(agent, host, &[]).await
    }

    pub(crate) async fn with_settings(agent: &Agent, host: &str, settings: &[u8]) -> Self {
        Self::greeted(Self::silent(agent, host).await, settings).await
    }

    /// A connection over TLS on which nothing has been said, after the exchange of settings.
    pub(crate) async fn over(wire: Wire) -> Self {
        Self::greeted(Self { wire }, &[]).await
    }

    async fn greeted(mut h2: Self, settings: &[u8]) -> Self {
        let hello = [PREFACE, &frame(SETTINGS, 0, 0, settings)].concat();
        h2.wire.write(&hello).await.unwrap();
        let first = h2.next().await.unwrap();
        assert_eq!((first.kind, first.flags), (SETTINGS, 0), "{first:?}");
        h2.send(&frame(SETTINGS, ACK, 0, &[])).await;
        h2
    }

    /// Writes; whoever is gone already need not read it.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.wire.write(bytes).await;
    }

    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let head = self.wire.exact(9).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let payload = self.wire.exact(usize::try_from(length).unwrap()).await?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff,
            payload,
        })
    }

    /// Reads on until this stream or the connection has an end.
    pub(crate) async fn outcome(&mut self, stream: u32) -> Outcome {
        let mut status = 0;
        while let Some(frame) = self.next().await {
            let mine = frame.stream == stream;
            match frame.kind {
                AWAY => return Outcome::Away(code(&frame.payload[4..])),
                RESET if mine => return Outcome::Reset(code(&frame.payload)),
                HEADERS if mine && status == 0 => status = status_of(&frame.payload),
                _ => {}
            }
            let last = frame.flags & END_STREAM != 0 && matches!(frame.kind, DATA | HEADERS);
            if mine && last {
                return Outcome::Status(status);
            }
        }
        Outcome::Closed
    }

    /// Is a PING still answered? Whatever comes before that is read away.
    pub(crate) async fn lives(&mut self) -> bool {
        self.send(&frame(PING, 0, 0, b"stilhere")).await;
        while let Some(frame) = self.next().await {
            if frame.kind == PING && frame.payload == b"stilhere" {
                return true;
            }
            if frame.kind == AWAY {
                return false;
            }
        }
        false
    }
}

/// A merchant that speaks nothing else and answers the head of a request on this stream with these bytes; and every
/// frame that it is sent.
pub(crate) async fn merchant(
    answer: impl Fn(u32) -> Vec<u8> + Clone + Send + Sync + 'static,
) -> (Origin, mpsc::UnboundedReceiver<Frame>) {
    let (heard, frames) = mpsc::unbounded_channel();
    let origin = Origin::start(&["h2"], move |mut wire, _| {
        let (answer, heard) = (answer.clone(), heard.clone());
        async move {
            let _ = wire.exact(PREFACE.len()).await;
            let mut merchant = H2 { wire };
            merchant.send(&frame(SETTINGS, 0, 0, &[])).await;
            while let Some(frame) = merchant.next().await {
                if frame.kind == HEADERS {
                    merchant.send(&answer(frame.stream)).await;
                }
                let _ = heard.send(frame);
            }
        }
    })
    .await;
    (origin, frames)
}

fn code(payload: &[u8]) -> u32 {
    u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]])
}

/// The status at the start of a header block: from the static table, or three digits.
pub(crate) fn status_of(block: &[u8]) -> u16 {
    // A change of the table's size may come first.
    let block = match block.first() {
        Some(0x20..=0x3f) => &block[1..],
        _ => block,
    };
    match block {
        [indexed @ 0x88..=0x8e, ..] => {
            [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)]
        }
        [0x48 | 0x08, length, digits @ ..] if length & 0x80 != 0 => huffman_digits(digits),
        [0x48 | 0x08, 3, digits @ ..] => String::from_utf8_lossy(&digits[..3]).parse().unwrap(),
        _ => panic!("no status in {}", hex::encode(block)),
    }
}

/// Three digits (RFC 7541 appendix B): 0 to 2 have five bits, 3 to 9 have six.
fn huffman_digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u8> = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1))
        .collect();
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let take = |n: usize| bits[at..at + n].iter().fold(0, |all, bit| all << 1 | bit);
        let (digit, length) = match take(5) {
            short @ 0..=2 => (short, 5),
            _ => (take(6) - 0x19 + 3, 6),
        };
        number = number * 10 + u16::from(digit);
        at += length;
    }
    number
}

#[test]
fn digits_are_read() {
    // From the examples of RFC 7541, appendix C.6.
    assert_eq!(status_of(&[0x48, 0x82, 0x64, 0x02]), 302);
    assert_eq!(status_of(&[0x48, 0x83, 0x64, 0x0e, 0xff]), 307);
    assert_eq!(status_of(&[0x88]), 200);
}
