//! `approval: { above: "1.00 USD", wait: 2m }`: what a person must agree to first.

use core::time::Duration;

use crate::money::Usd;
use crate::payment::Refusal;
use crate::policy::{Consent, Duties, payee_text};
use crate::section::{Section, SectionError};
use crate::settings::{Percent, Span};

use super::pay_to::changed;
use super::{About, Ask, Bound, Build, Term, TermKind};

pub(super) const TERM: TermKind = TermKind {
    key: "approval",
    doc: "when a person is asked: above a price, first_host, new_payee, price_increase; and how long to wait",
    about: About::Deal,
    build: Build::Key(|section, _| {
        let approval = section.map(read).transpose()?;
        Ok(approval.map(|approval| Box::new(approval) as Box<dyn Term>))
    }),
};

/// An agent's client gives up sooner or later; a request that waits longer holds a connection for nothing.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// A question that nobody answered for so long is no longer about the same thing.
const VALID: Duration = Duration::from_secs(3600);
const VALID_MAX: Duration = Duration::from_secs(86_400);

struct Approval {
    above: Option<Usd>,
    first_host: bool,
    new_payee: bool,
    price_increase: Option<Percent>,
    wait: Duration,
    valid: Duration,
}

fn read(mut section: Section) -> Result<Approval, SectionError> {
    let at_most = |s: Section, most: Duration| {
        let Span(length) = s.clone().parse()?;
        match length <= most {
            true => Ok(length),
            false => Err(s.expected(&format!("at most {}", Span(most)))),
        }
    };
    let approval = Approval {
        above: section.take("above").map(Section::parse).transpose()?,
        first_host: section.or("first_host", false, Section::flag)?,
        new_payee: section.or("new_payee", false, Section::flag)?,
        price_increase: section
            .take("price_increase")
            .map(Section::parse)
            .transpose()?,
        wait: section.or("wait", Duration::ZERO, |s| at_most(s, WAIT_MAX))?,
        valid: section.or("valid", VALID, |s| at_most(s, VALID_MAX))?,
    };
    let asks = approval.above.is_some()
        || approval.first_host
        || approval.new_payee
        || approval.price_increase.is_some();
    if !asks {
        let error = section.error("the approval says not when a person is asked");
        return Err(
            error.hint("add `above: \"1.00 USD\"`, first_host, new_payee or price_increase")
        );
    }
    if approval.valid < approval.wait {
        let wait = Span(approval.wait);
        let error = section.key_error("valid", format!("the question is over before the {wait} that the agent waits for its answer (`wait`)"));
        return Err(error.hint(format!(
            "write `valid: {wait}` or longer, or a shorter `wait`"
        )));
    }
    section.finish()?;
    Ok(approval)
}

impl Term for Approval {
    fn bounds(&self) -> Vec<(&'static str, Bound)> {
        let flags = [
            (self.first_host, "first_host"),
            (self.new_payee, "new_payee"),
        ];
        let set = flags.iter().filter(|(set, _)| *set).map(|(_, name)| name);
        let above = self.above.map(|usd| Bound::AtMost(usd.0.into()));
        let rise = self.price_increase.map(|most| Bound::AtMost(most.0.into()));
        let optional = [("approval.above", above), ("approval.price_increase", rise)];
        let mut bounds = vec![
            ("approval", Bound::holds(set)),
            ("approval.valid", Bound::AtMost(self.valid.as_secs().into())),
        ];
        bounds.extend(optional.into_iter().filter_map(|(k, b)| Some((k, b?))));
        bounds
    }

    /// Whether somebody agreed is not for the policy to know.
    fn check(&self, _ask: &Ask<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    fn duties(&self, ask: &Ask<'_>, duties: &mut Duties) {
        let above = |above: Usd| ask.price.is_none_or(|price| price > above);
        let rose = |most: Percent| ask.known.rose(ask.price, most);
        let asks = [
            ("above", self.above.is_some_and(above)),
            (
                "first_host",
                self.first_host && ask.known.merchant.is_none(),
            ),
            ("new_payee", self.new_payee && changed(ask)),
            ("price_increase", self.price_increase.is_some_and(rose)),
        ];
        let because: Vec<_> = asks.iter().filter(|(_, a)| *a).map(|(w, _)| *w).collect();
        if self.new_payee {
            duties.payee = Some(payee_text(ask.requirement));
        }
        if self.price_increase.is_some() {
            duties.price.get_or_insert(None);
        }
        duties.price_changed |= because.contains(&"price_increase");
        duties.asks = Some(self.wait);
        if !because.is_empty() {
            duties.consent = Some(Consent {
                because,
                wait: self.wait,
                valid: self.valid,
            });
        }
    }

    fn remembers(&self) -> bool {
        self.first_host || self.new_payee || self.price_increase.is_some()
    }
}
