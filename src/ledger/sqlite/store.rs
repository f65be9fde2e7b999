//! Rows of the SQLite file: the schema, and how values become columns and come back.

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params};

use crate::budget::{Counted, Mark, Opened};
use crate::clock::Timestamp;
use crate::ledger::chain::{Hash, Head, Record};
use crate::ledger::columns::bucket_number;
use crate::money::Usd;
use crate::payment::{PaymentId, SessionId};

use super::packed::{Packed, TEXTS, texts};
use super::{nonces, payments};

/// Raised with every change of the tables.
pub(super) const VERSION: i64 = 6;

/// `record` is the ledger. All other tables can be computed from it; `verify` does.
/// `record.before` is the record before it about the same payment, so that a payment's history needs
/// no index; `payment.last` is the newest. `nonce` holds 64 bits of a hash (see `nonces`). What a payment
/// is charged under stands in its first record only: `payment.nonce` is of files before version 4. So do its
/// limits: `payment.marks` is the account of its session, or JSON of all in files before version 5. The texts
/// of a record are in `packed`, and `entries` and `event` say only that they are there (see `packed`).
const SCHEMA: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE record(seq INTEGER PRIMARY KEY, time INTEGER NOT NULL, payment BLOB, before INTEGER,
  entries TEXT NOT NULL, event TEXT, hash BLOB NOT NULL, packed BLOB) STRICT;
CREATE TABLE counted(account TEXT NOT NULL, bucket INTEGER NOT NULL, amount INTEGER NOT NULL,
  payments INTEGER NOT NULL, PRIMARY KEY(account, bucket)) STRICT, WITHOUT ROWID;
CREATE TABLE payment(id BLOB PRIMARY KEY, last INTEGER NOT NULL, stage INTEGER, amount INTEGER,
  until INTEGER, nonce TEXT, marks TEXT) STRICT, WITHOUT ROWID;
CREATE TABLE nonce(hash INTEGER PRIMARY KEY) STRICT;
CREATE INDEX open_payment ON payment(until) WHERE stage = 0;
CREATE TABLE session(id TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;";

/// Came with version 2.
const FACTS: &str =
    "CREATE TABLE fact(key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;";

/// Why a row cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The database or the disk.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// A text that is not what was written.
    #[error("a row cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// A column that no value of ours becomes.
    #[error("a row holds an impossible value: {0}")]
    Value(&'static str),
    /// The log cannot be emptied while somebody reads it.
    #[error("somebody else is using the file")]
    Busy,
    /// Another program holds the right to write. Nothing was begun.
    #[error("another program is writing to the file")]
    Held,
    /// The files are not where they were.
    #[error("{0}")]
    Gone(String),
    /// The records contradict each other.
    #[error("{0}")]
    Records(String),
}

impl Fault {
    /// Are the records themselves wrong, so that trying again cannot help?
    pub(super) fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase, TypeMismatch};
        match self {
            Self::Sqlite(rusqlite::Error::SqliteFailure(e, _)) => {
                matches!(e.code, DatabaseCorrupt | NotADatabase | TypeMismatch)
            }
            Self::Sqlite(e) => matches!(
                e,
                rusqlite::Error::InvalidColumnType(..)
                    | rusqlite::Error::IntegralValueOutOfRange(..)
                    | rusqlite::Error::FromSqlConversionFailure(..)
                    | rusqlite::Error::Utf8Error(..)
            ),
            Self::Json(_) | Self::Value(_) | Self::Records(_) => true,
            Self::Busy | Self::Held | Self::Gone(_) => false,
        }
    }
}

/// A connection that writes: every commit is on the disk when it returns. Checkpoints are made by
/// the keeper, not inside somebody's commit.
pub(super) fn connect(path: &std::path::Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(2))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-16000;
         PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON;",
    )?;
    Ok(connection)
}

/// A connection that only reads, beside a writer in this or another process.
pub(super) fn connect_reader(path: &std::path::Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(2))?;
    connection.execute_batch(
        "PRAGMA query_only=ON; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON;",
    )?;
    Ok(connection)
}

/// Moves what it can from the log into the file, without waiting for anybody. Returns the log's pages.
pub(super) fn checkpoint(connection: &Connection) -> Result<i64, Fault> {
    let mut statement = connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?;
    Ok(statement.query_row([], |row| row.get(1))?)
}

/// Moves everything from the log into the file, and syncs it. Returns how many pages are left.
pub(super) fn empty_log(connection: &Connection) -> Result<i64, Fault> {
    let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
    Ok(connection.query_row(sql, [], |r| {
        let (busy, pages): (i64, i64) = (r.get(0)?, r.get(1)?);
        Ok(if busy == 0 { 0 } else { pages.max(1) })
    })?)
}

/// Begins a transaction that writes.
pub(super) fn begin(connection: &Connection) -> Result<(), Fault> {
    let begun = connection
        .prepare_cached("BEGIN IMMEDIATE")
        .and_then(|mut statement| statement.execute([]));
    match begun {
        Ok(_) => Ok(()),
        Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
            Err(Fault::Held)
        }
        Err(e) => Err(e.into()),
    }
}

/// Makes the tables of a new ledger, in one transaction.
pub(super) fn create(connection: &mut Connection, id: &str) -> Result<(), Fault> {
    let tx = connection.transaction()?;
    tx.execute_batch(SCHEMA)?;
    tx.execute_batch(FACTS)?;
    tx.execute_batch(nonces::SCHEMA)?;
    tx.execute("INSERT INTO meta VALUES ('id', ?1)", [id])?;
    tx.pragma_update(None, "user_version", VERSION)?;
    Ok(tx.commit()?)
}

/// Brings the tables of an older program up to date, in one transaction. The records stay as they are.
pub(super) fn upgrade(connection: &mut Connection) -> Result<(), Fault> {
    let before = version(connection)?;
    if !(1..VERSION).contains(&before) {
        return Ok(());
    }
    let tx = connection.transaction()?;
    if before < 2 {
        tx.execute_batch(FACTS)?;
    }
    if before < 4 {
        tx.execute_batch(nonces::SCHEMA)?;
        if before == 3 {
            tx.execute_batch(nonces::FROM_3)?;
        }
        let nowhere = "UPDATE payment SET nonce = NULL; DELETE FROM meta WHERE key = 'head';";
        tx.execute_batch(nowhere)?;
    }
    // What versions 4 and 5 wrote is read as it is.
    tx.execute_batch("ALTER TABLE record ADD COLUMN packed BLOB")?;
    tx.pragma_update(None, "user_version", VERSION)?;
    Ok(tx.commit()?)
}

/// Is there nothing in the file but its header, as before [`create`]?
pub(super) fn is_bare(connection: &Connection) -> Result<bool, Fault> {
    let tables = "SELECT count(*) FROM sqlite_schema";
    let tables: i64 = connection.query_row(tables, [], |r| r.get(0))?;
    Ok(tables == 0 && version(connection)? == 0)
}

pub(super) fn version(connection: &Connection) -> Result<i64, Fault> {
    Ok(connection.query_row("PRAGMA user_version", [], |r| r.get(0))?)
}

pub(super) fn id(connection: &Connection) -> Result<String, Fault> {
    let mut statement = connection.prepare("SELECT value FROM meta WHERE key = 'id'")?;
    Ok(statement.query_row([], |r| r.get(0))?)
}

/// The end of the chain: the newest record, if there is one.
pub(super) fn head(connection: &Connection) -> Result<Head, Fault> {
    let sql = "SELECT seq, hash FROM record ORDER BY seq DESC LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let Some(row) = rows.next()? else {
        return Ok(Head::genesis(&id(connection)?));
    };
    Ok(Head {
        seq: row.get::<_, i64>(0)?.cast_unsigned(),
        hash: hash(row, 1)?,
    })
}

fn hash(row: &Row<'_>, column: usize) -> Result<Hash, Fault> {
    let hash: Vec<u8> = row.get(column)?;
    Hash::try_from(hash).map_err(|_| Fault::Value("hash"))
}

/// Columns of [`record`], in order.
pub(super) fn record_columns() -> String {
    format!("r.seq, r.time, r.hash, {TEXTS}")
}

pub(super) fn record(row: &Row<'_>) -> Result<Record, Fault> {
    let (entries, event) = texts(row, 3)?;
    Ok(Record {
        seq: row.get::<_, i64>(0)?.cast_unsigned(),
        time: Timestamp(row.get::<_, i64>(1)?.cast_unsigned()),
        hash: hash(row, 2)?,
        entries,
        event,
    })
}

/// The hash of one record, by its number.
pub(super) fn hash_at(connection: &Connection, seq: u64) -> Result<Option<Hash>, Fault> {
    let sql = "SELECT hash FROM record WHERE seq = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([seq.cast_signed()])?;
    rows.next()?.map(|row| hash(row, 0)).transpose()
}

/// One record, by its number.
pub(super) fn record_at(connection: &Connection, seq: u64) -> Result<Option<Record>, Fault> {
    let sql = format!("SELECT {} FROM record r WHERE r.seq = ?1", record_columns());
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([seq.cast_signed()])?;
    rows.next()?.map(record).transpose()
}

/// The record that makes `head` the head.
pub(super) fn save_record(
    connection: &Connection,
    head: Head,
    post: &Packed,
    payment: Option<PaymentId>,
    before: Option<u64>,
) -> Result<(), Fault> {
    let mut statement =
        connection.prepare_cached("INSERT INTO record VALUES (?1, ?2, ?3, ?4, '', ?5, ?6, ?7)")?;
    statement.execute(params![
        head.seq.cast_signed(),
        post.time.0.cast_signed(),
        payment.map(payments::blob),
        before.map(u64::cast_signed),
        post.event_json.as_ref().map(|_| ""),
        head.hash,
        post.block,
    ])?;
    Ok(())
}

/// Columns of [`counted`], in order.
pub(super) const COUNTED: &str = "account, bucket, amount, payments";

pub(super) fn counted(row: &Row<'_>) -> Result<(Mark, Counted), Fault> {
    let mark = (row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned());
    let counted = Counted {
        amount: Usd(row.get::<_, i64>(2)?.cast_unsigned()),
        payments: row.get(3)?,
    };
    Ok((mark, counted))
}

/// The rows of one account from bucket `first` up to, not including, `end`.
pub(super) fn counted_from(
    connection: &Connection,
    account: &str,
    first: u64,
    end: u64,
) -> Result<Vec<(Mark, Counted)>, Fault> {
    let sql = format!(
        "SELECT {COUNTED} FROM counted WHERE account = ?1 AND bucket >= ?2 AND bucket < ?3"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let range = params![account, bucket_number(first), bucket_number(end)];
    let rows = statement.query_and_then(range, counted)?;
    rows.collect()
}

/// What counts in an account from bucket `first` on.
pub(super) fn total(connection: &Connection, account: &str, first: u64) -> Result<Counted, Fault> {
    let rows = counted_from(connection, account, first, u64::MAX)?;
    let mut rows = rows.into_iter();
    let sum = rows.try_fold(Counted::default(), |sum, (_, c)| sum.plus(c));
    sum.ok_or(Fault::Value("sum"))
}

pub(super) fn newest(connection: &Connection) -> Result<Timestamp, Fault> {
    let mut statement =
        connection.prepare_cached("SELECT time FROM record ORDER BY seq DESC LIMIT 1")?;
    let time: Option<i64> = statement.query_row([], |r| r.get(0)).optional()?;
    Ok(Timestamp(time.unwrap_or(0).cast_unsigned()))
}

pub(super) fn save_counted(
    connection: &Connection,
    (account, bucket): &Mark,
    counted: Counted,
) -> Result<(), Fault> {
    let mut statement =
        connection.prepare_cached("INSERT INTO counted VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET amount = ?3, payments = ?4")?;
    statement.execute(params![
        account,
        bucket.cast_signed(),
        counted.amount.0.cast_signed(),
        counted.payments,
    ])?;
    Ok(())
}

pub(super) fn session(row: &Row<'_>) -> Result<(SessionId, Opened), Fault> {
    let id: String = row.get(0)?;
    let body: String = row.get(1)?;
    Ok((SessionId(id.into()), serde_json::from_str(&body)?))
}

pub(super) fn sessions(connection: &Connection) -> Result<Vec<(SessionId, Opened)>, Fault> {
    let mut statement = connection.prepare("SELECT id, body FROM session")?;
    let rows = statement.query_and_then([], session)?;
    rows.collect()
}

pub(super) fn save_session(
    connection: &Connection,
    id: &SessionId,
    opened: &Opened,
) -> Result<(), Fault> {
    let mut statement =
        connection.prepare_cached("INSERT OR REPLACE INTO session VALUES (?1, ?2)")?;
    statement.execute(params![&*id.0, serde_json::to_string(opened)?])?;
    Ok(())
}
