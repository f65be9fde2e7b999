//! The one thread that writes. It enters the posts that wait in one transaction, syncs once, and answers
//! everybody.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clock::Timestamp;
use crate::ledger::place::{Footing, MarkerFile};
use crate::ledger::{PostError, Posted};

use super::group::{Entered, Group, Job};
use super::kept::Kept;
use super::packed::Packed;
use super::shared::Shared;
use super::soon::{Soon, Which};
use super::store::Fault;
use super::tables::Tables;
use super::verify;

/// Posts in one transaction. More would make the first of them wait for the last.
const GROUP_MAX: usize = 256;
/// After this many posts the keeper moves the log into the file.
const POSTS_PER_CHECKPOINT: usize = 1000;
/// Under a load that never pauses the keeper never catches up, and the log would grow for ever: above
/// this length (32 MiB) the writer stops for a moment and moves the rest itself.
const LOG_PAGES_MAX: i64 = 8192;
/// First and longest pause before the storage is tried again after a failure.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// The longest while another program writes. That ends without anybody's doing.
const HELD_MAX: Duration = Duration::from_secs(4);

/// The thread's own things.
pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) footing: Footing,
    pub(super) shared: Arc<Shared>,
    pub(super) marker: MarkerFile,
    pub(super) keeper: Keeper,
    pub(super) state: Storage,
    pub(super) since_checkpoint: usize,
    /// Length of the queue.
    pub(super) places: usize,
    pub(super) soon: Arc<Soon>,
    pub(super) last: Last,
    /// What waits for the storage to work again, oldest first.
    pub(super) kept: Vec<Kept>,
}

/// The thread that keeps the file in order, as the writer knows it.
pub(super) struct Keeper {
    /// Asks for a checkpoint. Its end is the keeper's end.
    pub(super) ask: SyncSender<()>,
    pub(super) thread: JoinHandle<()>,
}

/// The group before.
#[derive(Clone, Copy, Default)]
pub(super) struct Last {
    /// Those who waited when it was answered: its own, who soon come again, and those whose turn comes next.
    company: usize,
    took: Duration,
}

/// Does the storage work?
pub(super) enum Storage {
    Ready(Box<Tables>),
    /// It failed. Nothing is promised before it has been opened and verified again; or where it was only held by
    /// another program, before that is over.
    Broken {
        why: PostError,
        pause: Duration,
        retry: Option<Instant>,
        held: Option<Box<Tables>>,
    },
}

/// Where jobs come from. A test that explores schedules brings its own.
pub(super) trait Line {
    /// Waits for the next one; `None` when every sender is gone.
    fn next(&self) -> Option<Job>;
    /// One that waits already.
    fn waiting(&self) -> Option<Job>;
    /// Waits for the next one no longer than this.
    fn within(&self, time: Duration) -> Result<Job, RecvTimeoutError>;
}

impl Line for Receiver<Job> {
    fn next(&self) -> Option<Job> {
        self.recv().ok()
    }

    fn waiting(&self) -> Option<Job> {
        self.try_recv().ok()
    }

    fn within(&self, time: Duration) -> Result<Job, RecvTimeoutError> {
        self.recv_timeout(time)
    }
}

/// Runs until every sender is gone and every post is answered.
pub(super) fn run(mut writer: Writer, jobs: &impl Line) {
    while let Some(first) = writer.wait(jobs) {
        let mut group = Group::default();
        writer.gather(first, &mut group, jobs);
        writer.serve(group);
        writer.mend();
        writer.tidy();
    }
    let mut last = Group::default();
    writer.enter_soon(&mut last, Which::All);
    writer.serve(last);
    writer.settle_debts();
    if let Storage::Ready(tables) = &writer.state {
        note(&writer.marker, tables);
    }
    // The keeper goes first: only the last connection to close empties and removes the log.
    let Keeper { ask, thread } = writer.keeper;
    drop(ask);
    drop(thread.join());
}

impl Writer {
    /// The next job; `Some(None)` when it is time for what waits for no job: to try the storage again, or to
    /// store what nobody waits for; `None` at the end.
    fn wait(&self, jobs: &impl Line) -> Option<Option<Job>> {
        let retry = match &self.state {
            Storage::Ready(_) => None,
            Storage::Broken { retry, .. } => *retry,
        };
        let due = self.soon.due();
        let Some(first) = retry.into_iter().chain(due).min() else {
            return jobs.next().map(Some);
        };
        match jobs.within(first.saturating_duration_since(Instant::now())) {
            Ok(job) => Some(Some(job)),
            Err(RecvTimeoutError::Timeout) => Some(None),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Enters everything that waits already, and what may be expected in a moment: payers that were
    /// answered together come back together, and would otherwise wait for one sync of the first of them
    /// and one of their own. They are given a quarter of the time that their last group took. Each is entered
    /// as it comes, while others are still on their way. With three quarters of them it goes on: the rest make
    /// their posts while the disk works.
    fn gather(&mut self, first: Option<Job>, group: &mut Group, jobs: &impl Line) {
        let started = Instant::now();
        let mut waited = Duration::ZERO;
        let mut next = first;
        while let Some(job) = next {
            self.take(job, group);
            next = None;
            if group.len() < GROUP_MAX {
                next = jobs.waiting();
            }
            let most = match group.awaited {
                _ if next.is_some() || group.len() >= GROUP_MAX => continue,
                0 if group.flushes.is_empty() => match self.soon.due() {
                    Some(due) => due.saturating_duration_since(Instant::now()),
                    None => continue,
                },
                waiting if waiting * 4 < self.last.company * 3 => {
                    (self.last.took / 4).saturating_sub(waited)
                }
                _ => continue,
            };
            let asked = Instant::now();
            next = jobs.within(most).ok();
            waited = waited.saturating_add(asked.elapsed());
        }
        let which = match group.len() {
            0 => Which::All,
            _ => Which::Ripe,
        };
        self.enter_soon(group, which);
        group.worked = started.elapsed().saturating_sub(waited);
    }

    fn take(&mut self, job: Job, group: &mut Group) {
        match job {
            Job::Post {
                packed,
                reply,
                place,
            } => {
                // Only a reservation may be judged before those that nobody waits for.
                if !packed.reserves() {
                    self.enter_soon(group, Which::All);
                }
                let mut answer = self.enter(&packed);
                if matches!(answer, Err(PostError::Rejected(_))) && self.soon.len() > 0 {
                    self.enter_soon(group, Which::All);
                    answer = self.enter(&packed);
                }
                group.newest(packed.time);
                group.put(answer, reply, packed, place);
            }
            Job::Flush(sender) => {
                self.enter_soon(group, Which::All);
                group.flushes.push(sender);
            }
            Job::Soon => {}
        }
    }

    pub(super) fn enter(&mut self, post: &Packed) -> Result<Posted, PostError> {
        self.shared.healthy()?;
        let tables = match &mut self.state {
            Storage::Ready(tables) => tables,
            Storage::Broken { why, .. } => return Err(why.clone()),
        };
        match tables.enter(post) {
            Ok(answer) => answer.map_err(PostError::Rejected),
            Err(fault) => Err(self.broke(&fault, RETRY_FIRST)),
        }
    }

    fn serve(&mut self, group: Group) {
        if group.len() == 0 {
            return;
        }
        let started = Instant::now();
        let outcome = self.commit(&group);
        let free = |entered: &Entered| entered.place.semaphore().available_permits();
        let free = group.posts.first().map_or(self.places, free);
        let nobodys = group.posts.len() - group.awaited + self.soon.len();
        self.last = Last {
            company: self.places.saturating_sub(free + nobodys),
            took: group.worked.saturating_add(started.elapsed()),
        };
        self.answer(group, &outcome);
    }

    /// Makes what was entered durable, all of it or nothing.
    fn commit(&mut self, group: &Group) -> Result<(), PostError> {
        let tables = match &mut self.state {
            Storage::Ready(tables) => tables,
            Storage::Broken { why, .. } => return Err(why.clone()),
        };
        if group.posts.is_empty() {
            return self.shared.healthy();
        }
        // Whoever finds an empty folder makes another ledger there, and freezes or spends that one.
        let footing = self.footing.check().map_err(Fault::Gone);
        match footing.and_then(|()| tables.commit()) {
            Ok(changed) => {
                let time = group.time.unwrap_or(Timestamp(0));
                self.shared.committed(time, changed);
                note(&self.marker, tables);
                self.since_checkpoint += group.posts.len();
                if self.since_checkpoint >= POSTS_PER_CHECKPOINT {
                    self.since_checkpoint = 0;
                    // A full channel means that it is at it already.
                    let _ = self.keeper.ask.try_send(());
                }
                Ok(())
            }
            Err(fault) => Err(self.broke(&fault, RETRY_FIRST)),
        }
    }

    fn tidy(&mut self) {
        let Storage::Ready(tables) = &self.state else {
            return;
        };
        if self.shared.log_pages.load(Ordering::Relaxed) > LOG_PAGES_MAX {
            self.shared.log_pages.store(0, Ordering::Relaxed);
            if let Err(error) = tables.tidy() {
                tracing::warn!(%error, "the ledger's log could not be moved into its file");
            }
        }
    }

    /// After a failed commit nothing that is in memory can be trusted to be on the disk, nor the
    /// other way round. What was not begun has changed nothing.
    fn broke(&mut self, fault: &Fault, pause: Duration) -> PostError {
        let why = if fault.is_damage() {
            PostError::Damaged(fault.to_string())
        } else {
            PostError::Unavailable(fault.to_string())
        };
        tracing::error!(error = %why, "the ledger failed; nothing is paid until it works again");
        self.shared.health(Err(why.clone()));
        let is_held = matches!(fault, Fault::Held);
        let pause = match is_held {
            true => pause.min(HELD_MAX),
            false => pause,
        };
        let heals = matches!(why, PostError::Unavailable(_));
        let broken = Storage::Broken {
            why: why.clone(),
            pause,
            retry: heals.then(|| Instant::now() + pause),
            held: None,
        };
        let before = std::mem::replace(&mut self.state, broken);
        if let (Storage::Ready(tables), Storage::Broken { held, .. }) = (before, &mut self.state)
            && is_held
        {
            *held = Some(tables);
        }
        why
    }

    /// Tries the storage again when it is time.
    fn mend(&mut self) {
        let Storage::Broken {
            retry: Some(retry), ..
        } = &self.state
        else {
            return;
        };
        if Instant::now() >= *retry {
            self.try_again();
        }
    }

    /// Opens it, moves the whole log into the file and syncs it (a failed sync may have left it in memory
    /// only), verifies everything, and enters what was kept. What was only held is as it was.
    pub(super) fn try_again(&mut self) {
        let Storage::Broken {
            pause,
            retry: Some(_),
            held,
            ..
        } = &mut self.state
        else {
            return;
        };
        let (pause, held) = (pause.saturating_mul(2).min(RETRY_MAX), held.take());
        let footing = self.footing.check().map_err(Fault::Gone);
        let opened = footing.and_then(|()| match held {
            Some(tables) => Ok(tables),
            None => reopen(&self.path).map(Box::new),
        });
        let done = opened.and_then(|mut tables| {
            let done = self.catch_up(&mut tables);
            if done.is_ok() {
                note(&self.marker, &tables);
            }
            self.state = Storage::Ready(tables);
            done
        });
        match done {
            Ok(()) => {
                self.shared.health(Ok(()));
                tracing::warn!("the ledger is available again");
            }
            Err(fault) => {
                let why = self.broke(&fault, pause);
                if !matches!(why, PostError::Unavailable(_)) {
                    self.give_up(&why);
                }
            }
        }
    }
}

fn reopen(path: &std::path::Path) -> Result<Tables, Fault> {
    let tables = Tables::open(path)?;
    if tables.checkpoint()? > 0 {
        return Err(Fault::Busy);
    }
    let report = verify::verify(&super::store::connect_reader(path)?)?;
    match report.problems.first() {
        Some(problem) => Err(Fault::Records(problem.clone())),
        None => Ok(tables),
    }
}

fn note(marker: &MarkerFile, tables: &Tables) {
    if let Err(error) = marker.note(tables.head()) {
        tracing::warn!(%error, "the ledger's marker cannot be written; a rollback to before now would not be seen");
    }
}
