//! `farepass discover`: what can be bought, and what the policy says to each price.

use std::sync::Arc;

use http::Uri;

use super::explain::{book, facts, session};
use super::session::Own;
use super::table::{Table, plain, width};
use super::{Command, Exit, Failure, Terminal, setup};
use crate::app;
use crate::bazaar::{self, BazaarError};
use crate::clock;
use crate::config::Config;
use crate::fetch::Fetch;
use crate::ledger::{PostError, Reader};

mod judge;

pub(super) use judge::{Judge, Row};

/// Most listings of one search.
const MOST: usize = 200;

/// Look for things to buy, with the policy's verdict on each price
///
/// Asks the facilitators of `discovery:` for words, or a host itself for what it sells. Buys nothing, and
/// asks none of the merchants that are found. What is shown is what merchants say of themselves; what they
/// want is decided on when they ask for it.
#[derive(Debug, clap::Args)]
pub(super) struct Discover {
    /// Words to look for, or https://HOST
    #[arg(value_name = "QUERY", required = true)]
    query: Vec<String>,
    /// For which agent [default: that of clients without credentials, with $FAREPASS_SESSION, $FAREPASS_AGENT and
    /// $FAREPASS_BUDGET as `serve` has them]
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    #[command(flatten)]
    own: Own,
    /// At most so many of each catalogue
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Command for Discover {
    const NAME: &'static str = "discover";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let config = Config::load(terminal.globals.config.as_deref())?;
        let fetch = app::fetch(&config).map_err(|e| Failure::new(Exit::Failed, e))?;
        let book = book(&config, terminal)?;
        let (rows, problems) = setup::work("asking the catalogues", async {
            self.found(&config, &fetch, book).await?
        })?;
        for problem in &problems {
            terminal.say(format_args!("farepass: {}", plain(problem)));
        }
        if rows.is_empty() && !problems.is_empty() {
            return Err(Failure::new(Exit::Failed, "no catalogue answered"));
        }
        match self.json {
            true => terminal.json_list(&rows)?,
            false => table(&rows).write(&mut terminal.out, width())?,
        }
        Ok(Exit::Done)
    }
}

type Found = (Vec<Row>, Vec<String>);

impl Discover {
    async fn found(
        &self,
        config: &Config,
        fetch: &Fetch,
        book: Option<Arc<dyn Reader>>,
    ) -> Result<Result<Found, Failure>, PostError> {
        let most = self.limit.clamp(1, MOST);
        let words = self.query.join(" ");
        let now = clock::wall();
        let usual = self.own.usual(config);
        let session = session(&usual, book.as_deref(), self.agent.as_deref(), now).await?;
        let judge = Judge {
            facts: facts(config),
            config,
            book,
            session,
            now,
            numbers: true,
        };
        let host: Option<Uri> = words
            .parse()
            .ok()
            .filter(|uri: &Uri| uri.scheme().is_some());
        let (mut rows, mut problems) = (vec![], vec![]);
        let mut take = Vec::new();
        if let Some(host) = host {
            let found = bazaar::of_host(fetch, &host, most).await;
            take.push((host, found));
        } else if config.discovery.is_empty() {
            let failure = Failure::new(Exit::Usage, "the file names no catalogue to look in");
            return Ok(Err(failure.hint(
                "write discovery: [{ url: \"https://…\" }], or ask a host: farepass discover https://HOST",
            )));
        } else {
            for facilitator in &config.discovery {
                let found = bazaar::search(fetch, facilitator, &words, most).await;
                take.push((facilitator.clone(), found));
            }
        }
        for (from, found) in take {
            match found {
                Ok(listings) => {
                    for listing in listings {
                        rows.push(judge.row(&from, &listing).await?);
                    }
                }
                Err(problem) => problems.push(said(&from, &problem)),
            }
        }
        Ok(Ok((rows, problems)))
    }
}

/// A problem, with the host that it is about.
pub(super) fn said(from: &Uri, problem: &BazaarError) -> String {
    format!("{}: {problem}", from.host().unwrap_or_default())
}

fn table(rows: &[Row]) -> Table {
    let heads = [
        "VERDICT",
        "PRICE",
        "BECAUSE",
        "METHOD",
        "RESOURCE",
        "WHAT IT SAYS OF ITSELF",
    ];
    let mut table = Table::new(&heads, 5);
    for row in rows {
        let why = row.reason.map(|r| r.code().to_owned()).or(row.rule.clone());
        table.row([
            row.verdict.to_owned(),
            row.price.map_or_else(|| "-".into(), |p| p.to_string()),
            why.unwrap_or_else(|| "-".into()),
            row.method.clone(),
            match &row.tool {
                Some(tool) => format!("{}#{tool}", row.resource),
                None => row.resource.clone(),
            },
            row.description.clone(),
        ]);
    }
    table
}
