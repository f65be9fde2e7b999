//! What the writer is asked for, and what it has entered of that.

use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::clock::Timestamp;
use crate::ledger::{PostError, Posted, Then};

use super::packed::Packed;

/// One thing to do, and who waits for it.
pub(super) enum Job {
    Post {
        packed: Packed,
        reply: Reply,
        /// Its place in the queue, free again when it is answered.
        place: OwnedSemaphorePermit,
    },
    /// Answered when everything before it is durable.
    Flush(oneshot::Sender<Result<(), PostError>>),
    /// There are posts that nobody waits for.
    Soon,
}

/// Who is told.
pub(super) enum Reply {
    /// Somebody waits for the commit.
    Now(oneshot::Sender<Result<Posted, PostError>>),
    /// Nobody does.
    Soon(Then),
}

impl Reply {
    pub(super) fn tell(self, answer: Result<Posted, PostError>) {
        match self {
            // Who hung up does not want to know; the record stands.
            Self::Now(sender) => drop(sender.send(answer)),
            Self::Soon(then) => then(answer),
        }
    }
}

/// Posts of one transaction, and who waits for them.
#[derive(Default)]
pub(super) struct Group {
    pub(super) posts: Vec<Entered>,
    pub(super) flushes: Vec<oneshot::Sender<Result<(), PostError>>>,
    /// How many wait for the commit.
    pub(super) awaited: usize,
    /// Time of the newest post.
    pub(super) time: Option<Timestamp>,
    /// What this thread did for it, without the time that it waited for more.
    pub(super) worked: Duration,
}

/// A post that is judged and not yet durable.
pub(super) struct Entered {
    pub(super) answer: Result<Posted, PostError>,
    pub(super) reply: Reply,
    pub(super) packed: Packed,
    pub(super) place: OwnedSemaphorePermit,
}

impl Group {
    pub(super) fn len(&self) -> usize {
        self.posts.len().saturating_add(self.flushes.len())
    }

    pub(super) fn newest(&mut self, time: Timestamp) {
        self.time = self.time.max(Some(time));
    }

    pub(super) fn put(
        &mut self,
        answer: Result<Posted, PostError>,
        reply: Reply,
        packed: Packed,
        place: OwnedSemaphorePermit,
    ) {
        self.awaited += usize::from(matches!(reply, Reply::Now(_)));
        self.posts.push(Entered {
            answer,
            reply,
            packed,
            place,
        });
    }
}
