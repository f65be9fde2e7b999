//! How values become columns and come back.

use serde::de::DeserializeOwned;
use tokio_postgres::Row;

use super::fault::Fault;
use crate::budget::{Counted, Fact, Mark, Opened, Payment, Stage};
use crate::clock::Timestamp;
use crate::ledger::Accounts;
use crate::ledger::chain::{Hash, Record};
use crate::money::Usd;
use crate::payment::{PaymentId, SessionId};

pub(super) fn json<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|e| Fault::Records(format!("a row cannot be read: {e}")))
}

fn impossible(what: &str) -> Fault {
    Fault::Records(format!("a row holds an impossible value: {what}"))
}

/// A column of 64 bits, whatever their sign.
pub(super) fn number(row: &Row, column: usize) -> Result<u64, Fault> {
    Ok(row.try_get::<_, i64>(column)?.cast_unsigned())
}

pub(super) fn payment_id(row: &Row, column: usize) -> Result<PaymentId, Fault> {
    let bytes: &[u8] = row.try_get(column)?;
    let bytes = bytes.try_into().map_err(|_| impossible("id"))?;
    Ok(PaymentId(u128::from_be_bytes(bytes)))
}

pub(super) fn stage_number(stage: Stage) -> i64 {
    match stage {
        Stage::Reserved => 0,
        Stage::Settled => 1,
        Stage::Released => 2,
    }
}

/// Columns of [`payment`], in order.
pub(super) const PAYMENT: &str = "id, last, stage, amount, until, nonce, marks";

/// Its newest record, and the payment unless it is a refusal.
pub(super) fn payment(row: &Row) -> Result<(PaymentId, u64, Option<Payment>), Fault> {
    let (id, last) = (payment_id(row, 0)?, number(row, 1)?);
    let stage = match row.try_get::<_, Option<i64>>(2)? {
        None => return Ok((id, last, None)),
        Some(0) => Stage::Reserved,
        Some(1) => Stage::Settled,
        Some(2) => Stage::Released,
        Some(_) => return Err(impossible("stage")),
    };
    let payment = Payment {
        stage,
        amount: Usd(number(row, 3)?),
        until: Timestamp(number(row, 4)?),
        nonce: row.try_get(5)?,
        marks: json(row.try_get(6)?)?,
    };
    Ok((id, last, Some(payment)))
}

/// Columns of [`counted`], in order.
pub(super) const COUNTED: &str = "account, bucket, amount, payments";

pub(super) fn counted(row: &Row) -> Result<(Mark, Counted), Fault> {
    let payments = u32::try_from(row.try_get::<_, i64>(3)?);
    let counted = Counted {
        amount: Usd(number(row, 2)?),
        payments: payments.map_err(|_| impossible("payments"))?,
    };
    Ok(((row.try_get(0)?, number(row, 1)?), counted))
}

/// `account, amount, payments`, and of all accounts how many there are and the most payments of one; put with
/// those before it.
pub(super) fn account(row: &Row, accounts: &mut Accounts) -> Result<(), Fault> {
    let few = |at| u32::try_from(row.try_get::<_, i64>(at)?).map_err(|_| impossible("payments"));
    let counted = Counted {
        amount: Usd(number(row, 1)?),
        payments: few(2)?,
    };
    let all = usize::try_from(row.try_get::<_, i64>(3)?);
    accounts.in_use = all.map_err(|_| impossible("count"))?;
    accounts.most_payments = few(4)?;
    accounts.fullest.push((row.try_get(0)?, counted));
    Ok(())
}

/// The sum of such rows.
pub(super) fn total(rows: &[Row]) -> Result<Counted, Fault> {
    let mut sum = Counted::default();
    for row in rows {
        let (_, more) = counted(row)?;
        sum = sum.plus(more).ok_or_else(|| impossible("sum"))?;
    }
    Ok(sum)
}

/// `id, body`.
pub(super) fn session(row: &Row) -> Result<(SessionId, Opened), Fault> {
    let id: String = row.try_get(0)?;
    Ok((SessionId(id.into()), json(row.try_get(1)?)?))
}

/// `key, body`; the body of one that is forgotten is null.
pub(super) fn fact(row: &Row) -> Result<(String, Option<Fact>), Fault> {
    let body: Option<&str> = row.try_get(1)?;
    Ok((row.try_get(0)?, body.map(json).transpose()?))
}

/// Columns of [`record`], in order.
pub(super) const RECORD: &str = "seq, time, entries, event, hash";

pub(super) fn record(row: &Row) -> Result<Record, Fault> {
    let hash: &[u8] = row.try_get(4)?;
    Ok(Record {
        seq: number(row, 0)?,
        time: Timestamp(number(row, 1)?),
        entries: row.try_get(2)?,
        event: row.try_get(3)?,
        hash: Hash::try_from(hash).map_err(|_| impossible("hash"))?,
    })
}
