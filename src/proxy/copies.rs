//! Parts of bodies that are kept in memory: in few pieces, and with a bound on all of them together (threat D-06).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::tee::NotReplayable;
use super::turns::Turns;

/// A piece that is shorter is copied: kept as it is, each byte of it could hold a buffer of the connection.
const SMALL: usize = 2048;
/// Copied pieces are put together up to so many bytes.
const BLOCK: usize = 8192;

/// Pieces in the order of their coming.
#[derive(Default)]
pub(super) struct Gathered {
    pieces: VecDeque<Bytes>,
    small: BytesMut,
}

impl Gathered {
    pub(super) fn push(&mut self, piece: &Bytes) {
        if piece.len() >= SMALL {
            self.close();
            self.pieces.push_back(piece.clone());
            return;
        }
        if self.small.len() + piece.len() > BLOCK {
            self.close();
        }
        self.small.extend_from_slice(piece);
    }

    fn close(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push_back(self.small.split().freeze());
        }
    }

    /// All of them; nothing is left.
    pub(super) fn take(&mut self) -> VecDeque<Bytes> {
        self.close();
        self.small = BytesMut::new();
        std::mem::take(&mut self.pieces)
    }
}

/// How many bytes may be kept by now: of all bodies together, and of one session (see [`Turns`]).
pub(super) struct Budget {
    all: AtomicUsize,
    sessions: Turns,
    /// What one body can have of it at most.
    most: usize,
    /// A body that is no longer than this takes nothing of it.
    spared: usize,
}

/// Bytes that somebody keeps; given back when they are dropped.
pub(super) struct Share {
    budget: Arc<Budget>,
    session: Arc<str>,
    bytes: usize,
    /// As many permits, of what the session may keep.
    own: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// No session keeps more than half of them, or than one body, so that it is never what stops all others.
    pub(super) fn new((bytes, body): (usize, usize), spared: usize) -> Arc<Self> {
        let session = bytes.div_ceil(2).max(body).min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            all: AtomicUsize::new(bytes),
            sessions: Turns::new(session),
            most: bytes.min(session),
            spared,
        })
    }

    /// A share of nothing, which may grow.
    pub(super) fn share(self: &Arc<Self>, session: &Arc<str>) -> Share {
        Share {
            budget: Arc::clone(self),
            session: Arc::clone(session),
            bytes: 0,
            own: None,
        }
    }
}

impl Share {
    /// Takes what a body needs that is so long by now, if there is so much.
    pub(super) fn hold(&mut self, length: usize) -> bool {
        if length < self.bytes {
            self.clear();
        }
        length <= self.budget.spared || self.grow(length.saturating_sub(self.bytes))
    }

    /// Takes more, if there is so much.
    fn grow(&mut self, bytes: usize) -> bool {
        let Ok(permits) = u32::try_from(bytes) else {
            return false;
        };
        let session = match &self.own {
            Some(own) => Arc::clone(own.semaphore()),
            None => self.budget.sessions.of(&self.session),
        };
        let Ok(more) = session.try_acquire_many_owned(permits) else {
            return false;
        };
        let left = |left: usize| left.checked_sub(bytes);
        let all = &self.budget.all;
        let taken = all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        if taken.is_ok() {
            self.bytes += bytes;
            match &mut self.own {
                Some(own) => own.merge(more),
                none => *none = Some(more),
            }
        }
        taken.is_ok()
    }

    /// Could there ever be so much?
    fn may_be(&self, bytes: usize) -> bool {
        bytes <= self.budget.most
    }

    /// Counts a body that has `length` bytes by now and may have `most`.
    ///
    /// # Errors
    /// [`NotReplayable::TooLong`] or [`NotReplayable::Crowded`].
    pub(super) fn keep(
        share: Option<&mut Self>,
        (length, most): (usize, usize),
    ) -> Result<(), NotReplayable> {
        let (room, fits) = share.map_or((true, true), |share| {
            (share.hold(length), share.may_be(length))
        });
        match (length <= most, room) {
            (true, true) => Ok(()),
            (true, false) if fits => Err(NotReplayable::Crowded),
            (true, false) | (false, _) => Err(NotReplayable::TooLong),
        }
    }

    /// Gives all of it back.
    fn clear(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.own = None;
        self.budget.all.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_become_few() {
        let mut gathered = Gathered::default();
        let text: Vec<u8> = (0..40_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let (small, large) = text.split_at(30_000);
        for piece in small.chunks(1).chain(large.chunks(SMALL)) {
            gathered.push(&Bytes::copy_from_slice(piece));
        }
        let pieces = gathered.take();
        assert!(pieces.len() < 12, "{}", pieces.len());
        assert_eq!(pieces.iter().flatten().copied().collect::<Vec<u8>>(), text);
        assert!(gathered.take().is_empty());
    }

    #[test]
    fn a_budget_holds_and_what_is_dropped_is_given_back() {
        let budget = Budget::new((10, 10), 0);
        let session: Arc<str> = "a".into();
        let (mut one, mut other) = (budget.share(&session), budget.share(&session));
        assert!(one.grow(6) && other.grow(4));
        assert!(!other.grow(1));
        drop(one);
        assert!(other.grow(6) && !other.grow(1));
        other.clear();
        assert!(other.grow(10));
    }

    #[test]
    fn a_session_leaves_half_to_others_unless_one_body_is_more() {
        let share = |budget: &Arc<Budget>, session: &str| budget.share(&session.into());
        let budget = Budget::new((10, 3), 0);
        let (mut one, mut again) = (share(&budget, "a"), share(&budget, "a"));
        assert!(one.grow(3) && again.grow(1));
        assert!(!again.grow(2));
        let mut other = share(&budget, "b");
        assert!(other.grow(5) && !other.grow(1));
        one.clear();
        assert!(again.grow(4) && !again.grow(1));
        assert!(share(&Budget::new((10, 8), 0), "a").grow(8));
        assert!(share(&budget, "a").may_be(5) && !share(&budget, "a").may_be(6));
        assert!(!share(&Budget::new((4, 8), 0), "a").may_be(5));
    }

    #[test]
    fn a_short_body_takes_nothing_and_one_that_shrinks_gives_back() {
        let budget = Budget::new((10, 10), 3);
        let session: Arc<str> = "a".into();
        let (mut one, mut other) = (budget.share(&session), budget.share(&session));
        assert!(one.hold(10) && !other.hold(4) && other.hold(3));
        assert!(one.hold(4) && other.hold(6) && !other.hold(7));
        assert!(one.hold(2) && other.hold(10));
    }
}
