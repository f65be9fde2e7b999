//! The one task that writes. It enters the posts that wait in one transaction, and answers everybody
//! when the commit was answered. A commit without an answer is looked up before anybody is told.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::begin::Beginning;
use super::dial::Dial;
use super::fault::Fault;
use super::follow::Follower;
use super::known::Known;
use super::queue::{GROUP_MAX, Job, Reply, Waiting, gather};
use super::session::{Entered, Failed, Session};
use crate::ledger::PostError;
use crate::ledger::chain::Head;
use crate::ledger::sealed::{Sealed, has_room};

/// How long somebody who waits is left without an answer while connections are tried.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Tries of one transaction that others were in the way of.
const TRIES: u32 = 5;
/// First and longest pause between two connections.
pub(super) const RETRY_FIRST: Duration = Duration::from_millis(100);
pub(super) const RETRY_MAX: Duration = Duration::from_secs(5);

/// A transaction whose commit was not answered, with everybody who is not told yet.
struct Doubt {
    first: Head,
    entered: Entered,
    posts: Vec<Waiting>,
}

/// The task's own things.
pub(super) struct Writer {
    dial: Dial,
    known: Arc<Known>,
    session: Option<Session>,
    /// What is not known to be stored. At most one: nothing is entered before it is resolved.
    doubt: Option<Doubt>,
    /// What waits for the database to come back, oldest first.
    kept: Vec<Waiting>,
    retry: Option<Instant>,
    pause: Duration,
}

impl Writer {
    pub(super) fn new(dial: Dial, known: Arc<Known>) -> Self {
        Self {
            dial,
            known,
            session: None,
            doubt: None,
            kept: vec![],
            retry: None,
            pause: RETRY_FIRST,
        }
    }

    /// Runs until every sender is gone and every post is answered. Without a follower the database has not
    /// answered yet.
    pub(super) async fn run(
        mut self,
        mut beginning: Beginning,
        mut follower: Option<Follower>,
        mut jobs: mpsc::UnboundedReceiver<Job>,
    ) {
        if follower.is_none() {
            follower = self.meanwhile(&mut beginning, &mut jobs).await;
            if follower.is_some() {
                self.mend().await;
            }
        }
        if let Some(follower) = follower {
            tokio::spawn(follower.run());
        }
        loop {
            let job = match self.retry {
                None => jobs.recv().await,
                Some(at) => tokio::select! {
                    job = jobs.recv() => job,
                    () = tokio::time::sleep_until(at) => {
                        self.mend().await;
                        continue;
                    }
                },
            };
            let Some(job) = job else { break };
            self.take(job, &mut jobs).await;
        }
        // What never answered is not waited for once more.
        if self.known.seen().is_ok() {
            self.mend().await;
        }
        let why = self.known.writable().err();
        let why = why.unwrap_or_else(|| PostError::Unavailable("its writer has stopped".into()));
        let doubted = self.doubt.take().into_iter().flat_map(|d| d.posts);
        for post in doubted.chain(self.kept.drain(..)) {
            post.reply.tell(Err(why.clone()));
        }
    }

    /// Answers everybody that nothing is promised, until the database has answered for the first time.
    async fn meanwhile(
        &mut self,
        beginning: &mut Beginning,
        jobs: &mut mpsc::UnboundedReceiver<Job>,
    ) -> Option<Follower> {
        let mut begun = pin!(beginning.at_last());
        loop {
            let job = tokio::select! {
                begun = &mut begun => return begun,
                job = jobs.recv() => job?,
            };
            self.take(job, jobs).await;
        }
    }

    /// Does what was asked for, with everything that waits already.
    async fn take(&mut self, job: Job, jobs: &mut mpsc::UnboundedReceiver<Job>) {
        let (posts, flushes) = gather(job, jobs).await;
        let done = self.serve(posts).await;
        for flush in flushes {
            drop(flush.send(done.clone()));
        }
    }

    /// Whether all of them are stored or refused.
    async fn serve(&mut self, posts: Vec<Waiting>) -> Result<(), PostError> {
        if let Err(why) = self.known.writable() {
            self.keep(posts, &why);
            return Err(why);
        }
        let until = Instant::now() + PATIENCE;
        self.enter(posts, until).await
    }

    /// Enters posts, some at a time where one of them is refused by the database itself.
    async fn enter(&mut self, posts: Vec<Waiting>, until: Instant) -> Result<(), PostError> {
        let mut todo = vec![posts];
        let (mut outcome, mut later) = (Ok(()), Ok(()));
        while let Some(mut posts) = todo.pop() {
            if posts.is_empty() {
                continue;
            }
            if let Err(why) = &outcome {
                self.keep(posts, why);
                continue;
            }
            match self.together(&mut posts, until).await {
                Ok(()) => {}
                Err(Fault::Statement(_)) if posts.len() > 1 => {
                    let rest = posts.split_off(posts.len() / 2);
                    todo.extend([rest, posts]);
                }
                Err(fault @ Fault::Statement(_)) => {
                    let why = PostError::from(fault);
                    tracing::error!(error = %why, "the ledger's database refused what was to be stored");
                    // What became of money that was spent is tried again, however long that lasts.
                    self.keep(posts, &why);
                    if !self.kept.is_empty() {
                        self.retry.get_or_insert(Instant::now() + RETRY_MAX);
                        later = Err(why);
                    }
                }
                Err(fault) => {
                    let why = self.broke(fault);
                    self.keep(posts, &why);
                    outcome = Err(why);
                }
            }
        }
        outcome.and(later)
    }

    /// One transaction, tried until it is answered, refused, or the time is over. What is answered or in
    /// doubt is taken out of `posts`.
    async fn together(&mut self, posts: &mut Vec<Waiting>, until: Instant) -> Result<(), Fault> {
        let mut tries = 0;
        loop {
            tries += 1;
            let fault = match self.once(posts).await {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            };
            if !fault.is_passing() || tries >= TRIES || Instant::now() >= until {
                return Err(fault);
            }
            tracing::debug!(%fault, "the ledger tries again");
            sleep(self.pause).await;
            self.pause = (self.pause * 2).min(RETRY_MAX / 10);
        }
    }

    async fn once(&mut self, posts: &mut Vec<Waiting>) -> Result<(), Fault> {
        self.connect().await?;
        let again = self.resolve().await?;
        drop(posts.splice(..0, again));
        let Some(session) = &self.session else {
            return Err(Fault::Lost("there is no connection".into()));
        };
        let sealed: Vec<&Sealed> = posts.iter().map(|p| &p.sealed).collect();
        match session.enter(&sealed, &self.known).await {
            Ok(entered) => {
                self.pause = RETRY_FIRST;
                self.tell(entered, std::mem::take(posts));
                Ok(())
            }
            Err(Failed::Before(fault)) => {
                // A connection whose state is not certain is not used again.
                let clean = matches!(fault, Fault::Conflict(_) | Fault::Statement(_));
                if !clean || session.rollback().await.is_err() {
                    self.session = None;
                }
                Err(fault)
            }
            Err(Failed::Doubt {
                fault,
                first,
                entered,
            }) => {
                self.session = None;
                self.doubt = Some(Doubt {
                    first,
                    entered,
                    posts: std::mem::take(posts),
                });
                tracing::warn!(%fault, "a commit of the ledger was not answered; it is looked up");
                Err(Fault::Lost(format!(
                    "nobody knows whether it was stored: {fault}"
                )))
            }
        }
    }

    async fn connect(&mut self) -> Result<(), Fault> {
        if self.session.as_ref().is_none_or(Session::is_closed) {
            self.session = None;
            self.session = Some(Session::open(&self.dial, &self.known.seen()?).await?);
        }
        Ok(())
    }

    /// Finds out what became of the commit that was not answered. Returns the posts that it did not
    /// store: they are entered again.
    async fn resolve(&mut self) -> Result<Vec<Waiting>, Fault> {
        let (Some(doubt), Some(session)) = (&self.doubt, &self.session) else {
            return Ok(vec![]);
        };
        let committed = session.committed(doubt.first).await;
        if committed.is_err() {
            self.session = None;
        }
        let (committed, Some(doubt)) = (committed?, self.doubt.take()) else {
            return Ok(vec![]);
        };
        tracing::warn!(
            record = doubt.first.seq,
            committed,
            "the commit was looked up"
        );
        if !committed {
            return Ok(doubt.posts);
        }
        self.tell(doubt.entered, doubt.posts);
        Ok(vec![])
    }

    fn tell(&self, entered: Entered, posts: Vec<Waiting>) {
        self.known.committed(entered.head, entered.changed);
        for (post, answer) in posts.into_iter().zip(entered.answers) {
            post.reply.tell(answer);
        }
    }

    fn broke(&mut self, fault: Fault) -> PostError {
        let why = PostError::from(fault);
        tracing::error!(error = %why, "the ledger failed; nothing is paid until its database answers again");
        self.known.writes(Err(why.clone()));
        // Damage is for a person.
        self.retry = match &why {
            PostError::Damaged(_) => None,
            PostError::Rejected(_) | PostError::Unavailable(_) => Some(Instant::now() + self.pause),
        };
        why
    }

    /// Who waits is told that nothing is promised; what nobody waits for is tried again later.
    fn keep(&mut self, posts: Vec<Waiting>, why: &PostError) {
        let doubted = self.doubt.as_mut().map(|d| &mut d.posts);
        for post in doubted.into_iter().flatten() {
            if post.reply.is_awaited() {
                std::mem::replace(&mut post.reply, Reply::Told).tell(Err(why.clone()));
            }
            post.place = None;
        }
        for mut post in posts {
            let damaged = matches!(why, PostError::Damaged(_));
            if post.reply.is_awaited() || damaged || !has_room(self.kept.len(), &post.sealed) {
                post.reply.tell(Err(why.clone()));
            } else {
                post.place = None;
                self.kept.push(post);
            }
        }
        let doubted = self.doubt.iter().flat_map(|d| &d.posts);
        let mut kept = self.kept.iter().chain(doubted.filter(|p| p.is_wanted()));
        self.known.owe(kept.any(|post| post.sealed.claims));
    }

    /// Tries the database again: connect, resolve what is in doubt, enter what was kept.
    async fn mend(&mut self) {
        self.retry = None;
        if matches!(self.known.writable(), Err(PostError::Damaged(_))) {
            return;
        }
        let found = match self.connect().await {
            Ok(()) => self.resolve().await,
            Err(fault) => Err(fault),
        };
        let again = match found {
            Ok(again) => again,
            Err(fault) => {
                self.pause = (self.pause * 2).min(RETRY_MAX);
                self.broke(fault);
                return;
            }
        };
        if self.known.writable().is_err() {
            tracing::warn!("the ledger is available again");
        }
        self.known.writes(Ok(()));
        self.pause = RETRY_FIRST;
        // Who waited was told that nothing is promised: what was not stored must not be stored now.
        let mut posts: Vec<Waiting> = again.into_iter().filter(Waiting::is_wanted).collect();
        posts.append(&mut self.kept);
        self.known.owe(false);
        let until = Instant::now() + PATIENCE;
        while !posts.is_empty() {
            let rest = posts.split_off(posts.len().min(GROUP_MAX));
            // It keeps what it cannot enter.
            let _ = self.enter(posts, until).await;
            posts = rest;
        }
    }
}
