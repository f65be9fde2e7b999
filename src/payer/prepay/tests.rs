//! Terms that are remembered, and what is said when they changed.

use super::*;
use crate::money::Amount;
use crate::payment::{Offer, Tool};

fn requirement(amount: u128, pay_to: &str) -> Requirement {
    Requirement {
        protocol: "x402-v2",
        scheme: "exact".into(),
        network: "eip155:84532".parse().unwrap(),
        asset: "0x036CbD53842c5426634e7929541eC2318f3dCF7e".into(),
        amount: Amount(amount),
        pay_to: pay_to.into(),
        valid_for: 60,
        expires: None,
        transfer_method: "eip3009".into(),
        facilitator: None,
        splits: vec![],
        own_fee: false,
        resource: None,
        mime_type: None,
        offer: Arc::new(Offer::default()),
    }
}

fn route(n: u16) -> Route {
    Route {
        session: SessionId("s".into()),
        created: Timestamp(0),
        secure: true,
        host: "api.example.com".into(),
        port: n,
        method: Method::GET,
        target: "/a?b=c".into(),
    }
}

fn quote(confirmed: Timestamp) -> Quote {
    Quote {
        requirement: Arc::new(requirement(1, "0xa")),
        policy: "p".into(),
        confirmed,
    }
}

#[test]
fn terms_are_fresh_for_a_while_and_no_clock_makes_it_longer() {
    let quotes = Quotes::default();
    let now = Timestamp::from_secs(10_000);
    let look = |at: Timestamp| {
        quotes.put(route(1), quote(now));
        quotes.find(&route(1), at).is_some()
    };
    assert!(look(now) && look(now.after_secs(FRESH_SECS - 1)));
    assert!(!look(now.after_secs(FRESH_SECS)) && !look(Timestamp(now.0 - 1)));
    assert!(quotes.is_empty(), "what is no longer fresh is forgotten");
    quotes.put(route(1), quote(now));
    assert!(quotes.find(&route(2), now).is_none());
    quotes.forget(&route(1));
    assert!(quotes.find(&route(1), now).is_none());
}

#[test]
fn what_is_remembered_has_bounds() {
    let quotes = Quotes::default();
    let most = u16::try_from(QUOTES).unwrap();
    for n in 0..most + 100 {
        quotes.put(route(n), quote(Timestamp(u64::from(n) + 1)));
        assert!(quotes.lock().len() <= QUOTES);
    }
    assert!(!quotes.lock().contains_key(&route(99)), "the oldest went");
    assert!(quotes.lock().contains_key(&route(100)));
    // The stale make room for the fresh.
    quotes.put(
        route(most + 101),
        quote(Timestamp::from_secs(FRESH_SECS * 2)),
    );
    assert_eq!(quotes.lock().len(), 1);
    let session = crate::payment::Session {
        id: SessionId("s".into()),
        agent: "a".into(),
        budget: crate::money::Usd(1),
        created: Timestamp(0),
        expires: Timestamp(1),
    };
    let asked = Asked {
        session: Arc::new(session),
        method: Method::GET,
        secure: true,
        host: "api.example.com".into(),
        port: 443,
        path: "/".into(),
        tool: Tool::None,
        request: None,
        trace: None,
    };
    assert!(Route::of(&asked, &"a".repeat(TARGET_MAX)).is_some());
    assert!(Route::of(&asked, &"a".repeat(TARGET_MAX + 1)).is_none());
}

#[test]
fn what_changed_is_named() {
    let advance = Advance {
        at: ("a.test".into(), 443),
        requirement: Arc::new(requirement(10, "0xAA")),
        until: Timestamp(7),
    };
    let say = |offers: &[(u128, &str)]| {
        let requirements = offers.iter().map(|(a, p)| requirement(*a, p)).collect();
        let asks = Challenge {
            requirements,
            problems: vec![],
        };
        let told = Refusal::new(Reason::AlreadyPaid, "paid");
        let said = advance.changed(&asks, told);
        (said.reason, said.resets_at)
    };
    let until = Some(Timestamp(7));
    assert_eq!(say(&[]), (Reason::AlreadyPaid, None));
    assert_eq!(say(&[(10, "0xaa")]), (Reason::AlreadyPaid, None));
    assert_eq!(
        say(&[(11, "0xbb"), (10, "0xAA")]),
        (Reason::AlreadyPaid, None)
    );
    assert_eq!(say(&[(11, "0xaa")]), (Reason::PriceChanged, until));
    assert_eq!(say(&[(9, "0xaa")]), (Reason::PriceChanged, until));
    assert_eq!(say(&[(10, "0xbb")]), (Reason::RecipientChanged, until));
    assert_eq!(say(&[(11, "0xbb")]), (Reason::RecipientChanged, until));
    // By another scheme, which may be another protocol's.
    let otherwise = |pay_to: &str| {
        let asks = Challenge {
            requirements: vec![Requirement {
                scheme: "charge".into(),
                ..requirement(10, pay_to)
            }],
            problems: vec![],
        };
        let told = Refusal::new(Reason::AlreadyPaid, "paid");
        advance.changed(&asks, told).reason
    };
    assert_eq!(otherwise("0xaa"), Reason::AlreadyPaid);
    assert_eq!(otherwise("0xbb"), Reason::RecipientChanged);
}

#[test]
fn where_it_was_in_vain_terms_are_forgotten_for_a_day() {
    let (quotes, now) = (Quotes::default(), Timestamp::from_secs(10_000));
    let site = route(1).site();
    quotes.put(route(1), quote(now));
    quotes.put(route(2), quote(now));
    quotes.in_vain(site.clone(), now);
    assert!(quotes.find(&route(1), now).is_none() && quotes.find(&route(2), now).is_some());
    assert!(
        quotes.is_vain(&site, now.after_secs(VAIN_SECS - 1)) && quotes.is_vain(&site, Timestamp(0))
    );
    assert!(!quotes.is_vain(&site, now.after_secs(VAIN_SECS)));
    assert!(!quotes.is_vain(&route(2).site(), now));
    for n in 0..VAIN {
        quotes.in_vain((format!("{n}.test").into(), 1), now.after_secs(1));
    }
    assert!(!quotes.is_vain(&site, now) && quotes.vain().len() == VAIN);
}
