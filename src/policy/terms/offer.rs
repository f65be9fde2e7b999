//! `offer: signed`: only terms that a key of the merchant signed (x402 extension `offer-receipt`), the keys
//! being those of `signers:`. Where a host has keys and the rule asks for none, an unsigned one is told.

use crate::payment::{Reason, Refusal, Signed, SignedOffer};
use crate::policy::Duties;
use crate::policy::signers::Signer;
use crate::section::Section;

use super::resource::is_of;
use super::{About, Ask, Bound, Build, Term, TermKind};

pub(super) const TERM: TermKind = TermKind {
    key: "offer",
    doc: "signed: only terms that a key of `signers` signed; any if not written",
    about: About::Deal,
    build: Build::Key(|section, catalog| {
        let place = section.clone();
        let demand = section.map_or(Ok(Demand::Any), |s: Section| s.word(DEMANDS))?;
        if let (Some(place), Demand::Signed, []) = (place, demand, &*catalog.signers) {
            let error = place.error("no key is known that could have signed an offer");
            return Err(error.hint("add the merchant's key below `signers:` of the file"));
        }
        let signers = catalog.signers.clone();
        Ok(match signers.is_empty() {
            true => None,
            false => Some(Box::new(Offer { demand, signers })),
        })
    }),
};

const DEMANDS: &[(&str, Demand)] = &[("any", Demand::Any), ("signed", Demand::Signed)];

/// What a rule wants of offers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Demand {
    Any,
    Signed,
}

struct Offer {
    demand: Demand,
    signers: Vec<Signer>,
}

impl Offer {
    /// Did a key of this host sign these terms, for this resource and this moment?
    fn holds(&self, ask: &Ask<'_>, offer: &SignedOffer) -> bool {
        let asked = ask.asked;
        let here = |s: &&Signer| s.hosts.iter().any(|h| h.matches(&asked.host, asked.port));
        let of_this = match &ask.requirement.resource {
            Some(resource) => offer.resource == *resource,
            None => is_of(asked, &offer.resource) == Some(true),
        };
        let lives = offer.valid_until == 0 || offer.valid_until > ask.wall.secs();
        let mut keys = self.signers.iter().filter(here).map(|s| &s.key);
        of_this && lives && keys.any(|key| key.sealed(&offer.seal))
    }
}

impl Term for Offer {
    fn bounds(&self) -> Vec<(&'static str, Bound)> {
        let demands: &[&str] = match self.demand {
            Demand::Any => &[],
            Demand::Signed => &["signed"],
        };
        vec![("offer", Bound::holds(demands))]
    }

    fn check(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        let refuse = |detail: &str| Err(Refusal::new(Reason::OfferUnsigned, detail));
        match (self.demand, &ask.requirement.offer.signed) {
            (Demand::Any, _) | (Demand::Signed, Signed::Supposed) => Ok(()),
            (Demand::Signed, Signed::None) => {
                refuse("the rule pays signed offers only, and the challenge has none")
            }
            (Demand::Signed, Signed::Offers(offers)) => {
                match offers.iter().any(|offer| self.holds(ask, offer)) {
                    true => Ok(()),
                    false => refuse(
                        "the challenge has no offer of these terms that a key of this host signed and that is still valid",
                    ),
                }
            }
        }
    }

    fn duties(&self, ask: &Ask<'_>, duties: &mut Duties) {
        let (host, port) = (&ask.asked.host, ask.asked.port);
        let speaks = |s: &Signer| s.hosts.iter().any(|h| h.matches(host, port));
        if let Signed::Offers(offers) = &ask.requirement.offer.signed {
            let holds = offers.iter().any(|offer| self.holds(ask, offer));
            duties.offer_unsigned = !holds && self.signers.iter().any(speaks);
        }
    }
}
