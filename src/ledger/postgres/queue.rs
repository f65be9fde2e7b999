//! Posts on their way to the one task that writes, and who waits for them.

use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::ledger::sealed::Sealed;
use crate::ledger::{PostError, Posted, Then};

/// Posts in one transaction. More would make the first of them wait for the last.
pub(super) const GROUP_MAX: usize = 256;
/// How long a post that nobody waits for waits for company.
const SOON: Duration = Duration::from_millis(3);

/// One thing to do, and who waits for it.
pub(super) enum Job {
    Post(Waiting),
    /// Answered when everything before it is durable.
    Flush(oneshot::Sender<Result<(), PostError>>),
}

/// A post that is not answered yet.
pub(super) struct Waiting {
    pub(super) sealed: Sealed,
    pub(super) reply: Reply,
    /// Its place in the queue, free again when it is answered or kept for later.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

/// Who is told.
pub(super) enum Reply {
    /// Somebody waits for the commit.
    Now(oneshot::Sender<Result<Posted, PostError>>),
    /// Nobody does.
    Soon(Then),
    /// Who waited was told already that nothing is promised.
    Told,
}

impl Reply {
    pub(super) fn tell(self, answer: Result<Posted, PostError>) {
        match self {
            // Who hung up does not want to know; the record stands.
            Self::Now(sender) => drop(sender.send(answer)),
            Self::Soon(then) => then(answer),
            Self::Told => {}
        }
    }

    pub(super) fn is_awaited(&self) -> bool {
        match self {
            Self::Now(_) => true,
            Self::Soon(_) | Self::Told => false,
        }
    }
}

impl Waiting {
    /// Whoever was told that nothing is promised gave it up.
    pub(super) fn is_wanted(&self) -> bool {
        !matches!(self.reply, Reply::Told)
    }
}

/// Everything that waits already; posts that nobody waits for wait a moment for company.
pub(super) async fn gather(
    first: Job,
    jobs: &mut mpsc::UnboundedReceiver<Job>,
) -> (Vec<Waiting>, Vec<oneshot::Sender<Result<(), PostError>>>) {
    let (mut posts, mut flushes, mut awaited) = (vec![], vec![], false);
    let mut next = Some(first);
    let deadline = Instant::now() + SOON;
    while let Some(job) = next {
        match job {
            Job::Post(post) => {
                awaited |= post.reply.is_awaited();
                posts.push(post);
            }
            Job::Flush(sender) => {
                awaited = true;
                flushes.push(sender);
            }
        }
        next = match posts.len() < GROUP_MAX {
            false => None,
            true => jobs.try_recv().ok(),
        };
        if next.is_none() && !awaited && posts.len() < GROUP_MAX {
            let left = deadline.saturating_duration_since(Instant::now());
            next = timeout(left, jobs.recv()).await.ok().flatten();
        }
    }
    (posts, flushes)
}
