//! Columns separated by commas (RFC 4180), with the field names of spend events.

use super::{Recorded, dollars};
use crate::event::log::visible;
use crate::event::{Delivery, SpendEvent};

/// What a column holds. Numbers are ours alone, so they need no care.
pub(super) enum Cell {
    Text(String),
    Number(String),
    Empty,
}

impl Cell {
    pub(super) fn text(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    pub(super) fn number(number: impl ToString) -> Self {
        Self::Number(number.to_string())
    }

    pub(super) fn maybe(text: Option<impl ToString>) -> Self {
        text.map_or(Self::Empty, Self::text)
    }

    pub(super) fn maybe_number(number: Option<impl ToString>) -> Self {
        number.map_or(Self::Empty, Self::number)
    }

    fn write(&self, line: &mut String) {
        match self {
            Self::Text(text) => quote(text, line),
            Self::Number(number) => line.push_str(number),
            Self::Empty => {}
        }
    }
}

/// A spreadsheet takes what begins so for a formula; an apostrophe in front makes it text again.
const FORMULA: &[char] = &['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// Every text is in quotes; what could move a cursor, end a line or turn the reading direction is
/// written out.
fn quote(text: &str, line: &mut String) {
    line.push('"');
    if text.trim_start().starts_with(FORMULA) {
        line.push('\'');
    }
    line.push_str(&visible(text).replace('"', "\"\""));
    line.push('"');
}

pub(super) fn join(cells: impl IntoIterator<Item = Cell>) -> String {
    let mut line = String::new();
    for (i, cell) in cells.into_iter().enumerate() {
        if i > 0 {
            line.push(',');
        }
        cell.write(&mut line);
    }
    line
}

/// A column: its name, and what it holds.
type Column = (&'static str, fn(&SpendEvent) -> Cell);

const COLUMNS: &[Column] = &[
    ("id", |e| Cell::text(e.id)),
    ("time", |e| Cell::text(e.time)),
    ("state", |e| Cell::text(e.state.name())),
    ("session", |e| Cell::text(&e.session)),
    ("agent", |e| Cell::text(&e.agent)),
    ("method", |e| Cell::text(&e.method)),
    ("host", |e| Cell::text(&e.host)),
    ("path", |e| Cell::text(&e.path)),
    ("protocol", |e| Cell::text(&e.protocol)),
    ("scheme", |e| Cell::text(&e.scheme)),
    ("network", |e| Cell::text(&e.network)),
    ("asset", |e| Cell::text(&e.asset)),
    ("pay_to", |e| Cell::text(&e.pay_to)),
    ("amount", |e| Cell::maybe_number(e.amount)),
    ("amount_settled", |e| Cell::maybe_number(e.amount_settled)),
    ("price", |e| Cell::maybe_number(e.price.map(dollars))),
    ("charged", |e| Cell::maybe_number(e.charged.map(dollars))),
    ("currency", |_| Cell::text("USD")),
    ("nonce", |e| Cell::maybe(e.nonce.as_ref())),
    ("valid_before", |e| Cell::maybe_number(e.valid_before)),
    ("wallet", |e| Cell::text(&e.wallet)),
    ("rule", |e| Cell::maybe(e.rule.as_ref())),
    ("policy", |e| Cell::text(&e.policy)),
    ("reason", |e| Cell::maybe(e.reason.as_ref())),
    ("receipt", |e| Cell::maybe(e.receipt.as_ref())),
    ("transaction", |e| Cell::maybe(e.transaction.as_ref())),
    ("delivery_status", |e| {
        delivered(e, |d| Cell::number(d.status))
    }),
    ("delivery_content_type", |e| {
        delivered(e, |d| Cell::maybe(d.content_type.as_ref()))
    }),
    ("delivery_length", |e| {
        delivered(e, |d| Cell::maybe_number(d.length))
    }),
    ("delivery_digest", |e| {
        delivered(e, |d| Cell::maybe(d.digest.as_ref()))
    }),
    ("request", |e| Cell::maybe(e.request.as_ref())),
    ("flags", |e| Cell::text(flags(e))),
    ("confirmed", |e| Cell::number(e.confirmed)),
    ("block", |e| Cell::maybe_number(e.block)),
    ("latency_ms", |e| Cell::maybe_number(e.latency_ms)),
    ("trace_id", |e| Cell::maybe(e.trace_id.as_ref())),
    ("span_id", |e| Cell::maybe(e.span_id.as_ref())),
];

fn delivered(event: &SpendEvent, cell: fn(&Delivery) -> Cell) -> Cell {
    event.delivery.as_ref().map_or(Cell::Empty, cell)
}

pub(super) fn flags(event: &SpendEvent) -> String {
    let names: Vec<&str> = event.flags.iter().map(|f| f.name()).collect();
    names.join(" ")
}

/// What came later comes last: some readers count columns.
const LATER: [&str; 4] = ["record_seq", "record_hash", "made", "owed"];

pub(super) fn head() -> String {
    let names = COLUMNS.iter().map(|(name, _)| *name);
    let names: Vec<&str> = names.chain(LATER).collect();
    names.join(",")
}

pub(super) fn line(row: &Recorded) -> String {
    let cells = COLUMNS.iter().map(|(_, cell)| cell(&row.event));
    join(cells.chain([
        Cell::number(row.record_seq),
        Cell::text(&row.record_hash),
        Cell::text(row.event.id.made()),
        Cell::number(row.event.owed),
    ]))
}
