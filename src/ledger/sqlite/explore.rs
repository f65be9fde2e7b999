//! The writer under a schedule explorer: who posts, who waits and who goes first is chosen anew in
//! each of many schedules. The writer, its tables and the file are the real ones. A failure prints
//! its schedule. `FAREPASS_SCHEDULES` tries more of them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use shuttle::rand::Rng as _;
use shuttle::sync::mpsc::{Receiver, Sender, channel};
use shuttle::{future::block_on, thread};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::checks::{check, found_or_made};
use super::group::{Job, Reply};
use super::packed::Packed;
use super::soon::{self, Soon};
use super::writer::{self, Keeper, Last, Line, Storage, Writer};
use super::{PostError, Posted, keeper, start, store};
use crate::budget::{Entry, Reject};
use crate::clock::Timestamp;
use crate::ledger::Post;
use crate::ledger::place::Place;
use crate::money::Usd;
use crate::payment::{PaymentId, Session, SessionId};

/// What the session may spend, in payments of one unit.
const CAP: u64 = 11;
/// Who posts at the same time.
const PAYERS: u64 = 16;
/// Places in the queue: fewer than payers, so that some wait outside.
const PLACES: usize = 4;

/// The explorer's queue. Nothing waits for real time: whether a wait ends early is chosen too.
struct Explored(Receiver<Job>);

impl Line for Explored {
    fn next(&self) -> Option<Job> {
        self.0.recv().ok()
    }

    fn waiting(&self) -> Option<Job> {
        self.0.try_recv().ok()
    }

    fn within(&self, _: Duration) -> Result<Job, RecvTimeoutError> {
        thread::yield_now();
        match self.0.try_recv() {
            Ok(job) => Ok(job),
            Err(shuttle::sync::mpsc::TryRecvError::Disconnected) => {
                Err(RecvTimeoutError::Disconnected)
            }
            Err(shuttle::sync::mpsc::TryRecvError::Empty) => Err(RecvTimeoutError::Timeout),
        }
    }
}

/// One ledger with one session, its writer running, and the queue to it.
struct Stage {
    places: Arc<Semaphore>,
    soon: Arc<Soon>,
    jobs: Sender<Job>,
    writer: thread::JoinHandle<()>,
    dir: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap());
        let (jobs, receiver) = channel();
        let soon = Arc::new(Soon::default());
        let made = made(dir.path(), &soon);
        let writer = thread::spawn(move || writer::run(made, &Explored(receiver)));
        let stage = Self {
            places: Arc::new(Semaphore::new(PLACES)),
            soon,
            jobs,
            writer,
            dir,
        };
        stage.hand().post(open()).expect("a session");
        stage
    }

    fn hand(&self) -> Hand {
        Hand {
            places: Arc::clone(&self.places),
            soon: Arc::clone(&self.soon),
            jobs: self.jobs.clone(),
        }
    }

    /// Every hand is gone: the writer answers what waits, and ends. Returns what the session spent, as
    /// the file says.
    fn end(self) -> u64 {
        drop(self.jobs);
        self.writer.join().expect("the writer ends");
        assert_eq!(self.places.available_permits(), PLACES, "a place is lost");
        let file = self.dir.path().join("ledger.db");
        let connection = store::connect_reader(&file).expect("a file");
        let spent = store::total(&connection, "session:s@1", 0).expect("a sum");
        spent.amount.0
    }
}

fn made(dir: &Path, soon: &Arc<Soon>) -> Writer {
    let place = Place::new(dir);
    place.prepare().expect("a folder");
    drop(place.hold().expect("a lock"));
    found_or_made(&place).expect("a ledger");
    let checked = check(&place).expect("a good one");
    let shared = Arc::new(checked.shared);
    let (ask, asked) = sync_channel(1);
    let (path, keeping) = (place.ledger(), Arc::clone(&shared));
    let keeper = start("keeper", move || {
        keeper::run(&path, &keeping, false, &asked)
    });
    Writer {
        path: place.ledger(),
        footing: place.footing().expect("files"),
        shared,
        marker: checked.marker,
        keeper: Keeper {
            ask,
            thread: keeper.expect("a thread"),
        },
        state: Storage::Ready(Box::new(checked.tables)),
        since_checkpoint: 0,
        places: PLACES,
        soon: Arc::clone(soon),
        last: Last::default(),
        kept: vec![],
    }
}

/// Somebody who posts.
#[derive(Clone)]
struct Hand {
    places: Arc<Semaphore>,
    soon: Arc<Soon>,
    jobs: Sender<Job>,
}

impl Hand {
    fn place(&self) -> OwnedSemaphorePermit {
        block_on(Arc::clone(&self.places).acquire_owned()).expect("a place")
    }

    fn queue(&self, post: Post, reply: Reply) {
        let place = self.place();
        let packed = Packed::new(post).expect("JSON");
        let job = Job::Post {
            packed,
            reply,
            place,
        };
        assert!(self.jobs.send(job).is_ok(), "the writer is there");
    }

    fn post(&self, post: Post) -> Result<Posted, PostError> {
        let (sender, answer) = oneshot::channel();
        self.queue(post, Reply::Now(sender));
        block_on(answer).expect("an answer")
    }

    fn post_soon(&self, post: Post, told: &Arc<AtomicUsize>) {
        let told = Arc::clone(told);
        let then = move |_: Result<Posted, PostError>| {
            told.fetch_add(1, Ordering::SeqCst);
        };
        assert!(soon::may_wait(&post));
        if self.soon.put(post, Box::new(then), self.place()) {
            assert!(self.jobs.send(Job::Soon).is_ok(), "the writer is there");
        }
    }

    fn flush(&self) -> Result<(), PostError> {
        let (sender, answer) = oneshot::channel();
        assert!(self.jobs.send(Job::Flush(sender)).is_ok());
        block_on(answer).expect("an answer")
    }
}

fn open() -> Post {
    let session = Session {
        id: SessionId("s".into()),
        agent: "bot".into(),
        budget: Usd(CAP),
        created: Timestamp(1),
        expires: Timestamp(1_000_000),
    };
    post(Entry::OpenSession {
        session,
        secret_sha256: None,
    })
}

fn post(entry: Entry) -> Post {
    Post {
        time: Timestamp(5),
        entries: vec![entry],
        event: None,
    }
}

fn reserve(id: u64) -> Post {
    post(Entry::Reserve {
        id: PaymentId(id.into()),
        session: SessionId("s".into()),
        amount: Usd(1),
        limits: vec![],
        until: Timestamp(9),
        now: Timestamp(5),
        nonce: format!("nonce {id}"),
        host: String::new(),
    })
}

/// Half of the schedules by chance, half with few changes at bad moments.
fn explore(test: fn()) {
    let times = std::env::var("FAREPASS_SCHEDULES").ok();
    let times = times.map_or(200, |n| n.parse().expect("FAREPASS_SCHEDULES is a number"));
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 20;
    let chance = shuttle::scheduler::RandomScheduler::new(times / 2);
    shuttle::Runner::new(chance, config.clone()).run(test);
    let few = shuttle::scheduler::PctScheduler::new(3, times / 2);
    shuttle::Runner::new(few, config).run(test);
}

/// Threat M-09: exactly as many as the cap allows, whoever comes first.
#[test]
fn reservations_pass_no_cap() {
    explore(|| {
        let stage = Stage::new();
        let payers = (1..=PAYERS).map(|id| {
            let hand = stage.hand();
            thread::spawn(move || hand.post(reserve(id)))
        });
        let payers: Vec<_> = payers.collect();
        let answers = payers.into_iter().map(|p| p.join().expect("it ends"));
        let mut records = vec![];
        for answer in answers {
            match answer {
                Ok(posted) => {
                    let counted = posted.session_counted.expect("a reservation counts");
                    assert!(counted.amount.0 <= CAP);
                    records.push(posted.seq);
                }
                Err(PostError::Rejected(Reject::OverLimit { .. })) => {}
                Err(other) => panic!("{other}"),
            }
        }
        records.sort_unstable();
        records.dedup();
        assert_eq!(records.len() as u64, CAP, "one record each");
        assert_eq!(stage.end(), CAP);
    });
}

/// What is posted soon is stored before whatever its poster posts next, and by the time that a flush
/// returns.
#[test]
fn nobody_is_overtaken_by_himself() {
    explore(|| {
        let stage = Stage::new();
        let told = Arc::new(AtomicUsize::new(0));
        let payers = (1..=6).map(|id| {
            let (hand, told) = (stage.hand(), Arc::clone(&told));
            thread::spawn(move || {
                hand.post(reserve(id)).expect("a reservation");
                let mine = Arc::new(AtomicUsize::new(0));
                let settle = Entry::Settle {
                    id: PaymentId(id.into()),
                    charged: Usd(1),
                };
                hand.post_soon(post(settle), &mine);
                if id % 2 == 0 {
                    hand.flush().expect("a flush");
                } else {
                    // Settled already: it cannot be given back.
                    let id = PaymentId(id.into());
                    let because = crate::budget::Because::NeverSigned;
                    let release = hand.post(post(Entry::Release { id, because }));
                    assert!(
                        matches!(release, Err(PostError::Rejected(_))),
                        "{release:?}"
                    );
                }
                told.fetch_add(mine.load(Ordering::SeqCst), Ordering::SeqCst);
            })
        });
        let payers: Vec<_> = payers.collect();
        payers.into_iter().for_each(|p| p.join().expect("it ends"));
        assert_eq!(told.load(Ordering::SeqCst), 6, "all were told by then");
        assert_eq!(stage.end(), 6);
    });
}

/// The storage breaks at any moment: everybody is answered, and what was promised is there.
#[test]
fn a_promise_survives_whatever_follows() {
    explore(|| {
        let stage = Stage::new();
        let told = Arc::new(AtomicUsize::new(0));
        let payers = (1..=8).map(|id| {
            let (hand, told) = (stage.hand(), Arc::clone(&told));
            thread::spawn(move || {
                hand.post_soon(post(Entry::Note { id: PaymentId(100) }), &told);
                hand.post(reserve(id)).is_ok()
            })
        });
        let payers: Vec<_> = payers.collect();
        for _ in 0..shuttle::rand::thread_rng().gen_range(0..20) {
            thread::yield_now();
        }
        let file = stage.dir.path().join("ledger.db");
        let other = store::connect(&file).expect("a file");
        // The writer may be in the middle of a transaction, and only it can end it.
        other.busy_timeout(Duration::ZERO).expect("no waiting");
        let change = "ALTER TABLE nonce RENAME TO gone";
        while other.execute_batch(change).is_err() {
            thread::yield_now();
        }
        drop(other);
        let kept = payers.into_iter().filter_map(|p| p.join().ok());
        let kept = kept.filter(|stored| *stored).count() as u64;
        let flushed = stage.hand().flush();
        assert!(flushed.is_ok() || kept < 8, "{flushed:?}");
        assert!(stage.end() >= kept);
        // What could not be stored was kept to the end.
        let told = told.load(Ordering::SeqCst);
        assert_eq!(told, 8, "somebody was not answered");
    });
}
