//! The tools: one function each, and their descriptions for the model that calls them.

use std::sync::Arc;

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde::Deserialize;
use serde_json::{Value, json};

use super::market;
use super::server::Asker;
use super::view::{self, Numbers, Silent};
use crate::admin::control;
use crate::admin::purchase::Purchase;
use crate::budget::facts::key;
use crate::budget::{Asking, Counted, Frozen};
use crate::cli::explain::past;
use crate::cli::{owner, setup};
use crate::event::State;
use crate::ledger::Filter;
use crate::payer;
use crate::policy::{Mode, Question, Scope, is_nobody};

/// Payments of one answer, unless it is asked for another number, and at most.
const ROWS: usize = 20;
const ROWS_MAX: usize = 200;

/// Every tool, for the list that clients read.
pub(super) fn all() -> Vec<Tool> {
    let reads = || ToolAnnotations::new().read_only(true).open_world(false);
    let asks = ToolAnnotations::new()
        .read_only(false)
        .destructive(false)
        .idempotent(true)
        .open_world(false);
    let tool = |name, doc, schema, annotations: ToolAnnotations| {
        Tool::new(name, doc, Arc::new(schema)).with_annotations(annotations)
    };
    vec![
        tool(GET_BUDGET, GET_BUDGET_DOC, object(json!({}), &[]), reads()),
        tool(QUOTE, QUOTE_DOC, purchase(&["url"]), reads()),
        tool(RECENT_SPEND, RECENT_SPEND_DOC, recent(), reads()),
        tool(
            REQUEST_APPROVAL,
            REQUEST_APPROVAL_DOC,
            purchase(&["url", "amount"]),
            asks,
        ),
        market::tool(),
    ]
}

pub(super) const GET_BUDGET: &str = "get_budget";
const GET_BUDGET_DOC: &str = "How much money is left for paid web requests in this session, until when, and \
what limits hold. Payments are made by the proxy when a site answers 402 and the policy allows it; no tool pays.";
pub(super) const QUOTE: &str = "quote";
const QUOTE_DOC: &str = "What the payment policy would say about a request before it is made: pay, ask_person \
or refuse, with the reason and what is left. Sends nothing and pays nothing. Give `amount` when the price is known.";
pub(super) const RECENT_SPEND: &str = "recent_spend";
const RECENT_SPEND_DOC: &str = "The newest payments of this session: what, where, at which price, and whether \
it is settled. `unknown` means that the money may have moved, and it counts.";
pub(super) const REQUEST_APPROVAL: &str = "request_approval";
const REQUEST_APPROVAL_DOC: &str = "Asks a person to approve one purchase that the policy lets only a person \
decide, on exact terms, or tells how the question stands. Make the request after it is approved. It raises no limit.";

pub(super) fn object(properties: Value, required: &[&str]) -> JsonObject {
    let schema = json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    match schema {
        Value::Object(members) => members,
        _ => JsonObject::new(),
    }
}

fn purchase(required: &[&str]) -> JsonObject {
    let text = |doc: &str| json!({ "type": "string", "description": doc });
    let properties = json!({
        "url": text("The whole URL that would be asked for"),
        "method": text("HTTP method in capitals; GET, or POST for a tool"),
        "amount": text("The price, as \"0.03 USD\""),
        "tool": text("Name of an MCP tool or prompt, or URI of a resource, at that URL"),
        "network": text("The chain, as \"eip155:84532\""),
        "asset": text("Symbol or address"),
        "pay_to": text("Who is to be paid"),
        "scheme": text("exact, upto, evm/charge or l402"),
    });
    object(properties, required)
}

fn recent() -> JsonObject {
    let properties = json!({
        "limit": {
            "type": "integer", "minimum": 1, "maximum": ROWS_MAX, "default": ROWS,
            "description": "At most so many",
        },
        "refusals": {
            "type": "boolean", "default": false,
            "description": "Also what was not paid, and why",
        },
    });
    object(properties, &[])
}

/// What `recent_spend` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recent {
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    refusals: bool,
}

pub(super) fn read<T: for<'de> Deserialize<'de>>(arguments: JsonObject) -> Result<T, Silent> {
    serde_json::from_value(Value::Object(arguments)).map_err(|e| Silent::Arguments(e.to_string()))
}

/// What is to be bought; the session is never for the caller to say.
fn wanted(arguments: JsonObject) -> Result<(Purchase, Question), Silent> {
    let purchase: Purchase = read(arguments)?;
    if purchase.session.is_some() {
        return Err(Silent::Arguments("unknown field `session`".into()));
    }
    let question = purchase.question().map_err(Silent::Arguments)?;
    Ok((purchase, question))
}

impl Asker {
    pub(super) async fn get_budget(&self, arguments: JsonObject) -> Result<Value, Silent> {
        if let Some(name) = arguments.keys().next() {
            let problem = format!("unknown field `{}`", name.escape_debug());
            return Err(Silent::Arguments(problem));
        }
        let (config, numbers) = (&self.config, Numbers::of(&self.config));
        let mut budgets = vec![];
        let asked = nowhere().asked(&self.row.session);
        for budget in config.policy.budgets() {
            match budget.scope {
                Scope::Session | Scope::Agent | Scope::All => {}
                // Whose they are depends on the request: `quote` tells.
                Scope::Host | Scope::Wallet => continue,
            }
            let limit = budget.limit(&asked, "", self.now);
            let counted = match &self.book {
                Some(book) => book.counted(&limit.account, limit.first).await?,
                None => Counted::default(),
            };
            budgets.push(view::budget(budget, &limit, counted, numbers));
        }
        Ok(json!({
            "session": view::session(&self.row, self.now, numbers),
            "budgets": budgets,
            "frozen": self.frozen().await?,
            "mode": match config.policy.mode() {
                Mode::Enforce => "enforce",
                Mode::Observe => "observe",
            },
        }))
    }

    /// Is everything of this agent frozen?
    async fn frozen(&self) -> Result<bool, Silent> {
        let past = past(&self.config, self.book.as_deref());
        let Some(book) = past.book.filter(|_| !past.stopped) else {
            return Ok(past.stopped);
        };
        let freezes = book.facts(key::FREEZES).await?.into_iter().collect();
        Ok(Frozen::among(&freezes, "", &self.row.session.agent).is_some())
    }

    pub(super) async fn quote(&self, arguments: JsonObject) -> Result<Value, Silent> {
        let (_, question) = wanted(arguments)?;
        let foreseen = self.foresee(&question).await?;
        let mode = self.config.policy.mode();
        let mut told = view::decision(&foreseen, mode, Numbers::of(&self.config));
        if let Value::Object(members) = &mut told {
            members.insert("method".into(), question.method.as_str().into());
            members.insert("host".into(), question.host.into());
            members.insert("path".into(), question.path.into());
        }
        Ok(told)
    }

    async fn foresee(&self, question: &Question) -> Result<payer::Foreseen, Silent> {
        let mut foreseen = payer::foresee(
            &self.config.policy,
            &self.payers,
            past(&self.config, self.book.as_deref()),
            &self.row.session,
            question,
            self.now,
        )
        .await?;
        if self.row.closed {
            foreseen.refusal = Some(market::closed());
        }
        Ok(foreseen)
    }

    pub(super) async fn recent_spend(&self, arguments: JsonObject) -> Result<Value, Silent> {
        let Recent { limit, refusals } = read(arguments)?;
        let limit = limit.unwrap_or(ROWS).clamp(1, ROWS_MAX);
        let filter = Filter {
            session: Some(self.row.session.id.clone()),
            denied: refusals,
            limit: limit.saturating_add(1),
            ..Filter::default()
        };
        let mut rows = match &self.book {
            Some(book) => book.payments(filter).await?,
            None => vec![],
        };
        let more = rows.len() > limit;
        rows.truncate(limit);
        let open = |state: State| matches!(state, State::Reserved | State::Unknown);
        Ok(json!({
            "payments": rows.iter().map(view::spent).collect::<Vec<_>>(),
            "open": rows.iter().filter(|row| open(row.state)).count(),
            "more": more,
        }))
    }

    pub(super) async fn request_approval(&self, arguments: JsonObject) -> Result<Value, Silent> {
        let (mut purchase, question) = wanted(arguments)?;
        if question.amount.is_none() {
            return Err(Silent::Arguments("missing field `amount`".into()));
        }
        let foreseen = self.foresee(&question).await?;
        let (mode, numbers) = (self.config.policy.mode(), Numbers::of(&self.config));
        let approval = foreseen.answer.outcome.as_ref().ok();
        let asks = approval.filter(|a| a.duties.consent.is_some() && mode == Mode::Enforce);
        let Some(approval) = asks.filter(|_| foreseen.refusal.is_none()) else {
            return Ok(view::decision(&foreseen, mode, numbers));
        };
        if approval.requirement.facilitator.is_some() {
            let problem = format!("scheme: {}", payer::NotAsked::Facilitator);
            return Err(Silent::Arguments(problem));
        }
        if let Some(asking) = self.asked_already(&question).await? {
            return Ok(view::asking(&asking, self.approve_url(&asking)));
        }
        if is_nobody(&approval.requirement.pay_to) {
            let problem = "pay_to: the recipient is not known yet; say who is to be paid";
            return Err(Silent::Arguments(problem.into()));
        }
        purchase.session = Some(self.row.session.id.to_string());
        let config = Arc::clone(&self.config);
        let payers = self.payers.clone();
        // The ledger may have another owner, who is waited for.
        let asked = tokio::task::spawn_blocking(move || {
            setup::wait(owner::ask_ahead(&config, &payers, &purchase, &question))
        });
        let asking = match asked.await {
            Ok(Ok(asking)) => asking,
            Ok(Err(failure)) => return Err(Silent::Unasked(format!("{failure:?}"))),
            Err(error) => return Err(Silent::Unasked(error.to_string())),
        };
        Ok(view::asking(&asking, self.approve_url(&asking)))
    }

    /// The open question of this session about the same thing, which its request or this tool asked.
    async fn asked_already(&self, question: &Question) -> Result<Option<Asking>, Silent> {
        let Some(book) = &self.book else {
            return Ok(None);
        };
        let host = match question.port {
            443 if question.secure => question.host.clone(),
            80 if !question.secure => question.host.clone(),
            port => format!("{}:{port}", question.host),
        };
        let path = match &question.tool {
            Some(tool) => payer::named(&question.path, tool),
            None => question.path.clone(),
        };
        let assets = self.config.policy.assets();
        let is_called = |asking: &Asking, name: &str| {
            let mut there = assets
                .iter()
                .filter(|a| a.network.as_str() == asking.network && a.symbol == asking.asset);
            asking.asset == name || there.any(|a| a.is(name))
        };
        let same = |asking: &Asking| {
            asking.session == self.row.session.id
                && asking.is_open(self.now)
                && asking.host == host
                && asking.method == question.method.as_str()
                && asking.path == path
                && question.amount.is_none_or(|amount| asking.price == amount)
                && (question.network.as_ref()).is_none_or(|n| n.as_str() == asking.network)
                && (question.asset.as_ref()).is_none_or(|name| is_called(asking, name))
                && (question.pay_to.as_ref())
                    .is_none_or(|to| to.eq_ignore_ascii_case(&asking.pay_to))
        };
        for asking in control::approvals(&**book).await? {
            if same(&asking) && self.is_by(question, &asking).await? {
                return Ok(Some(asking));
            }
        }
        Ok(None)
    }

    /// Is it the question about the scheme that was named, if one was? A question does not say its scheme, but
    /// its digest covers it.
    async fn is_by(&self, question: &Question, asking: &Asking) -> Result<bool, Silent> {
        if question.offers.is_empty() {
            return Ok(true);
        }
        let exact = Question {
            pay_to: Some(asking.pay_to.clone()),
            ..question.clone()
        };
        let foreseen = self.foresee(&exact).await?;
        let approval = foreseen.answer.outcome.ok();
        let digest = approval.map(|a| payer::digest_of(&exact.asked(&self.row.session), &a));
        Ok(digest.is_some_and(|digest| digest == asking.digest))
    }
}

/// A request to nobody: session and agent are all that matters of it.
fn nowhere() -> Question {
    Question {
        secure: true,
        host: String::new(),
        port: 443,
        path: "/".into(),
        method: http::Method::GET,
        tool: None,
        amount: None,
        offers: vec![],
        network: None,
        asset: None,
        pay_to: None,
    }
}
