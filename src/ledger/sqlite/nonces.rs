//! Nonces that were ever used. They are random: put into its place at once, each would touch a page of
//! its own, and most of what a group writes would be these pages. So they are kept in the order of
//! their coming first. Once there are many they are put into their places in the order of their numbers, a few with
//! each group, so that those of a page come together and nobody waits for all of them.

use std::collections::HashSet;

use rusqlite::Connection;

use super::filter::Filter;
use super::store::Fault;

/// So many that wait are put into their places, in the file and in memory.
const WAITING_MAX: usize = 16_384;
/// So many find their places for each that comes meanwhile: all have theirs before as many wait again.
const PACE: usize = 4;
/// At least so many at once.
const SLICE: usize = 128;

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
    leaving: Leaving,
    placed: Option<Filter>,
}

/// Those that are being put into their places. Until the last of them has its own, their rows stay: a start in the
/// middle begins anew with all of them.
#[derive(Default)]
struct Leaving {
    all: HashSet<i64>,
    /// What is left of them, the next one at the end.
    queue: Vec<i64>,
    /// Their newest row.
    until: i64,
    /// How many may be put into their places by now.
    due: usize,
}

impl Nonces {
    pub(super) fn open(connection: &Connection) -> Result<Self, Fault> {
        Ok(Self {
            waiting: waiting(connection)?.into_iter().collect(),
            leaving: Leaving::default(),
            placed: placed(connection)?,
        })
    }

    /// Was anything ever reserved under it, in what is committed?
    pub(super) fn used(&self, connection: &Connection, number: i64) -> Result<bool, Fault> {
        if self.waiting.contains(&number) || self.leaving.all.contains(&number) {
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
        self.leaving.due += numbers.len() * PACE;
        Ok(())
    }

    /// Puts some into their places when it is time. Two of one group may have the same number, if somebody looked
    /// for such nonces: both are new, and one place is enough.
    pub(super) fn sort(&mut self, connection: &Connection) -> Result<(), Fault> {
        if self.leaving.all.is_empty() {
            if self.waiting.len() < WAITING_MAX {
                return Ok(());
            }
            self.leaving = Leaving::begin(std::mem::take(&mut self.waiting), connection)?;
        }
        if self.leaving.due < SLICE {
            return Ok(());
        }
        let mut places = connection.prepare_cached("INSERT OR IGNORE INTO nonce VALUES (?1)")?;
        let left = self.leaving.queue.len().saturating_sub(self.leaving.due);
        self.leaving.due = 0;
        for number in self.leaving.queue.drain(left..).rev() {
            places.execute([number])?;
            if let Some(placed) = &mut self.placed {
                placed.put(number.cast_unsigned());
            }
        }
        if self.leaving.queue.is_empty() {
            let gone = "DELETE FROM waiting WHERE seq <= ?1";
            (connection.prepare_cached(gone)?).execute([self.leaving.until])?;
            self.leaving = Leaving::default();
        }
        Ok(())
    }
}

impl Leaving {
    fn begin(all: HashSet<i64>, connection: &Connection) -> Result<Self, Fault> {
        let newest = "SELECT ifnull(max(seq), 0) FROM waiting";
        let mut queue: Vec<i64> = all.iter().copied().collect();
        queue.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Self {
            all,
            queue,
            until: connection
                .prepare_cached(newest)?
                .query_row([], |r| r.get(0))?,
            due: 0,
        })
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

    fn name(n: usize) -> i64 {
        number_of(&format!("nonce {n}"))
    }

    #[test]
    fn a_nonce_is_known_before_while_and_after_it_finds_its_place() {
        let connection = Connection::open_in_memory().unwrap();
        let tables = "CREATE TABLE nonce(hash INTEGER PRIMARY KEY) STRICT;";
        connection.execute_batch(tables).unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        let mut nonces = Nonces::open(&connection).unwrap();
        let rows = |table: &str| -> usize {
            let sql = format!("SELECT count(*) FROM {table}");
            connection.query_row(&sql, [], |r| r.get(0)).unwrap()
        };
        let mut next = 0;
        let mut come = |nonces: &mut Nonces, count: usize| {
            for _ in 0..count {
                assert!(!nonces.used(&connection, name(next)).unwrap(), "{next}");
                // Two nonces of one number, which nobody would find by chance.
                nonces.save(&connection, &[name(next), name(next)]).unwrap();
                nonces.sort(&connection).unwrap();
                next += 1;
            }
            for n in 0..next {
                assert!(nonces.used(&connection, name(n)).unwrap(), "{n} of {next}");
            }
            assert!(!nonces.used(&connection, number_of("another")).unwrap());
            next
        };
        let all = come(&mut nonces, WAITING_MAX - 1);
        assert_eq!((rows("nonce"), rows("waiting")), (0, all));
        let all = come(&mut nonces, SLICE);
        assert!(rows("nonce") >= SLICE, "in the middle of it");
        assert_eq!(rows("waiting"), all, "their rows stay");

        // A start in the middle, and all of them once more.
        let mut nonces = Nonces::open(&connection).unwrap();
        let all = come(&mut nonces, WAITING_MAX / PACE);
        assert_eq!(nonces.leaving.all.len(), 0, "all have their places");
        assert_eq!(rows("nonce") + rows("waiting"), all);
        let mut nonces = Nonces::open(&connection).unwrap();
        let all = come(&mut nonces, 2 * WAITING_MAX);
        let kept: HashSet<i64> = super::all(&connection).unwrap().into_iter().collect();
        assert_eq!(kept, (0..all).map(name).collect());
        assert!(nonces.waiting.len() <= WAITING_MAX && rows("nonce") >= 2 * WAITING_MAX);
    }
}
