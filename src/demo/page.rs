//! What the demonstration prints: short lines, colour on a terminal only.

use std::io::{self, Write};

use serde_json::Value;

use crate::event::SpendEvent;
use crate::money::Usd;

/// Members of a refusal in the order in which a person wants them.
const MEMBERS: &[&str] = &[
    "type",
    "title",
    "status",
    "detail",
    "reason",
    "rule",
    "price",
    "limit",
    "remaining",
    "retryable",
    "resets_at",
    "payment",
];

/// How a piece of text looks on a terminal.
#[derive(Clone, Copy)]
enum Ink {
    Bold,
    Dim,
    Green,
    Yellow,
}

impl Ink {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Green => "32",
            Self::Yellow => "33",
        }
    }
}

/// A transcript being written.
pub(super) struct Page<'a> {
    out: &'a mut (dyn Write + Send),
    colour: bool,
    scenes: u8,
}

impl<'a> Page<'a> {
    pub(super) fn new(out: &'a mut (dyn Write + Send), colour: bool) -> Self {
        Self {
            out,
            colour,
            scenes: 0,
        }
    }

    fn ink(&self, ink: Ink, text: &str) -> String {
        if self.colour {
            format!("\x1b[{}m{text}\x1b[0m", ink.code())
        } else {
            text.into()
        }
    }

    pub(super) fn title(&mut self, text: &str) -> io::Result<()> {
        let text = self.ink(Ink::Bold, text);
        writeln!(self.out, "{text}\n")
    }

    /// A numbered heading.
    pub(super) fn scene(&mut self, text: &str) -> io::Result<()> {
        self.scenes = self.scenes.saturating_add(1);
        self.part(&format!("{}  {text}", self.scenes))
    }

    /// A heading. It is shown while what it announces happens.
    pub(super) fn part(&mut self, text: &str) -> io::Result<()> {
        let text = self.ink(Ink::Bold, text);
        writeln!(self.out, "\n{text}")?;
        self.out.flush()
    }

    pub(super) fn plain(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// Who, and what about them.
    pub(super) fn says(&mut self, who: &str, what: &str) -> io::Result<()> {
        let who = self.ink(Ink::Dim, &format!("{who:<9}"));
        writeln!(self.out, "   {who} {what}")
    }

    /// The answer as the agent got it, without its line end.
    pub(super) fn answer(&mut self, status: u16, body: &str) -> io::Result<()> {
        let ink = if status == 200 {
            Ink::Green
        } else {
            Ink::Yellow
        };
        let status = self.ink(ink, &status.to_string());
        self.says("answer", format!("{status} {}", body.trim_end()).trim_end())
    }

    /// A problem document, member by member; those that say nothing are left out.
    pub(super) fn problem(&mut self, document: &Value) -> io::Result<()> {
        for member in MEMBERS {
            match &document[*member] {
                Value::Null => {}
                value => writeln!(self.out, "             {member:?}: {value}")?,
            }
        }
        Ok(())
    }

    /// One line for each payment and refusal.
    pub(super) fn ledger(&mut self, rows: &[SpendEvent]) -> io::Result<()> {
        let head = row(["time", "state", "price", "host and path", "reason"]);
        let head = self.ink(Ink::Dim, &head);
        writeln!(self.out, "   {head}")?;
        for event in rows {
            let time = event.time.to_string();
            let price = event.price.map_or("-".into(), |price| price.to_string());
            let place = format!("{}{}", event.host, event.path);
            let reason = event.reason.as_deref().unwrap_or_default();
            let clock = time.get(11..19).unwrap_or_default();
            let line = row([clock, event.state.name(), &price, &place, reason]);
            writeln!(self.out, "   {line}")?;
        }
        Ok(())
    }
}

fn row([time, state, price, place, reason]: [&str; 5]) -> String {
    let line = format!("{time:<8}  {state:<8}  {price:>9}  {place:<26}  {reason}");
    line.trim_end().into()
}

/// Atomic units of a dollar token with six decimals, as money.
pub(super) fn dollars(units: u128) -> Usd {
    let nanos = units.saturating_mul(1000);
    Usd(u64::try_from(nanos).unwrap_or(u64::MAX))
}
