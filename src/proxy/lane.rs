//! One client connection's way to its upstreams.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::Proxy;
use super::interim::Interim;
use super::pool::{H1, Key, Pool};
use super::timer::Spare;

/// One client connection's way to its upstreams.
pub(super) struct Lane {
    /// Does the client speak HTTP/2? Then so do we, where the upstream can.
    pub(super) h2: bool,
    /// For what upstreams say before their answers, to a client of HTTP/1.
    pub(super) interim: Option<Arc<Interim>>,
    /// The HTTP/1.1 connection of the last request, kept while the client stays.
    last: Mutex<Option<Last>>,
    pool: Arc<Pool>,
    /// For the wait for an answer.
    pub(super) timer: Spare,
    /// For the silences of a body. Apart, as a timer that is set to an earlier time takes a lock.
    pub(super) silence: Spare,
}

/// The connection of the last request.
struct Last {
    key: Key,
    sender: H1,
    /// Since somebody last looked.
    used: bool,
}

impl Lane {
    /// Among all lanes of the proxy, where its connection may have one of its own.
    pub(super) fn new(h2: bool, proxy: &Proxy) -> Arc<Self> {
        let lane = Arc::new(Self {
            h2,
            interim: (!h2).then(|| Interim::new(proxy.via.as_ref())),
            last: Mutex::new(None),
            pool: Arc::clone(&proxy.pool),
            timer: Spare::default(),
            silence: Spare::default(),
        });
        if !h2 {
            proxy.lanes.add(&lane);
        }
        lane
    }

    pub(super) fn take(&self) -> Option<(Key, H1)> {
        let Last { key, sender, .. } = self.lock().take()?;
        Some((key, sender))
    }

    /// The connection goes on with this client's next request.
    pub(super) fn keep(&self, key: Key, sender: H1) {
        *self.lock() = Some(Last {
            key,
            sender,
            used: true,
        });
    }

    /// Whoever has not asked since the last time, and waits for no answer, shares its connection.
    fn rest(&self) {
        let mut last = self.lock();
        let idle = last.take_if(|last| !std::mem::take(&mut last.used) && last.sender.is_ready());
        drop(last);
        if let Some(Last { key, sender, .. }) = idle {
            self.pool.put(key, sender);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Last>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some((key, sender)) = self.take()
            && sender.is_ready()
        {
            self.pool.put(key, sender);
        }
    }
}

/// How often it is looked for clients that do not ask. What a client has for itself costs about as much
/// memory as the client, and many wait for minutes between two requests.
pub(super) const REST: Duration = Duration::from_millis(500);

/// All lanes that may have an upstream connection of their own.
#[derive(Default)]
pub(super) struct Lanes(Mutex<(Vec<Weak<Lane>>, Option<Instant>)>);

impl Lanes {
    fn add(&self, lane: &Arc<Lane>) {
        self.lock().0.push(Arc::downgrade(lane));
    }

    /// Takes what clients leave unused for `REST` or twice that long back to where others find it.
    pub(super) fn rest(&self) {
        let mut lanes = self.lock();
        let (all, last) = &mut *lanes;
        // Every door calls.
        if last.is_some_and(|last| last.elapsed() < REST / 2) {
            return;
        }
        *last = Some(Instant::now());
        all.retain(|lane| lane.upgrade().inspect(|lane| lane.rest()).is_some());
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<Weak<Lane>>, Option<Instant>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
