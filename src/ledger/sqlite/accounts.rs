//! What counts in accounts of a kind. Buckets of long ago are skipped, not read: an account may have
//! one for each minute of a year.

use rusqlite::{Connection, OptionalExtension as _};

use crate::ledger::fullest::{Accounts, Fullest};

use super::store::{self, Fault};

/// The first account whose name is this one or comes after it.
fn at(connection: &Connection, sql: &str, name: &str) -> Result<Option<String>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([name], |r| r.get(0)).optional()?)
}

/// The accounts whose names begin so, with their sums from bucket `first` on; `most` of them by name.
pub(super) fn below(
    connection: &Connection,
    prefix: &str,
    first: u64,
    most: usize,
) -> Result<Accounts, Fault> {
    const HERE: &str = "SELECT account FROM counted WHERE account >= ?1 ORDER BY account LIMIT 1";
    const NEXT: &str = "SELECT account FROM counted WHERE account > ?1 ORDER BY account LIMIT 1";
    let mut fullest = Fullest::new(most);
    let mut next = at(connection, HERE, prefix)?;
    while let Some(account) = next.take_if(|name| name.starts_with(prefix)) {
        let counted = store::total(connection, &account, first)?;
        next = at(connection, NEXT, &account)?;
        fullest.put(account, counted);
    }
    Ok(fullest.done())
}
