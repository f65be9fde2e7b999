//! Answers of MCP servers, honest and not.

use serde_json::{Value, json};

use super::*;
use crate::payment::Reason;

const USDC: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const SELLER: &str = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";

fn call(method: &str) -> Call {
    let params = json!({"name": "search", "uri": "a:b"});
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
    Call::read(body.to_string().as_bytes()).unwrap()
}

fn terms(version: u8) -> Value {
    let (price, network) = match version {
        1 => ("maxAmountRequired", "base-sepolia"),
        _ => ("amount", "eip155:84532"),
    };
    json!({"x402Version": version, "error": "Payment required",
        "resource": {"url": "mcp://tool/search"},
        "accepts": [{"scheme": "exact", "network": network, price: "10000", "asset": USDC,
            "payTo": SELLER, "maxTimeoutSeconds": 60, "extra": {"name": "USDC", "version": "2"}}]})
}

fn mpp_terms() -> Value {
    json!({"httpStatus": 402, "challenges": [{"id": "c1", "realm": "api.example.com", "method": "evm",
        "intent": "charge", "expires": "2030-01-01T00:00:00Z", "opaque": "eyJvIjoxLjUwfQ",
        "request": {"amount": "10000", "currency": USDC, "recipient": SELLER,
            "methodDetails": {"chainId": 84532, "credentialTypes": ["authorization"], "decimals": 6}}}]})
}

fn result(result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 7, "result": result})
}

fn error(code: i64, data: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 7, "error": {"code": code, "message": "m", "data": data}})
}

fn read(method: &str, answer: &Value) -> Option<Answer> {
    Answer::read(&call(method), answer.to_string().as_bytes())
}

fn asked(method: &str, answer: &Value) -> Vec<&'static str> {
    let answer = read(method, answer).unwrap();
    let asks = answer.challenge.map(|c| c.requirements);
    assert_eq!(
        asks.is_some(),
        answer.status == StatusCode::PAYMENT_REQUIRED
    );
    asks.unwrap_or_default()
        .iter()
        .map(|r| r.protocol)
        .collect()
}

#[test]
fn terms_are_read_where_the_transports_put_them() {
    let tool = |version| {
        result(json!({"isError": true, "structuredContent": terms(version),
            "content": [{"type": "text", "text": terms(version).to_string()}]}))
    };
    assert_eq!(asked("tools/call", &tool(2)), ["x402-v2"]);
    assert_eq!(asked("tools/call", &tool(1)), ["x402-v1"]);
    let meta = |key: &str, value: Value| result(json!({"isError": true, "_meta": {key: value}}));
    assert_eq!(
        asked("tools/call", &meta("x402/error", terms(1))),
        ["x402-v1"]
    );
    let nested = json!({"code": 402, "data": terms(1)});
    assert_eq!(
        asked("tools/call", &meta("x402/error", nested)),
        ["x402-v1"]
    );
    let mppx = meta("org.paymentauth/payment-required", mpp_terms());
    assert_eq!(asked("tools/call", &mppx), ["mpp"]);
    // A server that takes either says both.
    let either = json!({"isError": true, "structuredContent": terms(2),
        "_meta": {"org.paymentauth/payment-required": mpp_terms()}});
    assert_eq!(asked("tools/call", &result(either)), ["x402-v2", "mpp"]);
    let mut either = terms(2);
    either["challenges"] = mpp_terms()["challenges"].clone();
    assert_eq!(
        asked("prompts/get", &error(402, either)),
        ["x402-v2", "mpp"]
    );
    let mut nulls = mpp_terms();
    for member in ["digest", "description", "header"] {
        nulls["challenges"][0][member] = json!(null);
    }
    assert_eq!(asked("tools/call", &error(-32042, nulls)), ["mpp"]);
    for method in ["tools/call", "resources/read", "prompts/get"] {
        let waits = json!({"resultType": "payment_required", "paymentRequired": terms(2)});
        assert_eq!(asked(method, &result(waits)), ["x402-v2"]);
        assert_eq!(asked(method, &error(402, terms(1))), ["x402-v1"]);
        assert_eq!(asked(method, &error(-32042, mpp_terms())), ["mpp"]);
        assert_eq!(asked(method, &error(-32043, mpp_terms())), ["mpp"]);
    }
}

#[test]
fn what_only_speaks_of_terms_asks_for_nothing() {
    let text = json!([{"type": "text", "text": terms(2).to_string()}]);
    for (method, answer) in [
        ("tools/call", result(json!({"content": text}))),
        // Also an error may only quote what somebody else asked for.
        (
            "tools/call",
            result(json!({"isError": true, "content": text})),
        ),
        (
            "tools/call",
            result(json!({"isError": false, "structuredContent": terms(2)})),
        ),
        (
            "tools/call",
            result(json!({"isError": "true", "structuredContent": terms(2)})),
        ),
        (
            "tools/call",
            result(json!({"isError": true, "structuredContent": {"quoted": terms(2)}})),
        ),
        (
            "tools/call",
            result(json!({"isError": true, "structuredContent": [terms(2)]})),
        ),
        (
            "resources/read",
            result(json!({"isError": true, "structuredContent": terms(2)})),
        ),
        (
            "resources/read",
            result(json!({"contents": [{"uri": "a:b", "text": terms(2).to_string()}]})),
        ),
        (
            "prompts/get",
            result(json!({"resultType": "complete", "paymentRequired": terms(2)})),
        ),
        ("tools/call", error(-32603, terms(2))),
        ("tools/call", error(-32042, json!({"elicitations": []}))),
        ("tools/call", error(-32042, json!({"challenges": []}))),
        ("tools/call", error(402, json!("x402Version"))),
    ] {
        assert!(asked(method, &answer).is_empty(), "{answer}");
    }
}

#[test]
fn an_error_for_money_is_about_the_input() {
    let receipt = json!({"success": true, "transaction": "0x1", "network": "eip155:84532"});
    for (meta, status) in [
        (json!({}), StatusCode::INTERNAL_SERVER_ERROR),
        (
            json!({"x402/payment-response": receipt}),
            StatusCode::BAD_REQUEST,
        ),
    ] {
        let body = result(json!({"isError": true, "content": [], "_meta": meta})).to_string();
        let answer = Answer::read(&call("tools/call"), body.as_bytes()).unwrap();
        assert_eq!(answer.status, status, "{body}");
    }
}

#[test]
fn another_answer_is_none() {
    let one = result(json!({"isError": true, "structuredContent": terms(2)})).to_string();
    let read = |body: &str| Answer::read(&call("tools/call"), body.as_bytes());
    assert!(read(&one).is_some());
    for (from, to) in [
        (r#""id":7"#, r#""id":8"#),
        (r#""id":7"#, r#""id":"7""#),
        (r#""id":7"#, r#""id":7.0"#),
        (r#""id":7"#, r#""id":null"#),
        (r#""id":7"#, r#""id":7,"id":7"#),
        (r#""2.0""#, r#""1.0""#),
        (r#""isError":true"#, r#""isError":true,"isError":true"#),
        (r#""result":"#, r#""error":{"code":402},"result":"#),
    ] {
        let other = one.replace(from, to);
        assert_ne!(other, one);
        assert!(read(&other).is_none(), "{other}");
    }
    assert!(read(&format!("[{one}]")).is_none());
    assert!(read(&format!("{one}{one}")).is_none());
    assert!(read(&one[..one.len() - 1]).is_none());
}

#[test]
fn what_was_paid_for_is_read_whatever_its_size_and_shape() {
    let bought = |body: &str| Answer::bought(&call("tools/call"), body.as_bytes());
    let paid = json!({"success": true, "transaction": "0x1", "network": "eip155:84532"});
    let answer = |content: String| {
        format!(
            r#"{{"jsonrpc":"2.0","id":7,"result":{{"structuredContent":{content},"_meta":{{"x402/payment-response":{paid}}}}}}}"#
        )
    };
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    for content in [
        format!("[0{}]", ",1.5".repeat(20_000)),
        deep(100),
        deep(100_000),
        r#"{"a":1,"a":2}"#.to_owned(),
    ] {
        let body = answer(content);
        let read = bought(&body).unwrap();
        assert_eq!(read.status, StatusCode::OK, "{body:.100}");
        assert!(
            read.receipts.contains_key("payment-response"),
            "{body:.100}"
        );
        assert!(
            Answer::read(&call("tools/call"), body.as_bytes()).is_none(),
            "as a demand it is nobody's: {body:.100}"
        );
    }
}

#[test]
fn what_nobody_can_read_was_delivered_and_what_is_no_answer_was_not() {
    let one = result(json!({"content": [], "_meta": {}})).to_string();
    let bought = |body: &str| Answer::bought(&call("tools/call"), body.as_bytes());
    for (from, to) in [
        (r#""id":7"#, r#""id":7,"id":7"#),
        (r#""_meta":{}"#, r#""_meta":{},"_meta":{}"#),
    ] {
        let unread = one.replace(from, to);
        assert_ne!(unread, one);
        let answer = bought(&unread).unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{unread}");
        assert!(answer.receipts.is_empty() && answer.challenge.is_none());
    }
    let latin = [b"{\"z\":\"\xfc", one.as_bytes()].concat();
    assert!(Answer::bought(&call("tools/call"), &latin).is_some());
    for (from, to) in [
        (r#""id":7"#, r#""id":8"#),
        (r#""2.0""#, r#""1.0""#),
        (r#""result":"#, r#""error":{"code":402},"result":"#),
        (r#""result":{"#, r#""result":[],"x":{"#),
        (r#""result":{"#, r#""error":{"code":1,"code":1},"x":{"#),
    ] {
        let other = one.replace(from, to);
        assert_ne!(other, one);
        assert!(bought(&other).is_none(), "{other}");
    }
    assert!(bought(&format!("[{one}]")).is_none());
    assert!(bought(&one[..one.len() - 1]).is_none());
    assert!(bought("").is_none());
}

#[test]
fn a_broken_challenge_says_what_is_wrong() {
    let mut odd = terms(2);
    odd["accepts"][0]["amount"] = json!("1e4");
    let answer = read(
        "tools/call",
        &result(json!({"isError": true, "structuredContent": odd})),
    )
    .unwrap();
    let challenge = answer.challenge.unwrap();
    assert!(challenge.requirements.is_empty());
    assert_eq!(challenge.problems[0].reason, Reason::AmountInvalid);
    let mut many = mpp_terms();
    many["challenges"] = vec![many["challenges"][0].clone(); 33].into();
    let answer = read("tools/call", &error(-32042, many)).unwrap();
    let problems = answer.challenge.unwrap().problems;
    assert_eq!(problems[0].reason, Reason::LimitsExceeded);
    let mut bound = mpp_terms();
    bound["challenges"][0]["digest"] = json!("sha-256=:AAAA:");
    let answer = read("tools/call", &error(-32042, bound)).unwrap();
    assert_eq!(
        answer.challenge.unwrap().problems[0].reason,
        Reason::DigestMismatch
    );
}

#[test]
fn a_receipt_becomes_the_header_that_http_has_for_it() {
    let hash = format!("0x{}", "ab".repeat(32));
    let paid = json!({"success": true, "transaction": hash, "network": "eip155:84532"});
    for (key, protocol) in [
        ("x402/payment-response", "x402-v2"),
        ("x402.payment-response", "x402-v1"),
    ] {
        let answer = result(json!({"_meta": {key: paid}}));
        let answer = read("tools/call", &answer).unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        let receipt = crate::protocol::by_name(protocol)
            .unwrap()
            .receipt(&answer.receipts);
        let crate::payment::Receipt::Claimed(claim) = receipt else {
            panic!("{key}: not claimed")
        };
        assert_eq!(claim.transaction.as_deref(), Some(&*hash));
    }
    let paid = json!({"status": "success", "reference": hash, "challengeId": "c1"});
    let answer = read(
        "prompts/get",
        &result(json!({"_meta": {"org.paymentauth/receipt": paid}})),
    )
    .unwrap();
    let receipt = crate::protocol::by_name("mpp")
        .unwrap()
        .receipt(&answer.receipts);
    assert!(matches!(receipt, crate::payment::Receipt::Claimed(c) if c.transaction == Some(hash)));
    let denied = json!({"success": false, "errorReason": "insufficient_funds"});
    let mut failed = terms(1);
    failed["x402/payment-response"] = denied;
    let answer = read("tools/call", &error(402, failed)).unwrap();
    let receipt = crate::protocol::by_name("x402-v1")
        .unwrap()
        .receipt(&answer.receipts);
    assert!(
        matches!(receipt, crate::payment::Receipt::Denied { why, .. } if why == "insufficient_funds")
    );
}

fn header(name: &'static str, value: String) -> Payload {
    Payload {
        name: HeaderName::from_static(name),
        value: HeaderValue::try_from(value).unwrap(),
    }
}

/// The member that carries a payment to whoever answered so.
fn paid(answer: &Value, payload: &Payload) -> (&'static [&'static str], String) {
    let answer = read("tools/call", answer).unwrap();
    let call = call("tools/call").asked_for(answer.task, answer.form);
    member(payload, &call).unwrap()
}

#[test]
fn payments_travel_as_objects_or_as_whoever_asks_reads_them() {
    let json = r#"{"x402Version":2,"payload":{"n":1.50}}"#;
    let payload = header("payment-signature", STANDARD.encode(json));
    let text = format!("\"{}\"", STANDARD.encode(json));
    let content = |version| result(json!({"isError": true, "structuredContent": terms(version)}));
    let meta = |value: Value| result(json!({"isError": true, "_meta": {"x402/error": value}}));
    let waits = json!({"resultType": "payment_required", "paymentRequired": terms(1)});
    let both =
        json!({"isError": true, "structuredContent": terms(2), "_meta": {"x402/error": terms(2)}});
    for (asks, keys, value) in [
        (content(2), &["x402/payment"][..], json),
        (result(both), &["x402/payment"], json),
        (content(1), &["x402/payment", "x402.payment"], &*text),
        (meta(terms(2)), &["x402/payment"], &text),
        (meta(terms(1)), &["x402/payment"], &text),
        (
            meta(json!({"code": 402, "data": terms(1)})),
            &["x402/payment"],
            json,
        ),
        (result(waits), &["x402/payment"], json),
        (error(402, terms(1)), &["x402/payment"], json),
        (error(402, terms(2)), &["x402/payment"], json),
    ] {
        assert_eq!(paid(&asks, &payload), (keys, value.to_owned()), "{asks}");
    }
}

#[test]
fn a_credential_echoes_the_header_that_it_does_not_need() {
    let mut terms = mpp_terms();
    terms["challenges"][0]["header"] = json!("X-Shop-Payment");
    let read = read("tools/call", &error(-32042, terms.clone())).unwrap();
    let echo = read.challenge.unwrap().requirements[0].offer.entry.clone();
    let credential = format!(r#"{{"challenge":{echo},"payload":{{}},"source":"did"}}"#);
    let token = format!("Payment {}", URL_SAFE_NO_PAD.encode(credential));
    let asks = error(-32042, mpp_terms());
    let (_, text) = paid(&asks, &header("payment-authorization", token));
    let credential: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(credential["challenge"], terms["challenges"][0]);
}

#[test]
fn credentials_travel_as_objects() {
    let read = read("tools/call", &error(-32042, mpp_terms())).unwrap();
    let echo = read.challenge.unwrap().requirements[0].offer.entry.clone();
    let credential = format!(r#"{{"challenge":{echo},"payload":{{"n":1.50}},"source":"did"}}"#);
    let token = format!("Payment {}", URL_SAFE_NO_PAD.encode(credential));
    let asks = json!({"isError": true, "_meta": {"x402/error": terms(2)}});
    let (names, text) = paid(&result(asks), &header("authorization", token));
    let credential: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(names, ["org.paymentauth/credential"]);
    assert_eq!(credential["challenge"], mpp_terms()["challenges"][0]);
    assert!(
        text.contains(r#""opaque":"eyJvIjoxLjUwfQ""#) && text.contains(r#""payload":{"n":1.50}"#),
        "{text}"
    );
    let l402 = header("authorization", "L402 a:b".into());
    assert_eq!(member(&l402, &call("tools/call")), None);
}
