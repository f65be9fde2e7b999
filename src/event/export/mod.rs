//! What was spent, for other programs: a line for each payment, in one of three formats. Text that
//! others wrote cannot act: not on a terminal, not in a spreadsheet.

use super::SpendEvent;
use super::log::ascii;
use crate::clock::Timestamp;
use crate::money::Usd;

mod csv;
mod focus;

/// The newest record of one payment or refusal, with its place in the ledger's hash chain.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Recorded {
    /// What it says.
    #[serde(flatten)]
    pub event: SpendEvent,
    /// Its number.
    pub record_seq: u64,
    /// Its hash, hexadecimal.
    pub record_hash: String,
}

/// One line of JSON: with the moment of the payment, by which periods are cut; `time` is that of its newest
/// record.
#[derive(serde::Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    row: &'a Recorded,
    made: Timestamp,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line, with the field names of spend events, and when it was made.
    Jsonl,
    /// The same in columns.
    Csv,
    /// FOCUS 1.2, the columns of cloud bills.
    Focus,
}

impl Format {
    /// The line before all others, if the format has one.
    #[must_use]
    pub fn head(self) -> Option<String> {
        match self {
            Self::Jsonl => None,
            Self::Csv => Some(csv::head()),
            Self::Focus => Some(focus::head()),
        }
    }

    /// One line, without its end.
    #[must_use]
    pub fn line(self, row: &Recorded) -> String {
        match self {
            // Every field is a text, a number or a list of them: this cannot fail.
            Self::Jsonl => {
                let made = row.event.id.made();
                ascii(serde_json::to_string(&Line { row, made }).unwrap_or_default())
            }
            Self::Csv => csv::line(row),
            Self::Focus => focus::line(row),
        }
    }
}

/// Dollars as a plain decimal number, to the last billionth.
fn dollars(usd: Usd) -> String {
    let text = usd.to_string();
    text.trim_end_matches(" USD").to_owned()
}

#[cfg(test)]
mod tests;
