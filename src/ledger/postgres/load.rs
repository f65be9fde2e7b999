//! What the judge will look at, read under the lock of the ledger: in one round together with the lock where
//! it can be guessed what that will be, else in a second one.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::batch::Batch;
use super::fault::Fault;
use super::repeats::{Ask, Repeats};
use super::rows;
use super::statement::{Maker, Statement};
use crate::budget::{Entry, Payment};
use crate::ledger::columns::{STORED, bucket_number};
use crate::ledger::sealed::Sealed;
use crate::payment::{Limit, PaymentId, Session, SessionId};

/// What is asked.
pub(super) struct Loads {
    sessions: Statement,
    payments: Statement,
    nonces: Statement,
    sums: Statement,
    facts: Statement,
    below: Statement,
    repeats: Ask,
}

/// What [`Loads::first`] found.
pub(super) struct Named {
    sessions: Vec<Row>,
    payments: Vec<Row>,
    nonces: Vec<Row>,
    facts: Vec<Row>,
    repeats: Vec<Row>,
}

impl Named {
    /// Puts it into the book of a batch of the same posts.
    pub(super) fn fill(&self, batch: &mut Batch, posts: &[&Sealed]) -> Result<(), Fault> {
        for row in &self.sessions {
            let (id, opened) = rows::session(row)?;
            batch.book.sessions.insert(id, opened);
        }
        for row in &self.payments {
            let (id, last, payment) = rows::payment(row)?;
            batch.lasts.insert(id, last);
            batch.book.payments.extend(payment.map(|p| (id, p)));
        }
        let used: Result<BTreeSet<i64>, _> = self.nonces.iter().map(|row| row.try_get(0)).collect();
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
        batch.repeats = Repeats::read(&self.repeats, batch.wall)?;
        know(batch, &self.facts)
    }
}

impl Loads {
    pub(super) async fn new(maker: &Maker<'_>) -> Result<Self, Fault> {
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
            sessions: maker.make(sessions, &[Type::TEXT_ARRAY]).await?,
            payments: maker.make(&payments, &[Type::BYTEA_ARRAY]).await?,
            nonces: maker.make(nonces, &[Type::INT8_ARRAY]).await?,
            sums: maker
                .make(sums, &[Type::TEXT_ARRAY, Type::INT8_ARRAY])
                .await?,
            facts: maker.make(facts, &[Type::TEXT_ARRAY]).await?,
            below: maker.make(below, &[Type::TEXT_ARRAY]).await?,
            repeats: Ask::new(maker).await?,
        })
    }

    /// Asks for everything that is named in the posts themselves.
    pub(super) async fn first(&self, client: &Client, posts: &[&Sealed]) -> Result<Named, Fault> {
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
        let (sessions, payments, nonces, facts, repeats) = tokio::try_join!(
            biased; // the first error is the one that says why
            some(client, &self.sessions, &sessions),
            some(client, &self.payments, &payments),
            some(client, &self.nonces, &numbers),
            some(client, &self.below, &below),
            self.repeats.ask(client, posts),
        )?;
        Ok(Named {
            sessions,
            payments,
            nonces,
            facts,
            repeats,
        })
    }

    /// Sums and what is remembered, in one round.
    pub(super) async fn second(
        &self,
        client: &Client,
        wanted: &Wanted,
    ) -> Result<(Vec<Row>, Vec<Row>), Fault> {
        let accounts: Vec<&str> = wanted.firsts.keys().map(String::as_str).collect();
        let firsts = wanted.firsts.values();
        let buckets: Vec<i64> = firsts.map(|b| bucket_number(*b)).collect();
        let keys: Vec<&str> = wanted.keys.iter().map(String::as_str).collect();
        let sums = async {
            match accounts.is_empty() {
                true => Ok(vec![]),
                false => self.sums.query(client, &[&accounts, &buckets]).await,
            }
        };
        Ok(tokio::try_join!(sums, some(client, &self.facts, &keys))?)
    }
}

/// What the judge looks at beside what posts name: sums by account, from a bucket on, and facts. What
/// follows from sessions that are known here can be asked for together with those sessions, and what was
/// guessed wrong is asked for afterwards.
#[derive(Default)]
pub(super) struct Wanted {
    firsts: BTreeMap<String, u64>,
    keys: BTreeSet<String>,
}

impl Wanted {
    /// As far as it follows from these sessions, and those that these very posts open. `payments` are
    /// what is known of the posts' payments.
    pub(super) fn new(
        posts: &[&Sealed],
        sessions: &BTreeMap<SessionId, Session>,
        payments: &BTreeMap<PaymentId, Payment>,
    ) -> Self {
        let mut wanted = Self::default();
        for entry in posts.iter().flat_map(|p| &p.entries) {
            let mut agents = vec![];
            let id = entry.session().into_iter();
            for session in id.flat_map(|id| meant(sessions, posts, id)) {
                let cap = Limit::session(session);
                wanted.from(&cap.account, cap.first);
                agents.push(&*session.agent);
            }
            if agents.is_empty() {
                agents.push("");
            }
            let keys = agents.into_iter().flat_map(|agent| entry.facts(agent));
            wanted.keys.extend(keys);
            if let Entry::Reserve { limits, .. } = entry {
                for limit in limits {
                    wanted.from(&limit.account, limit.first.min(limit.last));
                }
            }
            let payment = entry.payment().and_then(|id| payments.get(&id));
            for (account, bucket) in payment.iter().flat_map(|p| &p.marks) {
                wanted.from(account, *bucket);
            }
        }
        wanted
    }

    fn from(&mut self, account: &str, first: u64) {
        let known = self.firsts.entry(account.to_owned()).or_insert(first);
        *known = first.min(*known);
    }

    /// What is not among what was asked for already.
    pub(super) fn beyond(mut self, asked: &Self) -> Self {
        let has = |account: &String, first: &u64| {
            let asked = asked.firsts.get(account);
            asked.is_some_and(|asked| asked <= first)
        };
        self.firsts.retain(|account, first| !has(account, first));
        self.keys.retain(|key| !asked.keys.contains(key));
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.firsts.is_empty() && self.keys.is_empty()
    }
}

/// Puts sums and facts into the book.
pub(super) fn count(batch: &mut Batch, sums: &[Row], facts: &[Row]) -> Result<(), Fault> {
    for row in sums {
        let (mark, counted) = rows::counted(row)?;
        batch.book.counted.insert(mark, counted);
    }
    know(batch, facts)
}

/// Every generation of a session that could be the one when an entry is judged.
fn meant<'a>(
    stored: &'a BTreeMap<SessionId, Session>,
    posts: &'a [&Sealed],
    id: &'a SessionId,
) -> impl Iterator<Item = &'a Session> {
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
        | Entry::Met { .. }
        | Entry::Unmet { .. }
        | Entry::Forget { .. }
        | Entry::Freeze { .. }
        | Entry::Unfreeze { .. }
        | Entry::Ask { .. }
        | Entry::Answer { .. }
        | Entry::UseApproval { .. }
        | Entry::DropApprovals { .. } => None,
    });
    let stored = stored.get(id).into_iter();
    stored.chain(opened.filter(move |s| s.id == *id))
}

fn know(batch: &mut Batch, found: &[Row]) -> Result<(), Fault> {
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
) -> Result<Vec<Row>, tokio_postgres::Error> {
    match list.is_empty() {
        true => Ok(vec![]),
        false => statement.query(client, &[list]).await,
    }
}
