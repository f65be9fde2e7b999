//! Signing in where the wallet has paid before, against the official server and a scripted one.

use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::interop::assert_agreement;
use crate::support::agent::Ask;
use crate::support::http::Answer;
use crate::support::merchant::Merchant;
use crate::support::proxy::{Proxy, Setup};
use crate::support::shop;
use crate::support::stand::stand;
use crate::support::until;

const PATIENCE: Duration = Duration::from_secs(20);
const SHOP: &str = "https://merchant.stand.test";

fn signing_in(mut setup: Setup) -> Setup {
    setup.config["rules"][0]["pay"]["sign_in"] = json!(true);
    setup
}

fn get(proxy: &Proxy, path: &str) -> Answer {
    let url = format!("https://{}{path}", shop::HOST);
    proxy.agent(PATIENCE).send(&Ask::get(&url)).unwrap()
}

fn told(proxy: &Proxy, many: usize) -> Vec<Value> {
    until("the events of logins", PATIENCE, || {
        let all = proxy.events().into_iter();
        let logins: Vec<_> = all.filter(|e| e["event"] == "signed_in").collect();
        (logins.len() >= many).then_some(logins)
    })
}

#[test]
fn what_was_paid_once_is_free_for_who_signs_in() {
    let Some(stand) = stand() else { return };
    let proxy = signing_in(stand.setup()).start();
    let id = format!("siwx-{}", &proxy.payer()[2..10]);
    let url = format!("{SHOP}/v2/siwx?id={id}");
    for round in 0..3 {
        let answer = proxy.get(&url);
        assert_eq!(
            answer.status,
            200,
            "{} {}",
            answer.text(),
            stand.last_settlement()
        );
        let hits = stand.arrived(&id);
        let logins = hits.iter().filter(|h| h["siwx"] == true).count();
        assert_eq!((hits.len(), logins), (2 * (round + 1), round), "{hits:?}");
        let payment = answer.one("farepass-payment").unwrap();
        assert_eq!(payment.contains("signed_in"), round > 0, "{payment}");
    }
    assert_eq!(assert_agreement(stand, &proxy), 10_000);
    assert_eq!(proxy.ledger().rows.len(), 1);
    let events = told(&proxy, 2);
    assert_eq!(events.len(), 2);
    for event in &events {
        assert_eq!(
            (&event["accepted"], &event["path"]),
            (&json!(true), &json!("/v2/siwx"))
        );
        assert_eq!(event["payment"], proxy.ledger().rows[0]["id"]);
    }

    // Another session has not paid, and does not say that it has.
    let out = proxy.setup.run(&["session", "create", "--agent", "other"]);
    let other = String::from_utf8(out.stdout).unwrap();
    let mut curl = proxy.curl(&url);
    let out = curl.args(["--proxy", other.trim()]).output().unwrap();
    assert!(out.status.success());
    let logins = stand.arrived(&id);
    let logins = logins.iter().filter(|h| h["siwx"] == true).count();
    assert_eq!((logins, proxy.ledger().rows.len()), (2, 2));
}

#[test]
fn nobody_signs_in_for_a_session_that_was_closed() {
    let Some(stand) = stand() else { return };
    let proxy = signing_in(stand.setup()).start();
    let id = format!("siwx-{}", &proxy.payer()[2..10]);
    let url = format!("{SHOP}/v2/siwx?id={id}");
    assert_eq!(proxy.get(&url).status, 200);
    let closed = proxy.setup.run(&["session", "close", "default"]);
    assert!(closed.status.success(), "{closed:?}");
    let answer = proxy.get(&url);
    assert_eq!(
        answer.json()["reason"],
        "session_closed",
        "{}",
        answer.text()
    );
    assert!(stand.arrived(&id).iter().all(|h| h["siwx"] != true));
}

#[test]
fn without_the_key_nothing_is_signed_but_payments() {
    let Some(stand) = stand() else { return };
    let proxy = stand.setup().start();
    let id = format!("siwx-{}", &proxy.payer()[2..10]);
    for _ in 0..2 {
        assert_eq!(proxy.get(&format!("{SHOP}/v2/siwx?id={id}")).status, 200);
    }
    assert!(stand.arrived(&id).iter().all(|h| h["siwx"] != true));
    assert_eq!(assert_agreement(stand, &proxy), 20_000);
}

/// A shop that asks for a login with this `info` on top of an honest one, and takes none or all.
fn shop_with(changes: Value, takes: bool) -> (Merchant, Setup) {
    let merchant = Merchant::start(move |seen, out| {
        let login = seen
            .head
            .fields
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case("sign-in-with-x"));
        if seen.payment().is_some() || takes && login.is_some() {
            return shop::sell("premium", out);
        }
        let at = |seconds: u64| time(seen.unix + seconds);
        let url = format!("https://{}/x", shop::HOST);
        let mut info = json!({
            "domain": shop::HOST, "uri": url, "version": "1", "nonce": "0123456789abcdef",
            "issuedAt": at(0), "expirationTime": at(300), "statement": "Come in", "resources": [url],
        });
        for (key, value) in changes.as_object().unwrap() {
            info[key] = value.clone();
        }
        let mut challenge = shop::challenge();
        challenge.as_object_mut().unwrap().remove("resource");
        challenge["extensions"] = json!({ "sign-in-with-x": {
            "info": info, "supportedChains": [{ "chainId": "eip155:84532", "type": "eip191" }],
        }});
        shop::ask(&challenge, out)
    });
    let setup = signing_in(shop::setup(&merchant));
    (merchant, setup)
}

/// RFC 3339, of this day at the latest in the century.
fn time(unix: u64) -> String {
    let days = unix / 86_400;
    let (mut year, mut day) = (1970, days);
    let leap = |y: u64| y.is_multiple_of(4);
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 0;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let (hour, minute, second) = (unix / 3600 % 24, unix / 60 % 60, unix % 60);
    format!(
        "{year}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z",
        month + 1,
        day + 1
    )
}

fn logins(merchant: &Merchant) -> Vec<Value> {
    let seen = merchant.seen();
    let fields = seen.iter().flat_map(|s| s.head.fields.clone());
    let logins = fields.filter(|(name, _)| name.eq_ignore_ascii_case("sign-in-with-x"));
    let decoded = |(_, value): (String, String)| {
        let json = base64::engine::general_purpose::STANDARD
            .decode(value)
            .unwrap();
        serde_json::from_slice(&json).unwrap()
    };
    logins.map(decoded).collect()
}

#[test]
fn a_login_for_elsewhere_is_not_signed_and_the_request_is_paid() {
    for (changes, signed) in [
        (json!({}), 1),
        (json!({ "uri": "https://bank.example/" }), 0),
        (json!({ "domain": "stand.test" }), 0),
        (json!({ "expirationTime": null }), 0),
        (json!({ "statement": "a\nURI: https://bank.example" }), 0),
    ] {
        let (merchant, setup) = shop_with(changes.clone(), true);
        let proxy = setup.start();
        assert_eq!(get(&proxy, "/x").text(), "premium");
        assert_eq!(get(&proxy, "/x").text(), "premium");
        assert_eq!(logins(&merchant).len(), signed, "{changes}");
        let paid = shop::payments(&merchant).len();
        assert_eq!(paid, 2 - signed, "{changes}");
        // What is known of one place says nothing of another.
        assert_eq!(get(&proxy, "/y").text(), "premium");
        assert_eq!(shop::payments(&merchant).len(), paid + 1);
    }
}

/// Such a challenge was passed on from there (threat X-23).
#[test]
fn a_login_for_another_host_is_refused_with_its_challenge() {
    let (merchant, setup) = shop_with(json!({ "domain": "bank.example" }), true);
    let proxy = setup.start();
    let refused = get(&proxy, "/x");
    assert_eq!(refused.reason().as_deref(), Some("message_signing_refused"));
    assert_eq!(
        (shop::payments(&merchant).len(), logins(&merchant).len()),
        (0, 0)
    );
}

#[test]
fn a_merchant_that_takes_no_login_is_paid_and_not_asked_twice() {
    let (merchant, setup) = shop_with(json!({}), false);
    let proxy = setup.start();
    for round in 1..4 {
        assert_eq!(get(&proxy, "/x").text(), "premium");
        assert_eq!(shop::payments(&merchant).len(), round);
    }
    let logins = logins(&merchant);
    assert_eq!(logins.len(), 1);
    assert_eq!(logins[0]["domain"], shop::HOST);
    assert!(
        logins[0]["address"]
            .as_str()
            .unwrap()
            .eq_ignore_ascii_case(&proxy.payer())
    );
    assert_eq!(told(&proxy, 1)[0]["accepted"], json!(false));
}

#[test]
fn who_is_frozen_signs_nothing() {
    let (merchant, setup) = shop_with(json!({}), true);
    let proxy = setup.start();
    assert_eq!(get(&proxy, "/x").text(), "premium");
    assert!(proxy.setup.run(&["freeze", "all"]).status.success());
    assert_eq!(get(&proxy, "/x").reason().as_deref(), Some("frozen"));
    assert!(logins(&merchant).is_empty());
}
