//! What other proxies commit, learned a moment later. Nothing is paid on the word of what is known here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::fault::Fault;
use super::known::Known;
use super::link::Link;
use super::{rows, schema, session};
use crate::budget::facts::key;
use crate::clock::{Timestamp, wall};

/// The end of the chain, and the record that was there before.
const LOOK: &str = "SELECT head.seq, head.hash, record.hash FROM farepass_head AS head
  LEFT JOIN farepass_record AS record ON record.seq = $1";

const SESSIONS: &str = "SELECT id, body, changed FROM farepass_session WHERE changed > $1";

/// At first, only what may be asked for: the rest is looked up when somebody asks. Page by page, since of millions that
/// are over each must be read, and no question may take long; in the order in which they lie on the disk, more or less.
/// `$2` is a day ago, written as in the table, where times are as long as each other. The last of a page comes in any case.
const LIVE: &str = "
WITH page AS (SELECT id, body, changed FROM farepass_session WHERE changed > $1
  ORDER BY changed FETCH FIRST $3 ROWS WITH TIES),
told AS (SELECT id, body, changed, NOT (body::json->>'closed')::boolean
    AND body::json->'session'->>'expires' COLLATE \"C\" > $2 AS live FROM page)
SELECT id, body, changed, live FROM told WHERE live OR changed = (SELECT max(changed) FROM page) ORDER BY changed";

/// Sessions of a page: a tenth of a second, or one where each is read from a disk.
const PAGE: i64 = 10_000;

/// Milliseconds for which a session that is over is still known: whoever uses it yet is told so without a question.
const KEPT: u64 = 86_400_000;

/// Between two looks at what is over.
const TIDY: Duration = Duration::from_secs(3600);

pub(super) struct Follower {
    pub(super) link: Link,
    pub(super) known: Arc<Known>,
    /// Everything up to this record is known.
    pub(super) place: u64,
    /// How long it takes at most until a freeze of another proxy is known here by itself. A payment that
    /// it would stop is refused at once, where it is judged.
    pub(super) every: Duration,
    /// When what is over was forgotten last.
    pub(super) tidied: Instant,
}

impl Follower {
    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        loop {
            tokio::time::sleep(self.every).await;
            let looked = self.look().await;
            if let Err(fault) = &looked {
                tracing::debug!(%fault, "the ledger's database cannot be asked");
            }
            self.known.follows(looked.map_err(Into::into));
        }
    }

    /// Everything that is new since the last look.
    pub(super) async fn look(&mut self) -> Result<(), Fault> {
        // What was acknowledged before it is asked, by whatever connection.
        let seen = self.known.seen()?.head;
        let number = seen.seq.cast_signed();
        let found = self.link.ask(LOOK, &[(&number, Type::INT8)]).await?;
        let row = found.first().ok_or_else(no_head)?;
        let head = schema::head(row.try_get(0)?, row.try_get(1)?)?;
        let there: Option<Vec<u8>> = row.try_get(2)?;
        if seen.seq > 0 && there.as_deref() != Some(&seen.hash[..]) {
            return Err(session::gone(seen));
        }
        if self.tidied.elapsed() >= TIDY {
            self.known.forget(over());
            self.tidied = Instant::now();
        }
        if head.seq == self.place && head.seq > 0 {
            return Ok(());
        }
        // What is committed meanwhile is newer than this head, and seen again with the next one.
        let place = self.place.cast_signed();
        match self.place {
            0 => self.live().await?,
            _ => {
                let news = self.link.ask(SESSIONS, &[(&place, Type::INT8)]).await?;
                news.iter().try_for_each(|row| self.know(row))?;
            }
        }
        let sql = "SELECT key, body, changed FROM farepass_fact
                   WHERE changed > $1 AND starts_with(key, $2)";
        let values = [(&place as _, Type::INT8), (&key::FREEZES as _, Type::TEXT)];
        for row in &self.link.ask(sql, &values).await? {
            let (key, fact) = rows::fact(row)?;
            self.known.fact(key, rows::number(row, 2)?, fact);
        }
        self.known.saw(head);
        self.place = head.seq;
        Ok(())
    }

    fn know(&self, row: &Row) -> Result<(), Fault> {
        let (id, opened) = rows::session(row)?;
        self.known.session(id, rows::number(row, 2)?, &opened);
        Ok(())
    }

    /// All sessions that are live.
    async fn live(&self) -> Result<(), Fault> {
        let (over, mut last) = (over().to_string(), -1_i64);
        loop {
            let values = [
                (&last as _, Type::INT8),
                (&over as _, Type::TEXT),
                (&PAGE as _, Type::INT8),
            ];
            let page = self.link.ask(LIVE, &values).await?;
            for row in &page {
                if row.try_get(3)? {
                    self.know(row)?;
                }
            }
            last = match page.last() {
                Some(row) => row.try_get(2)?,
                None => return Ok(()),
            };
        }
    }
}

/// What ended before this time is not kept in mind.
fn over() -> Timestamp {
    Timestamp(wall().0.saturating_sub(KEPT))
}

pub(super) fn no_head() -> Fault {
    Fault::Records("the end of the chain is missing".into())
}
