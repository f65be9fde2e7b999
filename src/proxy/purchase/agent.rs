//! The agent, as long as it waits for a paid answer.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::payer::{Payer, Waiting};

/// The agent, as long as it waits. Dropping it means that it hung up.
pub(in crate::proxy) struct Agent {
    pub(in crate::proxy) waiting: Arc<Waiting>,
    payer: Arc<Payer>,
    answered: bool,
}

impl Agent {
    pub(in crate::proxy) fn new(payer: &Arc<Payer>) -> Self {
        Self {
            waiting: Arc::default(),
            payer: Arc::clone(payer),
            answered: false,
        }
    }

    /// It has its answer.
    pub(in crate::proxy) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        self.waiting.leave();
        // Without a runtime everything ends, and nothing is in flight.
        if let Ok(runtime) = Handle::try_current() {
            let (payer, waiting) = (Arc::clone(&self.payer), Arc::clone(&self.waiting));
            runtime.spawn(async move { payer.abandoned(waiting).await });
        }
    }
}
