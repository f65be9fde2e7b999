//! One client connection's way to its upstreams.

use std::sync::{Arc, Mutex, PoisonError};

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
    last: Mutex<Option<(Key, H1)>>,
    pool: Arc<Pool>,
    /// For the wait for an answer.
    pub(super) timer: Spare,
    /// For the silences of a body. Apart, as a timer that is set to an earlier time takes a lock.
    pub(super) silence: Spare,
}

impl Lane {
    pub(super) fn new(h2: bool, proxy: &Proxy) -> Self {
        Self {
            h2,
            interim: (!h2).then(|| Interim::new(proxy.via.as_ref())),
            last: Mutex::new(None),
            pool: Arc::clone(&proxy.pool),
            timer: Spare::default(),
            silence: Spare::default(),
        }
    }

    pub(super) fn take(&self) -> Option<(Key, H1)> {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// The connection goes on with this client's next request.
    pub(super) fn keep(&self, key: Key, sender: H1) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((key, sender));
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
