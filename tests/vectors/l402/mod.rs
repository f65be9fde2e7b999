//! L402: recorded challenges are read or refused for a named reason, and the recorded credentials made again.

use std::fs;
use std::path::Path;

use farepass::clock::Timestamp;
use farepass::money::{Asset, Fee, Usd};
use farepass::payment::{Challenge, Instruction, Nonce, PaymentId, Reason, Requirement, Signature};
use farepass::protocol::{self, Terms};
use http::{HeaderMap, header};
use serde_json::Value;

/// How much is asked on which network, or why nothing is paid.
type Read = Result<(u128, &'static str), Reason>;

/// What is made of each exchange.
const EXPECTED: &[(&str, Read)] = &[
    ("always-402", Ok((10_000, "lightning"))),
    ("amountless", Err(Reason::AmountInvalid)),
    ("aperture-two-lines", Ok((10_000, "lightning"))),
    ("bad-invoice", Err(Reason::InvoiceInvalid)),
    ("both-keys", Ok((10_000, "lightning"))),
    ("current-token-param", Ok((10_000, "lightning"))),
    ("expired-invoice", Err(Reason::ChallengeExpired)),
    ("foreign-hash", Err(Reason::TokenMismatch)),
    ("huge", Ok((50_000_000_000, "lightning"))),
    ("lightning-toll-get", Ok((10_000, "lightning"))),
    ("lightning-toll-post", Ok((10_000, "lightning"))),
    ("merged-line", Ok((10_000, "lightning"))),
    ("no-invoice", Err(Reason::MalformedChallenge)),
    ("opaque-token", Ok((10_000, "lightning"))),
    ("paid-500", Ok((10_000, "lightning"))),
    ("regtest-invoice", Ok((10_000, "lightning:regtest"))),
    ("sub-sat", Ok((1_500, "lightning"))),
];

fn exchange(name: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors/l402/exchanges")
        .join(format!("{name}.json"));
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

fn asked(exchange: &Value) -> Challenge {
    let response = &exchange["exchange"][0]["response"];
    assert_eq!(response["status"], 402);
    let mut head = http::Response::new(()).into_parts().0;
    head.status = http::StatusCode::PAYMENT_REQUIRED;
    let value = response["headers"]["www-authenticate"].as_str().unwrap();
    let mut headers = HeaderMap::new();
    headers.append(header::WWW_AUTHENTICATE, value.parse().unwrap());
    head.headers = headers;
    let speaking = protocol::recognise(&head);
    assert!(speaking.iter().any(|p| p.name() == "l402"));
    protocol::read(&speaking, &head, None)
}

fn bitcoin(requirement: &Requirement) -> Asset {
    Asset {
        network: requirement.network.clone(),
        address: "BTC".into(),
        symbol: "BTC".into(),
        decimals: 11,
        unit: Usd(60_000_000_000_000),
        eip712: None,
        eip3009: false,
        token_program: None,
        fee: Fee {
            least_msat: 1000,
            percent: 1,
        },
    }
}

/// When the exchange was recorded: as its invoice says.
fn then(exchange: &Value) -> Timestamp {
    let invoice = &exchange["decoded"]["invoice"];
    let unix = invoice["timestamp"].as_u64().unwrap();
    // What had expired then was an hour old.
    let late = exchange["name"] == "expired-invoice";
    Timestamp::from_secs(unix + if late { 3600 } else { 1 })
}

fn instruct(requirement: &Requirement, now: Timestamp) -> Result<Instruction, Reason> {
    let terms = Terms {
        requirement,
        asset: &bitcoin(requirement),
        payer: "main at lnbits",
        id: PaymentId(1),
        nonce: Nonce([0; 32]),
        now,
        valid_for: 60,
        blockhash: None,
        fee: farepass::money::Amount(20_000),
    };
    let protocol = protocol::by_name("l402").unwrap();
    protocol.instruct(&terms).map_err(|problem| problem.reason)
}

#[test]
fn every_recorded_challenge_is_read_or_refused_for_its_reason() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/l402/exchanges");
    assert_eq!(fs::read_dir(folder).unwrap().count(), EXPECTED.len());
    for (name, expected) in EXPECTED {
        let exchange = exchange(name);
        let challenge = asked(&exchange);
        let read = match (&*challenge.requirements, &*challenge.problems) {
            ([one], []) => instruct(one, then(&exchange))
                .map(|_| (one.amount.0, one.network.as_str().to_owned())),
            ([], [problem]) => Err(problem.reason),
            other => panic!("{name}: {other:?}"),
        };
        let expected = expected.map(|(amount, network)| (amount, network.to_owned()));
        assert_eq!(read, expected, "{name}");
    }
}

#[test]
fn recorded_credentials_are_made_again_to_the_byte() {
    let mut made = 0;
    for (name, expected) in EXPECTED {
        let exchange = exchange(name);
        let paid = &exchange["exchange"][1]["request"]["headers"]["authorization"];
        let (Some(recorded), Ok(_)) = (paid.as_str(), expected) else {
            continue;
        };
        let challenge = asked(&exchange);
        let requirement = &challenge.requirements[0];
        let instruction = instruct(requirement, then(&exchange)).unwrap();
        let (_, digits) = recorded.rsplit_once(':').unwrap();
        let mut preimage = [0; 32];
        hex::decode_to_slice(digits, &mut preimage).unwrap();
        let protocol = protocol::by_name("l402").unwrap();
        let sign = |preimage| {
            let signature = Signature::Preimage {
                preimage,
                fee_msat: None,
            };
            protocol.payload(requirement, &instruction, &signature, PaymentId(1))
        };
        let payload = sign(preimage).ok().unwrap();
        assert!(payload.name == header::AUTHORIZATION && payload.value.is_sensitive());
        // Of two lines we answer the newer one; the recorded client answered the first.
        let newer = recorded.replacen("LSAT ", "L402 ", 1);
        assert_eq!(payload.value, newer, "{name}");
        assert!(sign([1; 32]).is_err(), "{name}: that is no proof");
        made += 1;
    }
    assert_eq!(made, 10);
}
