//! What a batch changed, written in bulk: one statement for each table that is touched.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

use super::batch::Batch;
use super::fault::Fault;
use super::rows;
use super::statement::{Maker, Statement};

/// What is written.
pub(super) struct Stores {
    records: Statement,
    sums: Statement,
    payments: Statement,
    nonces: Statement,
    sessions: Statement,
    facts: Statement,
    head: Statement,
    owner: i64,
}

const RECORDS: &str = "INSERT INTO farepass_record SELECT * FROM unnest($1::bigint[], $2::bigint[],
  $3::bytea[], $4::bigint[], $5::text[], $6::text[], $7::bytea[])";
const SUMS: &str = "INSERT INTO farepass_counted
  SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[])
  ON CONFLICT (account, bucket) DO UPDATE SET amount = excluded.amount, payments = excluded.payments";
const PAYMENTS: &str = "INSERT INTO farepass_payment SELECT *, $9::bigint FROM unnest($1::bytea[], $2::bigint[],
  $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::bigint[])
  ON CONFLICT (id) DO UPDATE SET last = excluded.last, stage = excluded.stage, amount = excluded.amount,
    until = excluded.until, nonce = excluded.nonce, marks = excluded.marks, request = excluded.request";
const NONCES: &str =
    "INSERT INTO farepass_nonce SELECT unnest($1::bigint[]) ON CONFLICT DO NOTHING";
const SESSIONS: &str = "INSERT INTO farepass_session
  SELECT *, $4::bigint FROM unnest($1::text[], $2::text[], $3::text[])
  ON CONFLICT (id) DO UPDATE SET body = excluded.body, secret = excluded.secret, changed = excluded.changed";
const FACTS: &str = "INSERT INTO farepass_fact
  SELECT *, $3::bigint FROM unnest($1::text[], $2::text[])
  ON CONFLICT (key) DO UPDATE SET body = excluded.body, changed = excluded.changed";
const HEAD: &str = "UPDATE farepass_head SET seq = $1, hash = $2, time = $3";

/// Rows as the arrays that their columns are sent in.
#[derive(Default)]
struct Payments {
    ids: Vec<Vec<u8>>,
    lasts: Vec<i64>,
    stages: Vec<Option<i64>>,
    amounts: Vec<Option<i64>>,
    untils: Vec<Option<i64>>,
    nonces: Vec<Option<String>>,
    marks: Vec<Option<String>>,
    requests: Vec<Option<i64>>,
}

impl Stores {
    pub(super) async fn new(maker: &Maker<'_>) -> Result<Self, Fault> {
        const TEXTS: Type = Type::TEXT_ARRAY;
        const NUMBERS: Type = Type::INT8_ARRAY;
        const BYTES: Type = Type::BYTEA_ARRAY;
        Ok(Self {
            records: maker
                .make(
                    RECORDS,
                    &[NUMBERS, NUMBERS, BYTES, NUMBERS, TEXTS, TEXTS, BYTES],
                )
                .await?,
            sums: maker
                .make(SUMS, &[TEXTS, NUMBERS, NUMBERS, NUMBERS])
                .await?,
            payments: maker
                .make(
                    PAYMENTS,
                    &[
                        BYTES,
                        NUMBERS,
                        NUMBERS,
                        NUMBERS,
                        NUMBERS,
                        TEXTS,
                        TEXTS,
                        NUMBERS,
                        Type::INT8,
                    ],
                )
                .await?,
            nonces: maker.make(NONCES, &[NUMBERS]).await?,
            sessions: maker
                .make(SESSIONS, &[TEXTS, TEXTS, TEXTS, Type::INT8])
                .await?,
            facts: maker.make(FACTS, &[TEXTS, TEXTS, Type::INT8]).await?,
            head: maker
                .make(HEAD, &[Type::INT8, Type::BYTEA, Type::INT8])
                .await?,
            owner: maker.owner,
        })
    }

    /// Writes it all; durable with the commit that follows.
    pub(super) async fn store(&self, client: &Client, batch: &Batch) -> Result<(), Fault> {
        // In this order, so that the first error is told, and not that those behind it had no transaction.
        tokio::try_join!(
            biased;
            self.store_records(client, batch),
            self.store_sums(client, batch),
            self.store_payments(client, batch),
            self.store_nonces(client, batch),
            self.store_sessions(client, batch),
            self.store_facts(client, batch),
            async {
                let head = batch.head;
                let (seq, time) = (head.seq.cast_signed(), batch.time.0.cast_signed());
                Ok(run(client, &self.head, &[&seq, &&head.hash[..], &time]).await?)
            },
        )?;
        Ok(())
    }

    async fn store_records(&self, client: &Client, batch: &Batch) -> Result<(), Fault> {
        let all = &batch.dirty.records;
        let seqs: Vec<i64> = all.iter().map(|(r, ..)| r.seq.cast_signed()).collect();
        let times: Vec<i64> = all.iter().map(|(r, ..)| r.time.0.cast_signed()).collect();
        let ids = all
            .iter()
            .map(|(_, id, _)| id.map(|id| id.0.to_be_bytes().to_vec()));
        let ids: Vec<Option<Vec<u8>>> = ids.collect();
        let befores = all.iter().map(|(.., before)| before.map(u64::cast_signed));
        let befores: Vec<Option<i64>> = befores.collect();
        let entries: Vec<&str> = all.iter().map(|(r, ..)| &*r.entries).collect();
        let events: Vec<Option<&str>> = all.iter().map(|(r, ..)| r.event.as_deref()).collect();
        let hashes: Vec<&[u8]> = all.iter().map(|(r, ..)| &r.hash[..]).collect();
        let columns: [&(dyn ToSql + Sync); 7] =
            [&seqs, &times, &ids, &befores, &entries, &events, &hashes];
        Ok(run(client, &self.records, &columns).await?)
    }

    async fn store_sums(&self, client: &Client, batch: &Batch) -> Result<(), Fault> {
        let all: Vec<_> = (batch.dirty.sums.iter())
            .filter_map(|mark| Some((mark, batch.book.counted.get(mark)?)))
            .collect();
        if all.is_empty() {
            return Ok(());
        }
        let accounts: Vec<&str> = all.iter().map(|(mark, _)| &*mark.0).collect();
        let buckets: Vec<i64> = all.iter().map(|(mark, _)| mark.1.cast_signed()).collect();
        let amounts: Vec<i64> = all.iter().map(|(_, c)| c.amount.0.cast_signed()).collect();
        let payments: Vec<i64> = all.iter().map(|(_, c)| c.payments.into()).collect();
        let columns: [&(dyn ToSql + Sync); 4] = [&accounts, &buckets, &amounts, &payments];
        Ok(run(client, &self.sums, &columns).await?)
    }

    async fn store_payments(&self, client: &Client, batch: &Batch) -> Result<(), Fault> {
        let mut all = Payments::default();
        for (id, request) in &batch.dirty.payments {
            let payment = batch.book.payments.get(id);
            let last = batch.lasts.get(id).copied().unwrap_or_default();
            all.ids.push(id.0.to_be_bytes().to_vec());
            all.lasts.push(last.cast_signed());
            all.stages
                .push(payment.map(|p| rows::stage_number(p.stage)));
            all.amounts.push(payment.map(|p| p.amount.0.cast_signed()));
            all.untils.push(payment.map(|p| p.until.0.cast_signed()));
            all.nonces.push(payment.map(|p| p.nonce.clone()));
            let marks = payment.map(|p| serde_json::to_string(&p.marks));
            all.marks.push(marks.transpose().map_err(unwritable)?);
            all.requests.push(*request);
        }
        if all.ids.is_empty() {
            return Ok(());
        }
        let columns: [&(dyn ToSql + Sync); 9] = [
            &all.ids,
            &all.lasts,
            &all.stages,
            &all.amounts,
            &all.untils,
            &all.nonces,
            &all.marks,
            &all.requests,
            &self.owner,
        ];
        Ok(run(client, &self.payments, &columns).await?)
    }

    async fn store_nonces(&self, client: &Client, batch: &Batch) -> Result<(), Fault> {
        let all: Vec<i64> = batch.dirty.nonces.iter().copied().collect();
        match all.is_empty() {
            true => Ok(()),
            false => Ok(run(client, &self.nonces, &[&all]).await?),
        }
    }

    async fn store_sessions(&self, client: &Client, batch: &Batch) -> Result<(), Fault> {
        let (mut ids, mut bodies, mut secrets) = (vec![], vec![], vec![]);
        for id in &batch.dirty.sessions {
            if let Some(opened) = batch.book.sessions.get(id) {
                ids.push(&*id.0);
                bodies.push(serde_json::to_string(opened).map_err(unwritable)?);
                secrets.push(opened.secret_sha256.as_deref());
            }
        }
        if ids.is_empty() {
            return Ok(());
        }
        let seq = batch.head.seq.cast_signed();
        Ok(run(client, &self.sessions, &[&ids, &bodies, &secrets, &seq]).await?)
    }

    async fn store_facts(&self, client: &Client, batch: &Batch) -> Result<(), Fault> {
        let keys: Vec<&str> = batch.dirty.facts.iter().map(String::as_str).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let body = |key: &&str| batch.book.facts.get(*key).map(serde_json::to_string);
        let bodies: Result<Vec<Option<String>>, _> =
            keys.iter().map(|key| body(key).transpose()).collect();
        let bodies = bodies.map_err(unwritable)?;
        let seq = batch.head.seq.cast_signed();
        Ok(run(client, &self.facts, &[&keys, &bodies, &seq]).await?)
    }
}

fn unwritable(error: serde_json::Error) -> Fault {
    Fault::Statement(error.to_string())
}

async fn run(
    client: &Client,
    statement: &Statement,
    columns: &[&(dyn ToSql + Sync)],
) -> Result<(), Error> {
    statement.execute(client, columns).await.map(drop)
}
