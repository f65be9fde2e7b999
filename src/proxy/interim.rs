//! Interim answers (RFC 9110 section 15.2), which a proxy must hand on. The HTTP library has no call for
//! them, so their heads go into the agent's stream beside it: only where all that it wrote is out, and
//! never once it has the answer that follows them. On HTTP/2 (`Sink`) they are frames of their stream.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::Body;
use super::ends::State;
use super::expect::Gate;
use super::headers;
use super::io::{Around, writes_through};

mod sink;

pub(super) use sink::Sink;

/// Interim answers to one request that are handed on; a merchant that goes on and on is cut short.
const HEADS_MAX: u32 = 128;

/// Bytes of them that wait for an agent which does not read.
const WAITING_MAX: usize = 16 * 1024;

/// Bytes of interim answers to one request that are read; then its connection is given up. Whoever says every second
/// that it is at work still has more than an hour.
const READ_MAX: usize = 1 << 20;

/// What each takes at least of `READ_MAX`.
const READ_LEAST: usize = 256;

/// Bytes of names and values.
fn length(fields: &HeaderMap) -> usize {
    let one = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    fields.iter().map(one).sum()
}

/// How much a merchant said before its answer to one request.
#[derive(Default)]
pub(super) struct Read(AtomicUsize);

impl Read {
    /// One more with these fields. Is it one too many?
    pub(super) fn is_beyond(&self, fields: &HeaderMap) -> bool {
        let size = READ_LEAST.saturating_add(length(fields));
        let before = self.0.fetch_add(size, Ordering::Relaxed);
        before.saturating_add(size) > READ_MAX
    }
}

/// What was said before the answer on one connection of an agent.
pub(super) struct Interim {
    /// Is there anything to write? Every flush asks, so it takes no lock.
    waiting: AtomicBool,
    outbox: Mutex<Outbox>,
    /// Our name in `Via` fields.
    via: Option<Arc<str>>,
}

#[derive(Default)]
struct Outbox {
    /// The number of the request. Those before it have their answers.
    turn: u64,
    /// Its answer is still to come, and its agent knows of interim ones.
    open: bool,
    heads: u32,
    bytes: Vec<u8>,
    sent: usize,
    /// The connection's task.
    task: Option<Waker>,
}

impl Interim {
    pub(super) fn new(via: Option<&Arc<str>>) -> Arc<Self> {
        Arc::new(Self {
            waiting: AtomicBool::new(false),
            outbox: Mutex::default(),
            via: via.cloned(),
        })
    }

    /// Begins a request, in the task of its connection. HTTP/1.0 knows no interim answers.
    pub(super) fn begin(&self, version: Version) -> impl Future<Output = ()> {
        poll_fn(move |cx| {
            let mut outbox = self.lock();
            outbox.turn += 1;
            outbox.open = version == Version::HTTP_11;
            outbox.heads = 0;
            if !outbox
                .task
                .as_ref()
                .is_some_and(|t| t.will_wake(cx.waker()))
            {
                outbox.task = Some(cx.waker().clone());
            }
            Poll::Ready(())
        })
    }

    /// Ends it: its answer is there, nothing more comes before it, and it waits until all that came
    /// before is written.
    pub(super) fn end(&self) -> impl Future<Output = ()> {
        poll_fn(|_| {
            self.lock().open = false;
            match self.waiting.load(Ordering::Relaxed) {
                // Whoever writes the last of it wakes this task.
                true => Poll::Pending,
                false => Poll::Ready(()),
            }
        })
    }

    /// One more, unless its request is over or there are too many.
    fn say(&self, turn: u64, head: &[u8]) {
        let mut outbox = self.lock();
        let waiting = outbox.bytes.len() - outbox.sent + head.len();
        if !outbox.open || outbox.turn != turn || outbox.heads >= HEADS_MAX || waiting > WAITING_MAX
        {
            return;
        }
        outbox.heads += 1;
        outbox.bytes.extend_from_slice(head);
        self.waiting.store(true, Ordering::Relaxed);
        let task = outbox.task.clone();
        drop(outbox);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Writes what waits. With `begun_only`, only where a part of it is written already.
    fn write<S>(
        &self,
        stream: &mut S,
        cx: &mut Context<'_>,
        begun_only: bool,
    ) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        if !self.waiting.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let mut outbox = self.lock();
        if begun_only && outbox.sent == 0 {
            return Poll::Ready(Ok(()));
        }
        while let Some(rest) = outbox.bytes.get(outbox.sent..)
            && !rest.is_empty()
        {
            match ready!(Pin::new(&mut *stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => outbox.sent += n,
            }
        }
        (outbox.bytes, outbox.sent) = (Vec::new(), 0);
        self.waiting.store(false, Ordering::Relaxed);
        drop(outbox);
        cx.waker().wake_by_ref();
        Poll::Ready(Ok(()))
    }

    /// The head as the agent gets it.
    fn head(&self, status: StatusCode, version: Version, fields: &HeaderMap) -> Vec<u8> {
        let fields = cleaned(fields, version, self.via.as_deref());
        let reason = status.canonical_reason().unwrap_or_default();
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
        for (name, value) in &fields {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    /// The request that may hear interim answers now.
    fn turn(&self) -> Option<u64> {
        let outbox = self.lock();
        outbox.open.then_some(outbox.turn)
    }

    fn lock(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who hears what an upstream says before its answer to one request.
pub(super) struct Listener {
    agent: Option<Agent>,
    gate: Option<Arc<Gate>>,
}

enum Agent {
    /// Of HTTP/1, and the number of its request.
    Connection(Arc<Interim>, u64),
    Stream(Sink),
}

/// Who hears it for this request, if anybody does.
pub(super) fn listener(
    request: &Request<Body>,
    interim: Option<&Arc<Interim>>,
    gate: Option<&Arc<Gate>>,
) -> Option<Listener> {
    let connection = interim.and_then(|i| Some(Agent::Connection(Arc::clone(i), i.turn()?)));
    let stream = || request.extensions().get().cloned().map(Agent::Stream);
    let agent = connection.or_else(stream);
    (agent.is_some() || gate.is_some()).then(|| Listener {
        agent,
        gate: gate.cloned(),
    })
}

impl Listener {
    /// The answer is there. True when the body was held back for it, and will never be sent.
    pub(super) fn answered(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.answered())
    }

    /// The upstream's 100 is for the `gate`, where there is one; our own listener says it then. 101 is an answer.
    pub(super) fn hear(&self, status: StatusCode, version: Version, fields: &HeaderMap) {
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        if status == StatusCode::CONTINUE
            && let Some(gate) = &self.gate
        {
            gate.wanted();
            return;
        }
        match &self.agent {
            Some(Agent::Connection(interim, turn)) => {
                interim.say(*turn, &interim.head(status, version, fields));
            }
            Some(Agent::Stream(sink)) => sink.say(status, version, fields),
            None => {}
        }
    }
}

/// Has what an upstream of HTTP/1 says before its answer to this request handed on, as far as there is somebody to
/// hear it; and its connection given up where that does not end.
pub(super) fn hear(
    request: &mut Request<Body>,
    interim: Option<&Arc<Interim>>,
    gate: Option<&Arc<Gate>>,
    connection: Arc<State>,
) {
    let (listener, read) = (listener(request, interim, gate), Read::default());
    hyper::ext::on_informational(request, move |said| {
        if read.is_beyond(said.headers()) {
            connection.read_no_more();
        } else if let Some(listener) = &listener {
            listener.hear(said.status(), said.version(), said.headers());
        }
    });
}

/// Fields of an interim answer as an agent gets them.
fn cleaned(fields: &HeaderMap, version: Version, via: Option<&str>) -> HeaderMap {
    let mut fields = fields.clone();
    headers::clean_interim(&mut fields);
    if let Some(name) = via {
        headers::via(&mut fields, version, name);
    }
    fields
}

/// An agent's stream with the interim answers in it.
pub(super) struct Preceded<S> {
    stream: S,
    interim: Option<Arc<Interim>>,
}

impl<S> Preceded<S> {
    pub(super) fn new(stream: S, interim: Option<&Arc<Interim>>) -> Self {
        Self {
            stream,
            interim: interim.cloned(),
        }
    }
}

impl<S: AsyncWrite + Unpin> Around for Preceded<S> {
    /// The library flushes its stream only when all that it wrote is out.
    fn before(&mut self, cx: &mut Context<'_>, flush: bool) -> Poll<io::Result<()>> {
        match &self.interim {
            Some(interim) => interim.write(&mut self.stream, cx, !flush),
            None => Poll::Ready(Ok(())),
        }
    }
}

writes_through!(Preceded);

impl<S: AsyncRead + Unpin> AsyncRead for Preceded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn nothing_is_said_after_the_answer_or_for_a_request_before() {
        let interim = Interim::new(None);
        let (mut agent, near) = duplex(1000);
        let mut near = Preceded::new(near, Some(&interim));
        assert_eq!(interim.turn(), None, "nothing was asked");
        interim.begin(Version::HTTP_10).await;
        assert_eq!(interim.turn(), None, "an agent that knows nothing of it");
        interim.begin(Version::HTTP_11).await;
        let first = interim.turn().unwrap();
        interim.say(first, b"one ");
        near.flush().await.unwrap();
        interim.end().await;
        interim.say(first, b"late ");
        interim.begin(Version::HTTP_11).await;
        let second = interim.turn().unwrap();
        interim.say(first, b"stale ");
        interim.say(second, b"two ");
        interim.say(second, &[b'x'; WAITING_MAX]);
        near.flush().await.unwrap();
        for _ in 0..2 * HEADS_MAX {
            interim.say(second, b".");
            near.flush().await.unwrap();
        }
        drop(near);
        let mut heard = String::new();
        agent.read_to_string(&mut heard).await.unwrap();
        let most = HEADS_MAX as usize - 1;
        assert_eq!(heard, format!("one two {}", ".".repeat(most)));
    }

    /// What was begun is not cut by what the library writes, and what was not begun waits for it.
    #[tokio::test]
    async fn heads_are_never_in_the_middle_of_something() {
        let interim = Interim::new(None);
        let (mut agent, near) = duplex(8);
        let mut near = Preceded::new(near, Some(&interim));
        interim.begin(Version::HTTP_11).await;
        let turn = interim.turn().unwrap();
        interim.say(turn, b"[interim of 24 bytes...]");
        let flush_once = async |near: &mut Preceded<_>| {
            poll_fn(|cx| Poll::Ready(Pin::new(&mut *near).poll_flush(cx).is_ready())).await
        };
        near.write_all(b"(before)").await.unwrap();
        assert!(!flush_once(&mut near).await, "there is no room");
        let mut heard = [0; 40];
        let (before, rest) = heard.split_at_mut(8);
        agent.read_exact(before).await.unwrap();
        assert!(!flush_once(&mut near).await, "there is room for a part");
        let both = async { tokio::join!(agent.read_exact(rest), near.write_all(b"(behind)")) };
        let both = tokio::time::timeout(Duration::from_secs(5), both).await;
        both.unwrap().0.unwrap();
        let heard = String::from_utf8(heard.to_vec()).unwrap();
        assert_eq!(heard, "(before)[interim of 24 bytes...](behind)");
    }
}
