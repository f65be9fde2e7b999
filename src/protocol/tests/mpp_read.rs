//! MPP challenges as merchants, honest and hostile, write them.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::protocol::mpp::Echo;

const LINES: &str = include_str!("../../../tests/vectors/mpp/www-authenticate.json");

const REALM: &str = "api.example.com";

/// An honest `request` with changes on top; a change to `null` removes the member.
pub(super) fn request(changes: Value) -> Value {
    let mut request = json!({
        "amount": "10000", "currency": USDC, "recipient": SELLER,
        "methodDetails": {"chainId": 84532, "credentialTypes": ["authorization"], "decimals": 6},
    });
    for (key, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => request.as_object_mut().unwrap().remove(key),
            value => request
                .as_object_mut()
                .unwrap()
                .insert(key.clone(), value.clone()),
        };
    }
    request
}

/// A challenge line; parameters in `changes` replace or add.
pub(super) fn line(request: &str, changes: &[(&str, &str)]) -> String {
    let request = URL_SAFE_NO_PAD.encode(request);
    let mut params = vec![
        ("id", "x1"),
        ("realm", REALM),
        ("method", "evm"),
        ("intent", "charge"),
        ("request", &request),
    ];
    for (name, value) in changes {
        params.retain(|(n, _)| n != name);
        params.push((name, value));
    }
    let params = params.iter().filter(|(_, v)| *v != "-");
    let params: Vec<_> = params.map(|(n, v)| format!("{n}=\"{v}\"")).collect();
    format!("Payment {}", params.join(", "))
}

fn offered(lines: &[&str]) -> Challenge {
    let lines: Vec<_> = lines
        .iter()
        .map(|line| ("www-authenticate", line.as_bytes()))
        .collect();
    let head = parts(&lines);
    read(&recognise(&head), &head, None)
}

pub(super) fn only(line: &str) -> Requirement {
    let challenge = offered(&[line]);
    assert_eq!(challenge.problems, [], "{line}");
    challenge.requirements.into_iter().next().unwrap()
}

pub(super) fn refused(line: &str) -> (Reason, String) {
    let challenge = offered(&[line]);
    assert!(challenge.requirements.is_empty(), "{line}");
    let [problem] = &challenge.problems[..] else {
        panic!("{line}: {:?}", challenge.problems)
    };
    (problem.reason, problem.detail.clone())
}

#[test]
fn field_lines_are_understood_as_the_implementations_understand_them() {
    let cases: Value = serde_json::from_str(LINES).unwrap();
    let cases = cases["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 31);
    for case in cases {
        let mut headers = HeaderMap::new();
        for line in case["lines"].as_array().unwrap() {
            let value = line.as_str().unwrap().parse().unwrap();
            headers.append(http::header::WWW_AUTHENTICATE, value);
        }
        let all = authenticate::read(&headers).into_iter();
        let all = all.filter(|asks| asks.scheme == "payment");
        let (good, bad): (Vec<_>, Vec<_>) = all
            .map(|asks| asks.says.and_then(|says| Echo::read(&says)))
            .partition(Result::is_ok);
        let good: Vec<_> = good
            .into_iter()
            .flatten()
            .map(|echo| {
                let mut told = json!({"id": echo.id, "realm": echo.realm, "method": echo.method,
                    "intent": echo.intent});
                if let Some(header) = echo.header {
                    told["header"] = json!(header);
                }
                told
            })
            .collect();
        assert_eq!(json!(good), case["usable"], "{}", case["note"]);
        assert_eq!(json!(bad.len()), case["rejected"], "{}", case["note"]);
    }
}

#[test]
fn an_honest_challenge_is_read_in_whole() {
    let text = request(json!({})).to_string();
    let read = only(&line(
        &text,
        &[("expires", "2026-12-01T02:00:00.250+02:00")],
    ));
    assert_eq!((read.protocol, &*read.scheme), ("mpp", "evm/charge"));
    assert_eq!(read.network.as_str(), "eip155:84532");
    assert_eq!(
        (read.amount.0, &*read.asset, &*read.pay_to),
        (10_000, USDC, SELLER)
    );
    assert_eq!(read.transfer_method, "eip3009");
    let midnight: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
    assert_eq!(read.expires, Some(Timestamp(midnight.0 + 250)));
    assert_eq!(read.lives(Timestamp(midnight.0 - 10_000)), 10);
    assert_eq!(read.lives(midnight.after_secs(5)), 0);
    // Without an expiry it lives as long as the official client lets it.
    assert_eq!(only(&line(&text, &[])).lives(midnight), 300);
}

#[test]
fn every_broken_challenge_has_its_reason() {
    let good = request(json!({})).to_string();
    let long = format!("{{\"x\":\"{}\"}}", "y".repeat(13_000));
    let with = |changes: &[(&str, &str)]| line(&good, changes);
    for (line, reason, word) in [
        (with(&[("id", "-")]), Reason::MalformedChallenge, "no id"),
        (with(&[("id", "")]), Reason::MalformedChallenge, "empty"),
        (
            with(&[("realm", "-")]),
            Reason::MalformedChallenge,
            "no realm",
        ),
        (
            with(&[("method", "-")]),
            Reason::MalformedChallenge,
            "names no payment method",
        ),
        (
            with(&[("method", "EVM")]),
            Reason::MalformedChallenge,
            "lower-case",
        ),
        (
            with(&[("intent", "-")]),
            Reason::MalformedChallenge,
            "names no intent",
        ),
        (
            with(&[("intent", "a b")]),
            Reason::MalformedChallenge,
            "intent is not",
        ),
        (
            with(&[("request", "-")]),
            Reason::MalformedChallenge,
            "no request",
        ),
        (
            with(&[("request", "%%%")]),
            Reason::MalformedChallenge,
            "base64url",
        ),
        (
            with(&[("request", "aGVsbG8")]),
            Reason::MalformedChallenge,
            "not JSON",
        ),
        (
            with(&[("request", "W10")]),
            Reason::MalformedChallenge,
            "object",
        ),
        (
            with(&[("expires", "tomorrow")]),
            Reason::MalformedChallenge,
            "expires",
        ),
        (
            with(&[("expires", "2026-12-01")]),
            Reason::MalformedChallenge,
            "expires",
        ),
        (
            with(&[("expires", "2026-12-01x08:00:00Z")]),
            Reason::MalformedChallenge,
            "expires",
        ),
        (
            with(&[("digest", "sha-512=:AAAA:")]),
            Reason::MalformedChallenge,
            "SHA-256",
        ),
        (
            with(&[("header", "Cookie")]),
            Reason::MalformedChallenge,
            "header",
        ),
        (
            with(&[("intent", "session")]),
            Reason::SchemeUnsupported,
            "deposit",
        ),
        (
            with(&[("intent", "subscription")]),
            Reason::SchemeUnsupported,
            "again",
        ),
        (
            with(&[("intent", "gift")]),
            Reason::SchemeUnsupported,
            "intent",
        ),
        (
            with(&[("method", "stripe")]),
            Reason::SchemeUnsupported,
            "Stripe",
        ),
        (
            with(&[("method", "shells")]),
            Reason::SchemeUnsupported,
            "method is not known",
        ),
        (
            format!("{}, ID=\"y\"", with(&[])),
            Reason::AmbiguousChallenge,
            "more than once",
        ),
        (
            format!("{} x", with(&[])),
            Reason::MalformedChallenge,
            "grammar",
        ),
        ("Payment abc".into(), Reason::MalformedChallenge, "no id"),
        (line(&long, &[]), Reason::LimitsExceeded, "16384"),
        (
            line("{\"amount\":\"1\",\"amount\":\"2\"}", &[]),
            Reason::AmbiguousChallenge,
            "more than once",
        ),
    ] {
        let (found, detail) = refused(&line);
        assert_eq!(found, reason, "{line}: {detail}");
        assert!(detail.contains(word), "{detail}");
    }
}

#[test]
fn terms_that_are_not_paid_are_named() {
    let details = |details: Value| json!({ "methodDetails": details });
    for (changes, reason) in [
        (json!({"amount": "0"}), Reason::MessageSigningRefused),
        (json!({"amount": 5}), Reason::AmountInvalid),
        (json!({"amount": "1.5"}), Reason::AmountInvalid),
        (json!({"amount": "-1"}), Reason::AmountInvalid),
        (json!({"amount": "00"}), Reason::AmountInvalid),
        (json!({"amount": null}), Reason::AmountInvalid),
        (json!({"currency": null}), Reason::MalformedChallenge),
        (json!({"recipient": null}), Reason::RecipientInvalid),
        (json!({"methodDetails": null}), Reason::NetworkNotAllowed),
        (details(json!("x")), Reason::MalformedChallenge),
        (
            details(json!({"chainId": "84532", "credentialTypes": ["authorization"]})),
            Reason::MalformedChallenge,
        ),
        (
            details(json!({"chainId": 84532})),
            Reason::TransferMethodUnsupported,
        ),
        (
            details(json!({"chainId": 84532, "credentialTypes": ["hash"]})),
            Reason::TransferMethodUnsupported,
        ),
        (
            details(json!({"chainId": 84532, "credentialTypes": ["permit2", "transaction"]})),
            Reason::TransferMethodUnsupported,
        ),
        (
            details(
                json!({"chainId": 84532, "credentialTypes": ["authorization"],
                "splits": [{"amount": "1", "recipient": BUYER}]}),
            ),
            Reason::SplitInvalid,
        ),
    ] {
        let text = request(changes).to_string();
        let (found, detail) = refused(&line(&text, &[]));
        assert_eq!(found, reason, "{text}: {detail}");
    }
    // A zero price is a login, whoever would move the money.
    let text = request(json!({"amount": "0"})).to_string();
    let (found, _) = refused(&line(&text, &[("method", "tempo")]));
    assert_eq!(found, Reason::MessageSigningRefused);
}

#[test]
fn a_broken_challenge_hides_no_good_one() {
    let text = request(json!({})).to_string();
    let (good, bad) = (line(&text, &[]), line(&text, &[("id", "")]));
    for lines in [
        &[&*bad, &*good][..],
        &[&*format!("{bad}, {good}")],
        &[&*format!("Basic realm=\"a, Payment b\", {good}, {bad}")],
        &["Payment id=\"open", &*good],
    ] {
        let challenge = offered(lines);
        assert_eq!(challenge.requirements.len(), 1, "{lines:?}");
        assert_eq!(challenge.problems.len(), 1, "{lines:?}");
    }
    let none = offered(&["Bearer realm=\"Payment id=1\"", "Basic realm=payment"]);
    assert!(none.requirements.is_empty() && none.problems.is_empty());
}

/// What `fits` says of a request with these header fields and a body of `hello`.
fn fit_says(params: &[(&str, &str)], fields: &[(&'static str, &[u8])]) -> Option<Reason> {
    let text = request(json!({})).to_string();
    let mut challenge = offered(&[&line(&text, params)]);
    let head = parts(fields);
    // printf hello | sha256sum
    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let mut digest = [0; 32];
    hex::decode_to_slice(HELLO, &mut digest).unwrap();
    let repeat = Repeat {
        host: REALM,
        port: 443,
        within: false,
        headers: &head.headers,
        body: &|| digest,
    };
    fit(&mut challenge, &repeat);
    let kept = challenge.requirements.len();
    let reason = challenge.problems.first().map(|p| p.reason);
    assert_eq!(kept, usize::from(reason.is_none()));
    reason
}

#[test]
fn a_challenge_is_answered_with_the_request_that_it_is_for() {
    let hello = "sha-256=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
    let other = "sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:";
    let key: (&str, &[u8]) = ("authorization", b"Bearer key");
    let beside = ("header", "Payment-Authorization");
    for (params, fields, expected) in [
        (&[][..], &[][..], None),
        (&[("digest", hello)], &[], None),
        (&[("realm", "My shop")], &[], None),
        (
            &[("realm", "shop.victim.test")],
            &[],
            Some(Reason::ResourceMismatch),
        ),
        (&[("digest", other)], &[], Some(Reason::DigestMismatch)),
        (&[], &[key], Some(Reason::AuthorizationConflict)),
        (&[beside], &[key], None),
        (
            &[beside, ("digest", other)],
            &[key],
            Some(Reason::DigestMismatch),
        ),
        (&[], &[("accept-payment", b"evm/*")], None),
        (
            &[],
            &[("accept-payment", b"tempo/charge")],
            Some(Reason::SchemeUnsupported),
        ),
        (
            &[],
            &[("accept-payment", b"evm/charge;q=0")],
            Some(Reason::SchemeUnsupported),
        ),
        (
            &[],
            &[("accept-payment", b"\xff")],
            Some(Reason::SchemeUnsupported),
        ),
    ] {
        assert_eq!(fit_says(params, fields), expected, "{params:?} {fields:?}");
    }
}
