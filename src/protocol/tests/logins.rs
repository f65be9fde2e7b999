//! Logins: the text and the header of the official client, and what is never signed.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::evm::Address;
use crate::payment::{Asked, Session, SessionId, Tool};

use super::*;

const VECTOR: &str = include_str!("../../../tests/vectors/x402/signing/siwx-eip191.json");

fn vector() -> Value {
    serde_json::from_str(VECTOR).unwrap()
}

fn asked(host: &str, port: u16, secure: bool) -> Asked {
    let session = Session {
        id: SessionId("s".into()),
        agent: "a".into(),
        budget: crate::money::Usd(1),
        created: Timestamp(0),
        expires: Timestamp(u64::MAX),
    };
    Asked {
        session: Arc::new(session),
        method: http::Method::GET,
        secure,
        host: host.into(),
        port,
        path: "/premium-data".into(),
        request: None,
        trace: None,
        tool: Tool::None,
    }
}

/// What comes of the vector's question with these changes, asked at this time by the vector's account.
fn said(changes: &Value, asked: &Asked, seconds: u64) -> Result<Option<crate::evm::Login>, Reason> {
    let vector = vector();
    let mut info = vector["info"].clone();
    for name in ["chainId", "type"] {
        info.as_object_mut().unwrap().remove(name);
    }
    for (key, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => info.as_object_mut().unwrap().remove(key),
            value => info
                .as_object_mut()
                .unwrap()
                .insert(key.clone(), value.clone()),
        };
    }
    let chains = match info.as_object_mut().unwrap().remove("chains") {
        Some(chains) => chains,
        None => json!([{"chainId": "eip155:8453", "type": "eip191"}]),
    };
    let extensions = json!({"sign-in-with-x": {"info": info, "supportedChains": chains}});
    let json = challenge(
        json!([entry(json!({}))]),
        json!({"resource": null, "extensions": extensions}),
    );
    let value = STANDARD.encode(json.to_string());
    let head = parts(&[("payment-required", value.as_bytes())]);
    let challenge = read(&recognise(&head), &head, None);
    if challenge.requirements.is_empty() {
        return Err(challenge.problems[0].reason);
    }
    let address: Address = vector["address"].as_str().unwrap().parse().unwrap();
    let account = ("eip155:8453".parse().unwrap(), address);
    let now = Timestamp::from_secs(vector["now"].as_u64().unwrap() + seconds);
    login(&challenge, asked, (&account.0, account.1), now).map_err(|p| p.reason)
}

#[test]
fn a_login_is_that_of_the_official_client_byte_for_byte() {
    let vector = vector();
    let login = said(&json!({}), &asked("api.example.com", 443, true), 1)
        .unwrap()
        .unwrap();
    assert_eq!(login.text(), vector["message"].as_str().unwrap());
    let signature = vector["payload"]["signature"].as_str().unwrap();
    let signature: [u8; 65] = hex::decode(&signature[2..]).unwrap().try_into().unwrap();
    let header = login_header(&login, &Signature::Evm(signature)).unwrap();
    assert_eq!(header.value, vector["sdkHeader"].as_str().unwrap());
    assert!(header.value.is_sensitive());
    assert_eq!(header.name, "sign-in-with-x");

    // Without what may be left out, and with everything.
    let bare = json!({"statement": null, "resources": null});
    let text = said(&bare, &asked("api.example.com", 443, true), 1)
        .unwrap()
        .unwrap()
        .text();
    assert!(
        text.contains("79C8\n\n\nURI: https://api.example.com/premium-data\nVersion: 1\n"),
        "{text}"
    );
    assert!(
        text.ends_with("\nExpiration Time: 2027-01-15T08:05:00.000Z"),
        "{text}"
    );
    let full = json!({"requestId": "r-1", "notBefore": "2027-01-15T08:00:00Z"});
    let text = said(&full, &asked("api.example.com", 443, true), 1)
        .unwrap()
        .unwrap()
        .text();
    let end = "\nNot Before: 2027-01-15T08:00:00Z\nRequest ID: r-1\nResources:\n- https://api.example.com/premium-data";
    assert!(text.ends_with(end), "{text}");
}

#[test]
fn a_login_is_for_the_origin_that_was_asked() {
    let refused = Err(Reason::MessageSigningRefused);
    for (host, port, secure) in [
        ("api.example.org", 443, true),
        ("example.com", 443, true),
        ("x.api.example.com", 443, true),
        ("api.example.com", 8443, true),
        ("api.example.com", 80, false),
        ("api.example.com", 443, false),
    ] {
        let said = said(&json!({}), &asked(host, port, secure), 1);
        assert_eq!(said, refused, "{host}:{port} {secure}");
    }
    let there = asked("api.example.com", 443, true);
    for changes in [
        json!({"domain": "bank.example"}),
        json!({"domain": "api.example.com:443"}),
        json!({"domain": "api.example.com\nURI: https://bank.example"}),
        json!({"uri": "https://bank.example/"}),
        json!({"uri": "http://api.example.com/premium-data"}),
        json!({"uri": "https://api.example.com.evil.example/"}),
        json!({"uri": "https://api.example.com@evil.example/"}),
        json!({"uri": "https://api.example.com:444/"}),
        json!({"resources": ["https://api.example.com/a", "https://bank.example/"]}),
    ] {
        assert_eq!(said(&changes, &there, 1), refused, "{changes}");
    }
    let there = asked("api.example.com", 8443, true);
    let ported = json!({"domain": "api.example.com:8443", "uri": "https://api.example.com:8443", "resources": null});
    assert!(said(&ported, &there, 1).unwrap().is_some());
}

#[test]
fn a_login_is_short_plain_and_of_this_time() {
    let there = asked("api.example.com", 443, true);
    let refused = Err(Reason::MessageSigningRefused);
    let long = "x".repeat(600);
    for changes in [
        json!({"version": "2"}),
        json!({"nonce": "short"}),
        json!({"nonce": "with space and more"}),
        json!({"nonce": long}),
        json!({"statement": "I agree\nURI: https://bank.example"}),
        json!({"statement": "I agree\r"}),
        json!({"statement": "\u{202e}eerga I"}),
        json!({"statement": long}),
        json!({"requestId": "a b"}),
        json!({"resources": vec!["https://api.example.com/"; 9]}),
        json!({"expirationTime": null}),
        json!({"expirationTime": "2027-01-15T09:00:01Z"}),
        json!({"expirationTime": "2027-01-15"}),
        json!({"expirationTime": "2027-01-15T08:00:00Z"}),
        json!({"expirationTime": "soon"}),
        json!({"issuedAt": "2027-01-15T07:00:00Z"}),
        json!({"issuedAt": "2027-01-15T08:02:00Z"}),
        json!({"issuedAt": "never"}),
        json!({"issuedAt": "2027-01-15\n08:00:00Z"}),
        json!({"expirationTime": "2027-01-15\u{1b}08:04:00Z"}),
        json!({"notBefore": "2027-01-15\r08:00:00Z"}),
        json!({"notBefore": "2027-01-15T08:02:00Z"}),
        json!({"chains": [{"chainId": "eip155:1", "type": "eip191"}]}),
        json!({"chains": [{"chainId": "eip155:8453", "type": "ed25519"}]}),
        json!({"chains": []}),
    ] {
        assert_eq!(said(&changes, &there, 1), refused, "{changes}");
    }
    assert!(said(&json!({}), &there, 299).unwrap().is_some());
    assert_eq!(said(&json!({}), &there, 300), refused);
    assert_eq!(
        said(&json!({"statement": 7}), &there, 1),
        Err(Reason::MalformedChallenge)
    );
}
