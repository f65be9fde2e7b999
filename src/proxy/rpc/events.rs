//! A server's events (WHATWG HTML section 9.2), told apart so that the one with the answer to a call can be
//! held: one event in memory at a time, and none that is longer than the limit.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use crate::protocol::jsonrpc::Call;
use crate::protocol::mcp::Answer;
use crate::proxy::body::{Pieces, Stream};
use crate::proxy::copies::Share;

/// What comes next in a stream of events. Raw bytes are as they came.
pub(super) enum Event {
    /// The answer to the call.
    Answer(Bytes, Answer),
    /// Anything else: other messages, comments, what cannot be read.
    Other(Bytes),
    /// The stream has ended.
    End(Option<HeaderMap>),
    /// It broke off.
    Broken,
}

/// A stream of events.
pub(super) struct Events {
    stream: Stream,
    split: Split,
    call: Arc<Call>,
    /// Was the answer paid for? Then an event that cannot be read is taken for it.
    paid: bool,
    trailers: Option<HeaderMap>,
    begun: bool,
    ended: bool,
}

impl Events {
    /// Events of at most `most` bytes are read, of which there is one at a time in the share.
    pub(super) fn new(stream: Stream, call: Arc<Call>, (most, share): (usize, Share)) -> Self {
        Self {
            stream,
            split: Split::new(most, Some(share)),
            call,
            paid: false,
            trailers: None,
            begun: false,
            ended: false,
        }
    }

    /// The same, with an answer that was paid for.
    pub(super) fn bought(stream: Stream, call: Arc<Call>, bounds: (usize, Share)) -> Self {
        Self {
            paid: true,
            ..Self::new(stream, call, bounds)
        }
    }

    pub(super) async fn next(&mut self) -> Event {
        loop {
            if let Some(raw) = self.split.next(self.ended) {
                let first = !std::mem::replace(&mut self.begun, true);
                return match self.answer(&raw, first) {
                    Some(answer) => Event::Answer(raw, answer),
                    None => Event::Other(raw),
                };
            }
            if self.ended {
                return Event::End(self.trailers.take());
            }
            match self.stream.frame().await {
                None => self.ended = true,
                Some(Err(_)) => return Event::Broken,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.split.push(&data),
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
            }
        }
    }

    /// Is this event the answer?
    fn answer(&self, raw: &[u8], first: bool) -> Option<Answer> {
        // Nobody who reads events sees it. What is paid for, some take all the same.
        if self.split.unended && !self.paid {
            return None;
        }
        if self.split.over || raw.len() > self.split.most {
            return self.paid.then(Answer::unread);
        }
        let data = data(unmarked(raw, first))?;
        match self.paid {
            true => Answer::bought(&self.call, &data),
            false => Answer::read(&self.call, &data),
        }
    }

    /// This event, and all that comes after it.
    pub(super) fn rest(self, raw: Bytes) -> Pieces {
        let mut first = VecDeque::from([raw]);
        first.push_back(self.split.buffer.freeze());
        Pieces {
            first,
            held: self.split.share.map(Arc::new),
            rest: (!self.ended).then_some(self.stream),
            trailers: self.trailers,
            ..Pieces::default()
        }
    }
}

/// Cuts a stream into events.
struct Split {
    buffer: BytesMut,
    /// So much of the buffer is known to end no event.
    seen: usize,
    /// Where the line begins that `seen` is in.
    line: usize,
    most: usize,
    share: Option<Share>,
    /// An event was too long, or there was no room for it: nothing is read any more.
    over: bool,
    /// The end of the stream cut the last event off.
    unended: bool,
}

impl Split {
    fn new(most: usize, share: Option<Share>) -> Self {
        Self {
            buffer: BytesMut::new(),
            seen: 0,
            line: 0,
            most,
            share,
            over: false,
            unended: false,
        }
    }

    fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// The next whole event, or a comment that stands alone. `ended`: there is nothing to wait for.
    fn next(&mut self, ended: bool) -> Option<Bytes> {
        while let Some((end, next)) = self.line_end(ended) {
            let blank = end == self.line;
            let alone = self.line == 0 && self.buffer.first() == Some(&b':');
            self.seen = next;
            self.line = next;
            if blank || alone {
                return Some(self.cut(next));
            }
        }
        let length = self.buffer.len();
        let room = self.share.as_mut().is_none_or(|share| share.hold(length));
        self.over |= length > self.most || !room;
        if (self.over || ended) && !self.buffer.is_empty() {
            self.unended = ended;
            return Some(self.cut(self.buffer.len()));
        }
        None
    }

    fn cut(&mut self, at: usize) -> Bytes {
        (self.seen, self.line) = (0, 0);
        self.buffer.split_to(at).freeze()
    }

    /// The end of the line that is being read, and the start of the next.
    fn line_end(&mut self, ended: bool) -> Option<(usize, usize)> {
        if self.over {
            return None;
        }
        let rest = self.buffer.get(self.seen..).unwrap_or_default();
        let Some(at) = memchr::memchr2(b'\n', b'\r', rest).map(|at| at + self.seen) else {
            self.seen = self.buffer.len();
            return None;
        };
        let next = match (self.buffer.get(at), self.buffer.get(at + 1)) {
            (Some(b'\r'), Some(b'\n')) => at + 2,
            // Whether a line feed belongs to it is not known yet.
            (Some(b'\r'), None) if !ended => {
                self.seen = at;
                return None;
            }
            _ => at + 1,
        };
        Some((at, next))
    }
}

/// A stream may begin with a byte order mark. Elsewhere it is part of a name that says nothing.
fn unmarked(raw: &[u8], first: bool) -> &[u8] {
    let rest = raw.strip_prefix(b"\xef\xbb\xbf").filter(|_| first);
    rest.unwrap_or(raw)
}

/// The data of a message; `None` where there is none, or the event is of another type.
fn data(raw: &[u8]) -> Option<Vec<u8>> {
    let mut data: Option<Vec<u8>> = None;
    for line in raw.split(|b| matches!(b, b'\n' | b'\r')) {
        let colon = memchr::memchr(b':', line);
        let (field, value) = match colon {
            Some(at) => (line.get(..at)?, line.get(at + 1..)?),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" if value != b"message" => return None,
            b"data" => match &mut data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => data = Some(value.to_vec()),
            },
            _ => {}
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a text is cut into, however it arrives.
    fn cut(text: &str) -> Vec<String> {
        let whole = |size: usize| {
            let mut split = Split::new(1000, None);
            let mut out: Vec<String> = vec![];
            let mut push = |bytes: Bytes| out.push(String::from_utf8(bytes.to_vec()).unwrap());
            for piece in text.as_bytes().chunks(size) {
                split.push(piece);
                while let Some(event) = split.next(false) {
                    push(event);
                }
            }
            while let Some(event) = split.next(true) {
                push(event);
            }
            assert_eq!(split.unended, text.ends_with("cut"));
            out
        };
        let at_once = whole(text.len());
        assert_eq!(at_once.concat(), text);
        for size in 1..5 {
            assert_eq!(whole(size), at_once, "pieces of {size}");
        }
        at_once
    }

    #[test]
    fn events_end_with_a_blank_line_of_any_kind() {
        for end in ["\n", "\r\n", "\r"] {
            let text = "data: 1\n\nid: 7\ndata:2\ndata: 3\n\n: ping\ndata: 4\n\ndata: cut"
                .replace('\n', end);
            let events = cut(&text);
            let want = [
                "data: 1\n\n",
                "id: 7\ndata:2\ndata: 3\n\n",
                ": ping\n",
                "data: 4\n\n",
                "data: cut",
            ];
            assert_eq!(events, want.map(|w| w.replace('\n', end)));
            assert_eq!(data(events[1].as_bytes()).unwrap(), b"2\n3");
        }
    }

    #[test]
    fn an_event_that_is_too_long_passes_and_so_does_the_rest() {
        let text = format!("data: 1\n\ndata: {}\n\ndata: 3\n\n", "x".repeat(100));
        let mut split = Split::new(50, None);
        let mut out = vec![];
        for piece in text.as_bytes().chunks(20) {
            split.push(piece);
            while let Some(event) = split.next(false) {
                assert!(event.len() <= 50 + 20);
                out.push(event);
            }
        }
        assert_eq!(out[0], "data: 1\n\n");
        assert!(split.over && split.buffer.is_empty());
        assert_eq!(out.concat(), text.as_bytes());
    }

    #[test]
    fn an_event_for_which_there_is_no_room_passes() {
        let budget = crate::proxy::copies::Budget::new((20, 20), 0);
        let mut split = Split::new(50, Some(budget.share(&"a".into())));
        split.push(b"data: 1\n\ndata: 2");
        assert_eq!(split.next(false).unwrap(), "data: 1\n\n");
        assert!(split.next(false).is_none() && !split.over);
        split.push(b", and a lot more");
        assert_eq!(split.next(false).unwrap(), "data: 2, and a lot more");
        assert!(split.over && split.next(false).is_none());
        assert!(budget.share(&"b".into()).hold(20));
    }

    #[test]
    fn only_messages_have_data() {
        assert_eq!(data(b"event: message\ndata: x\n\n").unwrap(), b"x");
        let marked = b"\xef\xbb\xbfdata: x\n\n";
        assert_eq!(data(unmarked(marked, true)).unwrap(), b"x");
        assert_eq!(data(unmarked(marked, false)), None);
        assert_eq!(data(b"event: endpoint\ndata: x\n\n"), None);
        assert_eq!(data(b"id: 1\nretry: 5\n\n"), None);
        assert_eq!(data(b"data\n\n").unwrap(), b"");
        assert_eq!(data(b": data: x\n"), None);
    }
}
