//! The default ledger: one SQLite file, one thread that writes, any number that read.
//!
//! A post is durable when it returns. Posts that wait at the same time share one sync. After a
//! storage failure nothing is promised before the whole file has been verified again.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread::JoinHandle;

use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::budget::{Counted, Fact, Frozen, Payment};
use crate::clock::Timestamp;
use crate::event::SpendEvent;
use crate::event::export::Recorded;
use crate::payment::{PaymentId, SessionId};

use super::place::{Footing, Hold, Place};
use super::{
    Accounts, Backend, Filter, Ledger, OpenError, Opening, Post, PostError, Posted, Reader, Report,
    SessionRow, Then, Trail,
};

mod accounts;
mod checks;
#[cfg(test)]
mod explore;
mod facts;
mod filter;
mod group;
mod keeper;
mod kept;
mod nonces;
mod packed;
mod payments;
mod read;
mod shared;
mod soon;
mod store;
mod tables;
mod verify;
mod walk;
mod writer;

use checks::{check, check_beside, found_or_made};
use group::{Job, Reply};
use packed::Packed;
use shared::Shared;
use soon::Soon;
use store::Fault;
use writer::{Keeper, Storage, Writer};

pub(super) const BACKEND: Backend = Backend {
    kind: "sqlite",
    open: |opening| Ok(Arc::new(Sqlite::open(opening)?)),
    read,
};

/// Posts that may wait at once. Who comes later waits outside.
const QUEUE_MAX: usize = 1024;

struct Sqlite {
    file: read::File,
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
    soon: Arc<Soon>,
    /// `None` once it ends.
    jobs: Option<Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    footing: Footing,
    _hold: Hold,
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        if fault.is_damage() {
            Self::Damaged(fault.to_string())
        } else {
            Self::Storage(fault.to_string())
        }
    }
}

fn read(opening: &Opening) -> Result<Arc<dyn Reader>, OpenError> {
    let place = Place::new(&opening.state_dir);
    check_beside(&place)?;
    Ok(Arc::new(read::File::new(&place.ledger())))
}

impl Sqlite {
    fn open(opening: &Opening) -> Result<Self, OpenError> {
        let place = Place::new(&opening.state_dir);
        place.prepare()?;
        let hold = place.hold()?;
        found_or_made(&place)?;
        let checked = check(&place)?;
        let footing = place.footing()?;
        let shared = Arc::new(checked.shared);
        let path = place.ledger();
        let soon = Arc::new(Soon::default());
        let (jobs, job_receiver) = channel();
        let (ask, asked) = sync_channel(1);
        let keeper = start("ledger-keeper", {
            let (path, shared) = (path.clone(), Arc::clone(&shared));
            move || keeper::run(&path, &shared, checked.verify_later, &asked)
        })?;
        let writer = Writer {
            path: path.clone(),
            footing: footing.clone(),
            shared: Arc::clone(&shared),
            marker: checked.marker,
            keeper: Keeper {
                ask,
                thread: keeper,
            },
            state: Storage::Ready(Box::new(checked.tables)),
            since_checkpoint: 0,
            places: QUEUE_MAX,
            soon: Arc::clone(&soon),
            last: writer::Last::default(),
            kept: vec![],
        };
        let writer = start("ledger-writer", move || writer::run(writer, &job_receiver))?;
        Ok(Self {
            file: read::File::new(&path),
            shared,
            places: Arc::new(Semaphore::new(QUEUE_MAX)),
            soon,
            jobs: Some(jobs),
            writer: Some(writer),
            footing,
            _hold: hold,
        })
    }

    /// Hands the job back when nobody takes it.
    fn send(&self, job: Job) -> Result<(), Job> {
        match &self.jobs {
            Some(sender) => sender.send(job).map_err(|e| e.0),
            None => Err(job),
        }
    }

    /// Waits for a place in the queue and takes it.
    async fn queue(&self, post: Post, reply: Reply) {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let packed = Packed::new(post);
        match (place, packed) {
            (Ok(place), Ok(packed)) => {
                let job = Job::Post {
                    packed,
                    reply,
                    place,
                };
                if let Err(Job::Post { reply, .. }) = self.send(job) {
                    reply.tell(Err(stopped()));
                }
            }
            (Err(_), _) => reply.tell(Err(stopped())),
            (_, Err(e)) => reply.tell(Err(PostError::Unavailable(e.to_string()))),
        }
    }
}

fn stopped() -> PostError {
    PostError::Unavailable("its writer has stopped".into())
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map_err(|e| OpenError::Storage(e.to_string()))
}

impl Drop for Sqlite {
    /// Commits what is queued, then lets go of the lock.
    fn drop(&mut self) {
        self.jobs.take();
        self.file.close();
        if let Some(writer) = self.writer.take() {
            // A panic was reported when it happened; there is nothing left to do about it.
            drop(writer.join());
        }
    }
}

#[async_trait]
impl Ledger for Sqlite {
    async fn post(&self, post: Post) -> Result<Posted, PostError> {
        let (sender, answer) = oneshot::channel();
        self.queue(post, Reply::Now(sender)).await;
        answer.await.map_err(|_| stopped())?
    }

    async fn post_soon(&self, post: Post, then: Then) {
        if !soon::may_wait(&post) {
            return self.queue(post, Reply::Soon(then)).await;
        }
        match Arc::clone(&self.places).acquire_owned().await {
            Ok(place) => {
                if self.soon.put(post, then, place) && self.send(Job::Soon).is_err() {
                    self.soon.give_up(&stopped());
                }
            }
            Err(_) => then(Err(stopped())),
        }
    }

    async fn flush(&self) -> Result<(), PostError> {
        let (sender, answer) = oneshot::channel();
        drop(self.send(Job::Flush(sender)));
        answer.await.map_err(|_| stopped())?
    }

    fn frozen(&self, host: &str, agent: &str) -> Option<Frozen> {
        self.shared.frozen(host, agent)
    }

    fn healthy(&self) -> Result<(), PostError> {
        match &self.writer {
            Some(writer) if !writer.is_finished() => self.shared.healthy()?,
            Some(_) | None => return Err(stopped()),
        }
        self.footing.check().map_err(PostError::Unavailable)
    }

    fn owes(&self) -> bool {
        self.shared.owes()
    }
}

#[async_trait]
impl Reader for Sqlite {
    async fn session(&self, id: &SessionId) -> Result<Option<SessionRow>, PostError> {
        Ok(self.shared.session(id))
    }

    async fn session_by_secret(&self, sha256: &str) -> Result<Option<SessionRow>, PostError> {
        Ok(self.shared.session_by_secret(sha256))
    }

    async fn sessions(&self) -> Result<Vec<SessionRow>, PostError> {
        Ok(self.shared.sessions())
    }

    async fn counted(&self, account: &str, first: u64) -> Result<Counted, PostError> {
        self.file.counted(account, first).await
    }

    async fn accounts(&self, prefix: &str, first: u64, most: usize) -> Result<Accounts, PostError> {
        self.file.accounts(prefix, first, most).await
    }

    async fn open(&self) -> Result<Vec<(Payment, SpendEvent)>, PostError> {
        self.file.open().await
    }

    async fn booked(&self, id: PaymentId) -> Result<Option<(Payment, SpendEvent)>, PostError> {
        self.file.booked(id).await
    }

    async fn payment(&self, id: PaymentId) -> Result<Option<SpendEvent>, PostError> {
        self.file.payment(id).await
    }

    async fn ids(
        &self,
        range: RangeInclusive<PaymentId>,
        most: usize,
    ) -> Result<Vec<PaymentId>, PostError> {
        self.file.ids(range, most).await
    }

    async fn payments(&self, filter: Filter) -> Result<Vec<SpendEvent>, PostError> {
        self.file.payments(filter).await
    }

    async fn trail(&self, id: PaymentId) -> Result<Trail, PostError> {
        self.file.trail(id).await
    }

    async fn events(&self, after: u64, limit: usize) -> Result<Vec<(u64, SpendEvent)>, PostError> {
        self.file.events(after, limit).await
    }

    async fn walk(&self, filter: Filter, rows: mpsc::Sender<Recorded>) -> Result<(), PostError> {
        self.file.walk(filter, rows).await
    }

    async fn fact(&self, key: &str) -> Result<Option<Fact>, PostError> {
        match self.shared.fact(key) {
            Some(known) => Ok(known),
            None => self.file.fact(key).await,
        }
    }

    async fn facts(&self, prefix: &str) -> Result<Vec<(String, Fact)>, PostError> {
        match self.shared.facts(prefix) {
            Some(known) => Ok(known),
            None => self.file.facts(prefix).await,
        }
    }

    async fn verify(&self) -> Result<Report, PostError> {
        self.file.verify().await
    }

    async fn newest(&self) -> Result<Timestamp, PostError> {
        Ok(self.shared.newest())
    }
}
