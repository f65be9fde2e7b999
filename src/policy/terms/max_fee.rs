//! `max_fee: "0.02 USD"`: most that the network may take for one payment where the payer pays that
//! (`tempo/charge` without a fee payer). It counts in full with the price.

use crate::money::{Amount, Usd};
use crate::payment::{Reason, Refusal};
use crate::section::{Section, SectionError};

use super::{About, Ask, Bound, Build, Term, TermKind};

pub(super) const TERM: TermKind = TermKind {
    key: "max_fee",
    doc: "most that the network may take for one payment where the payer pays it; nothing if not written",
    about: About::Means,
    build: Build::Key(|section, _| {
        section.map(Section::parse::<Usd>).transpose()?;
        Ok(Some(Box::new(MaxFee)))
    }),
};

/// The value, for the price: it is part of that.
pub(in crate::policy) fn read(pay: &Section) -> Result<Option<Usd>, SectionError> {
    pay.peek("max_fee").map(Section::parse).transpose()
}

struct MaxFee;

impl Term for MaxFee {
    fn bounds(&self) -> Vec<(&'static str, Bound)> {
        // The sum is the rule's.
        vec![]
    }

    fn check(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        if !ask.requirement.own_fee || ask.fee > Amount(0) {
            return Ok(());
        }
        let detail =
            "the payer would have to pay the network's fee, and the rule has no max_fee for it";
        Err(Refusal::new(Reason::TransferMethodUnsupported, detail))
    }
}
