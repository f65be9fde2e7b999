//! Tables that fit the terminal.

use std::io::{self, Write};

use crate::clock::Timestamp;

/// Between two columns.
const GAP: &str = "  ";

/// Less than this no column is cut to.
const NARROWEST: usize = 12;

/// A table: the heads, and which columns give way when the terminal is too narrow.
pub(super) struct Table {
    heads: Vec<&'static str>,
    gives_way: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table. `gives_way` is the number of the column that is cut.
    pub(super) fn new(heads: &[&'static str], gives_way: usize) -> Self {
        Self {
            heads: heads.into(),
            gives_way: vec![gives_way],
            rows: vec![],
        }
    }

    /// Another column that is cut, when those before it have nothing more to give.
    pub(super) fn gives_way_too(&mut self, column: usize) {
        self.gives_way.push(column);
    }

    /// One row. Control and formatting characters are shown, not obeyed.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.line(cells.into());
    }

    /// The same where the number of columns is known later.
    pub(super) fn line(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|c| plain(c)).collect());
    }

    /// Writes it, at most `width` characters wide; `None` for as wide as it is.
    pub(super) fn write(&self, out: &mut dyn Write, width: Option<usize>) -> io::Result<()> {
        let mut widths: Vec<usize> = self.heads.iter().map(|h| h.len()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        let whole = widths.iter().sum::<usize>() + gaps;
        let mut over = width.map_or(0, |width| whole.saturating_sub(width));
        for column in &self.gives_way {
            if let Some(width) = widths.get_mut(*column) {
                let cut = width.saturating_sub(over).max(NARROWEST.min(*width));
                over = over.saturating_sub(*width - cut);
                *width = cut;
            }
        }
        let heads: Vec<String> = self.heads.iter().map(|h| (*h).into()).collect();
        for row in [&heads].into_iter().chain(&self.rows) {
            let cells = row.iter().zip(&widths).map(|(c, w)| fitted(c, *w));
            let line = cells.collect::<Vec<_>>().join(GAP);
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Padded, or cut in the middle so that both ends can be told.
fn fitted(cell: &str, width: usize) -> String {
    let length = cell.chars().count();
    if length <= width {
        return format!("{cell:width$}");
    }
    let kept = width.saturating_sub(1);
    let (front, back) = (kept.div_ceil(2), kept / 2);
    let front: String = cell.chars().take(front).collect();
    let back: String = cell.chars().skip(length - back).collect();
    format!("{front}…{back}")
}

/// The text with everything that could move the cursor or turn the writing direction spelled out.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' => plain.push(c),
            c if c.is_alphanumeric() => plain.push(c),
            '…' | '–' => plain.push(c),
            c => plain.extend(c.escape_unicode()),
        }
    }
    plain
}

/// So many of something whose plural ends in `s`.
pub(super) fn counted(number: impl TryInto<u128>, what: &str) -> String {
    let number = number.try_into().unwrap_or(u128::MAX);
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// How wide the terminal on standard output is; `None` when it is none.
pub(super) fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|w| *w > 0)
}

/// How many lines it has.
pub(super) fn height() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_row)).filter(|h| *h > 0)
}

/// Month, day and time of day: what tells rows of one list apart.
pub(super) fn minute(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(5..19).unwrap_or_default().replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(width: Option<usize>) -> String {
        let mut table = Table::new(&["STATE", "URL", "ID"], 1);
        table.row(["settled", "https://api.example.com/v1/prices", "pay_1"].map(Into::into));
        table.row(["denied", "x", "pay_22"].map(Into::into));
        let mut out = vec![];
        table.write(&mut out, width).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_as_wide_as_they_must() {
        assert_eq!(
            written(None),
            "STATE    URL                                ID\n\
             settled  https://api.example.com/v1/prices  pay_1\n\
             denied   x                                  pay_22\n"
        );
    }

    #[test]
    fn one_column_gives_way() {
        let narrow = written(Some(40));
        assert!(narrow.lines().all(|l| l.chars().count() <= 40), "{narrow}");
        assert!(narrow.contains("https://api…"), "{narrow}");
        assert!(written(Some(5)).contains("pay_22"));
    }

    #[test]
    fn several_columns_give_way_in_turn() {
        let mut table = Table::new(&["DAY", "HOST", "AGENT"], 1);
        table.gives_way_too(2);
        let long = |c: char| String::from(c).repeat(30);
        table.line(vec!["2026-01-31".into(), long('h'), long('a')]);
        let mut out = vec![];
        table.write(&mut out, Some(50)).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|l| l.chars().count() <= 50), "{text}");
        assert!(text.contains("hh…h") && text.contains("aa…a"), "{text}");
        assert!(text.contains("2026-01-31"), "{text}");
    }

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(
            plain("a\u{1b}[2J\u{202e}ü\r\n"),
            "a\\u{1b}[2J\\u{202e}ü\\u{d}\\u{a}"
        );
    }
}
