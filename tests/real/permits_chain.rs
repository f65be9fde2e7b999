//! Permit2 payments against a real chain: how much of a maximum was taken, whether anything was, and
//! what is said when the chain shows that and not where.

use serde_json::{Value, json};

use crate::permits::{SHOP, seen};
use crate::reconcile::{only, reconcile, reconciled, setup, spent, verify};
use crate::support::chain::keccak;
use crate::support::permit::PERMIT2;
use crate::support::proxy::{Proxy, Setup};
use crate::support::stand::Stand;
use crate::support::until;

const LONG: std::time::Duration = std::time::Duration::from_secs(90);

fn permitted(stand: &Stand) -> Setup {
    let mut setup = setup(stand);
    setup.config["rules"][0]["pay"]["transfer_methods"] = json!(["eip3009", "permit2"]);
    setup.config["rules"][0]["pay"]["schemes"] = json!(["exact", "upto"]);
    stand.approve(&setup.payer());
    setup
}

fn buy(proxy: &Proxy, path: &str) -> Value {
    let answer = proxy.get(&format!("{SHOP}{path}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    until("the receipt", LONG, || {
        let row = only(&proxy.setup);
        (row["receipt"] == "claimed").then_some(row)
    })
}

#[test]
fn what_was_taken_by_permit2_is_confirmed() {
    let Some(stand) = Stand::own() else { return };
    for (path, amount, usd) in [
        ("/v2/permit2", "10000", "0.01 USD"),
        ("/v2/upto?used=23500", "23500", "0.0235 USD"),
    ] {
        let proxy = permitted(&stand).start();
        let claimed = buy(&proxy, path);
        stand.mine(6);
        // Long before it is dead: its nonce is used up, so no more can be taken.
        let found = reconciled(&proxy.setup, "confirmed");
        let row = only(&proxy.setup);
        assert_eq!(row["transaction"], found["transaction"], "{path}");
        assert_eq!(row["transaction"], claimed["transaction"], "{path}");
        let state = (&row["state"], &row["confirmed"], &row["flags"]);
        assert_eq!(
            state,
            (&json!("settled"), &json!(true), &json!([])),
            "{path}"
        );
        assert_eq!(
            (&row["amount_settled"], &row["charged"]),
            (&json!(amount), &json!(usd))
        );
        assert_eq!(spent(&proxy.setup), usd, "{path}");
        proxy.assert_verifies();
    }
}

#[test]
fn a_maximum_of_which_nothing_was_taken_is_given_back() {
    let Some(stand) = Stand::own() else { return };
    let mut proxy = permitted(&stand).start();
    let held = buy(&proxy, "/v2/upto?used=0");
    assert_eq!(
        (&held["state"], &held["reason"]),
        (&json!("unknown"), &json!("held_above_claim"))
    );
    assert_eq!(spent(&proxy.setup), "0.10 USD");
    proxy.stop();
    stand.mine(6);
    let (found, ..) = reconcile(&proxy.setup);
    assert_ne!(found[0]["outcome"], "released", "it lives: {found:?}");
    stand.jump(600);
    reconciled(&proxy.setup, "released");
    let row = only(&proxy.setup);
    assert_eq!(
        (&row["state"], &row["flags"]),
        (&json!("released"), &json!([]))
    );
    assert_eq!(spent(&proxy.setup), "0.00 USD");
    verify(&proxy.setup);
}

#[test]
fn a_receipt_that_named_less_than_was_taken_is_found_out() {
    let Some(stand) = Stand::own() else { return };
    let mut proxy = permitted(&stand).start();
    buy(&proxy, "/v2/upto?used=0");
    let transfer = seen(&stand, &proxy);
    proxy.stop();
    let transaction = stand.take_part(&transfer, 40_000);
    stand.mine(6);
    reconciled(&proxy.setup, "confirmed");
    let row = only(&proxy.setup);
    assert_eq!(row["transaction"], transaction);
    assert_eq!(row["flags"], json!(["receipt_mismatch"]), "{row}");
    assert_eq!(
        (&row["amount_settled"], &row["charged"]),
        (&json!("40000"), &json!("0.04 USD"))
    );
    assert_eq!(spent(&proxy.setup), "0.04 USD");
    verify(&proxy.setup);
}

#[test]
fn a_nonce_that_is_spent_nobody_sees_where_counts_in_full() {
    let Some(stand) = Stand::own() else { return };
    let mut proxy = permitted(&stand).start();
    buy(&proxy, "/v2/upto?used=0");
    let transfer = seen(&stand, &proxy);
    proxy.stop();
    // nonceBitmap[owner][nonce >> 8] in the first slot: set its bit, as a contract in between would.
    let word = |hexadecimal: &str| format!("{:0>64}", hexadecimal.trim_start_matches("0x"));
    let nonce = transfer.nonce.trim_start_matches("0x");
    let (number, bit) = nonce.split_at(62);
    let slot = |key: &str, of: &str| hex::encode(keccak(&[&hex::decode(word(key) + of).unwrap()]));
    let place = slot(number, &slot(&transfer.from, &word("0")));
    let bit = usize::from(u8::from_str_radix(bit, 16).unwrap());
    let mut bits = [0_u8; 32];
    bits[31 - bit / 8] = 1 << (bit % 8);
    let value = format!("0x{}", hex::encode(bits));
    stand.rpc(
        "anvil_setStorageAt",
        &json!([PERMIT2, format!("0x{place}"), value]),
    );
    stand.mine(6);
    reconciled(&proxy.setup, "spent");
    let row = only(&proxy.setup);
    let state = (&row["state"], &row["confirmed"], &row["reason"]);
    assert_eq!(
        state,
        (&json!("settled"), &json!(false), &json!("spent_on_chain"))
    );
    assert_eq!(spent(&proxy.setup), "0.10 USD");
    assert_eq!(
        reconcile(&proxy.setup).0,
        Vec::<Value>::new(),
        "it is finished"
    );
    verify(&proxy.setup);
}
