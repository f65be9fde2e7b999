//! `rate: 30/m`: how often is paid, besides how much. Kept by the ledger, so a restart resets nothing.

use crate::clock::Window;
use crate::money::Usd;
use crate::payment::{Limit, Refusal};
use crate::policy::Duties;
use crate::section::{Section, SectionError};
use crate::settings::Rate;

use super::{About, Ask, Bound, Build, Term, TermKind};

pub(super) const TERM: TermKind = TermKind {
    key: "rate",
    doc: "most payments in a time: 30/m for the rule, or { rule: …, host: …, session: … }",
    about: About::Deal,
    build: Build::Key(|section, _| {
        let rates = section.map(read).transpose()?;
        Ok(rates.map(|rates| Box::new(Rates(rates)) as Box<dyn Term>))
    }),
};

/// Whose payments count together.
#[derive(Clone, Copy)]
enum Per {
    Rule,
    Host,
    Session,
}

const PER: &[(&str, Per)] = &[
    // The narrowest first: whoever is turned away for one host takes no place from the others.
    ("host", Per::Host),
    ("session", Per::Session),
    ("rule", Per::Rule),
];

struct Rates(Vec<(Per, Rate)>);

fn read(mut section: Section) -> Result<Vec<(Per, Rate)>, SectionError> {
    if !section.is_map() {
        return Ok(vec![(Per::Rule, section.parse()?)]);
    }
    let mut rates = vec![];
    for (key, per) in PER {
        if let Some(rate) = section.take(key) {
            rates.push((*per, rate.parse()?));
        }
    }
    let place = section.clone();
    section.finish()?;
    match rates.is_empty() {
        // It would be no limit, where one was meant.
        true => Err(place.expected("a rate such as 30/m")),
        false => Ok(rates),
    }
}

impl Term for Rates {
    fn bounds(&self) -> Vec<(&'static str, Bound)> {
        let bound = |(per, rate): &(Per, Rate)| {
            let key = match per {
                Per::Rule => "rate",
                Per::Host => "rate.host",
                Per::Session => "rate.session",
            };
            (key, Bound::Rate(*rate))
        };
        self.0.iter().map(bound).collect()
    }

    /// Only the ledger knows how often was paid.
    fn check(&self, _ask: &Ask<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    fn duties(&self, ask: &Ask<'_>, duties: &mut Duties) {
        for (per, rate) in &self.0 {
            let who = match per {
                Per::Rule => format!("rule:{}", ask.rule),
                Per::Host => format!("host:{}:{}", ask.rule, ask.asked.host),
                Per::Session => format!("session:{}:{}", ask.rule, ask.asked.session.id),
            };
            let window = Window::Rolling {
                seconds: rate.seconds,
            };
            let (first, last) = window.buckets(ask.now);
            let account = format!("rate:{who}");
            duties.rates.push((account.clone(), *rate));
            duties.limits.push(Limit {
                account,
                first,
                last,
                amount: Usd(u64::MAX),
                payments: Some(rate.count),
                resets_at: window.resets_at(ask.now),
                rolls: window.rolls(),
            });
        }
    }
}
