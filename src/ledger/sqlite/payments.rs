//! Rows of the table of payments and refusals.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use rusqlite::{Connection, Row, params};

use crate::budget::{Entry, Mark, Payment, Stage, marks};
use crate::clock::Timestamp;
use crate::money::Usd;
use crate::payment::{Limit, PaymentId};

use super::packed::{TEXTS, texts};
use super::store::Fault;

pub(super) fn blob(id: PaymentId) -> [u8; 16] {
    id.0.to_be_bytes()
}

/// Ids in this range, the lowest first.
pub(super) fn between(
    connection: &Connection,
    range: &RangeInclusive<PaymentId>,
    most: usize,
) -> Result<Vec<PaymentId>, Fault> {
    const SQL: &str = "SELECT id FROM payment WHERE id >= ?1 AND id <= ?2 ORDER BY id LIMIT ?3";
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(SQL)?;
    let values = params![blob(*range.start()), blob(*range.end()), most];
    let ids = statement.query_map(values, |r| Ok(PaymentId(u128::from_be_bytes(r.get(0)?))))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

fn stage_number(stage: Stage) -> i64 {
    match stage {
        Stage::Reserved => 0,
        Stage::Settled => 1,
        Stage::Released => 2,
    }
}

fn stage(number: i64) -> Result<Stage, Fault> {
    match number {
        0 => Ok(Stage::Reserved),
        1 => Ok(Stage::Settled),
        2 => Ok(Stage::Released),
        _ => Err(Fault::Value("stage")),
    }
}

/// What a row says of a payment. The rest stands in its first record: see [`whole`].
pub(super) struct Kept {
    stage: Stage,
    amount: Usd,
    until: Timestamp,
    marks: Marks,
}

enum Marks {
    /// The account of its session. The others follow from its limits.
    Session(String),
    /// All of them.
    All(Vec<Mark>),
}

/// Columns of [`row`], in order.
pub(super) const COLUMNS: &str = "id, last, stage, amount, until, marks";

/// Its newest record, and the payment unless it is a refusal.
pub(super) fn row(row: &Row<'_>) -> Result<(PaymentId, u64, Option<Kept>), Fault> {
    let id = PaymentId(u128::from_be_bytes(row.get(0)?));
    let last = row.get::<_, i64>(1)?.cast_unsigned();
    let Some(number) = row.get::<_, Option<i64>>(2)? else {
        return Ok((id, last, None));
    };
    let marks: String = row.get(5)?;
    let payment = Kept {
        stage: stage(number)?,
        amount: Usd(row.get::<_, i64>(3)?.cast_unsigned()),
        until: Timestamp(row.get::<_, i64>(4)?.cast_unsigned()),
        marks: match marks.starts_with('[') {
            true => Marks::All(serde_json::from_str(&marks)?),
            false => Marks::Session(marks),
        },
    };
    Ok((id, last, Some(payment)))
}

/// What a payment with this newest record is charged under, and its limits: its reservation says it.
fn promised(
    connection: &Connection,
    payment: PaymentId,
    last: u64,
) -> Result<(String, Vec<Limit>), Fault> {
    let mut next = Some(last.cast_signed());
    let sql = format!("SELECT r.before, {TEXTS} FROM record r WHERE r.seq = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    while let Some(seq) = next {
        let mut rows = statement.query([seq])?;
        let row = rows.next()?.ok_or(Fault::Value("before"))?;
        let before: Option<i64> = row.get(0)?;
        let (entries, _) = texts(row, 1)?;
        for entry in serde_json::from_str::<Vec<Entry>>(&entries)? {
            if let Entry::Reserve {
                id, nonce, limits, ..
            } = entry
                && id == payment
            {
                return Ok((nonce, limits));
            }
        }
        // Records only ever point back; one that does not is damaged, and must not hold us here.
        next = before.filter(|before| *before < seq);
    }
    Err(Fault::Value("before"))
}

/// The largest id of a payment or refusal. Ids begin with their time, so that new ones are larger.
pub(super) fn largest(connection: &Connection) -> Result<Option<PaymentId>, Fault> {
    let sql = "SELECT max(id) FROM payment";
    let largest: Option<[u8; 16]> = connection.query_row(sql, [], |row| row.get(0))?;
    Ok(largest.map(|id| PaymentId(u128::from_be_bytes(id))))
}

pub(super) fn at(
    connection: &Connection,
    id: PaymentId,
) -> Result<Option<(u64, Option<Payment>)>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM payment WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([blob(id)])?;
    let Some((_, last, payment)) = rows.next()?.map(self::row).transpose()? else {
        return Ok(None);
    };
    let whole = |payment| whole(connection, id, last, payment);
    Ok(Some((last, payment.map(whole).transpose()?)))
}

/// A payment as its row and its reservation have it.
pub(super) fn whole(
    connection: &Connection,
    id: PaymentId,
    last: u64,
    kept: Kept,
) -> Result<Payment, Fault> {
    let (nonce, limits) = promised(connection, id, last)?;
    Ok(Payment {
        stage: kept.stage,
        amount: kept.amount,
        marks: match kept.marks {
            Marks::All(marks) => marks,
            Marks::Session(account) => marks(vec![(account, 0)], limits.iter()),
        },
        until: kept.until,
        nonce,
    })
}

/// [`Marks`] as they are written.
fn written(payment: &Payment) -> Result<Cow<'_, str>, Fault> {
    Ok(match payment.marks.first() {
        // Judged first, and the only one of which the reservation does not tell (`created`).
        Some((account, 0)) if account.starts_with("session:") => account.into(),
        Some(_) | None => serde_json::to_string(&payment.marks)?.into(),
    })
}

/// Writes payments, each with its newest record; `None` for a refusal. A statement is looked up once for
/// all of them.
pub(super) fn save<'a>(
    connection: &Connection,
    rows: impl Iterator<Item = (PaymentId, u64, Option<&'a Payment>)>,
) -> Result<(), Fault> {
    let mut refusal = connection.prepare_cached(
        "INSERT INTO payment(id, last) VALUES (?1, ?2) ON CONFLICT(id) DO UPDATE SET last = ?2",
    )?;
    let mut statement = connection.prepare_cached(
        "INSERT INTO payment VALUES (?1, ?2, ?3, ?4, ?5, NULL, ?6) ON CONFLICT(id) DO UPDATE SET
         last = ?2, stage = ?3, amount = ?4, until = ?5, marks = ?6",
    )?;
    for (id, last, payment) in rows {
        let Some(payment) = payment else {
            refusal.execute(params![blob(id), last.cast_signed()])?;
            continue;
        };
        statement.execute(params![
            blob(id),
            last.cast_signed(),
            stage_number(payment.stage),
            payment.amount.0.cast_signed(),
            payment.until.0.cast_signed(),
            written(payment)?,
        ])?;
    }
    Ok(())
}
