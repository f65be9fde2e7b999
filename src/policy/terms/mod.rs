//! One file per key of `pay:`, and the conditions that hold without being written.

use crate::clock::Timestamp;
use crate::money::{Amount, Asset, Network, Usd};
use crate::payment::{Asked, Refusal, Requirement};
use crate::policy::{Duties, Known};
use crate::section::{Section, SectionError};

use super::catalog::Catalog;

mod amount;
mod approval;
mod assets;
mod bound;
mod budgets;
mod insecure_http;
mod max;
pub(super) mod max_fee;
mod max_price_increase;
mod networks;
mod offer;
mod pay_to;
mod rate;
pub(super) mod resource;
mod schemes;
mod transfer_methods;
mod validity;

pub use bound::Bound;

/// The question put to every term: one way to pay, and what we know about it.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The rule that is asked.
    pub rule: &'a str,
    /// Who asked for what.
    pub asked: &'a Asked,
    /// The way to pay.
    pub requirement: &'a Requirement,
    /// What the ledger remembers of the merchant and the route.
    pub known: &'a Known,
    /// Every network that a wallet pays on, with its address.
    pub payers: &'a [(Network, String)],
    /// The address that would pay this.
    pub payer: Option<&'a str>,
    /// The asset, when it is in our table.
    pub asset: Option<&'a Asset>,
    /// Its price with the fee, rounded up, when it has one.
    pub price: Option<Usd>,
    /// Most that the network may take besides, atomic units.
    pub fee: Amount,
    /// When.
    pub now: Timestamp,
    /// The same as merchants see it, who say until when they take what is signed.
    pub wall: Timestamp,
}

/// One condition of a rule that pays.
pub trait Term: Send + Sync {
    /// Is this way to pay acceptable? What is left unsaid (rule, price) the caller fills in.
    ///
    /// # Errors
    /// A refusal, when it is not.
    fn check(&self, ask: &Ask<'_>) -> Result<(), Refusal>;

    /// Could any way to pay be acceptable that is of these schemes?
    ///
    /// # Errors
    /// A refusal, when none is.
    fn takes_some(&self, _schemes: &[&str]) -> Result<(), Refusal> {
        Ok(())
    }

    /// Of two ways to pay at the same price the one with the smaller number is taken.
    fn rank(&self, _ask: &Ask<'_>) -> usize {
        0
    }

    /// What the ledger and the operator must do for it, when every term has agreed.
    fn duties(&self, _ask: &Ask<'_>, _duties: &mut Duties) {}

    /// What it lets through, by aspects with names of their own. One that an older policy has and a newer
    /// one has not is weaker there.
    fn bounds(&self) -> Vec<(&'static str, Bound)>;

    /// Does it ask what the ledger remembers of merchants?
    fn remembers(&self) -> bool {
        false
    }
}

/// What a term is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Whether we pay in this way at all: another entry of the same challenge may do.
    Means,
    /// Whether we accept this deal.
    Deal,
}

/// What reading a key gives: a term, or none when the key is not written and nothing then holds.
pub type Built = Result<Option<Box<dyn Term>>, SectionError>;

/// How a term is built.
#[derive(Clone, Copy)]
pub enum Build {
    /// From its key, which may be left out.
    Key(fn(Option<Section>, &Catalog) -> Built),
    /// Without one: it always holds.
    Always(fn(&Catalog) -> Box<dyn Term>),
}

/// How a term is named in YAML, documented, and built.
pub struct TermKind {
    /// Its key below `pay:`, or what it is called when it has none.
    pub key: &'static str,
    /// One line for people.
    pub doc: &'static str,
    /// What it is about.
    pub about: About,
    /// How it is built.
    pub build: Build,
}

/// A term with its kind.
pub(super) struct Named {
    pub(super) kind: &'static TermKind,
    pub(super) term: Box<dyn Term>,
}

/// Every term. The order is that of precedence: of several refusals the one that comes last here was
/// nearest to being paid.
pub const TERMS: &[TermKind] = &[
    insecure_http::TERM,
    schemes::TERM,
    networks::TERM,
    assets::TERM,
    amount::TERM,
    transfer_methods::TERM,
    max_fee::TERM,
    validity::TERM,
    resource::TERM,
    offer::TERM,
    pay_to::TERM,
    max::TERM,
    max_price_increase::TERM,
    rate::TERM,
    budgets::TERM,
    approval::TERM,
];

/// The terms of one `pay:`.
pub(super) fn read(pay: &mut Section, catalog: &Catalog) -> Result<Vec<Named>, SectionError> {
    let mut terms = Vec::with_capacity(TERMS.len());
    for kind in TERMS {
        let term = match kind.build {
            Build::Key(parse) => parse(pay.take(kind.key), catalog)?,
            Build::Always(make) => Some(make(catalog)),
        };
        terms.extend(term.map(|term| Named { kind, term }));
    }
    Ok(terms)
}

/// Refuses keys that would contradict each other.
pub(super) fn agree(pay: &Section) -> Result<(), SectionError> {
    let approval = pay.peek("approval");
    let Some(asks) = approval.and_then(|a| a.peek("new_payee")) else {
        return Ok(());
    };
    let pinned = pay.peek("pay_to").and_then(|p| p.text().ok());
    match pinned.as_deref() == Some("first-seen") && asks.clone().flag().unwrap_or(false) {
        true => Err(asks
            .error("`pay_to: first-seen` refuses a new payee, so nobody would be asked")
            .hint("write `pay_to: any` beside `approval: { new_payee: true }`")),
        false => Ok(()),
    }
}
