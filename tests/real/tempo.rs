//! MPP on Tempo against the official server package and a chain: what the merchant sends is the transaction that we
//! signed, the money moves once, and the books, the fee included, are never below what the chain shows.

use std::collections::BTreeSet;
use std::time::Duration;

use farepass::money::Usd;
use serde_json::{Value, json};

use crate::support::agent::Ask;
use crate::support::http::Answer;
use crate::support::mpp_stand::{MppStand, SHOP, mpp_stand};
use crate::support::proxy::{Proxy, Setup};
use crate::support::until;

mod faults;

const LONG: Duration = Duration::from_secs(40);
const NETWORK: &str = "eip155:1337";
const PATH_USD: &str = "0x20c0000000000000000000000000000000000000";

/// Where the chain puts what transactions cost.
const FEES: &str = "0xfeec000000000000000000000000000000000000";

/// Twenty thousand units: what the rules here let the network take.
const MAX_FEE: u128 = 20_000;

/// A set-up that pays these schemes, with money on both chains.
fn setup(stand: &MppStand, schemes: &[&str]) -> Setup {
    let mut setup = stand.setup(schemes);
    setup.config["wallets"][0]["networks"] = json!(["eip155:84532", NETWORK]);
    setup.config["assets"] = json!([
        { "network": NETWORK, "address": PATH_USD, "symbol": "pathUSD", "decimals": 6, "currency": "USD" },
    ]);
    stand.tempo("fund", &setup.payer());
    setup
}

/// The same, and the rule lets the payer pay the network.
fn setup_with_fee(stand: &MppStand) -> Setup {
    let mut setup = setup(stand, &["tempo/charge"]);
    setup.config["rules"][0]["pay"]["max_fee"] = json!("0.02 USD");
    setup
}

fn buy(proxy: &Proxy, path: &str) -> Answer {
    proxy
        .agent(LONG)
        .send(&Ask::get(&format!("{SHOP}{path}")))
        .unwrap()
}

/// A purchase for a challenge with this request, besides what is usual.
fn ask(proxy: &Proxy, request: &Value) -> Answer {
    let text = request.to_string();
    let escaped: String = text.bytes().map(|b| format!("%{b:02x}")).collect();
    buy(proxy, &format!("/tempo/ask?ask={escaped}"))
}

/// The only row of the ledger, once its answer is on the books.
fn row(proxy: &Proxy, state: &str) -> Value {
    until("the answer", LONG, || {
        let row = proxy.ledger().rows.first()?.clone();
        (row["state"] == state).then_some(row)
    })
}

fn balance(stand: &MppStand, who: &str) -> u128 {
    stand
        .tempo("balance", who)
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

/// What the chain moved out of this account: to whom, how much, with which memo, in which transaction.
struct Moved {
    to: String,
    value: u128,
    memo: Option<String>,
    tx: String,
}

/// Transfers to payees, and what the network took.
fn moved(stand: &MppStand, payer: &str) -> (Vec<Moved>, u128) {
    let list = stand.tempo("transfers", payer);
    let all = list.as_array().unwrap().iter().map(|row| Moved {
        to: row["to"].as_str().unwrap().to_ascii_lowercase(),
        value: row["value"].as_str().unwrap().parse().unwrap(),
        memo: row["memo"].as_str().map(str::to_owned),
        tx: row["tx"].as_str().unwrap().to_owned(),
    });
    let (fees, paid): (Vec<_>, Vec<_>) = all.partition(|m| m.to == FEES);
    (paid, fees.iter().map(|m| m.value).sum())
}

/// The chain and the ledger tell the same: amounts, transactions, memos; and no fee that is not booked.
fn assert_agreement(stand: &MppStand, proxy: &Proxy) -> u128 {
    let payer = proxy.payer();
    let (paid, fees) = moved(stand, &payer);
    let books = proxy.ledger();
    let on_tempo = || books.rows.iter().filter(|r| r["network"] == NETWORK);
    let text = |r: &Value, key: &str| r[key].as_str().unwrap().to_owned();
    let booked: u128 = on_tempo()
        .map(|r| text(r, "amount").parse::<u128>().unwrap())
        .sum();
    let all = paid.iter().map(|m| m.value).sum();
    assert_eq!(booked, all, "{:?}", books.rows);
    let memos: BTreeSet<_> = on_tempo().map(|r| text(r, "nonce")).collect();
    let found: BTreeSet<_> = paid.iter().filter_map(|m| m.memo.clone()).collect();
    assert_eq!(memos, found, "memos in the ledger, on the chain");
    let transactions: BTreeSet<_> = paid.iter().map(|m| &m.tx).collect();
    assert_eq!(transactions.len(), on_tempo().count());
    assert_eq!(balance(stand, &payer), 10_000_000 - all - fees);
    // Billionths of a dollar are a thousandth of a unit each.
    let price = |r: &Value| {
        let usd: Usd = text(r, "charged").parse().unwrap();
        u128::from(usd.0) / 1000
    };
    let counted: u128 = on_tempo().map(price).sum();
    assert!(
        counted >= all + fees,
        "{counted} counts for {all} and {fees}"
    );
    proxy.assert_verifies();
    all
}

#[test]
fn a_charge_with_our_own_fee_is_paid_once_and_the_fee_counts() {
    let Some(stand) = mpp_stand() else { return };
    let proxy = setup_with_fee(stand).start();
    let answer = buy(&proxy, "/tempo/own");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["path"], "/tempo/own");
    let row = row(&proxy, "settled");
    assert_eq!(assert_agreement(stand, &proxy), 10_000);
    let (paid, fees) = moved(stand, &proxy.payer());
    assert!(0 < fees && fees <= MAX_FEE, "{fees}");
    assert_eq!(paid[0].to, stand.merchant().to_ascii_lowercase());
    assert_eq!(row["transaction"], paid[0].tx);
    let said = [
        &row["protocol"],
        &row["scheme"],
        &row["asset"],
        &row["charged"],
    ];
    assert_eq!(said, ["mpp", "tempo/charge", "pathUSD", "0.03 USD"]);
    assert_eq!(row["flags"], json!([]));
    // Signed to live for less than half a minute.
    let made = row["valid_before"].as_u64().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    assert!(made <= now.unwrap().as_secs() + 25, "{row}");
    // The same again is another purchase.
    assert_eq!(buy(&proxy, "/tempo/own").status, 200);
    until("both receipts", LONG, || {
        (proxy.ledger().sum(&["settled"]) == 20_000).then_some(())
    });
    assert_eq!(assert_agreement(stand, &proxy), 20_000);
}

#[test]
fn a_fee_payer_pays_the_network_and_we_pay_the_price_alone() {
    let Some(stand) = mpp_stand() else { return };
    let proxy = setup(stand, &["tempo/charge"]).start();
    let answer = buy(&proxy, "/tempo/sponsored");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(row(&proxy, "settled")["charged"], "0.01 USD");
    assert_eq!(assert_agreement(stand, &proxy), 10_000);
    assert_eq!(
        moved(stand, &proxy.payer()).1,
        0,
        "the network took nothing of ours"
    );
    // Without a key for the fee nobody pays one.
    let answer = buy(&proxy, "/tempo/own");
    assert_eq!(
        answer.reason().as_deref(),
        Some("transfer_method_unsupported")
    );
    assert!(answer.text().contains("max_fee"), "{}", answer.text());
    assert_eq!(assert_agreement(stand, &proxy), 10_000);
}

#[test]
fn the_fee_is_part_of_every_cap_and_budget() {
    let Some(stand) = mpp_stand() else { return };
    let mut small = setup_with_fee(stand);
    small.config["rules"][0]["pay"]["max"] = json!("0.029 USD");
    let proxy = small.start();
    let answer = buy(&proxy, "/tempo/own");
    assert_eq!(
        answer.reason().as_deref(),
        Some("over_request_cap"),
        "{}",
        answer.text()
    );
    let mut small = setup_with_fee(stand);
    small.budget("0.059 USD");
    let proxy = small.start();
    assert_eq!(buy(&proxy, "/tempo/own").status, 200);
    let answer = buy(&proxy, "/tempo/own");
    assert_eq!(
        answer.reason().as_deref(),
        Some("over_session_cap"),
        "{}",
        answer.text()
    );
    // What a fee payer pays for costs less, and still fits.
    assert_eq!(buy(&proxy, "/tempo/sponsored").status, 200);
    until("both receipts", LONG, || {
        (proxy.ledger().sum(&["settled"]) == 20_000).then_some(())
    });
    assert_eq!(assert_agreement(stand, &proxy), 20_000);
}

#[test]
fn shares_reach_everybody_who_may_be_paid_and_nobody_else() {
    let Some(stand) = mpp_stand() else { return };
    let (merchant, partner) = (stand.merchant().to_owned(), stand.partner().to_owned());
    let mut strict = setup(stand, &["tempo/charge"]);
    strict.config["rules"][0]["pay"]["pay_to"] = json!([merchant]);
    let proxy = strict.start();
    let answer = buy(&proxy, "/tempo/splits");
    assert_eq!(answer.reason().as_deref(), Some("recipient_changed"));
    assert!(moved(stand, &proxy.payer()).0.is_empty());
    let mut both = setup(stand, &["tempo/charge"]);
    both.config["rules"][0]["pay"]["pay_to"] = json!([merchant, partner]);
    let proxy = both.start();
    let answer = buy(&proxy, "/tempo/splits");
    assert_eq!(answer.status, 200, "{}", answer.text());
    row(&proxy, "settled");
    assert_eq!(assert_agreement(stand, &proxy), 50_000);
    let (paid, _) = moved(stand, &proxy.payer());
    let paid: BTreeSet<_> = paid.iter().map(|m| (m.to.clone(), m.value)).collect();
    let wanted = [(merchant, 30_000), (partner, 20_000)];
    let wanted = wanted.map(|(to, value)| (to.to_ascii_lowercase(), value));
    assert_eq!(paid, BTreeSet::from(wanted));
    // Who was paid first stays, also among those who share.
    let mut first = setup(stand, &["tempo/charge"]);
    first.config["rules"][0]["pay"]["pay_to"] = json!("first-seen");
    let proxy = first.start();
    assert_eq!(buy(&proxy, "/tempo/splits").status, 200);
    let answer = buy(&proxy, "/tempo/sponsored");
    assert_eq!(answer.reason().as_deref(), Some("recipient_changed"));
}

#[test]
fn of_several_challenges_one_is_paid_and_one_budget_holds_over_all() {
    let Some(stand) = mpp_stand() else { return };
    let mut mixed = setup(stand, &["tempo/charge", "evm/charge", "exact"]);
    mixed.budget("0.035 USD");
    let proxy = mixed.start();
    for path in ["/tempo/both", "/merged", "/charge"] {
        let answer = buy(&proxy, path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    for path in ["/tempo/both", "/tempo/sponsored", "/charge"] {
        let answer = buy(&proxy, path);
        assert_eq!(
            answer.reason().as_deref(),
            Some("over_session_cap"),
            "{path}"
        );
    }
    until("all receipts", LONG, || {
        (proxy.ledger().sum(&["settled"]) == 30_000).then_some(())
    });
    assert_eq!(assert_agreement(stand, &proxy), 10_000);
    assert_eq!(stand.transfers(&proxy.payer()).len(), 2);
    // The rule's order decides at the same price.
    let proxy = setup(stand, &["evm/charge", "tempo/charge"]).start();
    assert_eq!(buy(&proxy, "/tempo/both").status, 200);
    assert_eq!(row(&proxy, "settled")["scheme"], "evm/charge");
    assert!(moved(stand, &proxy.payer()).0.is_empty());
}

#[test]
fn a_wallet_that_cannot_sign_it_is_not_asked_and_another_way_is_taken() {
    let Some(stand) = mpp_stand() else { return };
    let elsewhere = |setup: &mut Setup| {
        let wallets = setup.config["wallets"].as_array_mut().unwrap();
        wallets[0]["networks"] = json!(["eip155:84532"]);
        wallets.push(json!({
            "name": "far", "kind": "web3signer", "url": "http://127.0.0.1:9", "networks": [NETWORK],
            "address": "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65",
        }));
    };
    let mut alone = setup(stand, &["tempo/charge"]);
    elsewhere(&mut alone);
    let proxy = alone.start();
    let answer = buy(&proxy, "/tempo/sponsored");
    assert_eq!(answer.reason().as_deref(), Some("wallet_unavailable"));
    assert!(
        answer.text().contains("`far` (web3signer) cannot sign"),
        "{}",
        answer.text()
    );
    assert!(proxy.ledger().rows.is_empty(), "nothing was reserved");
    let mut beside = setup(stand, &["tempo/charge", "evm/charge"]);
    elsewhere(&mut beside);
    let proxy = beside.start();
    assert_eq!(buy(&proxy, "/tempo/both").status, 200);
    assert_eq!(row(&proxy, "settled")["scheme"], "evm/charge");
}
