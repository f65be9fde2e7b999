//! Whatever the order of entries and whichever way the clock steps: no window and no session passes
//! its limit, counts equal what is not released, closed stays closed.
#![cfg(test)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use farepass::budget::{
    Asked, Asking, Because, Book, Counted, Entry, Fact, Frozen, Payment, Reject, Stage, apply,
    judge,
};
use farepass::clock::{Timestamp, Window};
use farepass::money::{Amount, Asset, Usd};
use farepass::payment::{ApprovalId, Limit, PaymentId, Session, SessionId};
use farepass::settings::Percent;

const WIDTH: u64 = 3;
const MAX: u64 = 100;
const COUNT: u32 = 4;
const SESSION_MAX: u64 = 150;

fn limit(account: &str, last: u64) -> Limit {
    Limit {
        account: account.into(),
        first: last.saturating_sub(WIDTH - 1),
        last,
        amount: Usd(MAX),
        payments: (account == "c").then_some(COUNT),
        resets_at: None,
        rolls: None,
    }
}

fn session(id: u64, created: u64, life: u64) -> Session {
    Session {
        id: SessionId(format!("s{id}").into()),
        agent: "bot".into(),
        budget: Usd(SESSION_MAX),
        created: Timestamp(created),
        expires: Timestamp(created.saturating_add(life)),
    }
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let id = || (0u128..10).prop_map(PaymentId);
    let accounts = || proptest::sample::subsequence(vec!["a", "b", "c"], 0..=3);
    let reserve = (
        id(),
        0u64..2,
        0u64..60,
        0u64..9,
        accounts(),
        0u64..12,
        0u64..12,
    );
    let one = prop_oneof![
        6 => reserve.prop_map(|(id, who, n, last, accounts, now, nonce)| Entry::Reserve {
            id,
            session: SessionId(format!("s{who}").into()),
            amount: Usd(n),
            limits: accounts.into_iter().map(|a| limit(a, last)).collect(),
            until: Timestamp(50),
            now: Timestamp(now),
            nonce: format!("n{nonce}"),
            host: format!("h{}", id.0 % 2),
        }),
        2 => (id(), 0u64..60).prop_map(|(id, n)| Entry::Settle { id, charged: Usd(n) }),
        1 => id().prop_map(|id| Entry::Release { id, because: Because::NeverSigned }),
        1 => (id(), 0u64..100).prop_map(|(id, now)| Entry::Release {
            id,
            because: Because::Expired { now: Timestamp(now) },
        }),
        1 => (id(), 0u64..60).prop_map(|(id, n)| Entry::Recount { id, charged: Usd(n) }),
        1 => id().prop_map(|id| Entry::Note { id }),
        2 => (0u64..2, 0u64..12, 1u64..20).prop_map(|(id, created, life)| Entry::OpenSession {
            session: session(id, created, life),
            secret_sha256: None,
        }),
        1 => (0u64..2).prop_map(|id| Entry::CloseSession {
            session: SessionId(format!("s{id}").into()),
        }),
        4 => memories(),
    ];
    // Without sessions nothing can be paid, so every run begins with two.
    proptest::collection::vec(one, 0..60).prop_map(|rest| {
        let opened = (0..2).map(|i| Entry::OpenSession {
            session: session(i, 0, 8),
            secret_sha256: None,
        });
        opened.chain(rest).collect()
    })
}

/// Entries about facts: two hosts, two recipients, a few prices, two approvals, all freezes.
fn memories() -> impl Strategy<Value = Entry> {
    let host = || (0u8..2).prop_map(|h| format!("h{h}"));
    let now = || (0u64..12).prop_map(Timestamp);
    let what = || {
        prop_oneof![
            Just(Frozen::All),
            host().prop_map(Frozen::Host),
            Just(Frozen::Agent("bot".into())),
        ]
    };
    prop_oneof![
        3 => (host(), 0u8..2, now(), any::<bool>()).prop_map(|(host, who, now, approved)| Entry::Payee {
            host,
            network: "eip155:1".into(),
            pay_to: format!("0x{who}"),
            now,
            approved: approved && who == 1,
            payment: behind(now.0 + u64::from(who)),
        }),
        3 => (host(), 0u64..300, proptest::option::of(0u16..100), now(), 0u8..8).prop_map(
            |(host, price, increase, now, approved)| Entry::Price {
                host,
                method: "GET".into(),
                path: "/".into(),
                price: Usd(price),
                increase: increase.map(Percent),
                now,
                approved: approved == 0,
                payment: behind(price),
            }
        ),
        2 => (0u128..10, now()).prop_map(|(id, now)| Entry::Met {
            payment: PaymentId(id),
            host: format!("h{}", id % 2),
            now,
        }),
        2 => (0u128..10, host(), proptest::option::of((0u128..2, now()))).prop_map(|(id, host, yes)| Entry::Unmet {
            payment: PaymentId(id),
            host,
            network: "eip155:1".into(),
            method: "GET".into(),
            path: "/".into(),
            approval: yes.map(|(id, at)| (ApprovalId(id), at)),
        }),
        1 => host().prop_map(|host| Entry::Forget { host }),
        1 => (what(), now()).prop_map(|(what, now)| Entry::Freeze { what, now, why: String::new() }),
        3 => what().prop_map(|what| Entry::Unfreeze { what }),
        1 => now().prop_map(|before| Entry::DropApprovals { before }),
        2 => (0u128..2, 0u8..2, 0u64..12, 1u64..9).prop_map(|(id, digest, at, life)| Entry::Ask {
            asking: Box::new(asking(id, digest, at, life)),
        }),
        2 => (0u128..2, any::<bool>(), now()).prop_map(|(id, approve, now)| Entry::Answer {
            id: ApprovalId(id),
            approve,
            now,
        }),
        2 => (0u128..2, 0u8..2, 0u128..10, now()).prop_map(|(id, digest, payment, now)| Entry::UseApproval {
            id: ApprovalId(id),
            digest: digest.to_string(),
            payment: PaymentId(payment),
            now,
        }),
    ]
}

/// Which payment makes something known; of every fourth entry nobody says it.
fn behind(n: u64) -> Option<PaymentId> {
    (!n.is_multiple_of(4)).then_some(PaymentId(u128::from(n % 10)))
}

/// Does a payment that is released leave this fact as it is?
fn is_for_good(fact: &Fact) -> bool {
    match fact {
        Fact::Merchant { behind, .. } | Fact::Payee { behind, .. } => behind.is_empty(),
        Fact::Price { behind, base, .. } => behind.is_empty() || base.is_some(),
        Fact::Frozen { .. } | Fact::Approval(_) => true,
    }
}

fn asking(id: u128, digest: u8, at: u64, life: u64) -> Asking {
    Asking {
        id: ApprovalId(id),
        digest: digest.to_string(),
        because: vec!["above".into()],
        session: SessionId("s0".into()),
        agent: "bot".into(),
        method: "GET".into(),
        host: "h0".into(),
        path: "/".into(),
        rule: "r".into(),
        network: "eip155:1".into(),
        asset: "USDC".into(),
        amount: Amount(1),
        pay_to: "0x1".into(),
        price: Usd(1),
        asked: Timestamp(at),
        expires: Timestamp(at + life),
        stage: Asked::Waiting,
    }
}

/// What one entry may do to what is remembered.
fn facts_obey(before: &Book, book: &Book, entry: &Entry) {
    for (key, old) in &before.facts {
        match (old, book.facts.get(key)) {
            (Fact::Approval(old), None) => {
                let Entry::DropApprovals { before } = entry else {
                    panic!("{key} was forgotten by {entry:?}");
                };
                assert!(old.expires < *before, "an approval that was not over");
            }
            (old, None) => assert!(
                matches!(entry, Entry::Forget { .. } | Entry::Unfreeze { .. })
                    || matches!(entry, Entry::Unmet { .. }) && !is_for_good(old),
                "{key} was forgotten by {entry:?}"
            ),
            (Fact::Price { lowest, .. }, Some(Fact::Price { lowest: new, .. })) => {
                let approved = matches!(entry, Entry::Price { approved: true, .. });
                let given_back = matches!(entry, Entry::Unmet { .. });
                assert!(
                    new <= lowest || approved || given_back,
                    "{key} crept from {lowest} to {new}"
                );
            }
            (Fact::Payee { pay_to, .. }, Some(Fact::Payee { pay_to: new, .. })) => {
                let approved = matches!(entry, Entry::Payee { approved: true, .. });
                assert!(
                    new == pay_to || approved,
                    "{key} changed from {pay_to} to {new}"
                );
            }
            (Fact::Approval(old), Some(Fact::Approval(new))) => {
                if matches!(new.stage, Asked::Used { .. }) && old.stage != new.stage {
                    assert!(
                        matches!(old.stage, Asked::Approved { .. }),
                        "used without a yes"
                    );
                    assert_eq!(old.digest, new.digest);
                }
                if matches!(new.stage, Asked::Approved { .. }) && old.stage != new.stage {
                    let given_back = match entry {
                        Entry::Unmet { payment, .. } => Some(Asked::Used { payment: *payment }),
                        _ => None,
                    };
                    let from = given_back.unwrap_or(Asked::Waiting);
                    assert_eq!(old.stage, from, "a yes to what was over");
                }
            }
            (_, Some(_)) => {}
        }
    }
    if let Entry::Reserve { id, .. } = entry
        && !before.payments.contains_key(id)
        && book.payments.contains_key(id)
    {
        let freezes = before.facts.keys().filter(|k| k.starts_with("freeze "));
        for key in freezes {
            let host = format!("freeze host h{}", id.0 % 2);
            let others = key.starts_with("freeze host") && *key != host;
            assert!(others, "reserved under `{key}`");
        }
    }
}

/// Every sum says what the payments say.
fn sums_agree(book: &Book) {
    for (mark, counted) in &book.counted {
        let counts = |p: &&Payment| p.stage != Stage::Released && p.marks.contains(mark);
        let amounts = book.payments.values().filter(counts).map(|p| p.amount.0);
        let sum = Counted {
            amount: Usd(amounts.sum()),
            payments: book.payments.values().filter(counts).count() as u32,
        };
        assert_eq!(*counted, sum, "{mark:?}");
    }
    for payment in book.payments.values() {
        for mark in &payment.marks {
            assert!(book.counted.contains_key(mark), "{mark:?} is nowhere");
        }
    }
}

/// No window of any account and no generation of any session is above its limit.
fn limits_hold(book: &Book) {
    for account in ["a", "b", "c"] {
        for first in 0..9u64 {
            let row = (account.to_string(), first)..(account.to_string(), first + WIDTH);
            let sum = |(a, n), (_, c): (_, &Counted)| (a + c.amount.0, n + c.payments);
            let (amount, payments) = book.counted.range(row).fold((0, 0), sum);
            assert!(amount <= MAX, "window {first} of {account} holds {amount}");
            assert!(
                account != "c" || payments <= COUNT,
                "window {first} of {account} holds {payments}"
            );
        }
    }
    for ((account, _), counted) in &book.counted {
        assert!(!account.starts_with("session:") || counted.amount.0 <= SESSION_MAX);
    }
}

fn payment_of<'a>(book: &'a Book, entry: &Entry) -> Option<&'a Payment> {
    entry.payment().and_then(|id| book.payments.get(&id))
}

/// What one entry may do to its own payment.
fn payment_obeys(before: &Book, book: &Book, entry: &Entry) {
    let (Some(old), Some(new)) = (payment_of(before, entry), payment_of(book, entry)) else {
        return;
    };
    let recount = matches!(entry, Entry::Recount { .. });
    match old.stage {
        Stage::Reserved if recount => assert_eq!(old, new, "what counts is not counted again"),
        Stage::Reserved => {}
        Stage::Released if recount => {}
        Stage::Settled | Stage::Released => assert_eq!(old, new, "closed stays closed"),
    }
    assert!(
        recount || new.amount <= old.amount,
        "never charged more than reserved"
    );
    assert_eq!(
        (&old.marks, old.until, &old.nonce),
        (&new.marks, new.until, &new.nonce)
    );
    if let Entry::Release {
        because: Because::Expired { now },
        ..
    } = entry
        && *now < old.until
    {
        assert_eq!(old, new, "not while it can be charged");
    }
}

/// A payment that counts again adds itself where it counted before, once, and changes nothing else.
fn recount_obeys(before: &Book, book: &Book, entry: &Entry) {
    let Entry::Recount { id, charged } = entry else {
        return;
    };
    let (old, new) = (&before.payments[id], &book.payments[id]);
    assert_eq!(
        (new.stage, new.amount),
        (Stage::Settled, *charged),
        "what the chain shows is what counts"
    );
    let added = u64::from(old.stage == Stage::Released);
    for (mark, after) in &book.counted {
        let then = before.counted[mark];
        let here = added * u64::from(new.marks.contains(mark));
        assert_eq!(after.amount.0, then.amount.0 + here * charged.0, "{mark:?}");
        assert_eq!(u64::from(after.payments), u64::from(then.payments) + here);
    }
    assert_eq!(before.counted.len(), book.counted.len());
}

/// What a reservation promised when it was accepted.
fn reservation_obeys(before: &Book, book: &Book, entry: &Entry) {
    let Entry::Reserve {
        id,
        session,
        amount,
        limits,
        now,
        nonce,
        ..
    } = entry
    else {
        return;
    };
    if before.payments.contains_key(id) {
        return;
    }
    let kept = &book.payments[id];
    assert_eq!(*amount, kept.amount, "what was promised is what is kept");
    let opened = &before.sessions[session];
    assert!(!opened.closed && *now < opened.session.expires);
    let cap = Limit::session(&opened.session);
    assert!(
        kept.marks.contains(&(cap.account, 0)),
        "it counts in the session, asked or not"
    );
    assert!(!before.nonces.contains_key(nonce), "one nonce, one payment");
    for limit in limits {
        let after = book.total(&limit.account, limit.first).unwrap();
        assert!(after.amount <= limit.amount, "{limit:?} holds {after:?}");
        assert!(limit.payments.is_none_or(|most| after.payments <= most));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_book_keeps_its_promises(entries in entries()) {
        let mut book = Book::default();
        let mut recounted = false;
        for entry in &entries {
            let before = book.clone();
            let result = apply(&mut book, entry);
            if result.is_err() {
                prop_assert_eq!(&book, &before, "a rejected entry changes nothing");
            } else {
                let once = book.clone();
                prop_assert_eq!(apply(&mut book, entry), Ok(()), "the same again is accepted");
                prop_assert_eq!(&book, &once, "and changes nothing");
                reservation_obeys(&before, &book, entry);
                recount_obeys(&before, &book, entry);
                recounted |= matches!(entry, Entry::Recount { .. });
            }
            sums_agree(&book);
            // What was taken after its release may pass a limit; what is reserved after it may not.
            if !recounted {
                limits_hold(&book);
            }
            payment_obeys(&before, &book, entry);
            facts_obey(&before, &book, entry);
        }
    }

    #[test]
    fn a_change_can_be_taken_back(entries in entries()) {
        let mut book = Book::default();
        for entry in &entries {
            let before = book.clone();
            if let Ok(change) = judge(&book, entry) {
                prop_assert_eq!(&book, &before, "judging changes nothing");
                let undo = book.put(change);
                let after = book.clone();
                let redo = book.put(undo);
                prop_assert_eq!(&book, &before);
                book.put(redo);
                prop_assert_eq!(&book, &after);
            }
        }
    }

    #[test]
    fn generations_of_a_session_only_grow(entries in entries()) {
        let mut book = Book::default();
        let mut newest: BTreeMap<SessionId, Timestamp> = BTreeMap::new();
        for entry in &entries {
            let _ = apply(&mut book, entry);
            for (id, opened) in &book.sessions {
                let last = newest.entry(id.clone()).or_default();
                prop_assert!(*last <= opened.session.created);
                *last = opened.session.created;
            }
        }
    }

    #[test]
    fn no_calendar_or_rolling_window_is_passed(
        kind in 0usize..4,
        steps in proptest::collection::vec((0u64..40_000_000, 1u64..60), 1..60),
    ) {
        // `steps` are moments within 463 days, in no order: the clock steps both ways.
        let windows = [Window::Rolling { seconds: 86_400 }, Window::Day, Window::Month, Window::Always];
        let window = windows[kind];
        let mut book = Book::default();
        let open = Entry::OpenSession {
            session: Session { budget: Usd(u64::MAX), ..session(0, 0, u64::MAX) },
            secret_sha256: None,
        };
        prop_assert_eq!(apply(&mut book, &open), Ok(()));
        let mut paid: Vec<(Timestamp, u64)> = Vec::new();
        for (i, (second, amount)) in steps.into_iter().enumerate() {
            let now = Timestamp::from_secs(1_700_000_000 + second);
            let (first, last) = window.buckets(now);
            let limit = Limit { account: "w".into(), first, last, amount: Usd(MAX), payments: None, resets_at: None, rolls: None };
            let reserve = Entry::Reserve {
                id: PaymentId(i as u128),
                session: SessionId("s0".into()),
                amount: Usd(amount),
                limits: vec![limit],
                until: Timestamp(0),
                now,
                nonce: i.to_string(),
                host: String::new(),
            };
            if apply(&mut book, &reserve).is_ok() {
                paid.push((now, amount));
            }
        }
        for (at, _) in &paid {
            let same = |other: Timestamp| match window {
                Window::Rolling { seconds } => other <= *at && at.secs() - other.secs() < seconds,
                Window::Day | Window::Month | Window::Always => window.buckets(other).0 == window.buckets(*at).0,
            };
            let sum: u64 = paid.iter().filter(|(t, _)| same(*t)).map(|(_, n)| n).sum();
            prop_assert!(sum <= MAX, "{window:?} around {at} holds {sum}");
        }
    }

    #[test]
    fn a_rolling_window_never_looks_back_too_little(
        seconds in 60u64..1_000_000, now in 1_000_000u64..2_000_000, ago in 0u64..1_000_000,
    ) {
        let window = Window::Rolling { seconds };
        let (first, last) = window.buckets(Timestamp::from_secs(now));
        if ago < seconds {
            let (_, then) = window.buckets(Timestamp::from_secs(now - ago));
            prop_assert!((first..=last).contains(&then));
        }
        let reads = (last - first) / (seconds / 60).max(1);
        prop_assert!(reads <= 121, "bounded reads: {reads}");
    }

    #[test]
    fn a_calendar_window_ends_when_it_says(second in 0u64..4_000_000_000) {
        let now = Timestamp::from_secs(second);
        for window in [Window::Day, Window::Month] {
            let end = window.resets_at(now).unwrap();
            let (first, _) = window.buckets(now);
            let (still, last) = window.buckets(Timestamp(end.0 - 1));
            prop_assert_eq!(still, first, "still in it");
            prop_assert_eq!(window.buckets(end).0, last + 1, "the next begins");
        }
    }

    #[test]
    fn a_price_never_rounds_down(
        amount in 0u128..1u128 << 90, decimals in 0u8..19, unit in 0u64..10_000_000_000,
    ) {
        let asset = Asset {
            network: "eip155:1".parse().unwrap(),
            address: "t".into(),
            symbol: "T".into(),
            decimals,
            unit: Usd(unit),
            eip712: None,
            eip3009: false,
            token_program: None,
            fee: farepass::money::Fee::default(),
        };
        if let Some(p) = asset.price(Amount(amount)) {
            prop_assert!(u128::from(p.0) * 10u128.pow(decimals.into()) >= amount * u128::from(unit));
        }
    }

    #[test]
    fn money_reads_back(nanos: u64) {
        prop_assert_eq!(Usd(nanos).to_string().parse::<Usd>().unwrap(), Usd(nanos));
    }

    #[test]
    fn an_amount_reads_back(text in "[0-9]{0,40}") {
        if let Ok(amount) = text.parse::<Amount>() {
            prop_assert_eq!(amount.to_string(), text);
        }
    }
}

#[test]
fn money_is_strict() {
    let bad = [
        "0.05",
        "0.05USD",
        "$1",
        "-1 USD",
        "1. USD",
        ".5 USD",
        "0.0000000001 USD",
        "1e3 USD",
        "٣ USD",
        "18446744074 USD",
        "+1 USD",
        " 1 USD",
        "1 USD ",
        "1 usd",
        "",
    ];
    for text in bad {
        assert!(text.parse::<Usd>().is_err(), "{text}");
    }
    for (text, nanos) in [
        ("0.05 USD", 50_000_000),
        ("12 USD", 12_000_000_000),
        ("0.000000001 USD", 1),
    ] {
        assert_eq!(text.parse(), Ok(Usd(nanos)));
    }
    assert_eq!(Usd(50_000_000).to_string(), "0.05 USD");
    assert_eq!(Usd(1_000_000_000).to_string(), "1.00 USD");
}

fn open(session: Session, secret: Option<&str>) -> Entry {
    Entry::OpenSession {
        session,
        secret_sha256: secret.map(Into::into),
    }
}

/// Opens, pays 100 of 150, perhaps renews, and tells the answer to another 100 at time 10.
fn second_payment(session: &Session, renewed: Option<Session>) -> Result<(), Reject> {
    let mut book = Book::default();
    let reserve = |id: u128, now: u64| Entry::Reserve {
        id: PaymentId(id),
        session: session.id.clone(),
        amount: Usd(100),
        limits: vec![],
        until: Timestamp(0),
        now: Timestamp(now),
        nonce: id.to_string(),
        host: String::new(),
    };
    apply(&mut book, &open(session.clone(), None)).unwrap();
    apply(&mut book, &reserve(1, 0)).unwrap();
    if let Some(renewed) = renewed {
        apply(&mut book, &open(renewed, None))?;
    }
    apply(&mut book, &reserve(2, 10))
}

#[test]
fn a_renewed_session_starts_at_nothing_and_only_after_its_end() {
    let first = session(0, 0, 10);
    let expired = Reject::SessionExpired { at: Timestamp(10) };
    assert_eq!(second_payment(&first, None), Err(expired));
    let early = second_payment(&first, Some(session(0, 9, 10)));
    assert_eq!(early, Err(Reject::SessionOpen));
    assert_eq!(second_payment(&first, Some(session(0, 10, 10))), Ok(()));
    let long = session(0, 0, 100);
    let same = second_payment(&long, Some(long.clone()));
    assert!(matches!(same, Err(Reject::OverLimit { limit, counted })
        if limit.is_session() && counted.amount == Usd(100)));
}

#[test]
fn a_closed_session_is_not_reopened_by_its_own_entry() {
    let mut book = Book::default();
    let id = session(0, 5, 10).id;
    let close = Entry::CloseSession {
        session: id.clone(),
    };
    let first = open(session(0, 5, 10), Some("aa"));
    assert_eq!(apply(&mut book, &close), Err(Reject::NoSuchSession));
    apply(&mut book, &first).unwrap();
    apply(&mut book, &close).unwrap();
    assert_eq!(apply(&mut book, &first), Err(Reject::SessionClosed));
    let renewed = open(session(0, 6, 10), Some("bb"));
    assert_eq!(apply(&mut book, &renewed), Ok(()));
    assert_eq!(book.sessions[&id].secret_sha256.as_deref(), Some("bb"));
}

#[test]
fn an_open_session_keeps_its_secret_and_budget() {
    let mut book = Book::default();
    apply(&mut book, &open(session(0, 5, 10), Some("aa"))).unwrap();
    let richer = Session {
        budget: Usd(1_000_000),
        ..session(0, 5, 10)
    };
    for other in [
        open(session(0, 5, 10), Some("bb")),
        open(session(0, 5, 10), None),
        open(richer, Some("aa")),
    ] {
        assert_eq!(apply(&mut book, &other), Err(Reject::SessionOpen));
    }
}

#[test]
fn two_limits_on_one_account_count_a_payment_once() {
    let mut book = Book::default();
    apply(&mut book, &open(session(0, 0, 10), None)).unwrap();
    let reserve = Entry::Reserve {
        id: PaymentId(1),
        session: session(0, 0, 10).id,
        amount: Usd(60),
        limits: vec![limit("a", 5), limit("a", 5)],
        until: Timestamp(0),
        now: Timestamp(0),
        nonce: "n".into(),
        host: String::new(),
    };
    assert_eq!(apply(&mut book, &reserve), Ok(()));
    assert_eq!(book.total("a", 0).unwrap().amount, Usd(60));
    let marks = &book.payments[&PaymentId(1)].marks;
    assert_eq!(marks.len(), 2, "the session and the account: {marks:?}");
}

#[test]
fn a_released_payment_that_was_taken_counts_again_and_fills_its_limits() {
    let mut book = Book::default();
    apply(&mut book, &open(session(0, 0, 10), None)).unwrap();
    let reserve = |id: u128| Entry::Reserve {
        id: PaymentId(id),
        host: "api.test".into(),
        session: session(0, 0, 10).id,
        amount: Usd(60),
        limits: vec![limit("a", 5)],
        until: Timestamp(0),
        now: Timestamp(0),
        nonce: id.to_string(),
    };
    let id = PaymentId(1);
    let recount = |charged| Entry::Recount { id, charged };
    assert_eq!(
        apply(&mut book, &recount(Usd(60))),
        Err(Reject::NoSuchPayment)
    );
    apply(&mut book, &reserve(1)).unwrap();
    let wrong = Reject::WrongStage(Stage::Reserved);
    assert_eq!(apply(&mut book, &recount(Usd(60))), Err(wrong));
    let because = Because::NeverSigned;
    apply(&mut book, &Entry::Release { id, because }).unwrap();
    apply(&mut book, &reserve(2)).unwrap();
    // Both were taken, so the window holds more than it should: the books say what is so.
    apply(&mut book, &recount(Usd(60))).unwrap();
    apply(&mut book, &recount(Usd(60))).unwrap();
    let total = book.total("a", 0).unwrap();
    assert_eq!((total.amount, total.payments), (Usd(120), 2));
    assert!(matches!(
        apply(&mut book, &reserve(3)),
        Err(Reject::OverLimit { .. })
    ));
    let released = apply(&mut book, &Entry::Release { id, because });
    assert_eq!(released, Err(Reject::WrongStage(Stage::Settled)));
}

/// An approval is for its question, until its end, and for one payment.
#[test]
fn approvals_buy_what_was_asked_once_and_in_time() {
    let answer = |approve, now| Entry::Answer {
        id: ApprovalId(1),
        approve,
        now: Timestamp(now),
    };
    let using = |digest: u8, payment, now| Entry::UseApproval {
        id: ApprovalId(1),
        digest: digest.to_string(),
        payment: PaymentId(payment),
        now: Timestamp(now),
    };
    let over = Err(Reject::ApprovalOver);
    let not = Err(Reject::NotApproved);
    // Asked at 10, over at 15.
    let cases: [(&[Entry], _, _); 12] = [
        (&[answer(true, 14)], using(7, 1, 14), Ok(())),
        (&[answer(true, 14)], using(7, 1, 15), not.clone()),
        (&[answer(true, 14)], using(8, 1, 14), not.clone()),
        (&[], using(7, 1, 14), not.clone()),
        (&[answer(false, 14)], using(7, 1, 14), not.clone()),
        (
            &[answer(true, 11), answer(false, 12)],
            using(7, 1, 14),
            not.clone(),
        ),
        (&[answer(true, 11), using(7, 1, 12)], using(7, 2, 13), not),
        (
            &[answer(true, 11), using(7, 1, 12)],
            using(7, 1, 99),
            Ok(()),
        ),
        (&[], answer(true, 15), over.clone()),
        (&[], answer(false, 15), over.clone()),
        (&[answer(false, 11)], answer(true, 12), over.clone()),
        (
            &[answer(true, 11), using(7, 1, 12)],
            answer(false, 13),
            over,
        ),
    ];
    for (before, last, end) in cases {
        let mut book = Book::default();
        let ask = Entry::Ask {
            asking: Box::new(asking(1, 7, 10, 5)),
        };
        for entry in [&ask].into_iter().chain(before) {
            apply(&mut book, entry).unwrap();
        }
        assert_eq!(apply(&mut book, &last), end, "{before:?}, {last:?}");
    }
}
