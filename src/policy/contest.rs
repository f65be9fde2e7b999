//! Every way to pay that a challenge offers, against one rule: which is cheapest, or what was nearest.

use crate::clock::Timestamp;
use crate::money::Amount;
use crate::payment::{Asked, Challenge, Limit, Problem, Reason, Refusal, Requirement};
use crate::settings::Percent;

use super::rule::{Pay, Rule};
use super::terms::{About, Ask, Named};
use super::{Approval, Duties, Facts, Policy};

/// One way to pay that was refused, and how far it came.
pub(super) struct Missed {
    /// Place of the term in the order of precedence.
    rank: usize,
    about: About,
    refusal: Refusal,
}

/// One term's opinion of one way to pay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The term.
    pub term: &'static str,
    /// What it says.
    pub refusal: Option<Refusal>,
}

/// Everything known about one way to pay, before any term is asked: by a rule that lets the network take so much besides.
pub(super) fn ask<'a>(
    policy: &'a Policy,
    (rule, fee): (&'a str, Amount),
    asked: &'a Asked,
    requirement: &'a Requirement,
    facts: &'a Facts,
    now: Timestamp,
) -> Ask<'a> {
    let payer = facts.payers.iter().find(|(n, _)| *n == requirement.network);
    let asset = policy
        .catalog
        .asset(&requirement.network, &requirement.asset);
    Ask {
        rule,
        asked,
        requirement,
        payers: &facts.payers,
        known: &facts.known,
        payer: payer.map(|(_, address)| &**address),
        asset,
        price: asset.and_then(|a| a.price(requirement.amount.plus(fee)?)),
        fee,
        now,
        wall: facts.wall.unwrap_or(now),
    }
}

/// The cheapest way to pay that every term accepts, among equals in the order of the rule's `schemes`
/// and then the merchant's, whatever protocol it comes in. Asked in
/// the order of price, so that an ordinary challenge is judged once and not once per entry.
pub(super) fn cheapest<'a>(
    pay: &Pay,
    asks: impl Iterator<Item = Ask<'a>>,
) -> Result<Ask<'a>, Vec<Missed>> {
    let mut asks: Vec<(usize, Ask<'a>)> = asks.enumerate().collect();
    let rank = |ask: &Ask<'_>| pay.terms.iter().map(|n| n.term.rank(ask)).sum::<usize>();
    asks.sort_by_key(|(_, ask)| (ask.price.is_none(), ask.price, rank(ask)));
    let mut missed = Vec::with_capacity(asks.len());
    for (place, ask) in asks {
        match judge(&pay.terms, &ask) {
            Ok(()) => return Ok(ask),
            Err(miss) => missed.push((place, miss)),
        }
    }
    missed.sort_by_key(|(place, _)| *place);
    Err(missed.into_iter().map(|(_, miss)| miss).collect())
}

fn judge(terms: &[Named], ask: &Ask<'_>) -> Result<(), Missed> {
    for (rank, Named { kind, term }) in terms.iter().enumerate() {
        if let Err(refusal) = term.check(ask) {
            let about = kind.about;
            let refusal = Refusal {
                price: ask.price,
                ..refusal
            };
            return Err(Missed {
                rank,
                about,
                refusal,
            });
        }
    }
    Ok(())
}

/// Do the terms about the means take it? What they say depends on no time and on nothing that was paid.
pub(super) fn has_means(pay: &Pay, ask: &Ask<'_>) -> bool {
    let mut means = pay.terms.iter().filter(|n| n.kind.about == About::Means);
    means.all(|named| named.term.check(ask).is_ok())
}

/// What every term says, without stopping at the first refusal.
pub(super) fn verdicts(pay: &Pay, ask: &Ask<'_>) -> Vec<Verdict> {
    let verdict = |named: &Named| Verdict {
        term: named.kind.key,
        refusal: named.term.check(ask).err(),
    };
    pay.terms.iter().map(verdict).collect()
}

/// The permission, with every limit that the ledger must keep. `None` when a value is missing that
/// the terms have checked: then nothing is paid.
pub(super) fn approve(policy: &Policy, rule: &Rule, pay: &Pay, ask: &Ask<'_>) -> Option<Approval> {
    let mut duties = Duties::default();
    for named in &pay.terms {
        named.term.duties(ask, &mut duties);
    }
    // Where no term bounds a rise, what is known anyway tells of one.
    let free = duties.price.is_none() && ask.known.rose(ask.price, Percent(0));
    duties.price_changed |= free;
    let mut limits = vec![Limit::session(&ask.asked.session)];
    limits.append(&mut duties.limits);
    ask.payer?;
    Some(Approval {
        rule: rule.name.clone(),
        requirement: ask.requirement.clone(),
        asset: ask.asset?.clone(),
        price: ask.price?,
        fee: ask.fee,
        limits,
        duties,
        valid_for: ask.requirement.lives(ask.wall).min(policy.catalog.validity),
        on_unknown: pay.on_unknown,
        prepay: pay.prepay,
    })
}

/// What is wrong with the rest of a challenge. Of a protocol in which the rule pays nothing at all, that: whatever else
/// is wrong there, mending it would not help. It comes last, as it was furthest from being paid.
pub(super) fn problems(pay: &Pay, challenge: &Challenge) -> Vec<Problem> {
    let (mut told, mut foreign) = (vec![], vec![]);
    for problem in &challenge.problems {
        let mut terms = pay.terms.iter().filter(|_| !problem.schemes.is_empty());
        match terms.find_map(|named| named.term.takes_some(problem.schemes).err()) {
            Some(refusal) => foreign.push(Problem::new(refusal.reason, refusal.detail)),
            None => told.push(problem.clone()),
        }
    }
    told.append(&mut foreign);
    told
}

/// The refusal that helps most: of the deals we could have made the nearest (furthest along the
/// terms, then cheapest, then first); if there was none, the one reason, or a list of the reasons.
///
/// Beside it, which of them it was, where all were judged.
pub(super) fn nearest(missed: Vec<Missed>, problems: &[Problem]) -> (Refusal, Option<usize>) {
    let mut codes: Vec<Reason> = vec![];
    let reasons = missed.iter().map(|m| m.refusal.reason);
    for reason in reasons.chain(problems.iter().map(|p| p.reason)) {
        if !codes.contains(&reason) {
            codes.push(reason);
        }
    }
    let many = missed.len() + problems.len();
    let worth = |(_, m): &(usize, Missed)| {
        (
            m.about == About::Deal,
            m.rank,
            std::cmp::Reverse(m.refusal.price),
        )
    };
    // `max_by_key` takes the last of equals; reversed, that is the merchant's first.
    let best = missed.into_iter().enumerate().rev().max_by_key(worth);
    let (which, best) = best.unzip();
    let refusal = match (best, problems, &*codes) {
        (Some(best), _, _) if best.about == About::Deal => best.refusal,
        (Some(best), _, [_]) => best.refusal,
        (None, [problem, ..], _) => of_problem(problem),
        (None, [], _) => Refusal::new(
            Reason::NoAcceptableOption,
            "the challenge offers no way to pay",
        ),
        _ => {
            let codes: Vec<_> = codes.iter().map(|c| c.code()).collect();
            let detail = format!(
                "none of the {many} ways to pay is acceptable: {}",
                codes.join(", ")
            );
            Refusal::new(Reason::NoAcceptableOption, detail)
        }
    };
    (refusal, which)
}

/// A challenge without anything usable: what is wrong with the first part of it.
pub(super) fn of_problem(problem: &Problem) -> Refusal {
    Refusal::new(problem.reason, problem.detail.clone())
}
