//! A request body that streams to the upstream and leaves a bounded copy behind, for a paid retry.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::sync::Notify;

use super::activity::Activity;
use super::body::{Pieces, Polled, Stream};
use super::copies::{Gathered, Share};

/// What has been sent so far of a request body, kept for a second sending.
#[derive(Default)]
struct Copy {
    pieces: Gathered,
    length: usize,
    share: Option<Share>,
    trailers: Option<HeaderMap>,
    state: CopyState,
    /// Given back by an upstream connection that ended before it took the whole body.
    rest: Option<Stream>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum CopyState {
    #[default]
    Growing,
    Whole,
    Gone(NotReplayable),
}

/// The agent's side of a body that may be sent twice.
pub(super) struct Kept {
    copy: Arc<Shared>,
}

struct Shared {
    limit: usize,
    copy: Mutex<Copy>,
    changed: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Copy> {
        self.copy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, frame: &Frame<Bytes>) {
        let mut copy = self.lock();
        if copy.state != CopyState::Growing {
            return;
        }
        if let Some(data) = frame.data_ref() {
            copy.length = copy.length.saturating_add(data.len());
            let bounds = (copy.length, self.limit);
            if let Err(why) = Share::keep(copy.share.as_mut(), bounds) {
                copy.state = CopyState::Gone(why);
                copy.pieces = Gathered::default();
                copy.share = None;
                self.changed.notify_one();
            } else {
                copy.pieces.push(data);
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            copy.trailers = Some(trailers.clone());
        }
    }

    fn end(&self, state: CopyState) {
        let mut copy = self.lock();
        if copy.state == CopyState::Growing {
            copy.state = state;
        }
        drop(copy);
        self.changed.notify_one();
    }
}

/// Why a body cannot be sent a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotReplayable {
    /// Longer than the limit.
    TooLong,
    /// More than is kept of all requests together, or of those of one session.
    Crowded,
    /// The agent stopped sending.
    Broken,
    /// No rule could pay at this host, so nothing was kept.
    NotKept,
}

/// A body that streams to the upstream and leaves a copy behind.
pub(super) struct Tee {
    source: Option<Stream>,
    copy: Arc<Shared>,
}

/// Splits a request body into what is sent now and what is kept: at most `limit` bytes of it, and as many as its
/// share may grow to.
pub(super) fn tee(source: Stream, limit: usize, share: Share) -> (Tee, Kept) {
    let copy = Copy {
        share: Some(share),
        ..Copy::default()
    };
    let copy = Arc::new(Shared {
        limit,
        copy: Mutex::new(copy),
        changed: Notify::new(),
    });
    let kept = Kept {
        copy: Arc::clone(&copy),
    };
    let tee = Tee {
        source: Some(source),
        copy,
    };
    (tee, kept)
}

impl Tee {
    pub(super) fn is_end(&self) -> bool {
        self.source.as_ref().is_none_or(Stream::is_end)
    }

    pub(super) fn size(&self) -> SizeHint {
        self.source
            .as_ref()
            .map_or_else(SizeHint::default, Stream::size)
    }

    pub(super) fn both(&self) -> Option<&Arc<Activity>> {
        self.source.as_ref()?.both()
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        let Some(source) = &mut self.source else {
            return Poll::Ready(None);
        };
        let polled = source.poll(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.copy.take(frame),
            Poll::Ready(Some(Err(_))) => self.copy.end(CopyState::Gone(NotReplayable::Broken)),
            Poll::Ready(None) => self.copy.end(CopyState::Whole),
            Poll::Pending => return polled,
        }
        let source = self.source.as_ref();
        if source.is_some_and(Stream::is_end) {
            self.copy.end(CopyState::Whole);
            self.source = None;
        }
        polled
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        if let Some(source) = self.source.take() {
            if source.is_end() {
                return self.copy.end(CopyState::Whole);
            }
            self.copy.lock().rest = Some(source);
            self.copy.changed.notify_one();
        }
    }
}

impl Kept {
    /// Waits until the agent has sent the whole body, reading it here when the upstream does not.
    pub(super) async fn whole(self) -> Result<Pieces, NotReplayable> {
        loop {
            let rest = {
                let mut copy = self.copy.lock();
                match copy.state {
                    CopyState::Gone(why) => return Err(why),
                    CopyState::Whole => {
                        return Ok(Pieces {
                            held: copy.share.take().map(Arc::new),
                            first: copy.pieces.take(),
                            rest: None,
                            trailers: copy.trailers.take(),
                            broken: None,
                        });
                    }
                    CopyState::Growing => copy.rest.take(),
                }
            };
            match rest {
                Some(rest) => drain(rest, &self.copy).await,
                None => self.copy.changed.notified().await,
            }
        }
    }
}

async fn drain(mut rest: Stream, into: &Shared) {
    while into.lock().state == CopyState::Growing {
        match rest.frame().await {
            Some(Ok(frame)) => into.take(&frame),
            Some(Err(_)) => into.end(CopyState::Gone(NotReplayable::Broken)),
            None => into.end(CopyState::Whole),
        }
    }
}
