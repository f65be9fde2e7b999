//! Questions to the tables. Each is one statement, and so one state of them, or one transaction.

use std::ops::RangeInclusive;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_postgres::types::Type;

use super::fault::Fault;
use super::follow::no_head;
use super::known::Known;
use super::link::Link;
use super::survey::Survey;
use super::whose::{BY_SECRET, SESSION};
use super::{rows, schema};
use crate::budget::{Counted, Fact, Payment};
use crate::clock::Timestamp;
use crate::event::SpendEvent;
use crate::event::export::Recorded;
use crate::ledger::columns::bucket_number;
use crate::ledger::{Accounts, Filter, PostError, Reader, Report, SessionRow, Standings, Trail};
use crate::payment::{PaymentId, Session, SessionId};

/// Rows of a list that are asked for at once.
pub(super) const PAGE: i64 = 1000;

/// Whoever asks.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) link: Link,
    /// Kept up to date in a proxy; a command asks the tables for everything.
    pub(super) known: Option<Arc<Known>>,
}

pub(super) const COUNTED_FROM: &str =
    "SELECT account, bucket, amount, payments FROM farepass_counted
  WHERE account = $1 AND bucket >= $2";
/// From name to name, so that buckets of long ago are skipped, not read. With each row in how many accounts
/// something counts, and the most payments of one.
const ACCOUNTS: &str = "
WITH RECURSIVE name(account) AS (
  (SELECT account FROM farepass_counted WHERE account >= $1 ORDER BY account LIMIT 1)
  UNION ALL
  SELECT (SELECT c.account FROM farepass_counted c WHERE c.account > n.account ORDER BY c.account LIMIT 1)
  FROM name n WHERE starts_with(n.account, $1)),
used AS (SELECT n.account, s.amount, s.payments FROM name n, LATERAL (
  SELECT sum(c.amount)::bigint AS amount, sum(c.payments)::bigint AS payments
  FROM farepass_counted c WHERE c.account = n.account AND c.bucket >= $2) s
  WHERE starts_with(n.account, $1) AND s.payments > 0)
SELECT account, amount, payments, count(*) OVER (), max(payments) OVER () FROM used
ORDER BY amount DESC, payments DESC, account LIMIT $3";
const OPEN: &str = "SELECT p.id, p.last, p.stage, p.amount, p.until, p.nonce, p.marks, r.event
  FROM farepass_payment p JOIN farepass_record r ON r.seq = p.last WHERE p.stage = 0 ORDER BY p.until";
const BOOKED: &str = "SELECT p.id, p.last, p.stage, p.amount, p.until, p.nonce, p.marks, r.event
  FROM farepass_payment p JOIN farepass_record r ON r.seq = p.last WHERE p.id = $1";
const BETWEEN: &str =
    "SELECT id FROM farepass_payment WHERE id >= $1 AND id <= $2 ORDER BY id LIMIT $3";
/// `$1` newest, `$2` oldest record. A payment is looked up for each record, in their order: `OFFSET 0` keeps the
/// planner from a join of whole tables for every page, which it takes for small.
pub(super) const LIST: &str = "SELECT r.seq, r.hash, r.event FROM farepass_record r
  CROSS JOIN LATERAL (SELECT last FROM farepass_payment WHERE id = r.payment OFFSET 0) p
  WHERE p.last = r.seq AND r.event IS NOT NULL AND r.seq <= $1 AND r.seq >= $2 ORDER BY r.seq DESC LIMIT $3";
pub(super) const FIRST_AT: &str =
    "SELECT seq FROM farepass_record WHERE time >= $1 ORDER BY time, seq LIMIT 1";
const TRAIL: &str = "
WITH RECURSIVE back(seq) AS (
  SELECT last FROM farepass_payment WHERE id = $1
  UNION SELECT r.before FROM farepass_record r JOIN back b ON r.seq = b.seq WHERE r.before IS NOT NULL)
SELECT h.seq, h.hash, r.seq, r.hash, r.event FROM farepass_head h
LEFT JOIN (back b JOIN farepass_record r ON r.seq = b.seq AND r.event IS NOT NULL) ON true ORDER BY r.seq";
const EVENTS: &str = "SELECT seq, event FROM farepass_record
  WHERE seq > $1 AND event IS NOT NULL ORDER BY seq LIMIT $2";
const FACTS: &str = "SELECT key, body FROM farepass_fact
  WHERE key >= $1 AND starts_with(key, $1) AND body IS NOT NULL ORDER BY key";

impl Desk {
    async fn open_payments(
        &self,
        sql: &str,
        id: Option<PaymentId>,
    ) -> Result<Vec<(Payment, SpendEvent)>, Fault> {
        let id = id.map(|id| id.0.to_be_bytes().to_vec());
        let values: Vec<_> = id.iter().map(|id| (id as _, Type::BYTEA)).collect();
        let mut found = vec![];
        for row in &self.link.ask(sql, &values).await? {
            let (_, _, payment) = rows::payment(row)?;
            let event: Option<&str> = row.try_get(7)?;
            if let (Some(payment), Some(event)) = (payment, event) {
                found.push((payment, rows::json(event)?));
            }
        }
        Ok(found)
    }

    /// The newest of a list, if its first page has them all; else the whole list from one state.
    async fn list(&self, filter: &Filter) -> Result<Vec<SpendEvent>, Fault> {
        let first = match filter.changed {
            None => 0,
            Some(at) => {
                let at = at.0.cast_signed();
                let found = self.link.ask(FIRST_AT, &[(&at, Type::INT8)]).await?;
                match found.first() {
                    Some(row) => row.try_get(0)?,
                    None => return Ok(vec![]),
                }
            }
        };
        let values = [
            (&i64::MAX as _, Type::INT8),
            (&first as _, Type::INT8),
            (&PAGE as _, Type::INT8),
        ];
        let page = self.link.ask(LIST, &values).await?;
        let mut found = vec![];
        for row in &page {
            let event: SpendEvent = rows::json(row.try_get(2)?)?;
            if filter.fits(&event) && found.len() < filter.most() {
                found.push(event);
            }
        }
        let whole = i64::try_from(page.len()).unwrap_or(i64::MAX) < PAGE;
        if whole || found.len() >= filter.most() {
            return Ok(found);
        }
        let rows = Survey::begin(&self.link)
            .await?
            .newest(filter, first)
            .await?;
        Ok(rows.into_iter().map(|row| row.event).collect())
    }

    async fn trail_of(&self, id: PaymentId) -> Result<Trail, Fault> {
        let id = id.0.to_be_bytes().to_vec();
        let found = self.link.ask(TRAIL, &[(&id, Type::BYTEA)]).await?;
        let row = found.first().ok_or_else(no_head)?;
        let head = schema::head(row.try_get(0)?, row.try_get(1)?)?;
        let mut records = vec![];
        for row in &found {
            let seq: Option<i64> = row.try_get(2)?;
            if let Some(seq) = seq {
                records.push(recorded(seq, row.try_get(3)?, row.try_get(4)?)?);
            }
        }
        Ok(Trail {
            records,
            head_seq: head.seq,
            head_hash: head.hex(),
        })
    }

    async fn named(&self, prefix: &str, first: u64, most: usize) -> Result<Accounts, Fault> {
        let (first, most) = (bucket_number(first), rows_of(most));
        let values = [
            (&prefix as _, Type::TEXT),
            (&first as _, Type::INT8),
            (&most as _, Type::INT8),
        ];
        let mut accounts = Accounts::default();
        for row in &self.link.ask(ACCOUNTS, &values).await? {
            rows::account(row, &mut accounts)?;
        }
        Ok(accounts)
    }

    async fn between(
        &self,
        range: &RangeInclusive<PaymentId>,
        most: usize,
    ) -> Result<Vec<PaymentId>, Fault> {
        let blob = |id: &PaymentId| id.0.to_be_bytes().to_vec();
        let (first, last, most) = (blob(range.start()), blob(range.end()), rows_of(most));
        let values = [
            (&first as _, Type::BYTEA),
            (&last as _, Type::BYTEA),
            (&most as _, Type::INT8),
        ];
        let found = self.link.ask(BETWEEN, &values).await?;
        found.iter().map(|row| rows::payment_id(row, 0)).collect()
    }
}

/// As a limit of a question.
fn rows_of(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

pub(super) fn recorded(seq: i64, hash: &[u8], event: &str) -> Result<Recorded, Fault> {
    Ok(Recorded {
        event: rows::json(event)?,
        record_seq: seq.cast_unsigned(),
        record_hash: hex::encode(hash),
    })
}

#[async_trait]
impl Reader for Desk {
    async fn session(&self, id: &SessionId) -> Result<Option<SessionRow>, PostError> {
        let known = self.known.as_ref().and_then(|known| known.row(id));
        if let Some((row, true)) = known {
            return Ok(Some(row));
        }
        // Who is let in does not depend on the database; what is shown as spent may be old then.
        match (self.stored(SESSION, &id.0).await, known) {
            (Err(_), Some((row, _))) => Ok(Some(row)),
            (stored, _) => Ok(stored?),
        }
    }

    async fn session_by_secret(&self, sha256: &str) -> Result<Option<SessionRow>, PostError> {
        let known = self
            .known
            .as_ref()
            .and_then(|known| known.by_secret(sha256));
        match known {
            Some(row) => self.session(&row.session.id).await,
            None => Ok(self.stored(BY_SECRET, sha256).await?),
        }
    }

    async fn identity(&self, id: &SessionId) -> Result<Option<Session>, PostError> {
        match self.at_hand(id) {
            Some(session) => Ok(Some(session)),
            None => Ok(self.session(id).await?.map(|row| row.session)),
        }
    }

    async fn identity_by_secret(&self, sha256: &str) -> Result<Option<Session>, PostError> {
        let known = self.known.as_ref();
        let known = known.and_then(|known| known.by_secret(sha256));
        if let Some(session) = known.and_then(|row| self.at_hand(&row.session.id)) {
            return Ok(Some(session));
        }
        let row = self.session_by_secret(sha256).await?;
        Ok(row.map(|row| row.session))
    }

    async fn sessions(&self) -> Result<Vec<SessionRow>, PostError> {
        let mut all = self.all_sessions().await?;
        all.sort_by_key(|row| std::cmp::Reverse(row.session.created));
        Ok(all)
    }

    async fn standings(&self, now: Timestamp) -> Result<Standings, PostError> {
        match &self.known {
            Some(known) => Ok(self.stand(&known.live(now)).await?),
            None => Ok(Standings::of(&self.sessions().await?, now)),
        }
    }

    async fn counted(&self, account: &str, first: u64) -> Result<Counted, PostError> {
        let first = bucket_number(first);
        let values = [(&account as _, Type::TEXT), (&first as _, Type::INT8)];
        Ok(rows::total(&self.link.ask(COUNTED_FROM, &values).await?)?)
    }

    async fn accounts(&self, prefix: &str, first: u64, most: usize) -> Result<Accounts, PostError> {
        Ok(self.named(prefix, first, most).await?)
    }

    async fn open(&self) -> Result<Vec<(Payment, SpendEvent)>, PostError> {
        Ok(self.open_payments(OPEN, None).await?)
    }

    async fn booked(&self, id: PaymentId) -> Result<Option<(Payment, SpendEvent)>, PostError> {
        Ok(self.open_payments(BOOKED, Some(id)).await?.pop())
    }

    async fn payment(&self, id: PaymentId) -> Result<Option<SpendEvent>, PostError> {
        let sql = "SELECT r.event FROM farepass_payment p JOIN farepass_record r ON r.seq = p.last
                   WHERE p.id = $1 AND r.event IS NOT NULL";
        let id = id.0.to_be_bytes().to_vec();
        let found = self.link.ask(sql, &[(&id, Type::BYTEA)]).await?;
        let event = |row: &tokio_postgres::Row| rows::json(row.try_get(0)?);
        Ok(found.first().map(event).transpose()?)
    }

    async fn ids(
        &self,
        range: RangeInclusive<PaymentId>,
        most: usize,
    ) -> Result<Vec<PaymentId>, PostError> {
        Ok(self.between(&range, most).await?)
    }

    async fn payments(&self, filter: Filter) -> Result<Vec<SpendEvent>, PostError> {
        Ok(self.list(&filter).await?)
    }

    async fn trail(&self, id: PaymentId) -> Result<Trail, PostError> {
        Ok(self.trail_of(id).await?)
    }

    async fn events(&self, after: u64, limit: usize) -> Result<Vec<(u64, SpendEvent)>, PostError> {
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let values = [(&after as _, Type::INT8), (&limit as _, Type::INT8)];
        let found = self.link.ask(EVENTS, &values).await?;
        let event = |row: &tokio_postgres::Row| -> Result<_, Fault> {
            Ok((rows::number(row, 0)?, rows::json(row.try_get(1)?)?))
        };
        let events: Result<_, Fault> = found.iter().map(event).collect();
        Ok(events?)
    }

    async fn walk(&self, filter: Filter, rows: mpsc::Sender<Recorded>) -> Result<(), PostError> {
        Ok(Survey::begin(&self.link)
            .await?
            .walk(&filter, &rows)
            .await?)
    }

    async fn fact(&self, key: &str) -> Result<Option<Fact>, PostError> {
        let sql = "SELECT key, body FROM farepass_fact WHERE key = $1";
        let found = self.link.ask(sql, &[(&key, Type::TEXT)]).await?;
        let fact = found.first().map(rows::fact).transpose()?;
        Ok(fact.and_then(|(_, fact)| fact))
    }

    async fn facts(&self, prefix: &str) -> Result<Vec<(String, Fact)>, PostError> {
        let found = self.link.ask(FACTS, &[(&prefix, Type::TEXT)]).await?;
        let facts: Result<Vec<_>, Fault> = found.iter().map(rows::fact).collect();
        let facts = facts?.into_iter();
        Ok(facts.filter_map(|(key, fact)| Some((key, fact?))).collect())
    }

    async fn verify(&self) -> Result<Report, PostError> {
        Ok(Survey::begin(&self.link).await?.verify().await?)
    }

    async fn newest(&self) -> Result<Timestamp, PostError> {
        let found = self.link.ask("SELECT time FROM farepass_head", &[]).await?;
        let row = found.first().ok_or_else(no_head)?;
        Ok(Timestamp(rows::number(row, 0)?))
    }
}
