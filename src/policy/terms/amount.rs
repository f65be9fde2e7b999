//! The amount is above zero and has a price.

use crate::money::Usd;
use crate::payment::{Reason, Refusal};

use super::{About, Ask, Bound, Build, Term, TermKind};

pub(super) const TERM: TermKind = TermKind {
    key: "amount",
    doc: "the amount is above zero and within what can be counted",
    about: About::Means,
    build: Build::Always(|_| Box::new(Payable)),
};

struct Payable;

impl Term for Payable {
    fn bounds(&self) -> Vec<(&'static str, Bound)> {
        vec![]
    }

    fn check(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        match ask.price {
            // Prices round up, so only an amount of zero has this one. A signature over nothing buys
            // nothing, and still proves who the payer is.
            Some(Usd(0)) => {
                let detail = "the amount is zero: nothing to pay";
                Err(Refusal::new(Reason::AmountInvalid, detail))
            }
            // More than there is money. It is well written, so it is no other matter than a smaller one.
            None => {
                let detail = "the price is beyond any budget";
                Err(Refusal::new(Reason::OverRequestCap, detail))
            }
            Some(_) => Ok(()),
        }
    }
}
