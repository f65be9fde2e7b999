//! The whole file against its records.

use rusqlite::Connection;

use crate::ledger::Report;
use crate::ledger::audit::{Audit, Seen};
use crate::ledger::sealed::number_of_hash;
use crate::payment::PaymentId;

use super::facts;
use super::nonces;
use super::payments;
use super::store::{self, Fault};

/// Walks every record and compares every row, on one state of the file while others write.
pub(super) fn verify(connection: &Connection) -> Result<Report, Fault> {
    connection.execute_batch("BEGIN")?;
    let report = walk(connection);
    connection.execute_batch("COMMIT")?;
    report
}

fn walk(connection: &Connection) -> Result<Report, Fault> {
    let mut audit = Audit::new(&store::id(connection)?);
    for problem in structure(connection)? {
        audit.problem(format!("the file: {problem}"));
    }
    let sql = format!(
        "SELECT {} FROM record r ORDER BY seq",
        store::record_columns()
    );
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        audit.record(&store::record(row)?);
    }
    audit.check_head(store::head(connection)?);
    audit.check_counted(all(connection, "counted", store::COUNTED, store::counted)?.into_iter());
    let payments = all(connection, "payment", payments::COLUMNS, |row| {
        let (id, last, payment) = payments::row(row)?;
        let whole = |payment| payments::whole(connection, id, last, payment);
        let payment = payment.map(whole).transpose()?;
        Ok((id, Seen::new(last, payment.as_ref())))
    })?;
    audit.check_payments(payments.into_iter());
    for id in astray(connection)? {
        audit.astray(id);
    }
    audit.check_nonces(number_of_hash, nonces::all(connection)?.into_iter());
    audit.check_sessions(store::sessions(connection)?.into_iter());
    audit.check_facts(facts::all(connection)?.into_iter());
    Ok(audit.report())
}

/// Payments that lists and sums do not find, as their newest record names another or none.
const ASTRAY: &str = "SELECT p.id FROM payment p JOIN record r ON r.seq = p.last
  WHERE r.event IS NOT NULL AND r.payment IS NOT p.id LIMIT 20";

fn astray(connection: &Connection) -> Result<Vec<PaymentId>, Fault> {
    let mut statement = connection.prepare(ASTRAY)?;
    let ids =
        statement.query_and_then([], |row| Ok(PaymentId(u128::from_be_bytes(row.get(0)?))))?;
    ids.collect()
}

/// What SQLite itself finds wrong with trees and indexes.
fn structure(connection: &Connection) -> Result<Vec<String>, Fault> {
    let mut statement = connection.prepare("PRAGMA integrity_check(5)")?;
    let rows = statement.query_map([], |r| r.get::<_, String>(0))?;
    let lines: Vec<String> = rows.collect::<Result<_, _>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

fn all<T>(
    connection: &Connection,
    table: &str,
    columns: &str,
    read: impl Fn(&rusqlite::Row<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut statement = connection.prepare(&format!("SELECT {columns} FROM {table}"))?;
    let rows = statement.query_and_then([], read)?;
    rows.collect()
}
