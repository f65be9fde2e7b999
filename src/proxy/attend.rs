//! Listeners beside the data plane: a bounded number of connections at once, and at the end some time for
//! what was begun. Whoever has not shown yet what it wants gives way to who comes: agents reach these listeners
//! too, and would else keep an operator out (threats D-01, K-01).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

use super::accepting::Accepting;
use super::turned;

/// How many may be served at once, and how long they are waited for at the end.
pub struct Manners {
    /// Connections at once. Others wait.
    pub connections: usize,
    /// For what is being answered when it ends.
    pub farewell: Duration,
}

/// A connection as its listener knows it: while all places are taken, the oldest that nobody has asked to stay
/// is ended for the next.
#[derive(Clone, Default)]
pub struct Guest(Arc<Mutex<Stay>>);

/// How long a guest keeps its place whoever comes.
#[derive(Clone, Copy, Default)]
enum Stay {
    #[default]
    No,
    Until(Instant),
    Always,
}

/// While this is there a guest stays.
pub struct Busy(Guest);

impl Guest {
    /// It has shown that it is one of those for whom the listener is there.
    pub fn stays(&self) {
        self.set(Stay::Always);
    }

    /// It stays for what it asked, so long at most, and may go again afterwards.
    #[must_use]
    pub fn busy(&self, most: Duration) -> Busy {
        self.set(Stay::Until(Instant::now() + most));
        Busy(self.clone())
    }

    fn may_go(&self) -> bool {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Stay::No => true,
            Stay::Until(end) => end <= Instant::now(),
            Stay::Always => false,
        }
    }

    fn set(&self, stay: Stay) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*now, Stay::Always) {
            *now = stay;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(Stay::No);
    }
}

/// Between two looks for a guest who may go, while nobody may.
const LOOK: Duration = Duration::from_millis(50);

/// Those that are served, in the order of their coming.
struct House {
    places: Arc<Semaphore>,
    guests: VecDeque<(Guest, AbortHandle)>,
}

impl House {
    /// A place for one more, if need be that of a guest who may go. Waits while nobody may.
    async fn place(&mut self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        loop {
            self.guests.retain(|(_, task)| !task.is_finished());
            if let Some(oldest) = self.guests.iter().position(|(guest, _)| guest.may_go())
                && let Some((_, task)) = self.guests.remove(oldest)
            {
                task.abort();
            }
            let place = Arc::clone(&self.places).acquire_owned();
            if let Ok(place) = timeout(LOOK, place).await {
                return place.ok();
            }
        }
    }
}

/// Serves each connection by `client`, in a task of its own, until `over` turns true.
pub async fn attend<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    manners: Manners,
    mut over: watch::Receiver<bool>,
    client: impl Fn(TcpStream, Guest) -> F,
) {
    let mut house = House {
        places: Arc::new(Semaphore::new(manners.connections)),
        guests: VecDeque::new(),
    };
    let mut clients = JoinSet::new();
    let mut accepting = Accepting::default();
    loop {
        let accepted = tokio::select! {
            () = turned(&mut over) => break,
            Some(_) = clients.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(e) => {
                accepting.failed(&e).await;
                continue;
            }
        };
        accepting.succeeded();
        let place = tokio::select! {
            () = turned(&mut over) => break,
            place = house.place() => place,
        };
        let guest = Guest::default();
        let served = client(stream, guest.clone());
        let task = clients.spawn(async move {
            let _place = place;
            served.await;
        });
        house.guests.push_back((guest, task));
        if house.guests.len() > 2 * manners.connections {
            house.guests.retain(|(_, task)| !task.is_finished());
        }
    }
    // What was begun is answered: a session that was opened without an answer is nobody's.
    let answered = async { while clients.join_next().await.is_some() {} };
    let _ = timeout(manners.farewell, answered).await;
    clients.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_stays_while_it_is_busy_and_not_for_ever() {
        const MOST: Duration = Duration::from_secs(20);
        let guest = Guest::default();
        assert!(guest.may_go());
        let busy = guest.busy(MOST);
        assert!(!guest.may_go());
        drop(busy);
        assert!(guest.may_go());
        let _slow = guest.busy(Duration::ZERO);
        assert!(guest.may_go(), "it reads nothing of its answer");
        guest.stays();
        drop(guest.busy(MOST));
        assert!(!guest.may_go());
    }
}
