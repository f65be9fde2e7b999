//! Interim answers on one stream of HTTP/2, between whoever hears them and the stream's task.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use http::{HeaderMap, Response, StatusCode, Version};

use super::{HEADS_MAX, cleaned, length};

/// Bytes that are said on a stream in all, as nobody can tell which of them its agent has read.
const ROOM: usize = 128 << 10;

/// What each takes at least, of `ROOM`: so that no more of them are said on a stream than on a connection.
const HEAD_ROOM: usize = ROOM / HEADS_MAX as usize;

/// For what is said before the answer on one stream of HTTP/2; goes with the request.
#[derive(Clone)]
pub(in crate::proxy) struct Sink(Arc<Said>);

struct Said {
    queue: Mutex<Queue>,
    via: Option<Arc<str>>,
}

struct Queue {
    heads: Vec<Response<()>>,
    /// Bytes that may still be said.
    room: usize,
    /// The stream's task.
    task: Option<Waker>,
}

impl Sink {
    pub(in crate::proxy) fn new(via: Option<&Arc<str>>) -> Self {
        let queue = Queue {
            heads: vec![],
            room: ROOM,
            task: None,
        };
        Self(Arc::new(Said {
            queue: Mutex::new(queue),
            via: via.cloned(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn say(&self, status: StatusCode, version: Version, fields: &HeaderMap) {
        self.put(status, cleaned(fields, version, self.0.via.as_deref()));
    }

    /// Says in our own name that the body may come.
    pub(in crate::proxy) fn wants_body(&self) {
        self.put(StatusCode::CONTINUE, HeaderMap::new());
    }

    fn put(&self, status: StatusCode, fields: HeaderMap) {
        let size = length(&fields).max(HEAD_ROOM);
        let mut queue = self.lock();
        let Some(room) = queue.room.checked_sub(size) else {
            return;
        };
        queue.room = room;
        let mut head = Response::new(());
        (*head.status_mut(), *head.headers_mut()) = (status, fields);
        queue.heads.push(head);
        let task = queue.task.clone();
        drop(queue);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// What was said since; wakes the task when there is more.
    pub(in crate::proxy) fn said(&self, cx: &Context<'_>) -> Vec<Response<()>> {
        let mut queue = self.lock();
        if !queue.task.as_ref().is_some_and(|t| t.will_wake(cx.waker())) {
            queue.task = Some(cx.waker().clone());
        }
        std::mem::take(&mut queue.heads)
    }
}
