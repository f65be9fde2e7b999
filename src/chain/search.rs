//! Where on a chain an authorization was spent. It can only have been within its validity, so that is
//! where to look: by time first, then by log.

use super::rpc::Node;
use super::words::{Block, Log};
use super::{Authorization, ChainError};
use crate::fetch::FetchError;

/// Seconds before its making from which on it is looked for: the chain's clock may differ from ours.
const EARLIER: u64 = 900;

/// Blocks that are asked about at once. Nodes refuse longer rows, some already much shorter ones.
const ROW: u64 = 1000;

/// Less than this is not tried.
const ROW_MIN: u64 = 10;

/// Most questions for logs in one search: an hour's validity has 225 rows of the shortest on a chain of two
/// seconds, and 18 of the longest on one of a quarter of a second.
const QUESTIONS: u32 = 250;

/// The log that tells of it, up to block `end`; `None` when there is none.
pub(super) async fn find(
    node: &Node,
    end: &Block,
    about: &Authorization,
) -> Result<Option<Log>, ChainError> {
    let mut rows = Rows::of(node, end, about).await?;
    while let Some((first, last)) = rows.next() {
        rows.spend()?;
        let logs = node.spendings(about, first, last).await;
        let mut found = rows.answered(last, logs)?;
        match (found.pop(), found.is_empty()) {
            (Some(log), true) => return Ok(Some(log)),
            (Some(_), false) => return Err(node.contradiction("one nonce was spent twice")),
            (None, _) => {}
        }
    }
    Ok(None)
}

/// What moved the token from payer to payee while it could be used, the newest last. As much as can be
/// asked for: whoever finds nothing in it knows nothing.
pub(super) async fn movements(
    node: &Node,
    end: &Block,
    about: &Authorization,
) -> Result<Vec<Log>, ChainError> {
    let mut rows = Rows::of(node, end, about).await?;
    let mut all = vec![];
    while let Some((first, last)) = rows.next()
        && rows.spend().is_ok()
    {
        let logs = node.movements(about, first, last).await;
        all.append(&mut rows.answered(last, logs)?);
    }
    Ok(all)
}

/// The blocks in which it can have been used, in rows as long as the node allows.
struct Rows<'a> {
    node: &'a Node,
    first: u64,
    last: u64,
    length: u64,
    left: u32,
}

impl<'a> Rows<'a> {
    async fn of(node: &'a Node, end: &Block, about: &Authorization) -> Result<Self, ChainError> {
        let since = about.since.saturating_sub(EARLIER);
        // Permit2 still takes it in the second in which it ends.
        let over = about.valid_before.saturating_add(1);
        let first = first_after(node, end, since).await?;
        let last = first_after(node, end, over).await?;
        Ok(Self {
            node,
            first,
            last: last.min(end.number),
            length: ROW,
            left: QUESTIONS,
        })
    }

    /// The first and the last block of the next row.
    fn next(&self) -> Option<(u64, u64)> {
        let last = self.first.saturating_add(self.length - 1).min(self.last);
        (self.first <= self.last).then_some((self.first, last))
    }

    /// The logs of the row that ends there: none yet when it has to be asked for in shorter ones.
    fn answered(
        &mut self,
        last: u64,
        logs: Result<Vec<Log>, ChainError>,
    ) -> Result<Vec<Log>, ChainError> {
        match logs {
            // Some nodes refuse long rows.
            Err(ChainError::Refused { .. } | ChainError::Fetch(FetchError::TooLong { .. }))
                if self.length > ROW_MIN =>
            {
                self.length /= 10;
                Ok(vec![])
            }
            Err(error) => Err(error),
            Ok(logs) => {
                self.first = last.saturating_add(1);
                Ok(logs)
            }
        }
    }

    fn spend(&mut self) -> Result<(), ChainError> {
        let endless = || ChainError::Endless {
            host: self.node.host(),
            most: QUESTIONS,
        };
        self.left = self.left.checked_sub(1).ok_or_else(endless)?;
        Ok(())
    }
}

/// The first block up to `end` that is not older than `since`, else the one after it. Whatever the numbers are,
/// that takes 30 steps back and 62 halvings at most; for a payment of yesterday it takes some 20 questions.
async fn first_after(node: &Node, end: &Block, since: u64) -> Result<u64, ChainError> {
    // Backwards with growing steps, since most payments are young.
    let (mut high, mut step) = (*end, 64u64);
    let mut low = loop {
        if high.timestamp < since {
            break high;
        }
        if high.number == 0 {
            return Ok(0);
        }
        let earlier = node.block(high.number.saturating_sub(step)).await?;
        in_order(node, &earlier, &high)?;
        if earlier.timestamp < since {
            break earlier;
        }
        high = earlier;
        step = step.saturating_mul(4);
    };
    if low.number == end.number {
        return Ok(end.number.saturating_add(1));
    }
    // `low` is too old, `high` is not.
    while high.number.saturating_sub(low.number) > 1 {
        let middle = node.block(low.number.midpoint(high.number)).await?;
        in_order(node, &low, &middle)?;
        in_order(node, &middle, &high)?;
        match middle.timestamp < since {
            true => low = middle,
            false => high = middle,
        }
    }
    Ok(high.number)
}

fn in_order(node: &Node, older: &Block, newer: &Block) -> Result<(), ChainError> {
    match older.timestamp <= newer.timestamp {
        true => Ok(()),
        false => Err(node.contradiction("an older block is younger")),
    }
}
