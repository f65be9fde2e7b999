//! Where on a chain an authorization was spent. It can only have been within its validity, so that is
//! where to look: by time first, then by log.

use super::rpc::Node;
use super::words::{Block, Log};
use super::{Authorization, ChainError};

/// Seconds before its making from which on it is looked for: the chain's clock may differ from ours.
const EARLIER: u64 = 900;

/// Blocks that are asked about at once. Nodes refuse longer rows, some already much shorter ones.
const ROW: u64 = 1000;

/// Less than this is not tried.
const ROW_MIN: u64 = 10;

/// Most questions of one search: an hour's validity at four blocks a second has 15 rows of 1000.
const QUESTIONS: u32 = 100;

/// The log that tells of it, up to block `end`; `None` when there is none.
pub(super) async fn find(
    node: &Node,
    end: &Block,
    about: &Authorization,
) -> Result<Option<Log>, ChainError> {
    let mut left = QUESTIONS;
    let since = about.since.saturating_sub(EARLIER);
    let mut first = first_after(node, end, since, &mut left).await?;
    let mut row = ROW;
    while first <= end.number {
        spend(node, &mut left)?;
        let last = first.saturating_add(row - 1).min(end.number);
        let mut found = match node.spendings(about, first, last).await {
            // Some nodes refuse long rows.
            Err(ChainError::Refused { .. }) if row > ROW_MIN => {
                row /= 10;
                continue;
            }
            other => other?,
        };
        match (found.pop(), found.is_empty()) {
            (Some(log), true) => return Ok(Some(log)),
            (Some(_), false) => return Err(node.contradiction("one nonce was spent twice")),
            (None, _) => {}
        }
        if last == end.number || past(node, last, about, &mut left).await? {
            return Ok(None);
        }
        first = last.saturating_add(1);
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
    let mut left = QUESTIONS;
    let since = about.since.saturating_sub(EARLIER);
    let mut first = first_after(node, end, since, &mut left).await?;
    let (mut row, mut all) = (ROW, vec![]);
    while first <= end.number && left > 1 {
        left -= 1;
        let last = first.saturating_add(row - 1).min(end.number);
        match node.movements(about, first, last).await {
            Err(ChainError::Refused { .. }) if row > ROW_MIN => {
                row /= 10;
                continue;
            }
            found => all.append(&mut found?),
        }
        if last == end.number || past(node, last, about, &mut left).await? {
            break;
        }
        first = last.saturating_add(1);
    }
    Ok(all)
}

/// The first block that is not older than `since`.
async fn first_after(
    node: &Node,
    end: &Block,
    since: u64,
    left: &mut u32,
) -> Result<u64, ChainError> {
    // Backwards with growing steps, since most payments are young.
    let (mut high, mut step) = (*end, 64u64);
    let mut low = loop {
        if high.timestamp < since {
            break high;
        }
        if high.number == 0 {
            return Ok(0);
        }
        spend(node, left)?;
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
        spend(node, left)?;
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

/// From this block on it cannot be used.
async fn past(
    node: &Node,
    block: u64,
    about: &Authorization,
    left: &mut u32,
) -> Result<bool, ChainError> {
    spend(node, left)?;
    // Permit2 still takes it in the second in which it ends.
    Ok(node.block(block).await?.timestamp > about.valid_before)
}

fn in_order(node: &Node, older: &Block, newer: &Block) -> Result<(), ChainError> {
    match older.timestamp <= newer.timestamp {
        true => Ok(()),
        false => Err(node.contradiction("an older block is younger")),
    }
}

fn spend(node: &Node, left: &mut u32) -> Result<(), ChainError> {
    *left = left
        .checked_sub(1)
        .ok_or_else(|| node.contradiction("the search does not end"))?;
    Ok(())
}
