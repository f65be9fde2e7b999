//! `farepass top`: what is spent, as it is spent. Reads the ledger only, also beside a running proxy.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::ledger::{charged, request};
use super::session::seconds;
use super::table::{Table, height, minute, plain, width};
use super::{Command, Exit, Failure, Terminal, setup};
use crate::admin::control;
use crate::budget::Asking;
use crate::clock::{self, Timestamp};
use crate::config::Config;
use crate::event::{SpendEvent, State};
use crate::ledger::{Filter, Reader, SessionRow};
use crate::payer;
use crate::settings::Span;

/// Between two looks the disk and the database have a rest.
const OFTENEST: Duration = Duration::from_millis(200);
/// Where the height of the terminal is not known.
const LINES: usize = 24;
/// Clears the terminal.
const CLEAR: &[u8] = b"\x1b[H\x1b[J";

/// Sessions, what waits for a person, and the newest payments and refusals, shown anew every two seconds.
///
/// Sessions come first that were made last; those that are over are left out. What does not fit the
/// terminal is not shown: `session list`, `approve` and `ledger list` have all of it. Ends with Ctrl-C.
/// Where stdout is no terminal it is shown once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farepass top
  farepass top --every 10s
  farepass top --json | jq -c '.sessions[] | [.id, .spent]'")]
pub(super) struct Top {
    /// How long it is shown before it is looked up again
    #[arg(long, value_name = "TIME", default_value = "2s")]
    every: Span,
    /// Show it once
    #[arg(long)]
    once: bool,
    /// As JSON, one line each time
    #[arg(long)]
    json: bool,
}

/// Everything that is shown, from one look at the ledger.
#[derive(Default, serde::Serialize)]
struct View {
    time: Timestamp,
    /// Sessions that may still spend, the newest first.
    sessions: Vec<SessionRow>,
    /// Payments whose money may still move: reserved, or with an unknown outcome.
    open: usize,
    unknown: usize,
    waiting: Vec<Asking>,
    frozen: Vec<Value>,
    /// Payments and refusals, the newest first.
    newest: Vec<SpendEvent>,
}

impl Command for Top {
    const NAME: &'static str = "top";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        if self.every.0 < OFTENEST {
            return Err(Failure::new(Exit::Usage, "--every: at least 200ms"));
        }
        let config = setup::config(terminal)?;
        setup::wait(self.show(&config, terminal))?;
        Ok(Exit::Done)
    }
}

impl Top {
    /// Shows it until somebody ends it. A ledger that is away for a while may come back.
    async fn show(&self, config: &Config, terminal: &mut Terminal) -> Result<(), Failure> {
        let stays = !self.once && height().is_some();
        let mut book = None;
        loop {
            let lines = height().unwrap_or(LINES);
            let seen = look(config, &mut book, lines).await;
            if stays && !self.json {
                terminal.out.write_all(CLEAR)?;
            }
            match seen {
                Ok(view) if self.json => terminal.json(&view)?,
                Ok(view) => view.write(&mut terminal.out, width(), lines)?,
                Err(failure) if stays => {
                    book = None;
                    failure.report(&mut terminal.out);
                }
                Err(failure) => return Err(failure),
            }
            terminal.out.flush()?;
            if !stays {
                return Ok(());
            }
            tokio::time::sleep(self.every.0).await;
        }
    }
}

async fn look(
    config: &Config,
    book: &mut Option<Arc<dyn Reader>>,
    most: usize,
) -> Result<View, Failure> {
    let now = clock::wall();
    if book.is_none() {
        *book = setup::book(config)?;
    }
    let stopped = payer::stopped(&config.state_dir).then(control::by_file);
    let Some(book) = book else {
        // No proxy has run here yet.
        return Ok(View {
            time: now,
            frozen: stopped.into_iter().collect(),
            ..View::default()
        });
    };
    let newest = Filter {
        denied: true,
        limit: most,
        ..Filter::default()
    };
    let mut view = View {
        time: now,
        sessions: book.sessions().await?,
        waiting: control::approvals(&**book).await?,
        frozen: stopped
            .into_iter()
            .chain(control::freezes(&**book).await?)
            .collect(),
        newest: book.payments(newest).await?,
        ..View::default()
    };
    view.sessions
        .retain(|row| !row.closed && row.session.expires > now);
    // Nothing more is paid in a session that is over, whatever a person says.
    let open: BTreeSet<_> = view.sessions.iter().map(|row| &row.session.id).collect();
    view.waiting
        .retain(|asking| asking.waits(now) && open.contains(&asking.session));
    for (_, event) in book.open().await? {
        view.open += 1;
        view.unknown += usize::from(event.state == State::Unknown);
    }
    Ok(view)
}

impl View {
    /// At most so wide and so high; the newest payments fill what the rest leaves.
    fn write(&self, out: &mut dyn Write, width: Option<usize>, lines: usize) -> io::Result<()> {
        let mut page = vec![];
        self.whole(&mut page, width, lines)?;
        // The cursor has a line of its own.
        let most = lines.saturating_sub(1);
        for line in String::from_utf8_lossy(&page).lines().take(most) {
            let fits: String = line.chars().take(width.unwrap_or(usize::MAX)).collect();
            writeln!(out, "{}", fits.trim_end())?;
        }
        Ok(())
    }

    fn whole(&self, out: &mut Vec<u8>, width: Option<usize>, lines: usize) -> io::Result<()> {
        let mut head = vec![self.summary()];
        let most = lines / 4;
        for row in self.frozen.iter().take(most) {
            let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
            head.push(format!("frozen: {}  {}", text("what"), text("why")));
        }
        if let Some(more) = self.frozen.len().checked_sub(most).filter(|n| *n > 0) {
            head.push(format!("and {more} more: farepass freeze --list"));
        }
        for asking in self.waiting.iter().take(most) {
            head.push(format!(
                "waits: farepass approve {}  {} to {}{} of {}",
                asking.id, asking.price, asking.host, asking.path, asking.agent
            ));
        }
        for line in &head {
            writeln!(out, "{}", plain(line))?;
        }
        writeln!(out)?;
        // Two empty lines, two heads, and the line that the cursor is in.
        let room = lines.saturating_sub(head.len() + 5);
        let shown = self.sessions.len().min(lines / 3).min(room);
        self.sessions(shown).write(out, width)?;
        writeln!(out)?;
        self.newest(room.saturating_sub(shown)).write(out, width)
    }

    fn summary(&self) -> String {
        let (sessions, open, unknown) = (self.sessions.len(), self.open, self.unknown);
        let now = seconds(self.time);
        format!(
            "{now}  sessions: {sessions}  payments open: {open}, with an unknown outcome: {unknown}"
        )
    }

    fn sessions(&self, most: usize) -> Table {
        let heads = [
            "SESSION", "AGENT", "SPENT", "BUDGET", "LEFT", "PAYMENTS", "EXPIRES",
        ];
        let mut table = Table::new(&heads, 1);
        table.gives_way_too(0);
        for row in self.sessions.iter().take(most) {
            let left = row.session.budget.minus(row.spent).unwrap_or_default();
            table.row([
                row.session.id.to_string(),
                row.session.agent.to_string(),
                row.spent.to_string(),
                row.session.budget.to_string(),
                left.to_string(),
                row.payments.to_string(),
                minute(row.session.expires),
            ]);
        }
        table
    }

    fn newest(&self, most: usize) -> Table {
        let heads = ["TIME", "STATE", "CHARGED", "REQUEST", "AGENT", "RULE"];
        let mut table = Table::new(&heads, 3);
        table.gives_way_too(2);
        for event in self.newest.iter().take(most) {
            table.row([
                minute(event.time),
                event.state.name().into(),
                charged(event),
                request(event),
                event.agent.clone(),
                event.rule.clone().unwrap_or_default(),
            ]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Asked;
    use crate::money::Usd;
    use crate::payment::{ApprovalId, SessionId};

    /// One question, as it stands.
    fn asking(stage: Asked) -> Asking {
        Asking {
            id: ApprovalId(u128::from_be_bytes([0x1a; 16])),
            digest: String::new(),
            because: vec!["above".into()],
            session: SessionId("ses_1".into()),
            agent: "research-1".into(),
            method: "GET".into(),
            host: "a-host-with-a-long-name.example.com".into(),
            path: "/with/a/long/path/too".into(),
            rule: "r".into(),
            network: "eip155:84532".into(),
            asset: "USDC".into(),
            amount: crate::money::Amount(10_000),
            pay_to: String::new(),
            price: Usd(10_000_000),
            asked: Timestamp(0),
            expires: Timestamp(1_000),
            stage,
        }
    }

    #[test]
    fn only_what_nobody_answered_waits() {
        let now = Timestamp(500);
        assert!(asking(Asked::Waiting).waits(now));
        assert!(!asking(Asked::Waiting).waits(Timestamp(1_000)));
        for answered in [Asked::Approved { at: now }, Asked::Denied { at: now }] {
            assert!(!asking(answered).waits(now), "{answered:?}");
        }
    }

    #[test]
    fn how_to_answer_fits_a_narrow_terminal() {
        let view = View {
            waiting: vec![asking(Asked::Waiting)],
            ..View::default()
        };
        let mut out = vec![];
        view.write(&mut out, Some(80), 24).unwrap();
        let text = String::from_utf8(out).unwrap();
        let line = text.lines().find(|line| line.starts_with("waits"));
        let line = line.unwrap();
        assert!(line.chars().count() <= 80, "{line}");
        let whole = asking(Asked::Waiting).id;
        let begins = format!("waits: farepass approve {whole}  0.01 USD to");
        assert!(line.starts_with(&begins), "{line}");
    }
}
