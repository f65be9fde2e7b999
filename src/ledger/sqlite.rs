//! The default ledger: one SQLite file, one thread that writes, any number that read.
//!
//! A post is durable when it returns. Posts that wait at the same time share one sync. After a
//! storage failure nothing is promised before the whole file has been verified again.

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

use super::chain::Head;
use super::place::{Hold, Marker, MarkerFile, Place};
use super::sealed::Sealed;
use super::{
    Backend, Filter, Ledger, OpenError, Opening, Post, PostError, Posted, Reader, Report,
    SessionRow, Then, Trail,
};

mod accounts;
#[cfg(test)]
mod explore;
mod facts;
mod filter;
mod keeper;
mod nonces;
mod payments;
mod read;
mod shared;
mod store;
mod tables;
mod verify;
mod writer;

use shared::Shared;
use store::Fault;
use tables::Tables;
use writer::{Job, Keeper, Reply, Storage, Writer};

pub(super) const BACKEND: Backend = Backend {
    kind: "sqlite",
    open: |opening| Ok(Arc::new(Sqlite::open(opening)?)),
    read,
};

/// Posts that may wait at once. Who comes later waits outside.
const QUEUE_MAX: usize = 1024;
/// A ledger up to this long is verified before the first payment; a longer one beside it.
const VERIFY_AT_START_MAX: u64 = 20_000;

struct Sqlite {
    file: read::File,
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
    /// `None` once it ends.
    jobs: Option<Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    _hold: Hold,
}

/// Everything that was checked before the threads start.
struct Checked {
    marker: MarkerFile,
    tables: Tables,
    shared: Shared,
    verify_later: bool,
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
    let path = Place::new(&opening.state_dir).ledger();
    if !path.exists() {
        return Err(OpenError::Missing(path));
    }
    version(&store::connect_reader(&path)?)?;
    Ok(Arc::new(read::File::new(&path)))
}

fn version(connection: &rusqlite::Connection) -> Result<(), OpenError> {
    match store::version(connection)? {
        store::VERSION => Ok(()),
        older @ 1..store::VERSION => Err(OpenError::Storage(format!(
            "ledger.db has version {older} of an older program; start the proxy once with this one, which brings the file up to date"
        ))),
        other => Err(OpenError::Storage(format!(
            "ledger.db has version {other}, this program knows version {}; use the program that made it, or a newer one",
            store::VERSION
        ))),
    }
}

/// A ledger that was made here and is not here any more took every budget with it.
fn found_or_made(place: &Place) -> Result<(), OpenError> {
    if place.has_ledger() {
        return Ok(());
    }
    if place.has_marker() {
        return Err(OpenError::Damaged(format!(
            "{} is missing, but a ledger was made here before. Bring it back from a backup; without it every budget would start anew. To accept that, delete the file `installed` beside it",
            place.ledger().display()
        )));
    }
    place.create()?;
    let mut random = [0; 16];
    let no_randomness = |e: getrandom::Error| OpenError::Storage(e.to_string());
    getrandom::fill(&mut random).map_err(no_randomness)?;
    let mut connection = store::connect(&place.ledger())?;
    Ok(store::create(&mut connection, &hex::encode(random))?)
}

fn check(place: &Place) -> Result<Checked, OpenError> {
    let path = place.ledger();
    let tables = {
        let mut connection = store::connect(&path)?;
        store::upgrade(&mut connection)?;
        version(&connection)?;
        Tables::open(&path)?
    };
    let connection = store::connect_reader(&path)?;
    let (id, head) = (store::id(&connection)?, tables.head());
    match place.read_marker() {
        Some(marker) => matches_marker(&connection, &id, head, &marker)?,
        None if place.has_marker() => {
            tracing::warn!("the ledger's marker is unreadable; writing a new one")
        }
        None => {}
    }
    ends_well(&connection, &id, head)?;
    let verify_later = head.seq > VERIFY_AT_START_MAX;
    if !verify_later && let Some(problem) = verify::verify(&connection)?.problems.first() {
        return Err(OpenError::Damaged(problem.clone()));
    }
    Ok(Checked {
        marker: place.write_marker(&Marker { id, head })?,
        shared: Shared::load(&connection)?,
        tables,
        verify_later,
    })
}

/// The marker may be older than the ledger, never newer, and never of another one.
fn matches_marker(
    connection: &rusqlite::Connection,
    id: &str,
    head: Head,
    marker: &Marker,
) -> Result<(), OpenError> {
    if marker.id != id {
        return Err(OpenError::Damaged(
            "ledger.db is not the one that was made here; bring back the right one, or delete the file `installed` beside it to accept this one".into(),
        ));
    }
    let there = match marker.head.seq {
        0 => Some(Head::genesis(id).hash),
        seq => store::record_at(connection, seq)?.map(|r| r.hash),
    };
    if there != Some(marker.head.hash) {
        return Err(OpenError::Damaged(format!(
            "ledger.db was rolled back or cut: record {} was written, and it ends at record {}. Bring back the newer file, or delete the file `installed` beside it to accept the loss",
            marker.head.seq, head.seq
        )));
    }
    Ok(())
}

/// The newest record is whole and follows the one before it.
fn ends_well(connection: &rusqlite::Connection, id: &str, head: Head) -> Result<(), OpenError> {
    let before = match head.seq {
        0 => return Ok(()),
        1 => Head::genesis(id),
        seq => Head {
            seq: seq - 1,
            hash: store::record_at(connection, seq - 1)?.map_or([0; 32], |r| r.hash),
        },
    };
    let next = store::record_at(connection, head.seq)?
        .map(|r| before.next(r.time, &r.entries, r.event.as_deref()));
    if next == Some(head) && store::record_at(connection, head.seq + 1)?.is_none() {
        return Ok(());
    }
    Err(OpenError::Damaged(format!(
        "record {} does not match its hash",
        head.seq
    )))
}

impl Sqlite {
    fn open(opening: &Opening) -> Result<Self, OpenError> {
        let place = Place::new(&opening.state_dir);
        place.prepare()?;
        let hold = place.hold()?;
        found_or_made(&place)?;
        let checked = check(&place)?;
        let shared = Arc::new(checked.shared);
        let path = place.ledger();
        let (jobs, job_receiver) = channel();
        let (ask, asked) = sync_channel(1);
        let keeper = start("ledger-keeper", {
            let (path, shared) = (path.clone(), Arc::clone(&shared));
            move || keeper::run(&path, &shared, checked.verify_later, &asked)
        })?;
        let writer = Writer {
            path: path.clone(),
            shared: Arc::clone(&shared),
            marker: checked.marker,
            keeper: Keeper {
                ask,
                thread: keeper,
            },
            state: Storage::Ready(Box::new(checked.tables)),
            since_checkpoint: 0,
            last: writer::Last::default(),
        };
        let writer = start("ledger-writer", move || writer::run(writer, &job_receiver))?;
        Ok(Self {
            file: read::File::new(&path),
            shared,
            places: Arc::new(Semaphore::new(QUEUE_MAX)),
            jobs: Some(jobs),
            writer: Some(writer),
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
        let sealed = Sealed::new(post);
        match (place, sealed) {
            (Ok(place), Ok(sealed)) => {
                let job = Job::Post {
                    sealed,
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
        self.queue(post, Reply::Soon(then)).await;
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
            Some(writer) if !writer.is_finished() => self.shared.healthy(),
            Some(_) | None => Err(stopped()),
        }
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

    async fn accounts(
        &self,
        prefix: &str,
        first: u64,
        most: usize,
    ) -> Result<Vec<(String, Counted)>, PostError> {
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
