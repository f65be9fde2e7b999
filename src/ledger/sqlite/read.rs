//! Questions to the file, on connections of their own: beside the writer, in this process or
//! another one.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::mpsc;

use crate::budget::{Counted, Fact, Payment};
use crate::clock::Timestamp;
use crate::event::SpendEvent;
use crate::event::export::Recorded;
use crate::ledger::{Accounts, Filter, PostError, Reader, Report, SessionRow, Trail};
use crate::payment::{Limit, PaymentId, SessionId};

use super::accounts;
use super::facts;
use super::packed::{TEXTS, event};
use super::payments;
use super::store::{self, Fault};
use super::verify;
use super::walk::walk;

/// Connections kept for the next question.
const IDLE_MAX: usize = 4;

/// A file, and connections to it.
#[derive(Clone)]
pub(super) struct File {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl From<Fault> for PostError {
    fn from(fault: Fault) -> Self {
        if fault.is_damage() {
            Self::Damaged(fault.to_string())
        } else {
            Self::Unavailable(fault.to_string())
        }
    }
}

impl File {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            idle: Arc::default(),
        }
    }

    /// Closes what is idle, so that the writer's connection is the last and tidies up.
    pub(super) fn close(&self) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Asks on a thread that may wait for the disk.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, PostError> {
        let file = self.clone();
        let task = tokio::task::spawn_blocking(move || file.answer(question));
        let answer = task.await;
        Ok(answer.map_err(|e| PostError::Unavailable(e.to_string()))??)
    }

    fn answer<T>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle().pop();
        let connection = match kept {
            Some(connection) => connection,
            None => store::connect_reader(&self.path)?,
        };
        let answer = question(&connection)?;
        // One that failed is not kept.
        let mut idle = idle();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
        Ok(answer)
    }
}

fn row(connection: &Connection, opened: &crate::budget::Opened) -> Result<SessionRow, Fault> {
    let account = Limit::session(&opened.session).account;
    let counted = store::total(connection, &account, 0)?;
    Ok(SessionRow::new(opened, counted))
}

/// The newest event of a payment.
fn newest_event(connection: &Connection, id: PaymentId) -> Result<Option<SpendEvent>, Fault> {
    let sql = format!(
        "SELECT {TEXTS} FROM payment p JOIN record r ON r.seq = p.last
         WHERE p.id = ?1 AND r.event IS NOT NULL"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([payments::blob(id)])?;
    rows.next()?.map(|row| event(row, 0)).transpose()
}

fn open(connection: &Connection) -> Result<Vec<(Payment, SpendEvent)>, Fault> {
    let sql = format!(
        "SELECT {} FROM payment WHERE stage = 0 ORDER BY until",
        payments::COLUMNS
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_and_then([], payments::row)?;
    let mut found = Vec::new();
    for row in rows {
        let (id, last, payment) = row?;
        let event = newest_event(connection, id)?;
        if let (Some(payment), Some(event)) = (payment, event) {
            found.push((payments::whole(connection, id, last, payment)?, event));
        }
    }
    Ok(found)
}

fn list(connection: &Connection, filter: &Filter) -> Result<Vec<SpendEvent>, Fault> {
    let sql = format!(
        "SELECT {TEXTS} FROM record r JOIN payment p ON p.id = r.payment
         WHERE p.last = r.seq AND r.event IS NOT NULL ORDER BY r.seq DESC"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let event = event(row, 0)?;
        // The records of before are older still.
        if filter.changed.is_some_and(|at| event.time < at) {
            break;
        }
        if filter.fits(&event) {
            found.push(event);
        }
        if found.len() >= filter.most() {
            break;
        }
    }
    Ok(found)
}

/// `seq, hash` and [`TEXTS`] of a record that has an event.
pub(super) fn recorded(row: &rusqlite::Row<'_>) -> Result<Recorded, Fault> {
    Ok(Recorded {
        event: event(row, 2)?,
        record_seq: row.get::<_, i64>(0)?.cast_unsigned(),
        record_hash: hex::encode(row.get::<_, Vec<u8>>(1)?),
    })
}

/// The first record of this time or later: records have no gaps, and no time among them steps back.
pub(super) fn first_at(connection: &Connection, at: Timestamp) -> Result<i64, Fault> {
    let head = i64::try_from(store::head(connection)?.seq).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached("SELECT time FROM record WHERE seq = ?1")?;
    let (mut low, mut high) = (1, head.saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        let time: i64 = statement.query_row([middle], |row| row.get(0))?;
        match Timestamp(time.cast_unsigned()) < at {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    Ok(low)
}

/// Records and head from one state of the file, while others write.
fn trail(connection: &Connection, id: PaymentId) -> Result<Trail, Fault> {
    connection.execute_batch("BEGIN")?;
    let records = records(connection, id)?;
    let head = store::head(connection)?;
    connection.execute_batch("COMMIT")?;
    Ok(Trail {
        records,
        head_seq: head.seq,
        head_hash: head.hex(),
    })
}

fn records(connection: &Connection, id: PaymentId) -> Result<Vec<Recorded>, Fault> {
    let sql = format!(
        "WITH RECURSIVE back(seq) AS (
           SELECT last FROM payment WHERE id = ?1
           UNION SELECT r.before FROM record r JOIN back b ON r.seq = b.seq
           WHERE r.before IS NOT NULL)
         SELECT r.seq, r.hash, {TEXTS} FROM back b JOIN record r ON r.seq = b.seq
         WHERE r.event IS NOT NULL ORDER BY r.seq"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_and_then([payments::blob(id)], recorded)?;
    rows.collect()
}

fn events(
    connection: &Connection,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, SpendEvent)>, Fault> {
    let sql = format!(
        "SELECT r.seq, {TEXTS} FROM record r WHERE r.seq > ?1 AND r.event IS NOT NULL
         ORDER BY r.seq LIMIT ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let rows = statement.query_and_then([after, limit], |r| {
        let seq = r.get::<_, i64>(0)?.cast_unsigned();
        Ok((seq, event(r, 1)?))
    })?;
    rows.collect()
}

#[async_trait]
impl Reader for File {
    async fn session(&self, id: &SessionId) -> Result<Option<SessionRow>, PostError> {
        let id = id.clone();
        let rows = self.sessions().await?;
        Ok(rows.into_iter().find(|row| row.session.id == id))
    }

    async fn session_by_secret(&self, sha256: &str) -> Result<Option<SessionRow>, PostError> {
        let secret = sha256.to_owned();
        self.ask(move |c| {
            let mut sessions = store::sessions(c)?.into_iter();
            let found = sessions.find(|(_, o)| o.secret_sha256.as_ref() == Some(&secret));
            found.map(|(_, opened)| row(c, &opened)).transpose()
        })
        .await
    }

    async fn sessions(&self) -> Result<Vec<SessionRow>, PostError> {
        self.ask(|c| {
            let sessions = store::sessions(c)?.into_iter();
            let rows = sessions.map(|(_, opened)| row(c, &opened));
            let mut rows = rows.collect::<Result<Vec<_>, Fault>>()?;
            rows.sort_by_key(|row| std::cmp::Reverse(row.session.created));
            Ok(rows)
        })
        .await
    }

    async fn counted(&self, account: &str, first: u64) -> Result<Counted, PostError> {
        let account = account.to_owned();
        self.ask(move |c| store::total(c, &account, first)).await
    }

    async fn accounts(&self, prefix: &str, first: u64, most: usize) -> Result<Accounts, PostError> {
        let prefix = prefix.to_owned();
        self.ask(move |c| accounts::below(c, &prefix, first, most))
            .await
    }

    async fn open(&self) -> Result<Vec<(Payment, SpendEvent)>, PostError> {
        self.ask(open).await
    }

    async fn booked(&self, id: PaymentId) -> Result<Option<(Payment, SpendEvent)>, PostError> {
        self.ask(move |c| {
            let booked = payments::at(c, id)?.and_then(|(_, payment)| payment);
            Ok(booked.zip(newest_event(c, id)?))
        })
        .await
    }

    async fn payment(&self, id: PaymentId) -> Result<Option<SpendEvent>, PostError> {
        self.ask(move |c| newest_event(c, id)).await
    }

    async fn ids(
        &self,
        range: RangeInclusive<PaymentId>,
        most: usize,
    ) -> Result<Vec<PaymentId>, PostError> {
        self.ask(move |c| payments::between(c, &range, most)).await
    }

    async fn payments(&self, filter: Filter) -> Result<Vec<SpendEvent>, PostError> {
        self.ask(move |c| list(c, &filter)).await
    }

    async fn trail(&self, id: PaymentId) -> Result<Trail, PostError> {
        self.ask(move |c| trail(c, id)).await
    }

    async fn events(&self, after: u64, limit: usize) -> Result<Vec<(u64, SpendEvent)>, PostError> {
        self.ask(move |c| events(c, after, limit)).await
    }

    async fn walk(&self, filter: Filter, rows: mpsc::Sender<Recorded>) -> Result<(), PostError> {
        self.ask(move |c| walk(c, &filter, &rows)).await
    }

    async fn fact(&self, key: &str) -> Result<Option<Fact>, PostError> {
        let key = key.to_owned();
        self.ask(move |c| facts::at(c, &key)).await
    }

    async fn facts(&self, prefix: &str) -> Result<Vec<(String, Fact)>, PostError> {
        let prefix = prefix.to_owned();
        self.ask(move |c| facts::below(c, &prefix, usize::MAX))
            .await
    }

    async fn verify(&self) -> Result<Report, PostError> {
        self.ask(verify::verify).await
    }

    async fn newest(&self) -> Result<Timestamp, PostError> {
        self.ask(store::newest).await
    }
}
