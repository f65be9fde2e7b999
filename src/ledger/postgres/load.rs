//! What the judge will look at, read in two rounds under the lock of the ledger.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Client, Statement};

use super::batch::{Batch, STORED};
use super::fault::Fault;
use super::rows;
use crate::budget::Entry;
use crate::ledger::sealed::Sealed;
use crate::payment::{Limit, SessionId};

/// Prepared once for each connection.
pub(super) struct Loads {
    sessions: Statement,
    payments: Statement,
    nonces: Statement,
    sums: Statement,
    facts: Statement,
    below: Statement,
}

impl Loads {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Fault> {
        let payments = format!(
            "SELECT {} FROM farepass_payment WHERE id = ANY($1::bytea[])",
            rows::PAYMENT
        );
        let sums = "SELECT c.account, c.bucket, c.amount, c.payments
                    FROM unnest($1::text[], $2::bigint[]) AS w(account, first)
                    JOIN farepass_counted c ON c.account = w.account COLLATE \"C\" AND c.bucket >= w.first";
        let sessions = "SELECT id, body FROM farepass_session WHERE id = ANY($1::text[])";
        let nonces = "SELECT hash FROM farepass_nonce WHERE hash = ANY($1::bigint[])";
        let facts = "SELECT key, body FROM farepass_fact WHERE key = ANY($1::text[])";
        let below = "SELECT f.key, f.body FROM unnest($1::text[]) AS w(prefix)
                     JOIN farepass_fact f ON f.key >= w.prefix COLLATE \"C\" AND starts_with(f.key, w.prefix)";
        Ok(Self {
            sessions: client.prepare(sessions).await?,
            payments: client.prepare(&payments).await?,
            nonces: client.prepare(nonces).await?,
            sums: client.prepare(sums).await?,
            facts: client.prepare(facts).await?,
            below: client.prepare(below).await?,
        })
    }

    /// Fills the book of a batch with everything that the judge of these posts looks at.
    pub(super) async fn load(
        &self,
        client: &Client,
        batch: &mut Batch,
        posts: &[&Sealed],
    ) -> Result<(), Fault> {
        self.first(client, batch, posts).await?;
        self.second(client, batch, posts).await
    }

    /// Everything that is named in the posts themselves.
    async fn first(
        &self,
        client: &Client,
        batch: &mut Batch,
        posts: &[&Sealed],
    ) -> Result<(), Fault> {
        let entries = || posts.iter().flat_map(|p| &p.entries);
        let sessions: BTreeSet<&str> = entries()
            .filter_map(|e| e.session().map(|s| &*s.0))
            .collect();
        let sessions: Vec<&str> = sessions.into_iter().collect();
        let payments: BTreeSet<_> = entries().filter_map(Entry::payment).collect();
        let payments: Vec<Vec<u8>> = payments
            .into_iter()
            .map(|id| id.0.to_be_bytes().into())
            .collect();
        let numbers = posts.iter().flat_map(|p| &p.numbers).flatten();
        let numbers: Vec<i64> = numbers.copied().collect();
        let below: Vec<String> = entries().filter_map(Entry::facts_below).collect();
        let (sessions, payments, nonces, facts) = tokio::try_join!(
            some(client, &self.sessions, &sessions),
            some(client, &self.payments, &payments),
            some(client, &self.nonces, &numbers),
            some(client, &self.below, &below),
        )?;
        for row in &sessions {
            let (id, opened) = rows::session(row)?;
            batch.book.sessions.insert(id, opened);
        }
        for row in &payments {
            let (id, last, payment) = rows::payment(row)?;
            batch.lasts.insert(id, last);
            batch.book.payments.extend(payment.map(|p| (id, p)));
        }
        let used: Result<BTreeSet<i64>, _> = nonces.iter().map(|row| row.try_get(0)).collect();
        let used = used?;
        for post in posts {
            for (entry, number) in post.entries.iter().zip(&post.numbers) {
                if let Entry::Reserve { nonce, .. } = entry
                    && number.is_some_and(|n| used.contains(&n))
                {
                    batch.book.nonces.insert(nonce.clone(), STORED);
                }
            }
        }
        know(batch, &facts)
    }

    /// What follows from it: sums of sessions and payments, and what is remembered of their agents. A
    /// session that these very posts open counts too.
    async fn second(
        &self,
        client: &Client,
        batch: &mut Batch,
        posts: &[&Sealed],
    ) -> Result<(), Fault> {
        let (mut firsts, mut keys) = (BTreeMap::new(), BTreeSet::new());
        let mut from = |account: &str, first: u64| {
            let known = firsts.entry(account.to_owned()).or_insert(first);
            *known = first.min(*known);
        };
        for entry in posts.iter().flat_map(|p| &p.entries) {
            let mut agents = vec![];
            for session in entry
                .session()
                .into_iter()
                .flat_map(|id| meant(batch, posts, id))
            {
                let cap = Limit::session(session);
                from(&cap.account, cap.first);
                agents.push(&*session.agent);
            }
            if agents.is_empty() {
                agents.push("");
            }
            keys.extend(agents.into_iter().flat_map(|agent| entry.facts(agent)));
            if let Entry::Reserve { limits, .. } = entry {
                for limit in limits {
                    from(&limit.account, limit.first.min(limit.last));
                }
            }
            let payment = entry.payment().and_then(|id| batch.book.payments.get(&id));
            for (account, bucket) in payment.iter().flat_map(|p| &p.marks) {
                from(account, *bucket);
            }
        }
        let accounts: Vec<&str> = firsts.keys().map(String::as_str).collect();
        let buckets: Vec<i64> = firsts.values().map(|b| rows::bucket_number(*b)).collect();
        let keys: Vec<String> = keys.into_iter().collect();
        let sums = async {
            match accounts.is_empty() {
                true => Ok(vec![]),
                false => client.query(&self.sums, &[&accounts, &buckets]).await,
            }
        };
        let (sums, facts) = tokio::try_join!(sums, some(client, &self.facts, &keys))?;
        for row in &sums {
            let (mark, counted) = rows::counted(row)?;
            batch.book.counted.insert(mark, counted);
        }
        know(batch, &facts)
    }
}

/// Every generation of a session that could be the one when an entry is judged.
fn meant<'a>(
    batch: &'a Batch,
    posts: &'a [&Sealed],
    id: &'a SessionId,
) -> impl Iterator<Item = &'a crate::payment::Session> {
    let stored = batch.book.sessions.get(id).map(|opened| &opened.session);
    let entries = posts.iter().flat_map(|p| &p.entries);
    let opened = entries.filter_map(|entry| match entry {
        Entry::OpenSession { session, .. } => Some(session),
        Entry::CloseSession { .. }
        | Entry::Reserve { .. }
        | Entry::Settle { .. }
        | Entry::Release { .. }
        | Entry::Recount { .. }
        | Entry::Note { .. }
        | Entry::Payee { .. }
        | Entry::Price { .. }
        | Entry::Forget { .. }
        | Entry::Freeze { .. }
        | Entry::Unfreeze { .. }
        | Entry::Ask { .. }
        | Entry::Answer { .. }
        | Entry::UseApproval { .. }
        | Entry::DropApprovals { .. } => None,
    });
    stored
        .into_iter()
        .chain(opened.filter(move |s| s.id == *id))
}

fn know(batch: &mut Batch, found: &[tokio_postgres::Row]) -> Result<(), Fault> {
    for row in found {
        let (key, fact) = rows::fact(row)?;
        batch.book.facts.extend(fact.map(|fact| (key, fact)));
    }
    Ok(())
}

/// The rows for a list, without a question where the list is empty.
async fn some<T: tokio_postgres::types::ToSql + Sync>(
    client: &Client,
    statement: &Statement,
    list: &Vec<T>,
) -> Result<Vec<tokio_postgres::Row>, tokio_postgres::Error> {
    match list.is_empty() {
        true => Ok(vec![]),
        false => client.query(statement, &[list]).await,
    }
}
