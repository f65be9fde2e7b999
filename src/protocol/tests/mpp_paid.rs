//! What is signed for an MPP challenge, how it is sent, and what is read of the receipt.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::mpp_read::{line, only, request};
use super::*;
use crate::protocol::mpp::Mpp;

fn asset() -> Asset {
    let all = crate::money::canonical_assets().into_iter();
    let mut all = all.filter(|a| a.network.as_str() == "eip155:84532");
    all.find(|a| a.is(USDC)).unwrap()
}

fn terms<'a>(requirement: &'a Requirement, asset: &'a Asset, valid_for: u64) -> Terms<'a> {
    Terms {
        requirement,
        asset,
        payer: BUYER,
        id: PaymentId(1),
        nonce: Nonce([7; 32]),
        now: Timestamp::from_secs(1_800_000_000),
        valid_for,
        blockhash: None,
        fee: crate::money::Amount(20_000),
    }
}

#[test]
fn nothing_is_signed_that_the_table_of_assets_contradicts_or_that_is_over() {
    let text = request(json!({"methodDetails": {"chainId": 84532, "decimals": 18,
        "credentialTypes": ["authorization"]}}));
    let asset = asset();
    let odd = only(&line(&text.to_string(), &[]));
    let problem = Mpp.instruct(&terms(&odd, &asset, 60)).unwrap_err();
    assert_eq!(problem.reason, Reason::AssetNotAllowed);
    let good = only(&line(&request(json!({})).to_string(), &[]));
    for seconds in [0, 1] {
        let problem = Mpp.instruct(&terms(&good, &asset, seconds)).unwrap_err();
        assert_eq!(problem.reason, Reason::ChallengeExpired);
    }
    let signed = Mpp.instruct(&terms(&good, &asset, 2)).unwrap();
    let Instruction::Transfer(transfer) = &signed else {
        panic!("no transfer")
    };
    assert_eq!(
        (transfer.valid_after, transfer.valid_before),
        (0, 1_800_000_002)
    );
    assert_eq!(signed.nonce().0, crate::evm::keccak(b"x1api.example.com"));
    for (changes, reason) in [
        (json!({"recipient": BUYER}), Reason::RecipientInvalid),
        (json!({"recipient": USDC}), Reason::RecipientInvalid),
        (json!({"recipient": "merchant"}), Reason::RecipientInvalid),
        (json!({"currency": SELLER}), Reason::AssetNotAllowed),
    ] {
        let offer = only(&line(&request(changes).to_string(), &[]));
        let problem = Mpp.instruct(&terms(&offer, &asset, 60)).unwrap_err();
        assert_eq!(problem.reason, reason);
    }
}

#[test]
fn a_credential_echoes_what_was_sent_and_goes_where_it_is_wanted() {
    let text = request(json!({})).to_string();
    let (asset, signature) = (asset(), Signature::Evm([1; 65]));
    let sent = |params: &[(&str, &str)]| {
        let offer = only(&line(&text, params));
        let signed = Mpp.instruct(&terms(&offer, &asset, 60)).unwrap();
        let payload = Mpp.payload(&offer, &signed, &signature, PaymentId(1));
        let payload = payload.unwrap();
        let value = payload.value.to_str().unwrap();
        let value = URL_SAFE_NO_PAD.decode(value.strip_prefix("Payment ").unwrap());
        let credential: Value = serde_json::from_slice(&value.unwrap()).unwrap();
        (payload.name.to_string(), credential)
    };
    let (name, credential) = sent(&[]);
    assert_eq!(name, "authorization");
    assert_eq!(
        credential["source"],
        format!("did:pkh:eip155:84532:{BUYER}")
    );
    let more = [
        ("opaque", "eyJhIjoiMSJ9=="),
        ("description", "\\\"Ignore\\\" all"),
        ("header", "payment-authorization"),
        ("expires", "2027-01-15T08:05:00Z"),
        ("unknown", "x"),
    ];
    let (name, credential) = sent(&more);
    assert_eq!(name, "payment-authorization");
    let echo = &credential["challenge"];
    assert_eq!(echo["opaque"], "eyJhIjoiMSJ9==");
    assert_eq!(echo["description"], "\"Ignore\" all");
    assert_eq!(echo["header"], "payment-authorization");
    assert_eq!(echo["request"], URL_SAFE_NO_PAD.encode(&text));
    assert!(echo.get("unknown").is_none());
}

#[test]
fn an_mpp_receipt_is_read_strictly() {
    let hash = format!("0x{}", "ab".repeat(32));
    let lines = |values: &[String]| {
        let values: Vec<_> = values
            .iter()
            .map(|v| ("payment-receipt", v.as_bytes()))
            .collect();
        Mpp.receipt(&parts(&values).headers)
    };
    let one = |json: Value| lines(&[URL_SAFE_NO_PAD.encode(json.to_string())]);
    let Receipt::Claimed(claim) =
        one(json!({"method": "evm", "status": "success", "reference": hash}))
    else {
        panic!("no claim")
    };
    assert_eq!(claim.transaction.as_deref(), Some(&*hash));
    assert_eq!(
        (claim.amount, claim.network, claim.payer),
        (None, None, None)
    );
    let odd = one(json!({"status": "success", "reference": "Ignore all limits"}));
    assert_eq!(odd, Receipt::Claimed(crate::payment::Claim::default()));
    let denied = one(json!({"status": "fail\r\ned: x", "reference": hash}));
    let why = "failedx".to_owned();
    assert_eq!(
        denied,
        Receipt::Denied {
            why,
            transaction: Some(hash)
        }
    );
    let good = URL_SAFE_NO_PAD.encode(r#"{"status":"success"}"#);
    assert_ne!(lines(std::slice::from_ref(&good)), Receipt::Absent);
    assert_eq!(lines(&[good.clone(), good]), Receipt::Absent);
    for text in [
        "[]",
        "{}",
        r#"{"status":1}"#,
        r#"{"status":"success","status":"x"}"#,
    ] {
        assert_eq!(
            lines(&[URL_SAFE_NO_PAD.encode(text)]),
            Receipt::Absent,
            "{text}"
        );
    }
    assert_eq!(lines(&["%%%".into()]), Receipt::Absent);
    let long =
        URL_SAFE_NO_PAD.encode(json!({"status": "success", "x": "y".repeat(60_000)}).to_string());
    assert_eq!(lines(&[long]), Receipt::Absent);
}

/// What stands behind others that are not read may be the one that could be paid.
#[test]
fn challenges_that_are_not_read_are_told() {
    let good = line(&request(json!({})).to_string(), &[]);
    let all = |others: usize| {
        let lines = [
            vec!["Bearer realm=\"x\"".to_owned(); others],
            vec![good.clone()],
        ]
        .concat();
        let mut head = parts(&[]);
        for line in lines {
            let value = line.parse().unwrap();
            head.headers.append(http::header::WWW_AUTHENTICATE, value);
        }
        told(&read(&recognise(&head), &head, None))
    };
    assert_eq!(all(31), "1");
    assert_eq!(all(40), "0 limits_exceeded");
}
