//! `farepass explain`: which rule and which budgets decide about a URL, and why.

use std::sync::Arc;

use super::session::Own;
use super::{Command, Exit, Failure, Terminal};
use crate::admin::sessions::Usual;
use crate::budget::Counted;
use crate::clock::{self, Timestamp};
use crate::config::Config;
use crate::ledger::{OpenError, PostError, Reader, SessionRow};
use crate::money::{Network, Usd};
use crate::payer::{self, Foreseen, Past};
use crate::payment::{Limit, Refusal, Requirement, Session, SessionId};
use crate::policy::{Answer, Facts, OURSELVES, Question, Supposed};
use crate::wallet;

mod page;

/// Say which rule and which budgets decide about a URL, and why
///
/// Asks nobody and changes nothing; what is spent already is read from the ledger, if there is one.
/// Exit code 3 when it would be refused.
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// What an agent would ask for
    url: Question,
    /// With which method [default: GET, or POST for a tool]
    #[arg(long, value_name = "METHOD")]
    method: Option<http::Method>,
    /// Which MCP tool or prompt by its name, or resource by its URI
    #[arg(long, value_name = "NAME")]
    tool: Option<String>,
    /// What the merchant would want, as "0.03 USD" [default: the smallest amount there is]
    #[arg(long, value_name = "MONEY")]
    amount: Option<Usd>,
    /// Which agent [default: that of clients without credentials, with $FAREPASS_SESSION, $FAREPASS_AGENT and
    /// $FAREPASS_BUDGET as `serve` has them]
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// On which network, as "eip155:84532" [default: the first of the wallets]
    #[arg(long, value_name = "NETWORK")]
    network: Option<Network>,
    /// In which asset, by symbol or address [default: the first that can be paid there]
    #[arg(long, value_name = "ASSET")]
    asset: Option<String>,
    /// To whom [default: somebody the rule allows]
    #[arg(long, value_name = "ADDRESS")]
    pay_to: Option<String>,
    /// By which scheme: exact, upto (the amount is the most that may be charged), evm/charge or tempo/charge (MPP, the latter with a fee
    /// payer) or l402. Several times, each with a price of its own if you like, as evm/charge="0.01 USD": which of them would be paid? [default: exact]
    #[arg(long, value_name = "SCHEME")]
    scheme: Vec<Supposed>,
    #[command(flatten)]
    own: Own,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Everything there is to say.
struct Explained {
    question: Question,
    session: Session,
    answer: Answer,
    /// The assets' symbols, or their addresses when they have no price: one for each offer.
    assets: Vec<String>,
    /// Every limit with what counts there.
    limits: Vec<(Limit, Counted)>,
    /// The decision with what is spent already.
    refusal: Option<Refusal>,
    /// Why the rules are never asked about this place.
    never: Option<String>,
    policy: String,
    observing: bool,
}

impl Explained {
    fn is_paid(&self) -> bool {
        self.refusal.is_none() && self.never.is_none()
    }
}

impl Command for Explain {
    const NAME: &'static str = "explain";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let config = Config::load(terminal.globals.config.as_deref())?;
        let now = clock::wall();
        let book = book(&config, terminal)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.map_err(|e| Failure::new(Exit::Failed, e))?;
        let json = self.json;
        let explained = runtime.block_on(self.explain(&config, book.as_deref(), now));
        let explained = explained?;
        match json {
            true => terminal.json(&page::json(&explained))?,
            false => page::write(&mut terminal.out, &explained)?,
        }
        Ok(match explained.is_paid() {
            true => Exit::Done,
            false => Exit::Refused,
        })
    }
}

/// The ledger, if there is one that can be read. Without it nothing counts as spent; with one that is lost or damaged
/// nothing is paid, so nothing is foretold.
pub(super) fn book(
    config: &Config,
    terminal: &Terminal,
) -> Result<Option<Arc<dyn Reader>>, Failure> {
    match config.read_ledger() {
        Ok(book) => Ok(Some(book)),
        Err(OpenError::Missing(_)) => Ok(None),
        Err(damaged @ OpenError::Damaged(_)) => Err(damaged.into()),
        Err(problem) => {
            terminal.say(format_args!(
                "farepass: without what is spent already: {problem}"
            ));
            Ok(None)
        }
    }
}

/// What has happened already, for who reads only.
pub(super) fn past<'a>(config: &Config, book: Option<&'a dyn Reader>) -> Past<'a> {
    Past {
        book,
        stopped: payer::stopped(&config.state_dir),
    }
}

impl Explain {
    async fn explain(
        self,
        config: &Config,
        book: Option<&dyn Reader>,
        now: Timestamp,
    ) -> Result<Explained, PostError> {
        let usual = self.own.usual(config);
        let session = session(&usual, book, self.agent.as_deref(), now).await?;
        let question = Question {
            method: self
                .method
                .unwrap_or_else(|| Question::usual_method(self.tool.as_deref())),
            tool: self.tool,
            amount: self.amount,
            network: self.network,
            asset: self.asset,
            pay_to: self.pay_to,
            offers: self.scheme,
            ..self.url
        };
        let payers = payers(config);
        let policy = &config.policy;
        let past = past(config, book);
        let foreseen = payer::foresee(policy, &payers, past, &session, &question, now).await?;
        let Foreseen {
            answer,
            limits,
            refusal,
        } = foreseen;
        let symbol = |offer: &Requirement| {
            let mut assets = config.policy.assets().iter();
            let known = assets.find(|a| a.network == offer.network && a.is(&offer.asset));
            known.map_or_else(|| offer.asset.clone(), |a| a.symbol.clone())
        };
        Ok(Explained {
            assets: answer
                .offers
                .iter()
                .map(|o| symbol(&o.requirement))
                .collect(),
            refusal,
            never: config.never_paid(&question.host, question.port, question.secure),
            limits,
            answer,
            session,
            question,
            policy: config.policy.hash().into(),
            observing: config.policy.mode() == crate::policy::Mode::Observe,
        })
    }
}

/// The newest open session of the agent, else a new one as it is usual. That of clients without credentials
/// is the one that the ledger has, also when it is over: nobody gets another.
pub(super) async fn session(
    usual: &Usual,
    book: Option<&dyn Reader>,
    agent: Option<&str>,
    now: Timestamp,
) -> Result<Session, PostError> {
    let alive = |row: &SessionRow| !row.closed && now < row.session.expires;
    let mut known = match (book, agent) {
        (None, _) | (Some(_), None) => None,
        (Some(book), Some(agent)) => {
            let rows = book.sessions().await?.into_iter();
            rows.filter(alive).find(|row| *row.session.agent == *agent)
        }
    };
    let own = &usual.named;
    if let (None, Some(book)) = (&known, book)
        && agent.is_none_or(|agent| agent == own.agent)
    {
        known = book.session(&SessionId((&*own.id).into())).await?;
    }
    if let Some(row) = known {
        return Ok(row.session);
    }
    Ok(Session {
        id: SessionId("new".into()),
        agent: agent.unwrap_or(&own.agent).into(),
        budget: usual.budget,
        created: now,
        expires: now.after_secs(usual.expires.as_secs()),
    })
}

/// What a decision must know besides the policy, without a merchant.
pub(super) fn facts(config: &Config) -> Facts {
    Facts {
        payers: payers(config),
        ..Facts::default()
    }
}

/// Who would pay where. A wallet that cannot be opened here and now still has its networks.
pub(super) fn payers(config: &Config) -> Vec<(Network, String)> {
    let mut payers = vec![];
    for entry in &config.wallets {
        let opened = wallet::open(&entry.kind, entry.opening(None)).ok();
        for network in &entry.networks {
            let address = opened.as_ref().and_then(|w| w.address(network));
            payers.push((network.clone(), address.unwrap_or_else(|| OURSELVES.into())));
        }
    }
    payers
}
