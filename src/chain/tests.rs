//! What is made of a node that helps little: transactions that a merchant only named, and rows of few blocks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::fake::{BASE, Chain, Fake, TAKEN, about, chains, endless, refuses, says};
use super::*;

/// When payments are made here, and when the chains began.
const NOW: u64 = 1_800_000_000;
const START: u64 = NOW - 100_000_000;

const WHOLE: Keeper = Keeper::Permit2(Charge::Whole);

/// The transaction that a merchant named.
const NAMED: &str = "0xbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn chain(about: Authorization, millis: u64, row: u64, age: u64) -> Chain {
    let mut chain = Chain {
        start: START,
        millis,
        newest: 0,
        row,
        about,
        taken: None,
    };
    chain.newest = chain.at(NOW + age);
    chain
}

async fn look(node: &Fake, about: &Authorization) -> Result<Sight, ChainError> {
    let view = node.chains(BASE).view(BASE).await.unwrap().unwrap();
    view.look(about).await
}

/// Answers about a transaction from which nothing can be learnt.
fn useless() -> Vec<(&'static str, Value)> {
    let other =
        json!({ "transactionHash": TAKEN, "status": "0x1", "blockNumber": "0x1", "logs": [] });
    vec![
        ("none", says(Value::Null)),
        ("refused", refuses(-32602)),
        (
            "no status",
            says(json!({ "transactionHash": NAMED, "blockNumber": "0x1", "logs": [] })),
        ),
        ("another", says(other)),
        ("too long", endless()),
    ]
}

#[tokio::test]
async fn a_transaction_that_a_merchant_only_names_hides_no_payment() {
    for keeper in [Keeper::Token, WHOLE] {
        let mut about = about(keeper, NOW, 300);
        about.claimed = Some(NAMED.into());
        let mut chain = chain(about.clone(), 2000, 1000, 400);
        chain.taken = Some(chain.at(NOW + 7));
        for (name, useless) in useless() {
            let chain = chain.clone();
            let node = Fake::start(move |method, params| match params[0] == NAMED {
                true => useless.clone(),
                false => chain.answer(method, params),
            });
            let sight = look(&node, &about).await;
            let Ok(Sight::Taken(found)) = sight else {
                panic!("{keeper:?} {name}: {sight:?}");
            };
            assert_eq!((&*found.transaction, found.value), (TAKEN, 10_000));
        }
    }
}

#[tokio::test]
async fn a_transaction_that_is_too_long_to_read_has_spent_the_nonce_all_the_same() {
    for keeper in [Keeper::Token, WHOLE] {
        let about = about(keeper, NOW, 300);
        let mut chain = chain(about.clone(), 2000, 1000, 400);
        chain.taken = Some(chain.at(NOW + 7));
        let block = chain.newest - DEPTH;
        let node = Fake::start(move |method, params| match method {
            "eth_getTransactionReceipt" => endless(),
            _ => chain.answer(method, params),
        });
        let sight = look(&node, &about).await;
        assert_eq!(sight, Ok(Sight::Spent { block }), "{keeper:?}");
    }
}

/// Base with ten blocks at once, a chain of four blocks a second with a hundred, and with the longest rows an
/// hour; looked for at once, and years later.
#[tokio::test]
async fn short_rows_are_enough_for_what_chains_and_payments_are_like() {
    let year = 31_000_000;
    for (millis, row, validity, age) in [
        (2000, 10, 60, 200),
        (2000, 10, 300, 500),
        (2000, 10, 300, 3 * year),
        (2000, 10, 3600, 4000),
        (250, 100, 60, 200),
        (250, 100, 300, 500),
        (250, 100, 300, 3 * year),
        (250, 1000, 3600, 4000),
        (12_000, 1000, 3600, year),
    ] {
        let case = format!("{millis} ms, {row} blocks, {validity} s, after {age} s");
        let about = about(Keeper::Token, NOW, validity);
        let unused = chain(about.clone(), millis, row, age);
        let mut taken = unused.clone();
        // In the last second in which that is possible.
        let block = taken.at(NOW + validity) - 1;
        taken.taken = Some(block);
        let node = Fake::start(move |method, params| unused.answer(method, params));
        let sight = look(&node, &about).await;
        assert!(
            matches!(sight, Ok(Sight::Unused { .. })),
            "{case}: {sight:?}"
        );
        let (blocks, logs) = (
            node.asked("eth_getBlockByNumber"),
            node.asked("eth_getLogs"),
        );
        assert!(blocks <= 100 && logs <= 250, "{case}: {blocks} and {logs}");
        let node = Fake::start(move |method, params| taken.answer(method, params));
        let sight = look(&node, &about).await;
        let Ok(Sight::Taken(found)) = sight else {
            panic!("{case}: {sight:?}");
        };
        assert_eq!((found.block, &*found.transaction), (block, TAKEN), "{case}");
    }
}

#[tokio::test]
async fn a_search_that_would_take_too_long_says_so() {
    let about = about(Keeper::Token, NOW, 300);
    let chain = chain(about.clone(), 250, 10, 500);
    let node = Fake::start(move |method, params| chain.answer(method, params));
    let error = look(&node, &about).await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains("does not end within 250 questions"), "{said}");
    assert!(!error.is_silence());
    assert_eq!(node.asked("eth_getLogs"), 250);
}

#[tokio::test]
async fn nobody_there_is_silence_and_a_node_that_talks_is_not() {
    let node = Fake::start(|_, _| refuses(-32000));
    let refused = node.chains(BASE).view(BASE).await.err().unwrap();
    assert!(!refused.is_silence(), "{refused}");
    let node = Fake::start(|_, _| endless());
    let long = node.chains(BASE).view(BASE).await.err().unwrap();
    assert!(!long.is_silence(), "{long}");
    let nobody = chains(BASE, 1).view(BASE).await.err().unwrap();
    assert!(nobody.is_silence(), "{nobody}");
}

const GENESIS: &str = "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG";
const DEVNET: &str = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";

/// A cluster in which our transaction landed, behind one of a newer version that names the payer too. About
/// others it says this.
fn cluster(message: &'static [u8], others: Value) -> Fake {
    let ours = bs58::encode([7; 64]).into_string();
    let newer = bs58::encode([8; 64]).into_string();
    Fake::start(move |method, params| match method {
        "getGenesisHash" => says(json!(GENESIS)),
        "getSignaturesForAddress" => says(json!([
            { "signature": newer, "err": null, "blockTime": NOW + 6 },
            { "signature": ours, "err": null, "blockTime": NOW + 5 },
        ])),
        "getTransaction" if params[0] == *ours => {
            let bytes = [&[1][..], &[7; 64], message].concat();
            says(json!({
                "slot": 9, "meta": { "err": null }, "transaction": [STANDARD.encode(bytes), "base64"],
            }))
        }
        "getTransaction" if params[0] == *newer => refuses(-32015),
        _ => others.clone(),
    })
}

#[tokio::test]
async fn no_transaction_that_a_merchant_names_hides_one_on_solana() {
    let message = b"what was signed";
    let named = bs58::encode([9; 64]).into_string();
    let nowhere = [
        format!("0x{}", "0".repeat(64)),
        "z".repeat(88),
        "1".repeat(65),
    ];
    let empty = json!({ "slot": 1, "meta": { "err": null }, "transaction": ["", "base64"] });
    let mut cases: Vec<(String, Value)> = nowhere.map(|text| (text, refuses(-32602))).into();
    for said in [Value::Null, json!({ "slot": "one" }), empty] {
        cases.push((named.clone(), says(said)));
    }
    for said in [refuses(-32015), refuses(-32602), endless()] {
        cases.push((named.clone(), said));
    }
    for (claimed, said) in cases {
        let is_one = claimed == named;
        let shown = said.to_string().chars().take(80).collect::<String>();
        let node = cluster(message, said);
        let sent = Sent {
            owner: "payer".into(),
            id: Sha256::digest(message).into(),
            amount: 5,
            since: NOW,
            until: NOW + 60,
            claimed: Some(claimed.clone()),
        };
        let found = node.chains(DEVNET).find(DEVNET, &sent).await;
        let Ok(Some(Some(found))) = found else {
            panic!("{claimed} {shown}: {found:?}");
        };
        assert_eq!((found.block, found.value), (9, 5), "{claimed} {shown}");
        let asked = node.asked("getTransaction");
        assert_eq!(asked, 2 + usize::from(is_one), "{claimed} {shown}");
    }
}
