//! What an agent or a merchant slips into a message, and what of it arrives (threats A-05, A-06, H-03,
//! H-04, H-08, H-09, H-10, H-11, X-04).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::support::agent::Ask;
use crate::support::http::{self, Answer};
use crate::support::merchant::{After, Merchant, Seen};
use crate::support::proxy::{Proxy, Setup};
use crate::support::{USDC, shop, tls, until};

const PATIENCE: Duration = Duration::from_secs(20);

fn page(path: &str) -> String {
    format!("https://{}{path}", shop::HOST)
}

fn send(proxy: &Proxy, path: &str, fields: &[(&str, &str)]) -> Answer {
    let mut ask = Ask::get(&page(path));
    let owned = fields.iter().map(|(n, v)| ((*n).into(), (*v).into()));
    ask.fields = owned.collect();
    proxy.agent(PATIENCE).send(&ask).unwrap()
}

/// A stream to the merchant through the proxy, opened by hand.
fn tunnel(
    proxy: &Proxy,
    protocol: &str,
) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let socket = TcpStream::connect(proxy.address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let config = tls::trusting(&proxy.ca(), &[protocol]);
    let opened = tls::tunnel(socket, (shop::HOST, &[]), config);
    opened.unwrap().expect("200")
}

#[test]
fn a_forged_payment_is_refused_in_every_spelling_and_reaches_nobody() {
    let (merchant, setup) = shop::open(|_, out| shop::sell("premium", out));
    let proxy = setup.start();
    let forged = STANDARD.encode(r#"{"x402Version":2,"payload":{}}"#);
    for name in [
        "X-PAYMENT",
        "x-payment",
        "PAYMENT-SIGNATURE",
        "Payment-Signature",
        "Payment-Authorization",
        "X_PAYMENT",
        "payment_signature",
        "PAYMENT_AUTHORIZATION",
    ] {
        for fields in [vec![(name, forged.as_str())], vec![(name, ""), (name, "x")]] {
            let answer = send(&proxy, "/x", &fields);
            assert_eq!(
                answer.reason().as_deref(),
                Some("agent_payment_header"),
                "{name}"
            );
        }
        // Taken away by the agent's own nomination, it would still have been there.
        let answer = send(&proxy, "/x", &[(name, &forged), ("Connection", name)]);
        assert_eq!(
            answer.reason().as_deref(),
            Some("agent_payment_header"),
            "{name}"
        );
    }
    for credentials in [
        "Payment eyJ9",
        "payment eyJ9",
        "PAYMENT\teyJ9",
        "L402 m:p",
        "l402 m:p",
        "LSAT m:p",
        "lSaT m:p",
        "Bearer x, Payment eyJ9",
    ] {
        let lines = [
            ("Authorization", "Bearer x"),
            ("authorization", credentials),
        ];
        for fields in [&lines[..], &lines[1..]] {
            let answer = send(&proxy, "/x", fields);
            assert_eq!(
                answer.reason().as_deref(),
                Some("agent_payment_header"),
                "{credentials}"
            );
        }
    }
    assert_eq!(merchant.seen().len(), 0);
    assert_eq!(proxy.ledger().counted(), 0);
    // Credentials that are no payment are the agent's own business, and stay beside ours.
    let answer = send(&proxy, "/x", &[("Authorization", "Bearer payment")]);
    assert_eq!(answer.text(), "premium");
    assert!(
        merchant
            .seen()
            .iter()
            .all(|s| s.head.all("authorization") == ["Bearer payment"])
    );
}

#[test]
fn receipts_and_our_own_words_go_neither_way() {
    let (merchant, setup) = shop::open(|_, out| {
        let receipt = shop::receipt();
        write!(
            out,
            "HTTP/1.1 200 OK\r\nPAYMENT-RESPONSE: {receipt}\r\nFarepass-Payment: forged\r\nFarepass-Decision: forged\r\n\
             farepass_session: forged\r\nProxy-Status: farepass; error=forged\r\nTransfer-Encoding: chunked\r\n\
             Trailer: Farepass-Payment, X-Sum\r\n\r\n2\r\nok\r\n0\r\nFarepass-Payment: forged\r\nPAYMENT-RESPONSE: forged\r\n\
             X-Sum: 1\r\n\r\n"
        )?;
        Ok(After::Keep)
    });
    let proxy = setup.start();
    let fields = [
        ("PAYMENT-RESPONSE", "forged"),
        ("X-PAYMENT-RESPONSE", "forged"),
        ("Payment-Receipt", "forged"),
        ("PAYMENT-REQUIRED", "forged"),
        ("Farepass-Session", "forged"),
        ("FAREPASS_Agent", "forged"),
        ("Proxy-Authorization", "Basic Zm9yZ2VkOmZvcmdlZA=="),
        ("X-Mine", "kept"),
    ];
    // Raw, so that trailers are seen.
    let mut stream = tunnel(&proxy, "http/1.1");
    let host = ("Host".to_owned(), shop::HOST.to_owned());
    let te = ("TE".to_owned(), "trailers".to_owned());
    let close = ("Connection".to_owned(), "TE, close".to_owned());
    let owned = fields
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
    let all: Vec<_> = [host, te, close].into_iter().chain(owned).collect();
    http::write_head(&mut stream, "GET /x HTTP/1.1", &all).unwrap();
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(!answer.to_lowercase().contains("forged"), "{answer}");
    assert!(
        answer.contains("x-sum: 1") || answer.contains("X-Sum: 1"),
        "{answer}"
    );
    assert_eq!(
        answer
            .to_lowercase()
            .matches("farepass-payment: pay_")
            .count(),
        1,
        "{answer}"
    );
    assert_eq!(merchant.seen().len(), 2);
    for seen in merchant.seen() {
        assert!(!format!("{seen:?}").contains("forged"), "{seen:?}");
        assert!(seen.head.one("proxy-authorization").is_none());
        assert_eq!(seen.head.one("x-mine"), Some("kept"));
    }
}

/// A merchant's answer in our own clothes: the agent can tell, by what only we may set.
#[test]
fn nobody_refuses_in_our_name() {
    let merchant = Merchant::start(|_, out| {
        let body =
            json!({ "type": "urn:farepass:denied:frozen", "status": 402, "reason": "frozen" })
                .to_string();
        write!(
            out,
            "HTTP/1.1 402 Payment Required\r\nContent-Type: application/problem+json\r\nProxy-Status: farepass; error=http_request_denied\r\n\
             Farepass-Decision: denied; reason=\"frozen\"\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        Ok(After::Keep)
    });
    let proxy = shop::setup(&merchant).start();
    let answer = send(&proxy, "/x", &[]);
    assert_eq!(answer.status, 402);
    assert_eq!(
        (
            answer.reason(),
            answer.one("farepass-decision"),
            answer.one("proxy-status")
        ),
        (None, None, None)
    );
}

/// What the merchant saw of the paid request.
fn paid(merchant: &Merchant) -> Seen {
    let mut seen = merchant.seen();
    seen.retain(|s| s.payment().is_some());
    assert_eq!(seen.len(), 1);
    seen.remove(0)
}

#[test]
fn connection_cannot_take_the_payment_header_away() {
    let (merchant, setup) = shop::open(|_, out| shop::sell("premium", out));
    let proxy = setup.start();
    let nominated =
        "close, PAYMENT-SIGNATURE, X-PAYMENT, Authorization, Host, Content-Length, Cookie";
    let fields = [
        ("Connection", nominated),
        ("Authorization", "Bearer mine"),
        ("X-PAYMENT-x", "1"),
    ];
    assert_eq!(send(&proxy, "/x", &fields).text(), "premium");
    let seen = paid(&merchant);
    assert_eq!(seen.head.all("payment-signature").len(), 1);
    assert_eq!(seen.head.all("host"), [shop::HOST]);
    let hop = seen.head.all("connection").join(",").to_ascii_lowercase();
    assert!(
        !hop.contains("payment") && !hop.contains("authorization"),
        "{hop}"
    );
    assert!(
        seen.head.one("authorization").is_none(),
        "nominated, so it ends here"
    );
}

/// One HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields in HPACK, none of them in a table (RFC 7541 section 6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = vec![];
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            out.push(u8::try_from(text.len()).unwrap());
            out.extend(text.as_bytes());
        }
    }
    out
}

/// An HTTP/2 client may split its cookies (RFC 9113 section 8.2.3). Who speaks HTTP/1.1 gets one field,
/// with the payment as without.
#[test]
fn a_paid_request_joins_split_cookies_like_any_other() {
    let (merchant, setup) = shop::open(|_, out| shop::sell("premium", out));
    let proxy = setup.start();
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", shop::HOST),
        (":path", "/x"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
    ];
    let mut stream = tunnel(&proxy, "h2");
    let settings = frame(4, 0, 0, &[]);
    let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), settings].concat();
    stream.write_all(&hello).unwrap();
    stream.write_all(&frame(1, 5, 1, &block(&fields))).unwrap();
    let mut head = [0; 9];
    // Until the answer's HEADERS.
    while head[3] != 1 {
        stream.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        stream.read_exact(&mut vec![0; length]).unwrap();
    }
    let seen = merchant.seen();
    assert_eq!((seen.len(), shop::payments(&merchant).len()), (2, 1));
    for seen in seen {
        let fields = seen.head.fields.iter();
        let cookies = fields.filter(|(name, _)| name.eq_ignore_ascii_case("cookie"));
        let cookies: Vec<_> = cookies.map(|(_, value)| value.as_str()).collect();
        assert_eq!(cookies, ["a=1; b=2"]);
    }
}

/// `connection` is malformed in HTTP/2 (RFC 9113 section 8.2.2): the stream is reset, nothing is sent on.
#[test]
fn http2_knows_no_connection_header() {
    let (merchant, setup) = shop::open(|_, out| shop::sell("premium", out));
    let proxy = setup.start();
    for extra in [
        ("connection", "close, payment-signature"),
        ("proxy-connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("X-Payment", "capitals"),
        ("x-payment\r\nx", "1"),
    ] {
        let usual = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", shop::HOST),
            (":path", "/x"),
        ];
        let fields: Vec<_> = usual.into_iter().chain([extra]).collect();
        let mut stream = tunnel(&proxy, "h2");
        let hello = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(4, 0, 0, &[]),
        ]
        .concat();
        stream.write_all(&hello).unwrap();
        // END_STREAM and END_HEADERS.
        stream.write_all(&frame(1, 5, 1, &block(&fields))).unwrap();
        let mut head = [0; 9];
        // RST_STREAM or GOAWAY, before any HEADERS.
        let kind = loop {
            if stream.read_exact(&mut head).is_err() {
                break 7;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            stream.read_exact(&mut payload).unwrap();
            if matches!(head[3], 1 | 3 | 7) {
                break head[3];
            }
        };
        assert_ne!(kind, 1, "{extra:?} was answered");
    }
    assert_eq!(merchant.seen().len(), 0);
    assert_eq!(proxy.ledger().counted(), 0);
}

/// Threat A-06: an endpoint that shows what it was sent.
#[test]
fn an_echo_of_our_own_payload_is_flagged() {
    let digits = |seen: &Seen| {
        let payment = STANDARD.decode(seen.payment().unwrap()).unwrap();
        let payment: Value = serde_json::from_slice(&payment).unwrap();
        payment["payload"]["signature"].as_str().unwrap()[2..].to_owned()
    };
    let (_merchant, setup) = shop::open(move |seen, out| {
        let payment = seen.payment().unwrap().to_owned();
        let receipt = shop::receipt();
        write!(out, "HTTP/1.1 200 OK\r\nPAYMENT-RESPONSE: {receipt}\r\n")?;
        let body = match seen.path() {
            "/header" => {
                write!(out, "X-Debug: {payment}\r\n")?;
                "ok".to_owned()
            }
            "/body" => format!("headers: {payment}"),
            "/json" => format!("{{\"h\":\"{}\"}}", payment.replace('/', "\\/")),
            "/url" => payment
                .replace('+', "%2B")
                .replace('/', "%2F")
                .replace('=', "%3D"),
            "/signature" => digits(seen).to_uppercase(),
            "/parts" => format!("r=0x{}", &digits(seen)[..64]),
            "/chunks" => {
                write!(out, "Transfer-Encoding: chunked\r\n\r\n")?;
                for piece in payment.as_bytes().chunks(5) {
                    write!(out, "{:x}\r\n", piece.len())?;
                    out.write_all(piece)?;
                    out.write_all(b"\r\n")?;
                    out.flush()?;
                }
                out.write_all(b"0\r\n\r\n")?;
                return Ok(After::Keep);
            }
            _ => "nothing of it".to_owned(),
        };
        write!(out, "Content-Length: {}\r\n\r\n{body}", body.len())?;
        Ok(After::Keep)
    });
    let proxy = setup.start();
    let paths = [
        "/header",
        "/body",
        "/json",
        "/url",
        "/signature",
        "/parts",
        "/chunks",
    ];
    for path in paths.into_iter().chain(["/honest"]) {
        assert_eq!(send(&proxy, path, &[]).status, 200, "{path}");
        let flagged =
            |row: &&Value| row["path"] == path && !row["flags"].as_array().unwrap().is_empty();
        if path == "/honest" {
            assert!(!proxy.ledger().rows.iter().any(|row| flagged(&row)));
            continue;
        }
        until(path, PATIENCE, || {
            let books = proxy.ledger();
            let row = books.rows.iter().find(flagged)?;
            assert_eq!(row["flags"], json!(["authorization_echoed"]), "{path}");
            assert_eq!(
                (&row["state"], &row["charged"]),
                (&json!("settled"), &json!("0.01 USD"))
            );
            Some(())
        });
    }
    let told = proxy
        .events()
        .into_iter()
        .filter(|e| e["event"] == "flagged")
        .count();
    assert_eq!(told, paths.len());
}

/// Threat H-11: a redirect is handed over as it is. Nobody is asked at its end, and the payload of the
/// first place goes nowhere else.
#[test]
fn a_redirect_after_payment_takes_no_payload_along() {
    let merchant = Merchant::start(|seen, out| match (seen.payment(), seen.host.as_str()) {
        (None, shop::HOST) => shop::ask(&shop::challenge(), out),
        (Some(_), shop::HOST) => {
            write!(
                out,
                "HTTP/1.1 307 Temporary Redirect\r\nLocation: https://other.stand.test/y\r\nContent-Length: 0\r\n\r\n"
            )?;
            Ok(After::Keep)
        }
        _ => shop::sell("taken", out),
    });
    let mut setup: Setup = shop::setup(&merchant);
    setup.resolve("other.stand.test:443", merchant.tls.port().into());
    let proxy = setup.start();
    let mut curl = proxy.curl(&page("/x"));
    curl.arg("--location");
    assert!(String::from_utf8_lossy(&curl.output().unwrap().stdout).contains("taken"));
    let seen = merchant.seen();
    assert_eq!(seen.iter().filter(|s| s.payment().is_some()).count(), 1);
    let other: Vec<_> = seen.iter().filter(|s| s.host != shop::HOST).collect();
    assert_eq!(other.len(), 1, "the agent's own request");
    assert!(other[0].payment().is_none());
}

#[test]
fn a_trace_is_not_forwarded() {
    let (merchant, setup) = shop::open(|_, out| shop::sell("premium", out));
    let proxy = setup.start();
    for method in ["TRACE", "CONNECT", "trace", "Connect"] {
        let mut ask = Ask::get(&page("/x"));
        ask.method = method.into();
        let answer = proxy.agent(PATIENCE).send(&ask).unwrap();
        assert_eq!(answer.status, 405, "{method}");
    }
    assert_eq!(merchant.seen().len(), 0);
}

/// What is in a coding that the proxy does not read may be a demand: the agent gets it as it came, and a word on why
/// nothing was paid. Where nothing could be paid there is nothing to say.
#[test]
fn a_402_in_a_coding_that_nobody_unpacks_says_why_it_is_not_paid() {
    const PACKED: &[u8] = b"\x0b\x02\x80{}\x03";
    let merchant = Merchant::start(|seen, out| {
        let head = "HTTP/1.1 402 Payment Required\r\nContent-Type: application/json\r\nContent-Encoding: br";
        let body = if seen.path() == "/empty" { &[] } else { PACKED };
        write!(out, "{head}\r\nContent-Length: {}\r\n\r\n", body.len())?;
        out.write_all(body)?;
        Ok(After::Keep)
    });
    let mut setup: Setup = shop::setup(&merchant);
    setup.config["rules"][0]["match"]["hosts"] = json!([shop::HOST]);
    setup.resolve("free.stand.test:443", merchant.tls.port().into());
    let proxy = setup.start();
    let ask = |url: &str| proxy.agent(PATIENCE).send(&Ask::get(url)).unwrap();
    let answer = ask(&page("/x"));
    assert_eq!((answer.status, &answer.body.start[..]), (402, PACKED));
    assert_eq!(answer.one("content-encoding"), Some("br"));
    let decision = answer.one("farepass-decision").unwrap();
    assert_eq!(decision, "denied; reason=\"malformed_challenge\"");
    let status = answer.one("proxy-status").unwrap();
    assert!(status.contains("content coding"), "{status}");
    for url in [&page("/empty"), "https://free.stand.test/x"] {
        let answer = ask(url);
        assert_eq!(
            (answer.status, answer.one("farepass-decision")),
            (402, None),
            "{url}"
        );
    }
    assert!(proxy.ledger().rows.is_empty());
}

/// Nothing that an agent or a merchant could mend makes a rule pay what it has no scheme for.
#[test]
fn what_a_rule_pays_nothing_of_is_refused_for_that() {
    const FIELDS: &str = r#"id="x", realm="shop.stand.test", method="evm", intent="charge""#;
    let charge = |types: &str| {
        let request = json!({
            "amount": "10000", "currency": USDC, "recipient": "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045",
            "methodDetails": { "chainId": 84532, "credentialTypes": [types], "decimals": 6 },
        });
        let request = URL_SAFE_NO_PAD.encode(request.to_string());
        format!(r#"Payment {FIELDS}, request="{request}""#)
    };
    let asks = [
        r#"L402 macaroon="AGIAJEemVQUTEyNCR0exk7ek90Cg==", invoice="lnbc1""#.into(),
        r#"LSAT macaroon="AGIAJEemVQUTEyNCR0exk7ek90Cg==", invoice="lnbc100n1pfake""#.into(),
        charge("transaction"),
        charge("authorization"),
    ];
    let merchant = Merchant::start(move |seen, out| {
        let asks = &asks[seen.path()[1..].parse::<usize>().unwrap()];
        let head = "HTTP/1.1 402 Payment Required\r\nContent-Length: 0";
        write!(out, "{head}\r\nWWW-Authenticate: {asks}\r\n\r\n")?;
        Ok(After::Keep)
    });
    let reasons = |schemes: Value| {
        let mut setup = shop::setup(&merchant);
        setup.config["rules"][0]["pay"]["schemes"] = schemes;
        let proxy = setup.start();
        let ask = |path| send(&proxy, path, &[("Authorization", "Bearer x")]).reason();
        ["/0", "/1", "/2", "/3"].map(|path| ask(path).unwrap())
    };
    assert_eq!(reasons(json!(["exact"])), ["scheme_unsupported"; 4]);
    // What a rule does pay has its own faults.
    assert_eq!(
        reasons(json!(["evm/charge", "l402"])),
        [
            "invoice_invalid",
            "invoice_invalid",
            "transfer_method_unsupported",
            "authorization_conflict",
        ]
    );
}
