//! Nonces that were ever used. They are random: put into its place at once, each would touch a page of
//! its own, and most of what a group writes would be these pages. So they are kept in the order of
//! their coming first, and put into their places some thousand at a time.

use std::collections::HashSet;

use rusqlite::Connection;

use super::filter::Filter;
use super::store::Fault;

/// Nonces that wait for their places, in the file and in memory. Moving them takes some milliseconds.
const WAITING_MAX: usize = 4096;

/// Came with version 4: a row for each group, eight bytes for each nonce.
pub(super) const SCHEMA: &str =
    "CREATE TABLE waiting(seq INTEGER PRIMARY KEY, hashes BLOB NOT NULL) STRICT;";
/// Version 3 had a row for each nonce that waits.
pub(super) const FROM_3: &str =
    "INSERT OR IGNORE INTO nonce SELECT hash FROM new_nonce ORDER BY hash; DROP TABLE new_nonce;";

/// Above so many at the start none is known to be new without asking.
const FILTERED_MAX: usize = 1_000_000;

/// The nonces that wait for their places, and which others may have theirs.
pub(super) struct Nonces {
    waiting: HashSet<i64>,
    placed: Option<Filter>,
}

impl Nonces {
    pub(super) fn open(connection: &Connection) -> Result<Self, Fault> {
        Ok(Self {
            waiting: waiting(connection)?.into_iter().collect(),
            placed: placed(connection)?,
        })
    }

    /// Was anything ever reserved under it, in what is committed?
    pub(super) fn used(&self, connection: &Connection, number: i64) -> Result<bool, Fault> {
        if self.waiting.contains(&number) {
            return Ok(true);
        }
        let certainly_new = |placed: &Filter| !placed.may_have(number.cast_unsigned());
        if self.placed.as_ref().is_some_and(certainly_new) {
            return Ok(false);
        }
        let mut statement = connection.prepare_cached("SELECT 1 FROM nonce WHERE hash = ?1")?;
        Ok(statement.exists([number])?)
    }

    /// Notes some, which are new.
    pub(super) fn save(&mut self, connection: &Connection, numbers: &[i64]) -> Result<(), Fault> {
        if numbers.is_empty() {
            return Ok(());
        }
        let mut statement = connection.prepare_cached("INSERT INTO waiting(hashes) VALUES (?1)")?;
        let hashes: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
        statement.execute([hashes])?;
        self.waiting.extend(numbers);
        Ok(())
    }

    /// Puts those that wait into their places when there are enough of them. Two of one group may have the
    /// same number, if somebody looked for such nonces: both are new, and one place is enough.
    pub(super) fn sort(&mut self, connection: &Connection) -> Result<(), Fault> {
        if self.waiting.len() < WAITING_MAX {
            return Ok(());
        }
        let mut places = connection.prepare_cached("INSERT OR IGNORE INTO nonce VALUES (?1)")?;
        let mut sorted: Vec<i64> = self.waiting.iter().copied().collect();
        sorted.sort_unstable();
        for number in sorted {
            places.execute([number])?;
            if let Some(placed) = &mut self.placed {
                placed.put(number.cast_unsigned());
            }
        }
        connection
            .prepare_cached("DELETE FROM waiting")?
            .execute([])?;
        self.waiting.clear();
        Ok(())
    }
}

/// Those that have their places, unless they are too many.
fn placed(connection: &Connection) -> Result<Option<Filter>, Fault> {
    let mut filter = Filter::new();
    let mut statement = connection.prepare("SELECT hash FROM nonce LIMIT ?1")?;
    let mut rows = statement.query([FILTERED_MAX + 1])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        count += 1;
        filter.put(row.get::<_, i64>(0)?.cast_unsigned());
    }
    Ok((count <= FILTERED_MAX).then_some(filter))
}

/// Those that wait.
fn waiting(connection: &Connection) -> Result<Vec<i64>, Fault> {
    let mut statement = connection.prepare("SELECT hashes FROM waiting")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let hashes: Vec<u8> = row.get(0)?;
        let (numbers, []) = hashes.as_chunks() else {
            return Err(Fault::Value("hashes"));
        };
        found.extend(numbers.iter().map(|n| i64::from_be_bytes(*n)));
    }
    Ok(found)
}

/// All of them, in no order.
pub(super) fn all(connection: &Connection) -> Result<Vec<i64>, Fault> {
    let mut statement = connection.prepare("SELECT hash FROM nonce")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    let mut found = rows.collect::<Result<Vec<_>, _>>()?;
    found.extend(waiting(connection)?);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::sealed::number_of;

    #[test]
    fn a_nonce_is_known_before_and_after_it_has_its_place() {
        let connection = Connection::open_in_memory().unwrap();
        let tables = "CREATE TABLE nonce(hash INTEGER PRIMARY KEY) STRICT;";
        connection.execute_batch(tables).unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        let mut nonces = Nonces::open(&connection).unwrap();
        let name = |n: usize| number_of(&format!("nonce {n}"));
        for n in 0..WAITING_MAX + 10 {
            assert!(!nonces.used(&connection, name(n)).unwrap(), "{n}");
            nonces.save(&connection, &[name(n)]).unwrap();
            nonces.sort(&connection).unwrap();
        }
        assert_eq!(nonces.waiting.len(), 10, "the others have their places");
        // Two nonces of one number, which nobody would find by chance.
        nonces.save(&connection, &[7, 7]).unwrap();
        for n in 0..WAITING_MAX {
            let more = number_of(&format!("more {n}"));
            nonces.save(&connection, &[more]).unwrap();
        }
        nonces.sort(&connection).unwrap();
        // As a start finds it.
        let nonces = Nonces::open(&connection).unwrap();
        for n in 0..WAITING_MAX + 10 {
            assert!(nonces.used(&connection, name(n)).unwrap(), "{n}");
        }
        assert!(!nonces.used(&connection, number_of("another")).unwrap());
        assert_eq!(all(&connection).unwrap().len(), 2 * WAITING_MAX + 11);
    }
}
