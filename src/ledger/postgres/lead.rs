//! Which of all proxies closes what others left open. Two at once would only do it twice, and it counts once.

use tokio_postgres::types::Type;

use super::fault::Fault;
use super::link::Link;
use super::schema;

/// A lock that lives with the connection: whoever dies or is cut off makes room for another.
const LOCK: &str = "SELECT pg_try_advisory_lock($1, hashtext(current_schema()))";

/// Where a connection is nobody's own: a claim that lapses, in milliseconds, unless it is made again.
const LAPSES: i64 = 40_000;
const PLACE: &str = "INSERT INTO farepass_meta VALUES ('lead', '') ON CONFLICT DO NOTHING";
const CLAIM: &str = "
WITH now(ms) AS (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
UPDATE farepass_meta SET value = $1 || ' ' || (now.ms + $2) FROM now
WHERE key = 'lead' AND (split_part(value, ' ', 1) = $1
  OR coalesce(nullif(split_part(value, ' ', 2), '')::bigint, 0) < now.ms)
RETURNING true";

/// Takes the lead, or keeps it; false while it is another's. `me` is this process's own word.
pub(super) async fn take(link: &Link, me: &str) -> Result<bool, Fault> {
    let rows = match link.dial.pooler {
        false => link.ask(LOCK, &[(&schema::LOCK_LEAD, Type::INT4)]).await?,
        true => {
            let values = [(&me as _, Type::TEXT), (&LAPSES as _, Type::INT8)];
            link.ask(CLAIM, &values).await?
        }
    };
    let leads = rows.first().map(|row| row.try_get(0)).transpose();
    Ok(leads?.unwrap_or(false))
}

/// Makes the place for a claim.
pub(super) async fn prepare(link: &Link) -> Result<(), Fault> {
    match link.dial.pooler {
        false => Ok(()),
        true => link.ask(PLACE, &[]).await.map(drop),
    }
}
