//! A walk through the newest records of all payments, from one state of the book, however long whoever receives
//! them takes. It is no single statement: that would keep the log from being moved into the file as long as it
//! lasts, and a ledger that failed from getting well.

use rusqlite::Connection;
use tokio::sync::mpsc;

use crate::event::export::Recorded;
use crate::ledger::Filter;

use super::packed::TEXTS;
use super::read::{first_at, recorded};
use super::store::{self, Fault};

/// Records that are read in one go.
const PAGE: usize = 256;

/// `seq, hash` and [`TEXTS`] of records from `?1` on, the newest of their payments when `?2` was the newest of
/// all. A payment that changed since is followed back to where it was then.
fn page() -> String {
    format!(
        "SELECT r.seq, r.hash, {TEXTS} FROM record r JOIN payment p ON p.id = r.payment
         WHERE r.event IS NOT NULL AND r.seq BETWEEN ?1 AND ?2
           AND r.seq = CASE WHEN p.last <= ?2 THEN p.last ELSE (
             WITH RECURSIVE back(seq) AS (
               SELECT p.last
               UNION ALL SELECT x.before FROM back b JOIN record x ON x.seq = b.seq
               WHERE b.seq > ?2 AND x.before IS NOT NULL)
             SELECT min(seq) FROM back) END
         ORDER BY r.seq LIMIT {PAGE}"
    )
}

/// Gives what fits, the one that changed last at the end.
pub(super) fn walk(
    connection: &Connection,
    filter: &Filter,
    rows: &mpsc::Sender<Recorded>,
) -> Result<(), Fault> {
    let end = store::head(connection)?.seq;
    let first = filter.changed.map(|at| first_at(connection, at));
    let mut first = first.transpose()?.unwrap_or(0);
    let mut statement = connection.prepare_cached(&page())?;
    let mut left = filter.most();
    loop {
        let found = statement.query_and_then([first, end.cast_signed()], recorded)?;
        // All of them, so that nothing is held while somebody waits.
        let found = found.collect::<Result<Vec<_>, Fault>>()?;
        let Some(last) = found.last().filter(|_| found.len() == PAGE) else {
            give(found, filter, &mut left, rows);
            return Ok(());
        };
        first = last.record_seq.cast_signed().saturating_add(1);
        if !give(found, filter, &mut left, rows) {
            return Ok(());
        }
    }
}

/// Are more wanted?
fn give(
    found: Vec<Recorded>,
    filter: &Filter,
    left: &mut usize,
    rows: &mpsc::Sender<Recorded>,
) -> bool {
    for recorded in found {
        if !filter.fits(&recorded.event) {
            continue;
        }
        let Some(next) = left.checked_sub(1) else {
            return false;
        };
        *left = next;
        if rows.blocking_send(recorded).is_err() {
            return false;
        }
    }
    true
}
