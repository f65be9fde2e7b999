//! Chance from a seed, and a crowd of tasks of which chance picks the next to go on.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

/// SplitMix64: small, and the same everywhere.
pub(crate) struct Chance(Mutex<u64>);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `end`.
    pub(crate) fn below(&self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn of<'a, T>(&self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }
}

/// Lets others go first, once.
pub(crate) async fn pause() {
    let mut done = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut done, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// To the end, in one step: nobody else of the crowd goes on meanwhile.
pub(crate) fn now<T>(question: impl Future<Output = T>) -> T {
    let mut question = std::pin::pin!(question);
    let woken = Arc::new(Wakes {
        thread: std::thread::current(),
        again: AtomicBool::new(false),
    });
    let waker = Waker::from(Arc::clone(&woken));
    loop {
        if let Poll::Ready(answer) = question.as_mut().poll(&mut Context::from_waker(&waker)) {
            return answer;
        }
        while !woken.again.swap(false, Ordering::AcqRel) {
            std::thread::park();
        }
    }
}

struct Wakes {
    thread: Thread,
    again: AtomicBool,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.again.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Tasks that never wait for anything but each other: whoever is picked may go on.
#[derive(Default)]
pub(crate) struct Crowd(Vec<Pin<Box<dyn Future<Output = ()>>>>);

impl Crowd {
    pub(crate) fn add(&mut self, task: impl Future<Output = ()> + 'static) {
        self.0.push(Box::pin(task));
    }

    /// Takes one task to its next pause. False when none is left.
    pub(crate) fn step(&mut self, chance: &Chance) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let picked = chance.below(self.0.len() as u64) as usize;
        let mut context = Context::from_waker(Waker::noop());
        if self.0[picked].as_mut().poll(&mut context).is_ready() {
            drop(self.0.swap_remove(picked));
        }
        true
    }
}
