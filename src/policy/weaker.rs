//! Is a new policy weaker than the old one: could it pay where the old one refuses? Nothing is asked;
//! what cannot be told is weaker.
//!
//! It is not weaker when each rule that pays was there before under its name, is about no more, holds as
//! much, and when everything that came before it and could decide in its place still does. For then
//! whatever it pays, the old policy let that same rule decide, and pay on terms that are no stricter.

use super::rule::{Pay, Rule, Says};
use super::{Budget, Mode, OnUnknown, Policy};
use crate::policy::terms::Bound;

/// Everything in which `new` is weaker than `old`: by name and key, for people. Empty: in nothing.
#[must_use]
pub fn weaker(old: &Policy, new: &Policy) -> Vec<String> {
    let mut found = vec![];
    match (old.mode, new.mode) {
        (Mode::Observe, Mode::Enforce) => found.push("mode: it would pay".to_owned()),
        (Mode::Observe, Mode::Observe) | (Mode::Enforce, Mode::Observe | Mode::Enforce) => {}
    }
    catalog(old, new, &mut found);
    for (place, rule) in new.rules.iter().enumerate() {
        if let Says::Pay(pay) = &rule.says {
            let before = new.rules.get(..place).unwrap_or_default();
            paying(old, before, rule, pay, &mut found);
        }
    }
    found
}

/// What rules refer to.
fn catalog(old: &Policy, new: &Policy, found: &mut Vec<String>) {
    let (was, is) = (&old.catalog, &new.catalog);
    for asset in &is.assets {
        if !was.assets.contains(asset) {
            found.push(format!("assets: {} on {}", asset.symbol, asset.network));
        }
    }
    if !was.signers.is_empty() && was.signers != is.signers {
        found.push("signers: other keys".to_owned());
    }
    let loops = match (was.identical_payments, is.identical_payments) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(was), Some(is)) => !Bound::Rate(is).within(&Bound::Rate(was)),
    };
    if loops {
        found.push("limits.identical_payments".to_owned());
    }
    if is.requirements > was.requirements {
        found.push("limits.requirements".to_owned());
    }
    for budget in &is.budgets {
        let before = was.budgets.iter().find(|b| b.name == budget.name);
        if let Some(key) = before.and_then(|before| looser(before, budget)) {
            found.push(format!("budget `{}`: {key}", budget.name));
        }
    }
}

/// The key of a budget that lets more through than before.
fn looser(was: &Budget, is: &Budget) -> Option<&'static str> {
    // Other accounts, in which nothing counts yet.
    if is.scope != was.scope {
        return Some("scope");
    }
    // What was spent counts on, for another time than before.
    if is.window != was.window {
        return Some("window");
    }
    if is.limit > was.limit {
        return Some("limit");
    }
    let most = |payments: Option<u32>| payments.unwrap_or(u32::MAX);
    (most(is.payments) > most(was.payments)).then_some("payments")
}

/// One rule that pays, with the rules before it.
fn paying(old: &Policy, before: &[Rule], rule: &Rule, pay: &Pay, found: &mut Vec<String>) {
    let name = &rule.name;
    let place = old.rules.iter().position(|r| r.name == *name);
    let known = place.and_then(|place| Some((place, old.rules.get(place)?)));
    let Some((place, was)) = known else {
        return found.push(format!("rule `{name}`: it is new, and pays"));
    };
    let Says::Pay(was_paying) = &was.says else {
        return found.push(format!("rule `{name}`: it pays"));
    };
    if !was.covers(rule) {
        found.push(format!("rule `{name}`: match"));
    }
    let bounds = pay.bounds();
    for (key, theirs) in was_paying.bounds() {
        let own = bounds.iter().find(|(k, _)| *k == key);
        if !own.is_some_and(|(_, own)| own.within(&theirs)) {
            found.push(format!("rule `{name}`: pay.{key}"));
        }
    }
    for earlier in old.rules.iter().take(place).filter(|e| e.may_meet(rule)) {
        if !before.iter().any(|now| now.covers(earlier)) {
            let gone = &earlier.name;
            found.push(format!(
                "rule `{name}`: `{gone}` no longer decides all that it did before it"
            ));
        }
    }
}

impl Pay {
    /// Everything that holds when the rule pays.
    fn bounds(&self) -> Vec<(&'static str, Bound)> {
        let flag = |set: bool| Bound::AtMost(u128::from(set));
        let mut bounds = vec![
            (
                "on_unknown",
                match self.on_unknown {
                    OnUnknown::ResendSame => flag(true),
                    OnUnknown::Hold => flag(false),
                },
            ),
            ("prepay", flag(self.prepay)),
            ("mcp", flag(self.mcp)),
            ("sign_in", flag(self.sign_in)),
            (
                "max_fee",
                Bound::AtMost(self.max_fee.map_or(0, |usd| usd.0.into())),
            ),
        ];
        bounds.extend(self.terms.iter().flat_map(|named| named.term.bounds()));
        bounds
    }
}
