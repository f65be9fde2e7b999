//! `farepass discover`: what can be bought, and what the policy says to each price.

use std::sync::Arc;

use http::Uri;
use serde::Serialize;

use super::explain::{book, facts, session};
use super::table::{Table, plain, width};
use super::{Command, Exit, Failure, Terminal};
use crate::app;
use crate::bazaar::{self, BazaarError, Listing};
use crate::clock::{self, Timestamp};
use crate::config::Config;
use crate::fetch::Fetch;
use crate::ledger::{PostError, Reader};
use crate::money::Usd;
use crate::payer;
use crate::payment::{Asked, Reason, Refusal, Session};
use crate::policy::{self, Facts, Question};

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
    /// For which agent [default: that of clients without credentials]
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// At most so many of each catalogue
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// One listing, judged. All text of merchants is spelled out where it could move a cursor.
#[derive(Serialize)]
struct Row {
    resource: String,
    #[serde(rename = "type")]
    kind: String,
    method: String,
    description: String,
    /// Who lists it.
    source: String,
    /// `pay`, `refuse`, or `unknown` where no price is said.
    verdict: &'static str,
    rule: Option<String>,
    reason: Option<Reason>,
    detail: Option<String>,
    price: Option<Usd>,
    scheme: Option<String>,
    network: Option<String>,
    asset: Option<String>,
    pay_to: Option<String>,
    amount: Option<String>,
}

impl Row {
    fn unjudged(from: &Uri, listing: &Listing) -> Self {
        Self {
            resource: plain(&listing.resource),
            kind: plain(&listing.kind),
            method: plain(listing.method.as_deref().unwrap_or("GET")),
            description: plain(&listing.description),
            source: plain(from.host().unwrap_or_default()),
            verdict: "unknown",
            rule: None,
            reason: None,
            detail: None,
            price: None,
            scheme: None,
            network: None,
            asset: None,
            pay_to: None,
            amount: None,
        }
    }
}

/// What listings are judged with.
struct Judge<'a> {
    config: &'a Config,
    book: Option<Arc<dyn Reader>>,
    session: Session,
    facts: Facts,
    now: Timestamp,
}

impl Command for Discover {
    const NAME: &'static str = "discover";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let config = Config::load(terminal.globals.config.as_deref())?;
        let fetch = app::fetch(&config).map_err(|e| Failure::new(Exit::Failed, e))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Failure::new(Exit::Failed, e))?;
        let book = book(&config, terminal);
        let (rows, problems) = runtime
            .block_on(self.found(&config, &fetch, book))
            .map_err(|e| Failure::new(Exit::Failed, e))??;
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
        let session = session(config, book.as_deref(), self.agent.as_deref(), now).await?;
        let judge = Judge {
            facts: facts(config),
            config,
            book,
            session,
            now,
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
fn said(from: &Uri, problem: &BazaarError) -> String {
    format!("{}: {problem}", from.host().unwrap_or_default())
}

impl Judge<'_> {
    async fn row(&self, from: &Uri, listing: &Listing) -> Result<Row, PostError> {
        let mut row = Row::unjudged(from, listing);
        let asked = self.asked(listing);
        let (Some(asked), false) = (asked, unpriced(listing)) else {
            return Ok(row);
        };
        let mut facts = self.facts.clone();
        if let Some(book) = &self.book {
            facts.known = payer::known(&**book, &asked.host, &asked.method, &asked.path).await?;
        }
        let policy = &self.config.policy;
        let decided = policy::decide(policy, &asked, &listing.offers, &facts, self.now);
        let chosen = match &decided {
            Ok(approval) => Some(&approval.requirement),
            Err(_) => listing.offers.requirements.first(),
        };
        if let Some(chosen) = chosen {
            row.scheme = Some(plain(&chosen.scheme));
            row.network = Some(plain(chosen.network.as_str()));
            row.asset = Some(plain(&chosen.asset));
            row.pay_to = Some(plain(&chosen.pay_to));
            row.amount = Some(chosen.amount.0.to_string());
            let mut assets = policy.assets().iter();
            let known = assets.find(|a| a.network == chosen.network && a.is(&chosen.asset));
            row.price = known.and_then(|a| a.price(chosen.amount));
        }
        let refusal = match decided {
            Err(refusal) => Some(refusal),
            Ok(approval) => {
                row.rule = Some(approval.rule.clone());
                payer::passed(self.book.as_deref(), &asked, &approval).await?
            }
        };
        row.verdict = if refusal.is_some() { "refuse" } else { "pay" };
        if let Some(Refusal {
            reason,
            rule,
            detail,
            ..
        }) = refusal
        {
            row.rule = rule.or(row.rule);
            (row.reason, row.detail) = (Some(reason), Some(plain(&detail)));
        }
        Ok(row)
    }

    /// The question that an agent would ask. `None`: it is no URL, so there is none.
    fn asked(&self, listing: &Listing) -> Option<Asked> {
        let question: Question = listing.resource.parse().ok()?;
        let method = listing.method.as_deref().unwrap_or("GET");
        Some(Asked {
            session: Arc::new(self.session.clone()),
            method: method.parse().ok()?,
            secure: question.secure,
            host: (&*question.host).into(),
            port: question.port,
            path: (&*question.path).into(),
            request: None,
            trace: None,
            tool: None,
        })
    }
}

fn unpriced(listing: &Listing) -> bool {
    listing.offers.requirements.is_empty() && listing.offers.problems.is_empty()
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
            row.resource.clone(),
            row.description.clone(),
        ]);
    }
    table
}
