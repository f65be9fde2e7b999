//! `max_price_increase: 20%`: how far a route's price may be above the lowest one that was paid there. The
//! lowest price falls with the price and never creeps up, so many small rises are one large one.

use crate::payment::{Reason, Refusal};
use crate::policy::Duties;
use crate::section::Section;
use crate::settings::Percent;

use super::{About, Ask, Bound, Build, Term, TermKind};

pub(super) const TERM: TermKind = TermKind {
    key: "max_price_increase",
    doc: "how far a price may be above the lowest that was paid for the same method and path",
    about: About::Deal,
    build: Build::Key(|section, _| {
        let most = section.map(Section::parse::<Percent>).transpose()?;
        Ok(most.map(|most| Box::new(MaxPriceIncrease(most)) as Box<dyn Term>))
    }),
};

struct MaxPriceIncrease(Percent);

impl Term for MaxPriceIncrease {
    fn bounds(&self) -> Vec<(&'static str, Bound)> {
        vec![("max_price_increase", Bound::AtMost(self.0.0.into()))]
    }

    fn check(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        let (Some(lowest), true) = (ask.known.price, ask.known.rose(ask.price, self.0)) else {
            return Ok(());
        };
        let detail = format!(
            "the price is more than {} above the {lowest} that was paid here",
            self.0
        );
        Err(Refusal::new(Reason::PriceChanged, detail))
    }

    fn duties(&self, _ask: &Ask<'_>, duties: &mut Duties) {
        duties.price = Some(Some(self.0));
    }

    fn remembers(&self) -> bool {
        true
    }
}
