//! `max: "0.05 USD"`: most that one request may cost.

use crate::money::Usd;
use crate::payment::{Reason, Refusal};
use crate::section::Section;

use super::{About, Ask, Bound, Build, Term, TermKind};

pub(super) const TERM: TermKind = TermKind {
    key: "max",
    doc: "most that one request may cost; the budgets alone if not written",
    about: About::Deal,
    build: Build::Key(|section, _| {
        let max = section.map(Section::parse::<Usd>).transpose()?;
        Ok(max.map(|max| Box::new(Max(max)) as Box<dyn Term>))
    }),
};

struct Max(Usd);

impl Term for Max {
    fn bounds(&self) -> Vec<(&'static str, Bound)> {
        vec![("max", Bound::AtMost(self.0.0.into()))]
    }

    fn check(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        let detail = match ask.price {
            Some(price) if price <= self.0 => return Ok(()),
            Some(price) => format!(
                "{price} is more than the {} that one request may cost",
                self.0
            ),
            None => format!("without a price it cannot be held against {}", self.0),
        };
        Err(Refusal {
            limit: Some(self.0),
            ..Refusal::new(Reason::OverRequestCap, detail)
        })
    }
}
