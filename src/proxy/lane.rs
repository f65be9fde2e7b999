//! One client connection's way to its upstreams.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName};

use super::Proxy;
use super::h1::H1;
use super::interim::Interim;
use super::pool::{Key, Pool};
use super::target::Target;
use super::timer::Spare;
use crate::protocol::RECEIPT_HEADERS;

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
    /// Was the operator told of a receipt that nobody paid for?
    told: AtomicBool,
    /// For the silences of a body. Apart, as a timer that is set to an earlier time takes a lock.
    pub(super) silence: Spare,
}

/// The connection of the last request.
struct Last {
    key: Key,
    /// Not while it carries a request.
    sender: Option<H1>,
    /// How long its merchant waits for the next one.
    rest: Duration,
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
            told: AtomicBool::new(false),
            silence: Spare::default(),
        });
        if !h2 {
            proxy.lanes.add(&lane);
        }
        lane
    }

    /// Is neither the body of a request nor that of an answer on its way?
    pub(super) fn has_no_body(&self) -> bool {
        self.silence.is_alone()
    }

    /// A receipt for nothing moves no sum; the operator hears of it once for each connection (threat X-20).
    pub(super) fn unasked(&self, target: &Target, headers: &HeaderMap) {
        // Compared, not looked up: an answer has few fields, and every answer comes through here.
        let known = |name: &HeaderName| RECEIPT_HEADERS.contains(&name.as_str());
        if headers.keys().any(known) && !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(%target, "a receipt came with an answer that nobody paid for; it is ignored");
        }
    }

    /// The connection of the last request, if this one goes to the same place; others find it otherwise.
    pub(super) fn take(&self, key: &Key) -> Option<H1> {
        let other = match &mut *self.lock() {
            Some(last) if last.key == *key => return last.sender.take(),
            last => last.take(),
        };
        self.leave(other);
        None
    }

    /// The connection goes on with this client's next request, for which its merchant waits for `rest`.
    pub(super) fn keep(&self, key: &Key, sender: H1, rest: Duration) {
        let last = &mut *self.lock();
        match last {
            Some(last) if last.key == *key => {
                last.sender = Some(sender);
                last.rest = rest;
                last.used = true;
            }
            Some(_) | None => {
                *last = Some(Last {
                    key: key.clone(),
                    sender: Some(sender),
                    rest,
                    used: true,
                });
            }
        }
    }

    /// Gives a connection that waits for nothing to whoever needs one.
    fn leave(&self, last: Option<Last>) {
        if let Some(Last {
            key,
            sender: Some(sender),
            rest,
            ..
        }) = last
            && sender.is_ready()
        {
            // It may have waited here for two looks.
            self.pool.put(key, sender, rest.saturating_sub(REST * 2));
        }
    }

    /// Whoever has not asked since the last time, and waits for no answer, shares its connection.
    fn rest(&self) {
        let ready = |last: &Last| last.sender.as_ref().is_some_and(H1::is_ready);
        let idle = |last: &mut Last| !std::mem::take(&mut last.used) && ready(last);
        let idle = self.lock().take_if(idle);
        self.leave(idle);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Last>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let last = self.lock().take();
        self.leave(last);
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
