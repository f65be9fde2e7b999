//! The ledger for fleets: one PostgreSQL database, any number of proxies that write.
//!
//! Whoever writes locks the one row that is the end of the chain, reads what the judge looks at, and
//! writes what changed, for all posts that wait, in one transaction. So there is one order of all posts,
//! and each is judged on everything that was committed before it. A post is durable when it returns. What
//! cannot be found out is not promised.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::budget::{Counted, Fact, Frozen, Payment};
use crate::clock::Timestamp;
use crate::event::SpendEvent;
use crate::event::export::Recorded;
use crate::payment::{PaymentId, Session, SessionId};

use super::sealed::Sealed;
use super::{
    Accounts, Backend, Database, Filter, Ledger, OpenError, Opening, Post, PostError, Posted,
    Reader, Report, SessionRow, Standings, Then, Trail,
};

mod batch;
mod begin;
mod dial;
mod fault;
mod follow;
mod known;
mod lead;
mod link;
mod load;
mod queue;
mod read;
mod repeats;
mod rows;
mod schema;
mod session;
mod statement;
mod store;
mod survey;
mod whose;
mod writer;

use begin::Beginning;
use dial::Dial;
use fault::Fault;
use known::Known;
use link::Link;
use queue::{Job, Reply, Waiting};
use read::Desk;
use writer::Writer;

pub(super) const BACKEND: Backend = Backend {
    kind: "postgres",
    open: |opening| Ok(Arc::new(Postgres::open(opening)?)),
    read: |opening| Ok(Arc::new(Postgres::read(opening)?)),
};

/// Posts that may wait at once. Who comes later waits outside.
const QUEUE_MAX: usize = 1024;

/// For what is left on the threads that connections live on.
const FAREWELL: Duration = Duration::from_secs(1);

struct Postgres {
    desk: Desk,
    /// Of this process, among all that share the database.
    name: String,
    places: Arc<Semaphore>,
    /// `None` once it ends.
    jobs: Option<mpsc::UnboundedSender<Job>>,
    carrier: Option<JoinHandle<()>>,
}

fn database(opening: &Opening) -> Result<&Database, OpenError> {
    let none = || OpenError::Storage("no database is configured".into());
    opening.database.as_ref().ok_or_else(none)
}

/// Starts the threads that connections live on, and gives what the work gave first.
fn carry<T, F>(
    work: impl FnOnce(SyncSender<Result<T, OpenError>>) -> F + Send + 'static,
) -> Result<(T, JoinHandle<()>), OpenError>
where
    T: Send + 'static,
    F: Future<Output = ()>,
{
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("ledger-postgres")
        .enable_all()
        .build()
        .map_err(|e| OpenError::Storage(e.to_string()))?;
    let (sender, first) = sync_channel(1);
    let carrier = std::thread::Builder::new()
        .name("ledger-postgres".into())
        .spawn(move || {
            runtime.block_on(work(sender));
            // A name that nobody resolves must not hold up the end.
            runtime.shutdown_timeout(FAREWELL);
        })
        .map_err(|e| OpenError::Storage(e.to_string()))?;
    let first = first
        .recv()
        .map_err(|e| OpenError::Storage(e.to_string()))?;
    Ok((first?, carrier))
}

impl Postgres {
    fn open(opening: &Opening) -> Result<Self, OpenError> {
        let database = database(opening)?;
        let (dial, every) = (Dial::new(database)?, database.look_every);
        let later = database.later;
        let (jobs, receiver) = mpsc::unbounded_channel();
        let (desk, carrier) = carry(async move |first: SyncSender<_>| {
            let link = Link::new(dial.clone(), Handle::current());
            let known = Arc::new(Known::new());
            let desk = Desk {
                link: link.clone(),
                known: Some(Arc::clone(&known)),
            };
            let writer = Writer::new(dial, Arc::clone(&known));
            let mut beginning = Beginning::new(link, known, every);
            let begun = match later {
                true => beginning.unless_away().await,
                false => beginning.patiently().await.map(Some),
            };
            match begun {
                Ok(follower) => {
                    drop(first.send(Ok(desk)));
                    writer.run(beginning, follower, receiver).await;
                }
                Err(fault) => drop(first.send(Err(fault.into()))),
            }
        })?;
        Self::new(desk, jobs, carrier)
    }

    /// For questions only: nobody takes a post.
    fn read(opening: &Opening) -> Result<Self, OpenError> {
        let database = database(opening)?;
        let dial = Dial::new(database)?;
        let missing = OpenError::Missing(database.file.clone());
        let (jobs, mut receiver) = mpsc::unbounded_channel::<Job>();
        let (desk, carrier) = carry(async move |first: SyncSender<_>| {
            let link = Link::new(dial, Handle::current());
            let desk = match found(&link).await {
                Ok(true) => Ok(Desk { link, known: None }),
                Ok(false) => Err(missing),
                Err(fault) => Err(fault.into()),
            };
            drop(first.send(desk));
            // Ends with whoever asks.
            while receiver.recv().await.is_some() {}
        })?;
        Self::new(desk, jobs, carrier)
    }

    fn new(
        desk: Desk,
        jobs: mpsc::UnboundedSender<Job>,
        carrier: JoinHandle<()>,
    ) -> Result<Self, OpenError> {
        let name = schema::random().map_err(OpenError::from)?;
        Ok(Self {
            desk,
            name,
            places: Arc::new(Semaphore::new(QUEUE_MAX)),
            jobs: Some(jobs),
            carrier: Some(carrier),
        })
    }

    /// Waits for a place in the queue and takes it.
    async fn queue(&self, post: Post, reply: Reply) {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let (place, sealed) = match (place, Sealed::new(post)) {
            (Ok(place), Ok(sealed)) => (place, sealed),
            (Err(_), _) => return reply.tell(Err(stopped())),
            (_, Err(e)) => return reply.tell(Err(PostError::Unavailable(e.to_string()))),
        };
        let waiting = Waiting {
            sealed,
            reply,
            place: Some(place),
        };
        if let Err(Job::Post(waiting)) = self.send(Job::Post(waiting)) {
            waiting.reply.tell(Err(stopped()));
        }
    }

    /// Whom to ask, once the database has answered for the first time.
    fn desk(&self) -> Result<&Desk, PostError> {
        let known = self.desk.known.as_ref();
        known.map_or(Ok(()), |known| known.askable())?;
        Ok(&self.desk)
    }

    /// Hands the job back when nobody takes it.
    fn send(&self, job: Job) -> Result<(), Job> {
        match &self.jobs {
            Some(sender) => sender.send(job).map_err(|e| e.0),
            None => Err(job),
        }
    }
}

/// Are there tables that this program can read?
async fn found(link: &Link) -> Result<bool, Fault> {
    match schema::version(&*link.client().await?).await? {
        None => Ok(false),
        Some(schema::VERSION) => Ok(true),
        Some(other) => {
            schema::fits(other)?;
            Err(Fault::Unfit(format!(
                "its tables have version {other} of an older program; start a proxy once with this one, which brings them up to date"
            )))
        }
    }
}

fn stopped() -> PostError {
    PostError::Unavailable("its writer has stopped".into())
}

impl Drop for Postgres {
    /// Commits what is queued, then lets go of the connections.
    fn drop(&mut self) {
        self.jobs.take();
        if let Some(carrier) = self.carrier.take() {
            // A panic was reported when it happened; there is nothing left to do about it.
            drop(carrier.join());
        }
    }
}

#[async_trait]
impl Ledger for Postgres {
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
        self.desk.known.as_ref()?.frozen(host, agent)
    }

    fn healthy(&self) -> Result<(), PostError> {
        match (&self.carrier, &self.desk.known) {
            (Some(carrier), Some(known)) if !carrier.is_finished() => known.healthy(),
            (Some(_) | None, Some(_) | None) => Err(stopped()),
        }
    }

    fn owes(&self) -> bool {
        self.desk.known.as_ref().is_some_and(|known| known.owes())
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn leads(&self) -> Result<bool, PostError> {
        Ok(lead::take(&self.desk()?.link, &self.name).await?)
    }
}

#[async_trait]
impl Reader for Postgres {
    async fn session(&self, id: &SessionId) -> Result<Option<SessionRow>, PostError> {
        self.desk()?.session(id).await
    }

    async fn session_by_secret(&self, sha256: &str) -> Result<Option<SessionRow>, PostError> {
        self.desk()?.session_by_secret(sha256).await
    }

    async fn identity(&self, id: &SessionId) -> Result<Option<Session>, PostError> {
        self.desk()?.identity(id).await
    }

    async fn identity_by_secret(&self, sha256: &str) -> Result<Option<Session>, PostError> {
        self.desk()?.identity_by_secret(sha256).await
    }

    async fn sessions(&self) -> Result<Vec<SessionRow>, PostError> {
        self.desk()?.sessions().await
    }

    async fn standings(&self, now: Timestamp) -> Result<Standings, PostError> {
        self.desk()?.standings(now).await
    }

    async fn counted(&self, account: &str, first: u64) -> Result<Counted, PostError> {
        self.desk()?.counted(account, first).await
    }

    async fn accounts(&self, prefix: &str, first: u64, most: usize) -> Result<Accounts, PostError> {
        self.desk()?.accounts(prefix, first, most).await
    }

    async fn open(&self) -> Result<Vec<(Payment, SpendEvent)>, PostError> {
        self.desk()?.open().await
    }

    async fn booked(&self, id: PaymentId) -> Result<Option<(Payment, SpendEvent)>, PostError> {
        self.desk()?.booked(id).await
    }

    async fn payment(&self, id: PaymentId) -> Result<Option<SpendEvent>, PostError> {
        self.desk()?.payment(id).await
    }

    async fn ids(
        &self,
        range: RangeInclusive<PaymentId>,
        most: usize,
    ) -> Result<Vec<PaymentId>, PostError> {
        self.desk()?.ids(range, most).await
    }

    async fn payments(&self, filter: Filter) -> Result<Vec<SpendEvent>, PostError> {
        self.desk()?.payments(filter).await
    }

    async fn trail(&self, id: PaymentId) -> Result<Trail, PostError> {
        self.desk()?.trail(id).await
    }

    async fn events(&self, after: u64, limit: usize) -> Result<Vec<(u64, SpendEvent)>, PostError> {
        self.desk()?.events(after, limit).await
    }

    async fn walk(&self, filter: Filter, rows: mpsc::Sender<Recorded>) -> Result<(), PostError> {
        self.desk()?.walk(filter, rows).await
    }

    async fn fact(&self, key: &str) -> Result<Option<Fact>, PostError> {
        self.desk()?.fact(key).await
    }

    async fn facts(&self, prefix: &str) -> Result<Vec<(String, Fact)>, PostError> {
        self.desk()?.facts(prefix).await
    }

    async fn verify(&self) -> Result<Report, PostError> {
        self.desk()?.verify().await
    }

    async fn newest(&self) -> Result<Timestamp, PostError> {
        self.desk()?.newest().await
    }
}
