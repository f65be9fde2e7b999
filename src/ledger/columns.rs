//! What the columns of a database hold, and what the judge says where something does not fit into them.

use crate::budget::{Book, Change, Counted, Entry, Mark, Reject, judge};
use crate::payment::PaymentId;

/// Owner of a nonce that is stored already. By whom it was used does not matter to the judge.
pub(in crate::ledger) const STORED: PaymentId = PaymentId(u128::MAX);

/// A bucket has a second for its number; [`verdict`] refuses what does not fit.
pub(in crate::ledger) fn bucket_number(bucket: u64) -> i64 {
    i64::try_from(bucket).unwrap_or(i64::MAX)
}

/// The judge's verdict; a bucket beyond what a column holds is refused like any other number that
/// does not fit.
pub(in crate::ledger) fn verdict(book: &Book, entry: &Entry) -> Result<Change, Reject> {
    let change = judge(book, entry)?;
    let fits = |(mark, _): &(Mark, Option<Counted>)| i64::try_from(mark.1).is_ok();
    if change.counted.iter().all(fits) {
        Ok(change)
    } else {
        Err(Reject::Overflow)
    }
}
