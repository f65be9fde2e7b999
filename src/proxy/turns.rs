//! What a session may do so many times at once: others of its own wait, and those of no other session do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Semaphore;

/// The same bound for each session.
pub(super) struct Turns {
    at_once: usize,
    sessions: Mutex<HashMap<Arc<str>, Weak<Semaphore>>>,
}

impl Turns {
    pub(super) fn new(at_once: usize) -> Self {
        Self {
            at_once,
            sessions: Mutex::default(),
        }
    }

    /// Where this session waits. Whoever has a permit keeps this too: it is forgotten with its last user.
    pub(super) fn of(&self, session: &Arc<str>) -> Arc<Semaphore> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = sessions.get(session).and_then(Weak::upgrade) {
            return own;
        }
        sessions.retain(|_, own| own.strong_count() > 0);
        let own = Arc::new(Semaphore::new(self.at_once));
        sessions.insert(Arc::clone(session), Arc::downgrade(&own));
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_one_bound_while_somebody_uses_it() {
        let turns = Turns::new(1);
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        let permit = turns.of(&one).try_acquire_owned().unwrap();
        assert!(turns.of(&one).try_acquire().is_err());
        assert!(turns.of(&other).try_acquire().is_ok());
        drop(permit);
        drop(turns.of(&other));
        assert_eq!(
            turns.sessions.lock().unwrap().len(),
            1,
            "the last one that asked"
        );
    }
}
