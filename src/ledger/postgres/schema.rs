//! The tables: made and brought up to date by whichever proxy comes first, while the others wait.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::fault::Fault;
use crate::ledger::chain::{Hash, Head};

/// Raised with every change of the tables.
pub(super) const VERSION: i64 = 2;

/// Key of our advisory locks, before the one of the schema that the tables are in.
pub(super) const LOCK_MIGRATE: i32 = 0x6661_7265;
/// Held by the one proxy that closes what others left open.
pub(super) const LOCK_LEAD: i32 = 0x6661_7266;
/// Held by whoever writes, before the row of the chain's end.
pub(super) const LOCK_WRITE: i32 = 0x6661_7267;

/// Step by step from version 0, which is none. `farepass_record` is the ledger; all other tables can be
/// computed from it, and `verify` does. The one row of `farepass_head` is the end of the chain: whoever
/// writes locks it first, so that there is one order of all posts and no deadlock.
/// `changed` is the record that brought a row to its state; a fact that is forgotten keeps its key, so
/// that others learn of it.
/// `request` is the number of the request that a payment was made for, while it may stop another one; `owner`
/// is who made it. Neither is known of payments that a program of version 1 makes meanwhile.
const STEPS: &[&str] = &["
CREATE TABLE farepass_meta(key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE farepass_head(one BOOLEAN PRIMARY KEY CHECK (one), seq BIGINT NOT NULL, hash BYTEA NOT NULL,
  time BIGINT NOT NULL) WITH (fillfactor = 10);
CREATE TABLE farepass_record(seq BIGINT PRIMARY KEY, time BIGINT NOT NULL, payment BYTEA, before BIGINT,
  entries TEXT NOT NULL, event TEXT, hash BYTEA NOT NULL);
CREATE INDEX farepass_record_time ON farepass_record(time, seq);
CREATE TABLE farepass_counted(account TEXT COLLATE \"C\" NOT NULL, bucket BIGINT NOT NULL,
  amount BIGINT NOT NULL, payments BIGINT NOT NULL, PRIMARY KEY (account, bucket)) WITH (fillfactor = 50);
CREATE TABLE farepass_payment(id BYTEA PRIMARY KEY, last BIGINT NOT NULL, stage BIGINT, amount BIGINT,
  until BIGINT, nonce TEXT, marks TEXT);
CREATE INDEX farepass_open ON farepass_payment(until) WHERE stage = 0;
CREATE TABLE farepass_nonce(hash BIGINT PRIMARY KEY);
CREATE TABLE farepass_session(id TEXT COLLATE \"C\" PRIMARY KEY, body TEXT NOT NULL, secret TEXT,
  changed BIGINT NOT NULL);
CREATE INDEX farepass_session_changed ON farepass_session(changed);
CREATE INDEX farepass_session_secret ON farepass_session(secret);
CREATE TABLE farepass_fact(key TEXT COLLATE \"C\" PRIMARY KEY, body TEXT, changed BIGINT NOT NULL);
CREATE INDEX farepass_fact_changed ON farepass_fact(changed);", "
ALTER TABLE farepass_payment ADD COLUMN request BIGINT, ADD COLUMN owner BIGINT;
UPDATE farepass_payment p SET request = ('x' || left(r.event::json->>'request', 16))::bit(64)::bigint
  FROM farepass_record r WHERE r.seq = p.last AND p.stage IS NOT NULL AND r.event::json->>'request' ~ '^[0-9a-f]{64}$'
  AND p.until > (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
CREATE INDEX farepass_request ON farepass_payment(request, until) WHERE request IS NOT NULL;"];

/// Makes the tables, or brings those of an older program up to date, in one transaction.
///
/// # Errors
/// [`Fault::Unfit`] for a newer program's tables, and for a server that may lose what it acknowledged.
pub(super) async fn prepare(client: &Client) -> Result<(), Fault> {
    durable(client).await?;
    if version(client).await? == Some(VERSION) {
        return Ok(());
    }
    client.batch_execute("BEGIN").await?;
    let done = upgrade(client).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    client.batch_execute(end).await?;
    done
}

async fn upgrade(client: &Client) -> Result<(), Fault> {
    // A ledger with a long history takes its time.
    let patient = "SET LOCAL statement_timeout = '5min'; SET LOCAL lock_timeout = '1min'";
    client.batch_execute(patient).await?;
    let lock = "SELECT pg_advisory_xact_lock($1, hashtext(current_schema()))";
    // Whoever writes is not stopped in the middle.
    for key in [LOCK_MIGRATE, LOCK_WRITE] {
        client.query_typed(lock, &[(&key, Type::INT4)]).await?;
    }
    let before = version(client).await?.unwrap_or(0);
    fits(before)?;
    let done = usize::try_from(before).unwrap_or_default();
    for step in STEPS.iter().skip(done) {
        client.batch_execute(step).await?;
    }
    if before == 0 {
        let id = random()?;
        let head = Head::genesis(&id);
        let sql = "INSERT INTO farepass_meta VALUES ('id', $1)";
        client.execute_typed(sql, &[(&id, Type::TEXT)]).await?;
        let sql = "INSERT INTO farepass_head VALUES (true, 0, $1, 0)";
        client
            .execute_typed(sql, &[(&&head.hash[..], Type::BYTEA)])
            .await?;
    }
    let sql = "INSERT INTO farepass_meta VALUES ('version', $1)
               ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    client
        .execute_typed(sql, &[(&VERSION.to_string(), Type::TEXT)])
        .await?;
    Ok(())
}

/// A word that nobody else has.
pub(super) fn random() -> Result<String, Fault> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|e| Fault::Unfit(e.to_string()))?;
    Ok(hex::encode(random))
}

/// The version of the tables; `None` when there are none.
///
/// # Errors
/// Also when a table says no version.
pub(super) async fn version(client: &Client) -> Result<Option<i64>, Fault> {
    // Not `to_regclass`: that may remember from before the lock that there was none.
    let there = "SELECT EXISTS (SELECT FROM pg_class
                 WHERE relname = 'farepass_meta' AND relnamespace = current_schema()::regnamespace)";
    let row = client.query_typed_one(there, &[]).await?;
    if !row.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let text = meta(client, "version").await?;
    let version = text
        .parse()
        .map_err(|_| Fault::Records("its version is no number".into()))?;
    Ok(Some(version))
}

/// Can this program use tables of this version, after bringing them up to date?
pub(super) fn fits(version: i64) -> Result<(), Fault> {
    match version {
        0..=VERSION => Ok(()),
        newer => Err(Fault::Unfit(format!(
            "its tables have version {newer}, this program knows version {VERSION}; use the program that made them, or a newer one"
        ))),
    }
}

/// The ledger's own id.
pub(super) async fn id(client: &Client) -> Result<String, Fault> {
    meta(client, "id").await
}

async fn meta(client: &Client, key: &str) -> Result<String, Fault> {
    let sql = "SELECT value FROM farepass_meta WHERE key = $1";
    let row = client.query_typed_opt(sql, &[(&key, Type::TEXT)]).await?;
    let row = row.ok_or_else(|| Fault::Records(format!("`{key}` is missing in farepass_meta")))?;
    Ok(row.try_get(0)?)
}

async fn durable(client: &Client) -> Result<(), Fault> {
    for message in client.simple_query("SHOW fsync").await? {
        if let SimpleQueryMessage::Row(row) = message
            && row.try_get(0)? != Some("on")
        {
            return Err(Fault::Unfit(
                "the server runs with fsync off: a crash of its machine would lose payments that were made".into(),
            ));
        }
    }
    Ok(())
}

/// The end of the chain as it is stored.
pub(super) fn head(seq: i64, hash: Vec<u8>) -> Result<Head, Fault> {
    let hash =
        Hash::try_from(hash).map_err(|_| Fault::Records("a hash has another length".into()))?;
    Ok(Head {
        seq: seq.cast_unsigned(),
        hash,
    })
}
