//! Posts that nobody waits for, and that never count more than before. They wait a moment: for a commit
//! that somebody else waits for, and for what may still be said of the same payment, as both are one record
//! then.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use crate::budget::Entry;
use crate::ledger::{Post, PostError, Then};

use super::group::{Group, Reply};
use super::packed::Packed;
use super::writer::Writer;

/// How long a post waits when nothing else is committed.
const SOON: Duration = Duration::from_millis(3);
/// How long it waits in any case: the end of a short answer follows its head within this.
const RIPE: Duration = Duration::from_millis(1);
/// Among so many of the newest it is looked for one about the same payment.
const LOOKS: usize = 32;

/// The queue.
#[derive(Default)]
pub(super) struct Soon(Mutex<VecDeque<Waiting>>);

struct Waiting {
    post: Post,
    then: Then,
    place: OwnedSemaphorePermit,
    since: Instant,
}

/// Which of them it is time for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Ripe,
    All,
}

/// May others be judged before it? Only what never counts more than before.
pub(super) fn may_wait(post: &Post) -> bool {
    let gentle = |entry: &Entry| {
        matches!(
            entry,
            Entry::Settle { .. } | Entry::Release { .. } | Entry::Note { .. }
        )
    };
    post.entries.iter().all(gentle)
}

impl Soon {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a post in. Is the writer to be called? It was when the first of those that wait came.
    pub(super) fn put(&self, post: Post, then: Then, place: OwnedSemaphorePermit) -> bool {
        let mut queue = self.lock();
        let about = |post: &Post| post.entries.iter().find_map(Entry::payment);
        let mut newest = queue.iter_mut().rev().take(LOOKS);
        // The last about its payment: another one between the two would be taken for newer than this.
        let last = newest.find(|waiting| about(&waiting.post) == about(&post));
        if let Some(last) = last.filter(|last| last.is_continued_by(&post)) {
            last.goes_on(post, then);
            return false;
        }
        queue.push_back(Waiting {
            post,
            then,
            place,
            since: Instant::now(),
        });
        queue.len() == 1
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// When the first of them has waited long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.lock().front().map(|first| first.since + SOON)
    }

    fn taken(&self, which: Which) -> VecDeque<Waiting> {
        let mut queue = self.lock();
        let now = Instant::now();
        let old = |waiting: &Waiting| now.duration_since(waiting.since) >= RIPE;
        let count = match which {
            Which::All => queue.len(),
            // In the order of their coming.
            Which::Ripe => queue.iter().take_while(|w| old(w)).count(),
        };
        let left = queue.split_off(count);
        std::mem::replace(&mut *queue, left)
    }

    /// Tells all of them that nobody will store them.
    pub(super) fn give_up(&self, why: &PostError) {
        let given_up = self.taken(Which::All);
        given_up
            .into_iter()
            .for_each(|w| (w.then)(Err(why.clone())));
    }
}

impl Waiting {
    /// Is this post, of the same payment, the same record with more in it? It enters nothing, and its event
    /// has the same state.
    fn is_continued_by(&self, post: &Post) -> bool {
        let ([Entry::Note { id }], Some(old), Some(new)) =
            (&*post.entries, &self.post.event, &post.event)
        else {
            return false;
        };
        new.id == *id && old.id == *id && old.state == new.state
    }

    fn goes_on(&mut self, post: Post, then: Then) {
        self.post.time = self.post.time.max(post.time);
        self.post.event = post.event;
        let nobody: Then = Box::new(|_| {});
        let before = std::mem::replace(&mut self.then, nobody);
        self.then = Box::new(move |answer| {
            before(answer.clone());
            then(answer);
        });
    }
}

impl Writer {
    /// Enters those whose time has come.
    pub(super) fn enter_soon(&mut self, group: &mut Group, which: Which) {
        for Waiting {
            post, then, place, ..
        } in self.soon.taken(which)
        {
            match Packed::new(post) {
                Ok(packed) => {
                    group.newest(packed.time);
                    let answer = self.enter(&packed);
                    group.put(answer, Reply::Soon(then), packed, place);
                }
                Err(e) => then(Err(PostError::Unavailable(e.to_string()))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;
    use crate::clock::Timestamp;
    use crate::event::{SpendEvent, State};
    use crate::ledger::Posted;
    use crate::money::Usd;
    use crate::payment::PaymentId;

    fn post(entry: Entry, state: State, length: u64) -> Post {
        let id = entry.payment().unwrap();
        Post {
            time: Timestamp(length),
            entries: vec![entry],
            event: Some(SpendEvent {
                id,
                state,
                path: format!("/{length}"),
                ..SpendEvent::default()
            }),
        }
    }

    fn settle(id: u128) -> Entry {
        Entry::Settle {
            id: PaymentId(id),
            charged: Usd(1),
        }
    }

    fn note(id: u128) -> Entry {
        Entry::Note { id: PaymentId(id) }
    }

    #[test]
    fn what_is_said_of_one_payment_is_one_record_and_everybody_is_told() {
        let (soon, told) = (Soon::default(), Arc::new(AtomicUsize::new(0)));
        let places = Arc::new(Semaphore::new(9));
        let put = |post| {
            let told = Arc::clone(&told);
            let then = move |_: Result<Posted, PostError>| {
                told.fetch_add(1, Ordering::Relaxed);
            };
            let place = Arc::clone(&places).try_acquire_owned().unwrap();
            soon.put(post, Box::new(then), place)
        };
        assert!(
            put(post(settle(1), State::Settled, 1)),
            "the first one calls"
        );
        assert!(!put(post(settle(2), State::Settled, 2)));
        assert!(!put(post(note(1), State::Settled, 3)));
        // Another state, other entries, something else in between: records of their own.
        put(post(note(2), State::Unknown, 4));
        put(post(settle(1), State::Settled, 5));
        put(post(note(2), State::Settled, 6));
        assert_eq!(places.available_permits(), 9 - 5, "one place each");

        assert!(soon.taken(Which::Ripe).is_empty());
        let all = soon.taken(Which::All);
        let entries = all.iter().map(|w| w.post.entries.clone());
        let expected = [settle(1), settle(2), note(2), settle(1), note(2)].map(|e| vec![e]);
        assert_eq!(entries.collect::<Vec<_>>(), expected);
        let first = &all[0].post;
        assert_eq!(first.time, Timestamp(3));
        assert_eq!(first.event.as_ref().unwrap().path, "/3");
        all.into_iter()
            .for_each(|w| (w.then)(Err(PostError::Unavailable(String::new()))));
        assert_eq!(told.load(Ordering::Relaxed), 6);
        assert!(soon.due().is_none());
        assert!(put(post(note(3), State::Denied, 6)), "called anew");
    }

    #[test]
    fn what_could_count_more_waits_for_nothing() {
        let waits = |entries| {
            let event = None;
            may_wait(&Post {
                time: Timestamp(1),
                entries,
                event,
            })
        };
        assert!(waits(vec![settle(1), note(1)]));
        let more = Entry::Recount {
            id: PaymentId(1),
            charged: Usd(5),
        };
        assert!(!waits(vec![note(1), more]));
    }
}
