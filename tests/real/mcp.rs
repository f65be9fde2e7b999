//! Payments asked for inside JSON-RPC bodies (MCP), by a scripted server: paid where a rule says `mcp: true`,
//! once, and for nothing that only looks like a demand.

use std::io::{self, Write};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::agent::Ask;
use crate::support::chain::Transfer;
use crate::support::http::Answer;
use crate::support::merchant::{After, Merchant, Seen};
use crate::support::proxy::{Proxy, Setup};
use crate::support::shop;
use crate::support::until;

const LONG: Duration = Duration::from_secs(20);

/// The terms of the shop, for a tool.
fn terms() -> Value {
    let mut terms = shop::challenge();
    terms["resource"]["url"] = json!("mcp://tool/search");
    terms
}

/// The same in version 1.
fn terms_of_version_1() -> Value {
    let mut entry = shop::challenge()["accepts"][0].take();
    entry["network"] = json!("base-sepolia");
    entry["maxAmountRequired"] = entry["amount"].take();
    entry["resource"] = json!("mcp://tool/search");
    entry["mimeType"] = json!("application/json");
    json!({ "x402Version": 1, "error": "Payment required", "accepts": [entry] })
}

/// A tool result that asks for money.
fn demand() -> Value {
    let text = terms().to_string();
    json!({ "isError": true, "structuredContent": terms(), "content": [{ "type": "text", "text": text }] })
}

/// A paid one.
fn goods() -> Value {
    let receipt = json!({ "success": true, "transaction": format!("0x{}", "5a".repeat(32)), "network": "eip155:84532" });
    json!({ "content": [{ "type": "text", "text": "sold" }], "_meta": { "x402/payment-response": receipt } })
}

fn message(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body.start).unwrap_or(Value::Null)
}

fn payment(seen: &Seen) -> Option<Value> {
    let payment = message(seen)["params"]["_meta"]["x402/payment"].clone();
    (!payment.is_null()).then_some(payment)
}

fn answer(seen: &Seen, result: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": message(seen)["id"], "result": result })
}

fn page(out: &mut dyn Write, kind: &str, body: &str) -> io::Result<After> {
    let length = body.len();
    write!(
        out,
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    Ok(After::Keep)
}

fn events(out: &mut dyn Write, events: &[String]) -> io::Result<After> {
    out.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    for event in events {
        write!(out, "{:x}\r\n{event}\r\n", event.len())?;
        out.flush()?;
    }
    out.write_all(b"0\r\n\r\n")?;
    Ok(After::Keep)
}

fn event(message: &Value) -> String {
    format!("event: message\nid: e1\ndata: {message}\n\n")
}

/// Answers in the form that the path names.
fn reply(seen: &Seen, out: &mut dyn Write, result: &Value) -> io::Result<After> {
    let message = answer(seen, result);
    let note = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progress": 1 } });
    match seen.path() {
        "/events" => events(out, &[event(&message)]),
        "/whole" => page(out, "text/event-stream", &event(&message)),
        "/progress" => events(
            out,
            &[
                ":\n".into(),
                event(&note),
                event(&message),
                ": end\n\n".into(),
            ],
        ),
        // As a gateway sends it that waits for the end: the length of all of it in front.
        "/counted" => page(out, "text/event-stream", &(event(&note) + &event(&message))),
        "/mixed" if payment(seen).is_none() => events(out, &[event(&note), event(&message)]),
        _ => page(out, "application/json", &message.to_string()),
    }
}

/// A server that wants money for every call, and what it says to those who pay.
fn server(
    paid: impl Fn(&Seen, &mut dyn Write) -> io::Result<After> + Send + Sync + 'static,
) -> (Merchant, Setup) {
    scripted(move |seen, out| match payment(seen) {
        Some(_) => paid(seen, out),
        None => reply(seen, out, &demand()),
    })
}

fn scripted(
    script: impl Fn(&Seen, &mut dyn Write) -> io::Result<After> + Send + Sync + 'static,
) -> (Merchant, Setup) {
    let merchant = Merchant::start(script);
    let mut setup = shop::setup(&merchant);
    setup.config["rules"][0]["pay"]["mcp"] = json!(true);
    (merchant, setup)
}

fn call(id: &Value, tool: &str) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool, "arguments": {} } })
        .to_string()
}

fn post(proxy: &Proxy, path: &str, body: &str) -> Answer {
    post_by("https", proxy, path, body)
}

fn post_by(scheme: &str, proxy: &Proxy, path: &str, body: &str) -> Answer {
    let mut ask = Ask::get(&format!("{scheme}://{}{path}", shop::HOST));
    ask.method = "POST".into();
    ask.body = body.as_bytes().to_vec();
    let fields = [
        ("Content-Type", "application/json"),
        ("Accept", "application/json, text/event-stream"),
        ("Authorization", "Bearer the agent's own"),
    ];
    ask.fields.extend(fields.map(|(n, v)| (n.into(), v.into())));
    proxy.agent(LONG).send(&ask).unwrap()
}

/// The message of an answer of either form.
fn told(answer: &Answer) -> Value {
    let text = answer.text();
    let data = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("data: "));
    serde_json::from_str(data.unwrap_or(&text)).unwrap_or_else(|e| panic!("{e}: {answer:?}"))
}

/// The payments that the server saw, each of them signed by us.
fn payments(merchant: &Merchant, proxy: &Proxy) -> Vec<Value> {
    let seen = merchant.seen();
    let paid: Vec<_> = seen.iter().filter_map(payment).collect();
    for payment in &paid {
        let transfer = Transfer::of(payment).unwrap();
        assert!(transfer.from.eq_ignore_ascii_case(&proxy.payer()));
    }
    paid
}

fn row(proxy: &Proxy, state: &str) -> Value {
    until("the row", LONG, || {
        let row = proxy.ledger().rows.first()?.clone();
        (row["state"] == state).then_some(row)
    })
}

fn assert_nothing_paid(merchant: &Merchant, proxy: &Proxy) {
    assert!(payments(merchant, proxy).is_empty());
    assert!(merchant.seen().iter().all(|seen| seen.payment().is_none()));
    assert_eq!(proxy.ledger().counted(), 0);
}

#[test]
fn a_tool_is_bought_in_every_form_of_answer() {
    for path in [
        "/json",
        "/events",
        "/whole",
        "/progress",
        "/mixed",
        "/counted",
    ] {
        let (merchant, setup) = server(|seen, out| reply(seen, out, &goods()));
        let proxy = setup.start();
        let body = r#"{ "jsonrpc":"2.0", "params":{"name":"search","arguments":{"z":1.50,"a":"\u00e9"}},"method":"tools/call","id":41 }"#;
        let answer = post(&proxy, path, body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let message = told(&answer);
        assert_eq!(
            message["result"]["content"][0]["text"], "sold",
            "{path}: {message}"
        );
        assert_eq!(message["id"], 41);
        assert_eq!(payments(&merchant, &proxy).len(), 1, "{path}");
        let [first, second] = &merchant.seen()[..] else {
            panic!("{path}: asked twice")
        };
        // Nothing but the payment was added, and the length is right.
        assert_eq!(first.body.start, body.as_bytes(), "{path}");
        let sent = String::from_utf8(second.body.start.clone()).unwrap();
        let (head, tail) = sent.split_once(r#""_meta":{"x402/payment":{"#).unwrap();
        let tail = tail.split_once(r#"}},"name":"search","#).unwrap().1;
        assert_eq!(format!(r#"{head}"name":"search",{tail}"#), body, "{path}");
        assert_eq!(second.head.all("content-length"), [sent.len().to_string()]);
        assert_eq!(
            second.head.one("authorization"),
            Some("Bearer the agent's own")
        );
        let row = until("all of it in the books", LONG, || {
            let row = row(&proxy, "settled");
            row["delivery"]["digest"].is_string().then_some(row)
        });
        assert_eq!(row["receipt"], "claimed", "{path}: {row}");
        assert_eq!(
            (&row["flags"], &row["protocol"]),
            (&json!([]), &json!("x402-v2"))
        );
        assert_eq!(proxy.ledger().sum(&["settled"]), 10_000);
        let text = answer.text();
        match path {
            "/json" | "/events" | "/whole" => {
                let header = answer.one("farepass-payment").unwrap();
                assert!(header.contains("; transaction=\"0x5a"), "{header}");
            }
            _ => {
                assert!(text.contains("notifications/progress"), "{path}: {text}");
                assert!(text.contains(": farepass-payment: "), "{path}: {text}");
                assert_eq!(
                    answer.one("content-length"),
                    None,
                    "{path}: it is another body"
                );
            }
        }
        assert!(
            !text.contains("structuredContent"),
            "{path}: the demand is not handed on"
        );
        // The same again is another purchase.
        let again = post(&proxy, path, &body.replace("41", "42"));
        assert_eq!(told(&again)["id"], 42);
        assert_eq!(payments(&merchant, &proxy).len(), 2);
    }
}

/// Kits whose servers take a payment as the text of its header, and nothing else: where they have it, what they ask
/// with and what they say once it is paid.
#[test]
fn a_server_that_reads_text_is_paid_with_text() {
    let mut cloudflare = terms();
    cloudflare["resource"]["url"] = json!("x402://search");
    let meta = json!({ "isError": true, "_meta": { "x402/error": cloudflare } });
    let content = json!({ "isError": true, "structuredContent": terms_of_version_1() });
    let kits = [
        ("x402/payment", &meta, "x402/payment-response"),
        ("x402/payment", &content, "x402/payment-response"),
        ("x402.payment", &content, "x402.payment-response"),
    ];
    for (key, asks, receipt) in kits {
        let taken = move |seen: &Seen| {
            let text = message(seen)["params"]["_meta"][key].as_str()?.to_owned();
            let json = STANDARD.decode(text).ok()?;
            serde_json::from_slice::<Value>(&json).ok()
        };
        let (asks, paid) = (
            asks.clone(),
            json!({ "success": true, "transaction": format!("0x{}", "5a".repeat(32)),
            "network": terms_of_version_1()["accepts"][0]["network"] }),
        );
        let (merchant, setup) = scripted(move |seen, out| match taken(seen) {
            Some(_) => reply(
                seen,
                out,
                &json!({ "content": [{ "type": "text", "text": "sold" }], "_meta": { receipt: paid } }),
            ),
            None => reply(seen, out, &asks),
        });
        let proxy = setup.start();
        for path in ["/json", "/events"] {
            let answer = post(&proxy, path, &call(&json!(1), "search"));
            let said = told(&answer);
            assert_eq!(
                said["result"]["content"][0]["text"], "sold",
                "{key}: {said}"
            );
        }
        let seen = merchant.seen();
        assert_eq!(seen.len(), 4, "{key}: paid at once");
        for payment in seen.iter().filter_map(taken) {
            let transfer = Transfer::of(&payment).unwrap();
            assert!(transfer.from.eq_ignore_ascii_case(&proxy.payer()));
        }
        let books = until("both in the books", LONG, || {
            let books = proxy.ledger();
            (books.sum(&["settled"]) == 20_000).then_some(books)
        });
        for row in &books.rows {
            assert_eq!(
                (&row["receipt"], &row["flags"]),
                (&json!("claimed"), &json!([])),
                "{row}"
            );
        }
        // One that an agent brings by itself goes nowhere.
        let own = call(&json!(3), "search").replace(
            "{\"arguments",
            &format!("{{\"_meta\":{{\"{key}\":\"e30=\"}},\"arguments"),
        );
        assert!(own.contains(key));
        let said = told(&post(&proxy, "/json", &own));
        assert_eq!(
            said["error"]["data"]["reason"], "agent_payment_header",
            "{said}"
        );
        assert_eq!(merchant.seen().len(), 4);
    }
}

/// A stream that has begun has no coding, so what goes on in it must have none.
#[test]
fn what_goes_on_in_a_stream_is_asked_for_without_a_coding() {
    for stubborn in [false, true] {
        let (merchant, setup) = server(move |seen, out| {
            let message = answer(seen, &goods()).to_string();
            let accepted = seen.head.one("accept-encoding").unwrap_or_default();
            if !stubborn && !accepted.contains("gzip") {
                return page(out, "application/json", &message);
            }
            let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
            packed.write_all(message.as_bytes())?;
            let packed = packed.finish()?;
            let length = packed.len();
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip";
            write!(out, "{head}\r\nContent-Length: {length}\r\n\r\n")?;
            out.write_all(&packed)?;
            Ok(After::Keep)
        });
        let proxy = setup.start();
        let mut ask = Ask::get(&format!("https://{}/mixed", shop::HOST));
        ask.method = "POST".into();
        ask.body = call(&json!(1), "search").into_bytes();
        let fields = [
            ("Content-Type", "application/json"),
            ("Accept-Encoding", "gzip"),
        ];
        ask.fields.extend(fields.map(|(n, v)| (n.into(), v.into())));
        let answer = proxy.agent(LONG).send(&ask).unwrap();
        let message = told(&answer);
        match stubborn {
            false => assert_eq!(
                message["result"]["content"][0]["text"], "sold",
                "{answer:?}"
            ),
            true => assert!(message["error"].is_object(), "readable: {answer:?}"),
        }
        assert_eq!(payments(&merchant, &proxy).len(), 1);
    }
}

#[test]
fn resources_and_prompts_are_bought_too() {
    for (method, name) in [("resources/read", "uri"), ("prompts/get", "name")] {
        let (merchant, setup) = scripted(|seen, out| match payment(seen) {
            Some(_) => reply(seen, out, &goods()),
            None => reply(
                seen,
                out,
                &json!({ "resultType": "payment_required", "paymentRequired": terms() }),
            ),
        });
        let proxy = setup.start();
        let body =
            json!({ "jsonrpc": "2.0", "id": "a", "method": method, "params": { name: "docs:x" } });
        let answer = post(&proxy, "/events", &body.to_string());
        assert_eq!(
            told(&answer)["result"]["content"][0]["text"],
            "sold",
            "{method}"
        );
        assert_eq!(payments(&merchant, &proxy).len(), 1);
        assert_eq!(row(&proxy, "settled")["path"], "/events");
    }
}

#[test]
fn without_the_key_bodies_are_never_looked_into() {
    let (merchant, mut setup) = server(|seen, out| reply(seen, out, &goods()));
    setup.config["rules"][0]["pay"]["mcp"] = json!(false);
    let proxy = setup.start();
    for path in ["/json", "/events", "/progress"] {
        let answer = post(&proxy, path, &call(&json!(1), "search"));
        assert_eq!(told(&answer)["result"], demand(), "{path}");
        assert_eq!(answer.one("farepass-decision"), None);
    }
    assert_nothing_paid(&merchant, &proxy);
}

#[test]
fn a_refusal_is_the_error_of_a_json_rpc_answer() {
    let (merchant, mut setup) = server(|seen, out| reply(seen, out, &goods()));
    setup.config["rules"][0]["pay"]["max"] = json!("0.001 USD");
    setup.config["rules"][0]["match"]["tools"] = json!(["search"]);
    let proxy = setup.start();
    for path in ["/json", "/events", "/progress"] {
        let answer = post(&proxy, path, &call(&json!("x"), "search"));
        let message = told(&answer);
        assert_eq!(
            (answer.status, &message["id"]),
            (200, &json!("x")),
            "{path}"
        );
        assert_eq!(message["error"]["code"], -32090, "{path}: {message}");
        assert_eq!(message["error"]["data"]["reason"], "over_request_cap");
        assert_eq!(message["error"]["data"]["rule"], "stand");
        let message = message["error"]["message"].as_str().unwrap();
        assert!(message.contains("0.01 USD"), "{message}");
        if path != "/progress" {
            let decision = answer.one("farepass-decision").unwrap();
            assert!(decision.contains("over_request_cap"), "{decision}");
        }
    }
    // Another tool is of no rule: the server's own words.
    let answer = post(&proxy, "/json", &call(&json!(1), "other"));
    assert_eq!(told(&answer)["result"], demand());
    assert_nothing_paid(&merchant, &proxy);
}

#[test]
fn the_servers_own_demand_is_handed_over_where_refusals_say_so() {
    let (merchant, mut setup) = server(|seen, out| reply(seen, out, &goods()));
    setup.config["rules"][0]["pay"]["max"] = json!("0.001 USD");
    setup.config["refusals"] = json!({ "body": "original" });
    let proxy = setup.start();
    let answer = post(&proxy, "/events", &call(&json!(1), "search"));
    assert_eq!(told(&answer)["result"], demand());
    assert!(
        answer
            .one("farepass-decision")
            .unwrap()
            .contains("over_request_cap")
    );
    assert_nothing_paid(&merchant, &proxy);
}

#[test]
fn what_is_no_demand_for_this_call_passes_as_it_is() {
    let text = |text: String| json!([{ "type": "text", "text": text }]);
    let quoted = text(terms().to_string());
    for (name, said) in [
        (
            "a text that quotes a demand",
            json!({ "id": 1, "result": { "content": quoted } }),
        ),
        (
            "an error that quotes one",
            json!({ "id": 1, "result": { "isError": true, "content": quoted } }),
        ),
        (
            "terms that are no error",
            json!({ "id": 1, "result": { "structuredContent": terms() } }),
        ),
        ("another id", json!({ "id": 2, "result": demand() })),
        (
            "an id of another kind",
            json!({ "id": "1", "result": demand() }),
        ),
        ("no id", json!({ "result": demand() })),
        (
            "a request of the server",
            json!({ "id": 1, "method": "sampling/createMessage", "params": demand() }),
        ),
        (
            "a batch",
            json!([{ "jsonrpc": "2.0", "id": 1, "result": demand() }]),
        ),
        (
            "MCP's own question",
            json!({ "id": 1, "error": { "code": -32042, "message": "m", "data": { "elicitations": [] } } }),
        ),
    ] {
        let mut said = said;
        if let Some(message) = said.as_object_mut() {
            message.insert("jsonrpc".into(), json!("2.0"));
        }
        let body = said.to_string();
        let (merchant, setup) = scripted(move |seen, out| match seen.path() {
            "/events" => events(out, &[format!("data: {body}\n\n")]),
            _ => page(out, "application/json", &body),
        });
        let proxy = setup.start();
        for path in ["/json", "/events"] {
            let answer = post(&proxy, path, &call(&json!(1), "search"));
            assert_eq!(told(&answer), said, "{name}");
            assert_eq!(answer.one("farepass-decision"), None, "{name}");
        }
        assert_nothing_paid(&merchant, &proxy);
        assert_eq!(merchant.seen().len(), 2, "{name}");
    }
}

#[test]
fn requests_that_are_no_single_call_pass_unpaid() {
    let (merchant, mut setup) = scripted(|seen, out| {
        let id = message(seen)["id"].clone();
        let said = json!({ "jsonrpc": "2.0", "id": if id.is_null() { json!(1) } else { id }, "result": demand() });
        page(out, "application/json", &said.to_string())
    });
    setup.config["limits"] = json!({ "replay_body": "64 KiB" });
    let proxy = setup.start();
    let one = call(&json!(1), "search");
    let huge = one.replace(
        "\"arguments\":{}",
        &format!("\"arguments\":{{\"x\":\"{}\"}}", "y".repeat(100_000)),
    );
    for body in [
        format!("[{one}]"),
        one.replace(r#""id":1,"#, ""),
        one.replace(r#""id":1"#, r#""id":1,"id":1"#),
        one.replace(r#""name":"search""#, r#""name":"search","name":"search""#),
        one.replace("tools/call", "tools/list"),
        one[..one.len() - 1].to_owned(),
        "\u{feff}{}".into(),
        String::new(),
        huge.clone(),
    ] {
        let answer = post(&proxy, "/json", &body);
        assert_eq!(told(&answer)["result"], demand(), "{body:.200}");
    }
    let seen = merchant.seen();
    assert_eq!(seen.last().unwrap().body.length, huge.len() as u64);
    assert_nothing_paid(&merchant, &proxy);
}

#[test]
fn an_answer_that_is_too_long_passes_unpaid() {
    let (merchant, mut setup) = scripted(|seen, out| {
        let mut said = answer(seen, &demand());
        said["result"]["padding"] = json!("x".repeat(100_000));
        match seen.path() {
            "/events" => events(out, &[event(&said)]),
            _ => page(out, "application/json", &said.to_string()),
        }
    });
    setup.config["limits"] = json!({ "challenge_body": "64 KiB" });
    let proxy = setup.start();
    for path in ["/json", "/events"] {
        let answer = post(&proxy, path, &call(&json!(1), "search"));
        assert_eq!(
            told(&answer)["result"]["structuredContent"],
            terms(),
            "{path}"
        );
    }
    assert_nothing_paid(&merchant, &proxy);
}

#[test]
fn an_agents_own_payment_is_refused_and_goes_nowhere() {
    let (merchant, setup) = server(|seen, out| reply(seen, out, &goods()));
    let proxy = setup.start();
    let mut own: Value = serde_json::from_str(&call(&json!(5), "search")).unwrap();
    own["params"]["_meta"] = json!({ "x402/payment": { "x402Version": 2 } });
    let answer = post(&proxy, "/json", &own.to_string());
    let message = told(&answer);
    assert_eq!((answer.status, &message["id"]), (200, &json!(5)));
    assert_eq!(
        message["error"]["data"]["reason"], "agent_payment_header",
        "{message}"
    );
    // In a batch there is nobody to answer to.
    let answer = post(&proxy, "/json", &format!("[{own}]"));
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (402, Some("agent_payment_header"))
    );
    assert!(merchant.seen().is_empty());
    assert_eq!(proxy.ledger().counted(), 0);
}

#[test]
fn a_second_demand_is_not_paid() {
    for path in ["/json", "/events", "/progress"] {
        let (merchant, setup) = server(|seen, out| reply(seen, out, &demand()));
        let proxy = setup.start();
        let answer = post(&proxy, path, &call(&json!(1), "search"));
        let message = told(&answer);
        assert_eq!(
            message["error"]["data"]["reason"], "already_paid",
            "{path}: {message}"
        );
        assert_eq!(payments(&merchant, &proxy).len(), 1);
        // Whoever asks again, under another number, is answered with the same payload.
        let answer = post(&proxy, path, &call(&json!(2), "search"));
        assert_eq!(told(&answer)["id"], 2);
        let paid = payments(&merchant, &proxy);
        assert_eq!(paid.len(), 2, "{path}");
        assert_eq!(paid[0], paid[1], "{path}");
        assert_eq!(proxy.ledger().counted(), 10_000);
        // Another question is another purchase.
        post(&proxy, path, &call(&json!(3), "other"));
        let paid = payments(&merchant, &proxy);
        assert_ne!(paid[2], paid[0], "{path}");
        assert_eq!(proxy.ledger().counted(), 20_000);
    }
}

#[test]
fn an_answer_that_breaks_off_is_asked_for_again_with_the_same_payment() {
    let goods_later = |seen: &Seen, out: &mut dyn Write| match message(seen)["id"].as_u64() {
        Some(1) => {
            let begun = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            let note = event(&json!({ "jsonrpc": "2.0", "method": "notifications/progress" }));
            let note = if seen.path() == "/progress" {
                note
            } else {
                String::new()
            };
            match note.is_empty() {
                true => write!(out, "{begun}")?,
                false => write!(out, "{begun}{:x}\r\n{note}\r\n", note.len())?,
            }
            Ok(After::Close)
        }
        _ => reply(seen, out, &goods()),
    };
    for path in ["/events", "/progress"] {
        let (merchant, setup) = server(goods_later);
        let proxy = setup.start();
        let answer = post(&proxy, path, &call(&json!(1), "search"));
        assert_eq!(
            told(&answer)["error"]["data"]["reason"],
            "outcome_unknown",
            "{answer:?}"
        );
        let answer = post(&proxy, path, &call(&json!(2), "search"));
        assert_eq!(
            told(&answer)["result"]["content"][0]["text"],
            "sold",
            "{answer:?}"
        );
        let paid = payments(&merchant, &proxy);
        assert_eq!(paid.len(), 2, "{path}");
        assert_eq!(paid[0], paid[1], "{path}");
        row(&proxy, "settled");
        assert_eq!(proxy.ledger().counted(), 10_000);
        proxy.assert_verifies();
    }
}

/// A stream whose end cuts its last event off: without its blank line, or in the middle of one.
fn cut_off(seen: &Seen, out: &mut dyn Write, result: &Value) -> io::Result<After> {
    let last = event(&answer(seen, result));
    let last = last.strip_suffix('\n').unwrap();
    let note = event(&json!({ "jsonrpc": "2.0", "method": "notifications/progress" }));
    match seen.path() {
        "/closed" => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
            write!(out, "{head}Connection: close\r\n\r\n{last}")?;
            Ok(After::Close)
        }
        "/line" => events(out, &[last.trim_end().into()]),
        _ => events(out, &[note, last.into()]),
    }
}

/// Whoever reads events throws such a one away, so nobody asks with it.
#[test]
fn an_event_that_does_not_end_asks_for_nothing() {
    let (merchant, setup) = scripted(|seen, out| cut_off(seen, out, &demand()));
    let proxy = setup.start();
    for path in ["/closed", "/line", "/later"] {
        let answer = post(&proxy, path, &call(&json!(1), "search"));
        assert_eq!(told(&answer)["result"], demand(), "{path}: {answer:?}");
    }
    assert_eq!(merchant.seen().len(), 3);
    assert_nothing_paid(&merchant, &proxy);
}

/// Some clients take it all the same, and so it is handed over with what its receipt says.
#[test]
fn what_was_paid_for_is_delivered_in_an_event_that_does_not_end() {
    for path in ["/closed", "/line", "/later"] {
        let (merchant, setup) = server(|seen, out| cut_off(seen, out, &goods()));
        let proxy = setup.start();
        let answer = post(&proxy, path, &call(&json!(1), "search"));
        let text = answer.text();
        assert!(text.contains("sold"), "{path}: {text}");
        assert_eq!(row(&proxy, "settled")["receipt"], "claimed", "{path}");
        assert_eq!(payments(&merchant, &proxy).len(), 1, "{path}");
    }
}

/// What a tool has to say may be long, deep and of many parts, whatever is read of a demand.
#[test]
fn a_large_answer_is_delivered_and_its_receipt_is_read() {
    let rows = json!(vec![[1.5, 2.5, 3.5, 4.5, 5.5, 6.5]; 1_900]);
    let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
    for content in [rows, deep] {
        for path in ["/json", "/events", "/progress"] {
            let content = content.clone();
            let (merchant, setup) = server(move |seen, out| {
                let mut goods = goods();
                goods["structuredContent"] = content.clone();
                reply(seen, out, &goods)
            });
            let proxy = setup.start();
            let answer = post(&proxy, path, &call(&json!(1), "search"));
            let text = answer.text();
            assert!(
                text.contains("sold") && !text.contains("-32090"),
                "{path}: {text:.200}"
            );
            let row = row(&proxy, "settled");
            assert_eq!(
                (&row["receipt"], &row["flags"]),
                (&json!("claimed"), &json!([])),
                "{path}: {row}"
            );
            // The next one is another purchase.
            post(&proxy, path, &call(&json!(2), "search"));
            let paid = payments(&merchant, &proxy);
            assert_eq!(paid.len(), 2, "{path}");
            assert_ne!(paid[0], paid[1], "{path}");
        }
    }
}

/// What cannot be read here was delivered all the same, and no second answer to one call is made up.
#[test]
fn an_answer_that_cannot_be_read_is_delivered() {
    type Body = fn(&Seen) -> String;
    let twice: Body = |seen| {
        let said = answer(seen, &goods()).to_string();
        said.replace("\"result\":", "\"id\":1,\"result\":")
    };
    let long: Body = |seen| {
        let mut said = answer(seen, &goods());
        said["result"]["padding"] = json!("x".repeat(100_000));
        said.to_string()
    };
    for (name, body) in [("twice", twice), ("long", long)] {
        for path in ["/json", "/events", "/progress"] {
            let (merchant, mut setup) = server(move |seen, out| match seen.path() {
                "/json" => page(out, "application/json", &body(seen)),
                "/events" => events(out, &[format!("data: {}\n\n", body(seen))]),
                _ => events(out, &[":\n".into(), format!("data: {}\n\n", body(seen))]),
            });
            setup.config["limits"] = json!({ "challenge_body": "64 KiB" });
            let proxy = setup.start();
            let answer = post(&proxy, path, &call(&json!(1), "search"));
            let text = answer.text();
            assert!(
                text.contains("sold") && !text.contains("-32090"),
                "{name} {path}: {text:.200}"
            );
            let row = until("all of it in the books", LONG, || {
                let row = row(&proxy, "unknown");
                row["delivery"]["digest"].is_string().then_some(row)
            });
            assert_eq!(
                (&row["delivery"]["status"], &row["flags"]),
                (&json!(200), &json!([])),
                "{name} {path}: {row}"
            );
            post(&proxy, path, &call(&json!(2), "search"));
            let paid = payments(&merchant, &proxy);
            assert_eq!(paid.len(), 2, "{name} {path}");
            assert_ne!(paid[0], paid[1], "{name} {path}: another purchase");
        }
    }
}

/// A server of HTTP/1.0 ends what it says with its connection; JSON has an end of its own.
#[test]
fn an_answer_that_ends_with_its_connection_is_read() {
    let (merchant, mut setup) = server(|seen, out| {
        let said = answer(seen, &goods());
        write!(
            out,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{said}"
        )?;
        Ok(After::Close)
    });
    setup.config["rules"][0]["pay"]["insecure_http"] = json!(true);
    let proxy = setup.start();
    let answer = post_by("http", &proxy, "/json", &call(&json!(1), "search"));
    assert_eq!(told(&answer)["result"]["content"][0]["text"], "sold");
    let row = row(&proxy, "settled");
    assert_eq!(
        (&row["receipt"], &row["flags"]),
        (&json!("claimed"), &json!([])),
        "{row}"
    );
    assert_eq!(payments(&merchant, &proxy).len(), 1);
}

#[test]
fn an_error_after_the_payment_reaches_the_agent_and_is_flagged() {
    let (merchant, setup) = server(|seen, out| {
        let said = json!({ "jsonrpc": "2.0", "id": message(seen)["id"], "error": { "code": -32603, "message": "broken" } });
        page(out, "application/json", &said.to_string())
    });
    let proxy = setup.start();
    let answer = post(&proxy, "/json", &call(&json!(1), "search"));
    assert_eq!(told(&answer)["error"]["message"], "broken");
    let row = row(&proxy, "unknown");
    assert_eq!(row["flags"], json!(["paid_not_delivered"]), "{row}");
    post(&proxy, "/json", &call(&json!(2), "search"));
    let paid = payments(&merchant, &proxy);
    assert_eq!((paid.len(), &paid[0]), (2, &paid[1]));
    assert_eq!(proxy.ledger().counted(), 10_000);
}
