//! Permit2 payments against the official server, facilitator and chain: paid where a rule says so, never
//! with an approval, and told apart from what they are not.

use serde_json::{Value, json};

use crate::interop::assert_agreement;
use crate::support::chain::{Domain, Transfer};
use crate::support::permit::{EXACT_PROXY, PERMIT2, UPTO_PROXY};
use crate::support::proxy::{Proxy, Setup};
use crate::support::stand::{Stand, stand};
use crate::support::{USDC, until};

pub(crate) const SHOP: &str = "https://merchant.stand.test";

/// A set-up that may pay by Permit2, with a wallet that Permit2 may move the tokens of.
pub(crate) fn permitted(stand: &Stand, schemes: &[&str]) -> Setup {
    let mut setup = stand.setup();
    setup.config["rules"][0]["pay"]["transfer_methods"] = json!(["eip3009", "permit2"]);
    setup.config["rules"][0]["pay"]["schemes"] = json!(schemes);
    stand.approve(&setup.payer());
    setup
}

pub(crate) fn domain() -> Domain {
    Domain {
        name: String::new(),
        version: String::new(),
        chain: 84532,
        token: USDC.into(),
    }
}

/// The only payment that the merchants saw.
pub(crate) fn seen(stand: &Stand, proxy: &Proxy) -> Transfer {
    let [(_, transfer)] = &stand.paid_by(&proxy.payer())[..] else {
        panic!("one payment: {}", stand.last_settlement())
    };
    transfer.clone()
}

#[test]
fn permit2_is_paid_where_a_rule_allows_it() {
    let Some(stand) = stand() else { return };
    let proxy = permitted(stand, &["exact"]).start();
    let answer = proxy.get(&format!("{SHOP}/v2/permit2"));
    assert_eq!(
        answer.status,
        200,
        "{} {}",
        answer.text(),
        stand.last_settlement()
    );
    assert_eq!(assert_agreement(stand, &proxy), 10_000);
    let transfer = seen(stand, &proxy);
    assert_eq!(transfer.signer(&domain()), Some(proxy.payer()));
    let permit = transfer.permit.as_ref().unwrap();
    assert!(permit.spender.eq_ignore_ascii_case(EXACT_PROXY) && permit.facilitator.is_none());
    assert_eq!((transfer.value, transfer.valid_after), (10_000, 0));
    let row = proxy.ledger().rows[0].clone();
    assert_eq!(
        (&row["scheme"], &row["state"]),
        (&json!("exact"), &json!("settled"))
    );
    assert_eq!(row["valid_before"], transfer.valid_before);

    // The evidence is typed data that recovers the payer, and names the token and who may move it.
    let out = proxy.setup.run(&["dispute", row["id"].as_str().unwrap()]);
    let file: Value = serde_json::from_slice(&out.stdout).unwrap();
    let signed = &file["signed"];
    assert_eq!(signed["primaryType"], "PermitWitnessTransferFrom");
    let contract = signed["domain"]["verifyingContract"].as_str().unwrap();
    assert!(contract.eq_ignore_ascii_case(PERMIT2), "{file}");
    assert_eq!(file["offer"]["contract"], USDC);
    let mut message = signed["message"].clone();
    message["from"] = json!(proxy.payer());
    let told =
        json!({ "payload": { "permit2Authorization": message, "signature": transfer.signature } });
    let told = Transfer::of(&told).unwrap();
    assert_eq!(told.signer(&domain()), Some(proxy.payer()), "{file}");
}

#[test]
fn without_a_rule_that_says_so_nothing_is_signed_by_permit2() {
    let Some(stand) = stand() else { return };
    let proxy = stand.setup().start();
    for (path, reason) in [
        ("/v2/permit2", "transfer_method_unsupported"),
        ("/v2/permit2-gasless", "extension_refused"),
        ("/v2/upto?used=1", "scheme_unsupported"),
    ] {
        let answer = proxy.get(&format!("{SHOP}{path}"));
        assert_eq!(
            (answer.status, answer.reason().as_deref()),
            (402, Some(reason)),
            "{path}"
        );
    }
    // Not even a rule that allows Permit2 lets an approval be signed.
    let proxy = permitted(stand, &["exact", "upto"]).start();
    let answer = proxy.get(&format!("{SHOP}/v2/permit2-gasless"));
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (402, Some("extension_refused"))
    );
    assert!(stand.paid_by(&proxy.payer()).is_empty());
}

#[test]
fn a_wallet_without_approval_is_asked_for_one_signature_and_no_more() {
    let Some(stand) = stand() else { return };
    let mut setup = stand.setup();
    setup.config["rules"][0]["pay"]["transfer_methods"] = json!(["permit2"]);
    let proxy = setup.start();
    let answer = proxy.get(&format!("{SHOP}/v2/permit2"));
    assert_eq!(answer.status, 412, "{}", answer.text());
    let transfer = seen(stand, &proxy);
    let row = until("the answer", std::time::Duration::from_secs(20), || {
        let row = proxy.ledger().rows.first()?.clone();
        (row["state"] == "unknown").then_some(row)
    });
    assert_eq!(row["flags"], json!(["paid_not_delivered"]));
    // The agent's own retry carries the same payload, not another.
    proxy.get(&format!("{SHOP}/v2/permit2"));
    let all = stand.paid_by(&proxy.payer());
    assert!(
        all.iter().all(|(_, t)| t.nonce == transfer.nonce),
        "{all:?}"
    );
    assert_eq!(proxy.ledger().sum(&["unknown"]), 10_000, "it counts");
}

#[test]
fn upto_holds_its_maximum_and_settles_what_was_used() {
    let Some(stand) = stand() else { return };
    let proxy = permitted(stand, &["upto"]).start();
    for (used, moved) in [(23_500, 23_500), (0, 0), (100_000, 100_000)] {
        let before = stand.transfers(&proxy.payer()).len();
        let answer = proxy.get(&format!("{SHOP}/v2/upto?used={used}"));
        assert_eq!(
            answer.status,
            200,
            "{} {}",
            answer.text(),
            stand.last_settlement()
        );
        assert_eq!(answer.json()["used"], used.to_string());
        let header = answer.one("farepass-payment").unwrap().to_owned();
        assert!(
            header.contains("; amount=\"100000\"; asset=\"USDC\""),
            "{header}"
        );
        let part = format!("; settled=\"{used}\"");
        assert_eq!(header.contains(&part), used < 100_000, "{header}");
        let new: u128 = stand.transfers(&proxy.payer())[before..]
            .iter()
            .map(|(_, v)| v)
            .sum();
        assert_eq!(new, moved, "on the chain");
    }
    let payer = proxy.payer();
    for (_, transfer) in stand.paid_by(&payer) {
        assert_eq!(transfer.signer(&domain()), Some(payer.clone()));
        let permit = transfer.permit.as_ref().unwrap();
        assert!(
            permit.spender.eq_ignore_ascii_case(UPTO_PROXY),
            "{permit:?}"
        );
        let facilitator = permit.facilitator.as_ref().unwrap();
        assert!(facilitator.eq_ignore_ascii_case(&stand.address("facilitator")));
        assert_eq!(transfer.value, 100_000);
    }
    let books = until(
        "every receipt in the books",
        std::time::Duration::from_secs(20),
        || {
            let books = proxy.ledger();
            (books.sum(&["unknown"]) == 200_000).then_some(books)
        },
    );
    let mut said: Vec<_> = books
        .rows
        .iter()
        .map(|r| {
            (
                r["state"].clone(),
                r["amount_settled"].clone(),
                r["flags"].clone(),
            )
        })
        .collect();
    said.sort_by_key(|(_, settled, _)| settled.to_string());
    let none = json!([]);
    let expected = [
        ("unknown", "0"),
        ("settled", "100000"),
        ("unknown", "23500"),
    ];
    let expected = expected.map(|(state, settled)| (json!(state), json!(settled), none.clone()));
    assert_eq!(said, expected);
    let held = books
        .rows
        .iter()
        .filter(|r| r["reason"] == "held_above_claim")
        .count();
    assert_eq!(
        (held, books.counted()),
        (2, 300_000),
        "all of every maximum counts"
    );
    proxy.assert_verifies();
}

#[test]
fn an_upto_merchant_that_takes_all_takes_no_more_than_the_maximum() {
    let Some(stand) = stand() else { return };
    let proxy = permitted(stand, &["upto"]).start();
    let payer = proxy.payer();
    let liar = "https://hostile.stand.test";
    let answer = proxy.get(&format!("{liar}/upto-takes-all?id={}", &payer[2..10]));
    assert_eq!(
        answer.status,
        200,
        "{} {}",
        answer.text(),
        stand.last_settlement()
    );
    assert_eq!(assert_agreement(stand, &proxy), 100_000);
    // Another facilitator than the merchant's own may be named; it takes the maximum at most.
    proxy.get(&format!(
        "{liar}/upto-other-facilitator?id={}",
        &payer[2..10]
    ));
    let taken: u128 = stand.transfers(&payer).iter().map(|(_, value)| value).sum();
    assert!(taken <= proxy.ledger().counted(), "{taken}");
}
