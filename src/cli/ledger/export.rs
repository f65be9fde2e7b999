//! `farepass ledger export`: what was spent, for other programs, one payment after the other however
//! many there are.

use std::io::{IsTerminal as _, Write};
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::cli::{Exit, Failure, Terminal, session, setup};
use crate::clock::{NotMoment, Timestamp};
use crate::event::export::{Format, Recorded};
use crate::ledger::{Filter, Reader};

/// Rows on their way from the disk to the output.
const WAITING: usize = 256;

/// Every payment with its newest state, for other programs
///
/// Payments belong to the moment they were made at, whatever became of them later, so that two
/// periods side by side have each payment once. What was released costs nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farepass ledger export --format csv --from 2026-01-01 --to 2026-02-01 > january.csv
  farepass ledger export --format focus    FOCUS 1.2, for cost tools")]
pub(super) struct Export {
    /// jsonl (the fields of `ledger list --json`), csv (the same in columns) or focus (FOCUS 1.2)
    #[arg(long, value_name = "FORMAT", default_value = "jsonl", value_parser = format)]
    format: Format,
    /// As JSON: the same as --format jsonl
    #[arg(long = "json", conflicts_with = "format")]
    _json: bool,
    /// Only what was made at this time or later: 2026-01-31 or 2026-01-31T12:00:00Z, UTC
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<Timestamp>,
    /// Only what was made before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<Timestamp>,
    /// Only this session: its id, or the beginning of it
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Also refusals
    #[arg(long)]
    denied: bool,
}

fn format(word: &str) -> Result<Format, String> {
    match word {
        "jsonl" => Ok(Format::Jsonl),
        "csv" => Ok(Format::Csv),
        "focus" => Ok(Format::Focus),
        _ => Err("jsonl, csv or focus".into()),
    }
}

fn moment(text: &str) -> Result<Timestamp, NotMoment> {
    text.parse()
}

/// No period ends before it begins.
pub(in crate::cli) fn in_order(
    from: (&str, Option<Timestamp>),
    to: (&str, Option<Timestamp>),
) -> Result<(), Failure> {
    match (from.1, to.1) {
        (Some(begin), Some(end)) if begin > end => Err(Failure::new(
            Exit::Usage,
            format_args!("{} is after {}, so nothing is in between", from.0, to.0),
        )),
        _ => Ok(()),
    }
}

impl Export {
    pub(super) fn run(
        self,
        book: Option<Arc<dyn Reader>>,
        terminal: &mut Terminal,
    ) -> Result<Exit, Failure> {
        in_order(("--from", self.from), ("--to", self.to))?;
        let filter = Filter {
            session: session::named(book.as_deref(), self.session.as_deref())?,
            denied: self.denied,
            from: self.from,
            to: self.to,
            ..Filter::default()
        };
        if let Some(head) = self.format.head() {
            write(&mut terminal.out, self.format, &head)?;
        }
        if let Some(book) = book {
            let rows = rows(&*book, filter, self.format, &mut terminal.out);
            match std::io::stdout().is_terminal() {
                // The rows are what is to be seen there.
                true => setup::wait(rows)?,
                false => setup::work("exporting", rows)?,
            }
        }
        Ok(Exit::Done)
    }
}

async fn rows(
    book: &dyn Reader,
    filter: Filter,
    format: Format,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let (sender, mut rows) = mpsc::channel::<Recorded>(WAITING);
    let written = async move {
        while let Some(row) = rows.recv().await {
            write(out, format, &format.line(&row))?;
        }
        Ok::<_, Failure>(())
    };
    let (walked, written) = tokio::join!(book.walk(filter, sender), written);
    written?;
    Ok(walked?)
}

/// Lines of CSV end as RFC 4180 has it.
fn write(out: &mut impl Write, format: Format, line: &str) -> Result<(), Failure> {
    let end = match format {
        Format::Jsonl => "\n",
        Format::Csv | Format::Focus => "\r\n",
    };
    Ok(write!(out, "{line}{end}")?)
}
