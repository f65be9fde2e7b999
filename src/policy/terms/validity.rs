//! The merchant asks for a payload that lives at all. How long it may live at most is cut to
//! `limits.validity`, not refused.

use crate::payment::{Reason, Refusal};

use super::{About, Ask, Build, Term, TermKind};

pub(super) const TERM: TermKind = TermKind {
    key: "validity",
    doc: "the merchant gives the payment time to arrive",
    about: About::Deal,
    build: Build::Always(|_| Box::new(Alive)),
};

struct Alive;

impl Term for Alive {
    fn check(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        if ask.requirement.lives(ask.now) > 0 {
            return Ok(());
        }
        let detail = "the challenge gives a payment no time to arrive";
        Err(Refusal::new(Reason::ChallengeExpired, detail))
    }
}
