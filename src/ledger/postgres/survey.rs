//! Long looks at everything, on one state of the tables while others write: lists, exports, and whether
//! the records and all that follows from them agree.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::dial::Purpose;
use super::fault::Fault;
use super::follow::no_head;
use super::link::{Link, Parameter};
use super::read::{FIRST_AT, LIST, PAGE, recorded};
use super::{rows, schema};
use crate::event::export::Recorded;
use crate::ledger::audit::{Audit, Seen};
use crate::ledger::sealed::{number_of_hash, number_of_request};
use crate::ledger::{Filter, Report};

/// Longer than the server lets one question take: it is gone then, behind something that still answers for it.
const PATIENCE: Duration = Duration::from_secs(310);

/// A transaction on a connection of its own; both end with it.
pub(super) struct Survey {
    client: Client,
}

/// As [`LIST`], the other way round. `$3` is when payments must not be over yet: what died before that is not sent.
const WALK: &str = "SELECT r.seq, r.hash, r.event FROM farepass_record r
  CROSS JOIN LATERAL (SELECT last, until FROM farepass_payment WHERE id = r.payment OFFSET 0) p
  WHERE p.last = r.seq AND r.event IS NOT NULL AND r.seq >= $1 AND ($3::bigint IS NULL OR p.until > $3)
  ORDER BY r.seq LIMIT $2";

const REQUESTS: &str = "SELECT p.id, p.request, r.event
  FROM farepass_payment p JOIN farepass_record r ON r.seq = p.last
  WHERE r.event IS NOT NULL AND (p.request IS NOT NULL
    OR p.owner IS NOT NULL AND p.until > (SELECT time FROM farepass_head))";

/// Payments that lists and sums do not find, as their newest record names another or none.
const ASTRAY: &str = "SELECT p.id FROM farepass_payment p JOIN farepass_record r ON r.seq = p.last
  WHERE r.event IS NOT NULL AND r.payment IS DISTINCT FROM p.id LIMIT 20";

impl Survey {
    pub(super) async fn begin(link: &Link) -> Result<Self, Fault> {
        let client = link.connect(Purpose::Survey).await?;
        client
            .batch_execute(&link.dial.begin(Purpose::Survey))
            .await?;
        Ok(Self { client })
    }

    async fn ask(&self, sql: &str, values: &[Parameter<'_>]) -> Result<Vec<Row>, Fault> {
        let rows = timeout(PATIENCE, self.client.query_typed(sql, values)).await;
        Ok(rows.map_err(|_| Fault::late("a long look"))??)
    }

    /// What fits, the newest first.
    pub(super) async fn newest(&self, filter: &Filter, first: i64) -> Result<Vec<Recorded>, Fault> {
        let (mut found, mut last) = (vec![], i64::MAX);
        loop {
            let values = [
                (&last as _, Type::INT8),
                (&first as _, Type::INT8),
                (&PAGE as _, Type::INT8),
            ];
            let page = self.ask(LIST, &values).await?;
            for row in &page {
                let row = recorded(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)?;
                last = row.record_seq.cast_signed().saturating_sub(1);
                if filter.fits(&row.event) {
                    found.push(row);
                }
                if found.len() >= filter.most() {
                    return Ok(found);
                }
            }
            if page.is_empty() {
                return Ok(found);
            }
        }
    }

    /// What fits, the one that changed last at the end. Ends early when nobody receives any more.
    pub(super) async fn walk(
        &self,
        filter: &Filter,
        rows: &mpsc::Sender<Recorded>,
    ) -> Result<(), Fault> {
        let at = filter.changed.unwrap_or_default().0.cast_signed();
        let mut next: i64 = match self.ask(FIRST_AT, &[(&at, Type::INT8)]).await?.first() {
            Some(row) => row.try_get(0)?,
            None => return Ok(()),
        };
        let lives = filter.lives.map(|at| at.0.cast_signed());
        let mut left = filter.most();
        loop {
            let values = [
                (&next as _, Type::INT8),
                (&PAGE as _, Type::INT8),
                (&lives as _, Type::INT8),
            ];
            let page = self.ask(WALK, &values).await?;
            for row in &page {
                let row = recorded(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)?;
                next = row.record_seq.cast_signed().saturating_add(1);
                if !filter.fits(&row.event) {
                    continue;
                }
                let Some(fewer) = left.checked_sub(1) else {
                    return Ok(());
                };
                left = fewer;
                if rows.send(row).await.is_err() {
                    return Ok(());
                }
            }
            if page.is_empty() {
                return Ok(());
            }
        }
    }

    /// Walks every record and compares every row.
    pub(super) async fn verify(&self) -> Result<Report, Fault> {
        let mut audit = Audit::new(&schema::id(&self.client).await?);
        let sql = format!(
            "SELECT {} FROM farepass_record WHERE seq >= $1 ORDER BY seq LIMIT $2",
            rows::RECORD
        );
        let mut next: i64 = i64::MIN;
        loop {
            let page = self
                .ask(&sql, &[(&next, Type::INT8), (&PAGE, Type::INT8)])
                .await?;
            for row in &page {
                let record = rows::record(row)?;
                next = record.seq.cast_signed().saturating_add(1);
                audit.record(&record);
            }
            if page.is_empty() {
                break;
            }
        }
        let head = self.ask("SELECT seq, hash FROM farepass_head", &[]).await?;
        let head = head.first().ok_or_else(no_head)?;
        audit.check_head(schema::head(head.try_get(0)?, head.try_get(1)?)?);
        let sums = self
            .all(rows::COUNTED, "farepass_counted", rows::counted)
            .await?;
        audit.check_counted(sums.into_iter());
        let payments = self.all(rows::PAYMENT, "farepass_payment", |row| {
            let (id, last, payment) = rows::payment(row)?;
            Ok((id, Seen::new(last, payment.as_ref())))
        });
        audit.check_payments(payments.await?.into_iter());
        let nonces = self.all("hash", "farepass_nonce", |row| Ok(row.try_get(0)?));
        audit.check_nonces(number_of_hash, nonces.await?.into_iter());
        let sessions = self.all("id, body", "farepass_session", rows::session);
        audit.check_sessions(sessions.await?.into_iter());
        let facts = self.all("key, body", "farepass_fact", rows::fact).await?;
        let facts = facts
            .into_iter()
            .filter_map(|(key, fact)| Some((key, fact?)));
        audit.check_facts(facts);
        self.check_requests(&mut audit).await?;
        for row in &self.ask(ASTRAY, &[]).await? {
            audit.astray(rows::payment_id(row, 0)?);
        }
        Ok(audit.report())
    }

    /// Where a payment is found by its request, it is the one that its newest record names; and one that may
    /// stop another is found, unless a program made it that did not know of that, or it is dead.
    async fn check_requests(&self, audit: &mut Audit) -> Result<(), Fault> {
        for row in &self.ask(REQUESTS, &[]).await? {
            let id = rows::payment_id(row, 0)?;
            let stored: Option<i64> = row.try_get(1)?;
            // An event that cannot be read was told of already.
            let Ok(event) = rows::json(row.try_get(2)?) else {
                continue;
            };
            let right = number_of_request(&event);
            if right.is_some() && stored != right {
                audit.problem(format!("the request of {id} differs from its records"));
            }
        }
        Ok(())
    }

    async fn all<T>(
        &self,
        columns: &str,
        table: &str,
        read: impl Fn(&Row) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let found = self
            .ask(&format!("SELECT {columns} FROM {table}"), &[])
            .await?;
        found.iter().map(read).collect()
    }
}
