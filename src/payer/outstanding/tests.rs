//! How much is remembered, and for whom.

use super::*;

fn request(n: u64) -> RequestKey {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&n.to_be_bytes());
    RequestKey(key)
}

fn left(n: u64, until: Timestamp) -> Left {
    Left {
        session: SessionId(format!("s{}", n % 8).into()),
        id: PaymentId(n.into()),
        until,
        claimed: false,
        rule: Some("data".into()),
        price: Some(Usd(1)),
    }
}

#[test]
fn what_is_remembered_has_bounds() {
    let all = Outstanding::default();
    let now = Timestamp::from_secs(1000);
    let (soon, later) = (now.after_secs(60), now.after_secs(600));
    let most = u64::try_from(REMEMBERED).unwrap();
    for n in 0..most * 2 {
        let until = if n % 2 == 0 { soon } else { later };
        all.recall(request(n), left(n, until), now);
    }
    assert_eq!(all.lock().count, REMEMBERED);
    assert!(
        all.find(request(1), now).is_err(),
        "what lives is not forgotten for another"
    );
    // What was known before keeps its place, also where there is no room.
    all.recall(request(1), left(1, later.after_secs(1)), now);
    let told = all.find(request(1), now).err().unwrap();
    assert_eq!(told.resets_at, Some(later.after_secs(1)));
    assert_eq!(told.rule.as_deref(), Some("data"));
    assert_eq!(
        (told.price, told.payment),
        (Some(Usd(1)), Some(PaymentId(1)))
    );
    assert_eq!(all.lock().count, REMEMBERED);
    all.recall(request(most * 3), left(8, later), soon);
    assert_eq!(all.lock().count, REMEMBERED / 2 + 1, "the dead make room");
    assert!(all.find(request(most * 3), soon).is_err());

    let all = Outstanding::default();
    let session = |n: u64| left(n, now).session;
    let share = u64::try_from(SHARE).unwrap();
    for n in 0..share {
        assert!(all.room(&session(0), now).is_ok(), "{n}");
        all.recall(request(n), left(n * 8, later), now);
    }
    let full = all.room(&session(0), now).err().unwrap();
    assert_eq!(full.reason, Reason::OutcomeUnknown);
    assert!(full.retryable && all.room(&session(1), now).is_ok());
    assert!(all.room(&session(0), later).is_ok(), "they are over");
    for n in share..most {
        all.recall(request(n), left(n, later), now);
    }
    let other = SessionId("another".into());
    assert!(all.room(&other, now).is_err(), "nobody's is forgotten");

    // One request that is paid again and again takes as much room as many.
    let all = Outstanding::default();
    for n in 0..most {
        all.recall(request(0), left(n * 8, later), now);
    }
    assert!(all.room(&session(0), now).is_err());
    all.forget(request(0), PaymentId(8));
    assert_eq!(all.lock().count, REMEMBERED - 1);
    assert!(all.find(request(0), later).is_ok_and(|none| none.is_none()));
    assert_eq!(all.lock().count, 0);

    let waiting = Arc::new(Waiting::default());
    for n in 0..most * 2 {
        all.begin(request(n), &Arc::new(Waiting::default()));
    }
    all.begin(request(0), &waiting);
    let flying = all.flying.lock().unwrap().len();
    assert!(flying <= FLYING + 1, "{flying}");
}
