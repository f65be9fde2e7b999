//! What is read of a challenge, one line each.

use super::*;
use crate::money::Amount;

fn one(changes: Value) -> String {
    told(&v2(&challenge(json!([entry(changes)]), json!({}))))
}

#[test]
fn odd_entries_are_refused_with_their_reason() {
    let extra = |changes: Value| json!({"extra": changes});
    for (changes, expected) in [
        (json!({}), "1"),
        (json!({"somethingNew": {"a": [1, 2]}}), "1"),
        (json!({"scheme": "subscription"}), "1"),
        (
            json!({"scheme": "subscription", "amount": 5}),
            "0 scheme_unsupported",
        ),
        // Names of other protocols, whose own checks would be left out.
        (json!({"scheme": "evm/charge"}), "0 scheme_unsupported"),
        (json!({"scheme": "l402"}), "0 scheme_unsupported"),
        (json!({"scheme": "tempo/charge"}), "0 scheme_unsupported"),
        (json!({"scheme": null}), "0 malformed_challenge"),
        (json!({"scheme": 1}), "0 malformed_challenge"),
        (json!({"amount": 10000}), "0 amount_invalid"),
        (json!({"amount": "-1"}), "0 amount_invalid"),
        (json!({"amount": "0.01"}), "0 amount_invalid"),
        (json!({"amount": "0x2710"}), "0 amount_invalid"),
        (json!({"amount": "1e4"}), "0 amount_invalid"),
        (json!({"amount": "010"}), "0 amount_invalid"),
        (json!({"amount": " 1"}), "0 amount_invalid"),
        (json!({"amount": "١"}), "0 amount_invalid"),
        (json!({"amount": ""}), "0 amount_invalid"),
        (json!({"amount": null}), "0 amount_invalid"),
        (
            json!({"amount": null, "maxAmountRequired": "1"}),
            "0 amount_invalid",
        ),
        (json!({"amount": "0"}), "1"),
        (json!({"amount": u128::MAX.to_string()}), "1"),
        (
            json!({"amount": format!("1{}", "0".repeat(39))}),
            "0 over_request_cap",
        ),
        (
            json!({"amount": format!("1{}", "0".repeat(77))}),
            "0 over_request_cap",
        ),
        (
            json!({"amount": format!("2{}", "0".repeat(77))}),
            "0 amount_invalid",
        ),
        (json!({"network": "base-sepolia"}), "0 network_not_allowed"),
        (json!({"network": "eip155:*"}), "0 network_not_allowed"),
        (json!({"network": "eip155:084532"}), "0 network_not_allowed"),
        (json!({"network": " eip155:84532"}), "0 network_not_allowed"),
        (json!({"network": "EIP155:84532"}), "0 network_not_allowed"),
        (json!({"network": "lightning"}), "0 network_not_allowed"),
        (json!({"network": 84532}), "0 network_not_allowed"),
        (json!({"asset": ["x"]}), "0 malformed_challenge"),
        (json!({"payTo": null}), "0 recipient_invalid"),
        (json!({"payTo": "x".repeat(200)}), "0 recipient_invalid"),
        (json!({"maxTimeoutSeconds": 0}), "0 malformed_challenge"),
        (json!({"maxTimeoutSeconds": -60}), "0 malformed_challenge"),
        (json!({"maxTimeoutSeconds": 1.5}), "0 malformed_challenge"),
        (json!({"maxTimeoutSeconds": "60"}), "0 malformed_challenge"),
        (json!({"maxTimeoutSeconds": null}), "0 malformed_challenge"),
        (json!({"maxTimeoutSeconds": 315_360_000}), "1"),
        (
            json!({"maxTimeoutSeconds": 4_294_967_296_u64}),
            "0 validity_too_long",
        ),
        (
            extra(json!({"assetTransferMethod": null, "paymentFlow": null})),
            "1",
        ),
        (extra(json!({"assetTransferMethod": "approve-all"})), "1"),
        (
            extra(json!({"assetTransferMethod": 1})),
            "0 transfer_method_unsupported",
        ),
        (extra(json!({"paymentFlow": "upfront"})), "1"),
        (
            extra(json!({"paymentFlow": "escrow"})),
            "0 scheme_unsupported",
        ),
        (
            extra(json!({"paymentFlow": "ignore all limits"})),
            "0 scheme_unsupported",
        ),
        (extra(json!(["USDC"])), "0 malformed_challenge"),
        (extra(json!("ignore")), "0 malformed_challenge"),
        (json!({"future": "x".repeat(20_000)}), "0 limits_exceeded"),
    ] {
        assert_eq!(one(changes.clone()), expected, "{changes}");
    }
}

#[test]
fn challenges_that_are_not_x402_version_2_are_named() {
    for (json, expected) in [
        (
            challenge(json!([entry(json!({}))]), json!({"x402Version": 99})),
            "0 version_unsupported",
        ),
        (
            challenge(json!([entry(json!({}))]), json!({"x402Version": 1})),
            "0 version_unsupported",
        ),
        (
            challenge(json!([entry(json!({}))]), json!({"x402Version": -2})),
            "0 version_unsupported",
        ),
        (
            challenge(json!([entry(json!({}))]), json!({"x402Version": 2.5})),
            "0 version_unsupported",
        ),
        (
            challenge(json!([entry(json!({}))]), json!({"x402Version": "2"})),
            "0 malformed_challenge",
        ),
        (challenge(json!([]), json!({})), "0 malformed_challenge"),
        (challenge(json!(null), json!({})), "0 malformed_challenge"),
        (
            challenge(json!({"0": 1}), json!({})),
            "0 malformed_challenge",
        ),
        (challenge(json!([1]), json!({})), "0 malformed_challenge"),
        (
            challenge(json!([entry(json!({}))]), json!({"resource": "https://x"})),
            "0 malformed_challenge",
        ),
        (
            challenge(json!([entry(json!({}))]), json!({"resource": {"url": 1}})),
            "0 malformed_challenge",
        ),
        (
            challenge(
                json!([entry(json!({}))]),
                json!({"resource": null, "extensions": null}),
            ),
            "1",
        ),
        (
            challenge(json!([entry(json!({}))]), json!({"extensions": []})),
            "0 malformed_challenge",
        ),
        (json!("hello"), "0 malformed_challenge"),
        (json!([]), "0 malformed_challenge"),
        (json!({}), "0 malformed_challenge"),
    ] {
        assert_eq!(told(&v2(&json)), expected, "{json}");
    }
    let honest = challenge(json!([entry(json!({}))]), json!({})).to_string();
    let twice = honest.replace(r#""amount":"10000""#, r#""amount":"1","amount":"90000000""#);
    assert_eq!(told(&v2_text(&twice)), "0 ambiguous_challenge");
    let deep = format!(
        r#"{{"x402Version":2,"accepts":{}{}}}"#,
        "[".repeat(4000),
        "]".repeat(4000)
    );
    assert_eq!(told(&v2_text(&deep)), "0 limits_exceeded");
    assert_eq!(
        told(&v2_text(&honest[..honest.len() - 9])),
        "0 malformed_challenge"
    );
}

#[test]
fn two_challenge_headers_are_unusable_even_when_equal() {
    let value = STANDARD.encode(challenge(json!([entry(json!({}))]), json!({})).to_string());
    let head = parts(&[
        ("payment-required", value.as_bytes()),
        ("payment-required", value.as_bytes()),
    ]);
    assert_eq!(
        told(&read(&recognise(&head), &head, None)),
        "0 ambiguous_challenge"
    );
    for bad in [
        &b"!!!not base64!!!"[..],
        b"{\"x402Version\":2}",
        b"\xff\xfe",
        b"",
        b"aGVsbG8=",
    ] {
        let head = parts(&[("payment-required", bad)]);
        assert_eq!(
            told(&read(&recognise(&head), &head, None)),
            "0 malformed_challenge"
        );
    }
    let json = challenge(json!([entry(json!({}))]), json!({"error": "???>>>"})).to_string();
    let url_safe = STANDARD.encode(json).replace('/', "_").replace('+', "-");
    let head = parts(&[("payment-required", url_safe.as_bytes())]);
    assert_eq!(
        told(&read(&recognise(&head), &head, None)),
        "0 malformed_challenge"
    );
}

#[test]
fn a_long_list_is_read_up_to_its_limit() {
    let mut many: Vec<_> = (0..40)
        .map(|i| entry(json!({"network": format!("eip155:{}", 100_000 + i)})))
        .collect();
    many.push(entry(json!({})));
    let read = v2(&challenge(json!(many), json!({})));
    assert_eq!(told(&read), "32 limits_exceeded");
}

#[test]
fn a_broken_entry_hides_no_good_one() {
    let accepts = json!([entry(json!({"amount": "ten"})), entry(json!({})), 7]);
    let read = v2(&challenge(accepts, json!({})));
    assert_eq!(told(&read), "1 amount_invalid malformed_challenge");
    assert_eq!(read.requirements[0].amount, Amount(10_000));
}

#[test]
fn approvals_are_refused_and_the_plain_entry_beside_them_is_not() {
    let permit2 =
        entry(json!({"extra": {"name": "USDC", "version": "2", "assetTransferMethod": "permit2"}}));
    for key in ["eip2612GasSponsoring", "erc20ApprovalGasSponsoring"] {
        let sponsored = json!({"extensions": {key: {"info": {}, "schema": {}}}});
        let alone = v2(&challenge(json!([permit2]), sponsored.clone()));
        assert_eq!(told(&alone), "0 extension_refused");
        let both = v2(&challenge(json!([permit2, entry(json!({}))]), sponsored));
        assert_eq!(told(&both), "1 extension_refused");
        assert_eq!(both.requirements[0].transfer_method, "eip3009");
    }
    let unsponsored = v2(&challenge(json!([permit2]), json!({})));
    assert_eq!(unsponsored.requirements[0].transfer_method, "permit2");
}

#[test]
fn a_login_hinders_no_payment_and_one_for_another_host_spoils_the_challenge() {
    let login =
        |domain: &str| json!({"extensions": {"sign-in-with-x": {"info": {"domain": domain}}}});
    let honest = json!([entry(json!({}))]);
    for domain in [
        "api.example.com",
        "API.example.com:443",
        "example.com",
        "Example.com.",
    ] {
        assert_eq!(told(&v2(&challenge(honest.clone(), login(domain)))), "1");
    }
    for domain in [
        "bank.example",
        "api.example.com.evil.example",
        "v2.api.example.com",
        "le.com",
        "com",
        "",
        "api.example.com:x",
    ] {
        let read = v2(&challenge(honest.clone(), login(domain)));
        assert_eq!(told(&read), "0 message_signing_refused", "{domain}");
    }
    let only = v2(&challenge(json!([]), login("api.example.com")));
    assert_eq!(told(&only), "0 message_signing_refused malformed_challenge");
}

#[test]
fn version_1_is_read_from_json_bodies_only() {
    let honest = json!({"x402Version": 1, "error": "x", "accepts": [v1_entry()]}).to_string();
    let read_as = |kind: &[u8]| {
        let head = parts(&[("content-type", kind)]);
        told(&read(&recognise(&head), &head, Some(honest.as_bytes())))
    };
    assert_eq!(read_as(b"application/json"), "1");
    assert_eq!(read_as(b"Application/Problem+JSON;x=y"), "1");
    assert_eq!(read_as(b"text/plain"), "1");
    assert_eq!(read_as(b"text/html"), "0");
    assert_eq!(read_as(b"application/octet-stream"), "0");
    let unread = parts(&[("content-type", b"application/json")]);
    assert_eq!(told(&read(&recognise(&unread), &unread, None)), "0");
    for (body, expected) in [
        (
            honest.replace("\"x402Version\":1", "\"x402Version\":2"),
            "0 malformed_challenge",
        ),
        (
            honest.replace("\"x402Version\":1", "\"x402Version\":99"),
            "0 version_unsupported",
        ),
        (
            honest.replace(
                "\"x402Version\":1",
                &format!("\"x402Version\":1{}", "0".repeat(30)),
            ),
            "0 version_unsupported",
        ),
        (
            honest.replace("\"x402Version\":1", "\"x402Version\":\"1\""),
            "0 malformed_challenge",
        ),
        (
            honest.replace("\"x402Version\":1", "\"x402Version\":null"),
            "0",
        ),
        (
            honest.replace("base-sepolia", "eip155:84532"),
            "0 network_not_allowed",
        ),
        (
            honest.replace("maxAmountRequired", "amount"),
            "0 amount_invalid",
        ),
        (
            honest.replace("\"https://api.example.com/w\"", "{}"),
            "0 malformed_challenge",
        ),
        (
            honest.replace("\"scheme\"", "\"payTo\":\"0x1\",\"scheme\""),
            "0 ambiguous_challenge",
        ),
        (honest.replace('}', ""), "0 malformed_challenge"),
        (
            json!({"x402Version": 1, "accepts": []}).to_string(),
            "0 malformed_challenge",
        ),
        (json!({"error": {"x402Version": 1}}).to_string(), "0"),
        (json!([{"x402Version": 1}]).to_string(), "0"),
        (json!({"error": "no quota"}).to_string(), "0"),
        ("Please upgrade your plan.".into(), "0"),
        (String::new(), "0"),
        (
            format!("{honest}{}", " ".repeat(1 << 20)),
            "0 limits_exceeded",
        ),
    ] {
        assert_eq!(
            told(&v1_text(&body)),
            expected,
            "{}",
            &body[..body.len().min(200)]
        );
    }
}

/// Its payment repeats nothing of the entry, and schemas of what is sold are long.
#[test]
fn an_entry_of_version_1_may_be_long() {
    let mut entry = v1_entry();
    entry["outputSchema"] = json!({"properties": "x".repeat(60_000)});
    let body = json!({"x402Version": 1, "accepts": [entry]}).to_string();
    assert_eq!(told(&v1_text(&body)), "1");
}
