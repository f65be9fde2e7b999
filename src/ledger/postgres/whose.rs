//! Sessions in the tables: whose they are, and what counts in them.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::types::Type;

use super::fault::Fault;
use super::read::{COUNTED_FROM, Desk};
use super::rows;
use crate::budget::{Counted, Opened};
use crate::ledger::columns::bucket_number;
use crate::ledger::{SessionRow, Standings};
use crate::money::Usd;
use crate::payment::{Limit, Session, SessionId};

pub(super) const SESSION: &str = "SELECT id, body, changed FROM farepass_session WHERE id = $1";
pub(super) const BY_SECRET: &str =
    "SELECT id, body, changed FROM farepass_session WHERE secret = $1";
const SESSIONS: &str = "SELECT id, body FROM farepass_session";
const MADE: &str = "SELECT count(*) FROM farepass_session";
/// Of many at once: a question for each would take a round trip for each.
const COUNTED_OF: &str = "SELECT account, bucket, amount, payments FROM farepass_counted
  WHERE account = ANY($1) ORDER BY account";

impl Desk {
    async fn total(&self, account: &str, first: u64) -> Result<Counted, Fault> {
        let first = bucket_number(first);
        let values = [(&account as _, Type::TEXT), (&first as _, Type::INT8)];
        let counted = rows::total(&self.link.ask(COUNTED_FROM, &values).await?)?;
        if let Some(known) = &self.known {
            known.counted(account, counted);
        }
        Ok(counted)
    }

    async fn row(&self, opened: &Opened) -> Result<SessionRow, Fault> {
        let account = Limit::session(&opened.session).account;
        Ok(SessionRow::new(opened, self.total(&account, 0).await?))
    }

    pub(super) async fn stored(&self, sql: &str, value: &str) -> Result<Option<SessionRow>, Fault> {
        let found = self.link.ask(sql, &[(&value, Type::TEXT)]).await?;
        let Some(row) = found.first() else {
            return Ok(None);
        };
        let (id, opened) = rows::session(row)?;
        if let Some(known) = &self.known {
            // Who was let in once is let in while the database is away.
            known.session(id, rows::number(row, 2)?, &opened);
        }
        Ok(Some(self.row(&opened).await?))
    }

    /// A session as it is known here. What others made of it is looked up beside, for whoever asks next.
    pub(super) fn at_hand(&self, id: &SessionId) -> Option<Session> {
        let known = self.known.as_ref()?;
        let (row, fresh) = known.row(id)?;
        if !fresh && known.takes(id) {
            let (desk, known, id) = (self.clone(), Arc::clone(known), id.clone());
            self.link.aside(async move {
                if let Err(fault) = desk.stored(SESSION, &id.0).await {
                    tracing::debug!(%fault, "a session cannot be looked up");
                }
                known.looked(&id);
            });
        }
        Some(row.session)
    }

    pub(super) async fn all_sessions(&self) -> Result<Vec<SessionRow>, Fault> {
        let rows = self.link.ask(SESSIONS, &[]).await?;
        let opened = rows.iter().map(|row| Ok(rows::session(row)?.1));
        let opened: Vec<Opened> = opened.collect::<Result<_, Fault>>()?;
        let account = |opened: &Opened| Limit::session(&opened.session).account;
        let accounts: Vec<String> = opened.iter().map(account).collect();
        let sums = self.sums(&accounts).await?;
        let sum = |account: &String| sums.get(account).copied().unwrap_or_default();
        let with = opened.iter().zip(&accounts);
        Ok(with.map(|(o, a)| SessionRow::new(o, sum(a))).collect())
    }

    async fn sums(&self, accounts: &[String]) -> Result<HashMap<String, Counted>, Fault> {
        let values = [(&accounts as _, Type::TEXT_ARRAY)];
        let sums = by_name(&self.link.ask(COUNTED_OF, &values).await?)?;
        Ok(sums.into_iter().collect())
    }

    /// How all sessions stand, of which these are live. Those that are over are counted and not read: there may be
    /// millions.
    pub(super) async fn stand(&self, live: &[(String, Usd)]) -> Result<Standings, Fault> {
        let (accounts, _): (Vec<String>, Vec<Usd>) = live.iter().cloned().unzip();
        let sums = self.sums(&accounts).await?;
        let found = self.link.ask(MADE, &[]).await?;
        let made = found.first().map(|row| rows::number(row, 0)).transpose()?;
        let mut standings = Standings::default();
        for (account, budget) in live {
            let spent = sums.get(account).is_some_and(|sum| sum.amount >= *budget);
            standings.add(spent);
        }
        standings.over = made.unwrap_or_default().saturating_sub(standings.live());
        Ok(standings)
    }
}

/// The sums of rows that come in the order of their accounts.
fn by_name(found: &[tokio_postgres::Row]) -> Result<Vec<(String, Counted)>, Fault> {
    let mut names: Vec<(String, Counted)> = vec![];
    for row in found {
        let ((name, _), counted) = rows::counted(row)?;
        match names.last_mut() {
            Some((last, sum)) if *last == name => {
                let impossible = || Fault::Records(format!("the sum of {name} does not fit"));
                *sum = sum.plus(counted).ok_or_else(impossible)?;
            }
            Some(_) | None => names.push((name, counted)),
        }
    }
    Ok(names)
}
