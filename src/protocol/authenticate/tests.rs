//! Header lines, honest and not.

use super::*;

fn all(lines: &[&str]) -> Vec<Asks> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let value = http::HeaderValue::from_bytes(line.as_bytes()).unwrap();
        headers.append(header::WWW_AUTHENTICATE, value);
    }
    read(&headers)
}

/// `scheme(name=value;…)` per challenge; `scheme!` where it is broken, `scheme?` where it is doubled.
fn told(lines: &[&str]) -> String {
    let one = |asks: Asks| {
        let said = match asks.says {
            Ok(Says::Word(word)) => format!("<{word}>"),
            Ok(Says::Params(params)) => {
                let pairs = params.iter().map(|(k, v)| format!("{k}={v}"));
                format!("({})", pairs.collect::<Vec<_>>().join(";"))
            }
            Err(p) if p.reason == Reason::AmbiguousChallenge => "?".into(),
            Err(_) => "!".into(),
        };
        format!("{}{said}", asks.scheme)
    };
    all(lines)
        .into_iter()
        .map(one)
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn challenges_are_told_apart_by_grammar() {
    for (lines, expected) in [
        (&["Basic realm=\"x\""][..], "basic(realm=x)"),
        (&["Basic realm=x, Bearer"], "basic(realm=x) bearer()"),
        (
            &["Negotiate", "Basic  realm = x"],
            "negotiate() basic(realm=x)",
        ),
        (
            &["Negotiate YWJj==, L402 a=\"b\""],
            "negotiate<YWJj==> l402(a=b)",
        ),
        (&["A, B, C d=e ,, f=g ,\tH"], "a() b() c(d=e;f=g) h()"),
        (
            &["L402 macaroon=\"AGI==\", invoice=\"lnbc1\""],
            "l402(invoice=lnbc1;macaroon=AGI==)",
        ),
        (
            &["X a=\", Payment id=1\", b=\"\\\"\\\\\""],
            "x(a=, Payment id=1;b=\"\\)",
        ),
        (&["X ID=1, y=2"], "x(id=1;y=2)"),
        (&["X a="], "x<a=>"),
        (&["X a=\"\""], "x(a=)"),
        (&["", " , ,"], ""),
    ] {
        assert_eq!(told(lines), expected, "{lines:?}");
    }
}

#[test]
fn a_broken_challenge_ends_its_line_and_no_other() {
    for (lines, expected) in [
        (&["A b=\"c, D e=f"][..], "a!"),
        (&["A b=\"c\"d, E f=g"], "a!"),
        (&["A b=c d, E f=g", "E f=g"], "a! e(f=g)"),
        (&["A b=\"c\\"], "a!"),
        (&["A b=c, =d"], "a!"),
        (&["A b=c, \"Payment\" id=1"], "a!"),
        (&["A/b c=d", "E f=g"], "a! e(f=g)"),
        (&["\"A\" b=c"], ""),
        (&["A b=c, B=d, b=e, C f=g"], "a? c(f=g)"),
    ] {
        assert_eq!(told(lines), expected, "{lines:?}");
    }
}

#[test]
fn what_is_read_is_bounded() {
    let many = "A, ".repeat(1000);
    assert_eq!(all(&[&many, &many]).len(), CHALLENGES_MAX + 1);
    let long = format!("A b=\"{}\"", "x".repeat(LINE_MAX));
    assert_eq!(all(&[&long])[0].says, Err(too_large()));
    let params: Vec<_> = (0..=PARAMS_MAX).map(|n| format!("p{n}=1")).collect();
    let most = format!("A {}", params[1..].join(", "));
    assert!(all(&[&most])[0].says.is_ok());
    let over = format!("A {}", params.join(", "));
    assert_eq!(all(&[&over])[0].says, Err(too_large()));
}

#[test]
fn latin_1_is_read_as_what_it_was() {
    let mut headers = HeaderMap::new();
    for bytes in [&b"X a=\"Z\xfcrich\""[..], "X a=\"Zürich\"".as_bytes()] {
        let value = http::HeaderValue::from_bytes(bytes).unwrap();
        headers.append(header::WWW_AUTHENTICATE, value);
    }
    for asks in read(&headers) {
        assert_eq!(asks.says.unwrap().get("a"), Some("Zürich"));
    }
}

#[test]
fn characters_that_latin_1_has_not_are_read_as_they_were_meant() {
    for (written, meant) in [
        (r"caf\u00e9 \u2014 \u6771\u4EAC", "café — 東京"),
        (r"\ud83d\ude00!", "😀!"),
        (r"C:\\u2014", r"C:\u2014"),
        // No such character: quoted pairs, as ever.
        (r"\ud83d", "ud83d"),
        (r"\ud83d\u0041", "ud83dA"),
        (r"\ude00", "ude00"),
        (r"\u12", "u12"),
        (r"\u+123", "u+123"),
        (r"\u000a", "u000a"),
        (r"\x\q\U2014", "xqU2014"),
    ] {
        let line = format!("X a=\"{written}\", b=c");
        let read = all(&[&line]).remove(0).says.unwrap();
        assert_eq!(read.get("a"), Some(meant), "{written}");
        assert_eq!(read.get("b"), Some("c"), "{written}");
    }
    // What Latin-1 has is beside it as one byte.
    let mut headers = HeaderMap::new();
    let value = http::HeaderValue::from_bytes(b"X a=\"Z\xfcrich \\u2014 Gen\xe8ve\"").unwrap();
    headers.append(header::WWW_AUTHENTICATE, value);
    let read = read(&headers).remove(0).says.unwrap();
    assert_eq!(read.get("a"), Some("Zürich — Genève"));
}

#[test]
fn a_mention_is_found_in_any_case() {
    let headers = |line: &str| {
        let mut headers = HeaderMap::new();
        headers.append(header::WWW_AUTHENTICATE, line.parse().unwrap());
        headers
    };
    assert!(mentions(&headers("Basic realm=x, PAYMENT id=1"), "payment"));
    assert!(!mentions(&headers("Basic realm=x"), "payment"));
    assert!(!mentions(&HeaderMap::new(), "payment"));
}
