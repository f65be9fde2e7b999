//! The ledger against a real chain: what was taken is confirmed, what was never taken is given back,
//! what is taken late is found, and a node that lies moves nothing.

use std::time::Duration;

use farepass::budget::{Because, Entry};
use farepass::event::{SpendEvent, State};
use farepass::ledger::{self, Filter, Post};
use serde_json::{Value, json};

use crate::support::chain::Transfer;
use crate::support::merchant::{After, Merchant};
use crate::support::proxy::{Books, Proxy, Setup};
use crate::support::stand::{Stand, request};
use crate::support::until;

const LONG: Duration = Duration::from_secs(90);

/// Merchants that keep the signed transfer: one delivers without a receipt, one delivers nothing.
const KEEPER: &str = "https://hostile.stand.test/free-after-sign";
const TAKER: &str = "https://hostile.stand.test/pay-400";

/// A set-up that may ask the stand's chain, with transfers that die soon.
pub(crate) fn setup(stand: &Stand) -> Setup {
    let mut setup = stand.setup();
    setup.config["rpc"] = json!({ "eip155:84532": stand.node() });
    setup.config["limits"] = json!({ "validity": "10s" });
    setup
}

/// `ledger reconcile` of everything: what was found, and how it ended.
pub(crate) fn reconcile(setup: &Setup) -> (Vec<Value>, Option<i32>, String) {
    let out = setup.run(&["ledger", "reconcile", "--json"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let found = serde_json::from_slice(&out.stdout);
    let found = found.unwrap_or_else(|e| panic!("{e}: {}\n{said}", out.status));
    (found, out.status.code(), said)
}

/// Asks until the first payment is found so.
pub(crate) fn reconciled(setup: &Setup, outcome: &str) -> Value {
    until(outcome, LONG, || {
        let (found, ..) = reconcile(setup);
        let first = found.into_iter().next()?;
        (first["outcome"] == outcome).then_some(first)
    })
}

/// What the default session has spent.
pub(crate) fn spent(setup: &Setup) -> Value {
    let out = setup.run(&["session", "show", "default", "--json"]);
    let row: Value = serde_json::from_slice(&out.stdout).unwrap();
    row["spent"].clone()
}

pub(crate) fn verify(setup: &Setup) {
    let out = setup.run(&["ledger", "verify"]);
    assert!(out.status.success(), "{out:?}");
}

/// The only payment, and the transfer that was signed for it.
fn kept(stand: &Stand, proxy: &Proxy, url: &str) -> Transfer {
    proxy.get(url);
    until("the answer in the books", LONG, || {
        (only(&proxy.setup)["state"] == "unknown").then_some(())
    });
    let [(_, transfer)] = &stand.paid_by(&proxy.payer())[..] else {
        panic!("one transfer")
    };
    transfer.clone()
}

pub(crate) fn only(setup: &Setup) -> Value {
    let books = Books::of(setup);
    let [row] = &books.rows[..] else {
        panic!("{books:?}")
    };
    row.clone()
}

#[test]
fn what_was_taken_is_confirmed_by_its_transaction() {
    let Some(stand) = Stand::own() else { return };
    let proxy = setup(&stand).start();
    let answer = proxy.get("https://merchant.stand.test/v2/exact");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let claimed = until("the receipt", LONG, || {
        let row = only(&proxy.setup);
        // What was received is noted a moment after what was claimed.
        let whole = row["delivery"]["digest"].is_string();
        (row["state"] == "settled" && whole).then_some(row)
    });
    assert_eq!(claimed["confirmed"], false, "a receipt is a claim");
    stand.mine(4);
    // Not deep enough yet, however often one asks.
    let first = until("an answer of the chain", LONG, || {
        let (found, code, said) = reconcile(&proxy.setup);
        assert_eq!(code, Some(4), "{said}");
        let detail = found[0]["detail"].as_str().unwrap_or_default().to_owned();
        (!detail.contains("under way")).then(|| found[0].clone())
    });
    assert_eq!(first["outcome"], "undecided", "{first}");
    stand.mine(1);
    let found = reconciled(&proxy.setup, "confirmed");
    let row = only(&proxy.setup);
    assert_eq!(row["transaction"], found["transaction"]);
    assert_eq!(row["transaction"], claimed["transaction"]);
    let receipt = stand.rpc("eth_getTransactionReceipt", &json!([found["transaction"]]));
    let block = format!("{:#x}", row["block"].as_u64().unwrap());
    assert_eq!(receipt["blockNumber"], block, "it is on the chain");
    assert_eq!(
        (&row["confirmed"], &row["state"]),
        (&json!(true), &json!("settled"))
    );
    assert_eq!(row["delivery"], claimed["delivery"], "evidence stays");
    assert_eq!(row["flags"], json!([]));
    assert_eq!(spent(&proxy.setup), "0.01 USD");
    assert_eq!(
        reconcile(&proxy.setup).0,
        Vec::<Value>::new(),
        "it is finished"
    );
    proxy.assert_verifies();
}

#[test]
fn what_was_never_taken_is_given_back() {
    let Some(stand) = Stand::own() else { return };
    let mut proxy = setup(&stand).start();
    let transfer = kept(&stand, &proxy, KEEPER);
    proxy.stop();
    // The chain's clock runs ahead of ours: one of them is wrong, and nothing is given back.
    stand.jump(600);
    let early = until("an answer of the chain", LONG, || {
        let (found, ..) = reconcile(&proxy.setup);
        let detail = found[0]["detail"].as_str().unwrap_or_default().to_owned();
        let ours = crate::support::unix_now() < transfer.valid_before;
        assert!(ours, "this machine is too slow to see it");
        detail.contains("taken yet").then(|| found[0].clone())
    });
    assert_eq!(early["outcome"], "undecided");
    assert_eq!(spent(&proxy.setup), "0.01 USD");
    let found = reconciled(&proxy.setup, "released");
    assert!(crate::support::unix_now() >= transfer.valid_before);
    assert_eq!(found["state"], "released");
    let row = only(&proxy.setup);
    assert_eq!(
        (&row["state"], &row["reason"], &row["charged"]),
        (&json!("released"), &json!("unused_on_chain"), &Value::Null)
    );
    assert_eq!(spent(&proxy.setup), "0.00 USD");
    assert_eq!(stand.transfers(&proxy.payer()), []);
    verify(&proxy.setup);
}

/// Beside a running proxy, which does it by itself too.
#[test]
fn what_is_taken_late_without_a_receipt_is_found() {
    let Some(stand) = Stand::own() else { return };
    let proxy = setup(&stand).start();
    let transfer = kept(&stand, &proxy, TAKER);
    let transaction = stand.take(&transfer);
    stand.mine(5);
    let event = until("the sweeper", LONG, || {
        let mut events = proxy.events().into_iter();
        events.find(|e| e["confirmed"] == true)
    });
    assert_eq!(event["event"], "payment");
    let row = only(&proxy.setup);
    for (name, value) in [
        ("state", json!("settled")),
        ("confirmed", json!(true)),
        ("transaction", json!(transaction)),
        ("flags", json!(["paid_not_delivered", "taken_unclaimed"])),
        ("reason", json!("seen_on_chain")),
        ("charged", json!("0.01 USD")),
    ] {
        assert_eq!(row[name], value, "{name}: {row}");
    }
    let said = proxy.stderr();
    assert!(
        said.contains("taken on the chain, and no receipt"),
        "{said}"
    );
    // The agent asks again: the payload is sent once more, and the books keep what they know.
    proxy.get(TAKER);
    let row = until("the second answer", LONG, || {
        let row = only(&proxy.setup);
        (row["time"] != event["time"]).then_some(row)
    });
    assert_eq!(
        (&row["state"], &row["confirmed"]),
        (&json!("settled"), &json!(true))
    );
    assert_eq!(stand.transfers(&proxy.payer()).len(), 1);
    proxy.assert_verifies();
}

/// The same when the proxy does not run, and when the budget was given back before.
#[test]
fn what_was_given_back_and_is_taken_counts_again() {
    let Some(stand) = Stand::own() else { return };
    let mut proxy = setup(&stand).start();
    let transfer = kept(&stand, &proxy, KEEPER);
    proxy.stop();
    release(&proxy.setup);
    assert_eq!(spent(&proxy.setup), "0.00 USD");
    let transaction = stand.take(&transfer);
    stand.mine(5);
    let found = reconciled(&proxy.setup, "recounted");
    assert_eq!(found["transaction"], transaction);
    let row = only(&proxy.setup);
    assert_eq!(row["state"], "settled");
    assert_eq!(row["confirmed"], true);
    assert_eq!(
        row["flags"],
        json!(["taken_unclaimed", "taken_after_release"])
    );
    assert_eq!(spent(&proxy.setup), "0.01 USD");
    verify(&proxy.setup);
}

/// As `unproven: release` does when the time is over, long before it is.
fn release(setup: &Setup) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let ledger = ledger::open(&setup.state()).unwrap();
        let (payment, event) = ledger.open().await.unwrap().remove(0);
        let event = SpendEvent {
            state: State::Released,
            charged: None,
            reason: Some("expired_unproven".into()),
            ..event
        };
        let release = Entry::Release {
            id: event.id,
            because: Because::Expired { now: payment.until },
        };
        let post = Post {
            time: event.time,
            entries: vec![release],
            event: Some(event),
        };
        ledger.post(post).await.unwrap();
        assert_eq!(ledger.payments(Filter::default()).await.unwrap().len(), 1);
    });
}

/// What a node says instead of the truth.
type Lie = fn(&Value, Value) -> Value;

/// A node between us and the chain, whose answers go through `lie`.
fn between(stand: &Stand, lie: Lie) -> Merchant {
    let port = stand.node().rsplit(':').next().unwrap().parse().unwrap();
    Merchant::start(move |seen, out| {
        let question: Value = serde_json::from_slice(&seen.body.start).unwrap();
        let answer = request(port, "POST", "/", &question)?.json();
        let text = lie(&question, answer).to_string();
        write!(
            out,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        )?;
        Ok(After::Close)
    })
}

fn is(question: &Value, method: &str) -> bool {
    question["method"] == method
}

fn says(result: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "result": result })
}

/// Lies about a payment that was taken, told after its end: the name, the lie, a word of the answer.
const LIES: &[(&str, Lie, &str)] = &[
    (
        "another chain",
        |q, a| {
            if is(q, "eth_chainId") {
                says(json!("0x1"))
            } else {
                a
            }
        },
        "is a node of eip155:1, but was named for eip155:84532",
    ),
    (
        "never used",
        |q, a| {
            if is(q, "eth_call") {
                says(json!(format!("0x{:064}", 0)))
            } else {
                a
            }
        },
        "both used and unused",
    ),
    (
        "used, and in no log or transaction",
        |q, a| match q["method"].as_str() {
            Some("eth_getLogs") => says(json!([])),
            Some("eth_getTransactionReceipt") => says(Value::Null),
            _ => a,
        },
        "in no log",
    ),
    (
        "a log of no transaction",
        |q, a| {
            if is(q, "eth_getTransactionReceipt") {
                says(Value::Null)
            } else {
                a
            }
        },
        "in no transaction",
    ),
    (
        "a failed transaction",
        |q, mut a| {
            if is(q, "eth_getTransactionReceipt") {
                a["result"]["status"] = json!("0x0");
            }
            a
        },
        "in no transaction",
    ),
    (
        "another block",
        |q, mut a| {
            if is(q, "eth_getBlockByNumber") {
                a["result"]["number"] = json!("0x1");
            }
            a
        },
        "another block than was asked for",
    ),
    (
        "not a truth value",
        |q, a| {
            if is(q, "eth_call") {
                says(json!("0x02"))
            } else {
                a
            }
        },
        "cannot be read",
    ),
    (
        "no contract",
        |q, a| {
            if is(q, "eth_call") {
                says(json!("0x"))
            } else {
                a
            }
        },
        "cannot be read",
    ),
    (
        "another question",
        |_, mut a| {
            a["id"] = json!(2);
            a
        },
        "cannot be read",
    ),
    ("no answer", |_, _| json!({}), "cannot be read"),
    (
        "an error",
        |_, _| json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": -32000, "message": "sesame" } }),
        "refuses eth_chainId with error -32000",
    ),
    (
        "endless",
        |_, _| says(json!("0".repeat(5 << 20))),
        "longer than",
    ),
];

#[test]
fn a_node_that_lies_moves_nothing() {
    let Some(stand) = Stand::own() else { return };
    let mut proxy = setup(&stand).start();
    let transfer = kept(&stand, &proxy, KEEPER);
    proxy.stop();
    stand.take(&transfer);
    stand.jump(600);
    until("our own clock", LONG, || {
        (crate::support::unix_now() > transfer.valid_before).then_some(())
    });
    let mut setup = std::mem::replace(&mut proxy.setup, Setup::new());
    let before = only(&setup);
    let secret = "http://user:open-sesame@127.0.0.1:1/key-in-path?key=in-query";
    for url in [secret, "http://127.0.0.1:1/"] {
        setup.config["rpc"]["eip155:84532"] = json!(url);
        setup.write();
        let (found, code, said) = reconcile(&setup);
        assert_eq!(code, Some(1), "a dead node is a failure");
        assert_eq!(found[0]["outcome"], "unanswered", "{found:?}");
        let all = format!("{found:?}{said}");
        assert!(all.contains("127.0.0.1:1"), "{all}");
        assert!(!all.contains("sesame") && !all.contains("key"), "{all}");
        assert_eq!(only(&setup), before);
    }
    for (name, lie, word) in LIES {
        let node = between(&stand, *lie);
        setup.config["rpc"]["eip155:84532"] = json!(format!("http://{}", node.plain));
        setup.write();
        let (found, code, _) = reconcile(&setup);
        assert_eq!(code, Some(1), "{name}");
        assert_eq!(found[0]["outcome"], "unanswered", "{name}: {found:?}");
        let detail = found[0]["detail"].as_str().unwrap();
        assert!(detail.contains(word), "{name}: {detail}");
        assert!(!detail.contains("sesame"), "{name}: {detail}");
        assert_eq!(only(&setup), before, "{name}");
    }
    assert_eq!(spent(&setup), "0.01 USD");
    verify(&setup);
    // It does not count less when it moved otherwise, and a node that is honest confirms it.
    let node = between(&stand, |q, mut a| {
        if is(q, "eth_getTransactionReceipt") {
            a["result"]["logs"][1]["data"] = json!(format!("0x{:064x}", 9999));
        }
        a
    });
    setup.config["rpc"]["eip155:84532"] = json!(format!("http://{}", node.plain));
    setup.write();
    reconciled(&setup, "taken_otherwise");
    let row = only(&setup);
    assert_eq!(row["flags"], json!(["taken_otherwise"]));
    assert_eq!(
        (&row["state"], &row["confirmed"]),
        (&json!("settled"), &json!(false))
    );
    assert_eq!(spent(&setup), "0.01 USD");
    verify(&setup);
}
