//! One connection that writes: the lock, the transaction, the commit, and the question what became of a
//! commit that was not answered.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::batch::{Batch, Changed, Dirty};
use super::dial::{Dial, Purpose};
use super::fault::Fault;
use super::known::Known;
use super::load::{self, Loads, Wanted};
use super::repeats::{self, Repeats};
use super::schema;
use super::statement::Maker;
use super::store::Stores;
use crate::budget::{Book, Entry};
use crate::clock::Timestamp;
use crate::failpoint;
use crate::ledger::chain::Head;
use crate::ledger::sealed::Sealed;
use crate::ledger::{PostError, Posted};

/// For everything before a commit, and for the commit. The server gives up earlier by itself.
const PATIENCE: Duration = Duration::from_secs(12);

/// Locks the end of the chain, and with it the ledger, until the transaction ends. The advisory lock is the
/// queue: it is had in the order in which it was asked for, where a row goes to whoever comes just as it
/// is free, and others starve. `FOR UPDATE` gives the row as it is when the lock is had, and every later
/// statement sees what was committed before that.
fn begin(dial: &Dial) -> String {
    format!(
        "{} SELECT pg_advisory_xact_lock({}, hashtext(current_schema()));
         SELECT seq, encode(hash, 'hex'), time, (extract(epoch FROM clock_timestamp()) * 1000)::bigint
         FROM farepass_head FOR UPDATE;",
        dial.begin(Purpose::Work),
        schema::LOCK_WRITE
    )
}

/// A record that was acknowledged by this ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) id: String,
    pub(super) head: Head,
}

/// See the module.
pub(super) struct Session {
    client: Client,
    begin: String,
    loads: Loads,
    stores: Stores,
}

/// What became of a batch: the answers to its posts, in their order, and what changed.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) answers: Vec<Result<Posted, PostError>>,
    pub(super) head: Head,
    pub(super) changed: Changed,
}

/// Why a batch is not known to be stored.
pub(super) enum Failed {
    /// It certainly is not.
    Before(Fault),
    /// The commit was sent, and no answer came. `first` is its first record.
    Doubt {
        fault: Fault,
        first: Head,
        entered: Entered,
    },
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self::Before(fault)
    }
}

impl Session {
    /// Connects. What was acknowledged before must be there: a database that went back in time, or is
    /// another one, has budgets that were spent already.
    pub(super) async fn open(dial: &Dial, seen: &Seen) -> Result<Self, Fault> {
        let client = dial.connect(Purpose::Work).await?;
        let ready = async {
            let version = schema::version(&client).await?;
            if version != Some(schema::VERSION) {
                schema::fits(version.unwrap_or_default())?;
                return Err(Fault::Unfit("its tables are gone".into()));
            }
            still_there(&client, seen).await?;
            repeats::live(&client, dial.owner).await?;
            let maker = Maker {
                client: &client,
                prepares: !dial.pooler,
                owner: dial.owner,
            };
            Ok((Loads::new(&maker).await?, Stores::new(&maker).await?))
        };
        let late = |_| Fault::late("while it was looked at");
        let (loads, stores) = timeout(PATIENCE, ready).await.map_err(late)??;
        Ok(Self {
            client,
            begin: begin(dial),
            loads,
            stores,
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Judges and stores posts, all of those that the book allows, in one transaction: of two round trips,
    /// or three where it needs more than what follows from the sessions that are known here.
    pub(super) async fn enter(&self, posts: &[&Sealed], known: &Known) -> Result<Entered, Failed> {
        let late = |_| Fault::late("before a commit");
        let look = self.look(posts, known);
        let mut batch = timeout(PATIENCE, look).await.map_err(late)??;
        let answers = posts.iter().map(|post| batch.enter(post)).collect();
        let entered = Entered {
            answers,
            head: batch.head,
            changed: batch.changed(),
        };
        let Some(first) = batch.first() else {
            // Nothing was written; whether this is answered does not matter.
            self.rollback().await?;
            return Ok(entered);
        };
        failpoint::reach("before-commit");
        let committed = timeout(PATIENCE, self.commit(&batch)).await;
        failpoint::reach("after-commit");
        let (fault, refused) = match committed {
            Ok(Ok(())) => return Ok(entered),
            Ok(Err(broken)) => broken,
            Err(_) => (Fault::late("a commit"), false),
        };
        match refused {
            true => Err(Failed::Before(fault)),
            false => Err(Failed::Doubt {
                fault,
                first,
                entered,
            }),
        }
    }

    /// The lock and everything that will be looked at are asked for together, and come in this order.
    async fn look(&self, posts: &[&Sealed], known: &Known) -> Result<Batch, Fault> {
        let ids = posts.iter().flat_map(|p| &p.entries);
        let sessions = known.sessions(ids.filter_map(Entry::session));
        let guess = Wanted::new(posts, &sessions, &BTreeMap::new());
        let (mut batch, named, (sums, facts)) = tokio::try_join!(
            biased; // sent in this order
            self.begin(),
            self.loads.first(&self.client, posts),
            self.loads.second(&self.client, &guess),
        )?;
        named.fill(&mut batch, posts)?;
        load::count(&mut batch, &sums, &facts)?;
        let stored = batch.book.sessions.iter();
        let stored = stored.map(|(id, opened)| (id.clone(), opened.session.clone()));
        let wanted = Wanted::new(posts, &stored.collect(), &batch.book.payments);
        let missing = wanted.beyond(&guess);
        if !missing.is_empty() {
            let (sums, facts) = self.loads.second(&self.client, &missing).await?;
            load::count(&mut batch, &sums, &facts)?;
        }
        Ok(batch)
    }

    /// What is written, and the commit behind it without waiting. An error comes with whether the server
    /// refused a part of it: then its commit was a rollback.
    async fn commit(&self, batch: &Batch) -> Result<(), (Fault, bool)> {
        let store = async {
            let stored = self.stores.store(&self.client, batch).await;
            stored.map_err(|fault| {
                let refused = matches!(fault, Fault::Statement(_) | Fault::Conflict(_));
                (fault, refused)
            })
        };
        let commit = async {
            let done = self.client.batch_execute("COMMIT").await;
            done.map_err(|error| (error.into(), false))
        };
        // In this order on the wire: each is sent when it is polled first.
        tokio::try_join!(biased; store, commit)?;
        Ok(())
    }

    async fn begin(&self) -> Result<Batch, Fault> {
        let rows = self.client.simple_query(&self.begin).await?.into_iter();
        let row = rows.rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let row = row.ok_or_else(|| Fault::Records("the end of the chain is missing".into()))?;
        let number = |column| number(&row, column);
        let hash = row.try_get(1)?.and_then(|text| hex::decode(text).ok());
        Ok(Batch {
            book: Book::default(),
            lasts: Default::default(),
            repeats: Repeats::default(),
            head: schema::head(number(0)?, hash.unwrap_or_default())?,
            time: Timestamp(number(2)?.cast_unsigned()),
            wall: Timestamp(number(3)?.cast_unsigned()),
            dirty: Dirty::default(),
        })
    }

    /// Ends a transaction that must leave nothing.
    pub(super) async fn rollback(&self) -> Result<(), Fault> {
        let late = |_| Fault::late("a rollback");
        let done = timeout(PATIENCE, self.client.batch_execute("ROLLBACK")).await;
        Ok(done.map_err(late)??)
    }

    /// Was the batch with this first record committed? Certain: with the lock, whoever held it before is
    /// over, and a chain has one record of each number. Where commits wait for other servers, one that broke off may be
    /// here and not there: something that is written behind it, and waits as it should have, is there after it.
    pub(super) async fn committed(&self, first: Head) -> Result<bool, Fault> {
        let look = async {
            self.client.simple_query(&self.begin).await?;
            let there = has(&self.client, first).await;
            let end = match there {
                Ok(true) => "UPDATE farepass_head SET seq = seq; COMMIT",
                Ok(false) | Err(_) => "ROLLBACK",
            };
            self.client.batch_execute(end).await?;
            there
        };
        timeout(PATIENCE, look)
            .await
            .map_err(|_| Fault::late("after a commit"))?
    }
}

fn number(row: &SimpleQueryRow, column: usize) -> Result<i64, Fault> {
    let text = row.try_get(column)?.and_then(|text| text.parse().ok());
    text.ok_or_else(|| Fault::Records("the end of the chain cannot be read".into()))
}

/// Is exactly this record in the chain?
pub(super) async fn has(client: &Client, head: Head) -> Result<bool, Fault> {
    let sql = "SELECT hash FROM farepass_record WHERE seq = $1";
    let seq = head.seq.cast_signed();
    let row = client.query_typed_opt(sql, &[(&seq, Type::INT8)]).await?;
    let hash: Option<Vec<u8>> = row.map(|row| row.try_get(0)).transpose()?;
    Ok(hash.as_deref() == Some(&head.hash[..]))
}

async fn still_there(client: &Client, seen: &Seen) -> Result<(), Fault> {
    if schema::id(client).await? != seen.id {
        return Err(Fault::Records(
            "the database holds another ledger than before; bring back the right one, and start the proxy again".into(),
        ));
    }
    if seen.head.seq == 0 || has(client, seen.head).await? {
        return Ok(());
    }
    Err(gone(seen.head))
}

/// The database is not what it was.
pub(super) fn gone(acknowledged: Head) -> Fault {
    Fault::Records(format!(
        "record {} was acknowledged, and the database does not have it: it was brought back from a backup, or a standby that lagged took over. What is missing was spent; to accept that, start the proxy again",
        acknowledged.seq
    ))
}
