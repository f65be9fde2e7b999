//! Idle upstream connections. Keyed by session, so that no session rides another's connection.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use super::h1::H1;
use super::h2;
use super::tally::Tally;
use super::target::Target;
use super::trail::Trail;
use crate::tls::Trust;

/// Whose connection to where (threat T-14).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) session: Arc<str>,
    pub(super) secure: bool,
    pub(super) target: Target,
    /// How its agent came here.
    pub(super) trail: Trail,
    /// Whether it is verified, and which certificate of ours it may see.
    pub(super) trust: Trust,
}

pub(super) type H2 = h2::ask::Sender;

/// What one attempt at HTTP/2 found out about a host.
#[derive(Clone)]
pub(super) enum Spoken {
    /// It speaks HTTP/2: one connection carries every stream of a session.
    H2(H2),
    /// It chose HTTP/1.1.
    OnlyH1,
}

/// Requests at once on one connection of HTTP/2; further ones take another. No fewer are allowed by servers that do as
/// RFC 9113 section 6.5.2 asks, and one more than a server allows would wait for another's end.
const STREAMS: usize = 100;

/// A place among the requests of one connection.
#[derive(Clone)]
pub(super) struct Place {
    taken: Arc<Taken>,
}

struct Taken(Arc<AtomicUsize>);

impl Place {
    fn take(streams: &Arc<AtomicUsize>) -> Self {
        streams.fetch_add(1, Ordering::Relaxed);
        Self {
            taken: Arc::new(Taken(Arc::clone(streams))),
        }
    }

    /// All requests on its connection.
    pub(super) fn all(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.taken.0)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection of HTTP/2 of a session and host, or the place where it will be once somebody opened it.
#[derive(Clone)]
struct Line {
    cell: Arc<OnceCell<Spoken>>,
    /// Requests on it.
    streams: Arc<AtomicUsize>,
    used: Instant,
}

impl Line {
    fn new() -> Self {
        Self {
            cell: Arc::default(),
            streams: Arc::default(),
            used: Instant::now(),
        }
    }

    /// It, and a place on it.
    fn taken(&self) -> (Arc<OnceCell<Spoken>>, Place) {
        (Arc::clone(&self.cell), Place::take(&self.streams))
    }

    fn is_closed(&self) -> bool {
        matches!(self.cell.get(), Some(Spoken::H2(sender)) if sender.is_closed())
    }
}

/// Connections kept in all, of each version: about 20 KiB each, so that thousands of hosts, each asked once, leave
/// the process below 40 MB.
const IDLE_TOTAL: usize = 512;

#[derive(Default)]
struct Shelves {
    /// Each with the moment at which it is too old.
    h1: HashMap<Key, Vec<(H1, Instant)>>,
    h1_total: usize,
    h2: HashMap<Key, Vec<Line>>,
    /// Hosts that refused a handshake for HTTP/1.1.
    not_h1: HashSet<Key>,
}

impl Shelves {
    /// Makes room. Whoever uses that connection goes on with it; the next one opens another.
    fn forget_oldest(&mut self) {
        let used = |lines: &[Line]| lines.iter().map(|line| line.used).max();
        let oldest = self.h2.iter().min_by_key(|(_, lines)| used(lines));
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.h2.remove(&key);
        }
    }
}

/// Connections that wait for their next request.
pub(super) struct Pool {
    /// What is counted on the way to merchants, and on the way here.
    pub(super) tally: Tally,
    shelves: Mutex<Shelves>,
    idle: Duration,
    per_key: usize,
}

impl Pool {
    /// Keeps up to `per_key` connections of each key for up to `idle`.
    pub(super) fn new(idle: Duration, per_key: usize) -> Self {
        Self {
            tally: Tally::default(),
            shelves: Mutex::default(),
            idle,
            per_key,
        }
    }

    /// Connections that are kept: idle ones of HTTP/1.1, and all of HTTP/2.
    pub(super) fn kept(&self) -> (usize, usize) {
        let shelves = self.lock();
        let h2 = shelves.h2.values().flatten();
        let open = h2.filter(|line| matches!(line.cell.get(), Some(Spoken::H2(_))));
        (
            shelves.h1_total,
            open.filter(|line| !line.is_closed()).count(),
        )
    }

    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection used last, if one is ready.
    pub(super) fn take(&self, key: &Key) -> Option<H1> {
        let mut shelves = self.lock();
        let Shelves { h1, h1_total, .. } = &mut *shelves;
        let shelf = h1.get_mut(key)?;
        while let Some((sender, until)) = shelf.pop() {
            *h1_total = h1_total.saturating_sub(1);
            if sender.is_ready() && Instant::now() < until {
                return Some(sender);
            }
        }
        h1.remove(key);
        None
    }

    /// Keeps a connection for its next request, unless there are enough. Its merchant waits for that no longer than
    /// `rest`.
    pub(super) fn put(&self, key: Key, sender: H1, rest: Duration) {
        let mut shelves = self.lock();
        if sender.is_closed() || shelves.h1_total >= IDLE_TOTAL || rest.is_zero() {
            return;
        }
        let shelf = shelves.h1.entry(key).or_default();
        if shelf.len() < self.per_key {
            shelf.push((sender, Instant::now() + self.idle.min(rest)));
            shelves.h1_total += 1;
        }
    }

    /// Where an HTTP/2 connection of this key is, or will be once somebody opened it, that has room for one more
    /// request; and its place there.
    pub(super) fn h2(&self, key: &Key) -> (Arc<OnceCell<Spoken>>, Place) {
        let mut shelves = self.lock();
        if shelves.h2.len() >= IDLE_TOTAL && !shelves.h2.contains_key(key) {
            shelves.forget_oldest();
        }
        // Looked up by a borrowed key first: most requests find what they need.
        let lines = match shelves.h2.get_mut(key) {
            Some(lines) => lines,
            None => shelves.h2.entry(key.clone()).or_default(),
        };
        lines.retain(|line| !line.is_closed());
        let room = |line: &&mut Line| line.streams.load(Ordering::Relaxed) < STREAMS;
        if let Some(line) = lines.iter_mut().find(room) {
            line.used = Instant::now();
            return line.taken();
        }
        let line = Line::new();
        let taken = line.taken();
        lines.push(line);
        taken
    }

    /// Remembers that a host wants HTTP/1.1, whatever it said when it was connected to.
    pub(super) fn note_not_h2(&self, key: &Key) {
        let cell = Arc::new(OnceCell::new_with(Some(Spoken::OnlyH1)));
        let line = Line {
            cell,
            ..Line::new()
        };
        self.lock().h2.insert(key.clone(), vec![line]);
    }

    /// Remembers that a host speaks HTTP/2 only, so that no agent of HTTP/1.1 asks it in vain again.
    pub(super) fn note_not_h1(&self, key: &Key) {
        let mut shelves = self.lock();
        if shelves.not_h1.len() >= IDLE_TOTAL {
            shelves.not_h1.clear();
        }
        shelves.not_h1.insert(key.clone());
    }

    pub(super) fn is_not_h1(&self, key: &Key) -> bool {
        let shelves = self.lock();
        !shelves.not_h1.is_empty() && shelves.not_h1.contains(key)
    }

    /// Drops what has waited for too long. Called every now and then.
    pub(super) fn sweep(&self) {
        let mut shelves = self.lock();
        let (idle, now) = (self.idle, Instant::now());
        shelves.h1.retain(|_, shelf| {
            shelf.retain(|(sender, until)| now < *until && !sender.is_closed());
            !shelf.is_empty()
        });
        shelves.h1_total = shelves.h1.values().map(Vec::len).sum();
        shelves.h2.retain(|_, lines| {
            lines.retain(|line| !line.is_closed() && line.used.elapsed() < idle);
            !lines.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioIo;

    use super::*;
    use crate::settings::Tls;
    use crate::tls::UpstreamTls;

    fn key(session: &str, host: &str, tls: &UpstreamTls) -> Key {
        Key {
            session: session.into(),
            secure: true,
            target: Target::parse(host, Some(443)).unwrap(),
            trail: Trail::default(),
            trust: tls.trust(host, 443),
        }
    }

    /// A connection to nobody, which stays open as long as its other end is kept.
    async fn connection() -> (H1, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(64);
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(near));
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        (H1::new(sender, Arc::default()), far)
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_per_host_in_all_and_in_time() {
        let tls = UpstreamTls::new(&Tls::default(), None).unwrap();
        let pool = Pool::new(Duration::from_secs(60), 2);
        let (a, b) = (key("s", "a.test", &tls), key("t", "a.test", &tls));
        let mut ends = vec![];
        for _ in 0..3 {
            let (mut sender, end) = connection().await;
            assert!(sender.ready().await);
            pool.put(a.clone(), sender, Duration::MAX);
            ends.push(end);
        }
        assert_eq!(pool.lock().h1_total, 2, "two for a session and host");
        assert!(pool.take(&b).is_none(), "another session's");
        assert!(pool.take(&a).is_some() && pool.take(&a).is_some());
        assert!(pool.take(&a).is_none() && pool.lock().h1_total == 0);

        for n in 0..IDLE_TOTAL + 5 {
            drop(pool.h2(&key("s", &format!("h{n}.test"), &tls)));
        }
        assert_eq!(pool.lock().h2.len(), IDLE_TOTAL);
        let newest = key("s", &format!("h{}.test", IDLE_TOTAL + 4), &tls);
        assert!(pool.lock().h2.contains_key(&newest));
        assert!(
            !pool.lock().h2.contains_key(&key("s", "h0.test", &tls)),
            "the oldest made room"
        );

        let pool = Pool::new(Duration::ZERO, 2);
        let (mut sender, end) = connection().await;
        assert!(sender.ready().await);
        pool.put(a.clone(), sender, Duration::MAX);
        let places: Vec<_> = (0..=STREAMS).map(|_| pool.h2(&a)).collect();
        let cells: HashSet<_> = places.iter().map(|(cell, _)| Arc::as_ptr(cell)).collect();
        assert_eq!(cells.len(), 2, "one more than one connection carries");
        drop(places);
        let (one, two) = (pool.h2(&a).0, pool.h2(&a).0);
        assert!(Arc::ptr_eq(&one, &two) && pool.lock().h2[&a].len() == 2);
        pool.sweep();
        assert_eq!(pool.lock().h1_total, 0, "too old");
        assert_eq!(pool.lock().h2.len(), 0, "too old");
        drop((ends, end));
    }
}
