//! The agent, as long as it waits for a paid answer.

use std::sync::Arc;

use crate::payer::Waiting;

/// The agent, as long as it waits. Dropping it means that it hung up.
#[derive(Default)]
pub(in crate::proxy) struct Agent {
    pub(in crate::proxy) waiting: Arc<Waiting>,
    answered: bool,
}

impl Agent {
    /// It has its answer.
    pub(in crate::proxy) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if !self.answered {
            self.waiting.leave();
        }
    }
}
