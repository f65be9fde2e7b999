//! Spend events as they are recorded, for as long as somebody reads them (server-sent events, HTML
//! Living Standard, 9.2). They come out of the ledger's outbox by their numbers, so a stream that broke
//! is taken up where it ended. Nothing is kept for a reader: whoever does not read is let go.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame};
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::problem::Problem;
use crate::event::{Notice, Sink, SpendEvent};
use crate::ledger::{PostError, Reader};
use crate::payment::PaymentId;

/// Streams at once: each holds a connection of the listener.
const READERS_MAX: usize = 16;

/// Events that are read at once.
const PAGE: usize = 100;

/// How long a reader may leave a page unread.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the outbox is looked at unasked: what is no news to sinks is in it too.
const GLANCE: Duration = Duration::from_secs(2);

/// How often a quiet stream says that it lives.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// Notices kept for a reader that is busy.
const NOTICES: usize = 64;

/// Rings when something was recorded. A sink like any other: it holds nothing up.
pub struct Feed {
    bell: watch::Sender<u64>,
    notices: broadcast::Sender<Bytes>,
    readers: AtomicUsize,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            bell: watch::channel(0).0,
            notices: broadcast::channel(NOTICES).0,
            readers: AtomicUsize::new(0),
        }
    }
}

impl Sink for Feed {
    fn observe(&self, _event: &SpendEvent) {
        if self.bell.receiver_count() > 0 {
            self.bell.send_modify(|rung| *rung = rung.wrapping_add(1));
        }
    }

    fn flagged(&self, event: &SpendEvent) {
        self.observe(event);
    }

    fn notice(&self, notice: &Notice) {
        if self.notices.receiver_count() > 0 {
            let data = serde_json::to_string(notice).unwrap_or_default();
            // Nobody listens any more: then nobody missed it.
            let _ = self
                .notices
                .send(format!("event: notice\ndata: {data}\n\n").into());
        }
    }
}

/// One of the places for readers; given back when it is dropped.
struct Place(Arc<Feed>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Feed {
    fn place(self: &Arc<Self>) -> Option<Place> {
        let more = |now| (now < READERS_MAX).then_some(now + 1);
        let counted = (self.readers).fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        counted.ok().map(|_| Place(Arc::clone(self)))
    }

    /// Streams that are read now.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.readers.load(Ordering::Relaxed)
    }
}

/// The connection that a stream is read on.
#[derive(Clone)]
pub(super) struct Line {
    /// Cuts the connection of a reader who does not read.
    pub(super) cut: Arc<Notify>,
    /// The proxy ends.
    pub(super) over: watch::Receiver<bool>,
    /// What fills its streams; ends with the connection.
    pub(super) tasks: Arc<Mutex<JoinSet<()>>>,
}

impl Line {
    pub(super) fn new(over: watch::Receiver<bool>) -> Self {
        Self {
            cut: Arc::default(),
            over,
            tasks: Arc::default(),
        }
    }
}

/// Begins a stream. The body ends with the proxy, or with its reader.
///
/// # Errors
/// When there are readers enough, or the ledger cannot be read.
pub(super) async fn open(
    feed: &Arc<Feed>,
    ledger: Arc<dyn Reader>,
    headers: &HeaderMap,
    line: &Line,
) -> Result<Stream, Problem> {
    begin(feed, ledger, headers, line, PATIENCE).await
}

async fn begin(
    feed: &Arc<Feed>,
    ledger: Arc<dyn Reader>,
    headers: &HeaderMap,
    line: &Line,
    patience: Duration,
) -> Result<Stream, Problem> {
    let busy = || Problem::Unavailable(format!("{READERS_MAX} streams are read already"));
    let place = feed.place().ok_or_else(busy)?;
    let asked = last(headers)?;
    // There is no such payment; the end of the chain comes with every answer.
    let head = ledger.trail(PaymentId::default()).await?.head_seq;
    // After a loss of the ledger the chain ends before what a reader saw.
    let beyond = asked.is_some_and(|seq| seq > head);
    let after = asked.unwrap_or(head).min(head);
    let (bell, notices) = (feed.bell.subscribe(), feed.notices.subscribe());
    let (pages, stream) = mpsc::channel(1);
    let pump = Pump {
        ledger,
        pages,
        after,
        beyond,
        patience,
        _place: place,
    };
    let mut tasks = (line.tasks.lock()).unwrap_or_else(PoisonError::into_inner);
    while tasks.try_join_next().is_some() {}
    tasks.spawn(pump.run(bell, notices, Arc::clone(&line.cut), line.over.clone()));
    Ok(Stream(stream))
}

/// The number that a reader saw last.
fn last(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let number = value.to_str().ok().map(str::trim);
    match number.map(str::parse) {
        Some(Ok(seq)) => Ok(Some(seq)),
        _ if number == Some("") => Ok(None),
        _ => Err(Problem::Request(
            "Last-Event-ID: the number of a record is expected".into(),
        )),
    }
}

struct Pump {
    ledger: Arc<dyn Reader>,
    pages: mpsc::Sender<Bytes>,
    after: u64,
    /// The reader's number is none of this chain.
    beyond: bool,
    patience: Duration,
    _place: Place,
}

/// Why a stream ends.
enum End {
    /// The reader went away, or the ledger did.
    Gone,
    /// The reader does not read.
    Asleep,
}

impl Pump {
    async fn run(
        mut self,
        mut bell: watch::Receiver<u64>,
        mut notices: broadcast::Receiver<Bytes>,
        cut: Arc<Notify>,
        mut over: watch::Receiver<bool>,
    ) {
        let told = tokio::select! {
            end = self.tell(&mut bell, &mut notices) => end,
            () = crate::proxy::turned(&mut over) => return,
        };
        if let Err(End::Asleep) = told {
            tracing::debug!("a reader of events does not read and was let go");
            // The body's end would wait behind what is not read.
            cut.notify_one();
        }
    }

    async fn tell(
        &mut self,
        bell: &mut watch::Receiver<u64>,
        notices: &mut broadcast::Receiver<Bytes>,
    ) -> Result<(), End> {
        self.send(Bytes::from_static(b"retry: 2000\n\n")).await?;
        if self.beyond {
            let after = self.after;
            let missed = format!("id: {after}\nevent: notice\ndata: {{\"event\":\"missed\"}}\n\n");
            self.send(missed.into()).await?;
        }
        let mut glance = tokio::time::interval(GLANCE);
        let mut said = Instant::now();
        loop {
            while let Some(page) = self.page().await.map_err(|_| End::Gone)? {
                self.send(page).await?;
                said = Instant::now();
            }
            if said.elapsed() >= SIGN_OF_LIFE {
                self.send(Bytes::from_static(b":\n\n")).await?;
                said = Instant::now();
            }
            tokio::select! {
                rung = bell.changed() => rung.map_err(|_| End::Gone)?,
                _ = glance.tick() => {}
                () = self.pages.closed() => return Err(End::Gone),
                notice = notices.recv() => match notice {
                    Ok(notice) => self.send(notice).await?,
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        let missed = b"event: notice\ndata: {\"event\":\"missed\"}\n\n";
                        self.send(Bytes::from_static(missed)).await?;
                    }
                    Err(broadcast::error::RecvError::Closed) => return Err(End::Gone),
                },
            }
        }
    }

    /// The next events of the outbox.
    async fn page(&mut self) -> Result<Option<Bytes>, PostError> {
        let mut text = String::new();
        for (seq, event) in self.ledger.events(self.after, PAGE).await? {
            let data = serde_json::to_string(&event).unwrap_or_default();
            // JSON has no line breaks of its own.
            text += &format!("id: {seq}\nevent: spend\ndata: {data}\n\n");
            self.after = seq;
        }
        Ok((!text.is_empty()).then(|| text.into()))
    }

    async fn send(&self, page: Bytes) -> Result<(), End> {
        match timeout(self.patience, self.pages.send(page)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Asleep),
        }
    }
}

/// The body of a stream.
pub(super) struct Stream(mpsc::Receiver<Bytes>);

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(context)
            .map(|page| Some(Ok(Frame::data(page?))))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::budget::Entry;
    use crate::clock::Timestamp;
    use crate::ledger::{self, Ledger, Post};

    async fn refuse(ledger: &dyn Ledger, id: u128) {
        let event = SpendEvent {
            id: PaymentId(id),
            path: "\u{202e}</script>\n".into(),
            ..SpendEvent::default()
        };
        let post = Post {
            time: Timestamp(1),
            entries: vec![Entry::Note { id: PaymentId(id) }],
            event: Some(event),
        };
        ledger.post(post).await.unwrap();
    }

    async fn text(stream: &mut Stream) -> String {
        let frame = poll_fn(|context| Pin::new(&mut *stream).poll_frame(context)).await;
        let data = frame.unwrap().unwrap().into_data().unwrap();
        String::from_utf8(data.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_reader_who_does_not_read_is_let_go() {
        let (feed, ledger) = (Arc::new(Feed::default()), ledger::in_memory());
        let (_end, over) = watch::channel(false);
        let line = Line::new(over);
        let reader = Arc::clone(&ledger) as Arc<dyn Reader>;
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static("last-event-id"),
            http::HeaderValue::from_static("0"),
        )]);
        refuse(&*ledger, 1).await;
        let patience = Duration::from_millis(50);
        let mut stream = begin(&feed, reader, &headers, &line, patience)
            .await
            .unwrap();
        assert_eq!(text(&mut stream).await, "retry: 2000\n\n");
        let first = text(&mut stream).await;
        assert!(first.starts_with("id: 1\nevent: spend\ndata: {"), "{first}");
        assert_eq!(first.lines().count(), 4, "{first}");
        assert_eq!(feed.readers(), 1);
        // Events go on, and nobody reads: one page waits, the second one has no place.
        for id in 2..4 {
            refuse(&*ledger, id).await;
            feed.observe(&SpendEvent::default());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let cut = timeout(Duration::from_secs(5), line.cut.notified()).await;
        assert!(cut.is_ok(), "the connection is cut");
        assert_eq!(feed.readers(), 0, "and the place is free");
    }
}
