//! What the policy says to what a catalogue lists.

use std::sync::Arc;

use http::Uri;
use serde::Serialize;

use crate::bazaar::Listing;
use crate::cli::explain::past;
use crate::cli::table::plain;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::ledger::{PostError, Reader};
use crate::money::Usd;
use crate::payer;
use crate::payment::{Asked, Reason, Refusal, Session};
use crate::policy::{self, Facts, Mode, Question};

/// One listing, judged. All text of merchants is spelled out where it could move a cursor.
#[derive(Serialize)]
pub(in crate::cli) struct Row {
    pub(in crate::cli) resource: String,
    #[serde(rename = "type")]
    kind: String,
    pub(in crate::cli) method: String,
    /// The MCP tool behind the resource.
    pub(in crate::cli) tool: Option<String>,
    pub(in crate::cli) description: String,
    /// Who lists it.
    source: String,
    /// `pay`, `ask_person` (then pay), `observe` (it would be paid), `refuse`, or `unknown` where no price
    /// is said.
    pub(in crate::cli) verdict: &'static str,
    pub(in crate::cli) rule: Option<String>,
    pub(in crate::cli) reason: Option<Reason>,
    detail: Option<String>,
    pub(in crate::cli) price: Option<Usd>,
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
            method: plain(method(listing)),
            tool: listing.tool.as_deref().map(plain),
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

    /// Not paid, and why.
    pub(in crate::cli) fn refused(&mut self, refusal: Refusal) {
        self.rule = refusal.rule.or(self.rule.take());
        self.verdict = "refuse";
        self.reason = Some(refusal.reason);
        self.detail = Some(plain(&refusal.detail));
    }
}

/// What listings are judged with.
pub(in crate::cli) struct Judge<'a> {
    pub(in crate::cli) config: &'a Config,
    pub(in crate::cli) book: Option<Arc<dyn Reader>>,
    pub(in crate::cli) session: Session,
    pub(in crate::cli) facts: Facts,
    pub(in crate::cli) now: Timestamp,
    /// May the reader learn limits, and what is left of them?
    pub(in crate::cli) numbers: bool,
}

impl Judge<'_> {
    /// One listing, with the verdict.
    ///
    /// # Errors
    /// [`PostError`] when the ledger cannot be read.
    pub(in crate::cli) async fn row(
        &self,
        from: &Uri,
        listing: &Listing,
    ) -> Result<Row, PostError> {
        let mut row = Row::unjudged(from, listing);
        let asked = self.asked(listing);
        let (Some(asked), false) = (asked, unpriced(listing)) else {
            return Ok(row);
        };
        let mut facts = self.facts.clone();
        if let Some(book) = &self.book {
            let route = payer::route(&asked.path, asked.tool.name());
            facts.known = payer::known(&**book, &asked.host, &asked.method, &route).await?;
        }
        let policy = &self.config.policy;
        let decided = match policy.overlooks(&asked) {
            Some(refusal) => Err(refusal),
            None => policy::decide(policy, &asked, &listing.offers, &facts, self.now),
        };
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
        let mut asks = false;
        let refusal = match decided {
            Err(refused) => Some(refused),
            Ok(approval) => {
                row.rule = Some(approval.rule.clone());
                asks = approval.duties.consent.is_some();
                let past = past(self.config, self.book.as_deref());
                payer::passed(past, &asked, &approval).await?
            }
        };
        row.verdict = match (&refusal, policy.mode(), asks) {
            (Some(_), _, _) => "refuse",
            (None, Mode::Observe, _) => "observe",
            (None, Mode::Enforce, true) => "ask_person",
            (None, Mode::Enforce, false) => "pay",
        };
        if let Some(refusal) = refusal {
            row.refused(match self.numbers {
                true => refusal,
                false => refusal.without_numbers(),
            });
        }
        Ok(row)
    }

    /// The question that an agent would ask. `None`: it is no URL, so there is none.
    fn asked(&self, listing: &Listing) -> Option<Asked> {
        let question: Question = listing.resource.parse().ok()?;
        let method = method(listing);
        Some(Asked {
            session: Arc::new(self.session.clone()),
            method: method.parse().ok()?,
            secure: question.secure,
            host: (&*question.host).into(),
            port: question.port,
            path: (&*question.path).into(),
            request: None,
            trace: None,
            tool: listing.tool.as_deref().into(),
        })
    }
}

/// What is said, else what is usual.
fn method(listing: &Listing) -> &str {
    let usual = match listing.tool {
        Some(_) => "POST",
        None => "GET",
    };
    listing.method.as_deref().unwrap_or(usual)
}

fn unpriced(listing: &Listing) -> bool {
    listing.offers.requirements.is_empty() && listing.offers.problems.is_empty()
}
