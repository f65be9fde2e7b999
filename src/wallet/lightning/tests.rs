//! What each kind of node may answer, and what is made of it.

use super::settings::BACKENDS;
use super::*;

fn said(node: &dyn Node, status: u16, body: &str) -> Said {
    node.paid(StatusCode::from_u16(status).unwrap(), body.as_bytes())
}

fn looked(node: &dyn Node, status: u16, body: &str) -> Said {
    node.looked(StatusCode::from_u16(status).unwrap(), body.as_bytes())
}

fn paid(fee_msat: Option<u64>) -> Said {
    Said::Paid {
        preimage: "aa".into(),
        fee_msat,
    }
}

/// Nothing that a broken or hostile node may answer is taken for a payment or for the certainty that
/// there was none.
#[test]
fn nothing_but_a_clear_word_is_certain() {
    for (name, node) in BACKENDS {
        for status in [200, 201, 202, 204, 301, 402, 429, 500, 502, 503, 504, 520] {
            for body in [
                "",
                "{}",
                "[]",
                "null",
                "<html>",
                "{\"status\":\"odd\"}",
                "{\"result\":{}}",
            ] {
                for said in [said(*node, status, body), looked(*node, status, body)] {
                    let certain = matches!(said, Said::Paid { .. } | Said::Failed(_));
                    assert!(!certain, "{name} {status} {body}: {said:?}");
                }
            }
        }
    }
}

#[test]
fn lnd_says_it_in_its_last_line() {
    let flight = r#"{"result":{"status":"IN_FLIGHT","payment_preimage":"00"}}"#;
    let done = r#"{"result":{"status":"SUCCEEDED","payment_preimage":"aa","fee_msat":"7"}}"#;
    let failed = r#"{"result":{"status":"FAILED","failure_reason":"FAILURE_REASON_NO_ROUTE"}}"#;
    let lnd = &lnd::Lnd;
    assert_eq!(
        said(lnd, 200, &format!("{flight}\n{done}\n")),
        paid(Some(7))
    );
    assert_eq!(said(lnd, 200, flight), Said::Pending);
    assert!(matches!(said(lnd, 200, failed), Said::Failed(_)));
    for own in [r#"{"code":5}"#, r#"{"error":{"grpc_code":5}}"#] {
        assert_eq!(looked(lnd, 404, own), Said::Missing);
    }
    for others in ["", "<html>", "{}", r#"{"code":12}"#, "[5]"] {
        assert!(matches!(looked(lnd, 404, others), Said::Unclear(_)));
    }
    let wrong = r#"{"code":2,"message":"verification failed: signature mismatch"}"#;
    let other = r#"{"code":2,"message":"the node is being shut down"}"#;
    let words = r#"{"error":"permission denied","code":7,"message":"permission denied"}"#;
    // A stream has its error one level deeper.
    for (body, refused) in [
        (wrong.to_owned(), true),
        (format!("{{\"error\":{wrong}}}\n"), true),
        (words.to_owned(), true),
        (other.to_owned(), false),
        (format!("{{\"error\":{other}}}"), false),
        (format!("{{\"detail\":{wrong}}}"), false),
    ] {
        let said = said(lnd, 500, &body);
        assert_eq!(matches!(said, Said::Failed(_)), refused, "{body}: {said:?}");
    }
    // Refused or not, what began with a good status began.
    let late = format!("{{\"error\":{wrong}}}");
    assert!(matches!(said(lnd, 200, &late), Said::Unclear(_)));
    assert_eq!(
        looked(lnd, 200, &format!("{flight}\n{done}")),
        paid(Some(7))
    );
    // Cut off within its last line: what came before it was true, and no more.
    assert_eq!(
        looked(lnd, 200, &format!("{flight}\n{}", &done[..40])),
        Said::Pending
    );
}

#[test]
fn cln_says_by_its_code_whether_something_is_on_its_way() {
    let cln = &cln::Cln;
    let done =
        r#"{"status":"complete","payment_preimage":"aa","amount_msat":10,"amount_sent_msat":12}"#;
    assert_eq!(said(cln, 201, done), paid(Some(2)));
    assert_eq!(said(cln, 201, r#"{"status":"pending"}"#), Said::Pending);
    assert!(matches!(
        said(cln, 500, r#"{"code":205,"message":"x"}"#),
        Said::Failed(_)
    ));
    assert!(matches!(
        said(cln, 401, r#"{"error":{"code":1501}}"#),
        Said::Failed(_)
    ));
    // 200 means "in progress", and -1 anything.
    for code in [200, -1, 201, 211] {
        let body = format!(r#"{{"code":{code}}}"#);
        assert!(matches!(said(cln, 500, &body), Said::Unclear(_)), "{code}");
    }
    let list = |all: &str| looked(cln, 201, &format!(r#"{{"pays":[{all}]}}"#));
    let (failed, pending) = (r#"{"status":"failed"}"#, r#"{"status":"pending"}"#);
    assert_eq!(list(""), Said::Missing);
    assert_eq!(list(failed), Said::Missing, "also between two attempts");
    assert_eq!(list(&format!("{pending},{failed}")), Said::Pending);
    assert_eq!(list(&format!("{failed},{pending}")), Said::Pending);
    let listed = r#"{"status":"complete","preimage":"aa","amount_msat":10,"amount_sent_msat":12}"#;
    assert_eq!(list(&format!("{failed},{listed},{pending}")), paid(Some(2)));
}

#[test]
fn phoenixd_fails_with_a_reason() {
    let phoenixd = &phoenixd::Phoenixd;
    let done = r#"{"recipientAmountSat":10,"routingFeeSat":4,"paymentId":"x","paymentHash":"y","paymentPreimage":"aa"}"#;
    assert_eq!(said(phoenixd, 200, done), paid(Some(4000)));
    let failed = r#"{"paymentId":"x","reason":"no route"}"#;
    assert!(matches!(said(phoenixd, 200, failed), Said::Failed(_)));
    assert!(matches!(
        said(phoenixd, 401, "Invalid authentication"),
        Said::Failed(_)
    ));
    let sent =
        r#"{"isPaid":true,"preimage":"aa","sent":14,"fees":4000,"completedAt":1,"createdAt":1}"#;
    assert_eq!(looked(phoenixd, 200, sent), paid(Some(4000)));
    let failed = r#"{"isPaid":false,"completedAt":1,"createdAt":1}"#;
    assert!(matches!(looked(phoenixd, 200, failed), Said::Failed(_)));
    let open = r#"{"isPaid":false,"createdAt":1}"#;
    assert_eq!(looked(phoenixd, 200, open), Said::Pending);
    for own in ["Not found", "not found\n"] {
        assert_eq!(looked(phoenixd, 404, own), Said::Missing);
    }
    // Of what stands before it, and of one that is too old to know the question.
    for others in [
        "",
        "default backend - 404",
        "Unknown endpoint (check api doc)",
        "<html>Not found</html>",
    ] {
        let said = looked(phoenixd, 404, others);
        assert!(matches!(said, Said::Unclear(_)), "{others}: {said:?}");
    }
}

#[test]
fn lnbits_counts_fees_below_zero() {
    let lnbits = &lnbits::Lnbits;
    let done = r#"{"payment_hash":"x","status":"success","preimage":"aa","fee":-7,"amount":-10}"#;
    assert_eq!(said(lnbits, 201, done), paid(Some(7)));
    assert_eq!(said(lnbits, 201, r#"{"status":"pending"}"#), Said::Pending);
    let failed = r#"{"detail":"x","status":"failed"}"#;
    assert!(matches!(said(lnbits, 520, failed), Said::Failed(_)));
    assert!(matches!(
        said(lnbits, 404, r#"{"detail":"Wallet not found."}"#),
        Said::Failed(_)
    ));
    let found = r#"{"paid":true,"preimage":"aa","details":{"status":"success","fee":-7}}"#;
    assert_eq!(looked(lnbits, 200, found), paid(Some(7)));
    let failed = r#"{"paid":false,"status":"failed","details":{"status":"failed"}}"#;
    assert!(matches!(looked(lnbits, 200, failed), Said::Failed(_)));
    assert_eq!(looked(lnbits, 200, r#"{"paid":false}"#), Said::Pending);
    let own = r#"{"detail":"Payment does not exist."}"#;
    assert_eq!(looked(lnbits, 404, own), Said::Missing);
    for others in ["", "<html>", r#"{"detail":"Wallet not found."}"#] {
        assert!(matches!(looked(lnbits, 404, others), Said::Unclear(_)));
    }
}

#[test]
fn a_preimage_is_believed_when_it_hashes_to_the_payment() {
    let preimage = [7; 32];
    let hash: [u8; 32] = Sha256::digest(preimage).into();
    assert_eq!(proof(&hex::encode(preimage), &hash), Some(preimage));
    for odd in [
        "",
        "07",
        &hex::encode([8; 32]),
        &hex::encode([7; 33]),
        &"z".repeat(64),
    ] {
        assert_eq!(proof(odd, &hash), None, "{odd}");
    }
}
