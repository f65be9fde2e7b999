//! The verdict on entries about facts: what may be remembered, and what a payment must agree with.

use super::facts::key;
use super::tentative;
use super::{Asked, Asking, Book, Change, Entry, Fact, Frozen, Reject};
use crate::clock::Timestamp;
use crate::payment::PaymentId;

impl Entry {
    /// Every fact that judging it looks at. `agent` is that of the session that it names.
    #[must_use]
    pub fn facts(&self, agent: &str) -> Vec<String> {
        match self {
            Self::Reserve { host, .. } => {
                let mut keys = key::freezes(host, agent).to_vec();
                keys.push(key::merchant(host));
                keys
            }
            Self::Payee { host, network, .. } => vec![key::payee(host, network)],
            Self::Price {
                host, method, path, ..
            } => vec![key::price(host, method, path)],
            Self::Unmet {
                host,
                network,
                method,
                path,
                approval,
                ..
            } => {
                let mut keys = vec![
                    key::merchant(host),
                    key::payee(host, network),
                    key::price(host, method, path),
                ];
                keys.extend(approval.map(|(id, _)| key::approval(id)));
                keys
            }
            Self::Freeze { what, .. } | Self::Unfreeze { what } => vec![key::frozen(what)],
            Self::Ask { asking } => vec![key::approval(asking.id)],
            Self::Answer { id, .. } | Self::UseApproval { id, .. } => vec![key::approval(*id)],
            Self::Met { host, .. } | Self::Forget { host } => vec![key::merchant(host)],
            Self::DropApprovals { .. }
            | Self::OpenSession { .. }
            | Self::CloseSession { .. }
            | Self::Settle { .. }
            | Self::Release { .. }
            | Self::Recount { .. }
            | Self::Note { .. } => vec![],
        }
    }

    /// The beginning of every further key that judging it looks at.
    #[must_use]
    pub fn facts_below(&self) -> Option<String> {
        match self {
            Self::Forget { host } => Some(key::about(host)),
            Self::DropApprovals { .. } => Some(key::APPROVALS.to_owned()),
            Self::OpenSession { .. }
            | Self::CloseSession { .. }
            | Self::Reserve { .. }
            | Self::Settle { .. }
            | Self::Release { .. }
            | Self::Recount { .. }
            | Self::Note { .. }
            | Self::Payee { .. }
            | Self::Price { .. }
            | Self::Met { .. }
            | Self::Unmet { .. }
            | Self::Freeze { .. }
            | Self::Unfreeze { .. }
            | Self::Ask { .. }
            | Self::Answer { .. }
            | Self::UseApproval { .. } => None,
        }
    }
}

/// What an entry about facts changes.
pub(super) fn judge(book: &Book, entry: &Entry) -> Result<Change, Reject> {
    match entry {
        Entry::Payee { .. } => payee(book, entry),
        Entry::Price { .. } => price(book, entry),
        Entry::Met { payment, host, now } => Ok(Change {
            facts: tentative::merchant(book, host, Some(*payment), *now),
            ..Change::default()
        }),
        Entry::Unmet { .. } => Ok(tentative::unmet(book, entry)),
        Entry::Forget { host } => Ok(forget(book, host)),
        Entry::DropApprovals { before } => Ok(drop_approvals(book, *before)),
        Entry::Freeze { what, now, why } => {
            let key = key::frozen(what);
            let since = *now;
            Ok(match book.facts.contains_key(&key) {
                true => Change::default(),
                false => remembered(
                    key,
                    Fact::Frozen {
                        since,
                        why: why.clone(),
                    },
                ),
            })
        }
        Entry::Unfreeze { what } => Ok(forgotten(book, [key::frozen(what)])),
        Entry::Ask { asking } => ask(book, asking),
        Entry::Answer { id, approve, now } => {
            let asking = asking(book, &key::approval(*id))?;
            answer(asking, *approve, *now)
        }
        Entry::UseApproval { .. } => use_approval(book, entry),
        Entry::OpenSession { .. }
        | Entry::CloseSession { .. }
        | Entry::Reserve { .. }
        | Entry::Settle { .. }
        | Entry::Release { .. }
        | Entry::Recount { .. }
        | Entry::Note { .. } => Ok(Change::default()),
    }
}

fn remembered(key: String, fact: Fact) -> Change {
    Change {
        facts: vec![(key, Some(fact))],
        ..Change::default()
    }
}

fn forgotten(book: &Book, keys: impl IntoIterator<Item = String>) -> Change {
    let there = keys.into_iter().filter(|k| book.facts.contains_key(k));
    Change {
        facts: there.map(|key| (key, None)).collect(),
        ..Change::default()
    }
}

/// Nothing that this payment belongs to is frozen.
pub(super) fn thawed(book: &Book, host: &str, agent: &str) -> Result<(), Reject> {
    match Frozen::among(&book.facts, host, agent) {
        Some(what) => Err(Reject::Frozen { what }),
        None => Ok(()),
    }
}

/// The first payment at a host makes it a known one: for good, unless [`Entry::Met`] came before it.
pub(super) fn met(
    book: &Book,
    host: &str,
    id: PaymentId,
    now: Timestamp,
) -> Vec<(String, Option<Fact>)> {
    let fact = book.facts.get(&key::merchant(host));
    let counts = matches!(fact, Some(Fact::Merchant { behind, .. }) if behind.contains(&id));
    match host.is_empty() || counts {
        true => vec![],
        false => tentative::merchant(book, host, None, now),
    }
}

fn payee(book: &Book, entry: &Entry) -> Result<Change, Reject> {
    let Entry::Payee {
        host,
        network,
        pay_to,
        now,
        approved,
        payment,
    } = entry
    else {
        return Ok(Change::default());
    };
    let key = key::payee(host, network);
    let mut behind = vec![];
    match book.facts.get(&key) {
        Some(old @ Fact::Payee { pay_to: known, .. }) if known == pay_to => {
            let fact = tentative::payee(old, *payment);
            return Ok(fact.map_or_else(Change::default, |fact| remembered(key, fact)));
        }
        Some(Fact::Payee { pay_to: known, .. }) if !approved => {
            let known = known.clone();
            return Err(Reject::PayeeChanged { known });
        }
        // Of one that a person agreed to it does not matter what becomes of the payment.
        Some(_) => {}
        None => behind.extend(payment.filter(|_| !approved)),
    }
    Ok(remembered(
        key,
        Fact::Payee {
            pay_to: pay_to.clone(),
            since: *now,
            behind,
        },
    ))
}

fn price(book: &Book, entry: &Entry) -> Result<Change, Reject> {
    let Entry::Price {
        host,
        method,
        path,
        price,
        increase,
        now,
        approved,
        payment,
    } = entry
    else {
        return Ok(Change::default());
    };
    let key = key::price(host, method, path);
    let old = book.facts.get(&key);
    if let Some(old @ Fact::Price { lowest, .. }) = old.filter(|_| !approved) {
        if increase.is_some_and(|i| price.0 > i.above(lowest.0)) {
            return Err(Reject::PriceRose { lowest: *lowest });
        }
        let fact = tentative::price(old, *payment, (*price, *now));
        return Ok(fact.map_or_else(Change::default, |fact| remembered(key, fact)));
    }
    // Of one that a person agreed to it does not matter what becomes of the payment.
    let brought = payment.filter(|_| !approved);
    let fact = Fact::Price {
        lowest: *price,
        since: *now,
        base: None,
        behind: brought.map(|id| (id, *price, *now)).into_iter().collect(),
    };
    match old == Some(&fact) {
        true => Ok(Change::default()),
        false => Ok(remembered(key, fact)),
    }
}

fn forget(book: &Book, host: &str) -> Change {
    let below = key::about(host);
    let keys = book.facts.range(below.clone()..).map(|(key, _)| key);
    let keys = keys.take_while(|key| key.starts_with(&below)).cloned();
    forgotten(book, keys.chain([key::merchant(host)]))
}

/// Nothing hangs on an approval that is over: it can be neither answered nor used, nor does it keep
/// anybody from asking the same again.
fn drop_approvals(book: &Book, before: Timestamp) -> Change {
    let all = book.facts.range(key::APPROVALS.to_owned()..);
    let all = all.take_while(|(key, _)| key.starts_with(key::APPROVALS));
    let over = all.filter(|(_, fact)| fact.expired(before));
    let over: Vec<_> = over.map(|(key, _)| key.clone()).collect();
    forgotten(book, over)
}

fn asking<'a>(book: &'a Book, key: &str) -> Result<&'a Asking, Reject> {
    match book.facts.get(key) {
        Some(Fact::Approval(asking)) => Ok(asking),
        Some(
            Fact::Frozen { .. } | Fact::Merchant { .. } | Fact::Payee { .. } | Fact::Price { .. },
        )
        | None => Err(Reject::NoSuchApproval),
    }
}

/// A question that is open, or was denied a moment ago, is not asked again.
fn ask(book: &Book, new: &Asking) -> Result<Change, Reject> {
    let key = key::approval(new.id);
    if let Ok(old) = asking(book, &key)
        && new.asked < old.expires
        && !matches!(old.stage, Asked::Used { .. })
    {
        return match old.digest == new.digest && old.is_open(new.asked) {
            true => Ok(Change::default()),
            false => Err(Reject::ApprovalOver),
        };
    }
    Ok(remembered(key, Fact::Approval(Box::new(new.clone()))))
}

/// Yes once; no also after a yes that was not used.
fn answer(asking: &Asking, approve: bool, now: Timestamp) -> Result<Change, Reject> {
    let stage = match (asking.stage, approve) {
        (Asked::Approved { .. }, true) | (Asked::Denied { .. }, false) => {
            return Ok(Change::default());
        }
        (Asked::Waiting, true) => Asked::Approved { at: now },
        (Asked::Waiting | Asked::Approved { .. }, false) => Asked::Denied { at: now },
        (Asked::Denied { .. }, true) | (Asked::Used { .. }, _) => {
            return Err(Reject::ApprovalOver);
        }
    };
    if now >= asking.expires {
        return Err(Reject::ApprovalOver);
    }
    Ok(staged(asking, stage))
}

fn use_approval(book: &Book, entry: &Entry) -> Result<Change, Reject> {
    let Entry::UseApproval {
        id,
        digest,
        payment,
        now,
    } = entry
    else {
        return Ok(Change::default());
    };
    let asking = asking(book, &key::approval(*id))?;
    match asking.stage {
        Asked::Used { payment: by } if by == *payment => return Ok(Change::default()),
        Asked::Approved { .. } => {}
        Asked::Waiting | Asked::Denied { .. } | Asked::Used { .. } => {
            return Err(Reject::NotApproved);
        }
    }
    if asking.digest != *digest || *now >= asking.expires {
        return Err(Reject::NotApproved);
    }
    Ok(staged(asking, Asked::Used { payment: *payment }))
}

fn staged(asking: &Asking, stage: Asked) -> Change {
    let fact = Fact::Approval(Box::new(Asking {
        stage,
        ..asking.clone()
    }));
    remembered(key::approval(asking.id), fact)
}
