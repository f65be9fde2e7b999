//! Messages of A2A and what agents answer, honest and not.

use http::StatusCode;
use serde_json::{Value, json};

use crate::protocol::jsonrpc::{Call, carries_payment};
use crate::protocol::mcp::{Answer, Form};

const USDC: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const SELLER: &str = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";

fn request(message: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"message/send","params":{{"configuration":{{"n":1.0}},"message":{message}}}}}"#
    )
}

fn call(message: &str) -> Option<Call> {
    Call::read(request(message).as_bytes())
}

fn terms() -> Value {
    json!({"x402Version": 2, "resource": {"url": "https://a.example/x"},
        "accepts": [{"scheme": "exact", "network": "eip155:84532", "amount": "10000", "asset": USDC,
            "payTo": SELLER, "maxTimeoutSeconds": 60, "extra": {"name": "USDC", "version": "2"}}]})
}

fn status(state: &str, metadata: Value) -> Value {
    json!({"state": state, "message": {"kind": "message", "role": "agent", "messageId": "m",
        "parts": [], "metadata": metadata}})
}

fn demand() -> Value {
    json!({"x402.payment.status": "payment-required", "x402.payment.required": terms()})
}

fn read(result: Value) -> Option<Answer> {
    let call = call(r#"{"messageId":"a","parts":[]}"#).unwrap();
    let answer = json!({"jsonrpc": "2.0", "id": 7, "result": result});
    Answer::read(&call, answer.to_string().as_bytes())
}

#[test]
fn a_payment_goes_with_the_same_message_to_the_task() {
    for (before, after) in [
        (
            r#"{"messageId":"a","parts":[{"kind":"text","text":"x"}]}"#,
            r#"{"taskId":"t\"1","metadata":{"x402.payment.status":"payment-submitted","x402.payment.payload":{"p":1}},"messageId":"a-paid","parts":[{"kind":"text","text":"x"}]}"#,
        ),
        (
            r#"{ "taskId":"old", "parts":[], "metadata":{}, "messageId":"\u0061" }"#,
            r#"{ "taskId":"t\"1", "parts":[], "metadata":{"x402.payment.status":"payment-submitted","x402.payment.payload":{"p":1}}, "messageId":"a-paid" }"#,
        ),
        (
            r#"{"messageId":"a","metadata":{"k":[1]},"parts":[]}"#,
            r#"{"taskId":"t\"1","messageId":"a-paid","metadata":{"x402.payment.status":"payment-submitted","x402.payment.payload":{"p":1},"k":[1]},"parts":[]}"#,
        ),
    ] {
        let whole = request(before);
        let call = call(before).unwrap();
        assert_eq!((&*call.name, &*call.id_text), ("message/send", "7"));
        assert_eq!(call.with(whole.as_bytes(), &["k"], "{}"), None, "no task");
        let paid = call.asked_for(Some("t\"1".into()), Form::Text);
        let paid = paid.with(whole.as_bytes(), &["x402/payment"], r#"{"p":1}"#);
        let paid = String::from_utf8(paid.unwrap()).unwrap();
        assert_eq!(paid, request(after));
        assert!(carries_payment(paid.as_bytes()), "not from an agent");
    }
}

#[test]
fn what_is_no_plain_message_is_none() {
    for message in [
        r#"{"parts":[]}"#,
        r#"{"messageId":7}"#,
        r#"{"messageId":"a","taskId":7}"#,
        r#"{"messageId":"a","metadata":[]}"#,
        r#"{"messageId":"a","metadata":{"x402.payment.status":"payment-rejected"}}"#,
        r#"{"messageId":"a","messageId":"b"}"#,
        r#"["a"]"#,
    ] {
        assert!(call(message).is_none(), "{message}");
    }
}

#[test]
fn the_same_message_is_known_by_everything_but_its_name() {
    let question = |message: &str| {
        let (whole, call) = (request(message), call(message).unwrap());
        call.question(whole.as_bytes()).collect::<Vec<_>>().concat()
    };
    let one = question(r#"{"messageId":"a","parts":["x"]}"#);
    assert_eq!(question(r#"{"messageId":"b","parts":["x"]}"#), one);
    assert_ne!(question(r#"{"messageId":"a","parts":["y"]}"#), one);
    assert_ne!(
        question(r#"{"messageId":"a","taskId":"t","parts":["x"]}"#),
        one
    );
}

#[test]
fn a_task_that_waits_for_money_is_a_demand_and_others_are_not() {
    let task = |state: &str, metadata: Value| json!({"kind": "task", "id": "t1", "contextId": "c", "status": status(state, metadata)});
    let update = json!({"kind": "status-update", "taskId": "t1", "final": true, "status": status("input-required", demand())});
    for asks in [task("input-required", demand()), update] {
        let answer = read(asks).unwrap();
        assert_eq!(answer.challenge.unwrap().requirements.len(), 1);
        assert_eq!(answer.status, StatusCode::PAYMENT_REQUIRED);
        assert_eq!(answer.task.as_deref(), Some("t1"));
    }
    let mut nameless = task("input-required", demand());
    nameless["id"] = json!(7);
    let quoted = json!({"kind": "message", "metadata": demand(), "parts": [{"kind": "data", "data": demand()}]});
    for free in [
        task("completed", demand()),
        task("input-required", json!({"x402.payment.required": terms()})),
        task(
            "input-required",
            json!({"x402.payment.status": "payment-required"}),
        ),
        task("input-required", Value::Null),
        nameless,
        quoted,
        demand(),
        json!([task("input-required", demand())]),
    ] {
        let answer = read(free.clone());
        assert!(answer.is_none_or(|a| a.challenge.is_none()), "{free}");
    }
}

#[test]
fn only_what_ends_the_call_is_its_answer() {
    let update = |state: &str, metadata: Value| json!({"kind": "status-update", "taskId": "t", "status": status(state, metadata)});
    let said = |word: &str| json!({"x402.payment.status": word});
    for (result, status) in [
        (update("submitted", json!({})), None),
        (update("working", said("payment-verified")), None),
        (json!({"kind": "artifact-update", "taskId": "t"}), None),
        (
            json!({"kind": "task", "id": "t", "status": {"state": "working"}}),
            None,
        ),
        (update("completed", said("payment-completed")), Some(200)),
        (update("working", said("payment-completed")), Some(200)),
        (update("input-required", json!({})), Some(200)),
        (update("failed", said("payment-failed")), Some(402)),
        (update("failed", json!({})), Some(500)),
        (update("rejected", json!({})), Some(500)),
        (json!({"kind": "message", "parts": []}), Some(200)),
    ] {
        let answer = read(result.clone());
        assert_eq!(answer.map(|a| a.status.as_u16()), status, "{result}");
    }
}

#[test]
fn a_task_that_was_paid_for_may_bring_whatever_it_likes() {
    let metadata = json!({"x402.payment.receipts": [{"success": true, "transaction": "0x1"}]});
    let result = json!({"kind": "task", "id": "t", "status": status("completed", metadata),
        "artifacts": vec![1; 20_000]});
    let message = json!({"jsonrpc": "2.0", "id": 7, "result": result});
    let call = call(r#"{"messageId":"m"}"#).unwrap();
    let answer = Answer::bought(&call, message.to_string().as_bytes()).unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.receipts.contains_key("payment-response"));
}

#[test]
fn the_last_receipt_is_that_of_the_payment() {
    let receipt = |n: u8| json!({"success": true, "transaction": format!("0x{n}")});
    let metadata = json!({"x402.payment.status": "payment-completed", "x402.payment.receipts": [receipt(1), receipt(2)]});
    let answer = read(json!({"kind": "task", "id": "t", "status": status("completed", metadata)}));
    let headers = answer.unwrap().receipts;
    let value = headers["payment-response"].to_str().unwrap();
    let json = crate::protocol::encoding::decode(&value.parse().unwrap()).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), receipt(2));
    for odd in [json!([]), json!({}), json!("x"), Value::Null] {
        let metadata = json!({"x402.payment.receipts": odd});
        let answer = read(json!({"kind": "message", "metadata": metadata})).unwrap();
        assert!(answer.receipts.is_empty());
    }
}
