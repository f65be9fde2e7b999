//! `farepass session`: budgets with an expiry and a secret. Whoever owns the ledger writes: this
//! command, or the running proxy that it asks.

use std::io::Write as _;

use serde_json::Value;

use super::table::{Table, counted, plain, width};
use super::{Command, Exit, Failure, Terminal, owner, setup};
use crate::admin::sessions::{self, Usual, Wanted};
use crate::clock::{self, Timestamp};
use crate::config::Config;
use crate::ledger::sessions::{DEFAULT, Named};
use crate::ledger::{Reader, SessionRow};
use crate::money::Usd;
use crate::payment::SessionId;

/// Budgets with an expiry and a secret: one proxy URL each
#[derive(Debug, clap::Args)]
pub(super) struct Session {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Create(Create),
    /// Every session, newest first
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// One session
    Show {
        /// Its id, or the beginning of it, or `default`
        id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Close a session: nothing more is paid in it
    Close {
        /// Its id, or the beginning of it, or `default`
        id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// Open a session and print its proxy URL
///
/// The URL on stdout is all that an agent needs. It holds the secret, which is shown this once and
/// stored nowhere.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  export HTTPS_PROXY=$(farepass session create --agent research-1 --budget \"1 USD\" --expires 60m)
  farepass session create --default    after the default session is over: the next one")]
struct Create {
    /// For which agent; rules may match it
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Most that may be spent in it [default: as sessions.default of the configuration]
    #[arg(long, value_name = "MONEY")]
    budget: Option<Usd>,
    /// How long it lasts, as 60m [default: as sessions.default of the configuration]
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// The session of clients without credentials; with $FAREPASS_SESSION, $FAREPASS_AGENT and
    /// $FAREPASS_BUDGET as `serve` has them
    #[arg(long, conflicts_with = "agent")]
    default: bool,
    #[command(flatten)]
    own: Own,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What `serve` was told of the session of clients without credentials.
#[derive(Debug, clap::Args)]
pub(super) struct Own {
    #[arg(id = "own_session", long = "own-session", hide = true, env = "FAREPASS_SESSION", default_value = DEFAULT, hide_env_values = true)]
    session: String,
    #[arg(id = "own_agent", long = "own-agent", hide = true, env = "FAREPASS_AGENT", default_value = DEFAULT, hide_env_values = true)]
    agent: String,
    #[arg(
        id = "own_budget",
        long = "own-budget",
        hide = true,
        env = "FAREPASS_BUDGET",
        hide_env_values = true
    )]
    budget: Option<Usd>,
}

impl Own {
    /// What a session has unless it is asked otherwise.
    pub(super) fn usual(&self, config: &Config) -> Usual {
        let named = Named {
            id: self.session.clone(),
            agent: self.agent.clone(),
        };
        Usual::new(&config.sessions, named, self.budget)
    }
}

impl Command for Session {
    const NAME: &'static str = "session";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let config = setup::config(terminal)?;
        match self.action {
            Action::Create(create) => create.run(&config, terminal)?,
            Action::List { json } => list(&config, terminal, json)?,
            Action::Show { id, json } => {
                let book = setup::book(&config)?;
                let row = setup::wait(find(book.as_deref(), &id))?;
                show(terminal, &row, json)?;
            }
            Action::Close { id, json } => {
                let row = setup::wait(close(&config, &id))?;
                show(terminal, &row, json)?;
            }
        }
        Ok(Exit::Done)
    }
}

impl Create {
    fn run(self, config: &Config, terminal: &mut Terminal) -> Result<(), Failure> {
        let wanted = Wanted {
            agent: self.agent,
            budget: self.budget,
            expires: self.expires,
            default: self.default,
        };
        let usual = self.own.usual(config);
        let document = setup::wait(owner::open_session(config, &usual, &wanted))?;
        let told = tell(terminal, &document, self.json).and_then(|()| Ok(terminal.out.flush()?));
        if told.is_err() && !self.default {
            // Its secret is with nobody, and nothing shows it again.
            let id = document.get("id").and_then(Value::as_str);
            let id = SessionId(id.unwrap_or_default().into());
            setup::wait(close(config, &id.0))?;
            tracing::warn!(session = %id, "nobody could be told the secret of this session: it is closed");
        }
        told?;
        if self.json {
            return Ok(());
        }
        let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or("?");
        terminal.say(format_args!(
            "session {} of {}: {} until {}{}",
            text("id"),
            text("agent"),
            text("budget"),
            text("expires"),
            if self.default {
                ""
            } else {
                "; the secret in the URL is shown this once"
            },
        ));
        Ok(())
    }
}

/// The URL with its secret.
fn tell(terminal: &mut Terminal, document: &Value, json: bool) -> Result<(), Failure> {
    if json {
        return terminal.json(document);
    }
    let url = document.get("proxy").and_then(Value::as_str).unwrap_or("?");
    Ok(writeln!(terminal.out, "{url}")?)
}

async fn close(config: &Config, id: &str) -> Result<SessionRow, Failure> {
    let book = setup::book(config)?;
    let id = find(book.as_deref(), id).await?.session.id;
    owner::close_session(&config.opening()?, &id).await?;
    // A new look: to whom the ledger belongs may have changed.
    let book = setup::book(config)?;
    find(book.as_deref(), &id.0).await
}

/// Least of an id that stands for it: one that is closed is so for good.
const SHORTEST: usize = 8;

const SHORT: &str = "write at least 8 characters of an id; `farepass session list` has them";
const LIST: &str = "`farepass session list` has the ids";

/// The session that rows are asked of, by its id or the beginning of it. A name that fits none is an error: no rows
/// would look as if nothing had been spent.
pub(super) fn named(
    book: Option<&dyn Reader>,
    id: Option<&str>,
) -> Result<Option<SessionId>, Failure> {
    let found = id.map(|id| setup::wait(find(book, id))).transpose()?;
    Ok(found.map(|row| row.session.id))
}

async fn find(book: Option<&dyn Reader>, id: &str) -> Result<SessionRow, Failure> {
    let unknown = || Failure::from(sessions::SessionError::Unknown).hint(LIST);
    let book = book.ok_or_else(unknown)?;
    if let Some(row) = book.session(&SessionId(id.into())).await? {
        return Ok(row);
    }
    let long = id.chars().count() >= SHORTEST;
    let fits = |row: &SessionRow| long && row.session.id.0.starts_with(id);
    let mut fitting = book.sessions().await?.into_iter().filter(fits);
    match (fitting.next(), fitting.next()) {
        (Some(row), None) => Ok(row),
        (None, _) if !long && id.starts_with("ses_") => Err(unknown().hint(SHORT)),
        (None, _) => Err(unknown()),
        (Some(_), _) => {
            let said = format_args!("more than one session id begins with `{}`", plain(id));
            Err(Failure::new(Exit::Usage, said).hint(LIST))
        }
    }
}

fn list(config: &Config, terminal: &mut Terminal, json: bool) -> Result<(), Failure> {
    let rows = match setup::book(config)? {
        Some(book) => setup::wait(async { Ok(book.sessions().await?) })?,
        None => vec![],
    };
    if json {
        return terminal.json_list(&rows);
    }
    if rows.is_empty() {
        terminal.say("no sessions yet");
        return Ok(());
    }
    let now = clock::wall();
    let heads = [
        "ID", "AGENT", "STATE", "SPENT", "BUDGET", "PAYMENTS", "EXPIRES",
    ];
    let mut table = Table::new(&heads, 1);
    for row in &rows {
        table.row([
            row.session.id.to_string(),
            row.session.agent.to_string(),
            state(row, now).into(),
            row.spent.to_string(),
            row.session.budget.to_string(),
            row.payments.to_string(),
            seconds(row.session.expires),
        ]);
    }
    Ok(table.write(&mut terminal.out, width())?)
}

fn show(terminal: &mut Terminal, row: &SessionRow, json: bool) -> Result<(), Failure> {
    if json {
        return terminal.json(row);
    }
    let left = row.session.budget.minus(row.spent).unwrap_or_default();
    let out = &mut terminal.out;
    writeln!(out, "session   {}", plain(&row.session.id.0))?;
    writeln!(out, "agent     {}", plain(&row.session.agent))?;
    writeln!(out, "state     {}", state(row, clock::wall()))?;
    writeln!(out, "budget    {}", row.session.budget)?;
    let payments = counted(row.payments, "payment");
    writeln!(out, "spent     {} in {payments}", row.spent)?;
    writeln!(out, "left      {left}")?;
    writeln!(out, "created   {}", seconds(row.session.created))?;
    writeln!(out, "expires   {}", seconds(row.session.expires))?;
    Ok(())
}

fn state(row: &SessionRow, now: Timestamp) -> &'static str {
    match row.closed {
        true => "closed",
        false if row.session.expires <= now => "expired",
        false => "open",
    }
}

/// Without the fraction: people plan in seconds.
pub(super) fn seconds(at: Timestamp) -> String {
    let text = at.to_string();
    text.split('.').next().unwrap_or_default().replace('T', " ") + "Z"
}
