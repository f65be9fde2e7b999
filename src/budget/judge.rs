//! The verdict on one entry: checks first, in the order of `Reject`; then what changes.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::money::Usd;
use crate::payment::{Limit, PaymentId, Session};

use super::remember;
use super::{Because, Book, Change, Counted, Entry, Mark, Opened, Payment, Reject, Stage};

/// Judges an entry and enters it. On `Ok` the book has changed, on `Err` it has not; the same entry
/// twice changes nothing.
///
/// # Errors
/// The first [`Reject`], in its order, that applies.
pub fn apply(book: &mut Book, entry: &Entry) -> Result<(), Reject> {
    judge(book, entry).map(|change| {
        book.put(change);
    })
}

/// What the entry changes, without changing it.
///
/// # Errors
/// The first [`Reject`], in its order, that applies.
pub fn judge(book: &Book, entry: &Entry) -> Result<Change, Reject> {
    match entry {
        Entry::OpenSession {
            session,
            secret_sha256,
        } => open(book, session, secret_sha256.as_ref()),
        Entry::CloseSession { session } => {
            let old = book.sessions.get(session).ok_or(Reject::NoSuchSession)?;
            let closed = Opened {
                closed: true,
                ..old.clone()
            };
            Ok(Change {
                session: Some((session.clone(), Some(closed))),
                ..Change::default()
            })
        }
        Entry::Reserve { .. } => reserve(book, entry),
        Entry::Settle { id, charged } => close(book, *id, Stage::Settled, *charged),
        Entry::Release { id, because } => release(book, *id, *because),
        Entry::Recount { id, charged } => recount(book, *id, *charged),
        Entry::Payee { .. }
        | Entry::Price { .. }
        | Entry::Met { .. }
        | Entry::Unmet { .. }
        | Entry::Forget { .. }
        | Entry::Freeze { .. }
        | Entry::Unfreeze { .. }
        | Entry::Ask { .. }
        | Entry::Answer { .. }
        | Entry::UseApproval { .. }
        | Entry::DropApprovals { .. } => remember::judge(book, entry),
        Entry::Note { .. } => Ok(Change::default()),
    }
}

/// A generation is told by its `created`. It must be later than the one before, because the two
/// would share an account otherwise, and a replayed entry could reopen what was closed.
fn open(book: &Book, session: &Session, secret: Option<&String>) -> Result<Change, Reject> {
    if let Some(old) = book.sessions.get(&session.id) {
        let same = old.session == *session && old.secret_sha256.as_ref() == secret;
        if same && !old.closed {
            return Ok(Change::default());
        }
        let over = old.closed || session.created >= old.session.expires;
        if !over {
            return Err(Reject::SessionOpen);
        }
        if session.created <= old.session.created {
            return Err(Reject::SessionClosed);
        }
    }
    let opened = Opened {
        session: session.clone(),
        secret_sha256: secret.cloned(),
        closed: false,
    };
    Ok(Change {
        session: Some((session.id.clone(), Some(opened))),
        ..Change::default()
    })
}

fn reserve(book: &Book, entry: &Entry) -> Result<Change, Reject> {
    let Entry::Reserve {
        id,
        session,
        amount,
        limits,
        until,
        now,
        nonce,
        host,
    } = entry
    else {
        return Ok(Change::default());
    };
    let old = book.payments.get(id);
    let opened = book.sessions.get(session);
    // The session's cap comes from the book: what the caller believes about it may be old.
    let cap = opened.map(|o| Limit::session(&o.session));
    let limits: Vec<&Limit> = cap.iter().chain(limits).collect();
    let payment = Payment {
        stage: Stage::Reserved,
        amount: *amount,
        marks: marks(vec![], limits.iter().copied()),
        until: *until,
        nonce: nonce.clone(),
    };
    match old {
        Some(old) if *old == payment => return Ok(Change::default()),
        Some(_) => return Err(Reject::ExistsDifferent),
        None => {}
    }
    let opened = opened.ok_or(Reject::NoSuchSession)?;
    remember::thawed(book, host, &opened.session.agent)?;
    payable(opened, *now)?;
    if book.nonces.contains_key(nonce) {
        return Err(Reject::NonceUsed);
    }
    let counted = count(book, &payment)?;
    for limit in limits {
        within(book, limit, &payment)?;
    }
    // After this point the entry must succeed.
    Ok(Change {
        counted,
        nonce: Some((nonce.clone(), Some(*id))),
        payment: Some((*id, Some(payment))),
        session: None,
        facts: remember::met(book, host, *id, *now),
    })
}

fn payable(opened: &Opened, now: Timestamp) -> Result<(), Reject> {
    if opened.closed {
        return Err(Reject::SessionClosed);
    }
    let at = opened.session.expires;
    if now >= at {
        return Err(Reject::SessionExpired { at });
    }
    Ok(())
}

/// Where a payment under these limits counts: each account and bucket once, however many limits
/// look at it. `marks`: those that are known already.
pub(crate) fn marks<'a>(
    mut marks: Vec<Mark>,
    limits: impl Iterator<Item = &'a Limit>,
) -> Vec<Mark> {
    marks.reserve(limits.size_hint().0);
    for limit in limits {
        let mark = (limit.account.clone(), limit.last);
        if !marks.contains(&mark) {
            marks.push(mark);
        }
    }
    marks
}

/// The sums with the payment in them.
fn count(book: &Book, payment: &Payment) -> Result<Vec<(Mark, Option<Counted>)>, Reject> {
    let with = |mark: &Mark| {
        let now = book.counted.get(mark).copied().unwrap_or_default();
        let sum = now.plus(Counted {
            amount: payment.amount,
            payments: 1,
        });
        sum.map(|sum| (mark.clone(), Some(sum)))
    };
    let all = payment.marks.iter().map(with);
    all.collect::<Option<_>>().ok_or(Reject::Overflow)
}

/// Counts from `first` on, with no upper end: a clock that steps back must not open a second window.
/// A limit whose `first` lies after its `last` would not see its own payment, so the earlier rules.
fn within(book: &Book, limit: &Limit, payment: &Payment) -> Result<(), Reject> {
    let first = limit.first.min(limit.last);
    let counted = book.total(&limit.account, first).ok_or(Reject::Overflow)?;
    let mine = |mark: &&Mark| mark.0 == limit.account && mark.1 >= first;
    let one = Counted {
        amount: payment.amount,
        payments: 1,
    };
    let mut marks = payment.marks.iter().filter(mine);
    let after = marks.try_fold(counted, |sum, _| sum.plus(one));
    let after = after.ok_or(Reject::Overflow)?;
    if over(limit, after) {
        let mut limit = limit.clone();
        if let Some(moment) = leaves(book, &limit, first, (counted, one)) {
            limit.resets_at = Some(moment);
        }
        return Err(Reject::OverLimit { limit, counted });
    }
    Ok(())
}

fn over(limit: &Limit, counted: Counted) -> bool {
    let too_many = limit.payments.is_some_and(|most| counted.payments > most);
    counted.amount > limit.amount || too_many
}

/// When enough of what is counted has left a rolling window for one payment more. `None`: no window rolls,
/// or the payment is too large for an empty one.
fn leaves(
    book: &Book,
    limit: &Limit,
    first: u64,
    (mut counted, one): (Counted, Counted),
) -> Option<Timestamp> {
    let seconds = limit.rolls?;
    for ((_, bucket), gone) in rows(&book.counted, &limit.account, first) {
        counted = Counted {
            amount: counted.amount.minus(gone.amount)?,
            payments: counted.payments.checked_sub(gone.payments)?,
        };
        if !over(limit, counted.plus(one)?) {
            return Some(Timestamp::from_secs(bucket.saturating_add(seconds)));
        }
    }
    None
}

/// The buckets of an account from `first` on, in their order.
fn rows<'a>(
    counted: &'a BTreeMap<Mark, Counted>,
    account: &'a str,
    first: u64,
) -> impl Iterator<Item = (&'a Mark, &'a Counted)> {
    let rows = counted.range((account.to_owned(), first)..);
    rows.take_while(move |((a, _), _)| a == account)
}

/// What counts in an account from bucket `first` on; `None` when the sum does not fit.
pub(super) fn total(
    counted: &BTreeMap<Mark, Counted>,
    account: &str,
    first: u64,
) -> Option<Counted> {
    let mut rows = rows(counted, account, first);
    rows.try_fold(Counted::default(), |sum, (_, c)| sum.plus(*c))
}

fn release(book: &Book, id: PaymentId, because: Because) -> Result<Change, Reject> {
    let payment = book.payments.get(&id).ok_or(Reject::NoSuchPayment)?;
    let closed = payment.stage != Stage::Reserved;
    match because {
        Because::Expired { now } if now < payment.until && !closed => Err(Reject::TooEarly),
        Because::Expired { .. } | Because::NeverSigned => close(book, id, Stage::Released, Usd(0)),
    }
}

fn close(book: &Book, id: PaymentId, to: Stage, charged: Usd) -> Result<Change, Reject> {
    let payment = book.payments.get(&id).ok_or(Reject::NoSuchPayment)?;
    if payment.stage == to && payment.amount == charged {
        return Ok(Change::default());
    }
    if payment.stage != Stage::Reserved {
        return Err(Reject::WrongStage(payment.stage));
    }
    if charged > payment.amount {
        return Err(Reject::OverCharge);
    }
    let less = |mark: &Mark| {
        let now = book.counted.get(mark)?;
        let amount = now.amount.minus(payment.amount)?.plus(charged)?;
        let gone = u32::from(to == Stage::Released);
        let payments = now.payments.checked_sub(gone)?;
        Some((mark.clone(), Some(Counted { amount, payments })))
    };
    let counted = payment.marks.iter().map(less).collect::<Option<_>>();
    // After this point the entry must succeed.
    Ok(Change {
        counted: counted.ok_or(Reject::Overflow)?,
        payment: Some((
            id,
            Some(Payment {
                stage: to,
                amount: charged,
                ..payment.clone()
            }),
        )),
        ..Change::default()
    })
}

/// The only way back from released, and it only adds: no limit is asked, because nothing can be
/// refused any more, and the next reservation will find the limit reached.
fn recount(book: &Book, id: PaymentId, charged: Usd) -> Result<Change, Reject> {
    let payment = book.payments.get(&id).ok_or(Reject::NoSuchPayment)?;
    match payment.stage {
        Stage::Released => {}
        Stage::Settled if payment.amount == charged => return Ok(Change::default()),
        Stage::Settled | Stage::Reserved => return Err(Reject::WrongStage(payment.stage)),
    }
    let payment = Payment {
        stage: Stage::Settled,
        amount: charged,
        ..payment.clone()
    };
    let counted = count(book, &payment)?;
    // After this point the entry must succeed.
    Ok(Change {
        counted,
        payment: Some((id, Some(payment))),
        ..Change::default()
    })
}
