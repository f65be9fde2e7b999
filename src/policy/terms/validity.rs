//! The merchant asks for a payload that lives at all. How long it may live at most is cut to
//! `limits.validity`, not refused; but for Solana, where a payload lives as long as the chain decides.

use crate::payment::{Reason, Refusal};
use crate::solana;

use super::{About, Ask, Bound, Build, Term, TermKind};

pub(super) const TERM: TermKind = TermKind {
    key: "validity",
    doc: "the merchant gives the payment time to arrive",
    about: About::Deal,
    build: Build::Always(|catalog| {
        let most = catalog.validity;
        Box::new(Alive { most })
    }),
};

struct Alive {
    /// Seconds.
    most: u64,
}

impl Term for Alive {
    fn bounds(&self) -> Vec<(&'static str, Bound)> {
        vec![("validity", Bound::AtMost(self.most.into()))]
    }

    fn check(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        if ask.requirement.network.is_solana() && self.most < solana::LIFE {
            let detail = format!(
                "a payment on Solana can be taken for {} s, longer than limits.validity",
                solana::LIFE
            );
            return Err(Refusal::new(Reason::ValidityTooLong, detail));
        }
        if ask.requirement.lives(ask.wall) > 0 {
            return Ok(());
        }
        let detail = "the challenge gives a payment no time to arrive";
        Err(Refusal::new(Reason::ChallengeExpired, detail))
    }
}
