//! A real ledger behind a disk that fails: what is posted soon waits in memory, a failed post may be
//! stored all the same, and after a failure nothing is promised for a while.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use farepass::budget::{Counted, Entry, Fact, Frozen, Payment};
use farepass::clock::Timestamp;
use farepass::event::SpendEvent;
use farepass::event::export::Recorded;
use farepass::ledger::{
    Accounts, Filter, Ledger, Post, PostError, Posted, Reader, Report, SessionRow, Then, Trail,
};
use farepass::payment::{PaymentId, SessionId};
use tokio::sync::mpsc::Sender;

use crate::chance::{Chance, now, pause};

/// What the ledger acknowledged or stored, as its records tell it: the second book.
#[derive(Default)]
pub(crate) struct Told {
    /// The newest event of each payment.
    pub(crate) events: BTreeMap<PaymentId, SpendEvent>,
    /// Until when each can be charged.
    pub(crate) until: BTreeMap<PaymentId, Timestamp>,
    /// On-chain nonces of what was acknowledged as reserved, before anybody signs.
    pub(crate) reserved: BTreeMap<String, PaymentId>,
    /// The latest time in a record.
    pub(crate) latest: Timestamp,
    /// Posts.
    pub(crate) stored: usize,
    pub(crate) faults: usize,
    seen: BTreeSet<String>,
}

pub(crate) struct Disk {
    inner: Arc<dyn Ledger>,
    chance: Arc<Chance>,
    soon: Mutex<VecDeque<(Post, Then)>>,
    broken: Mutex<bool>,
    told: Arc<Mutex<Told>>,
}

fn unavailable() -> PostError {
    PostError::Unavailable("the disk fails".into())
}

impl Disk {
    pub(crate) fn new(inner: Arc<dyn Ledger>, chance: Arc<Chance>, told: Arc<Mutex<Told>>) -> Self {
        Self {
            inner,
            chance,
            told,
            soon: Mutex::default(),
            broken: Mutex::default(),
        }
    }

    pub(crate) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    /// The next post fails, or works again.
    fn fails(&self) -> bool {
        let mut broken = self.broken.lock().unwrap();
        *broken = match *broken {
            true => !self.chance.one_in(6),
            false => self.chance.one_in(120),
        };
        if *broken {
            self.told().faults += 1;
        }
        *broken
    }

    fn store(&self, post: Post) -> Result<Posted, PostError> {
        let posted = now(self.inner.post(post.clone()));
        if posted.is_ok() {
            self.told().note(&post);
        }
        posted
    }

    /// What waits goes before whatever comes now. Some of it is lost with a failing disk, and that
    /// only counts too much.
    fn drain(&self) {
        while let Some((post, then)) = self.take() {
            let lost = self.fails();
            if lost && self.chance.one_in(2) {
                then(Err(unavailable()));
                continue;
            }
            let posted = self.store(post);
            then(if lost { Err(unavailable()) } else { posted });
        }
    }

    fn take(&self) -> Option<(Post, Then)> {
        self.soon.lock().unwrap().pop_front()
    }

    /// Everything that waits is stored, without a fault: a stop, not a crash.
    pub(crate) fn finish(&self) {
        while let Some((post, then)) = self.take() {
            then(self.store(post));
        }
    }
}

impl Told {
    fn note(&mut self, post: &Post) {
        self.stored += 1;
        self.latest = self.latest.max(post.time);
        if let Some(event) = &post.event {
            self.events.insert(event.id, event.clone());
        }
        for entry in &post.entries {
            if let Entry::Reserve {
                id, until, nonce, ..
            } = entry
            {
                assert!(
                    self.seen.insert(nonce.clone()),
                    "{nonce} was reserved twice"
                );
                let event = post.event.as_ref().expect("a reservation has an event");
                let nonce = event.nonce.clone().expect("and its event a nonce");
                self.reserved.insert(nonce, *id);
                self.until.insert(*id, *until);
            }
        }
    }
}

#[async_trait]
impl Ledger for Disk {
    async fn post(&self, post: Post) -> Result<Posted, PostError> {
        pause().await;
        self.drain();
        let answer = if self.fails() {
            if self.chance.one_in(2) {
                // On the disk, and nobody was told: the sync failed after the write.
                let _ = self.store(post);
            }
            Err(unavailable())
        } else {
            self.store(post)
        };
        pause().await;
        answer
    }

    async fn post_soon(&self, post: Post, then: Then) {
        self.soon.lock().unwrap().push_back((post, then));
        pause().await;
        if self.chance.one_in(3) {
            self.drain();
        }
    }

    async fn flush(&self) -> Result<(), PostError> {
        self.drain();
        now(self.inner.flush())
    }

    fn frozen(&self, host: &str, agent: &str) -> Option<Frozen> {
        self.inner.frozen(host, agent)
    }

    fn healthy(&self) -> Result<(), PostError> {
        match *self.broken.lock().unwrap() {
            true => Err(unavailable()),
            false => Ok(()),
        }
    }
}

/// Questions are answered by what is stored, as they are beside a running writer.
#[async_trait]
impl Reader for Disk {
    async fn session(&self, id: &SessionId) -> Result<Option<SessionRow>, PostError> {
        now(self.inner.session(id))
    }
    async fn session_by_secret(&self, sha256: &str) -> Result<Option<SessionRow>, PostError> {
        now(self.inner.session_by_secret(sha256))
    }
    async fn sessions(&self) -> Result<Vec<SessionRow>, PostError> {
        now(self.inner.sessions())
    }
    async fn counted(&self, account: &str, first: u64) -> Result<Counted, PostError> {
        now(self.inner.counted(account, first))
    }
    async fn accounts(&self, prefix: &str, first: u64, most: usize) -> Result<Accounts, PostError> {
        now(self.inner.accounts(prefix, first, most))
    }
    async fn open(&self) -> Result<Vec<(Payment, SpendEvent)>, PostError> {
        pause().await;
        let open = now(self.inner.open());
        pause().await;
        open
    }
    async fn booked(&self, id: PaymentId) -> Result<Option<(Payment, SpendEvent)>, PostError> {
        now(self.inner.booked(id))
    }
    async fn payment(&self, id: PaymentId) -> Result<Option<SpendEvent>, PostError> {
        now(self.inner.payment(id))
    }
    async fn ids(
        &self,
        range: RangeInclusive<PaymentId>,
        most: usize,
    ) -> Result<Vec<PaymentId>, PostError> {
        now(self.inner.ids(range, most))
    }
    async fn payments(&self, filter: Filter) -> Result<Vec<SpendEvent>, PostError> {
        now(self.inner.payments(filter))
    }
    async fn trail(&self, id: PaymentId) -> Result<Trail, PostError> {
        now(self.inner.trail(id))
    }
    async fn events(&self, after: u64, limit: usize) -> Result<Vec<(u64, SpendEvent)>, PostError> {
        now(self.inner.events(after, limit))
    }
    async fn walk(&self, filter: Filter, to: Sender<Recorded>) -> Result<(), PostError> {
        self.inner.walk(filter, to).await
    }
    async fn fact(&self, key: &str) -> Result<Option<Fact>, PostError> {
        now(self.inner.fact(key))
    }
    async fn facts(&self, prefix: &str) -> Result<Vec<(String, Fact)>, PostError> {
        now(self.inner.facts(prefix))
    }
    async fn verify(&self) -> Result<Report, PostError> {
        now(self.inner.verify())
    }
    async fn newest(&self) -> Result<Timestamp, PostError> {
        now(self.inner.newest())
    }
}
