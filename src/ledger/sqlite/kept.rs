//! What nobody waits for and could not be stored: receipts above all. Forgotten, a payment would be one without a
//! receipt, and its end might give back what was taken. So it is entered when the storage works again, before
//! anything else is promised.

use crate::ledger::sealed::has_room;
use crate::ledger::{PostError, Posted, Then};

use super::group::{Entered, Group, Reply};
use super::packed::Packed;
use super::store::Fault;
use super::tables::Tables;
use super::writer::Writer;

/// One of them.
pub(super) struct Kept {
    packed: Packed,
    then: Then,
}

impl Writer {
    /// Tells everybody what became of a group. Who waits is told that nothing is promised where it was not
    /// stored; the rest is kept.
    pub(super) fn answer(&mut self, group: Group, outcome: &Result<(), PostError>) {
        for Entered {
            answer,
            reply,
            packed,
            ..
        } in group.posts
        {
            match outcome {
                Ok(()) => reply.tell(answer),
                Err(why) => self.keep(packed, reply, why),
            }
        }
        for flush in group.flushes {
            drop(flush.send(outcome.clone()));
        }
    }

    fn keep(&mut self, packed: Packed, reply: Reply, why: &PostError) {
        match reply {
            Reply::Soon(then)
                if matches!(why, PostError::Unavailable(_))
                    && has_room(self.kept.len(), &packed) =>
            {
                self.shared.owe(packed.claims);
                self.kept.push(Kept { packed, then });
            }
            reply => reply.tell(Err(why.clone())),
        }
    }

    /// Enters what was kept, in its order. What was stored all the same, though its commit failed, changes nothing
    /// the second time.
    pub(super) fn catch_up(&mut self, tables: &mut Tables) -> Result<(), Fault> {
        let Some(newest) = self.kept.iter().map(|k| k.packed.time).max() else {
            return tables.free();
        };
        let answers = self.kept.iter().map(|k| tables.enter(&k.packed));
        let answers = answers.collect::<Result<Vec<_>, Fault>>()?;
        let changed = tables.commit()?;
        let newest = newest.max(self.shared.newest());
        self.shared.committed(newest, changed);
        tracing::warn!(
            posts = answers.len(),
            "the ledger entered what could not be stored before"
        );
        self.shared.owe_nothing();
        for (kept, answer) in self.kept.drain(..).zip(answers) {
            (kept.then)(answer.map_err(PostError::Rejected));
        }
        Ok(())
    }

    /// At the end: one more try, whenever the next one was to be. Then there is nobody left to keep it.
    pub(super) fn settle_debts(&mut self) {
        if self.kept.is_empty() {
            return;
        }
        self.try_again();
        let why = self.shared.healthy().err();
        self.give_up(&why.unwrap_or_else(super::stopped));
    }

    /// Tells all of them that nobody will store them: what they say is logged then.
    pub(super) fn give_up(&mut self, why: &PostError) {
        self.shared.owe_nothing();
        for kept in self.kept.drain(..) {
            (kept.then)(Err::<Posted, _>(why.clone()));
        }
    }
}
