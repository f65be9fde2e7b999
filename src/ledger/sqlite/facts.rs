//! Rows of the table of facts.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::budget::Fact;

use super::store::Fault;

fn fact(row: &Row<'_>) -> Result<(String, Fact), Fault> {
    let body: String = row.get(1)?;
    Ok((row.get(0)?, serde_json::from_str(&body)?))
}

/// One fact, by its key.
pub(super) fn at(connection: &Connection, key: &str) -> Result<Option<Fact>, Fault> {
    let mut statement = connection.prepare_cached("SELECT body FROM fact WHERE key = ?1")?;
    let body: Option<String> = statement.query_row([key], |r| r.get(0)).optional()?;
    Ok(body.map(|b| serde_json::from_str(&b)).transpose()?)
}

/// At most so many facts whose keys begin so, in the order of their keys.
pub(super) fn below(
    connection: &Connection,
    prefix: &str,
    most: usize,
) -> Result<Vec<(String, Fact)>, Fault> {
    let sql = "SELECT key, body FROM fact WHERE key >= ?1 ORDER BY key";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_and_then([prefix], fact)?;
    let here = |row: &Result<(String, Fact), Fault>| match row {
        Ok((key, _)) => key.starts_with(prefix),
        Err(_) => true,
    };
    rows.take_while(here).take(most).collect()
}

pub(super) fn all(connection: &Connection) -> Result<Vec<(String, Fact)>, Fault> {
    below(connection, "", usize::MAX)
}

pub(super) fn save(connection: &Connection, key: &str, fact: Option<&Fact>) -> Result<(), Fault> {
    let Some(fact) = fact else {
        let mut statement = connection.prepare_cached("DELETE FROM fact WHERE key = ?1")?;
        statement.execute([key])?;
        return Ok(());
    };
    let mut statement = connection.prepare_cached("INSERT OR REPLACE INTO fact VALUES (?1, ?2)")?;
    statement.execute(params![key, serde_json::to_string(fact)?])?;
    Ok(())
}
