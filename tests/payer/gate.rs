//! A ledger that stops whoever asks it for one payment, so that somebody else comes first.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use farepass::budget::{Counted, Fact, Frozen, Payment};
use farepass::clock::Timestamp;
use farepass::event::SpendEvent;
use farepass::event::export::Recorded;
use farepass::ledger::{
    Accounts, Filter, Ledger, Post, PostError, Posted, Reader, Report, SessionRow, Then, Trail,
};
use farepass::payment::{PaymentId, SessionId};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

/// What the gate waits for is kept from happening when the code is right, so it does not wait for ever.
const PATIENCE: Duration = Duration::from_millis(300);

pub(crate) struct Gate {
    inner: Arc<dyn Ledger>,
    shut: AtomicBool,
    /// What is found of any payment, as long as nothing new can be stored.
    pub(crate) stale: Mutex<Option<SpendEvent>>,
    /// Somebody stands before it.
    pub(crate) reached: Notify,
    /// They may go on.
    pub(crate) open: Notify,
}

impl Gate {
    pub(crate) fn new(inner: Arc<dyn Ledger>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            shut: AtomicBool::new(false),
            stale: Mutex::default(),
            reached: Notify::new(),
            open: Notify::new(),
        })
    }

    /// The next one who has been answered about one payment waits before it goes on.
    pub(crate) fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
    }
}

#[async_trait]
impl Reader for Gate {
    async fn session(&self, id: &SessionId) -> Result<Option<SessionRow>, PostError> {
        self.inner.session(id).await
    }
    async fn session_by_secret(&self, sha256: &str) -> Result<Option<SessionRow>, PostError> {
        self.inner.session_by_secret(sha256).await
    }
    async fn sessions(&self) -> Result<Vec<SessionRow>, PostError> {
        self.inner.sessions().await
    }
    async fn counted(&self, account: &str, first: u64) -> Result<Counted, PostError> {
        self.inner.counted(account, first).await
    }
    async fn accounts(&self, prefix: &str, first: u64, most: usize) -> Result<Accounts, PostError> {
        self.inner.accounts(prefix, first, most).await
    }
    async fn open(&self) -> Result<Vec<(Payment, SpendEvent)>, PostError> {
        self.inner.open().await
    }
    async fn booked(&self, id: PaymentId) -> Result<Option<(Payment, SpendEvent)>, PostError> {
        self.inner.booked(id).await
    }
    async fn payment(&self, id: PaymentId) -> Result<Option<SpendEvent>, PostError> {
        let stale = self.stale.lock().unwrap().clone();
        if stale.is_some() {
            return Ok(stale);
        }
        let found = self.inner.payment(id).await;
        if self.shut.swap(false, Ordering::SeqCst) {
            self.reached.notify_one();
            let _ = timeout(PATIENCE, self.open.notified()).await;
        }
        found
    }
    async fn ids(
        &self,
        range: RangeInclusive<PaymentId>,
        most: usize,
    ) -> Result<Vec<PaymentId>, PostError> {
        self.inner.ids(range, most).await
    }
    async fn payments(&self, filter: Filter) -> Result<Vec<SpendEvent>, PostError> {
        self.inner.payments(filter).await
    }
    async fn trail(&self, id: PaymentId) -> Result<Trail, PostError> {
        self.inner.trail(id).await
    }
    async fn events(&self, after: u64, limit: usize) -> Result<Vec<(u64, SpendEvent)>, PostError> {
        self.inner.events(after, limit).await
    }
    async fn walk(&self, filter: Filter, rows: mpsc::Sender<Recorded>) -> Result<(), PostError> {
        self.inner.walk(filter, rows).await
    }
    async fn fact(&self, key: &str) -> Result<Option<Fact>, PostError> {
        self.inner.fact(key).await
    }
    async fn facts(&self, prefix: &str) -> Result<Vec<(String, Fact)>, PostError> {
        self.inner.facts(prefix).await
    }
    async fn verify(&self) -> Result<Report, PostError> {
        self.inner.verify().await
    }
    async fn newest(&self) -> Result<Timestamp, PostError> {
        self.inner.newest().await
    }
}

#[async_trait]
impl Ledger for Gate {
    async fn post(&self, post: Post) -> Result<Posted, PostError> {
        self.inner.post(post).await
    }
    async fn post_soon(&self, post: Post, then: Then) {
        self.inner.post_soon(post, then).await;
    }
    async fn flush(&self) -> Result<(), PostError> {
        self.inner.flush().await
    }
    fn frozen(&self, host: &str, agent: &str) -> Option<Frozen> {
        self.inner.frozen(host, agent)
    }
    fn healthy(&self) -> Result<(), PostError> {
        self.inner.healthy()
    }
}
