//! `Expect: 100-continue` (RFC 9110 section 10.1.1): the upstream says whether it wants the body, and
//! the agent hears what it said. Our own listener says 100 when a body is first asked for (the HTTP library for
//! HTTP/1, `Received` for HTTP/2), so holding the body back until the upstream's 100 is all there is to do.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{HeaderMap, Request, Version, header};
use http_body::{Body as _, SizeHint};
use tokio::time::{Sleep, sleep};

use super::activity::Activity;
use super::body::{Body, BodyError, Polled};

/// A body that waits for the upstream's word.
pub(super) struct Held {
    body: Body,
    gate: Arc<Gate>,
    patience: Pin<Box<Sleep>>,
}

/// What the upstream has said so far.
#[derive(Default)]
pub(super) struct Gate(Mutex<(Word, Option<Waker>)>);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Word {
    /// Nothing.
    #[default]
    None,
    /// 100, or nothing for too long.
    Continue,
    /// Its answer, without the body.
    Answer,
    /// Its whole answer: the connection has nothing left to do.
    Over,
}

/// Does whoever sends this wait for a word before the body?
pub(super) fn expects(headers: &HeaderMap) -> bool {
    let expects = |value: &header::HeaderValue| {
        let value = value.as_bytes();
        value.eq_ignore_ascii_case(b"100-continue")
    };
    headers.get(header::EXPECT).is_some_and(expects)
}

/// Holds the body of a request back when the agent expects a word first.
pub(super) fn hold(
    request: &mut Request<Body>,
    asked: Version,
    patience: Duration,
) -> Option<Arc<Gate>> {
    // HTTP/1.0 does not know it (RFC 9110 section 10.1.1).
    if asked == Version::HTTP_10 || !expects(request.headers()) || request.body().is_end_stream() {
        return None;
    }
    let gate = Arc::new(Gate::default());
    let body = std::mem::replace(request.body_mut(), Body::Empty);
    *request.body_mut() = Body::Held(Box::new(Held {
        body,
        gate: Arc::clone(&gate),
        patience: Box::pin(sleep(patience)),
    }));
    Some(gate)
}

impl Gate {
    /// The upstream wants the body.
    pub(super) fn wanted(&self) {
        self.say(Word::Continue);
    }

    /// The answer came. True when it came before the body was asked for: that body is never sent, and
    /// the connection is of no use after this answer.
    pub(super) fn answered(&self) -> bool {
        self.say(Word::Answer);
        self.lock().0 == Word::Answer
    }

    /// Words only come in their order; a body that flows is not stopped.
    fn say(&self, word: Word) {
        let mut said = self.lock();
        let next = match (said.0, word) {
            (Word::None, _) => word,
            (Word::Answer, Word::Over) => Word::Over,
            (before, _) => before,
        };
        said.0 = next;
        if let Some(waker) = said.1.take() {
            drop(said);
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Word, Option<Waker>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Kept by the body of an answer that came first; ends the connection with it.
#[derive(Clone)]
pub(super) struct Last {
    _ender: Arc<Ender>,
}

struct Ender(Arc<Gate>);

impl Last {
    pub(super) fn of(gate: Arc<Gate>) -> Self {
        let ender = Arc::new(Ender(gate));
        Self { _ender: ender }
    }
}

impl Drop for Ender {
    fn drop(&mut self) {
        self.0.say(Word::Over);
    }
}

impl Held {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        if self.gate.lock().0 == Word::None && self.patience.as_mut().poll(cx).is_ready() {
            self.gate.say(Word::Continue);
        }
        let word = {
            let mut said = self.gate.lock();
            said.1 = Some(cx.waker().clone());
            said.0
        };
        match word {
            Word::None => Poll::Pending,
            Word::Continue => Pin::new(&mut self.body).poll_frame(cx),
            Word::Answer => {
                // Given up, so that a paid retry may have it.
                self.body = Body::Empty;
                Poll::Pending
            }
            Word::Over => Poll::Ready(Some(Err(BodyError::Unwanted))),
        }
    }

    pub(super) fn is_kept(&self) -> bool {
        self.body.is_kept()
    }

    pub(super) fn is_end(&self) -> bool {
        self.gate.lock().0 == Word::Continue && self.body.is_end_stream()
    }

    pub(super) fn size(&self) -> SizeHint {
        self.body.size_hint()
    }

    pub(super) fn both(&self) -> Option<&Arc<Activity>> {
        self.body.both()
    }
}
