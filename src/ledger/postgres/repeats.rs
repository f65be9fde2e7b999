//! Requests that another proxy paid for, and whose answer nobody has: the same request through this one is
//! the agent's own retry, and no purchase. What this proxy paid for, its payer remembers, and can send again.

use std::collections::BTreeMap;

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::fault::Fault;
use super::rows;
use super::statement::{Maker, Statement};
use crate::budget::Reject;
use crate::clock::Timestamp;
use crate::event::{SpendEvent, Standing};
use crate::ledger::sealed::Sealed;

/// Where nobody can say whether another proxy lives, its payments are waited for no longer than so many
/// milliseconds.
const SLOW: u64 = 10_000;

/// What died so many milliseconds ago is not looked at; clocks differ.
const DEAD: u64 = 3_600_000;

/// `$2` is who asks, `$3` is when what is dead for certain died.
/// An odd owner holds a lock as long as it lives; whoever gets that lock knows that it does not.
const ASK: &str = "
SELECT p.request, p.id, p.until, r.time, r.event,
  CASE WHEN p.owner & 1 = 1 THEN pg_try_advisory_xact_lock(p.owner) END
FROM farepass_payment p JOIN farepass_record r ON r.seq = p.last
WHERE p.request = ANY($1::bigint[]) AND p.owner IS DISTINCT FROM $2 AND p.until > $3 AND r.event IS NOT NULL";

/// A proxy in the table of payments. Its lowest bit says whether its life can be seen.
pub(super) fn owner(random: u64, seen: bool) -> i64 {
    (random & !1 | u64::from(seen)).cast_signed()
}

/// The server asks who is silent whether it is still there: a machine that vanishes closes no connection.
const LIVE: &str = "SELECT pg_advisory_lock_shared($1), set_config('tcp_keepalives_idle', '10', false),
  set_config('tcp_keepalives_interval', '2', false), set_config('tcp_keepalives_count', '3', false)";

/// Shows that this proxy lives, as long as this connection does. One that connects again is missed for a
/// moment: too much is refused then, not too little.
pub(super) async fn live(client: &Client, owner: i64) -> Result<(), Fault> {
    if owner & 1 == 1 {
        client.query_typed(LIVE, &[(&owner, Type::INT8)]).await?;
    }
    Ok(())
}

/// The question.
pub(super) struct Ask {
    statement: Statement,
    owner: i64,
}

impl Ask {
    pub(super) async fn new(maker: &Maker<'_>) -> Result<Self, Fault> {
        Ok(Self {
            statement: maker
                .make(ASK, &[Type::INT8_ARRAY, Type::INT8, Type::INT8])
                .await?,
            owner: maker.owner,
        })
    }

    /// Asks about the requests that these posts reserve for.
    pub(super) async fn ask(
        &self,
        client: &Client,
        posts: &[&Sealed],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let asking = || posts.iter().filter(|post| post.reserves());
        let asked: Vec<i64> = asking().filter_map(|post| post.request).collect();
        if asked.is_empty() {
            return Ok(vec![]);
        }
        let now = asking().map(|post| post.time.0).min().unwrap_or_default();
        let dead = now.saturating_sub(DEAD).cast_signed();
        let values: [&(dyn ToSql + Sync); 3] = [&asked, &self.owner, &dead];
        self.statement.query(client, &values).await
    }
}

/// For each request the payment that stops another one the longest.
#[derive(Default)]
pub(super) struct Repeats(BTreeMap<i64, (Timestamp, Reject)>);

impl Repeats {
    /// `wall` is the database's clock.
    pub(super) fn read(found: &[Row], wall: Timestamp) -> Result<Self, Fault> {
        let mut all: BTreeMap<i64, (Timestamp, Reject)> = BTreeMap::new();
        for row in found {
            let event: SpendEvent = rows::json(row.try_get(4)?)?;
            let gone: Option<bool> = row.try_get(5)?;
            let old = rows::number(row, 3)?.saturating_add(SLOW) <= wall.0;
            let left = match event.standing() {
                Standing::Left => true,
                Standing::Flying => gone.unwrap_or(old),
                Standing::Over => false,
            };
            let (request, until) = (row.try_get(0)?, Timestamp(rows::number(row, 2)?));
            let longer = all.get(&request).is_none_or(|(known, _)| *known < until);
            if !(left && longer) {
                continue;
            }
            let stops = Reject::Outstanding {
                payment: rows::payment_id(row, 1)?,
                until,
                claimed: event.is_claimed(),
            };
            all.insert(request, (until, stops));
        }
        Ok(Self(all))
    }

    /// Why a request is not to be paid at this time.
    pub(super) fn stops(&self, request: Option<i64>, now: Timestamp) -> Option<Reject> {
        let (until, stops) = self.0.get(&request?)?;
        (now < *until).then(|| stops.clone())
    }
}
