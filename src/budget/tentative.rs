//! What is known only because of payments that may yet come to nothing: each fact names those behind it,
//! and goes when the last of them is released.
//!
//! Payments that settle stay behind it, so no end of a payment but its release need look at any fact.

use super::facts::key;
use super::{Asked, Asking, Book, Change, Entry, Fact};
use crate::clock::Timestamp;
use crate::money::Usd;
use crate::payment::PaymentId;

/// Payments that one fact names. Where there are more, it is known for good: so many payments to one place
/// do not all come to nothing, and the list must not grow with every one.
const BEHIND_MAX: usize = 8;

/// A price, and which payment brought it when.
type Paid = (PaymentId, Usd, Timestamp);

/// The payments behind a fact, with this one; `None` where that changes nothing. Nobody's payment is one of an older
/// program or of a policy that remembers nothing: it changed nothing then, and is judged so again.
fn leant(behind: &[PaymentId], payment: Option<PaymentId>) -> Option<Vec<PaymentId>> {
    match payment {
        _ if behind.is_empty() => None,
        None => None,
        Some(payment) if behind.contains(&payment) => None,
        Some(_) if behind.len() >= BEHIND_MAX => Some(vec![]),
        Some(payment) => Some([behind, &[payment]].concat()),
    }
}

/// The host of this payment is a known one, as long as the payment stands. `payment`: nobody's makes it known for good.
pub(super) fn merchant(
    book: &Book,
    host: &str,
    payment: Option<PaymentId>,
    now: Timestamp,
) -> Vec<(String, Option<Fact>)> {
    let key = key::merchant(host);
    let (since, behind) = match book.facts.get(&key) {
        Some(Fact::Merchant { since, behind }) => match leant(behind, payment) {
            Some(behind) => (*since, behind),
            None => return vec![],
        },
        Some(_) => return vec![],
        None => (now, payment.into_iter().collect()),
    };
    vec![(key, Some(Fact::Merchant { since, behind }))]
}

/// A recipient that is known already, with one more payment to it; `None` where that changes nothing.
pub(super) fn payee(old: &Fact, payment: Option<PaymentId>) -> Option<Fact> {
    let Fact::Payee {
        pay_to,
        since,
        behind,
    } = old
    else {
        return None;
    };
    Some(Fact::Payee {
        behind: leant(behind, payment)?,
        pay_to: pay_to.clone(),
        since: *since,
    })
}

/// A price that is known already, with one more payment on its route; `None` where that changes nothing.
pub(super) fn price(
    old: &Fact,
    payment: Option<PaymentId>,
    (price, now): (Usd, Timestamp),
) -> Option<Fact> {
    let Fact::Price {
        lowest,
        since,
        base,
        behind,
    } = old
    else {
        return None;
    };
    // As older programs judged it.
    let Some(payment) = payment else {
        return (price < *lowest).then_some(Fact::Price {
            lowest: price,
            since: now,
            base: None,
            behind: vec![],
        });
    };
    let base = match behind.is_empty() {
        true => Some((*lowest, *since)),
        false => *base,
    };
    let (lowest, since) = match price < *lowest {
        true => (price, now),
        false => (*lowest, *since),
    };
    let known = behind.iter().any(|(id, ..)| *id == payment);
    if known || base.is_some_and(|(base, _)| price >= base) {
        return None;
    }
    let (base, behind) = match behind.len() < BEHIND_MAX {
        true => (base, [&**behind, &[(payment, price, now)]].concat()),
        false => (None, vec![]),
    };
    Some(Fact::Price {
        lowest,
        since,
        base,
        behind,
    })
}

/// What is known without a payment that came to nothing.
pub(super) fn unmet(book: &Book, entry: &Entry) -> Change {
    let Entry::Unmet {
        payment, approval, ..
    } = entry
    else {
        return Change::default();
    };
    let without = |key: String| {
        let fact = match book.facts.get(&key)? {
            Fact::Approval(asking) => Some(unused(asking, *payment, (*approval)?.1)?),
            fact => without(fact, *payment)?,
        };
        Some((key, fact))
    };
    Change {
        facts: entry.facts("").into_iter().filter_map(without).collect(),
        ..Change::default()
    }
}

/// A yes that was used for this payment, as it was before; `None` where it was used for none or for another one.
fn unused(asking: &Asking, payment: PaymentId, at: Timestamp) -> Option<Fact> {
    let used = Asked::Used { payment };
    (asking.stage == used).then(|| {
        Fact::Approval(Box::new(Asking {
            stage: Asked::Approved { at },
            ..asking.clone()
        }))
    })
}

/// The fact without this payment, which may be none any more; `None` where it does not stand behind it.
fn without(fact: &Fact, payment: PaymentId) -> Option<Option<Fact>> {
    let others = |behind: &[PaymentId]| {
        let others: Vec<_> = behind.iter().copied().filter(|b| *b != payment).collect();
        (others.len() < behind.len()).then_some(others)
    };
    match fact {
        Fact::Merchant { since, behind } => {
            let (since, behind) = (*since, others(behind)?);
            Some((!behind.is_empty()).then_some(Fact::Merchant { since, behind }))
        }
        Fact::Payee {
            pay_to,
            since,
            behind,
        } => {
            let behind = others(behind)?;
            Some((!behind.is_empty()).then(|| Fact::Payee {
                pay_to: pay_to.clone(),
                since: *since,
                behind,
            }))
        }
        Fact::Price { base, behind, .. } => {
            let is_other = |(id, ..): &&Paid| *id != payment;
            let others: Vec<Paid> = behind.iter().filter(is_other).copied().collect();
            (others.len() < behind.len()).then(|| cheapest(*base, others))
        }
        Fact::Frozen { .. } | Fact::Approval(_) => None,
    }
}

/// The lowest of what is left.
fn cheapest(base: Option<(Usd, Timestamp)>, behind: Vec<Paid>) -> Option<Fact> {
    let brought = behind.iter().map(|(_, price, at)| (*price, *at));
    let (lowest, since) = brought.chain(base).min()?;
    Some(Fact::Price {
        lowest,
        since,
        base: base.filter(|_| !behind.is_empty()),
        behind,
    })
}
