//! Calls, and what only looks like one.

use super::*;

fn call(body: &str) -> Option<Call> {
    Call::read(body.as_bytes())
}

fn paid(body: &str) -> String {
    let with = call(body)
        .unwrap()
        .with(body.as_bytes(), &["k"], "{\"p\":1}");
    String::from_utf8(with.unwrap()).unwrap()
}

fn question(body: &str) -> Vec<u8> {
    let call = call(body).unwrap();
    call.question(body.as_bytes()).collect::<Vec<_>>().concat()
}

#[test]
fn a_payment_is_put_in_and_nothing_else_is_changed() {
    for (before, after) in [
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"n":1.10e2,"z":0,"a":0}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"k":{"p":1}},"name":"a","arguments":{"n":1.10e2,"z":0,"a":0}}}"#,
        ),
        (
            "\n { \"params\" : { \"_meta\" : { \"progressToken\" : 7 } , \"name\":\"\\u0061\" } ,\"method\":\"prompts/get\",\"id\":\"x\",\"jsonrpc\":\"2.0\"} \n",
            "\n { \"params\" : { \"_meta\" : {\"k\":{\"p\":1}, \"progressToken\" : 7 } , \"name\":\"\\u0061\" } ,\"method\":\"prompts/get\",\"id\":\"x\",\"jsonrpc\":\"2.0\"} \n",
        ),
        (
            r#"{"jsonrpc":"2.0","id":0,"method":"resources/read","params":{"uri":"a:b","_meta":{ }}}"#,
            r#"{"jsonrpc":"2.0","id":0,"method":"resources/read","params":{"uri":"a:b","_meta":{"k":{"p":1} }}}"#,
        ),
    ] {
        assert_eq!(paid(before), after);
        let json: serde_json::Value = serde_json::from_str(after).unwrap();
        assert_eq!(json["params"]["_meta"]["k"]["p"], 1);
    }
}

#[test]
fn a_payment_of_two_names_is_put_in_under_both() {
    let before = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}"#;
    let with = call(before).unwrap();
    let with = with.with(before.as_bytes(), &["k", "l"], "\"p\"").unwrap();
    let after = r#""params":{"_meta":{"k":"p","l":"p"},"name":"a"}}"#;
    let with = String::from_utf8(with).unwrap();
    assert!(with.ends_with(after), "{with}");
}

#[test]
fn what_is_no_single_call_is_none() {
    let whole = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}"#;
    assert!(call(whole).is_some());
    assert!(call(&format!("[{whole}]")).is_none());
    assert!(call(&format!("{whole}{whole}")).is_none());
    for (from, to) in [
        (r#""id":1,"#, ""),
        (r#""id":1"#, r#""id":null"#),
        (r#""id":1"#, r#""id":1.5"#),
        (r#""id":1"#, r#""id":1,"id":2"#),
        (r#""id":1"#, r#""id":1,"\u0069d":2"#),
        (r#""2.0""#, r#""1.0""#),
        ("tools/call", "tools/list"),
        (r#""name":"a""#, ""),
        (r#""name":"a""#, r#""name":"a","name":"b""#),
        (r#""name":"a""#, r#""name":7"#),
        (r#""name":"a""#, r#""name":"a","_meta":null"#),
        (r#""name":"a""#, r#""name":"a","_meta":[]"#),
        (r#"{"name":"a"}"#, r#"["a"]"#),
        (r#""name":"a""#, r#""name":"a","Name":"b""#),
        (r#""name":"a""#, r#""name":"a","\u004eame":"b""#),
        (r#""name":"a""#, r#""name":"a","_Meta":{}"#),
        (r#""id":1"#, r#""id":1,"Params":{"name":"b"}"#),
        (r#""id":1"#, r#""id":1,"param\u017f":{"name":"b"}"#),
        (r#""id":1"#, r#""id":1,"METHOD":"tools/list""#),
    ] {
        let other = whole.replace(from, to);
        assert_ne!(other, whole);
        assert!(call(&other).is_none(), "{other}");
        let another = other.contains(r#""method":"tools/list""#);
        assert_eq!(may_call(other.as_bytes()), !another, "{other}");
    }
    // What a tool is given may have names of any kind.
    let given = whole.replace(r#""a""#, r#""a","arguments":{"n":1,"N":2}"#);
    assert!(call(&given).is_some());
}

#[test]
fn what_may_be_a_call_to_some_server_is_told_from_what_is_none() {
    for call in [
        "\u{feff}{\"method\":\"tools/list\"}",
        r#"[{"method":"tools/list"}]"#,
        r#"{"Method":"tools/call","params":{"name":"a"}}"#,
        r#"{"method":"Tools/Call"}"#,
        r#"{"method":"tools\/call"}"#,
        r#"{"method":"tools/list","Method":"tools/call"}"#,
        r#"{"method":["tools/call"]}"#,
        r#"{"method":"tools/list"} {}"#,
        r#"{"method":"tools/list",}"#,
        "method=tools/call",
        "\u{1f}\u{8b}",
        " ",
    ] {
        assert!(may_call(call.as_bytes()), "{call}");
    }
    assert!(may_call(b"{\"a\":\"\xff\"}"));
    let many = format!("{{\"input\":[{}0]}}", "0,".repeat(20_000));
    let deep = format!("{{\"q\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
    for none in [
        "",
        &many,
        &deep,
        r#"{"amount":1,"method":{"type":"card"}}"#,
        r#"{"method":7}"#,
        r#"{"method":null}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"method":"tools/call"}}"#,
        r#"{"query":"x","Query":{"a":[1,{"A":2}]}}"#.replace("Query", "more").as_str(),
        " {} \n",
    ] {
        assert!(!may_call(none.as_bytes()), "{none}");
    }
}

#[test]
fn a_call_may_bring_as_much_as_it_likes() {
    for arguments in [
        format!("[{}0]", "0,".repeat(20_000)),
        format!("{}{}", "[".repeat(5_000), "]".repeat(5_000)),
        format!("{{{}\"a\":0}}", "\"a\":0,".repeat(20_000)),
    ] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"a","arguments":{arguments}}}}}"#
        );
        let call = call(&body).unwrap();
        assert_eq!(call.tool(), Tool::Named("a".into()));
    }
    // But not as many members of its own: each of them is looked at.
    let members = |count: usize| {
        let more: String = (0..count).map(|n| format!("\"{n}\":0,")).collect();
        format!(r#"{{{more}"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"a"}}}}"#)
    };
    assert!(call(&members(9_000)).is_some());
    assert!(call(&members(10_000)).is_none());
}

#[test]
fn a_resource_in_another_spelling_may_be_any() {
    let tool = |method: &str, name: &str| {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"name":"{name}","uri":"{name}"}}}}"#
        );
        call(&body).unwrap().tool()
    };
    let named = |name: &str| Tool::Named(name.into());
    assert_eq!(tool("resources/read", "docs://a"), named("docs://a"));
    let doubtful = Tool::Doubtful("DOCS://a".into());
    assert_eq!(tool("resources/read", "DOCS://a"), doubtful);
    assert_eq!(doubtful.name(), Some("DOCS://a"));
    assert_eq!(tool("tools/call", "DOCS://a"), named("DOCS://a"));
    assert_eq!(tool("prompts/get", "a b"), named("a b"));
}

#[test]
fn the_same_question_is_known_by_everything_but_its_number() {
    let ask = |id: &str, token: &str, name: &str, n: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"_meta":{{"progressToken":{token}}},"name":"{name}","arguments":{{"id":{n}}}}}}}"#
        )
    };
    let one = question(&ask("1", "1", "a", "5"));
    assert_eq!(question(&ask("2", "\"t\"", "a", "5")), one);
    let traced = |span: &str| {
        let trace = format!(
            r#"1,"baggage":"b={span}","traceparent":"00-a-{span}-01","tracestate":"s={span}""#
        );
        question(&ask("1", &trace, "a", "5"))
    };
    assert_eq!(traced("1"), traced("2"));
    assert_ne!(question(&ask("1", "1", "b", "5")), one);
    assert_ne!(question(&ask("1", "1", "a", "6")), one);
    assert!(String::from_utf8(one).unwrap().contains(r#""id":5"#));
}

#[test]
fn a_payment_of_the_agents_own_is_found_wherever_it_would_count() {
    for carried in [
        r#"{"id":1,"params":{"_meta":{"x402/payment":{}}}}"#,
        r#"[{"params":{"_meta":{"a":{},"org.paymentauth/credential":{}}}}]"#,
        r#"{"params":{"_meta":{"x402.payment":"e30="}}}"#,
        r#"{"_meta":{"\u0078402/payment":1}}"#,
        r#"{"_meta":{},"_meta":{"x402/payment":1}}"#,
        r#"{"params":{"message":{"metadata":{"x402.payment.payload":{}}}}}"#,
        r#"{"params":{"_Meta":{"X402/Payment":{}}}}"#,
        r#"{"params":{"_META":{"org.PaymentAuth/credential":{}}}}"#,
        r#"{"params":{"message":{"MetaData":{"X402.payment.payload":{}}}}}"#,
    ] {
        assert!(carries_payment(carried.as_bytes()), "{carried}");
    }
    for free in [
        r#"{"params":{"arguments":{"x402/payment":{}}}}"#,
        r#"{"params":{"_meta":{"x":["x402/payment"],"y":{"x402/payment":1}}}}"#,
        r#"{"params":{"_meta":{"x402/paymentx":1},"text":"\"_meta\":{\"x402/payment\":1}"}}"#,
        r#"{"_meta":[{"x402/payment":1}]}"#,
        "{\"_meta\":{\"x402/payment",
        "",
    ] {
        assert!(!carries_payment(free.as_bytes()), "{free}");
    }
    assert!(!carries_payment(
        &[b"x402".as_slice(), &[b'['; 100_000]].concat()
    ));
}
